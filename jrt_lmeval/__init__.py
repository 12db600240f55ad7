"""Recall evaluation of recurrent language models: a plugin for lm-evaluation-harness.

Importing this package imports neither torch nor lm_eval; the heavy parts load when they are used.
"""

from __future__ import annotations

__version__ = "0.1.0"


def register() -> None:
    """Tell an imported (or importable) lm_eval about our models and tasks.

    The ordinary way is the start-up hook installed with the package; this is the explicit one, for `python -S`,
    zipapps and `pip install --target`. Calling it twice does no harm.
    """
    from jrt_lmeval.plugin import register as _register

    _register()
