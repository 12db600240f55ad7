"""The positive control of reading twice: does a small state keep more where the question is known beforehand?

    python -m experiments.capacity train [--models mamba2 ...] [--seeds 0 1 2] [--start select] [--log FILE]
    python -m experiments.capacity report [--log FILE] [--out DIR]

Small models of two layers are trained on multi-query associative recall (jrt_lmeval.data.synthetic) in all layouts at
once, one set of weights for all. `report` writes table and picture of docs/capacity.md from the log, of which every
line is a training run: its configuration, its curve, and its recall by layout and number of facts.

Letters: R rows, T tokens, C width.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Mamba2Config, Mamba2ForCausalLM

from jrt_lmeval.data.synthetic import MQAR, draw_facts
from jrt_lmeval.markdown import markdown_table, with_block
from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.modeling.scans import fast_scans
from jrt_lmeval.report.plots.picture import COLOURS, MARKERS, Picture, canvas, legend, line
from jrt_lmeval.training.models import start_recalling_llama

LOG = Path("results/capacity/runs.jsonl")
VOCABULARY = 256
"""Keys, and values."""
ASKS, BEGINS, AGAIN, QUESTION = range(4)
"""Token ids beside keys and values: what follows a key that is asked for, and what starts a part of a prompt."""
TOKENS = 4 + 2 * VOCABULARY
WIDTH = 64
LAYOUTS = {"once": 0.3, "lead_once": 0.45, "flat": 0.15, "flat_no_lead": 0.1}
"""Layouts, and the share of training steps that each is given."""
TRAINED_FACTS = (16, 32, 64)
TESTED_FACTS = (16, 32, 64, 128, 256)
TEST_ROWS = 128


# ---------------------------------------------------------------- rows


def batch(rng: random.Random, layout: str, rows: int, facts: int, asked: int) -> tuple[Tensor, Tensor]:
    """Token ids `[R, T]` that end in `key, ASKS` for every key asked for, and the values asked for `[R, asked]`."""
    knobs, ids, answers = MQAR(facts=facts, questions=asked, keys=VOCABULARY, values=VOCABULARY), [], []
    for _ in range(rows):
        keys, values, places = draw_facts(rng, knobs)
        document = [t for key, value in zip(keys, values, strict=True) for t in (4 + key, 4 + VOCABULARY + value)]
        questions = [t for place in places for t in (4 + keys[place], ASKS)]
        lead = questions if layout in ("lead_once", "flat") else []
        again = [AGAIN, *document] if layout in ("flat", "flat_no_lead") else []
        ids.append([*lead, BEGINS, *document, *again, QUESTION, *questions])
        answers.append([4 + VOCABULARY + values[place] for place in places])
    return torch.tensor(ids), torch.tensor(answers)


# ---------------------------------------------------------------- models


@dataclass(frozen=True)
class Kind:
    """A model to train.

    Attributes:
        sizes: of its state, smallest first, in the unit of `make`.
        make: a model with a size of state.
        start: sets its first weights.
        features: keys that a head of that size tells apart exactly; None where the state grows with the text.
        prefix: whether all of the prompt is read as a prefix, so that the question is known in every layout.
        steps: of training, by default.
    """

    sizes: tuple[int, ...]
    make: Callable[[int], Any]
    start: Callable[[Any, str], None]
    features: Callable[[int], int] | None
    prefix: bool = False
    steps: int = 150


def _mamba2(size: int) -> Mamba2ForCausalLM:
    config = Mamba2Config(
        vocab_size=TOKENS, hidden_size=WIDTH, num_hidden_layers=2, expand=1, num_heads=1, head_dim=WIDTH, n_groups=1,
        state_size=size, conv_kernel=4, chunk_size=64, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    return Mamba2ForCausalLM(config)


def _jrt(mixer: str) -> Callable[[int], JRTForCausalLM]:
    def make(size: int) -> JRTForCausalLM:
        config = JRTConfig(
            vocab_size=TOKENS, hidden_size=WIDTH, intermediate_size=WIDTH, mixers=[mixer] * 2, num_heads=1,
            shifted_heads=1, feature_map="taylor", feature_dim=size, normaliser="rms", normaliser_eps=1.0,
        )  # fmt: skip
        return JRTForCausalLM(config)

    return make


def _llama(size: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=TOKENS, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=2, num_attention_heads=1,
        tie_word_embeddings=True, max_position_embeddings=4096, rope_theta=5e5, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _rotation(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size)).Q


def _beside(rows: Tensor, directions: Sequence[Tensor]) -> Tensor:
    """Rows without what they have of directions."""
    for direction in directions:
        rows = rows - (rows @ direction)[:, None] * direction
    return rows


class _Directions:
    """Directions of the residual stream that the first weights are made of; all are orthogonal to one another.

    Attributes:
        common: part of every embedding.
        flag: where the first layer writes that a token's key was asked for.
        asks: the embedding of `ASKS`.
        length: of a normalised embedding's own part, and of its common part.
    """

    def __init__(self) -> None:
        self.common, self.flag, self.asks = _rotation(WIDTH)[:3]
        self.length = math.sqrt(WIDTH / 2)

    def projections(self, count: int, size: float) -> Tensor:
        """As many rows `[count, C]`, orthogonal as far as they can be, that see only what a token has of its own."""
        rows = torch.cat([_rotation(WIDTH) for _ in range(-(-count // WIDTH))])[:count]
        return _beside(rows, (self.common, self.flag, self.asks)) * size

    def embed(self, weight: Tensor) -> None:
        own = _beside(torch.randn(len(weight), WIDTH), (self.common, self.flag, self.asks))
        own = own / own.norm(dim=1, keepdim=True)
        own[ASKS] = self.asks
        weight.copy_(own + self.common)


def start_mamba2(model: Mamba2ForCausalLM, start: str) -> None:
    """Let layer 2 begin as an induction head and, with `select`, layer 1 as a list of what the lead asks for.

    Layer 1 writes only at `ASKS`, with the token before it as key, and looks for the key of every pair; what it finds
    is the flag. The step dt of layer 2, which is how much of a token is written, rises with the flag.

    Args:
        start: `select`; `detect`, the flag is written and dt does not follow it yet; or `induction`, layer 1 begins
            with random weights.
    """
    d, half = _Directions(), WIDTH // 2
    values, keys = slice(WIDTH, 2 * WIDTH), model.config.state_size
    d.embed(model.backbone.embeddings.weight)
    first, second = (layer.mixer for layer in model.backbone.layers)
    for mixer in (first, second) if start != "induction" else (second,):
        looked_for = d.projections(keys, 0.5)
        mixer.in_proj.weight[:WIDTH] = d.common * 2 / d.length  # the gate: 2 before its silu, whatever the token
        mixer.in_proj.weight[2 * WIDTH : -1] = torch.cat([looked_for, looked_for])
        mixer.conv1d.weight.zero_()
        mixer.conv1d.bias.zero_()
        mixer.conv1d.weight[:WIDTH, 0, -1] = 1.0
        mixer.conv1d.weight[WIDTH:, 0, -2] = 1.0  # keys and queries are made of the token before
        mixer.A_log.fill_(math.log(5e-4))
    second.conv1d.weight[WIDTH + keys :] = second.conv1d.weight[WIDTH + keys :].roll(1, -1)  # but for these queries
    copied = d.projections(WIDTH, 0.5)
    second.in_proj.weight[values] = copied
    second.in_proj.weight[-1] = d.flag * 4 / d.length * (start == "select")
    second.dt_bias.fill_(math.log(math.expm1(0.15)))
    second.D.fill_(-0.05)
    second.out_proj.weight.copy_(copied.T * 0.6)
    model.backbone.norm_f.weight.fill_(2.0)
    if start == "induction":
        first.out_proj.weight.mul_(0.2)
        return
    # half of the values are the flag, written at ASKS; the other half is a measure for the norm that follows
    first.in_proj.weight[values] = torch.cat([d.asks.expand(half, -1) * 3, d.common.expand(half, -1)]) / d.length
    first.in_proj.weight[-1] = d.asks * 6 / d.length
    first.dt_bias.fill_(-5.0)
    first.D.fill_(1.0)
    first.out_proj.weight.zero_()
    first.out_proj.weight[:, :half] = d.flag[:, None] * 0.8 / half


def start_linear(model: JRTForCausalLM, start: str) -> None:
    """The same start for linear attention, whose keys are those of the token before (`shifted_heads`).

    There is no gate: the second layer's scores q.k rise with the flag instead, which its feature map turns into a
    factor: the Taylor expansion of exp(q.k).
    """
    d, half, dim = _Directions(), WIDTH // 2, model.config.feature_dim
    match = math.sqrt(5.0 * math.sqrt(dim)) / d.length  # scores of equal keys are 5
    d.embed(model.embed_tokens.weight)
    first, second = (block.mixer for block in model.blocks)
    for block in model.blocks:
        block.mlp.down.weight.zero_()
    listed, looked_for = d.projections(dim, match * math.sqrt(WIDTH / dim)), d.projections(dim, 0.0)
    looked_for[:-1] = d.projections(dim - 1, match * math.sqrt(WIDTH / (dim - 1)))
    copied = d.projections(WIDTH, 1.0)
    extra = math.sqrt(4.0 * math.sqrt(dim))  # what a flag adds to a score is about 4
    for name in ("", "_prefix") if first.prefix else ("",):
        _of(first, "k", name).copy_(listed)
        _of(first, "v", name).zero_()
        if name or not first.prefix:  # a prefix holds the lead already: it is not to count twice
            _of(first, "v", name)[:half] = d.asks * (0.07 if first.prefix else 0.15) / d.length
        _of(second, "k", name).copy_(looked_for)
        _of(second, "k", name)[-1] = d.flag * extra / 4.6 * (start == "select")
        _of(second, "v", name).copy_(copied)
    first.q_proj.weight.copy_(listed)
    second.q_proj.weight.copy_(looked_for)
    second.q_proj.weight[-1] = d.common * extra / d.length
    first.out_proj.weight.zero_()
    first.out_proj.weight[:, :half] = d.flag[:, None] * 0.8 / half
    second.out_proj.weight.copy_(copied.T * 0.6)
    model.norm.weight.fill_(2.0)


def _of(mixer: nn.Module, part: str, name: str) -> Tensor:
    return getattr(mixer, f"{part}{name}_proj").weight


def _start_llama(model: LlamaForCausalLM, start: str) -> None:
    start_recalling_llama(model)
    model.model.norm.weight.fill_(2.0)


def _taylor(size: int) -> int:
    return 1 + size + size * (size + 1) // 2


KINDS = {
    "mamba2": Kind((8, 16, 32, 64), _mamba2, start_mamba2, lambda size: size),
    "based": Kind((4, 8), _jrt("linear"), start_linear, _taylor),
    "jrt_rnn": Kind((8,), _jrt("prefix_linear"), start_linear, _taylor, prefix=True, steps=1500),
    "llama": Kind((64,), _llama, _start_llama, None),
}


def answers(model: nn.Module, kind: Kind, ids: Tensor, asked: int) -> Tensor:
    """Logits `[R, asked, vocabulary]` at the keys that a row ends in."""
    prefix = {"prefix_lengths": torch.full((len(ids),), ids.shape[1])} if kind.prefix else {}
    return model(ids, logits_to_keep=2 * asked, **prefix).logits[:, -2 * asked :: 2]


def state_bytes(kind: str, size: int, facts: int) -> int:
    """Bytes in float32 of what a row's prompt leaves behind in both layers, short convolutions aside."""
    if kind == "llama":
        return 2 * 2 * 4 * WIDTH * (2 * facts + 4)
    features = KINDS[kind].features
    assert features is not None
    return 2 * 4 * features(size) * (WIDTH if kind == "mamba2" else WIDTH + 1)


