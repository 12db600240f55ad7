"""Tables as data, and their writers: Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.markdown import markdown_table
from jrt_lmeval.stats import Interval

PERCENT = 100.0
NOTES = {
    "*": "only part of the task's questions was asked (`--limit`, `--samples`)",
    "†": "interval by question, as lm_eval wrote it, since the answers were not logged: too narrow where questions "
    "share documents",
    "~": "no significant difference from the best at 5 %, Holm over the row or column (paired bootstrap by document)",
    "‡": "questions that the model did not read (`on_overflow=skip`) are left out",
    "§": "rows of the shipped sample, not of the benchmark",
}


@dataclass(frozen=True)
class Number:
    """A number in a table.

    Attributes:
        value: as measured; NaN for none.
        scale: factor with which it is shown, such as 100 for shares in per cent.
        digits: shown after the point.
        marks: keys of `NOTES`.
        best: whether none of those that it is compared with is better; of equal ones all are best.
    """

    value: float
    scale: float = 1.0
    digits: int = 1
    interval: Interval | None = None
    marks: str = ""
    best: bool = False

    def text(self, plus_minus: str = " ± ") -> str:
        """`39.7 ± 3.2`, or `0.0 [0.0, 26.5]` if the interval is not symmetric; a dash for no number."""
        if math.isnan(self.value):
            return "-"
        shown, found = self._shown(self.value), self.interval
        if 0 < abs(self.value * self.scale) < 0.5 * 10**-self.digits and self.digits > 2:
            return f"< {10**-self.digits:.{self.digits}f}"
        if found is None or math.isnan(found.low):
            return shown
        if found.exact:
            return f"{shown} [{self._shown(found.low)}, {self._shown(found.high)}]"
        return f"{shown}{plus_minus}{self._shown(found.half)}"

    @property
    def scaled(self) -> float:
        """The value as it is shown."""
        return self.value * self.scale

    @property
    def reach(self) -> tuple[float, float]:
        """How far the interval reaches below and above the shown value; 0 if there is none."""
        found = self.interval
        if found is None or math.isnan(found.low):
            return 0.0, 0.0
        return self.scale * (found.mean - found.low), self.scale * (found.high - found.mean)

    def _shown(self, value: float) -> str:
        return f"{value * self.scale:,.{self.digits}f}"


def spread(counts: Iterable[int]) -> str:
    """`12`, or `12 to 20` for different counts."""
    low, *_, high = sorted([*counts] * 2)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


TableEntry = str | Number | None


@dataclass(frozen=True)
class Table:
    """A table with everything that must be read with it.

    Attributes:
        name: short name for file formats, such as `recall`.
        title, header: with units.
        left: number of columns, from the first, that are words.
        notes: sentences below it.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[TableEntry, ...], ...]
    left: int = 1
    notes: tuple[str, ...] = ()

    @property
    def marks(self) -> str:
        """The keys of `NOTES` that some of its numbers have."""
        used = {mark for row in self.rows for entry in row if isinstance(entry, Number) for mark in entry.marks}
        return "".join(mark for mark in NOTES if mark in used)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Its notes and the meaning of its marks."""
        return (*self.notes, *(f"{mark}: {NOTES[mark]}." for mark in self.marks))


@dataclass(frozen=True)
class Report:
    """Everything that is written.

    Attributes:
        about: sentences on what was read and what holds for all tables.
        problems: a sentence for each file that was skipped.
        arguments: what `--check` needs to make the report again: paths, metric, axes.
    """

    tables: tuple[Table, ...]
    about: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)


def markdown(report: Report) -> str:
    """All tables as Markdown, the best numbers bold."""
    parts = ["# Report\n", *(f"{line}\n" for line in report.about)]
    if report.problems:
        parts.append("Skipped:\n\n" + "".join(f"- {problem}\n" for problem in report.problems))
    for table in report.tables:
        parts.append(f"## {table.title}\n")
        rows = [[_markdown_entry(entry) for entry in row] for row in table.rows]
        parts.append(markdown_table(table.header, rows, table.left))
        parts += [f"{_star(note)}\n" for note in table.all_notes]
    return "\n".join(parts)


def _star(note: str) -> str:
    return "\\" + note if note.startswith("*") else note


def _markdown_entry(entry: TableEntry) -> str:
    if not isinstance(entry, Number):
        return entry if entry else "-"
    text = f"**{entry.text()}**" if entry.best and not math.isnan(entry.value) else entry.text()
    return text + "".join("\\*" if mark == "*" else mark for mark in entry.marks)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "≥": r"$\geq$", "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$", "§": r"\S{}", "→": r"$\rightarrow$", "<": r"$<$", ">": r"$>$", "≤": r"$\leq$", "–": "--",
}  # fmt: skip


def latex_text(text: str) -> str:
    """A text with everything escaped that LaTeX would interpret; Markdown's back-quotes are left out."""
    return "".join(_LATEX.get(character, character) for character in text.replace("`", ""))


