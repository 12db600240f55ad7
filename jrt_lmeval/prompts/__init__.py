"""Text in, text out: how a row of data becomes a prompt. Needs neither torch nor lm_eval."""

from __future__ import annotations

from jrt_lmeval.prompts.layouts import (
    LAYOUT_KEYS,
    LAYOUTS,
    Layout,
    LayoutSpec,
    Level,
    Parts,
    Prompt,
    build,
    layout_spec,
)
from jrt_lmeval.prompts.render import parts_for, prompt_for, render
from jrt_lmeval.prompts.window import WINDOW_KEYS, Cut, Window, cut, window_spec

__all__ = [
    "LAYOUTS",
    "LAYOUT_KEYS",
    "WINDOW_KEYS",
    "Cut",
    "Layout",
    "LayoutSpec",
    "Level",
    "Parts",
    "Prompt",
    "Window",
    "build",
    "cut",
    "layout_spec",
    "parts_for",
    "prompt_for",
    "render",
    "window_spec",
]
