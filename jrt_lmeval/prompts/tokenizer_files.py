"""The one door to tokenizers that lie in files: a folder's, or a hub model's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jrt_lmeval.errors import JRTError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def read_tokenizer(source: str, why: str, how: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder or of a hub model.

    Args:
        source: the folder or the hub id.
        why: why it is wanted, for the message.
        how: how to give another, for the message.
        **options: of transformers' `from_pretrained`.

    Raises:
        JRTError: there is none, or it cannot be read; the message says how to get it.
    """
    from transformers import AutoTokenizer

    if source.startswith(("/", ".", "~")) and not Path(source).expanduser().is_dir():
        raise JRTError(f"{why}: {source} is no folder. To name another, {how}.")
    try:
        return AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:  # the tokenizers library raises bare exceptions, transformers and the hub many kinds
        raise JRTError(
            f"{why}: no tokenizer could be read from {source} ({' '.join(str(error).split())[:200]}). "
            f"Where there is a network, 'hf download {source} --include \"tokenizer*\" --local-dir DIR' fetches it; "
            f"then {how}."
        ) from error
