"""What all models here share towards lm_eval: requests in, answers out, in the order they were asked."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
import torch.distributed as dist
from lm_eval.api.model import TemplateLM
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window, simple_parse_args_string
from tqdm import tqdm

from jrt_lmeval import __version__
from jrt_lmeval.checkpoints.tokenizers import known_ids, warn_of_misfit
from jrt_lmeval.errors import JRTError, whole_number
from jrt_lmeval.paths import MODEL, require_writable_output
from jrt_lmeval.prefix import PrefixPolicy
from model_adapters.engines.checkup import checkup, table
from model_adapters.engines.engine import Engine
from model_adapters.options import Place, RunOptions
from model_adapters.request_cache import RequestCache, tokenizer_digest, weights_digest
from model_adapters.running.batching import Budget, batches
from model_adapters.running.drafts import with_drafts
from model_adapters.running.generation import EOS, LENGTH, STOP, Generator, StopStrings
from model_adapters.running.rows import Encoder, Goal, PromptRow, chunks_of, read_goal
from model_adapters.running.runtime import Answer, LogLikelihood, NotFinite, Runtime, Totals, machine
from model_adapters.running.saved import SavedStates

log = logging.getLogger("lm_eval.jrt")

MANY_EMPTY = 0.2
"""Share of empty answers above which a warning says what helps."""


class RecallLM(TemplateLM):
    """An lm_eval model made of an engine and a tokenizer.

    Args:
        engine: the model.
        tokenizer: a Hugging Face tokenizer.
        policy: how the prefix length of a prompt is chosen; always `none` for engines without a prefix.
        budget: what a batch may hold; by default as `batch_size` says.
        place: this process among those that share the work; by default it is alone.
        description: facts for the results file (`get_model_info()["jrt"]`) and the cache's fingerprint.
        run: how to run; or the fields of `RunOptions` as `options`.

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
        place: Place | None = None,
        description: dict[str, Any] | None = None,
        run: RunOptions | None = None,
        **options: Any,
    ):
        super().__init__()
        run = run or RunOptions(**options)
        self.engine, self.tokenizer, self._device = engine, tokenizer, engine.device
        self._rank, self._world_size = (place.rank, place.size) if place else (0, 1)
        self.policy = policy if policy and engine.has_prefix else PrefixPolicy("none")
        self.description = dict(description or {})
        model: Any = engine.model
        rows = model.get_input_embeddings().weight.shape[0]
        warn_of_misfit(tokenizer, rows)
        self._vocabulary = known_ids(tokenizer, rows)
        self.encoder = Encoder(tokenizer, run.add_bos_token, rows)
        self._max_length = checked_length(run.max_length, engine)
        # a recurrent model has no limit of its own, but a fixed prefix beyond any row it was trained on is a mistake
        self.policy.check_context(self._max_length or engine.trained_length)
        budget = budget or run.budget(engine.device)
        self.runtime = Runtime(engine, self.policy, budget, self._max_length, run.on_overflow)
        end = run.think_end_token
        self._template, self._think_end = run.template, int(end) if isinstance(end, str) and end.isdigit() else end
        self._chunk_tokens = run.chunk_tokens
        self._special = special_tokens(tokenizer)
        reuse = run.reuse and not run.latency
        saved = SavedStates(run.state_dir, self.fingerprint) if run.state_dir else None
        self._generator = Generator(self.runtime, self._stops, self._end_ids(), self._vocabulary, reuse, saved)
        self._latency = self._cold = run.latency
        self._checks = list(checkup(engine, tokenizer)) if run.doctor else []
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
        made = cls(**{**common, **arg_dict})
        MODEL.set((dict(arg_dict), made.tokenizer))
        return made

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
            "jrt": {
                **facts,
                **totals.summary(),
                **({"doctor": list(map(asdict, self._checks))} if self._checks else {}),
            },
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
            **({} if self._chunk_tokens is None else {"chunk_tokens": self._chunk_tokens}),
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
        """A tensor of every process, one behind the other along the first dimension (scalars become a vector)."""
        if self.world_size == 1:
            return tensor
        tensor = tensor[None] if tensor.dim() == 0 else tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """The objects of all processes on process `dst`, None on the others.

        The totals travel along: with a request cache a process may have nothing to run, so that a collective of our own
        inside generate_until could wait for it forever.
        """
        found: list[Any] = [(obj, self.runtime.totals)]
        if self.world_size > 1:
            mine, found = found[0], [None] * self.world_size
            dist.gather_object(mine, found if self.rank == dst else None, dst=dst)
            if self.rank != dst:
                return None
        self._other_totals = [totals for rank, (_, totals) in enumerate(found) if rank != self.rank]
        return [_without_gaps(content) for content, _ in found]

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()

    # Requests

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations as `Answer` objects, in the order of the requests."""
        asked, places = without_repeats(requests)
        goals = [read_goal(request.args[1]) for request in asked]
        rows = [
            self.encoder.row(index, request.args[0], goal=goal)
            for index, (request, goal) in enumerate(zip(asked, goals, strict=True))
        ]
        answers: list[Answer] = [Answer("")] * len(rows)
        run = self._generator.run
        if self._chunk_tokens is not None:
            rows = [chunk for row in rows for chunk in chunks_of(row, self._chunk_tokens)]
            run = self._generator.run_chunks
        rows = self.runtime.prepared(rows)
        if self.policy.policy == "answer":
            rows = with_drafts(self._generator, rows)
        if self._cold:
            self._cold = False
            counted, self.runtime.sums = self.runtime.sums, Totals()
            deque(self._generator.run(rows[:1]), maxlen=0)
            self.runtime.sums = counted
        with self._progress(len(answers), "Generating", disable_tqdm) as bar, self._cache:
            try:
                for row, answer in run(rows):
                    answers[row.index] = answer
                    if not row.skipped and self._chunk_tokens is None:
                        answer.stats |= self.encoder.read_characters(asked[row.index].args[0], row)
                    self._cache.add("generate_until", asked[row.index].args, answer)
                    bar.update()
            except NotFinite as error:
                if error.row is None:
                    raise
                request = asked[error.row]
                raise JRTError(f"task {request.task_name}, doc_id {request.doc_id}: {error}") from None
        warn_of_empty(answers)
        return [answers[place] for place in places]

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        rows = []
        for index, ((context, text), context_ids, continuation) in enumerate(requests):
            if not continuation or not context_ids:
                missing = "context before" if continuation else "token of its own in"
                raise JRTError(f"there is no {missing} the continuation {text!r}; the task must offer a longer one.")
            rows.append(replace(self.encoder.row(index, context, context_ids), continuation=continuation))
        if self._template.get("enable_thinking"):
            raise JRTError("enable_thinking=True is for tasks that generate; this one scores a given text.")
        self._require_whole()
        results = [(0.0, False)] * len(rows)
        with self._progress(len(rows), "Scoring", disable_tqdm) as bar, self._cache:
            for index, result in self._scored(rows):
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
        """Log-likelihood of whole texts as `LogLikelihood` objects, which know how many tokens they are about.

        Every token is scored once, as lm_eval does with one token of context: the first window follows BOS or end of
        text, which is never scored itself, and the last one is filled up with as much context as fits.
        """
        self._require_whole()
        asked, places = without_repeats(requests)
        rows: list[PromptRow] = []
        owners: list[int] = []
        sums: list[LogLikelihood] = []
        for owner, request in enumerate(asked):
            # the text is the last argument; lm_eval 0.5 puts an empty context before it
            ids = self.tok_encode(request.args[-1], add_special_tokens=False)
            sums.append(LogLikelihood(0.0, {"jrt_scored_tokens": len(ids)}))
            limit = self.max_length or max(1, len(ids))
            for pair in get_rolling_token_windows(ids, self.prefix_token_id, limit, context_len=1):
                context, continuation = make_disjoint_window(pair)
                rows.append(PromptRow(len(rows), context, len(context), context, continuation=continuation))
                owners.append(owner)
        missing = Counter(owners)
        with self._progress(len(rows), "Scoring windows", disable_tqdm) as bar, self._cache:
            for index, (logprob, _) in self._scored(rows):
                owner = owners[index]
                sums[owner] = LogLikelihood(sums[owner] + logprob, sums[owner].stats)
                missing[owner] -= 1
                if not missing[owner]:
                    self._cache.add("loglikelihood_rolling", asked[owner].args, sums[owner])
                bar.update()
        return [sums[place] for place in places]

    def _scored(self, rows: Sequence[PromptRow]) -> Iterator[tuple[int, tuple[float, bool]]]:
        """Score continuations: `(index, (sum of log-probabilities, whether greedy decoding would produce it))` as they
        are finished, in any order; rows that were skipped for their length get minus infinity.

        Raises:
            NotFinite: the logits are not finite.
        """
        runtime, asked = self.runtime, self.runtime.prepared(rows)
        for row in asked:
            if row.skipped:
                yield row.index, (float("-inf"), False)
        asked = [row for row in asked if not row.skipped]
        for batch in batches([len(row.ids) + len(row.continuation) for row in asked], runtime.budget):
            chosen = [asked[place] for place in batch]
            texts = [[*row.ids, *row.continuation] for row in chosen]
            prefixes, starts = [row.choice.length for row in chosen], [len(row.ids) for row in chosen]
            with runtime.running():
                scores = self.engine.score(texts, prefixes, starts)
            runtime.lap()
            runtime.sums.prompt_tokens_computed += sum(starts)
            runtime.sums.count(chosen)
            broken = None
            for row, result in zip(chosen, scores, strict=True):
                if bool(result.logprobs.isnan().any()):
                    broken = broken or NotFinite(row.index, "while it was scored")
                    continue
                yield row.index, (float(result.logprobs.double().sum()), bool(result.greedy.all()))
            if broken is not None:
                raise broken

    def _require_whole(self) -> None:
        if self._chunk_tokens is not None:
            raise JRTError("chunk_tokens is for tasks that generate; this one scores a given text.")
        if self.policy.policy == "answer":
            raise JRTError("prefix=answer drafts an answer, and this task scores a given text: use another prefix.")

    def _end_ids(self) -> frozenset[int]:
        ends = getattr(getattr(self.engine.model, "generation_config", None), "eos_token_id", None)
        return frozenset({self.eot_token_id, *(ends if isinstance(ends, list) else [ends])} - {None})

    def _stops(self, goal: Goal) -> StopStrings:
        return StopStrings(goal.until, self._text, self._special, self._think_end)

    def _text(self, ids: list[int], special: bool) -> str:
        return self.tok_decode(ids, skip_special_tokens=not special)

    def _progress(self, total: int, what: str, disable: bool) -> tqdm:
        return tqdm(total=total, desc=what, disable=disable or self.rank != 0)


def checked_length(asked: int | None, engine: Engine) -> int | None:
    """The context length in tokens of a run: what was asked for (`max_length`), by default the model's own.

    A user may go beyond the length that the model was made for, and is warned.

    Raises:
        JRTError: `asked` is no number of tokens, or more than the model stores positions for.
    """
    if asked is None:
        return engine.max_length
    whole_number("max_length", asked, 2)
    if engine.table_length is not None and asked > engine.table_length:
        raise JRTError(
            f"max_length={asked}: the model stores a vector for each of {engine.table_length} positions and has none "
            f"beyond them; max_length can be at most {engine.table_length}."
        )
    if engine.max_length is not None and asked > engine.max_length:
        log.warning(
            "max_length=%d is more than the %d tokens that the model's positions were made for. Longer prompts are "
            "read, and answers to them may mean little.",
            *(asked, engine.max_length),
        )
    return asked


def without_repeats(requests: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The requests to run, and for every request its place among them.

    With several processes lm_eval hands out the last request of a process again until all have as many, and a request
    with `repeats` so many times, always right after itself.
    """
    asked: list[Any] = []
    places = []
    for request in requests:
        if not asked or request is not asked[-1]:
            asked.append(request)
        places.append(len(asked) - 1)
    return asked, places


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
