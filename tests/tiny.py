"""Tiny random models and a tokenizer for tests of the adapters; nothing here needs a network."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from transformers import (
    BambaConfig,
    BambaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from jrt_lmeval.modeling.config import JRTConfig
from jrt_lmeval.modeling.model import JRTForCausalLM
from jrt_lmeval.prompts import Prompt
from jrt_lmeval.training.rows import train_tokenizer
from model_adapters.engines.hf import HFEngine
from model_adapters.engines.jrt import JRTEngine
from model_adapters.lm import RecallLM

END = "<|endoftext|>"
WORDS = "Director Runtime Budget Country Genre the of was born in Ashgrove Maine 1994 42 minutes café 東京 😀".split()
VOCAB = 320
WRITTEN_VOCAB = 262


@lru_cache(maxsize=1)
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 tokens: common pieces of WORDS, every byte, end of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([" ".join(WORDS)] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=END)
    fast.name_or_path = "tiny"
    return fast


def _wild(model: torch.nn.Module) -> Any:
    # Far larger weights than an initialisation would draw, so that every token matters and no logits tie.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.2, generator=generator)
    return model.eval()


_DECODER: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": None, "eos_token_id": 0,
}  # fmt: skip


def llama() -> LlamaForCausalLM:
    return _wild(LlamaForCausalLM(LlamaConfig(**_DECODER)))


def mistral() -> MistralForCausalLM:
    return _wild(MistralForCausalLM(MistralConfig(**_DECODER, sliding_window=16)))


def mamba() -> MambaForCausalLM:
    config = MambaConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=4, bos_token_id=None, eos_token_id=0
    )
    return _wild(MambaForCausalLM(config))


def mamba2() -> Mamba2ForCausalLM:
    config = Mamba2Config(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=3, state_size=16, num_heads=4, head_dim=16, n_groups=1,
        chunk_size=8, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    return _wild(Mamba2ForCausalLM(config))


def hybrid() -> BambaForCausalLM:
    """Mamba-2 layers and one of full attention."""
    config = BambaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8,
        mamba_n_groups=1, mamba_chunk_size=8, bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    return _wild(BambaForCausalLM(config))


def jrt(mixers: tuple[str, ...] = ("conv", "prefix_linear", "swa"), **changes: Any) -> JRTForCausalLM:
    options = {"feature_dim": 8, "window": 16, "context_length": 4096, **changes}
    config = JRTConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_heads=2, mixers=mixers, **options)
    return _wild(JRTForCausalLM(config))


def engine(kind: str) -> Any:
    """An engine around a tiny model, the same at every call: one of ENGINES."""
    torch.manual_seed(0)  # Mamba draws its biases too
    if kind == "jrt":
        return JRTEngine(jrt())
    if kind == "based":
        return JRTEngine(jrt(("conv", "linear", "swa")))
    if kind == "attention":
        return JRTEngine(jrt(("prefix_linear", "attention")))
    return HFEngine({"llama": llama, "mistral": mistral, "mamba": mamba, "mamba2": mamba2, "hybrid": hybrid}[kind]())


ENGINES = ("llama", "mistral", "mamba", "mamba2", "hybrid", "jrt", "based", "attention")


def lm(kind: str, **options: Any) -> RecallLM:
    return RecallLM(engine(kind), tokenizer(), **options)


def save(model: Any, folder: Path) -> str:
    """Write a checkpoint with its tokenizer; returns the folder."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def write_model(folder: Path, mixers: tuple[str, ...] = ("conv", "prefix_linear"), feature_map: str = "mlp") -> Path:
    """A model folder as `jrt-eval train` writes it, with a tokenizer of its own."""
    torch.manual_seed(0)
    config = JRTConfig(
        vocab_size=WRITTEN_VOCAB,
        hidden_size=16,
        intermediate_size=24,
        num_heads=2,
        feature_dim=4,
        mixers=mixers,
        feature_map=feature_map,
    )
    JRTForCausalLM(config).save_pretrained(folder)
    train_tokenizer(["of the of the"], WRITTEN_VOCAB).save_pretrained(folder)
    return folder


def text(seed: int, words: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def prompts(documents: int = 3, questions: int = 3) -> list[Prompt]:
    """Prompts of uneven length; questions on one document come one after the other's turn, not side by side."""
    found = []
    for question in range(questions):
        for number in range(documents):
            document = text(number, 7 + 11 * number)
            stem = f"{' '.join(WORDS[question : question + 1 + question])}:"
            found.append(Prompt(f"{document} {stem}", 0, len(document), document))
    return found


def ask(context: str, **kwargs: Any) -> Instance:
    arguments = (context, {"until": ["\n"], "max_gen_toks": 8, **kwargs})
    return Instance(request_type="generate_until", doc={}, arguments=arguments, idx=0, metadata=("t", 0, 1))


def choose(context: str, continuation: str) -> Instance:
    arguments = (context, continuation)
    return Instance(request_type="loglikelihood", doc={}, arguments=arguments, idx=0, metadata=("t", 0, 1))


def whole(content: str) -> Instance:
    return Instance(request_type="loglikelihood_rolling", doc={}, arguments=(content,), idx=0, metadata=("t", 0, 1))


def plain_loop(lm, prompt, steps=8):
    """The readable truth: the whole row again for every token, a batch of one, no state."""
    row = lm.runtime.prepared([lm.encoder.row(0, prompt)])[0]
    ids, found = list(row.ids), []
    for _ in range(steps):
        logits, _ = lm.engine.prefill([ids], [row.choice.length])
        token = int(logits[0, : lm._vocabulary].argmax())
        if token == lm.eot_token_id:
            break
        ids.append(token)
        found.append(token)
        if "\n" in lm.tok_decode(found):
            break
    return lm.tok_decode(found).split("\n")[0]
