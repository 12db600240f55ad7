"""A byte-level BPE of our own for the small models: few tokens, digits one by one, every text round-trips."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from jrt_lmeval.checkpoints.tokenizers import gpt2

END_OF_TEXT, MASK = "<|endoftext|>", "<|mask|>"
PUBLISHED_ROWS = 50_264


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train the BPE.

    Args:
        texts: training texts (never test documents).
        vocab_size: tokens in all, the two special ones (end of text, mask) and the 256 bytes included.

    Returns:
        A tokenizer that adds no special tokens by itself.
    """
    tokenizer = Tokenizer(models.BPE())
    # digits one by one: a number is then copied, not recalled as a unit
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
    )


def masking_gpt2() -> PreTrainedTokenizerFast:
    """GPT-2's tokenizer with a mask token, at the id that the published models mask with (50,263, the last padded row).

    Raises:
        JRTError: the vocabulary is not installed.
    """
    tokenizer = gpt2()
    unused = [f"<|unused{i}|>" for i in range(PUBLISHED_ROWS - 1 - len(tokenizer))]
    tokenizer.add_special_tokens({"additional_special_tokens": unused})
    tokenizer.add_special_tokens({"mask_token": MASK, "pad_token": tokenizer.eos_token})
    return tokenizer
