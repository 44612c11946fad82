"""What a user says about an object, for any kind of input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis.inputs import read_whole_number
from projects.sam2.structures import PointLabel, PromptMark

__all__ = ['ObjectPrompt']


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPrompt:
    """Points and a box, or a mask, of one object on one frame.

    Attributes:
        object_id: As the user calls it, from 1.
        frame_index: Position in the video; 0 of an image.
        points: Each ``(x, y)``, in pixels of the image.
        labels: 1 for each point on the object, 0 for one outside; all 1 if empty.
        box: Corners ``(x, y, x, y)``, or None.
        mask: (height, width), bool, in place of points and box.
    """

    object_id: int = 1
    frame_index: int = 0
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[int] = ()
    box: Sequence[float] | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check that something is said, and only one kind of thing."""
        for field in ('object_id', 'frame_index'):
            number = read_whole_number(getattr(self, field), name=field)
            object.__setattr__(self, field, number)
        name = f'The prompt of object {self.object_id}'
        with_points = len(self.points) > 0 or self.box is not None
        if with_points == (self.mask is not None):
            msg = f'{name} needs points, a box or both; or a mask in place of them'
            raise ValueError(msg)
        if len(self.labels) not in {0, len(self.points)}:
            msg = (
                f'{name} has {len(self.points)} points and {len(self.labels)} labels; '
                f'give one for each, or none where all are on the object'
            )
            raise ValueError(msg)
        if self.object_id < 1 or self.frame_index < 0:
            msg = (
                f'{name} is for frame {self.frame_index}; objects count from 1, '
                f'frames from 0'
            )
            raise ValueError(msg)

    @property
    def point_coords(self) -> NDArray[np.float32] | None:
        """The points, (P, 2), or None where there are none."""
        return np.array(self.points, dtype=np.float32) if len(self.points) else None

    @property
    def point_labels(self) -> NDArray[np.int32] | None:
        """Their labels, (P,), or None."""
        if not len(self.points):
            return None
        return np.array(self._labels(), dtype=np.int32)

    def marks(self) -> Iterator[PromptMark]:
        """Points and corners, for pictures.

        Yields:
            The corners of the box, then the points.
        """
        if self.box is not None:
            left, top, right, bottom = self.box
            yield self._mark(left, top, PointLabel.BOX_TOP_LEFT)
            yield self._mark(right, bottom, PointLabel.BOX_BOTTOM_RIGHT)
        for (x, y), label in zip(self.points, self._labels(), strict=True):
            yield self._mark(float(x), float(y), PointLabel(int(label)))

    def _labels(self) -> list[int]:
        """A label for each point."""
        return list(self.labels) or [1] * len(self.points)

    def _mark(self, x: float, y: float, label: PointLabel) -> PromptMark:
        """One of them."""
        return PromptMark(object_id=self.object_id, x=x, y=y, label=label)
