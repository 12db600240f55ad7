"""Is this model fit to be evaluated? One pass over what goes wrong silently: batches, padding, states, tokens.

Each check compares the model with itself read another way, so it needs no reference and works for any engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from jrt_lmeval.modeling.model import JRTForCausalLM
from model_adapters.engines.engine import Engine
from model_adapters.engines.kv_window import BLOCK, WindowEngine, full_pass

SAMPLE = "Director: Ann O'Leary (b. 1971)\n\tRuntime: 92 min., budget $3.5M; café, naïve, 東京 😀  two  spaces."
STEPS = 4
LONGEST_UNASKED = 512


@dataclass(frozen=True)
class Check:
    """One line of the table; `passed` is None where the check does not apply."""

    name: str
    passed: bool | None
    seen: str


class Patient:
    """A model, and made-up texts to read.

    Args:
        engine: the model.
        tokenizer: its tokenizer, or None to leave out what needs one.
        prompt_lengths: tokens of the prompts it will be asked; empty if not known.
    """

    def __init__(self, engine: Engine, tokenizer: Any = None, prompt_lengths: Sequence[int] = ()):
        self.engine, self.tokenizer, self.prompt_lengths = engine, tokenizer, prompt_lengths
        self.parameters = dict(engine.model.named_parameters())
        self.rows = engine.model.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        config: Any = engine.model.config
        self.tokens = min(len(tokenizer) if tokenizer is not None else self.rows, self.rows)
        self.tokens = min(self.tokens, getattr(config, "token_count", None) or self.rows)
        # float32 rounds to about 1e-6 of the largest logit; half precision to about 1e-2
        self.limit = 1e-4 if next(iter(self.parameters.values())).dtype.itemsize >= 4 else 5e-2

    def texts(self, *lengths: int) -> list[list[int]]:
        """Random token ids, the same for the same lengths."""
        generator = torch.Generator().manual_seed(len(lengths))
        return [torch.randint(0, self.tokens, (n,), generator=generator).tolist() for n in lengths]

    def read(self, texts: list[list[int]], prefix: Sequence[int] | None = None) -> tuple[Tensor, Any]:
        """Read texts, by default all as the prefix where the model has one."""
        whole = [len(text) if self.engine.has_prefix else 0 for text in texts]
        return self.engine.prefill(texts, whole if prefix is None else prefix)

    def same(self, name: str, mine: Tensor, truth: Tensor) -> Check:
        """Whether logits agree, relative to the largest."""
        # a barred token, such as the mask, has the lowest number there is: beside it every difference would vanish
        allowed = (truth > torch.finfo(truth.dtype).min).any(0)
        allowed[self.tokens :] = False
        mine, truth = mine[:, allowed].float(), truth[:, allowed].float()
        error = float((mine - truth).abs().max() / truth.abs().max())
        return Check(name, error <= self.limit, f"largest difference {error:.1e} of the largest logit")


def weights(patient: Patient) -> Check:
    bad = [name for name, weight in patient.parameters.items() if not bool(torch.isfinite(weight).all())]
    count = f"{len(patient.parameters)} parameters from the checkpoint"
    return Check("all weights loaded", not bad, f"not finite: {', '.join(bad[:5])}" if bad else count)


def dtype_and_device(patient: Patient) -> Check:
    kinds = sorted({str(weight.dtype).removeprefix("torch.") for weight in patient.parameters.values()})
    devices = sorted({weight.device.type for weight in patient.parameters.values()})
    coarse = devices == ["cpu"] and kinds != ["float32"] and kinds != ["float64"]
    seen = f"{'+'.join(kinds)} on {'+'.join(devices)}"
    fine = len(kinds) == 1 and "meta" not in devices and not coarse
    return Check("dtype and device sane", fine, seen + (": half precision is coarse there" if coarse else ""))


def batch(patient: Patient) -> Check:
    texts = patient.texts(19, 19, 19)
    alone = torch.cat([patient.read([text])[0] for text in texts])
    return patient.same("batch of 1 == batch of 3", patient.read(texts)[0], alone)


def padding(patient: Patient) -> Check:
    texts = patient.texts(23, 9, 1)
    alone, together = torch.cat([patient.read([text])[0] for text in texts]), patient.read(texts)
    nxt = torch.tensor([text[0] for text in patient.texts(1, 1, 1)])
    steps = torch.cat([patient.engine.step(nxt[i : i + 1], patient.read([t])[1])[0] for i, t in enumerate(texts)])
    first = patient.same("padded == unpadded", together[0], alone)
    second = patient.same("padded == unpadded", patient.engine.step(nxt, together[1])[0], steps)
    return first if not first.passed else second


def forms(patient: Patient) -> Check:
    name, model = "chunked == naive", patient.engine.model
    if isinstance(patient.engine, WindowEngine):
        text = patient.texts(min(BLOCK + 45, patient.engine.max_length or BLOCK + 45))
        return patient.same(name, patient.read(text)[0], full_pass(model, text[0], patient.engine.kv_window)[-1:])
    if not isinstance(model, JRTForCausalLM):
        return Check(name, None, "not a model of ours")
    texts, form = patient.texts(131, 70), model.linear_attention
    fast, _ = patient.read(texts)
    try:
        model.linear_attention = "naive"
        slow, _ = patient.read(texts)
    finally:
        model.linear_attention = form
    return patient.same(name, fast, slow)


def decoding(patient: Patient) -> Check:
    texts = patient.texts(21, 8)
    heads = [text[:-STEPS] for text in texts]
    logits, state = patient.read(heads)
    for i in range(STEPS):
        logits, state = patient.engine.step(torch.tensor([text[i - STEPS] for text in texts]), state)
    whole, _ = patient.read(texts, [len(head) if patient.engine.has_prefix else 0 for head in heads])
    return patient.same("prefill + decode == full forward", logits, whole)


def reuse(patient: Patient) -> Check:
    name, engine = "reused state == fresh", patient.engine
    if not engine.can_continue:
        return Check(name, None, "its state is never reused")
    document, first, second = patient.texts(17, 6, 3)
    prefix = len(document) if engine.has_prefix else 0
    _, state = patient.read([document], [prefix])
    logits, _ = engine.prefill([first, second], [0, 0], state.select(torch.tensor([0, 0])))
    fresh = torch.cat([patient.read([document + text], [prefix])[0] for text in (first, second)])
    again, _ = engine.prefill([first], [0], state.select(torch.tensor([0])))  # the first use must have left it alone
    return patient.same(name, torch.cat([logits, again]), torch.cat([fresh, fresh[:1]]))


def round_trip(patient: Patient) -> Check:
    name = "tokenizer round trip"
    if patient.tokenizer is None:
        return Check(name, None, "no tokenizer was asked for")
    ids = patient.tokenizer.encode(SAMPLE, add_special_tokens=False)
    text = patient.tokenizer.decode(ids, skip_special_tokens=True)
    seen = f"{len(ids)} tokens" if text.strip() == SAMPLE else f"reads back as {text[:60]!r}"
    return Check(name, text.strip() == SAMPLE, seen)


def appended(tokenizer: Any) -> list[int]:
    """The ids that a tokenizer puts after every text, such as an end token."""
    text = "a"
    plain, whole = tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(text)
    start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), len(whole))
    return list(whole[start + len(plain) :])


def endings(patient: Patient) -> Check:
    name = "no end token after a prompt"
    if patient.tokenizer is None:
        return Check(name, None, "no tokenizer was asked for")
    ids = appended(patient.tokenizer)
    said = f"the tokenizer appends {patient.tokenizer.decode(ids)!r} to every text; prompts are read without it"
    return Check(name, True, said if ids else "the tokenizer appends nothing")


def vocabulary(patient: Patient) -> Check:
    name, rows = "no id beyond the vocabulary", patient.rows
    if patient.tokenizer is not None:
        beyond = {token: number for token, number in patient.tokenizer.get_vocab().items() if number >= rows}
        said = f"the tokenizer has ids up to {max(beyond.values(), default=0)}, the embedding {rows} rows"
        if beyond.keys() - patient.tokenizer.get_added_vocab().keys():
            return Check(name, False, said)
        if beyond:
            return Check(name, True, f"{said}; a prompt that needs {', '.join(map(repr, beyond))} is refused")
    if patient.tokens == rows:
        return Check(name, True, f"{rows} rows, all of them tokens")
    seen = f"{rows - patient.tokens} of {rows} rows are no tokens"
    padding = getattr(patient.engine.model.config, "token_count", None) or rows
    if isinstance(patient.engine.model, JRTForCausalLM) and padding < rows:
        logits, _ = patient.read(patient.texts(5, 5))
        barred = bool((logits[:, padding:] <= torch.finfo(logits.dtype).min).all())
        return Check(name, barred, seen + ("" if barred else ", and the model does not bar them"))
    return Check(name, True, seen + "; generation leaves them out")


def length(patient: Patient) -> Check:
    name, engine = "longest prompt fits", patient.engine
    room = engine.max_length or engine.trained_length
    longest = max(patient.prompt_lengths, default=min(room or LONGEST_UNASKED, LONGEST_UNASKED))
    what = f"{longest} tokens" + ("" if patient.prompt_lengths else " (no tasks given)")
    if engine.max_length is not None and longest > engine.max_length:
        return Check(name, False, f"{what}; the model can read {engine.max_length}")
    logits, _ = patient.read(patient.texts(longest))
    finite = bool(torch.isfinite(logits[:, : patient.tokens]).all())
    beyond = engine.trained_length is not None and longest > engine.trained_length
    seen = f"{what}; trained on rows of {engine.trained_length or 'unknown length'}"
    return Check(name, finite and not beyond, seen if finite else f"{seen}; logits are not finite")


CHECKS: dict[str, Callable[[Patient], Check]] = {
    "all weights loaded": weights,
    "dtype and device sane": dtype_and_device,
    "batch of 1 == batch of 3": batch,
    "padded == unpadded": padding,
    "chunked == naive": forms,
    "prefill + decode == full forward": decoding,
    "reused state == fresh": reuse,
    "tokenizer round trip": round_trip,
    "no end token after a prompt": endings,
    "no id beyond the vocabulary": vocabulary,
    "longest prompt fits": length,
}


def checkup(engine: Engine, tokenizer: Any = None, prompt_lengths: Sequence[int] = ()) -> Iterator[Check]:
    """All checks, one after the other; one that raises has failed. Arguments as `Patient`'s."""
    patient = Patient(engine, tokenizer, prompt_lengths)
    for name, check in CHECKS.items():
        try:
            with torch.inference_mode():
                yield check(patient)
        except Exception as error:  # whatever it is, it is the finding
            yield Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


def table(checks: Sequence[Check]) -> str:
    """The checks as text, a line each."""
    width = max(len(check.name) for check in checks)
    marks = {True: "pass", False: "FAIL", None: "  - "}
    return "\n".join(f"{marks[check.passed]}  {check.name:<{width}}  {check.seen}" for check in checks)


def as_records(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks for a results file."""
    return [asdict(check) for check in checks]
