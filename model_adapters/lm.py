"""What all models here share towards lm_eval: requests in, answers out, in the order they were asked."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

from jrt_lmeval import __version__
from jrt_lmeval.checkpoints.tokenizers import known_ids, warn_of_misfit
from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.paths import require_writable_output
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.engines.checkup import as_records, checkup, table
from model_adapters.engines.engine import Engine
from model_adapters.options import OVERFLOW, World, context_length, without_repeats
from model_adapters.request_cache import RequestCache, tokenizer_digest, weights_digest
from model_adapters.running.batching import Budget
from model_adapters.running.figures import Answer, LogLikelihood, Totals, machine
from model_adapters.running.generation import EOS, LENGTH, STOP, Generator, StopStrings
from model_adapters.running.loglikelihood import Continuation, require_tokens, rolling_windows, score
from model_adapters.running.rows import Encoder, Goal, PromptRow, read_goal
from model_adapters.running.runtime import NotFinite, Runtime

log = logging.getLogger("lm_eval.jrt")

MANY_EMPTY = 0.2
"""Share of empty answers above which a warning says what helps."""


class RecallLM(TemplateLM):
    """An lm_eval model made of an engine and a tokenizer.

    Args:
        engine: the model.
        tokenizer: a Hugging Face tokenizer.
        policy: how the prefix length of a prompt is chosen; always `none` for engines without a prefix.
        budget: what a batch may hold; by default one row.
        world: this process among those that share the work.
        max_length: tokens the model may read, generated ones included; None takes the engine's limit.
        on_overflow: what to do with longer prompts: `error`, `truncate_left` or `skip`.
        add_bos_token: whether texts start with BOS; None leaves it to the tokenizer.
        reuse: read a document that several prompts begin with once, where the prefix policy makes that exact.
        doctor: check the model first; what fails is logged, and the table stands in the results file.
        latency: let the first answer be made twice and count the second, so that what happens once is in no time.
        template: arguments for the chat template.
        think_end: text or token id that ends a model's reasoning, as `StopStrings` has it.
        description: facts for the results file (`get_model_info()["jrt"]`) and the cache's fingerprint.

    Raises:
        JRTError: for values out of range, and for a tokenizer that is not the model's.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Any,
        *,
        policy: PrefixPolicy | None = None,
        budget: Budget | None = None,
        world: World | None = None,
        max_length: int | None = None,
        on_overflow: str = "error",
        add_bos_token: bool | None = None,
        reuse: bool = True,
        doctor: bool = False,
        latency: bool = False,
        template: Mapping[str, Any] | None = None,
        think_end: str | int | None = None,
        description: dict[str, Any] | None = None,
    ):
        super().__init__()
        if on_overflow not in OVERFLOW:
            raise unknown("on_overflow", on_overflow, OVERFLOW)
        self.engine, self.tokenizer, self.world = engine, tokenizer, world or World()
        self._rank, self._world_size, self._device = self.world.rank, self.world.size, engine.device
        self.policy = policy if policy and engine.has_prefix else PrefixPolicy("none")
        self.description = dict(description or {})
        model: Any = engine.model
        rows = model.get_input_embeddings().weight.shape[0]
        warn_of_misfit(tokenizer, rows)
        self._vocabulary = known_ids(tokenizer, rows)
        self.encoder = Encoder(tokenizer, add_bos_token, rows)
        self._max_length = context_length(max_length, engine.max_length, engine.table_length)
        # a recurrent model has no limit of its own, but a fixed prefix beyond any row it was trained on is a mistake
        self.policy.check_context(self._max_length or engine.trained_length)
        self.runtime = Runtime(
            engine,
            self.policy,
            budget or Budget(rows=1),
            self._max_length,
            on_overflow,
        )
        self._template, self._think_end = dict(template or {}), think_end
        self._special = special_tokens(tokenizer)
        self._generator = Generator(self.runtime, self._stops, self._end_ids(), self._vocabulary, reuse)
        self._latency = self._cold = latency
        self._checks = list(checkup(engine, tokenizer)) if doctor else []
        if any(check.passed is False for check in self._checks):
            log.warning("The model is not fit to be evaluated:\n%s", table(self._checks))
        self._other_totals: list[Totals] = []
        self.set_cache_hook(self.cache_hook)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> RecallLM:
        """How lm_eval builds a model: what stands in `--model_args` wins over `--batch_size` and `--device`."""
        require_writable_output()
        common = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if is_default_batch_size(common.get("batch_size")):
            del common["batch_size"]
        return cls(**{**common, **arg_dict})

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> RecallLM:
        """The same from the text `name=value,name=value`."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    # What lm_eval asks about the model

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        return self.encoder.first_id

    @property
    def max_length(self) -> int | None:
        """Tokens the model can read at most; None: no limit."""
        return self._max_length

    @property
    def batch_sizes(self) -> dict[int, int]:
        """Rows of the largest batch, for lm_eval's report."""
        return {0: self.runtime.totals.largest_batch}

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.encoder.ids(string, add_special_tokens)

    def tok_decode(self, tokens: Sequence[int] | int, skip_special_tokens: bool = True) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=skip_special_tokens)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        if not self.tokenizer.chat_template:
            raise JRTError(
                f"tokenizer {self.tokenizer.name_or_path!r} has no chat template; leave out --apply_chat_template."
            )
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self._template,
        )

    def get_model_info(self) -> dict[str, Any]:
        """Facts and totals for the results file: sums over all processes, without answers taken from a cache."""
        totals = Totals()
        for part in (self.runtime.totals, *self._other_totals):
            totals.add(part)
        facts = {**self._configuration(), "device": str(self.device), "world_size": self.world_size, **machine()}
        facts["latency"] = self._latency
        weights = list(self.engine.model.parameters())
        facts["model_bytes"] = sum(weight.numel() * weight.element_size() for weight in weights)
        facts |= {"sliding_window": self.engine.window} if self.engine.window else {}
        return {
            "model_num_parameters": sum(weight.numel() for weight in weights),
            "model_dtype": facts["dtype"],
            "jrt": {**facts, **totals.summary(), **({"doctor": as_records(self._checks)} if self._checks else {})},
        }

    def _configuration(self) -> dict[str, Any]:
        """Everything that decides an answer, weights and tokenizer aside."""
        return {
            "package_version": __version__,
            **self.description,
            "model_class": type(self.engine.model).__name__,
            "prefix": self.policy.policy,
            **self.policy.parameters,
            "dtype": str(next(self.engine.model.parameters()).dtype).removeprefix("torch."),
            "padding": self.engine.padding,
            "max_length": self.max_length,
            "on_overflow": self.runtime.on_overflow,
            "add_bos_token": self.encoder.add_bos_token,
            **({} if self._think_end is None else {"think_end_token": self._think_end}),
        }

    # Request cache and data parallelism

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Called by lm_eval with `--use_cache`, before the first request."""
        self.cache_hook = cache_hook
        self._cache = RequestCache(cache_hook, self.fingerprint)

    def fingerprint(self) -> dict[str, Any]:
        """What a cached answer must agree with to count as this model's."""
        configuration = self._configuration()
        configuration.pop("pretrained", None)  # the same weights may lie in another place
        digests = {"weights": weights_digest(self.engine.model), "tokenizer": tokenizer_digest(self.tokenizer)}
        return {**configuration, **digests}

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.world.all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        # The totals travel with lm_eval's own gathering: with a request cache a process may have nothing to run, so
        # a collective of our own inside generate_until could wait for it forever.
        found = self.world.gather_object((obj, self.runtime.totals), dst)
        if found is None:
            return None
        self._other_totals = [totals for rank, (_, totals) in enumerate(found) if rank != self.rank]
        return [_without_gaps(content) for content, _ in found]

    def barrier(self) -> None:
        self.world.barrier()

    # Requests

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations as `Answer` objects, in the order of the requests."""
        asked, places = without_repeats(requests)
        goals = [read_goal(request.args[1]) for request in asked]
        rows = [
            self.encoder.row(index, request.args[0], goal=goal)
            for index, (request, goal) in enumerate(zip(asked, goals, strict=True))
        ]
        rows = self.runtime.prepared(rows, [goal.max_gen_toks for goal in goals])
        answers: list[Answer] = [Answer("")] * len(rows)
        if self._cold:
            self._cold = False
            with self.runtime.uncounted():
                deque(self._generator.run(rows[:1]), maxlen=0)
        with self._progress(len(rows), "Generating", disable_tqdm) as bar, self._cache, naming(asked):
            for row, answer in self._generator.run(rows):
                answers[row.index] = answer
                if not row.skipped:
                    answer.stats |= self.encoder.read_characters(asked[row.index].args[0], row)
                self._cache.add("generate_until", asked[row.index].args, answer)
                bar.update()
        warn_of_empty(answers)
        return [answers[place] for place in places]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        items = []
        for index, ((context, text), context_ids, continuation) in enumerate(requests):
            require_tokens(context_ids, continuation, text)
            items.append(Continuation(self.encoder.row(index, context, context_ids), continuation))
        if self._template.get("enable_thinking"):
            raise JRTError("enable_thinking=True is for tasks that generate; this one scores a given text.")
        results = [(0.0, False)] * len(items)
        with self._progress(len(items), "Scoring", disable_tqdm) as bar, self._cache:
            for index, result in score(self.runtime, items):
                results[index] = result
                self._cache.add("loglikelihood", requests[index][0], result)
                bar.update()
        return results

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """As lm_eval, with a request that was handed out several times run once."""
        asked, places = without_repeats(requests)
        results = super().loglikelihood(asked, disable_tqdm=disable_tqdm)
        return [results[place] for place in places]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[LogLikelihood]:
        """Log-likelihood of whole texts, each token given as much context as fits.

        They are `LogLikelihood` objects, which know how many tokens they are about. The
        token that the text follows (BOS or end of text) is never scored itself.
        """
        asked, places = without_repeats(requests)
        items: list[Continuation] = []
        owners: list[int] = []
        lengths: list[int] = []
        for owner, request in enumerate(asked):
            # the text is the last argument; lm_eval 0.5 puts an empty context before it
            ids = self.tok_encode(request.args[-1], add_special_tokens=False)
            lengths.append(len(ids))
            for context, continuation in rolling_windows(ids, self.prefix_token_id, self.max_length):
                items.append(Continuation(PromptRow(len(items), context, len(context), context), continuation))
                owners.append(owner)
        sums = [LogLikelihood(0.0, {"jrt_scored_tokens": length}) for length in lengths]
        missing = [owners.count(owner) for owner in range(len(asked))]
        with self._progress(len(items), "Scoring windows", disable_tqdm) as bar, self._cache:
            for index, (logprob, _) in score(self.runtime, items):
                owner = owners[index]
                sums[owner] = LogLikelihood(sums[owner] + logprob, sums[owner].stats)
                missing[owner] -= 1
                if not missing[owner]:
                    self._cache.add("loglikelihood_rolling", asked[owner].args, sums[owner])
                bar.update()
        return [sums[place] for place in places]

    def _end_ids(self) -> frozenset[int]:
        ends = getattr(getattr(self.engine.model, "generation_config", None), "eos_token_id", None)
        return frozenset({self.eot_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})

    def _stops(self, goal: Goal) -> StopStrings:
        return StopStrings(goal.until, self._text, self._special, self._think_end)

    def _text(self, ids: list[int], special: bool) -> str:
        return self.tok_decode(ids, skip_special_tokens=not special)

    def _progress(self, total: int, what: str, disable: bool) -> tqdm:
        return tqdm(total=total, desc=what, disable=disable or self.rank != 0)


def is_default_batch_size(batch_size: Any) -> bool:
    """Whether a batch size is the default of lm_eval's command line, and not one that a user gave.

    The default is the number 1, while what a user writes after `--batch_size` arrives as text. From Python, and in a
    file given by `--config`, 1 means one.
    """
    if batch_size != 1 or isinstance(batch_size, str) or "lm_eval._cli" not in sys.modules:
        return False
    arguments = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    arguments.add_argument("--config", "-C")
    file = arguments.parse_known_args(sys.argv[1:])[0].config
    return file is None or "batch_size" not in EvaluatorConfig.load_yaml_config(file)


def _without_gaps(content: Any) -> Any:
    """What a process gathered, with an empty list for every metric of a task of which it asked no row.

    lm_eval looks up the metrics of the first process in what the others send.
    """
    if not isinstance(content, dict):
        return content
    return {task: defaultdict(list, found) if isinstance(found, dict) else found for task, found in content.items()}


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Ids of the tokens that vanish in decoding, by their text: named ones and those that tokenizer.json marks."""
    named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    marked = {str(token.content): number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return {**marked, **named}


@contextmanager
def naming(requests: Sequence[Any]) -> Iterator[None]:
    """Name task and document in an error about logits of one of these requests."""
    try:
        yield
    except NotFinite as error:
        if error.row is None:
            raise
        request = requests[error.row]
        raise JRTError(f"task {request.task_name}, doc_id {request.doc_id}: {error}") from None


def warn_of_empty(answers: Sequence[Answer]) -> None:
    """Say what helps where more than a fifth of the answers are empty."""
    given = [answer.stats for answer in answers if "jrt_empty_answer" in answer.stats]
    empty = [stats for stats in given if stats["jrt_empty_answer"]]
    if len(empty) <= MANY_EMPTY * len(given):
        return
    ended = Counter(stats["jrt_ended"] for stats in empty)
    hints = {
        EOS: "%d began with the end token: an instruct model needs --apply_chat_template",
        STOP: "%d began with a stop string of the task ('until'): --apply_chat_template, or another 'until', may help",
        LENGTH: "%d had only spaces until max_gen_toks: --gen_kwargs max_gen_toks=N gives more tokens",
    }
    said = "; ".join(hints[end] % count for end, count in ended.most_common())
    log.warning("%d of %d answers are empty: %s.", len(empty), len(given), said)
