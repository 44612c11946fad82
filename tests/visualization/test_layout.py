"""Pictures set in grids."""

import numpy as np
import pytest

from projects.sam2.visualization.drawing import Picture
from projects.sam2.visualization.strips import (
    StripColumn,
    compose_strip,
    placeholder,
    side_by_side,
    stack,
)


def plain(value: int, size: tuple[int, int] = (40, 60)) -> Picture:
    """A cell of a colour that no text has."""
    return np.full((*size, 3), (value, 0, value), dtype=np.uint8)


def contains(image: Picture, cell: Picture) -> tuple[int, int]:
    """Row and column where a plain cell lies, whole."""
    rows, columns = np.nonzero((image == cell[0, 0]).all(axis=2))
    height, width = cell.shape[:2]
    assert len(rows) == height * width
    top, left = int(rows.min()), int(columns.min())
    found = image[top : top + height, left : left + width]
    assert np.array_equal(found, cell)
    return top, left


def test_cells_lie_by_frame_and_by_row() -> None:
    cells = [[plain(200 + 10 * row + column) for row in range(3)] for column in (0, 1)]
    columns = [
        StripColumn(caption=f'frame {i}', cells=tuple(c)) for i, c in enumerate(cells)
    ]
    image = compose_strip(columns, ('Frame', 'Ground truth', 'Prediction'), 'clip')
    at = [[contains(image, cell) for cell in column] for column in cells]
    tops = [[top for top, _ in column] for column in at]
    lefts = [[left for _, left in column] for column in at]
    assert tops[0] == tops[1] == sorted(tops[0])
    assert len(set(lefts[0])) == 1
    assert lefts[0][0] + 60 < lefts[1][0]


def test_text_stands_above_and_beside_the_cells() -> None:
    column = StripColumn(caption='frame 3', cells=(plain(222),))
    image = compose_strip([column], ('Frame',), 'title')
    top, left = contains(image, plain(222))
    ground = image[-1, -1]
    written = (image != ground).any(axis=2)
    assert written[: top // 2].any()  # title
    assert written[top // 2 : top, left:].any()  # caption
    assert written[top : top + 40, :left].any()  # name of the row


def test_long_title_widens_the_strip() -> None:
    column = StripColumn(caption='0', cells=(plain(222),))
    short = compose_strip([column], ('Frame',), 'a')
    assert compose_strip([column], ('Frame',), 'a' * 60).shape[1] > short.shape[1]


@pytest.mark.parametrize('num_cells', [0, 2])
def test_ragged_strip_is_refused(num_cells: int) -> None:
    columns = [StripColumn(caption='', cells=(plain(1),) * num_cells)]
    with pytest.raises(ValueError, match=rf'columns of 1 cells.*\[{num_cells}\]'):
        compose_strip(columns, ('Frame',), '')
    with pytest.raises(ValueError, match='columns of 1 cells'):
        compose_strip([], ('Frame',), '')


@pytest.mark.parametrize('size', [(40, 60), (41, 61)])
def test_panels_lie_beside_each_other_in_an_even_picture(
    size: tuple[int, int],
) -> None:
    panels = [plain(210, size), plain(220, size)]
    image = side_by_side(panels, ('left', 'right'), 'frame 0')
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    (top, left), (other_top, right) = (contains(image, panel) for panel in panels)
    assert top == other_top
    assert left + size[1] < right
    assert side_by_side(panels, ('left', 'right'), 'frame 1000').shape == image.shape


def test_placeholder_is_dim_and_says_why() -> None:
    frame = plain(240, (100, 240))
    image = placeholder(frame, 'not annotated')
    assert image.shape == frame.shape
    assert np.median(image[..., 0]) == 80
    assert image[..., 1].max() > 200
    assert frame[..., 0].min() == 240


def test_strips_of_several_widths_lie_below_each_other() -> None:
    first, second = plain(200), plain(210, (30, 80))
    image = stack([first, second])
    assert image.shape[1] == 80
    top, left = contains(image, second)
    assert contains(image, first) == (0, 0)
    assert (top > 40, left) == (True, 0)
