"""What it takes to add something: each addition is made in a copy of the checkout, and its files are counted."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
Edit = Callable[[str], str]


def appended(text: str) -> Edit:
    return lambda before: f"{before}\n\n{text}"


def substituted(*pairs: tuple[str, str]) -> Edit:
    def edit(before: str) -> str:
        for pattern, new in pairs:
            before, count = re.subn(pattern, new, before, count=1, flags=re.M)
            assert count == 1, pattern
        return before

    return edit


ADDITIONS: dict[str, dict[str, Edit]] = {
    "feature map": {
        "jrt_lmeval/modeling/feature_maps.py": appended(
            "class Absolute(FeatureMap):\n    def forward(self, x):\n        return x.abs()\n\n\n"
            'FEATURE_MAPS["absolute"] = Absolute\n'
        )
    },
    "policy": {
        "jrt_lmeval/prefix.py": substituted(
            (r'^    "document": (.*)$', r'\g<0>\n    "half": \1'),
            (
                r'^( +)elif policy\.policy == "document":',
                r'\1elif policy.policy == "half":\n\1    wanted = prompt_length // 2\n\g<0>',
            ),
        )
    },
    "layout": {
        "jrt_lmeval/prompts/layouts.py": appended(
            "def _backwards(parts, spec, lead, after):\n"
            '    return Laid(lead, " ".join(reversed(parts.document.split())), {})\n\n\n'
            'LAYOUTS["backwards"] = Layout("backwards", "_backwards", "read backwards", ("lead",), _backwards)\n'
        )
    },
    "benchmark": {
        "jrt_lmeval/prompts/benchmarks.py": appended(
            'BENCHMARKS["tides"] = BenchmarkSpec("harbour/tides", "log", "asked", "said", ("said",), _field("log"),\n'
            '    lambda row, text, layout, window: Parts(text, row["asked"], query=row["asked"]))\n'
        ),
        "tasks/tides/_tides.yaml": appended(
            "class: !function jrt_lmeval.task.RecallTask\nvalidation_split: validation\n"
            "jrt_common: {recipe: tides, window: {policy: head, context_length: 100}}\n"
        ),
        "tasks/tides/tides_once.yaml": appended("task: tides_once\ninclude: _tides.yaml\njrt: {layout: once}\n"),
    },
    "model": {
        "model_adapters/parrot.py": appended(
            "from model_adapters.hf_recall import HFRecall\n\n\nclass Parrot(HFRecall):\n    pass\n"
        ),
        "jrt_lmeval/plugin.py": substituted(
            (r'^    "mamba": .*$', r'\g<0>\n    "parrot": "model_adapters.parrot:Parrot",')
        ),
    },
}
FILES = {
    "feature map": ["jrt_lmeval/modeling/feature_maps.py"],
    "policy": ["jrt_lmeval/prefix.py"],
    "layout": ["jrt_lmeval/prompts/layouts.py"],
    "benchmark": ["jrt_lmeval/prompts/benchmarks.py", "*.yaml"],
    "model": ["jrt_lmeval/plugin.py", "model_adapters/parrot.py"],
}
"""What docs/architecture.md promises. Later versions of lm_eval also want a model's line among the entry points."""

USED = """
import json, torch
from lm_eval.tasks import TaskManager
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.paths import tasks_dir
from jrt_lmeval.plugin import model_class, register
from jrt_lmeval.prefix import choose_prefix, prefix_policy
from jrt_lmeval.task.settings import settings

register()
found = {}
config = JRTConfig(vocab_size=16, hidden_size=16, num_heads=2, feature_dim=4, feature_map="absolute",
                   mixers=["prefix_linear"], max_position_embeddings=32)
logits = JRTForCausalLM(config)(torch.arange(8)[None]).logits
found["feature map"] = bool(torch.isfinite(logits).all()) and logits.shape[1] == 8
found["policy"] = choose_prefix(prefix_policy("half"), 10, 4, list(range(4))).length == 5
found["layout"] = settings({"layout": "backwards"}).as_dict()["layout"] == "backwards"
manager = TaskManager(include_defaults=False, include_path=str(tasks_dir()), metadata={"jrt": {"layout": "backwards"}})
task = manager.load(["tides_once"])["tasks"]["tides_once"]
prompt = task.doc_to_text(task.eval_docs[0])
found["benchmark"] = prompt == "noon at High High tide:" and task.doc_to_target(task.eval_docs[0]) == ["noon"]
found["model"] = model_class("parrot").__name__ == "Parrot"
print(json.dumps(found))
"""


@pytest.mark.slow
def test_an_addition_touches_the_files_that_the_page_names(tmp_path: Path) -> None:
    for name in ("jrt_lmeval", "model_adapters", "tasks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    for edits in ADDITIONS.values():
        for name, edit in edits.items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(edit(file.read_text() if file.is_file() else ""))
    data = tmp_path / "data" / "tides"
    data.mkdir(parents=True)
    (data / "validation.jsonl").write_text('{"log": "High at noon", "asked": "High tide:", "said": "noon"}\n')
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "JRT_LMEVAL_DATA": str(data.parent)}
    done = subprocess.run([sys.executable, "-c", USED], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(ADDITIONS, True)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for kind, edits in ADDITIONS.items():
        touched = sorted({"*.yaml" if name.endswith(".yaml") else name for name in edits})
        assert touched == sorted(FILES[kind]), kind
        row = next(line for line in page.splitlines() if line.startswith(f"| a {kind} |"))
        for name in touched:
            assert ("YAML" if name == "*.yaml" else f"`{name.replace('parrot', 'NAME')}`") in row, (kind, name)
