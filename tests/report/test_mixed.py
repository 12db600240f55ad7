"""One report over what three kinds of models wrote: ours, lm_eval's `hf` and a server with OpenAI's interface."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import tiny
from reportlogs import write_run

from jrt_lmeval import cli
from jrt_lmeval.report.cells import difference
from jrt_lmeval.report.collect import collect

ASKED = 6
METADATA = json.dumps({"jrt": {"window": {"context_length": 120}}})


class Completions(BaseHTTPRequestHandler):
    """Answers every prompt with its last words before the question's."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        choices = [{"index": at, "text": " " + text.split()[0]} for at, text in enumerate(prompts)]
        content = json.dumps({"model": body["model"], "choices": choices}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is written to the terminal."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), Completions)
    thread = Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}/v1/completions"
    served.shutdown()
    served.server_close()


@pytest.fixture(scope="module")
def runs(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixed")
    weights = out / "weights" / "tiny-llama"
    tiny.llama().save_pretrained(weights)
    tiny.tokenizer().save_pretrained(weights)
    models = {
        "jrt_rnn": "pretrained=jrt-mlp,prefix=dynamic",
        "hf": f"pretrained={weights},dtype=float32",
        "local-completions": f"model=org/Served-1B,base_url={server},tokenizer_backend=None,tokenized_requests=False",
    }
    asked = ["--tasks", "factbook_once", "--limit", str(ASKED), "--log_samples", "--metadata", METADATA]
    for name, arguments in models.items():
        place = ["--output_path", str(out / "logs" / name)]
        assert cli.main(["run", "--model", name, "--model_args", arguments, *asked, *place]) == 0
    return out / "logs"


@pytest.mark.slow
def test_models_of_three_kinds_are_on_the_same_questions(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = collect([runs])
    assert not found.broken and found.files == 3
    cells = {cell.first.run.kind: cell for cell in found.cells}
    assert [cell.model for cell in found.cells] == [
        "hf tiny-llama",
        "jrt_rnn jrt-mlp",
        "local-completions Served-1B",
    ]
    for kind in ("hf", "local-completions"):
        pair = difference(cells["jrt_rnn"], cells[kind], "contains")
        assert pair is not None and (pair.paired.n, pair.only_first, pair.only_second) == (ASKED, 0, 0)
    assert cli.main(["report", str(runs)]) == 0
    shown = capsys.readouterr().out
    assert all(f"| {cell.model} | factbook |" in shown for cell in found.cells)


def test_the_whole_command_imports_no_model(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [1.0, 0.0] * 10)
    write_run(tmp_path / "b", [1.0, 1.0] * 10, facts={"pretrained": "other"})
    logs, out = [str(tmp_path / name) for name in "ab"], tmp_path / "out"
    report = ["report", *logs, "--out", str(out), "--rescore", "--misses", "--format", "md,tex,csv,json,eval_results"]
    code = (
        "import sys; from jrt_lmeval import cli\n"
        f"for command in ({report!r}, ['compare', *{logs!r}]):\n"
        "    assert cli.main(command) == 0\n"
        "print(sorted({'torch', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert (out / "pictures" / "recall_swde.svg").is_file()
