"""Start-up hook: tells lm_eval about jrt_lmeval at the moment lm_eval is imported, and not before.

`jrt_lmeval_start.pth` calls `install` whenever this Python starts, so this file must cost next to nothing: it imports
only modules that every interpreter has already loaded, and it does not import `jrt_lmeval` until lm_eval asks for its
models or tasks. `JRT_LMEVAL_DISABLE=1` turns it off. docs/how-it-plugs-in.md tells the whole story.
"""

import os
import sys

# Registering before lm_eval has filled its own registry would hide every built-in model, hence *after* these imports.
_WAITING = {
    "lm_eval.models": "models_ready",
    "lm_eval.tasks": "tasks_ready",
    "lm_eval.api.model": "caches_ready",
    "lm_eval.models.huggingface": "huggingface_ready",
    "lm_eval.loggers.evaluation_tracker": "tracker_ready",
}
_finding = set()


class _PostImport:
    """A meta path finder that finds nothing itself: it lets the others find, and runs us after the module ran."""

    def find_spec(self, name, path=None, target=None):
        if name not in _WAITING or name in _finding:
            return None
        _finding.add(name)
        try:
            spec = _ask_the_others(name, path, target)
        finally:
            _finding.discard(name)
        loader = getattr(spec, "loader", None)
        run = getattr(loader, "exec_module", None)
        if run is None:
            return spec

        def exec_module(module):
            run(module)
            if module.__name__ == name:  # one zipimporter serves many modules
                _ready(name, module)

        try:
            loader.exec_module = exec_module  # the loader stays the object it was: inspect and resources still work
        except AttributeError:
            _warn(f"the loader of {name} cannot be hooked; call jrt_lmeval.register()")
        return spec


def _ask_the_others(name, path, target):
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path, target) if find and finder is not _finder else None
        if spec is not None:
            return spec
    return None


def _ready(name, module):
    todo = _WAITING.pop(name, None)
    if not _WAITING and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    if todo is None:
        return
    try:
        from jrt_lmeval import plugin

        getattr(plugin, todo)(module)
    except Exception as error:  # a broken plugin must not break lm_eval
        _warn(f"jrt_lmeval is installed but could not be registered ({type(error).__name__}: {error})")


def _warn(message):
    import logging

    logging.getLogger("lm_eval.jrt").warning(message)


_finder = _PostImport()


def install():
    """Wait for lm_eval, or register at once where it is already imported. Calling it twice does no harm."""
    if os.environ.get("JRT_LMEVAL_DISABLE", "0") not in ("", "0"):
        return
    for name in list(_WAITING):
        if name in sys.modules:
            _ready(name, sys.modules[name])
    if _WAITING and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
