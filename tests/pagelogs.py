"""Logs with prompts, answers and prefixes for the tests of the report's page, made by hand, as many as asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reportlogs import digest, write_run

HOSTILE = "</script><img src=x onerror=\"document.title='broken in'\"><!--"
LAYOUTS = {"once": "swde_once", "flat": "swde_jrt"}


def document(number: int) -> str:
    """Four statements; the second holds what the question asks for."""
    return (
        f"Page {number}. Name: Ashgrove {number}. Founded: {1800 + number}. Motto: Per aspera, naïve café 😀. "
        f"Students: {3000 + 7 * number}. It lies where the river bends, {number} miles from the sea."
    )


def question(number: int, hostile: str = "") -> dict[str, Any]:
    """Document, stem and answer of a question; two questions on each document."""
    page = number // 2
    key, gold = (("Founded", str(1800 + page)), ("Students", str(3000 + 7 * page)))[number % 2]
    return {"document": f"{hostile}{document(page)}", "key": f"{key}:", "gold": gold, "page": page}


def line(number: int, right: bool, layout: str, prefix: float | None, hostile: str = "") -> dict[str, Any]:
    """A line of a samples log; `prefix` is the share of the prompt's characters that lie in the prefix."""
    asked = question(number, hostile)
    shown = [asked["document"]] * (2 if layout == "flat" else 1)
    prompt = "\n".join([*shown, asked["key"]])
    other = str(3000 + 7 * asked["page"]) if number % 2 == 0 else str(1800 + asked["page"])
    facts = {"doc_id": f"page {asked['page']}", "prompt_tokens": len(prompt) // 4, "jrt_seconds": 0.01}
    if prefix is not None:
        end = round(prefix * len(prompt))
        facts |= {"jrt_prefix_characters": end, "jrt_prefix_tokens": end // 4, "jrt_prompt_tokens": len(prompt) // 4}
    answer = f" {asked['gold'] if right else (hostile or other)}"
    return {
        "doc_id": number,
        "doc": {"doc_id": f"page {asked['page']}", "key": asked["key"], "jrt": facts},
        "target": str([asked["gold"]]),
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {}}},
        "filtered_resps": [answer],
        "filter": "none",
        "metrics": ["contains", "f1"],
        "doc_hash": digest(f"row {number}"),
        "prompt_hash": digest(prompt),
        "target_hash": digest(asked["gold"]),
        "contains": float(right),
        "f1": float(right),
    }


def write_pair(
    folder: Path, count: int = 40, layouts: Sequence[str] = ("once", "flat"), hostile: str = "", logged: bool = True
) -> Path:
    """Runs of two models, which differ on every third question; `logged`: whether the log says where prefixes end."""
    for name, prefix, rule in (("full", 1.0, 2), ("dynamic", 0.7, 3)):
        for layout in layouts:
            lines = [
                line(number, number % rule == 0, layout, prefix if logged else None, hostile) for number in range(count)
            ]
            block = {
                "layout": layout,
                "source": "local",
                "control": "none",
                "rows": {"read": count + 1, "dropped": 1, "asked": count, "document_cut": 2, "answer_outside": 0},
            }
            write_run(
                folder / name / layout,
                task=LAYOUTS[layout],
                arguments={"pretrained": "weights" + hostile.replace("/", ""), "prefix": name},
                block=block,
                lines=lines,
            )
    return folder
