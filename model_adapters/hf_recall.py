"""`--model hf_recall`: any Hugging Face causal language model, with this package's batching, reuse and figures."""

from __future__ import annotations

from typing import Any, ClassVar

from jrt_lmeval.checkpoints.found import HAZY, OURS, RETROFIT, Checkpoint, find, no_revisions, shipped_for
from jrt_lmeval.checkpoints.load import load_model
from jrt_lmeval.checkpoints.tokenizers import find_tokenizer
from jrt_lmeval.errors import JRTError
from model_adapters.engines.hf import HFEngine
from model_adapters.engines.kv_window import WindowEngine, WindowOptions
from model_adapters.lm import RecallLM
from model_adapters.options import RunOptions, one_source


class HFRecall(RecallLM):
    """A Llama-like (or any other) baseline for lm_eval.

    Args:
        pretrained: a folder, a hub id or the name of a shipped model; by default the shipped Llama.
        path: the same as `pretrained`.
        revision: branch, tag or commit on the hub.
        gguf_file: name of a GGUF file in `pretrained`.
        peft: folder or hub id of an adapter of the package peft (LoRA and the like), put into the model.
        device_map: passed to transformers, such as `auto` to spread a model over GPUs.
        trust_remote_code: run code that comes with the checkpoint. Only for checkpoints you have read.
        kv_window: every token sees itself, the `kv_window - 1` tokens before it and the first `kv_sinks` tokens, and
            the state keeps no more; positions stay those of the whole text. For plain softmax attention only.
        kv_sinks: first tokens that stay; 4 with a window.
        kv_bytes: instead of `kv_window`, the bytes that the state of a row may take, sinks included.
        **options: see `model_adapters.options.RunOptions`.

    Raises:
        JRTError: for anything unknown or missing, and for a checkpoint that does not fill the model.
    """

    family: ClassVar[str] = "hf_recall"

    def __init__(
        self,
        pretrained: str | None = None,
        path: str | None = None,
        revision: str | None = None,
        gguf_file: str | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        kv_window: int | None = None,
        kv_sinks: int | None = None,
        kv_bytes: int | None = None,
        peft: str | None = None,
        **options: Any,
    ):
        restriction = WindowOptions(kv_window, kv_sinks, kv_bytes)
        run = RunOptions.read(type(self).__init__, options)
        source = one_source(pretrained, path)
        if source is None and revision is not None:
            raise JRTError(f"revision={revision}: {no_revisions('the shipped model')}")
        extra = [*([gguf_file] if gguf_file else []), *(["*.py"] if trust_remote_code else [])]
        checkpoint = shipped_for(self.family) if source is None else find(source, revision, extra)
        self.check_family(checkpoint)
        hardware = run.hardware()
        loading: dict[str, Any] = {"gguf_file": gguf_file, "trust_remote_code": trust_remote_code or None}
        model = load_model(checkpoint, hardware.dtype, hardware.device, device_map=device_map, **loading)
        if peft is not None:
            model = with_adapter(model, str(peft))
        tokenizer = find_tokenizer(
            checkpoint, run.tokenizer, **({} if run.tokenizer else {**loading, "add_bos_token": run.add_bos_token})
        )
        description: dict[str, Any] = {"pretrained": checkpoint.name, "revision": revision, "gguf_file": gguf_file}
        description |= {"init": "trained", **({"peft": str(peft)} if peft is not None else {})}
        engine = WindowEngine(model, restriction) if restriction.given else HFEngine(model)
        if isinstance(engine, WindowEngine):
            description |= {"kv_window": engine.kv_window.size, "kv_sinks": engine.kv_window.sinks}
        super().__init__(engine, tokenizer, description=description, **run.run_arguments(hardware))

    def check_family(self, checkpoint: Checkpoint) -> None:
        """Raise JRTError where another adapter runs the checkpoint, and name it."""
        if checkpoint.kind == HAZY:
            raise JRTError(
                f"pretrained={checkpoint.name!r} is a released JRT, Based or attn checkpoint; use --model jrt_rnn."
            )
        if checkpoint.kind in (OURS, RETROFIT):
            raise JRTError(
                f"pretrained={checkpoint.name!r} is a model of this package; use --model {checkpoint.family}."
            )


def with_adapter(model: Any, source: str) -> Any:
    """The model with an adapter of the package peft in its layers.

    Raises:
        JRTError: peft is not installed, the adapter cannot be read or is of another model, or it puts learned vectors
            before the prompt instead of changing layers.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise JRTError(f"peft={source} needs the package peft: pip install peft") from error
    try:
        adapted = PeftModel.from_pretrained(model, source)
    except Exception as error:  # what peft, the hub and torch raise has no common class
        reason = " ".join(str(error).split())[:300]
        raise JRTError(f"peft={source} cannot be put into {type(model).__name__}: {reason}") from error
    if adapted.active_peft_config.is_prompt_learning:
        raise JRTError(
            f"peft={source} puts learned vectors before the prompt, and a state that prompts share cannot hold them; "
            "lm_eval's own --model hf runs it."
        )
    return adapted.get_base_model().eval()
