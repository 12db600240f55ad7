"""Prefix-length policies: how many tokens of a prompt prefix linear attention reads before it becomes causal.

Token ids in, a length out; nothing here knows of models. Lengths are in tokens of the model's own tokenizer.

The entropy of a context (paper, "dynamic prefix") is the entropy of its unigram token distribution, divided by the
largest value it can take for that many tokens, so that it lies in [0, 1] whatever the length:

    H = -sum_v p_v log2 p_v / log2(n)        p_v = share of token v among the n tokens; 0 for n < 2

The context is the whole document, or with `entropy_window` each passage of so many of its tokens: every passage then
lengthens or shortens its own share of the prefix, and M is the sum.

The default thresholds are the quartiles of H over training documents, with no test row among them: the shipped models
were trained on documents of this kind. The more varied quarter of contexts gets a longer prefix, the more repetitive
quarter a shorter one. H depends on the tokenizer and on the length of the context. `experiments/entropy.py` prints the
tables, and `experiments/prefix_length.py` those that the default of `prefix_length` was chosen by (docs/models.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal
from math import log2
from operator import mul
from typing import Any

from jrt_lmeval.errors import JRTError, one_of, unknown

THRESHOLDS: dict[int | None, tuple[float, float]] = {
    None: (0.72, 0.81),
    64: (0.82, 0.92),
    128: (0.78, 0.88),
    256: (0.75, 0.84),
}
"""`entropy_window` (None: the document) -> default `entropy_low` and `entropy_high`."""
ENTROPY_LOW, ENTROPY_HIGH = THRESHOLDS[None]

# Which parameters each policy reads. A parameter given to a policy that does not read it raises instead of being
# ignored: `prefix_length=256` without `prefix=fixed` would otherwise be reported as a run that it is not.
POLICIES: dict[str, tuple[str, ...]] = {
    "full": (),
    "document": (),
    "fixed": ("prefix_length",),
    "dynamic": ("prefix_length", "prefix_step", "entropy_high", "entropy_low", "entropy_window"),
    "none": (),
}


@dataclass(frozen=True)
class PrefixPolicy:
    """How the prefix length M of a prompt is chosen.

    Attributes:
        policy: `full` (the whole prompt), `document` (up to the end of the last copy of the document), `fixed`
            (`prefix_length`), `dynamic` (`prefix_length` scaled by entropy) or `none` (0, causal).
        prefix_length: an int >= 1, in tokens, or a float in (0, 1], a fraction of the tokens up to the end of the
            document (of its last copy): 1.0 is where the document ends, however long the question.
        prefix_step: relative change of M at high or low entropy, in [0, 1). The paper's ablation: 0.05, 0.10, 0.20.
        entropy_high: H at or above this lengthens the prefix.
        entropy_low: H at or below this shortens it.
        entropy_window: tokens of a passage of which H is taken; None takes it of the whole document. What is left at
            the end of a document belongs to its last passage.

    Raises:
        JRTError: for an unknown policy, a parameter out of range, or `entropy_low > entropy_high`.
    """

    policy: str = "full"
    prefix_length: int | float = 1.0
    prefix_step: float = 0.10
    entropy_high: float = ENTROPY_HIGH
    entropy_low: float = ENTROPY_LOW
    entropy_window: int | None = None

    def __post_init__(self) -> None:
        one_of("prefix policy", self.policy, POLICIES)
        for field in fields(self)[1:]:
            if field.name != "entropy_window":
                _require_number(field.name, getattr(self, field.name))
        if isinstance(self.prefix_length, int) or self.prefix_length <= -1:  # lm_eval reads -5 as -5.0
            if self.prefix_length < 1:
                raise JRTError(
                    f"prefix_length={self.prefix_length:g}: must be at least 1 token, or a fraction of the document "
                    "such as 0.8; for no prefix at all use prefix=none."
                )
        elif not 0.0 < self.prefix_length <= 1.0:
            raise JRTError(
                f"prefix_length={self.prefix_length}: a fraction of the document must lie between 0 and 1.0; a number "
                "of tokens is written without a decimal point (256); the whole prompt is prefix=full."
            )
        if not 0.0 <= self.prefix_step < 1.0:
            raise JRTError(f"prefix_step={self.prefix_step}: must be in [0, 1), e.g. 0.05, 0.10 or 0.20.")
        for name in ("entropy_high", "entropy_low"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise JRTError(f"{name}={getattr(self, name)}: normalised entropy lies in [0, 1].")
        if self.entropy_low > self.entropy_high:
            raise JRTError(
                f"entropy_low={self.entropy_low} is above entropy_high={self.entropy_high}: "
                "the lower threshold must not exceed the upper one."
            )
        window = self.entropy_window
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 2):
            raise JRTError(f"entropy_window={window!r}: must be a whole number of at least 2 tokens, such as 64.")

    def check_context(self, max_length: int | None) -> None:
        """Raise JRTError if `prefix_length` asks for more tokens than a model's context of `max_length` holds."""
        if max_length is None or not isinstance(self.prefix_length, int) or "prefix_length" not in self.parameters:
            return
        if self.prefix_length > max_length:
            raise JRTError(
                f"prefix_length={self.prefix_length} is longer than the model's context of {max_length} tokens; "
                f"use at most {max_length}, or a fraction of the document such as 0.8."
            )

    @property
    def parameters(self) -> dict[str, int | float]:
        """The parameters this policy reads, by name; those that are None are left out."""
        values = {name: getattr(self, name) for name in POLICIES[self.policy]}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class PrefixChoice:
    """A prefix of `length` tokens, and the document's normalised entropy in [0, 1].

    With `entropy_window` the entropy is the mean over the document's passages, weighted by their tokens.
    """

    length: int
    entropy: float