# ---------------------------------------------------------------- training


@torch.no_grad()
def recall(model: nn.Module, kind: Kind, facts: Sequence[int], rows: int, seed: int) -> dict[str, dict[str, float]]:
    """Share of questions answered, by layout and number of facts: one question a row, the same rows in all layouts."""
    found: dict[str, dict[str, float]] = {}
    for layout in LAYOUTS:
        found[layout] = {}
        for count in facts:
            rng, right = random.Random(f"test {seed} {count}"), 0
            for _ in range(rows // 32):
                ids, wanted = batch(rng, layout, 32, count, 1)
                right += int((answers(model, kind, ids, 1).argmax(-1) == wanted).sum())
            found[layout][str(count)] = right / (rows // 32 * 32)
    return found


def train(name: str, size: int, seed: int, start: str, steps: int, rate: float = 2e-3) -> dict[str, Any]:
    """Train a model, and return what the log holds of it."""
    kind, rng = KINDS[name], random.Random(seed)
    torch.manual_seed(seed)
    model = kind.make(size).train()
    with torch.no_grad():
        kind.start(model, start)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    began, losses, curve = time.process_time(), {layout: [] for layout in LAYOUTS}, []  # type: ignore[var-annotated]
    with fast_scans():
        for step in range(steps + 1):
            if step % max(1, steps // 3) == 0:
                loss = {layout: round(sum(ls[-20:]) / max(1, len(ls[-20:])), 3) for layout, ls in losses.items()}
                curve.append({"step": step, "loss": loss, "recall": recall(model, kind, (16, 64), 64, -1 - seed)})
                print(name, size, seed, start, json.dumps(curve[-1]), round(time.process_time() - began), flush=True)
            if step == steps:
                break
            layout, count = rng.choices(list(LAYOUTS), list(LAYOUTS.values()))[0], rng.choice(TRAINED_FACTS)
            selects = layout in ("lead_once", "flat") or kind.prefix
            asked = rng.choice((1, 2)) if selects else 16
            ids, wanted = batch(rng, layout, 64 if asked == 1 else 32, count, asked)
            loss = F.cross_entropy(answers(model, kind, ids, asked).flatten(0, 1), wanted.flatten())
            optimiser.param_groups[0]["lr"] = (
                rate * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
            )
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            losses[layout].append(loss.item())
        found = recall(model, kind, TESTED_FACTS, TEST_ROWS, seed)
    return {
        "model": name, "size": size, "seed": seed, "start": start, "steps": steps, "rate": rate, "curve": curve,
        "parameters": sum(p.numel() for p in parameters), "cpu_seconds": round(time.process_time() - began),
        "state_bytes": {str(count): state_bytes(name, size, count) for count in TESTED_FACTS},
        "test_rows": TEST_ROWS, "recall": found,
    }  # fmt: skip


def runs(log: Path) -> list[dict[str, Any]]:
    """What the log holds."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


# ---------------------------------------------------------------- report

SHOWN = {
    "once": "once", "lead_once": "question first, once", "flat": "question first, twice",
    "flat_no_lead": "twice, no question first",
}  # fmt: skip
"""Layouts in words, in the order of the table."""
NAMES = {"mamba2": "Mamba-2", "based": "Based (Taylor)", "jrt_rnn": "JRT-RNN (Taylor)", "llama": "Llama"}
STARTS = {"detect": "the gate does not follow the flag yet", "induction": "layer 1 starts from random weights"}
TABLE_FACTS = (16, 64, 256)


@dataclass(frozen=True)
class Cell:
    """Recall of a model by number of facts: one entry a seed, in the order of the seeds."""

    model: str
    size: int
    facts: int
    state: int
    recall: dict[str, list[float]]

    def mean(self, layout: str) -> float:
        return 100 * sum(self.recall[layout]) / len(self.recall[layout])

    @property
    def gaps(self) -> list[float]:
        """Points that the question in front is worth, read once, a seed each."""
        return [100 * (b - a) for a, b in zip(self.recall["once"], self.recall["lead_once"], strict=True)]

    def shown(self) -> list[str]:
        """Recall in per cent by layout, the mean of the seeds; the gap with its least and greatest seed; seeds."""
        gap = f"{sum(self.gaps) / len(self.gaps):+.0f} [{min(self.gaps):+.0f}, {max(self.gaps):+.0f}]"
        return [*(f"{self.mean(layout):.0f}" for layout in SHOWN), gap, str(len(self.gaps))]


def cells(found: Sequence[dict[str, Any]], start: str = "select") -> list[Cell]:
    """All cells of the runs with a start, models and sizes in their order."""
    made = []
    for name, kind in KINDS.items():
        for size in kind.sizes:
            same = [run for run in found if (run["model"], run["size"], run["start"]) == (name, size, start)]
            same.sort(key=lambda run: run["seed"])
            for facts in TESTED_FACTS if same else ():
                recall = {layout: [run["recall"][layout][str(facts)] for run in same] for layout in LAYOUTS}
                made.append(Cell(name, size, facts, state_bytes(name, size, facts), recall))
    return made


def table(found: Sequence[dict[str, Any]]) -> str:
    """What `Cell.shown` says of every model, size and number of facts."""
    rows = []
    for cell in cells(found):
        if cell.facts in TABLE_FACTS:
            features = KINDS[cell.model].features
            exact = "all" if features is None else str(features(cell.size))
            state = f"{cell.state / 1024:.1f}"
            rows.append([NAMES[cell.model], state, exact, cell.facts, *cell.shown()])
    header = ["model", "state, KB", "features", "facts", *SHOWN.values(), "gap", "seeds"]
    return markdown_table(header, rows)


def starts(found: Sequence[dict[str, Any]]) -> str:
    """The same Mamba-2 from first weights that hold less."""
    rows = []
    for start, words in {"select": "as above", **STARTS}.items():
        for cell in cells([run for run in found if (run["model"], run["size"]) == ("mamba2", 16)], start):
            if cell.facts in TABLE_FACTS:
                rows.append([words, cell.facts, *cell.shown()])
    return markdown_table(["first weights", "facts", *SHOWN.values(), "gap", "seeds"], rows)


def picture(found: Sequence[dict[str, Any]]) -> Picture:
    """Recall against facts over bytes of state."""
    return Picture("capacity", "Recall against facts over bytes of state", partial(_draw, found))


def _draw(found: Sequence[dict[str, Any]]) -> tuple[str, Figure]:
    """Recall against facts over bytes of state, a line a layout: the mean over seeds, and over sizes of equal ratio."""
    figure, axes = canvas(4.2, 2, 2, sharey=True)
    for axis, name in zip(axes, KINDS, strict=True):
        grows = KINDS[name].features is None
        for layout, colour, marker, dash in zip(SHOWN, COLOURS, MARKERS, ("-", "-", "--", ":"), strict=False):
            points: dict[float, list[float]] = {}
            for cell in cells(found):
                if cell.model == name:
                    ratio = float(cell.facts) if grows else 1024 * cell.facts / cell.state
                    points.setdefault(round(ratio, 3), []).append(cell.mean(layout))
            at = sorted(points)
            axis.plot(
                at, [sum(points[x]) / len(points[x]) for x in at],
                color=colour, marker=marker, linestyle=dash, markersize=3, lw=1.2,
            )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.set(title=NAMES[name], xlabel="facts" if grows else "facts per KB of state", ylim=(-3, 104))
    for axis in axes[::2]:
        axis.set_ylabel("recall, %")
    looks = zip(SHOWN.values(), COLOURS, MARKERS, ("-", "-", "--", ":"), strict=False)
    entries = [(words, line(color=c, marker=m, linestyle=d, markersize=3)) for words, c, m, d in looks]
    legend(figure, entries, columns=2)
    return "Means over seeds.", figure


def report(log: Path, out: Path) -> None:
    """Write tables and picture."""
    found, page = runs(log), out / "capacity.md"
    text = with_block(page.read_text(encoding="utf-8"), "capacity", table(found))
    page.write_text(with_block(text, "starts", starts(found)), encoding="utf-8")
    (out / "capacity.png").write_bytes(picture(found).saved("png"))


def _train_all(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    done = {(run["model"], run["size"], run["seed"], run["start"], run["steps"]) for run in runs(given.log)}
    given.log.parent.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for name in given.models:
            for size in given.sizes or KINDS[name].sizes:
                steps = given.steps or KINDS[name].steps
                if (name, size, seed, given.start, steps) not in done:
                    run = train(name, size, seed, given.start, steps)
                    with given.log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(run) + "\n")


def main() -> None:
    """Train, or write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    to_train = commands.add_parser("train", help="runs that the log already holds are not made again")
    to_train.add_argument("--models", nargs="+", choices=KINDS, default=list(KINDS))
    to_train.add_argument("--sizes", nargs="+", type=int, help="of the state; all of a model's by default")
    to_train.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    to_train.add_argument("--steps", type=int, help="each model's own by default")
    to_train.add_argument("--start", choices=("select", "detect", "induction"), default="select")
    to_report = commands.add_parser("report")
    to_report.add_argument("--out", type=Path, default=Path("docs"))
    for command in (to_train, to_report):
        command.add_argument("--log", type=Path, default=LOG)
    given = parser.parse_args()
    if given.command == "train":
        _train_all(given)
    else:
        report(given.log, given.out)


if __name__ == "__main__":
    main()
