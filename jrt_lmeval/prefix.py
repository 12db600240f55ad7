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

A learned prefix is a contextual bandit of few numbers: for each share of the document that the prefix may cover, a
linear function of `features` foretells the reward, recall less a price a token, and the share with the largest value
is taken. `jrt-eval prefix fit` finds the numbers (`jrt_lmeval.prefix_fit`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from decimal import ROUND_HALF_UP, Decimal
from math import isfinite, log2
from operator import mul
from pathlib import Path
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
    "answer": ("prefix_chunk", "prefix_sure"),
    "learned": ("prefix_policy",),
}

FEATURES = ("entropy", "length", "repeats", "rare")
"""What a learned prefix goes by, see `features`."""
NGRAM = 4


def features(ids: Sequence[int]) -> dict[str, float]:
    """What is known of a document before it is read.

    Returns:
        `entropy`, H of the whole document; `length`, log2 of the number of its tokens; `repeats`, the share of its
        4-grams that stood in it before; `rare`, the mean place, 0 to 1, of the tokens that stand in it once (0.5 if
        there are none).
    """
    grams = [tuple(ids[start : start + NGRAM]) for start in range(len(ids) - NGRAM + 1)]
    counts = Counter(ids)
    once = [place / (len(ids) - 1) for place, token in enumerate(ids) if counts[token] == 1 and len(ids) > 1]
    return {
        "entropy": unigram_entropy(ids),
        "length": log2(max(1, len(ids))),
        "repeats": 1 - len(set(grams)) / len(grams) if grams else 0.0,
        "rare": sum(once) / len(once) if once else 0.5,
    }