def latex(report: Report) -> str:
    """All tables for `\\input`, with booktabs, the best numbers bold."""
    return "% needs \\usepackage{booktabs}\n" + "\n".join(_latex_table(table) for table in report.tables)


def _latex_table(table: Table) -> str:
    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    lines = [[latex_text(name) for name in table.header]]
    lines += [[_latex_entry(entry) for entry in row] for row in table.rows]
    head, *body = (" & ".join(line) + r" \\" for line in lines)
    notes = " ".join(latex_text(note) for note in table.all_notes)
    caption = f"{latex_text(table.title)}." + (f" {notes}" if notes else "")
    rows = "\n".join(f"  {line}" for line in body)
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{tab:{table.name}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n  \\toprule\n  {head}\n  \\midrule\n{rows}\n  \\bottomrule\n"
        "\\end{tabular}\n\\end{table}\n"
    )


def _latex_entry(entry: TableEntry) -> str:
    if not isinstance(entry, Number):
        return latex_text(entry) if entry else "--"
    text = entry.text(" $\\pm$ ").replace("%", r"\%")
    text = f"\\textbf{{{text}}}" if entry.best and not math.isnan(entry.value) else text
    return text + "".join(r"$^{\sim}$" if mark == "~" else latex_text(mark) for mark in entry.marks)


def csv_text(report: Report) -> str:
    """All tables in one file, a line for each number: table, row, column, value, interval, n, documents, marks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "row", "column", "value", "low", "high", "questions", "documents", "best", "marks"])
    for table, row, column, number in _numbers(report):
        found = number.interval
        ends = ["", "", "", ""]
        if found is not None:
            ends = [_plain(found.low), _plain(found.high), str(found.n), str(found.clusters or "")]
        words = map(_neutral, (table, row, column))
        writer.writerow([*words, _plain(number.value), *ends, int(number.best), _neutral(number.marks)])
    return out.getvalue()


_FORMULA = re.compile(r"[=+\-@\t\r]")


def _neutral(text: str) -> str:
    """A text with an apostrophe before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) and not re.fullmatch(r"[+-][\d.,]+%?", text) else text


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.10g}"


def _numbers(report: Report) -> list[tuple[str, str, str, Number]]:
    return [
        (table.name, " | ".join(str(word or "-") for word in row[: table.left]), column, entry)
        for table in report.tables
        for row in table.rows
        for column, entry in zip(table.header, row, strict=True)
        if isinstance(entry, Number)
    ]


def json_text(report: Report) -> str:
    """All tables as JSON with unrounded numbers; NaN is null."""
    content = {
        "about": report.about,
        "problems": report.problems,
        "arguments": report.arguments,
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "header": table.header,
                "rows": [[_json_entry(entry) for entry in row] for row in table.rows],
                "notes": table.all_notes,
            }
            for table in report.tables
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _json_entry(entry: TableEntry) -> Any:
    if not isinstance(entry, Number):
        return entry
    found, content = entry.interval, {"value": _or_null(entry.value), "marks": entry.marks, "best": entry.best}
    if found is not None:
        content |= {"low": _or_null(found.low), "high": _or_null(found.high), "stderr": _or_null(found.stderr)}
        content |= {"questions": found.n, "documents": found.clusters or None, "exact": found.exact}
    return content


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def save(file: Path, content: bytes) -> None:
    """Write a file, and make the folders above it.

    Raises:
        JRTError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise JRTError(f"{file}: cannot be written ({error.strerror}).") from None


WRITERS: dict[str, tuple[str, Callable[[Report], str]]] = {
    "md": ("report.md", markdown),
    "tex": ("report.tex", latex),
    "csv": ("report.csv", csv_text),
    "json": ("report.json", json_text),
}
"""Format -> the file's name in the report's folder, and what writes it."""
