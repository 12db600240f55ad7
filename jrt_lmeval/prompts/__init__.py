"""Text in, text out: how a row of data becomes a prompt. Needs neither torch nor lm_eval."""

from __future__ import annotations

from jrt_lmeval.prompts.benchmarks import prompt_for, render
from jrt_lmeval.prompts.layouts import LAYOUTS, build, layout_spec
from jrt_lmeval.prompts.prompt import LayoutSpec, Parts, Prompt
from jrt_lmeval.prompts.window import Window, cut, window_spec

__all__ = [
    "LAYOUTS",
    "LayoutSpec",
    "Parts",
    "Prompt",
    "Window",
    "build",
    "cut",
    "layout_spec",
    "prompt_for",
    "render",
    "window_spec",
]
