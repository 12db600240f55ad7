"""Text in, text out: how a row of data becomes a prompt. Needs neither torch nor lm_eval."""

from __future__ import annotations

from jrt_lmeval.prompts.layouts import LayoutSpec, Level, Parts, Prompt, build, layout_spec

__all__ = ["LayoutSpec", "Level", "Parts", "Prompt", "build", "layout_spec"]
