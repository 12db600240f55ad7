"""A cache is walked whole, whatever holds its tensors, or refused."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from jrt_lmeval.errors import JRTError
from model_adapters.engines.cache import HFState, layout, leaves, merged, require_rows_first, selected

Pair = namedtuple("Pair", "left right")


def cache(rows: int = 2) -> SimpleNamespace:
    numbers = torch.arange(rows, dtype=torch.float32)[:, None] + torch.tensor([0.0, 10.0])
    layer = SimpleNamespace(tuples=(numbers, [numbers + 100]), named=Pair(numbers + 200, None), width=torch.tensor(4))
    tree = SimpleNamespace(layers=[layer], beside={"linear": numbers + 300}, seen=torch.tensor([7]))
    layer.owner = tree  # a layer may know its cache
    return tree


def test_tensors_are_found_wherever_they_stand() -> None:
    paths = [leaf.path for leaf in leaves(cache())]
    assert paths == [
        "layers.0.tuples.0", "layers.0.tuples.1.0", "layers.0.named.0", "layers.0.width", "beside.linear", "seen",
    ]  # fmt: skip


def test_all_of_them_are_selected_and_none_is_shared() -> None:
    whole = cache()
    fork = selected(whole, torch.tensor([1, 1, 0]))
    for leaf in leaves(fork):
        assert leaf.path in ("seen", "layers.0.width") or leaf.tensor[:, 0].diff().tolist() == [0.0, -1.0]
        leaf.tensor.zero_()
    assert [leaf.tensor.sum() for leaf in leaves(whole)] == [leaf.tensor.sum() for leaf in leaves(cache())]
    assert fork.layers[0].owner is fork and isinstance(fork.layers[0].named, Pair)


def test_parts_are_merged_in_the_order_of_their_rows() -> None:
    whole = cache(3)
    parts = [selected(whole, torch.tensor([2, 0])), selected(whole, torch.tensor([1]))]
    back = merged(parts, torch.tensor([1, 2, 0]))
    assert all(a.tensor.equal(b.tensor) for a, b in zip(leaves(back), leaves(whole), strict=True))


def test_a_row_weighs_all_its_tensors() -> None:
    state = HFState(cache(), torch.ones(2, 1), torch.tensor([7, 7]), {})
    assert state.row_bytes() == [4 * 2 * 4] * 2  # four tensors of two float32 numbers; the counters weigh nothing


def test_what_grows_is_found_by_reading_on() -> None:
    before = {"k": torch.zeros(2, 3, 1, 4), "s": torch.zeros(2, 5), "n": torch.tensor([3])}
    found = layout(before, {**before, "k": torch.zeros(2, 4, 1, 4)})
    assert (found.slots, found.recurrent, found.full_attention) == ({"k": 1}, True, False)


def test_tensors_of_other_shapes_are_refused_by_name() -> None:
    with pytest.raises(JRTError, match=r"dict whose first dimension is not the row \(positions \[3, 2\]"):
        require_rows_first({"positions": torch.zeros(3, 2), "state": torch.zeros(2, 3)}, 2, "Odd")
    with pytest.raises(JRTError, match="holds no tensor"):
        require_rows_first({"state": None}, 2, "Odd")
