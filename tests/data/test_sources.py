"""Where rows come from, and what is said when they do not come."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jrt_lmeval.data import sources
from jrt_lmeval.data.rowfiles import numbered_rows, write_rows
from jrt_lmeval.data.sources import load_files, load_rows
from jrt_lmeval.errors import JRTError

SWDE = "hazyresearch/based-swde-v2"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JRT_LMEVAL_DATA", raising=False)
    sources._hub_answers.cache_clear()
    sources._sampled.clear()


def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *rows: dict) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path))


def test_shipped_rows_are_read_without_what_makes_them() -> None:
    code = "import sys, jrt_lmeval.data.sources; print([name for name in sys.modules if '.making' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_local_mirror_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror(tmp_path, monkeypatch, "based-swde-v2", {"doc_id": "x", "text": "a"}, {"text": "b"})
    for source in ("auto", "local"):
        loaded = load_rows(SWDE, "validation", source)
        assert loaded.source == "local" and [row["text"] for row in loaded.rows] == ["a", "b"]
    assert loaded.place(0) == f"{tmp_path}/based-swde-v2/validation.jsonl, line 1 (doc_id 'x')"


def test_the_factbook_is_packaged_and_no_sample(caplog: pytest.LogCaptureFixture) -> None:
    loaded = load_rows("factbook", "validation")
    assert (loaded.source, len(loaded.rows)) == ("packaged", 985)
    assert load_rows("factbook", "validation", "sample").source == "packaged"
    assert not caplog.records


def test_without_a_network_the_sample_is_used_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sources.urllib.request, "urlopen", lambda *a, **k: pytest.fail("a probe although offline"))
    with caplog.at_level(logging.WARNING):
        assert load_rows(SWDE, "validation").source == "sample"
        assert load_rows(SWDE, "validation").source == "sample"
        assert load_rows("hazyresearch/based-fda", "validation").source == "sample"
    assert len(caplog.records) == 1 and "SYNTHETIC SAMPLES" in caplog.text and SWDE in caplog.text


def test_a_silent_hub_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def silent(*args: object, **kwargs: object) -> None:
        calls.append(args)
        time.sleep(30)
        raise TimeoutError

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(sources.urllib.request, "urlopen", silent)
    monkeypatch.setattr(sources, "PROBE_SECONDS", 0.05)
    start = time.monotonic()
    assert load_rows(SWDE, "validation").source == "sample"
    with pytest.raises(JRTError, match=r"based-else: the Hugging Face hub did not answer.*JRT_LMEVAL_DATA"):
        load_rows("hazyresearch/based-else", "validation")
    assert len(calls) == 1 and time.monotonic() - start < 5


def test_what_cannot_be_had_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JRTError, match=r"unknown source 'locale'. Did you mean 'local'\?"):
        load_rows(SWDE, "validation", "locale")
    with pytest.raises(
        JRTError, match=r"needs \$JRT_LMEVAL_DATA: the folder that holds based-swde-v2/validation.jsonl"
    ):
        load_rows(SWDE, "validation", "local")
    with pytest.raises(JRTError, match="no sample of 'hazyresearch/based-else' ships"):
        load_rows("hazyresearch/based-else", "validation", "sample")
    with pytest.raises(JRTError, match="'factbook' is not a data set of the Hugging Face hub"):
        load_rows("factbook", "validation", "hub")
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(JRTError, match="which is not a folder"):
        load_rows(SWDE, "validation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n\n{"a": }\n', r"line 3: not JSON \(Expecting value at character 7\)"),
        (b'{"a": 1}\n{"a": "\xff"}\n', "line 2: byte 8 is not UTF-8"),
        (b"[1, 2]\n", "line 1: a list and not a JSON object"),
        (b"\n\n", "no rows"),
    ],
)
def test_a_broken_file_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with pytest.raises(JRTError, match=f"rows.jsonl.*{message}"):
        numbered_rows(file)


def test_packed_rows_are_read_and_broken_packing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl.gz"
    write_rows(file, [{"a": "é"}])
    assert numbered_rows(file) == [(1, {"a": "é"})]
    for content in (file.read_bytes()[:-6], b"plain"):
        file.write_bytes(content)
        with pytest.raises(JRTError, match=r"rows\.jsonl\.gz: not a whole gzip file"):
            numbered_rows(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(JRTError, match=r"absent.jsonl: cannot be read \(No such file"):
        numbered_rows(tmp_path / "absent.jsonl")


def test_rows_separator_characters_inside_a_string_do_not_end_a_line(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('\ufeff{"a": "one\u2028two"}\n', encoding="utf-8")
    assert numbered_rows(tmp_path / "rows.jsonl") == [(1, {"a": "one\u2028two"})]


def test_files_of_a_task_are_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"a": 2}\n')
    assert [row["a"] for row in load_files({"test": ["a.jsonl", "b.jsonl"]}, "test", tmp_path).rows] == [1, 2]
    assert load_files("b.jsonl", "test", tmp_path).rows == ({"a": 2},)
    with pytest.raises(JRTError, match="unknown split of data_files 'tset'"):
        load_files({"test": "a.jsonl"}, "tset", tmp_path)


@pytest.mark.parametrize("kind", ["folder", "broken link", "nothing", "cut"])
def test_a_local_file_that_cannot_be_read_is_no_reason_to_take_the_sample(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    mirror(tmp_path, monkeypatch, "based-swde-v2", {"text": "a"})
    file = tmp_path / "based-swde-v2" / "validation.jsonl"
    assert load_rows(SWDE, "validation").source == "local"
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "broken link":
        file.symlink_to(tmp_path / "gone.jsonl")
    elif kind == "cut":
        file.write_text('{"text": "a"}\n{"text": "b')
    with pytest.raises(JRTError, match=r"based-swde-v2/validation\.jsonl.*(cannot be read|line 2: not JSON)"):
        load_rows(SWDE, "validation")
    assert load_rows("hazyresearch/based-fda", "validation").source == "sample"
    monkeypatch.setenv("JRT_LMEVAL_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(JRTError, match="which is not a folder"):
        load_rows("hazyresearch/based-fda", "validation")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"value": "a", "text": "t", "value": "b"}', "line 2: the key 'value' stands twice"),
        ('{"text": {"a": 1, "a": 2}}', "line 2: the key 'a' stands twice"),
        ('{"text": ' + "[" * 100_000, "line 2: lists or objects inside each other, too deep"),
    ],
)
def test_rows_that_can_be_read_two_ways_or_none_are_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(JRTError, match=message):
        load_files("rows.jsonl", "test", tmp_path)
