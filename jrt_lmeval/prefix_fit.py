"""`jrt-eval prefix fit`: a learned prefix policy from the logs of runs at several fixed shares of the document.

Every prefix can be run on every question, so that the reward of all actions is known and nothing has to be explored:
the value of each share is found by ridge regression on the logged rewards. The penalty is chosen by cross-validation
over documents, the largest one first: features count only where they raise the held-out reward by more than one
standard error. Without that the policy is the best fixed share.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prefix import FEATURES, LearnedPrefix
from jrt_lmeval.stats import clustered_stderr, paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRICE = 0.01
"""Recall that 100 tokens of prefix have to be worth."""
PENALTIES = (inf, 1000.0, 100.0, 10.0, 1.0)
FOLDS = 10

EPILOG = """examples:
  for share in 0.25 0.5 0.75 1.0; do
    lm_eval --model jrt_rnn --model_args feature_map=mlp,prefix=fixed,prefix_length=$share --tasks my_task \\
        --log_samples --output_path runs/dev
  done
  jrt-eval prefix fit runs/dev --out policy.json
  lm_eval --model jrt_rnn --model_args feature_map=mlp,prefix=learned,prefix_policy=policy.json --tasks other_task

Runs with prefix=none count as a share of 0. Fit on development documents, never on those that are reported.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of `jrt-eval prefix`."""
    p = argparse.ArgumentParser(
        prog="jrt-eval prefix",
        description="Fit the policy of prefix=learned on logs of runs at several fixed prefix lengths.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit_parser = p.add_subparsers(dest="command", required=True, metavar="fit").add_parser(
        "fit", help="fit a policy", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    fit_parser.add_argument("runs", nargs="+", type=Path, help="folders with logs (--log_samples) of one model")
    fit_parser.add_argument("--out", required=True, type=Path, help="the policy, as JSON")
    fit_parser.add_argument(
        "--price",
        type=float,
        default=PRICE,
        help="recall, 0 to 1, that 100 tokens of prefix must be worth (default: %(default)s)",
    )
    fit_parser.add_argument("--metric", default="contains", help="score that counts as recall (default: %(default)s)")
    return p


@dataclass(frozen=True)
class Rewards:
    """What was logged: Q questions, A shares.

    Attributes:
        shares: ascending, A of them.
        recall, tokens: score of each question and tokens of its prefix under each share, `[Q, A]`.
        features: of each question's document, `[Q, len(FEATURES)]`.
        documents: of each question.
        weights: name of the model's weights.
    """

    shares: tuple[float, ...]
    recall: NDArray[Any]
    tokens: NDArray[Any]
    features: NDArray[Any]
    documents: tuple[str, ...]
    weights: str

    def reward(self, price: float) -> NDArray[Any]:
        """Recall less `price` for each 100 tokens of prefix."""
        return self.recall - price * self.tokens / 100


def read_rewards(paths: Sequence[Path], metric: str = "contains") -> Rewards:
    """The questions that stand in the logs of all shares.

    Raises:
        JRTError: fewer than two shares, several models or tasks, or logs without what the fit needs.
    """
    import numpy as np

    from jrt_lmeval.report.collect import collect

    found: dict[float, dict[int, Any]] = {}
    kinds = set()
    for cell in collect(paths).cells:
        result = cell.results[0]
        settings = result.run.settings
        share = 0.0 if settings.get("prefix") == "none" else settings.get("prefix_length")
        if settings.get("prefix") not in ("fixed", "none") or not isinstance(share, float):
            raise JRTError(f"{result.run.file}: prefix={settings.get('prefix')} is no fixed share of the document.")
        if share in found:
            raise JRTError(f"{result.run.file}: two logs have the share {share:g}; give the runs of one task.")
        kinds.add((result.run.weights, result.task))
        found[share] = {sample.row: sample for sample in result.samples()}
    if len(kinds) > 1 or len(found) < 2:
        said = "; ".join(f"{weights} on {task}" for weights, task in sorted(kinds)) or "no logs"
        raise JRTError(f"a policy is fitted on one model, one task and at least two shares; found {said}.")
    shares = tuple(sorted(found))
    rows = [row for row in found[shares[0]] if all(row in logged for logged in found.values())]
    samples = [[found[share][row] for share in shares] for row in rows]
    try:
        known = [[float(line[-1].facts["jrt_features"][name]) for name in FEATURES] for line in samples]
        recall = [[sample.scores[metric] for sample in line] for line in samples]
        tokens = [[float(sample.facts["jrt_prefix_tokens"]) for sample in line] for line in samples]
    except KeyError as error:
        raise JRTError(f"a sample has no {error}: the runs need --log_samples and a version that logs it.") from None
    if not rows:
        raise JRTError("no question stands in the logs of all shares.")
    documents = tuple(line[0].document for line in samples)
    return Rewards(shares, np.array(recall), np.array(tokens), np.array(known), documents, next(iter(kinds))[0])


def fit(rewards: Rewards, price: float) -> LearnedPrefix:
    """The policy, with what cross-validation says of it in `about`.

    Raises:
        JRTError: fewer than three documents.
    """
    import numpy as np

    names = sorted(set(rewards.documents))
    if len(names) < 3:
        raise JRTError(f"{len(names)} documents are too few to fit a policy on: give at least 3, better 50.")
    fold = np.array([names.index(name) % min(FOLDS, len(names)) for name in rewards.documents])
    reward = rewards.reward(price)
    held_out = {penalty: np.zeros(len(reward)) for penalty in PENALTIES}
    for number in np.unique(fold):
        inside, outside = fold != number, fold == number
        for penalty in PENALTIES:
            policy = _regressed(rewards.shares, rewards.features[inside], reward[inside], penalty)
            held_out[penalty][outside] = reward[outside][np.arange(outside.sum()), _chosen(policy, rewards, outside)]
    best = max(PENALTIES, key=lambda penalty: held_out[penalty].mean())
    chosen = next(
        penalty
        for penalty in PENALTIES
        if held_out[best].mean() - held_out[penalty].mean()
        <= (
            clustered_stderr((held_out[best] - held_out[penalty]).tolist(), rewards.documents) if penalty != best else 0
        )
    )
    policy = _regressed(rewards.shares, rewards.features, reward, chosen)
    gain = {
        str(penalty): _gain(held_out[inf], held_out[penalty], rewards.documents)
        for penalty in PENALTIES
        if penalty < inf
    }
    taken = np.bincount(_chosen(policy, rewards, fold >= 0), minlength=len(rewards.shares)) / len(fold)
    about = {
        "weights": rewards.weights,
        "questions": len(fold),
        "documents": len(names),
        "price_of_100_tokens": price,
        "penalty": str(chosen),
        "reward_of_fixed": dict(zip(map(str, rewards.shares), reward.mean(0).round(4).tolist(), strict=True)),
        "recall_of_fixed": dict(zip(map(str, rewards.shares), rewards.recall.mean(0).round(4).tolist(), strict=True)),
        "held_out_gain_over_best_fixed": gain,
        "share_taken": dict(zip(map(str, rewards.shares), taken.round(4).tolist(), strict=True)),
    }
    return LearnedPrefix(
        policy.shares, policy.features, policy.mean, policy.scale, policy.intercepts, policy.weights, about
    )


def _gain(fixed: NDArray[Any], learned: NDArray[Any], documents: Sequence[str]) -> list[float]:
    """Difference of mean rewards and its interval by document."""
    found = paired(fixed.tolist(), learned.tolist(), documents)
    return [round(value, 4) for value in (found.difference, found.low, found.high)]


def _regressed(shares: tuple[float, ...], known: Any, reward: Any, penalty: float) -> LearnedPrefix:
    """Ridge regression of each share's reward; the intercept, its mean, is not penalised."""
    import numpy as np

    mean, scale = known.mean(0), known.std(0)
    scale[scale < 1e-9] = 1.0
    x, centred = (known - mean) / scale, reward - reward.mean(0)
    weights = np.zeros((x.shape[1], reward.shape[1]))
    if penalty < inf:
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ centred)
    return LearnedPrefix(
        shares,
        FEATURES,
        tuple(mean.tolist()),
        tuple(scale.tolist()),
        tuple(reward.mean(0).tolist()),
        tuple(map(tuple, weights.T.tolist())),
    )


