"""What is wrong with a user's task files: lm_eval 0.4.13 leaves out a file that it cannot read without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

OUR_KEYS = ("jrt", "jrt_common")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def faults(folder: Path) -> Iterator[str]:
    """One sentence for each YAML file below a folder that lm_eval cannot read or whose `include:` leads nowhere.

    Only the form is looked at: no tag such as `!function` is run.
    """
    for file in sorted(folder.rglob("*.yaml")):
        try:
            root = yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{file}, line {mark.line + 1}" if mark else str(file)
            yield f"{where}: not readable as YAML ({error.problem or error.context})"
            continue
        except (UnicodeDecodeError, yaml.YAMLError, OSError) as error:
            yield f"{file}: not readable as YAML ({error})"
            continue
        yield from _missing_includes(file, root)


def without_class(config: Mapping[str, Any]) -> str | None:
    """What is wrong with a task that has a block of ours and does not say that it is ours; None if nothing is."""
    key = next((key for key in OUR_KEYS if key in config), None)
    if key is None or "class" in config:
        return None
    return (
        f"task {config.get('task')!r} has a {key!r} block and no class, so that lm_eval would take it for a task of "
        "its own. Add the line 'class: !function jrt_lmeval.task.RecallTask'."
    )


def _missing_includes(file: Path, root: yaml.Node | None) -> Iterator[str]:
    if not isinstance(root, yaml.MappingNode):
        return
    for key, value in root.value:
        if key.value != "include":
            continue
        for node in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not (file.parent / str(node.value)).is_file():
                yield f"{file}, line {node.start_mark.line + 1}: include: {node.value} is no file beside it"
