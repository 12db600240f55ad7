"""Our tasks through `lm_eval --model local-completions`, asked of a small OpenAI-compatible server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jrt_lmeval import one_line
from jrt_lmeval.report.cli import main as report
from jrt_lmeval.report.collect import collect

SERVED = "org/Lookup-1B"


def lookup(prompt: str) -> str:
    """What followed when the prompt's last words, as many as were read before, stood there for the first time."""
    for length in range(80, 2, -1):
        place = prompt.find(prompt[-length:]) + length
        if place < len(prompt):
            return prompt[place:]
    return ""


class Completions(BaseHTTPRequestHandler):
    """`POST /v1/completions` with one prompt or several; answers end at a stop string, which is left out."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked))  # type: ignore[attr-defined]
        prompts = [asked["prompt"]] if isinstance(asked["prompt"], str) else asked["prompt"]
        choices = []
        for index, prompt in enumerate(prompts):
            text = lookup(prompt)
            for stop in asked["stop"]:
                text = text.partition(stop)[0]
            choices.append({"index": index, "text": text, "finish_reason": "stop"})
        # OpenAI's servers promise no order
        body = json.dumps({"object": "text_completion", "model": SERVED, "choices": choices[::-1]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Completions)
    found.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def lm_eval(server: ThreadingHTTPServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of docs/servers.md."""
    url = f"http://127.0.0.1:{server.server_port}/v1/completions"
    model = f"model={SERVED},base_url={url},tokenizer_backend=None,tokenized_requests=False"
    code = "from jrt_lmeval import register; register(); from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
    command = [sys.executable, "-c", code, "--model", "local-completions", "--model_args", model, *arguments]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=570, env=environment)


def test_a_served_model_is_asked_what_ours_are_and_reported_by_its_name(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = ("--tasks", "factbook_once,swde_jrt_hier", "--limit", "4", "--batch_size", "3")
    done = lm_eval(server, *tasks, "--output_path", str(tmp_path), "--log_samples")
    assert done.returncode == 0, done.stderr[-2000:]
    cells = {cell.task: cell for cell in collect([tmp_path]).cells}
    assert {cell.model for cell in cells.values()} == {"local-completions Lookup-1B"}
    assert cells["factbook_once"].mean("contains") == 1.0, "every value stands behind its key"
    asked = [body for path, body in server.asked if path == "/v1/completions"]  # type: ignore[attr-defined]
    assert sorted(len(body["prompt"]) for body in asked) == [2, 3, 3]
    prompts = [prompt for body in asked for prompt in body["prompt"]]
    logged = [sample for cell in cells.values() for sample in cell.first.samples()]
    assert len(prompts) == len(logged) == 8
    assert all(body["stop"] == ["\n"] and body["max_tokens"] == 48 and body["temperature"] == 0 for body in asked)
    assert {body["model"] for body in asked} == {SERVED}
    assert report([str(tmp_path)]) in (0, None)
    assert "local-completions Lookup-1B" in capsys.readouterr().out


def test_what_scores_text_is_refused_in_one_line(server: ThreadingHTTPServer) -> None:
    done = lm_eval(server, "--tasks", "recall_ppl", "--limit", "1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "a server asked for text only" in line and "--model hf_recall" in line
    assert not server.asked  # type: ignore[attr-defined]


def test_other_failed_assertions_are_not_taken_for_it() -> None:
    assert one_line.line_for(AssertionError("something else")) is None
