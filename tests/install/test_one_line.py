"""A user's mistake is one line and exit status 1, under the plain command as well."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from jrt_lmeval import cli, one_line, register
from jrt_lmeval.errors import JRTError
from jrt_lmeval.plugin import ours_only


def plain_lm_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from jrt_lmeval.plugin import ours_only, register; register(); from lm_eval.__main__ import cli_evaluate\n"
        "with ours_only(): cli_evaluate()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def last_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "error" in line.lower() or "Traceback" in line]


def test_a_mistake_is_one_line_and_status_1() -> None:
    done = plain_lm_eval(
        "--model", "jrt_rnn", "--model_args", "feature_map=mpl", "--tasks", "swde_once", "--limit", "1"
    )
    assert done.returncode == 1
    assert last_lines(done.stderr) == [line for line in done.stderr.splitlines() if "Did you mean 'mlp'?" in line]
    assert "Traceback" not in done.stderr


def test_the_traceback_is_there_for_the_asking(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    one_line.install()
    with pytest.raises(JRTError) as raised:
        cli.parser().parse_args(["rum"])
    error = raised.value
    sys.excepthook(JRTError, error, error.__traceback__)
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv(one_line.ALL, "1")
    sys.excepthook(JRTError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and "invalid choice: 'rum'" in said


def test_of_several_processes_one_speaks_and_the_others_tell_their_launcher(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(one_line.ERROR_FILE, str(tmp_path / "error.json"))
    for rank, printed in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        (tmp_path / "error.json").unlink(missing_ok=True)
        assert cli.main(["rum"]) == 1
        assert ("Did you mean 'run'" in capsys.readouterr().err) == printed
        failure = ProcessFailure(local_rank=int(rank), pid=1, exitcode=1, error_file=str(tmp_path / "error.json"))
        report = ChildFailedError("lm_eval", {int(rank): failure}).format_msg()
        assert "traceback : jrt-eval: unknown command 'rum'. Did you mean 'run'" in report
    monkeypatch.delenv(one_line.ERROR_FILE)
    assert cli.main(["rum"]) == 1 and "Did you mean 'run'" in capsys.readouterr().err, "nobody else would tell"


@pytest.mark.slow
def test_under_torchrun_a_mistake_is_told_once_by_us_and_once_by_torchrun() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = ["--model", "jrt_rnn", "--model_args", "feature_map=mpl", "--tasks", "swde_once"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "-m", "jrt_lmeval", "run", *arguments], capture_output=True, text=True, timeout=500, env=environment
    )
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "Did you mean 'mlp'?" in line]
    assert sum(line.startswith("jrt-eval: ") for line in told) <= 1 and len(told) >= 1
    assert "JRTError" not in done.stderr and done.stderr.count("Traceback") <= 1, "torchrun's own, and none of ours"


def test_errors_of_others_are_printed_as_ever(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: seen.append(str(error)))
    one_line.install()
    one_line.install()
    sys.excepthook(KeyError, KeyError("theirs"), None)
    try:
        try:
            raise JRTError("ours")
        except JRTError as inner:
            raise RuntimeError("wrapped") from inner
    except RuntimeError as error:
        sys.excepthook(type(error), error, None)
    assert seen == ["'theirs'"]
    assert capsys.readouterr().err == "error: ours\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--tasks", "swde_jrt_heir"], "Tasks not found: swde_jrt_heir. Did you mean 'swde_jrt_hier'?"),
        (["--tasks", "swde_once", "--metadata", '{"jrt": {'], 'Invalid JSON: {"jrt": {. Hint: Use double quotes'),
        (["--tasks", "swde_once", "--model", "jrt_rn"], "unknown model 'jrt_rn'. Did you mean 'jrt_rnn'?"),
    ],
)
def test_a_mistake_that_lm_eval_finds_is_one_line_too(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.__main__ import cli_evaluate

    register()
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--model", "jrt_rnn", *arguments])
    with pytest.raises(ValueError) as raised, ours_only():
        cli_evaluate()
    line = str(one_line.line_for(raised.value))
    assert line.startswith(f"error: {said}") and "\n" not in line
    assert one_line.line_for(ValueError(str(raised.value))) is None  # someone else's words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("task: mine\njrt:\n\tlayout: once\n", "mine.yaml, line 3: not readable as YAML"),
        ("include: _comon.yaml\ntask: mine\n", "mine.yaml, line 1: include: _comon.yaml is no file beside it"),
    ],
)
@pytest.mark.parametrize("by_path", [False, True])
def test_a_task_file_that_cannot_be_read_is_named_where_the_command_ends(
    text: str, said: str, by_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval.__main__ import cli_evaluate

    register()
    (tmp_path / "mine.yaml").write_text(text)
    asked = [str(tmp_path / "mine.yaml")] if by_path else ["mine", "--include_path", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--model", "dummy", "--tasks", *asked])
    with pytest.raises(ValueError) as raised, ours_only():
        cli_evaluate()
    assert said in str(one_line.line_for(raised.value))


def test_a_cache_that_is_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = sqlite3.DatabaseError("file is not a database")
    assert one_line.line_for(damaged) is None
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--use_cache", "c.db"])
    assert "cannot be read as a request cache (file is not a database)" in str(one_line.line_for(damaged))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("path", "said"),
    [("/proc/c.db", "unable to open database file"), ("/proc/no/c.db", "No such file or directory: '/proc/no'")],
)
def test_a_cache_where_nothing_can_be_written(path: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.model import CachingLM
    from lm_eval.models.dummy import DummyLM

    monkeypatch.setattr(sys, "argv", ["lm_eval", "--use_cache", path])
    with pytest.raises(Exception) as error:
        CachingLM(DummyLM(), path)
    line = str(one_line.line_for(error.value))
    assert line.startswith("error: the file of --use_cache cannot be written (") and said in line
    assert "damaged" not in line


def test_what_is_wrong_with_a_cache_is_said() -> None:
    readonly = sqlite3.OperationalError("attempt to write a readonly database")
    assert one_line.cache_fault(readonly).startswith("cannot be written (attempt to write a readonly database)")
    locked = sqlite3.OperationalError("database is locked")
    assert one_line.cache_fault(locked).startswith("is in use by another process")
    assert "damaged" in one_line.cache_fault(sqlite3.DatabaseError("file is not a database"))


@pytest.mark.parametrize("value", [b"no pickle", b"\x80\x05cut short"])
def test_a_cached_answer_that_is_damaged(tmp_path, monkeypatch: pytest.MonkeyPatch, value: bytes) -> None:
    from sqlitedict import SqliteDict

    with SqliteDict(str(tmp_path / "c.db"), autocommit=True) as store:
        store["answer"] = "it"
    with sqlite3.connect(tmp_path / "c.db") as raw:
        raw.execute("UPDATE unnamed SET value = ?", (value,))
    raw.close()
    monkeypatch.setattr(sys, "argv", ["lm_eval", "--use_cache", "c.db"])
    with SqliteDict(str(tmp_path / "c.db")) as store:
        with pytest.raises(Exception) as error:
            store["answer"]
        assert "cannot be read as a request cache" in str(one_line.line_for(error.value))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["paper", "--tables-only", "--out", "{}", "--tables", "{}/file/x"],
            "file/x/tables.md: cannot be written (Not a directory)",
        ),
        (
            ["paper", "--tables-only", "--out", "{}", "--tables", "{}/file"],
            "file/tables.md: cannot be written (File exists)",
        ),
    ],
)
def test_what_cannot_be_written_is_one_line_and_status_1(tmp_path, capsys, arguments, said) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.main([word.format(tmp_path) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("jrt-eval: ") and error.count("\n") == 1 and said in error


def test_a_file_that_nobody_foresaw_is_one_line_and_its_traceback_is_there_for_the_asking(monkeypatch, capsys) -> None:
    def missing(_: object) -> int:
        raise FileNotFoundError(2, "No such file or directory", "rows.jsonl")

    monkeypatch.setattr(cli, "run", missing)
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err == "jrt-eval: rows.jsonl: No such file or directory.\n"
    monkeypatch.setenv(one_line.ALL, "1")
    with pytest.raises(OSError, match=r"rows\.jsonl"):
        cli.main(["run"])


def test_a_reader_that_goes_away_is_no_mistake(monkeypatch, capsys) -> None:
    def closed(_: object) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "run", closed)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back afterwards
    assert cli.main(["run"]) == 1 and not capsys.readouterr().err


def test_ctrl_c_is_one_line_and_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    assert cli.main(["run", "--tasks", "swde_once"]) == 130
    assert capsys.readouterr().err.strip().startswith("jrt-eval: interrupted")


def test_results_lie_in_a_folder_named_for_the_model() -> None:
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    from jrt_lmeval.plugin import register

    register()

    def folder(model: object, arguments: object) -> str:
        tracker = GeneralConfigTracker()
        tracker.log_experiment_args(model, arguments, None, None, False)
        return tracker.model_name_sanitized

    wanted = "jrt_rnn-mlp-dynamic"
    assert folder("jrt_rnn", {"feature_map": "mlp", "prefix": "dynamic"}) == wanted
    assert folder("jrt_rnn", "feature_map=mlp,prefix=dynamic") == wanted
    assert folder("jrt_rnn", None) == "jrt_rnn"
    assert len(folder("jrt_rnn", {f"argument_{number}": "x" * 50 for number in range(20)})) <= 80
    assert folder("hf", {"pretrained": "gpt2"}) == "gpt2"
    assert folder("dummy", {}) not in ("dummy", "")  # lm_eval's own models keep lm_eval's way
    long = {"prefix": "dynamic", "tokenizer": "/very/long" * 40}
    assert folder("jrt_rnn", long) == "jrt_rnn-dynamic-long", "of a path its last part; two runs may share a folder"
    assert len(folder("hf_recall", {"pretrained": "/a" * 200}).encode()) == 200


@pytest.mark.parametrize("inside", ["file/out", "file/out.json", "x" * 300])
def test_where_results_go_is_checked_before_a_model_is_loaded(tmp_path: Path, inside: str) -> None:
    from lm_eval.loggers import EvaluationTracker

    from jrt_lmeval.paths import OUTPUT
    from jrt_lmeval.plugin import model_class

    register()
    (tmp_path / "file").write_text("a file is no folder")
    before = OUTPUT.set(None)
    try:
        EvaluationTracker(output_path=str(tmp_path / inside))
        with pytest.raises(JRTError, match=r"--output_path .*: results cannot be written there .*nothing has run yet"):
            model_class("jrt_rnn").create_from_arg_obj({"pretrained": "/nowhere"}, {})
        EvaluationTracker(output_path=str(tmp_path / "new" / "folder"))
        with pytest.raises(JRTError, match="/nowhere"):
            model_class("jrt_rnn").create_from_arg_obj({"pretrained": "/nowhere"}, {})
    finally:
        OUTPUT.reset(before)