def _chosen(policy: LearnedPrefix, rewards: Rewards, mask: Any) -> list[int]:
    """Index of the share that the policy takes for each question of the mask."""
    rows = rewards.features[mask].tolist()
    return [policy.shares.index(policy.share(dict(zip(FEATURES, row, strict=True)))) for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = parser().parse_args(argv)
    if not given.price >= 0:
        raise JRTError(f"--price {given.price}: must be a number of at least 0.")
    rewards = read_rewards(given.runs, given.metric)
    policy = fit(rewards, given.price)
    policy.write(given.out)
    about = policy.about
    print(f"{about['questions']} questions on {about['documents']} documents, answered by {about['weights']}")
    for share, recall in about["recall_of_fixed"].items():
        reward = about["reward_of_fixed"][share]
        print(f"share {share:>4}: recall {100 * recall:5.1f} %, reward {100 * reward:5.1f}")
    for penalty, (gain, low, high) in about["held_out_gain_over_best_fixed"].items():
        print(f"ridge {penalty:>6}: {100 * gain:+.1f} [{100 * low:.1f}, {100 * high:.1f}] held out, to the best share")
    taken = ", ".join(f"{share} for {100 * part:.0f} %" for share, part in about["share_taken"].items() if part)
    print(f"ridge {about['penalty']}; share {taken} of the questions; saved to {given.out}")
    return 0
