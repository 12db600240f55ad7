"""Finds mistakes in a user's task files, because lm_eval 0.4.13 silently skips a file that it cannot read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from jrt_lmeval.errors import JRTError

OUR_KEYS = ("jrt", "jrt_common")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def faults(folder: Path) -> Iterator[str]:
    """One sentence for each YAML file in a folder that lm_eval cannot read or that includes a missing file."""
    for file in sorted(folder.rglob("*.yaml")):
        yield from faults_of(file)


def faults_of(file: Path) -> Iterator[str]:
    """The mistakes in one file. Only its form is checked: no tag such as `!function` is executed."""
    try:
        root = yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}, line {mark.line + 1}" if mark else str(file)
        yield f"{where}: not readable as YAML ({error.problem or error.context})"
    except (UnicodeDecodeError, yaml.YAMLError, OSError) as error:
        yield f"{file}: not readable as YAML ({error})"
    else:
        yield from _missing_includes(file, root)


def check(file: Path, config: Mapping[str, Any], whole: bool) -> None:
    """Raise an error for mistakes in a task file of ours that lm_eval would ignore.

    Args:
        file: the file.
        config: its content, merged with that of the files it includes.
        whole: whether it is the file of a task rather than a file that another one includes.

    Raises:
        JRTError: the file has a block of ours and no class, or a key twice. The message names the file and the line.
    """
    if whole and "task" in config and (fault := without_class(config)):
        raise JRTError(f"{file}: {fault}")
    if "class" in config or any(key in config for key in OUR_KEYS):
        for node in _twice(yaml.compose(file.read_text(encoding="utf-8"), Loader=_LOADER)):
            raise JRTError(
                f"{file}, line {node.start_mark.line + 1}: the key {node.value!r} stands twice; leave out one of them."
            )


def _twice(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """The keys that occur a second time in the same mapping, at any depth."""
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _twice(value)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key
                seen.add(key.value)
            yield from _twice(value)


def without_class(config: Mapping[str, Any]) -> str | None:
    """The mistake in a task that has a block of ours but no class; None if there is no such mistake."""
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
