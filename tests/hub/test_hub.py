"""The hub, over HTTP: data sets of all benchmarks, models, revisions, the cache afterwards, and what can go wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hub.stand_in import Hub, Repository

from jrt_lmeval.data.rowfiles import read_rows
from jrt_lmeval.paths import samples_dir, weights_dir
from jrt_lmeval.prompts.benchmarks import BENCHMARKS

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "released"
pytestmark = pytest.mark.slow

ROWS = """
import json
from jrt_lmeval.data.sources import load_rows
from jrt_lmeval.errors import JRTError
found = {}
for name in NAMES:
    try:
        loaded = load_rows(name, "validation", "hub")
        found[name] = [loaded.source, len(loaded.rows), loaded.rows[0]]
    except JRTError as error:
        found[name] = str(error)
print(json.dumps(found))
"""
MODEL = """
import json, logging
logging.basicConfig(format="%(message)s")
logging.getLogger("lm_eval").setLevel("INFO")
import torch
from jrt_lmeval.checkpoints.found import find
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.errors import JRTError
from huggingface_hub import constants
found = []
for name, revision, offline in ASKED:
    constants.HF_HUB_OFFLINE = offline
    try:
        checkpoint = find(name, revision)
        ids = torch.arange(5)[None]
        with torch.inference_mode():
            found.append([checkpoint.kind, load_model(checkpoint)(ids).logits.double().sum().item()])
    except JRTError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    into = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), into)
    return into.getvalue()


def dataset(rows: list[dict[str, Any]], gated: bool = False) -> Repository:
    files = {"README.md": b"# Rows\n", "data/validation-00000-of-00001.parquet": parquet(rows)}
    return Repository(files, "datasets", gated)


def model(folder: Path, gated: bool = False) -> Repository:
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "expected.safetensors"}
    return Repository(files, "models", gated)


def asked(hub: Hub, home: Path, script: str, **changed: str) -> tuple[Any, str]:
    """What a process of its own prints as JSON, and what it logs; only the stand-in is its hub."""
    left_out = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN", "JRT_LMEVAL_DATA")
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env | changed, cwd=home, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def rows_script(*names: str) -> str:
    return ROWS.replace("NAMES", repr(names))


def model_script(*names: str | tuple[str, str | None, bool]) -> str:
    """Asks for models one after the other: a name, or a name, its revision, and whether it is asked for offline."""
    return MODEL.replace("ASKED", repr([name if isinstance(name, tuple) else (name, None, False) for name in names]))


def test_data_sets_of_all_benchmarks_come_from_the_hub_and_then_from_its_cache(tmp_path: Path) -> None:
    samples = {
        spec.dataset: read_rows(samples_dir() / spec.sample)
        for spec in BENCHMARKS.values()
        if spec.sample is not None and "/" in spec.dataset
    }
    assert len(samples) == 8
    expected = {name: ["hub", len(rows), rows[0]] for name, rows in samples.items()}
    with Hub({name: dataset(rows) for name, rows in samples.items()}) as hub:
        assert asked(hub, tmp_path, rows_script(*samples))[0] == expected
        seen = len(hub.seen)
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        assert asked(hub, tmp_path, rows_script(*samples), **offline)[0] == expected
        assert len(hub.seen) == seen


def test_models_come_from_the_hub_by_revision_and_then_from_its_cache(tmp_path: Path) -> None:
    repositories = {
        "lab/based": model(FIXTURES / "based_tiny"),
        "lab/mamba": model(FIXTURES / "mamba_tiny"),
        "lab/llama": model(weights_dir() / "llama"),
    }
    with Hub(repositories) as hub:
        revisions = [("lab/mamba", repositories["lab/mamba"].commit, False), ("lab/mamba", "v9", False)]
        (based, mamba, llama, same, other), log = asked(hub, tmp_path, model_script(*repositories, *revisions))
        assert [based[0], mamba[0], llama[0]] == ["hazy", "mamba_ssm", "transformers"]
        assert same == mamba and "has no revision 'v9'" in other
        assert "lab/mamba: Mamba" in log and "lab/based: " in log
        assert not any(found.commit in log for found in repositories.values())
        seen = len(hub.seen)
        offline, _ = asked(hub, tmp_path, model_script(*((name, None, True) for name in repositories)))
        assert offline == [based, mamba, llama] and len(hub.seen) == seen


def test_what_the_hub_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    rows = read_rows(samples_dir() / "swde.jsonl")
    repositories = {"lab/gated": model(FIXTURES / "mamba_tiny", gated=True), "lab/closed": dataset(rows, gated=True)}
    with Hub(repositories) as hub:
        models, _ = asked(hub, tmp_path, model_script("lab/gated", "lab/nowhere", ("lab/nowhere", None, True)))
        gated, nowhere, offline = models
        assert gated.startswith("pretrained=lab/gated: no folder here, and the hub gives it only to those")
        assert "check the spelling, or set HF_TOKEN" in nowhere
        assert "HF_HUB_OFFLINE is set" in offline
        data, _ = asked(hub, tmp_path, rows_script("lab/closed", "lab/nowhere"))
    for said in (*models, *data.values()):
        assert "\n" not in said
    assert "HF_HUB_OFFLINE" not in gated + nowhere
    assert all("Put " in said and "$JRT_LMEVAL_DATA" in said for said in data.values())


def test_faults_that_pass_cost_no_file(tmp_path: Path) -> None:
    """429, 503 and a transfer that is cut in the middle: the file is asked for again, from where it was cut."""
    faults = [503, 429, -5000]

    def once_each(method: str, path: str) -> int | None:
        return faults.pop() if faults and method == "GET" and path.endswith(".bin") else None

    with Hub({"lab/mamba": model(FIXTURES / "mamba_tiny")}) as hub:
        hub.faults = once_each
        # The client keeps whole chunks of a transfer, of 10 MB: the file has a good two of 2,000 bytes when it is cut.
        small = "import huggingface_hub.constants\nhuggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 2000\n"
        (found, again), _ = asked(hub, tmp_path, small + model_script("lab/mamba", "lab/mamba"))
        assert found[0] == "mamba_ssm" and again == found and not faults
        assert any(request.endswith(".bin bytes=4000-") for request in hub.seen), "the transfer was not resumed"


def test_a_hub_that_is_slower_than_the_probe_is_left_and_the_sample_read(tmp_path: Path) -> None:
    def slow(method: str, path: str) -> None:
        time.sleep(8 if path == "/" else 0)

    script = rows_script("hazyresearch/based-swde-v2").replace('"hub")', '"auto")')
    with Hub({"hazyresearch/based-swde-v2": dataset(read_rows(samples_dir() / "swde.jsonl"))}) as hub:
        hub.faults = slow
        found, log = asked(hub, tmp_path, script)
    assert found["hazyresearch/based-swde-v2"][0] == "sample"
    assert "did not answer within 3 s" in log


def test_a_data_set_that_changed_is_read_anew(tmp_path: Path) -> None:
    rows = read_rows(samples_dir() / "swde.jsonl")
    with Hub({"lab/rows": dataset(rows)}) as hub:
        assert asked(hub, tmp_path, rows_script("lab/rows"))[0]["lab/rows"][1] == len(rows)
        hub.repositories["lab/rows"] = dataset(rows[:5])
        assert asked(hub, tmp_path, rows_script("lab/rows"))[0]["lab/rows"][1] == 5
