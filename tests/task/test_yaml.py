"""The YAML files: ours, and a third party's benchmark made of YAML and rows alone."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.dummy import DummyLM
from lm_eval.tasks import TaskManager

from jrt_lmeval import paths
from jrt_lmeval.data import sources
from jrt_lmeval.prompts import LAYOUTS, Prompt, layout_spec, prompt_for, render, window_spec
from jrt_lmeval.prompts.benchmarks import benchmark_of
from jrt_lmeval.task.recall import RecallTask
from model_adapters.models import JRTRNN

THIRD_PARTY = Path(__file__).parents[1] / "third_party"
DOCUMENT = Path(__file__).parents[2] / "docs" / "add-a-task.md"
GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden_prompts"
OURS = sorted(path for path in paths.tasks_dir().glob("**/*.yaml"))
WINDOWS = {
    "swde": 1000, "fda": 1000, "squadv2": 1000, "nq_512": 2000, "nq_1024": 1000, "nq_2048": 2000, "triviaqa": 1000,
    "drop": 1000, "factbook": 600, "factbook_large": 600, "factbook_paraphrased": 600,
}  # fmt: skip
ENDINGS = {layout.ending: name for name, layout in LAYOUTS.items() if layout.ending}
ALWAYS_HERE = [name + ending for name in WINDOWS for ending in ENDINGS]


@pytest.fixture(autouse=True)
def no_local_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JRT_LMEVAL_DATA", raising=False)
    sources._hub_answers.cache_clear()


def manager(*folders: Path, **arguments: Any) -> TaskManager:
    return TaskManager(include_defaults=False, include_path=[str(folder) for folder in folders], **arguments)


def load(name: str, **arguments: Any) -> RecallTask:
    return manager(paths.tasks_dir(), **arguments).load([name])["tasks"][name]


def evaluate(tasks: list[str], *folders: Path, **arguments: Any) -> dict[str, Any]:
    random.seed(0)
    return simple_evaluate(
        model=DummyLM(), tasks=tasks, task_manager=manager(*folders), bootstrap_iters=100, limit=2, **arguments
    )


def _rendered(recipe: str, layout: str, row: dict[str, Any], length: int) -> str | None:
    """The published prompt; of our own benchmark the one whose window does not follow the answer."""
    if recipe.startswith("factbook"):
        window = window_spec({"answer_at": "random", "context_length": length})
        return prompt_for(recipe, layout_spec({"layout": layout}), row, window)
    return render(recipe, layout, row, length)


@pytest.mark.parametrize("name", ALWAYS_HERE)
def test_every_task_makes_the_published_prompts(name: str) -> None:
    task = load(name)
    recipe, ending = re.fullmatch(f"(\\w+?)({'|'.join(ENDINGS)})", name).groups()  # type: ignore[union-attr]
    layout = ENDINGS[ending]
    length = WINDOWS[recipe]
    for doc in (task.eval_docs[0], task.eval_docs[-1]):
        prompt = task.doc_to_text(doc)
        assert isinstance(prompt, Prompt) and prompt == _rendered(recipe, layout, doc, length)
        assert prompt.counters["answer_outside"] == 0
        assert not prompt.counters.get("levels_missing")
    source = "packaged" if recipe.startswith("factbook") else "sample"
    assert task.config.metadata["jrt"]["source"] == source
    assert task.config.task_alias == (f"{name} [sample]" if source == "sample" else None)
    version = 1.0 if recipe.startswith("factbook_") else 1.0 + (layout == "hier") + (recipe == "factbook")
    assert version == task.VERSION and task.config.num_fewshot == 0


@pytest.mark.parametrize("ending", ["once", "jrt"])
def test_the_six_at_2048_tokens_are_the_published_prompts_in_a_wider_window(ending: str) -> None:
    for recipe in ("swde", "fda", "squadv2", "nq_2048", "triviaqa", "drop"):
        task = load(f"{recipe.removesuffix('_2048')}_2k_{ending}")
        doc, window = task.eval_docs[0], window_spec({"context_length": 2048, "answer_length": 48})
        layout = layout_spec({"layout": ENDINGS[f"_{ending}"]})
        assert task.doc_to_text(doc) == prompt_for(recipe, layout, doc, window)


def test_the_groups_run_and_name_the_sample() -> None:
    results = evaluate(["recall"], paths.tasks_dir())
    assert {name for name, score in results["results"].items() if "contains,none" in score} == {
        name for name in (*ALWAYS_HERE, *(f"recall{ending}" for ending in ENDINGS)) if "factbook_" not in name
        or name.removeprefix("factbook") in ENDINGS
    }  # fmt: skip
    assert set(results["groups"]) == {f"recall{ending}" for ending in ENDINGS}
    assert results["results"]["swde_jrt"]["alias"] == "swde_jrt [sample]"
    # Two rows, on one document.
    assert results["results"]["factbook_jrt"]["contains_stderr,none"] == "N/A"


@pytest.mark.parametrize("recipe", ["fda", "squadv2", "nq_512", "nq_1024", "nq_2048", "triviaqa", "drop"])
def test_tasks_of_the_paper_run_on_local_rows(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = GOLDEN / f"based_{'squad' if recipe == 'squadv2' else recipe}.jsonl"
    records = [json.loads(line) for line in golden.read_text(encoding="utf-8").splitlines()]
    rows = [record["doc"] for record in records[:: len(records) // 4] if all(record["labels"])]
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))
    for ending, layout in ENDINGS.items():
        config = yaml.safe_load(
            re.sub("class:.*", "", (next(paths.tasks_dir().glob(f"*/_{recipe}.yaml"))).read_text(encoding="utf-8"))
        )
        folder = tmp_path / benchmark_of(recipe).dataset.partition("/")[2]
        folder.mkdir(exist_ok=True)
        (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = load(f"{recipe}{ending}")
        length = config["jrt_common"]["window"]["context_length"]
        assert [task.doc_to_text(doc) for doc in task.eval_docs] == [
            prompt for row in rows if (prompt := render(recipe, layout, row, length)) is not None
        ]
        assert task.config.metadata["jrt"]["source"] == "local"


def test_local_rows_are_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "based-swde-v2"
    folder.mkdir()
    lines = (paths.samples_dir() / "swde.jsonl").read_text(encoding="utf-8").splitlines()[:7]
    (folder / "validation.jsonl").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))
    task = load("swde_jrt_hier", metadata={"jrt": {"budget": 3.0}})
    assert len(task.eval_docs) == 7 and task.config.task_alias is None
    assert task.config.metadata["jrt"]["source"] == "local" and task.config.metadata["jrt"]["budget"] == 3.0


def test_leaves_are_short_and_folders_hold_nothing_but_yaml() -> None:
    for path in OURS:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert len(lines) <= 8, path
    assert not [path for path in paths.tasks_dir().glob("**/*") if path.is_file() and path.suffix != ".yaml"]


def test_no_name_is_taken_from_lm_eval() -> None:
    ours = {name for path in OURS for name in re.findall(r"^(?:task|group): *(\w+)$", path.read_text(), re.M)}
    assert {*ALWAYS_HERE, "recall"} <= ours
    wanted = re.compile(rb"^(?:task|group|tag): *[\"']?(" + "|".join(sorted(ours)).encode() + rb")[\"']?\s*$", re.M)
    theirs = (Path(lm_eval.__file__).parent / "tasks").glob("**/*.y*ml")
    assert not [path for path in theirs if wanted.search(path.read_bytes())]


def test_a_third_party_adds_a_benchmark_with_yaml_alone() -> None:
    results = evaluate(["harbour"], THIRD_PARTY, log_samples=True)
    assert results["groups"]["harbour"]["contains,none"] == 0.0
    prompts = {name: samples[0]["arguments"][0][0] for name, samples in results["samples"].items()}
    document = results["samples"]["harbour_once"][0]["doc"]["text"]
    assert prompts["harbour_once"] == f"{document} Captain:"
    assert prompts["harbour_jrt"] == f"Information about Captain. {document}\n{document} Captain:"
    hier = prompts["harbour_jrt_hier"]
    assert hier.startswith(f"{document}\n") and hier.count("Captain: Ilse Maarten") == 3
    focus = prompts["harbour_jrt_focus"]
    assert focus.startswith(f"Information about Captain. {document}\n") and focus.count("Ilse Maarten") == 2
    assert results["samples"]["harbour_once"][0]["target"] == ["Ilse Maarten", "Captain Maarten"]
    one_file = evaluate([str(THIRD_PARTY / "harbour_jrt.yaml")])
    assert one_file["results"]["harbour_jrt"]["contains,none"] == 0.0


def test_the_shipped_model_answers_the_third_party_tasks_in_the_form_that_it_knows(tmp_path: Path) -> None:
    def scores(tasks: list[str], folder: Path) -> dict[str, float]:
        model = JRTRNN(feature_map="mlp")
        results = simple_evaluate(model=model, tasks=tasks, task_manager=manager(folder), bootstrap_iters=0)["results"]
        return {task: figures["contains,none"] for task, figures in results.items() if task != "harbour"}

    assert min(scores(["harbour"], THIRD_PARTY).values()) > 0.5
    for file in THIRD_PARTY.iterdir():
        shutil.copy(file, tmp_path)
    text = (tmp_path / "_harbour.yaml").read_text().replace("{{key | capitalize}}:", "The {{key}} is")
    (tmp_path / "_harbour.yaml").write_text(text)
    assert max(scores(["harbour_once", "harbour_jrt"], tmp_path).values()) < 0.1


def test_the_page_shows_these_very_files() -> None:
    shown = dict(re.findall(r"```(?:yaml|json)\n# (\S+)\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S))
    assert set(shown) == {path.name for path in THIRD_PARTY.glob("*.yaml")}
    for name, text in shown.items():
        assert yaml.compose(text) is not None
        assert text == (THIRD_PARTY / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) < 20
