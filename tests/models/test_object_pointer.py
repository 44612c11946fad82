"""Object pointers and the tokens that they are attended as."""

import pytest
import torch

from projects.sam2.models import SAM2ObjectPointer
from projects.sam2.models.layers import sine_encoding_1d
from projects.sam2.models.memory_bank import MemorySelection, SelectedPointer


def _selection(offsets: list[int], horizon: int) -> MemorySelection:
    generator = torch.Generator().manual_seed(0)
    return MemorySelection(
        memories=(),
        pointers=tuple(
            SelectedPointer(
                pointer=torch.randn(2, 32, generator=generator), time_offset=offset
            )
            for offset in offsets
        ),
        max_pointers=horizon,
    )


def _pointers(time_encoding: str) -> SAM2ObjectPointer:
    torch.manual_seed(0)
    return SAM2ObjectPointer(
        embed_dims=32,
        memory_dims=8,
        time_encoding=time_encoding,  # type: ignore[arg-type]  # a parameter's value
    )


def test_pointer_is_split_into_consecutive_tokens() -> None:
    selection = _selection([3, 1], horizon=16)
    tokens, position = _pointers('signed').tokens(selection)
    assert tokens.shape == (2, 8, 8)
    for number, recalled in enumerate(selection.pointers):
        parts = recalled.pointer.reshape(2, 4, 8)
        assert torch.equal(tokens[:, 4 * number : 4 * number + 4], parts)
    assert torch.equal(position[0, 0], position[0, 3])
    assert not torch.equal(position[0, 3], position[0, 4])


@pytest.mark.parametrize(('encoding', 'sign'), [('signed', -1), ('unsigned', 1)])
def test_time_is_scaled_by_the_horizon(encoding: str, sign: int) -> None:
    pointers = _pointers(encoding)
    _, position = pointers.tokens(_selection([-4], horizon=9))
    assert pointers.time_projection is not None
    moment = torch.tensor([sign * 4 / 8])
    expected = pointers.time_projection(sine_encoding_1d(moment, 32))
    assert torch.allclose(position[0, :1], expected)


def test_each_object_may_have_its_own_time() -> None:
    pointers = _pointers('signed')
    first, second = _selection([-4, 1], horizon=9), _selection([3, 1], horizon=9)
    mixed = MemorySelection(
        memories=(),
        pointers=(
            SelectedPointer(pointer=first.pointers[0].pointer, time_offset=(-4, 3)),
            first.pointers[1],
        ),
        max_pointers=9,
    )
    tokens, position = pointers.tokens(mixed)
    assert torch.equal(tokens, pointers.tokens(first)[0])
    for row, alone in enumerate((first, second)):
        assert torch.allclose(position[row], pointers.tokens(alone)[1][0])


def test_sam_2_0_pointers_carry_no_time() -> None:
    _, position = _pointers('none').tokens(_selection([5, 2], horizon=16))
    assert not position.any()


def test_absent_object_gets_the_learned_pointer() -> None:
    pointers = _pointers('signed')
    present = torch.tensor([[True], [False]])
    made = pointers(torch.randn(2, 32), present)
    assert torch.equal(made[1], pointers.no_object_pointer[0])
    assert not torch.equal(made[0], pointers.no_object_pointer[0])


def test_channels_that_do_not_divide_are_named() -> None:
    with pytest.raises(ValueError, match='memory_dims 24 must divide embed_dims 64'):
        SAM2ObjectPointer(embed_dims=64, memory_dims=24)


def test_horizon_of_one_pointer_gives_finite_positions() -> None:
    _, position = _pointers('signed').tokens(_selection([0], horizon=1))
    assert position.isfinite().all()


def test_unknown_time_encoding_is_named() -> None:
    with pytest.raises(ValueError, match=r"time_encoding is 'sined'; .*'signed'"):
        _pointers('sined')
