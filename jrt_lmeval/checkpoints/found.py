"""From what a user wrote behind `pretrained=` to a checkpoint: where it lies, its kind, what it says of itself.

Everything that loads, checks or describes a model takes the `Checkpoint` that is found here, so that a folder is looked
at once. Imports no torch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jrt_lmeval.checkpoints.packaged import PACKAGED, packaged_folder
from jrt_lmeval.errors import JRTError
from jrt_lmeval.modeling import with_prefix
from jrt_lmeval.paths import memories_dir, weights_dir

log = logging.getLogger("lm_eval.jrt")

CONFIG, WEIGHTS, RECIPE = "config.json", "model.safetensors", "recipe.json"

OURS, RETROFIT, HAZY, MAMBA_SSM, TRANSFORMERS = "ours", "retrofit", "hazy", "mamba_ssm", "transformers"
SPECIAL_FLOAT = "__float__"
"""How transformers writes numbers that JSON does not have: `{"__float__": "Infinity"}`."""
MAMBAS = ("mamba", "mamba2", "falcon_mamba")

PLAIN = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.tiktoken")
PICKLED = ("pytorch_model*.bin",)
"""Files of a hub model that are fetched."""
BUSY, WAITS = (429, 500, 502, 503, 504), (1.0, 2.0, 4.0)
"""Answers of the hub that pass, and seconds to wait before each further try."""


@dataclass(frozen=True)
class Checkpoint:
    """A model on disk.

    Attributes:
        name: what it is called in results: the name of a shipped model, or what the user wrote.
        folder: that holds it.
        kind: `ours` (what `jrt-eval train` writes), `retrofit` (memory layers beside a Transformer), `hazy` (JRT, Based
            and the Transformer as Hazy Research released them), `mamba_ssm` (Mamba in mamba-ssm's layout) or
            `transformers`.
        fields: of its config.json; empty for a folder of GGUF files.
    """

    name: str
    folder: Path
    kind: str
    fields: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What logs call it: the name of a shipped model, a hub id, or the last part of a folder."""
        return self.folder.name if Path(self.name).expanduser() == self.folder else self.name

    @property
    def model_type(self) -> str | None:
        """transformers' name of the architecture."""
        return self.fields.get("model_type")

    @property
    def family(self) -> str | None:
        """The `--model` that runs it: `jrt_rnn`, `based`, `mamba` or `hf_recall`; None where the weights must tell."""
        if self.kind == OURS:
            return "jrt_rnn" if with_prefix(self.fields.get("mixers", ())) else "based"
        if self.kind == RETROFIT:
            return "jrt_rnn" if self.fields.get("kernel") == "jrt_rnn" else "based"
        if self.kind == HAZY:
            return None
        return "mamba" if self.kind == MAMBA_SSM or self.model_type in MAMBAS else "hf_recall"


def kind_of(fields: Mapping[str, Any]) -> str:
    """The kind of a model from the fields of its config.json."""
    if fields.get("model_type") == "jrt":
        return OURS
    if fields.get("model_type") == "jrt_retrofit":
        return RETROFIT
    # Hazy Research derived all its configurations from GPT-2's, mamba-ssm's name no model type at all
    nameless = fields.get("model_type") in (None, "gpt2")
    if nameless and "n_layer" in fields and ("d_model" in fields or "ssm_cfg" in fields):
        return MAMBA_SSM
    if "n_embd" in fields and ("mixer" in fields or "alt_mixer" in fields or fields.get("rms_norm") is True):
        return HAZY
    return TRANSFORMERS


def find(pretrained: str | Path, revision: str | None = None, extra: Sequence[str] = ()) -> Checkpoint:
    """The checkpoint that a name stands for: the only way from a name to a model on disk.

    Args:
        pretrained: name of a shipped model, a folder, or a hub id.
        revision: branch, tag or commit of a hub id.
        extra: further files to fetch from the hub; with a GGUF file among them no config.json is needed.

    Raises:
        JRTError: no such folder or hub id, a folder that holds no readable config.json, or a revision of what has
            none.
    """
    name, folder = str(pretrained), Path(pretrained).expanduser()
    packaged = named()
    if revision is not None and (name in packaged or folder.is_dir()):
        raise JRTError(f"revision={revision}: {no_revisions(name)}")
    if name in packaged:
        return opened(packaged[name] or packaged_folder(), name)
    needs_config = not any(file.endswith(".gguf") for file in extra)
    if folder.is_dir():
        return opened(folder, name, needs_config)
    if folder.is_file():
        raise JRTError(f"pretrained={name} is a file; give the folder it lies in (and gguf_file= for a GGUF file).")
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise JRTError(
            f"pretrained={name}: no such folder.{_near(folder, list(packaged))} Give a folder that 'jrt-eval train' "
            "wrote or that holds a Hugging Face model, a hub id (owner/name), or the name of a shipped or packaged "
            f"model ({', '.join(packaged)})."
        )
    return opened(_from_hub(name, revision, extra), name, needs_config)


def no_revisions(name: str) -> str:
    """Why a revision of a model on this machine is refused."""
    return f"{name} is not from the hub and has no revisions; leave revision out, or give a hub id (owner/name)."


def opened(folder: Path, name: str | None = None, needs_config: bool = True) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        JRTError: no config.json where one is needed, or one that is no JSON object; names the file.
    """
    file = folder / CONFIG
    if needs_config and not file.exists():
        raise JRTError(f"{folder}: holds no {CONFIG}; a model folder has {CONFIG}, {WEIGHTS} and tokenizer.json.")
    fields = read_object(file) if file.exists() else {}
    if not isinstance(kind := fields.get("model_type"), str | None):
        raise JRTError(f"{file}: model_type is {kind!r}, which is no str.")
    return Checkpoint(name or str(folder), folder, kind_of(fields), fields)


def read_object(path: Path) -> dict[str, Any]:
    """The fields of a JSON file of a model folder.

    Raises:
        FileNotFoundError: there is none.
        JRTError: it is not a JSON object, it names a field twice, it is nested too deeply, or holds a number that is
            none.
    """

    def once(pairs: Sequence[tuple[str, Any]]) -> Any:
        if len(pairs) == 1 and pairs[0][0] == SPECIAL_FLOAT:
            return float(pairs[0][1])
        names = [name for name, _ in pairs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise JRTError(f"{path}: field {twice!r} stands there twice; only one of them can hold.")
        return dict(pairs)

    try:
        fields = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except JRTError:
        raise
    except (ValueError, TypeError, RecursionError) as error:  # JSON's and Unicode's errors among them
        raise JRTError(f"{path}: not readable as JSON ({error}).") from error
    if not isinstance(fields, dict):
        raise JRTError(
            f"{path}: holds a JSON {type(fields).__name__}; a configuration is an object of names and values."
        )
    return fields


def _near(folder: Path, names: Sequence[str]) -> str:
    """A hint at the nearest of the folders beside it and of other names."""
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    choices = {**{entry.name: str(entry) for entry in beside if entry.is_dir()}, **{name: name for name in names}}
    near = get_close_matches(folder.name, choices, n=1)
    return f" Did you mean {choices[near[0]]!r}?" if near else ""


def _from_hub(name: str, revision: str | None, extra: Sequence[str]) -> Path:
    wanted = [*PLAIN, *extra]
    try:
        folder = _fetched(name, revision, wanted)
        # pickles only where there is nothing better
        if not any(folder.glob("model*.safetensors")) and not any((folder / file).is_file() for file in extra):
            folder = _fetched(name, revision, [*wanted, *PICKLED])
    except Exception as error:  # the hub's client raises a dozen kinds
        raise JRTError(f"pretrained={name}: no folder here, and {_why(error, revision)}") from error
    return folder


def _fetched(name: str, revision: str | None, wanted: list[str]) -> Path:
    """A download, tried again where the hub says that it is busy; what was fetched before is not fetched again."""
    from huggingface_hub import errors, snapshot_download

    for wait in WAITS:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
        except errors.HfHubHTTPError as error:
            if getattr(error.response, "status_code", None) not in BUSY:
                raise
            log.info("%s: the hub is busy, trying again in %g s", name, wait)
            time.sleep(wait)
    return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))


def _why(error: Exception, revision: str | None) -> str:
    """Why the hub gave no model, and what helps, in one line."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return "the hub gives it only to those who accepted its terms: accept them on its page, then set HF_TOKEN."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the hub has no such model, or it is private: check the spelling, or set HF_TOKEN."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the hub's model has no revision {revision!r}: give a branch, a tag or a commit of it."
    if constants.HF_HUB_OFFLINE:
        return "it is not in the hub's cache, and HF_HUB_OFFLINE is set: unset it, or give the folder of a download."
    said = " ".join(str(error).split())
    return f"the hub did not give it ({type(error).__name__}: {said}). Try again, or give the folder of a download."


# ---------------------------------------------------------------- the models that come with the package


def shipped_names() -> list[str]:
    """Names of the shipped models that need no other weights."""
    return list(_models_in(weights_dir()))


def named() -> dict[str, Path | None]:
    """Every name that stands for a model -> its folder: shipped models, shipped memory layers, which stand beside a
    backbone, and the packaged model, whose folder is made on demand (None)."""
    return {**_models_in(weights_dir()), **_models_in(memories_dir()), PACKAGED: None}


def _models_in(shelf: Path) -> dict[str, Path]:
    folders = sorted(shelf.glob("*")) if shelf.is_dir() else []
    return {folder.name: folder for folder in folders if (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()}


def shipped_models() -> dict[str, Checkpoint]:
    """Every shipped model by name."""
    return {name: opened(weights_dir() / name, name) for name in shipped_names()}


def shipped_for(family: str, feature_map: str | None = None) -> Checkpoint:
    """The shipped model of a family and, for `jrt_rnn`, of a feature map.

    Where several fit, the one is meant whose recipe.json names no other role (`"role": "control"`, `"teacher"`).

    Raises:
        JRTError: none fits; says how to train one.
    """
    shipped = shipped_models()
    for model in shipped.values():
        if model.family == family and feature_map in (None, model.fields.get("feature_map")):
            recipe = model.folder / RECIPE
            if not recipe.is_file() or read_object(recipe).get("role", "default") == "default":
                return model
    listed = ", ".join(shipped) or "none"
    if family not in ("jrt_rnn", "based"):
        raise JRTError(
            f"--model {family} needs a checkpoint: --model_args pretrained=FOLDER (or a hub id); none of its kind "
            f"comes with the package (shipped: {listed})."
        )
    wanted = f"feature_map={feature_map}" if family == "jrt_rnn" else family
    train = f"--feature-map {feature_map}" if family == "jrt_rnn" else f"--model {family}"
    raise JRTError(
        f"no trained weights for {wanted} come with the package (shipped: {listed}). Train them with "
        f"'jrt-eval train {train} --out DIR' and give pretrained=DIR, or ask for untrained weights by name with "
        "init=random (chance level, for tests of the machinery only)."
    )
