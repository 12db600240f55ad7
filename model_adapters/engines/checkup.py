"""Is this model fit to be evaluated? One pass over what goes wrong silently: batches, padding, states, tokens.

Each check compares the model with itself read another way, so it needs no reference and works for any engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


Found = tuple[bool | None, str]
"""What a check finds: whether it passed, and what it saw."""


class Subject:
    """The model under test, and made-up texts for it to read.

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

    def same(self, mine: Tensor, truth: Tensor) -> Found:
        """Whether logits agree, relative to the largest."""
        # a barred token, such as the mask, has the lowest number there is: beside it every difference would vanish
        allowed = (truth > torch.finfo(truth.dtype).min).any(0)
        allowed[self.tokens :] = False
        mine, truth = mine[:, allowed].float(), truth[:, allowed].float()
        error = float((mine - truth).abs().max() / truth.abs().max())
        return error <= self.limit, f"largest difference {error:.1e} of the largest logit"


def weights(subject: Subject) -> Found:
    bad = [name for name, weight in subject.parameters.items() if not bool(torch.isfinite(weight).all())]
    count = f"{len(subject.parameters)} parameters from the checkpoint"
    return not bad, f"not finite: {', '.join(bad[:5])}" if bad else count


def dtype_and_device(subject: Subject) -> Found:
    kinds = sorted({str(weight.dtype).removeprefix("torch.") for weight in subject.parameters.values()})
    devices = sorted({weight.device.type for weight in subject.parameters.values()})
    coarse = devices == ["cpu"] and kinds != ["float32"] and kinds != ["float64"]
    seen = f"{'+'.join(kinds)} on {'+'.join(devices)}"
    fine = len(kinds) == 1 and "meta" not in devices and not coarse
    return fine, seen + (": half precision is coarse there" if coarse else "")


def batch(subject: Subject) -> Found:
    texts = subject.texts(19, 19, 19)
    alone = torch.cat([subject.read([text])[0] for text in texts])
    return subject.same(subject.read(texts)[0], alone)


def padding(subject: Subject) -> Found:
    texts = subject.texts(23, 9, 1)
    alone, together = torch.cat([subject.read([text])[0] for text in texts]), subject.read(texts)
    nxt = torch.tensor([text[0] for text in subject.texts(1, 1, 1)])
    steps = torch.cat([subject.engine.step(nxt[i : i + 1], subject.read([t])[1])[0] for i, t in enumerate(texts)])
    first = subject.same(together[0], alone)
    return subject.same(subject.engine.step(nxt, together[1])[0], steps) if first[0] else first


def forms(subject: Subject) -> Found:
    model = subject.engine.model
    if isinstance(subject.engine, WindowEngine):
        text = subject.texts(min(BLOCK + 45, subject.engine.max_length or BLOCK + 45))
        return subject.same(subject.read(text)[0], full_pass(model, text[0], subject.engine.kv_window)[-1:])
    if not isinstance(model, JRTForCausalLM):
        return None, "not a model of ours"
    texts, form = subject.texts(131, 70), model.linear_attention
    fast, _ = subject.read(texts)
    try:
        model.linear_attention = "naive"
        slow, _ = subject.read(texts)
    finally:
        model.linear_attention = form
    return subject.same(fast, slow)


def decoding(subject: Subject) -> Found:
    texts = subject.texts(21, 8)
    heads = [text[:-STEPS] for text in texts]
    logits, state = subject.read(heads)
    for i in range(STEPS):
        logits, state = subject.engine.step(torch.tensor([text[i - STEPS] for text in texts]), state)
    whole, _ = subject.read(texts, [len(head) if subject.engine.has_prefix else 0 for head in heads])
    return subject.same(logits, whole)


