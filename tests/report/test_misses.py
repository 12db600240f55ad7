"""Why an answer was missed: each kind, and agreement with misses that were read and labelled by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reportlogs import sample, write_run

from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.misses import KINDS, Miss, explain, miss_table
from jrt_lmeval.report.samples import Sample, lines, read_samples
from jrt_lmeval.report.tables import Number

LABELLED = Path(__file__).parents[1] / "fixtures" / "misses.jsonl.gz"
"""30 misses of the shipped model on factbook (once, twice, hierarchical), drawn at random and labelled by reading them
before the rules were run on them."""

DOCUMENT = "Capital: name: Vaduz\nPopulation: total: 40,197\nArea: land: 160 sq km\nRuler: Prince HANS-ADAM II\n"


def made(answer: str, gold: str, question: str = "Coastline", document: str = DOCUMENT, **figures: float) -> Sample:
    prompt = f"{document}{question}:"
    doc = {"question": question, "jrt": figures}
    arguments = {"gen_args_0": {"arg_0": prompt}}
    return Sample({"doc": doc, "target": [gold], "filtered_resps": [answer], "arguments": arguments, "contains": 0.0})


@pytest.mark.parametrize(
    "answer, gold, kind",
    [
        ("", "Vaduz", "nothing"),
        (" \n ...", "Vaduz", "nothing"),
        (" 40197", "40,197", "format"),
        (" VADUZ.", "vaduz", "format"),
        (" Prince Hans Adam II", "Prince HANS-ADAM II", "format"),
        (" 40,197\nmore", "Vaduz", "other key"),
        (" 160 sq miles", "Vaduz", "other key"),
        (" 40,187", "160 sq km", "other key"),
        (" Prince HANS-ADAM of old", "Vaduz", "other key"),
        (" Duke ADAM II", "Prince HANS-ADAM II", "partly"),
        (" 160 hectares", "160 sq km", "partly"),
        (" 12,345", "Vaduz", "invented"),
    ],
)
def test_each_kind(answer: str, gold: str, kind: str) -> None:
    assert explain(made(answer, gold)).kind == kind


def test_what_was_copied_and_from_where() -> None:
    assert explain(made(" 160 sq km", "Vaduz")) == Miss("other key", "Area: land", pytest.approx(0.62, abs=0.02))
    assert explain(made(" 160 acres", "Vaduz")) == Miss("other key", "Area: land", pytest.approx(0.62, abs=0.02))


def test_the_value_of_the_key_that_was_asked_for_is_no_other_key() -> None:
    assert explain(made(" 160 sq km", "161 sq km", question="Area: land", answer_outside=0.0)).kind == "partly"


def test_what_was_not_in_the_prompt_is_outside() -> None:
    assert explain(made(" 40,197", "Schaan")).kind == "outside"
    assert explain(made(" 40,197", "Vaduz", answer_outside=1.0)).kind == "outside"


def test_without_answers_or_document_nothing_is_guessed() -> None:
    bare = Sample({"doc": {"question": "q"}, "target": "Vaduz"})
    assert explain(bare).kind == "unknown"
    no_document = Sample({**bare.line, "filtered_resps": [" 40,197"]})
    assert explain(no_document).kind == "unknown"
    assert explain(Sample({**bare.line, "filtered_resps": [""]})).kind == "nothing"


def test_thirty_misses_labelled_by_hand() -> None:
    labels = [line["label"] for line in lines(LABELLED)]
    found = [explain(one).kind for one in read_samples(LABELLED)]
    assert len(labels) == 30 and set(labels) <= set(KINDS)
    assert sum(a == b for a, b in zip(labels, found, strict=True)) >= 26
    assert max(labels.count(kind) for kind in set(labels)) <= 14  # always saying the same would not do


def test_the_table_counts_every_miss(tmp_path: Path) -> None:
    made_lines = [sample(i, float(i == 0)) for i in range(8)]
    for line in made_lines:
        line["arguments"] = {
            "gen_args_0": {"arg_0": f"Other: nothing\nThis: {json.loads(json.dumps(line['target']))}\n"}
        }
    write_run(tmp_path, lines=made_lines)
    (table,) = miss_table(collect([tmp_path]).cells)
    row = dict(zip(table.header, table.rows[0], strict=True))
    counted, share = row["misses"], row["other key, %"]
    assert isinstance(counted, Number) and counted.value == 7
    assert isinstance(share, Number) and share.value == 1.0 and row["most copied keys"] == "Other (7)"


def test_many_answers_are_left_for_a_flag(tmp_path: Path) -> None:
    write_run(tmp_path, [0.0] * 10)
    (table,) = miss_table(collect([tmp_path]).cells, most=5)
    assert not table.rows and "10 answers were not read" in table.notes[0] and "--misses" in table.notes[0]
