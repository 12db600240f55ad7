"""From tensors to a model: every parameter filled, every tensor used, no second copy in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from jrt_lmeval.errors import JRTError

Model = TypeVar("Model", bound=PreTrainedModel)
HEAD = "lm_head.weight"
LISTED = 20


def require_whole(
    source: object, not_filled: Iterable[str] = (), not_used: Iterable[str] = (), misshapen: Iterable[str] = ()
) -> None:
    """Refuse a checkpoint that does not fit its configuration: a model that is partly random would still answer.

    Raises:
        JRTError: any of the three lists names something; all of it is named.
    """
    faults = {"not filled": not_filled, "not used": not_used, "of another shape": misshapen}
    found = {what: sorted(names) for what, names in faults.items()}
    if any(found.values()):
        listed = "; ".join(f"{what}: {_some(names)}" for what, names in found.items() if names)
        raise JRTError(
            f"{source}: the weights do not fit config.json ({listed}). A half-filled model is never evaluated: check "
            "that the checkpoint is complete and that its model_type is right."
        )


def require_report(source: object, report: Mapping[str, Iterable[Any]]) -> None:
    """The same check of transformers' report on loading."""

    def names(key: str) -> list[str]:
        return [str(name[0] if isinstance(name, (tuple, list)) else name) for name in report.get(key) or ()]

    require_whole(source, names("missing_keys"), names("unexpected_keys"), names("mismatched_keys"))


def require_finite(source: object, model: torch.nn.Module) -> None:
    """Refuse weights that hold NaN or infinity: every answer would be nonsense and score 0 without a word.

    Raises:
        JRTError: names them.
    """
    # a feature map's random projection is a buffer; what `device_map` left on disk is looked at when it answers
    held = [*model.named_parameters(), *model.named_buffers()]
    floats = ((name, tensor) for name, tensor in held if tensor.is_floating_point() and not tensor.is_meta)
    bad = [name for name, tensor in floats if not bool(tensor.isfinite().all())]
    if bad:
        raise JRTError(
            f"{source}: {len(bad)} of the tensors hold NaN or infinity ({_some(bad)}): the weights are damaged or "
            "their training diverged."
        )


def assemble(
    build: Callable[[], Model],
    tensors: dict[str, Tensor],
    names: dict[str, list[str]],
    embedding: str,
    source: str,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Model:
    """The model that `build` makes, holding `tensors`.

    The model is built without memory, and the tensors become its parameters: what is read is what is used.

    Args:
        build: makes the model; called on the meta device.
        tensors: what the files hold, by their names there. Emptied on the way, so that nothing is held twice.
        names: name in the file -> names in the model; a tensor may fill several of them.
        embedding: name in the model of the embedding, which the output matrix may share.
        source: for messages.
        dtype: of the floating-point parameters; None leaves them as they are in the file.
        device: where to put them.

    Raises:
        JRTError: parameters not filled, tensors not used or of another shape; all are named.
    """
    with torch.device("meta"):
        model = build()
    wanted = dict(model.state_dict())
    tied = getattr(model.config, "tie_word_embeddings", False)
    given = {
        new: tensors[old] if i == 0 else tensors[old].clone()
        for old, targets in names.items()
        for i, new in enumerate(targets)
    }
    if tied and HEAD in given and embedding in given:
        head, table = given[HEAD], given[embedding]
        if head.data_ptr() != table.data_ptr() and not (head.shape == table.shape and torch.equal(head, table)):
            raise JRTError(
                f"{source}: tie_word_embeddings is true, but the output matrix in the file differs from the embedding."
            )
    if tied:
        given.pop(HEAD, None)
        wanted.pop(HEAD, None)
    fitting = {new: tensor.reshape(wanted[new].shape) for new, tensor in given.items() if _same(tensor, wanted, new)}
    require_whole(
        source,
        not_filled=wanted.keys() - given.keys(),
        not_used=(tensors.keys() - names.keys()) | (given.keys() - wanted.keys()),
        misshapen=[
            f"{new} ({list(tensor.shape)}, wanted {list(wanted[new].shape)})"
            for new, tensor in given.items()
            if new in wanted and new not in fitting
        ],
    )
    given.clear()
    tensors.clear()
    for new in list(fitting):
        tensor = fitting.pop(new)
        fitting[new] = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
    model.load_state_dict(fitting, strict=False, assign=True)
    model.tie_weights()
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    require_whole(source, not_filled=left)
    return model.eval()


def _same(tensor: Tensor, wanted: dict[str, Tensor], name: str) -> bool:
    """Whether shapes agree, dimensions of one (a depthwise kernel's) aside."""
    sizes = [size for size in tensor.shape if size != 1]
    return name in wanted and sizes == [size for size in wanted[name].shape if size != 1]


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