def reuse(subject: Subject) -> Found:
    engine = subject.engine
    if not engine.can_continue:
        return None, "its state is never reused"
    document, first, second = subject.texts(17, 6, 3)
    prefix = len(document) if engine.has_prefix else 0
    _, state = subject.read([document], [prefix])
    logits, _ = engine.prefill([first, second], [0, 0], state.select(torch.tensor([0, 0])))
    fresh = torch.cat([subject.read([document + text], [prefix])[0] for text in (first, second)])
    again, _ = engine.prefill([first], [0], state.select(torch.tensor([0])))  # the first use must have left it alone
    return subject.same(torch.cat([logits, again]), torch.cat([fresh, fresh[:1]]))


def round_trip(subject: Subject) -> Found:
    if subject.tokenizer is None:
        return None, "no tokenizer was asked for"
    ids = subject.tokenizer.encode(SAMPLE, add_special_tokens=False)
    text = subject.tokenizer.decode(ids, skip_special_tokens=True)
    seen = f"{len(ids)} tokens" if text.strip() == SAMPLE else f"reads back as {text[:60]!r}"
    return text.strip() == SAMPLE, seen


def appended(tokenizer: Any) -> list[int]:
    """The ids that a tokenizer puts after every text, such as an end token."""
    text = "a"
    plain, whole = tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(text)
    start = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), len(whole))
    return list(whole[start + len(plain) :])


def endings(subject: Subject) -> Found:
    if subject.tokenizer is None:
        return None, "no tokenizer was asked for"
    ids = appended(subject.tokenizer)
    said = f"the tokenizer appends {subject.tokenizer.decode(ids)!r} to every text; prompts are read without it"
    return True, said if ids else "the tokenizer appends nothing"


def vocabulary(subject: Subject) -> Found:
    rows = subject.rows
    if subject.tokenizer is not None:
        beyond = {token: number for token, number in subject.tokenizer.get_vocab().items() if number >= rows}
        said = f"the tokenizer has ids up to {max(beyond.values(), default=0)}, the embedding {rows} rows"
        if beyond.keys() - subject.tokenizer.get_added_vocab().keys():
            return False, said
        if beyond:
            return True, f"{said}; a prompt that needs {', '.join(map(repr, beyond))} is refused"
    if subject.tokens == rows:
        return True, f"{rows} rows, all of them tokens"
    seen = f"{rows - subject.tokens} of {rows} rows are no tokens"
    padding = getattr(subject.engine.model.config, "token_count", None) or rows
    if isinstance(subject.engine.model, JRTForCausalLM) and padding < rows:
        logits, _ = subject.read(subject.texts(5, 5))
        barred = bool((logits[:, padding:] <= torch.finfo(logits.dtype).min).all())
        return barred, seen + ("" if barred else ", and the model does not bar them")
    return True, seen + "; generation leaves them out"


def length(subject: Subject) -> Found:
    engine = subject.engine
    room = engine.max_length or engine.trained_length
    longest = max(subject.prompt_lengths, default=min(room or LONGEST_UNASKED, LONGEST_UNASKED))
    what = f"{longest} tokens" + ("" if subject.prompt_lengths else " (no tasks given)")
    if engine.max_length is not None and longest > engine.max_length:
        return False, f"{what}; the model can read {engine.max_length}"
    logits, _ = subject.read(subject.texts(longest))
    finite = bool(torch.isfinite(logits[:, : subject.tokens]).all())
    beyond = engine.trained_length is not None and longest > engine.trained_length
    seen = f"{what}; trained on rows of {engine.trained_length or 'unknown length'}"
    return finite and not beyond, seen if finite else f"{seen}; logits are not finite"


CHECKS: dict[str, Callable[[Subject], Found]] = {
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
    """All checks, one after the other; one that raises has failed. Arguments as `Subject`'s."""
    subject = Subject(engine, tokenizer, prompt_lengths)
    for name, check in CHECKS.items():
        try:
            with torch.inference_mode():
                yield Check(name, *check(subject))
        except Exception as error:  # whatever it is, it is the finding
            yield Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")


def table(checks: Sequence[Check]) -> str:
    """The checks as text, a line each."""
    width = max(len(check.name) for check in checks)
    marks = {True: "pass", False: "FAIL", None: "  - "}
    return "\n".join(f"{marks[check.passed]}  {check.name:<{width}}  {check.seen}" for check in checks)
