"""Prompts for the objects on a frame, from a user or a simulated one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class PointLabel(IntEnum):
    """Meaning of a prompt point (Kirillov et al., 2023, section 3)."""

    PADDING = -1
    NEGATIVE = 0
    POSITIVE = 1
    BOX_TOP_LEFT = 2
    BOX_BOTTOM_RIGHT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPrompt:
    """Points on one frame, the same number for each object.

    Attributes:
        coords: (O, P, 2), float, ``(x, y)``.
        labels: (O, P), int32, values of :class:`PointLabel`.
    """

    coords: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.coords.shape[:2] != self.labels.shape or self.coords.shape[-1] != 2:
            msg = (
                f'Expected coords (O, P, 2) and labels (O, P), but got '
                f'{tuple(self.coords.shape)} and {tuple(self.labels.shape)}'
            )
            raise ValueError(msg)

    @property
    def num_points(self) -> int:
        """Number of points per object, P."""
        return self.labels.shape[1]

    def followed_by(self, other: 'PointPrompt') -> 'PointPrompt':
        """Append the points of another prompt."""
        return PointPrompt(
            coords=torch.cat([self.coords, other.coords], dim=1),
            labels=torch.cat([self.labels, other.labels], dim=1),
        )

    def select(self, rows: slice) -> 'PointPrompt':
        """The points of some objects."""
        return PointPrompt(coords=self.coords[rows], labels=self.labels[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePrompt:
    """The prompt of one frame: points, which include boxes, or a mask.

    Attributes:
        points: Clicks and boxes, or None.
        mask: (O, 1, H, W), bool, or None.
    """

    points: PointPrompt | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that exactly one of the two is given."""
        if (self.points is None) == (self.mask is None):
            msg = 'A frame is prompted with points or with a mask; give exactly one'
            raise ValueError(msg)

    def select(self, rows: slice) -> 'FramePrompt':
        """The prompts of some objects."""
        return FramePrompt(
            points=None if self.points is None else self.points.select(rows),
            mask=None if self.mask is None else self.mask[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMark:
    """A prompt point in pixels of the frame's file, for drawing.

    Attributes:
        object_id: Object that the point prompts.
        x: Column.
        y: Row.
        label: Meaning of the point; the two corners of a box are consecutive marks.
    """

    object_id: int
    x: float
    y: float
    label: PointLabel


def marks_of_points(
    points: PointPrompt,
    object_ids: Sequence[int],
    scale: tuple[float, float] = (1.0, 1.0),
) -> Iterator[PromptMark]:
    """List the points of a prompt as marks, without padding.

    Args:
        scale: Pixels of the file per pixel of ``points``, in x and in y.
    """
    for object_id, coords, labels in zip(
        object_ids, points.coords.tolist(), points.labels.tolist(), strict=True
    ):
        for (x, y), label in zip(coords, labels, strict=True):
            if label != PointLabel.PADDING:
                yield PromptMark(
                    object_id=object_id,
                    x=x * scale[0],
                    y=y * scale[1],
                    label=PointLabel(label),
                )
