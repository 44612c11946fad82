"""Arranges pictures of frames: the strip, and ground truth beside prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from projects.sam2.visualization.colors import FAINT, GROUND, TEXT
from projects.sam2.visualization.text import Picture, draw_text, text_size

GAP = 6
LETTERS = 15
TITLE_LETTERS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class StripColumn:
    """One frame of a strip.

    Attributes:
        caption: Written above, such as ``frame 12``.
        cells: Pictures of one size, from top to bottom, one for each row.
    """

    caption: str
    cells: tuple[Picture, ...]


def compose_strip(
    columns: Sequence[StripColumn], row_names: Sequence[str], title: str
) -> Picture:
    """Set pictures in a grid: a column for each frame, a row for each kind.

    Args:
        columns: Frames from left to right, at least one.
        row_names: What each row shows, written at its left.
        title: Written above all.

    Returns:
        (height, width, 3), RGB.

    Raises:
        ValueError: If there is no column, or one has another number of cells than
            there are rows.
    """
    if not columns or {len(column.cells) for column in columns} != {len(row_names)}:
        msg = (
            f'Expected columns of {len(row_names)} cells, but got '
            f'{[len(column.cells) for column in columns]}'
        )
        raise ValueError(msg)
    cell_height, cell_width = columns[0].cells[0].shape[:2]
    legend = max(text_size(name, LETTERS)[1] for name in row_names) + 3 * GAP
    top = text_size(title, TITLE_LETTERS)[0] + text_size('0', LETTERS)[0] + 3 * GAP
    width = legend + len(columns) * (cell_width + GAP)
    width = max(width, text_size(title, TITLE_LETTERS)[1] + 2 * GAP)
    image = _ground(top + len(row_names) * (cell_height + GAP), width)
    draw_text(image, title, (GAP, GAP), height=TITLE_LETTERS)
    caption_top = top - text_size('0', LETTERS)[0] - GAP // 2
    for row, name in enumerate(row_names):
        middle = top + row * (cell_height + GAP) + cell_height // 2
        draw_text(image, name, (GAP, middle - LETTERS // 2), height=LETTERS)
    for index, column in enumerate(columns):
        left = legend + index * (cell_width + GAP)
        at = (left, caption_top)
        draw_text(image, column.caption, at, height=LETTERS, color=FAINT)
        for row, cell in enumerate(column.cells):
            put_at = top + row * (cell_height + GAP)
            image[put_at : put_at + cell_height, left : left + cell_width] = cell
    return image


def stack(pictures: Sequence[Picture]) -> Picture:
    """Set pictures below each other, such as strips of several clips.

    Args:
        pictures: Of any widths, at least one.

    Returns:
        (height, width, 3), RGB, as wide as the widest.
    """
    width = max(picture.shape[1] for picture in pictures)
    height = sum(picture.shape[0] + GAP for picture in pictures)
    image = _ground(height, width)
    top = 0
    for picture in pictures:
        image[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + GAP
    return image


def side_by_side(
    panels: Sequence[Picture], names: Sequence[str], caption: str
) -> Picture:
    """Set pictures beside each other, each with its name above.

    Args:
        panels: Pictures of one size, (height, width, 3).
        names: One for each.
        caption: Written above them all.

    Returns:
        (height, width, 3), RGB, both sides even, the same for all captions.
    """
    height, width = panels[0].shape[:2]
    line = text_size('0', LETTERS)[0] + GAP
    top = 2 * line + GAP
    image = _ground(_even(top + height + GAP), _even(GAP + len(panels) * (width + GAP)))
    draw_text(image, caption, (GAP, GAP), height=LETTERS, color=FAINT)
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        left = GAP + index * (width + GAP)
        draw_text(image, name, (left, line + GAP // 2), height=LETTERS, color=TEXT)
        image[top : top + height, left : left + width] = panel
    return image


def placeholder(frame: Picture, text: str) -> Picture:
    """A dimmed picture that says why nothing is drawn over it.

    Args:
        frame: (height, width, 3).
        text: One line.

    Returns:
        A new picture of the same size.
    """
    image = (frame // 3).astype(np.uint8)
    line_height, width = text_size(text, LETTERS)
    at = ((frame.shape[1] - width) // 2, (frame.shape[0] - line_height) // 2)
    draw_text(image, text, at, height=LETTERS)
    return image


def _ground(height: int, width: int) -> Picture:
    """An empty picture."""
    return np.full((height, width, 3), GROUND, dtype=np.uint8)


def _even(length: int) -> int:
    """The next even number."""
    return length + length % 2
