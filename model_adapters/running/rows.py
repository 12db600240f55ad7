"""From lm_eval's requests to rows of token ids, with where the document ends and where generation stops."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

from jrt_lmeval.errors import JRTError, unknown
from jrt_lmeval.prefix import PrefixChoice
from jrt_lmeval.prompts import Prompt
from model_adapters.engines.checkup import appended

log = logging.getLogger("lm_eval.jrt")

DEFAULT_MAX_GEN_TOKS = 256
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Each with the values that mean greedy decoding; they are allowed because many task files spell them out.
GREEDY_VALUES: dict[str, tuple[Any, ...]] = {
    "do_sample": (False, None),
    "temperature": (0, 0.0, None),
    "top_p": (1, 1.0, None),
    "top_k": (0, 1, None),
    "num_beams": (1, None),
}


@dataclass(frozen=True)
class Goal:
    """Generate until one of `until` appears in the text, or for `max_gen_toks` tokens."""

    until: tuple[str, ...] = ()
    max_gen_toks: int = DEFAULT_MAX_GEN_TOKS


def read_goal(kwargs: Mapping[str, Any]) -> Goal:
    """Read a task's `generation_kwargs` (and `--gen_kwargs`).

    Raises:
        JRTError: for an unknown name, for sampling or beams, and for a length below 1.
    """
    known = ("until", *LENGTH_NAMES, *GREEDY_VALUES)
    for name in kwargs:
        if name not in known:
            raise unknown("generation argument", name, known)
    # With do_sample=False written out, temperature and the like have no effect anywhere in the harness.
    names = ("do_sample", "num_beams") if kwargs.get("do_sample") is False else GREEDY_VALUES
    for name in names:
        if name in kwargs and kwargs[name] not in GREEDY_VALUES[name]:
            raise JRTError(
                f"generation_kwargs: {name}={kwargs[name]!r} asks for more than greedy decoding, which is all these "
                "models offer; use do_sample=False without beams."
            )
    until = kwargs.get("until") or ()
    if not isinstance(until, (str, list, tuple)):
        raise JRTError(f"generation_kwargs: until={until!r} must be text or a list of texts, such as ['\\n'].")
    until = (until,) if isinstance(until, str) else tuple(until)
    for stop in until:
        if not isinstance(stop, str):
            raise JRTError(f"generation_kwargs: until={stop!r} must be text; write {str(stop)!r} in quotes.")
    length = next((kwargs[name] for name in LENGTH_NAMES if kwargs.get(name) is not None), DEFAULT_MAX_GEN_TOKS)
    if isinstance(length, bool) or not isinstance(length, (int, float)) or int(length) != length or length < 1:
        raise JRTError(f"generation_kwargs: max_gen_toks={length!r} must be a whole number of at least 1.")
    return Goal(tuple(stop for stop in until if stop), int(length))


NOT_CHOSEN = PrefixChoice(0, 0.0)


@dataclass(frozen=True)
class PromptRow:
    """One context, ready to run.

    Attributes:
        index: its place among the requests.
        ids: tokens of the context.
        document_end: how many of them reach up to the end of the last copy of the document.
        document_ids: tokens of the document itself (one copy), for its entropy.
        goal: where generation stops; None for scoring.
        continuation: tokens that are scored after the context; empty for generation.
        choice: prefix length M and entropy H; set by `Runtime.prepared`, as what follows.
        truncated: tokens cut off on the left.
        skipped: not run at all, because it is too long.
        document_start: how many tokens stand before the document.
        chunk: which chunk of its document is read (`chunks_of`); 0 where it is read whole.
        drafted: figures of the drafts by which the prefix was chosen (`running.drafts`).
        draft_seconds: spent on them.
    """

    index: int
    ids: list[int]
    document_end: int
    document_ids: list[int]
    goal: Goal | None = None
    continuation: Sequence[int] = ()
    choice: PrefixChoice = NOT_CHOSEN
    truncated: int = 0
    skipped: bool = False
    document_start: int = 0
    chunk: int = 0
    drafted: Mapping[str, int | float | str] = field(default_factory=dict)
    draft_seconds: float = 0.0

    @property
    def room(self) -> int:
        """Tokens that the model reads after the context: what it generates, or all but the last of what it scores."""
        return self.goal.max_gen_toks if self.goal else max(0, len(self.continuation) - 1)


class Encoder:
    """Turns prompts into rows; documents that many prompts share are tokenised once.

    Args:
        tokenizer: a Hugging Face tokenizer.
        add_bos_token: whether texts start with the tokenizer's BOS; None leaves it to the tokenizer.
        rows: tokens that the model embeds.

    Raises:
        JRTError: the tokenizer has neither BOS nor EOS.
    """

    def __init__(self, tokenizer: Any, add_bos_token: bool | None, rows: int):
        self.tokenizer, self.rows = tokenizer, rows
        self._appended = appended(tokenizer)
        if self._appended:
            log.warning(
                "the tokenizer appends %r to every text: prompts are read without it, since a model answers nothing "
                "that means anything after an end token.",
                tokenizer.decode(self._appended),
            )
        first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        if first is None:
            raise JRTError("the tokenizer has neither a BOS nor an EOS token; one of them must be set in its files.")
        self.first_id: int = first
        self.add_bos_token = add_bos_token
        self._document_ids = lru_cache(maxsize=1024)(partial(self.ids, add_special_tokens=False))
        self._said_plain = False

    def special(self, text: str, add_special_tokens: bool | None = None) -> dict[str, bool]:
        """What to tell the tokenizer about special tokens: as lm_eval's `hf` model, no second BOS before a BOS."""
        bos = self.tokenizer.bos_token
        if add_special_tokens is None and bos and text.startswith(bos):
            return {"add_special_tokens": False}
        chosen = self.add_bos_token if add_special_tokens is None else add_special_tokens
        return {} if chosen is None else {"add_special_tokens": chosen}

    def ids(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """Token ids of a text, without what a tokenizer appends to it.

        Raises:
            JRTError: one of them has no row in the model's embedding.
        """
        special = self.special(text, add_special_tokens)
        return self._checked(self.tokenizer.encode(text, **special), special)

    def _checked(self, ids: Sequence[int], special: dict[str, bool]) -> list[int]:
        kept = list(ids)
        if self._appended and special.get("add_special_tokens", True):
            kept = kept[: len(kept) - len(self._appended)]
        if kept and (highest := max(kept)) >= self.rows:
            raise JRTError(
                f"a text needs the token {self.tokenizer.convert_ids_to_tokens(highest)!r} (id {highest}), and the "
                f"model embeds {self.rows} tokens: it was not trained with this one. Take it out of the text, or give "
                "the tokenizer that the model was trained with (tokenizer= in the model arguments)."
            )
        return kept

    def row(self, index: int, text: str, ids: list[int] | None = None, goal: Goal | None = None) -> PromptRow:
        """A row for a context; `ids` are its tokens where the caller has them already.

        A `Prompt` says where its document ends. In a plain string (few-shot, chat
        templates, other people's tasks) the whole context counts as the document.
        """
        if not isinstance(text, Prompt):
            if not self._said_plain and text:
                self._said_plain = True
                log.info("plain prompts do not say where their document ends: the whole prompt counts as the document.")
            ids = (self.ids(text) or [self.first_id]) if ids is None else ids
            return PromptRow(index, ids, len(ids), ids, goal)
        found, start, end = self._with_document(text)
        ids = found if ids is None else ids
        document_ids = self._document_ids(text.document or text)
        return PromptRow(index, ids, min(end, len(ids)), document_ids, goal, document_start=start)

    def read_characters(self, text: str, row: PromptRow) -> dict[str, int]:
        """Which characters of a row's text were cut off and which lie in its prefix, where the tokenizer tells.

        Returns:
            `jrt_truncated_characters`, those before the first token that was read, of a row that was cut; and
            `jrt_prefix_characters`, those up to the end of the prefix, what was cut included.
        """
        cut, end = row.truncated, row.truncated + row.choice.length
        if not cut and row.choice.length in (0, len(row.ids)):  # known without tokenising again
            return {"jrt_prefix_characters": len(text) if row.choice.length else 0}
        if not self.tokenizer.is_fast:
            return {}
        places = self.tokenizer(str(text), return_offsets_mapping=True, **self.special(text))["offset_mapping"]
        last = places[end - 1][1] if row.choice.length else places[cut][0]
        return {**({"jrt_truncated_characters": places[cut][0]} if cut else {}), "jrt_prefix_characters": last}

    def _with_document(self, prompt: Prompt) -> tuple[list[int], int, int]:
        """Tokens of a prompt, and at which of them its document starts and ends."""
        places = (prompt.document_start, prompt.document_end)
        if not self.tokenizer.is_fast:
            ids, heads = self.ids(prompt), [self.ids(prompt[:place]) for place in places]
            start, end = (next((i for i, one in enumerate(h) if ids[i : i + 1] != [one]), len(h)) for h in heads)
            return ids, start, end
        # str(): a tokenizer may look at the type of what it is given
        special = self.special(prompt)
        encoded = self.tokenizer(str(prompt), return_offsets_mapping=True, **special)
        ids = self._checked(encoded["input_ids"], special)
        ends = [end for _, end in encoded["offset_mapping"][: len(ids)]]
        start, end = (next((i for i, end in enumerate(ends) if end > place), len(ends)) for place in places)
        return ids, start, end


def chunks_of(row: PromptRow, size: int) -> list[PromptRow]:
    """A prompt as one row for each chunk of its document, with all that stands before and after the document.

    Args:
        row: the prompt.
        size: the most tokens of a chunk; the lengths of all chunks differ by one at most.

    Raises:
        JRTError: nothing stands after the document, or nobody said where it ends.
    """
    start, end = row.document_start, row.document_end
    if end == len(row.ids):
        raise JRTError(
            f"chunk_tokens={size} reads each chunk of a document with its question, and this prompt does not say where "
            "its document ends (few-shot examples, chat templates and other people's tasks do not). Leave it out."
        )
    count = max(1, -(-(end - start) // size))
    cuts = [start + number * (end - start) // count for number in range(count + 1)]
    found = []
    for chunk, (first, last) in enumerate(pairwise(cuts)):
        head = [*row.ids[:start], *row.ids[first:last]]
        ids = [*head, *row.ids[end:]]
        found.append(replace(row, ids=ids, document_end=len(head), document_ids=row.ids[first:last], chunk=chunk))
    return found
