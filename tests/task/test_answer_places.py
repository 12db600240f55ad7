"""Where an accepted answer stands in a text, letter case and blank answers aside."""

from __future__ import annotations

import re
from pathlib import Path

from jrt_lmeval import answers

ROOT = Path(answers.__file__).parent


def test_places_are_found_in_order_and_blank_answers_nowhere() -> None:
    assert answers.spans(["b", "", " ", "Ab"], "xaB b") == [(1, 3), (2, 3), (4, 5)]
    assert answers.find("B", "abb") == (1, 2) and answers.find("", "a") == (0, 0) and answers.find("c", "ab") is None
    assert answers.stands(["", "C"], "abc") and not answers.stands(["", " "], "a b")
    assert answers.readable(["", "a ", "\n"]) == ["a "]


def test_the_longest_answer_is_replaced_and_nothing_is_a_pattern() -> None:
    assert answers.replaced(["Moe", "Ilse Moe", ""], "ilse MOE, Moe.", new=r"\1(x)") == r"\1(x), \1(x)."
    assert answers.replaced(["", " "], "a b", new="x") == "a b"


def test_words_are_whole() -> None:
    assert answers.stands_as_words(" 5 ", "it is 5.") and not answers.stands_as_words("5", "5.2, 1,500 and 2015")
    assert not answers.stands_as_words(" ", "a b")


def test_no_other_module_looks_for_answers_by_itself() -> None:
    sources = [
        *(ROOT / "task").glob("*.py"), *(ROOT / "prompts").glob("*.py"), *(ROOT / "data").glob("*.py"),
        ROOT / "scoring.py",
    ]  # fmt: skip
    assert len(sources) > 15
    assert [path.name for path in sources if re.search(r"re\.escape", path.read_text(encoding="utf-8"))] == []
