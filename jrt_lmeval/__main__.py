"""`python -m jrt_lmeval`: the `jrt-eval` command where its script is not on PATH."""

from __future__ import annotations

from jrt_lmeval.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
