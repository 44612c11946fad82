"""Windows of maps."""

import pytest
import torch

from projects.sam2.models.hiera import (
    bands,
    join_windows,
    pad_to_windows,
    split_windows,
    window_grid,
)


@pytest.mark.parametrize(('height', 'width'), [(8, 12), (7, 9), (3, 4)])
def test_windows_join_to_what_was_split(height: int, width: int) -> None:
    maps = torch.randn(2, height, width, 3)
    windows = split_windows(pad_to_windows(maps, 4), (4, 4))
    grid = window_grid((height, width), 4)
    assert windows.shape == (2 * grid[0] * grid[1], 4, 4, 3)
    assert torch.equal(join_windows(windows, grid, (height, width)), maps)


def test_windows_are_cut_row_by_row_and_padded_with_zeros() -> None:
    maps = torch.randn(2, 5, 6, 3)
    windows = split_windows(pad_to_windows(maps, 4), (4, 4))
    assert window_grid((5, 6), 4) == (2, 2)
    assert torch.equal(windows[1, :, :2], maps[0, :4, 4:])
    assert torch.equal(windows[4 + 2, :1], maps[1, 4:, :4])
    assert not windows[1, :, 2:].any()
    assert not windows[2, 1:].any()


def test_windows_need_not_be_square() -> None:
    maps = torch.randn(2, 6, 9, 3)
    windows = split_windows(maps, (2, 3))
    assert torch.equal(windows[4], maps[0, 2:4, 3:6])
    assert torch.equal(join_windows(windows, (3, 3), (6, 9)), maps)


@pytest.mark.parametrize(
    ('length', 'expected'),
    [
        (8, [(slice(0, 8), 4)]),
        (10, [(slice(0, 8), 4), (slice(8, 10), 2)]),
        (3, [(slice(0, 3), 3)]),
    ],
)
def test_the_rest_of_an_axis_has_smaller_windows(
    length: int, expected: list[tuple[slice, int]]
) -> None:
    assert bands(length, 4) == expected