def prefix_policy(prefix: str | None = "full", **given: Any) -> PrefixPolicy:
    """Build a policy from what a user wrote.

    Args:
        prefix: the policy's name; None is `none`, because lm_eval's command line turns `prefix=none` into None.
        **given: parameters by name; None means "not given".

    Raises:
        JRTError: for an unknown policy or parameter, for a parameter the policy does not read, and for an
            `entropy_window` that has no default thresholds and is given none.
    """
    name = one_of("prefix policy", "none" if prefix is None else prefix, POLICIES)
    known = [field.name for field in fields(PrefixPolicy)[1:]]
    values = {key: value for key, value in given.items() if value is not None}
    for key in values:
        if key not in known:
            raise unknown("prefix parameter", key, known)
        if key not in POLICIES[name]:
            users = " or ".join(f"prefix={policy}" for policy, reads in POLICIES.items() if key in reads)
            raise JRTError(f"{key}={values[key]} has no effect with prefix={name}; use it with {users}.")
    return PrefixPolicy(policy=name, **{**_thresholds(values), **values})


def _thresholds(given: Mapping[str, Any]) -> dict[str, Any]:
    """The default thresholds of a window, those that were given left out."""
    window = given.get("entropy_window")
    missing = [name for name in ("entropy_low", "entropy_high") if name not in given]
    # a window that is none is refused by the policy itself
    if window is None or not missing or not isinstance(window, int) or window < 2:
        return {}
    if window not in THRESHOLDS:
        known = ", ".join(str(size) for size in THRESHOLDS if size)
        raise JRTError(
            f"entropy_window={window}: there are default thresholds for {known} tokens; for another window give "
            "entropy_low and entropy_high, which 'python experiments/entropy.py' finds."
        )
    defaults = dict(zip(("entropy_low", "entropy_high"), THRESHOLDS[window], strict=True))
    return {name: defaults[name] for name in missing}


def unigram_entropy(ids: Sequence[int]) -> float:
    """Normalised unigram entropy of token ids, in [0, 1]: 0 for one repeated token, 1 if all tokens differ."""
    n = len(ids)
    if n < 2:
        return 0.0
    bits = sum(count / n * log2(n / count) for count in Counter(ids).values())
    return min(1.0, bits / log2(n))


def passages(ids: Sequence[int], window: int | None) -> list[Sequence[int]]:
    """A document's tokens in passages of `window`, the rest in the last of them; all in one for None."""
    if window is None or len(ids) < 2 * window:
        return [ids]
    starts = range(0, len(ids) - window + 1, window)
    return [ids[start : len(ids) if start == starts[-1] else start + window] for start in starts]


def choose_prefix(
    policy: PrefixPolicy, prompt_length: int, document_end: int, document_ids: Sequence[int]
) -> PrefixChoice:
    """Choose the prefix length M for one prompt.

    Args:
        policy: what to do.
        prompt_length: tokens of the prompt. In scoring this is the context alone: no continuation token may be seen.
        document_end: number of prompt tokens up to and including the end of the last copy of the document.
        document_ids: token ids of the document (one copy), for its entropy.

    Returns:
        M, rounded half up and clipped to [1, prompt_length] (`none`: 0), and the document's entropy.

    Raises:
        JRTError: if `prompt_length` is below 1.
    """
    if prompt_length < 1:
        raise JRTError(f"a prompt of {prompt_length} tokens has no prefix; give at least one token of context.")
    parts = passages(document_ids, policy.entropy_window)
    entropies = [unigram_entropy(part) for part in parts]
    weights = [len(part) for part in parts]
    entropy = sum(map(mul, entropies, weights)) / max(1, sum(weights)) if len(parts) > 1 else entropies[0]
    if policy.policy == "none":
        return PrefixChoice(0, entropy)
    if policy.policy == "full":
        wanted = prompt_length
    elif policy.policy == "document":
        wanted = document_end
    else:
        wanted = _scaled_length(policy, min(document_end, prompt_length), entropies, weights)
    return PrefixChoice(max(1, min(wanted, prompt_length)), entropy)


def _scaled_length(policy: PrefixPolicy, document_end: int, entropies: Sequence[float], weights: Sequence[int]) -> int:
    # Decimal, so that 0.35 of 10 tokens is the 3.5 the user wrote and rounds up, not 3.4999999999999996.
    length = Decimal(str(policy.prefix_length))
    if not isinstance(policy.prefix_length, int):
        length *= document_end
    if policy.policy == "dynamic" and any(weights):
        factors = [_factor(policy, entropy) for entropy in entropies]
        length = length * sum(map(mul, factors, weights)) / sum(weights)
    return int(length.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _factor(policy: PrefixPolicy, entropy: float) -> Decimal:
    step = Decimal(str(policy.prefix_step))
    if entropy >= policy.entropy_high:
        return 1 + step
    return 1 - step if entropy <= policy.entropy_low else Decimal(1)


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise JRTError(f"{name}={value!r}: must be a number.")