@dataclass(frozen=True)
class LearnedPrefix:
    """A contextual bandit: value of a share = intercept + weights . (features - mean) / scale.

    Attributes:
        shares: of the document up to its end, ascending, 0 (no prefix) to 1.
        features: names among `FEATURES`.
        mean, scale: of each feature on the development documents.
        intercepts: of each share.
        weights: of each share, a number a feature.
        about: what it was fitted on, and what cross-validation said.

    Raises:
        JRTError: numbers that do not fit together.
    """

    shares: tuple[float, ...]
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    intercepts: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    about: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    def __post_init__(self) -> None:
        for name in self.features:
            one_of("feature of a learned prefix", name, FEATURES)
        sizes = {len(self.features), len(self.mean), len(self.scale), *map(len, self.weights)}
        numbers = [*self.shares, *self.mean, *self.scale, *self.intercepts, *(w for row in self.weights for w in row)]
        ordered = self.shares and list(self.shares) == sorted(set(self.shares)) and self.shares[0] >= 0
        if not ordered or self.shares[-1] > 1 or not all(map(isfinite, numbers)) or 0 in self.scale:
            raise JRTError("a learned prefix needs ascending shares from 0 to 1, finite numbers, and no scale of 0.")
        if len(sizes) > 1 or not len(self.shares) == len(self.intercepts) == len(self.weights):
            raise JRTError("a learned prefix needs an intercept and weights a share, and a weight a feature.")

    @classmethod
    def read(cls, file: str | Path) -> LearnedPrefix:
        """The policy that `jrt-eval prefix fit` wrote.

        Raises:
            JRTError: there is no such file, or it holds something else.
        """
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            given = {one.name: content[one.name] for one in fields(cls)}
            rows = tuple(tuple(map(float, row)) for row in given.pop("weights"))
            about, names = dict(given.pop("about")), tuple(map(str, given.pop("features")))
            rest = {name: tuple(map(float, values)) for name, values in given.items()}
            return cls(features=names, weights=rows, about=about, **rest)
        except OSError as error:
            raise JRTError(f"prefix_policy={file}: cannot be read ({error.strerror}).") from None
        except (ValueError, KeyError, TypeError) as error:
            raise JRTError(
                f"prefix_policy={file}: is no policy of 'jrt-eval prefix fit' ({type(error).__name__}: {error})."
            ) from None

    def write(self, file: Path) -> None:
        """Write the policy as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def share(self, known: Mapping[str, float]) -> float:
        """The share with the largest value for a document's `features`; of equal ones the smallest."""
        x = [(known[name] - m) / s for name, m, s in zip(self.features, self.mean, self.scale, strict=True)]
        values = [b + sum(map(mul, w, x)) for b, w in zip(self.intercepts, self.weights, strict=True)]
        return self.shares[values.index(max(values))]

    @property
    def digest(self) -> str:
        """Identifies the numbers that decide."""
        return hashlib.sha256(repr(self).partition(", about=")[0].encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PrefixPolicy:
    """How the prefix length M of a prompt is chosen.

    Attributes:
        policy: `full` (the whole prompt), `document` (up to the end of the last copy of the document), `fixed`
            (`prefix_length`), `dynamic` (`prefix_length` scaled by entropy), `none` (0, causal), `answer` (up to where
            a drafted answer is sure and stable, see `model_adapters.running.drafts`) or `learned` (`prefix_policy`).
        prefix_length: an int >= 1, in tokens, or a float in (0, 1], a fraction of the tokens up to the end of the
            document (of its last copy): 1.0 is where the document ends, however long the question.
        prefix_step: relative change of M at high or low entropy, in [0, 1). The paper's ablation: 0.05, 0.10, 0.20.
        entropy_high: H at or above this lengthens the prefix.
        entropy_low: H at or below this shortens it.
        entropy_window: tokens of a passage of which H is taken; None takes it of the whole document. What is left at
            the end of a document belongs to its last passage.
        prefix_chunk: tokens that are read between two drafts.
        prefix_sure: the mean probability of a draft's tokens, (0, 1], from which it is sure.
        prefix_policy: the learned policy.

    Raises:
        JRTError: for an unknown policy, a parameter out of range, or `entropy_low > entropy_high`.
    """

    policy: str = "full"
    prefix_length: int | float = 1.0
    prefix_step: float = 0.10
    entropy_high: float = ENTROPY_HIGH
    entropy_low: float = ENTROPY_LOW
    entropy_window: int | None = None
    prefix_chunk: int = 64
    prefix_sure: float = 0.8
    prefix_policy: LearnedPrefix | None = None

    def __post_init__(self) -> None:
        one_of("prefix policy", self.policy, POLICIES)
        for one in fields(self)[1:]:
            if one.name not in ("entropy_window", "prefix_policy"):
                _require_number(one.name, getattr(self, one.name))
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
        if not isinstance(self.prefix_chunk, int) or self.prefix_chunk < 1:
            raise JRTError(
                f"prefix_chunk={self.prefix_chunk!r}: must be a whole number of at least 1 token, such as 64."
            )
        if not 0.0 < self.prefix_sure <= 1.0:
            raise JRTError(f"prefix_sure={self.prefix_sure}: a probability must be above 0, and at most 1.")
        if self.policy == "learned" and not isinstance(self.prefix_policy, LearnedPrefix):
            raise JRTError(
                "prefix=learned needs a fitted policy: prefix_policy=policy.json, which 'jrt-eval prefix fit' writes, "
                "or one in the model's own folder."
            )

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
    def parameters(self) -> dict[str, int | float | str]:
        """The parameters this policy reads, by name; those that are None are left out. A learned one is its digest."""
        values = {name: getattr(self, name) for name in POLICIES[self.policy]}
        return {
            name: value.digest if isinstance(value, LearnedPrefix) else value
            for name, value in values.items()
            if value is not None
        }


@dataclass(frozen=True)
class PrefixChoice:
    """A prefix of `length` tokens, and the document's normalised entropy in [0, 1].

    With `entropy_window` the entropy is the mean over the document's passages, weighted by their tokens. `known` holds
    the document's `features`.
    """

    length: int
    entropy: float
    known: Mapping[str, float] = field(default_factory=dict, compare=False)


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
    known = [one.name for one in fields(PrefixPolicy)[1:]]
    values = {key: value for key, value in given.items() if value is not None}
    for key in values:
        if key not in known:
            raise unknown("prefix parameter", key, known)
        if key not in POLICIES[name]:
            users = " or ".join(f"prefix={policy}" for policy, reads in POLICIES.items() if key in reads)
            raise JRTError(f"{key}={values[key]} has no effect with prefix={name}; use it with {users}.")
    if "prefix_policy" in values:
        values["prefix_policy"] = LearnedPrefix.read(values["prefix_policy"])
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
        M, rounded half up and clipped to [1, prompt_length] (`none`, and a learned share of 0: 0), and the document's
        entropy and features. With `answer` M is the most that it can be: drafts shorten it.

    Raises:
        JRTError: if `prompt_length` is below 1.
    """
    if prompt_length < 1:
        raise JRTError(f"a prompt of {prompt_length} tokens has no prefix; give at least one token of context.")
    parts = passages(document_ids, policy.entropy_window)
    entropies = [unigram_entropy(part) for part in parts]
    weights = [len(part) for part in parts]
    entropy = sum(map(mul, entropies, weights)) / max(1, sum(weights)) if len(parts) > 1 else entropies[0]
    known = features(document_ids)
    if policy.policy == "none":
        return PrefixChoice(0, entropy, known)
    if policy.policy == "full":
        wanted = prompt_length
    elif policy.policy in ("document", "answer"):
        wanted = document_end
    elif policy.prefix_policy is not None:
        share = policy.prefix_policy.share(known)
        if not share:
            return PrefixChoice(0, entropy, known)
        wanted = _rounded(Decimal(str(share)) * min(document_end, prompt_length))
    else:
        wanted = _scaled_length(policy, min(document_end, prompt_length), entropies, weights)
    return PrefixChoice(max(1, min(wanted, prompt_length)), entropy, known)


def _scaled_length(policy: PrefixPolicy, document_end: int, entropies: Sequence[float], weights: Sequence[int]) -> int:
    # Decimal, so that 0.35 of 10 tokens is the 3.5 the user wrote and rounds up, not 3.4999999999999996.
    length = Decimal(str(policy.prefix_length))
    if not isinstance(policy.prefix_length, int):
        length *= document_end
    if policy.policy == "dynamic" and any(weights):
        factors = [_factor(policy, entropy) for entropy in entropies]
        length = length * sum(map(mul, factors, weights)) / sum(weights)
    return _rounded(length)


def _rounded(length: Decimal) -> int:
    return int(length.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def _factor(policy: PrefixPolicy, entropy: float) -> Decimal:
    step = Decimal(str(policy.prefix_step))
    if entropy >= policy.entropy_high:
        return 1 + step
    return 1 - step if entropy <= policy.entropy_low else Decimal(1)


def _require_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise JRTError(f"{name}={value!r}: must be a number.")
