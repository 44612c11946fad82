"""Predicted masks of a video, packed for pictures and files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from projects.sam2.structures.prompts import PointLabel, PointPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMark:
    """A prompt point as a person gave it.

    Attributes:
        object_id: The object it belongs to.
        x: Column in pixels of the frame's file.
        y: Row in pixels of the frame's file.
        label: Its meaning; a box is two marks, one after the other.
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
    """List the points of a prompt.

    Args:
        points: Of the objects.
        object_ids: Their ids.
        scale: Pixels of the file for one of ``points``, in x and in y.

    Yields:
        The marks, those of an object one after another; padding leaves none.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMasklets:
    """Predicted masks of one frame.

    Attributes:
        frame_index: Position in the video.
        object_ids: One for each mask.
        encoded: Masks as COCO run-length encoding, at the size of the file.
        prompted_ids: Objects that were prompted on this frame.
        marks: Points and boxes of those prompts; none where a mask was given.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    encoded: tuple[Mapping[str, Any], ...]
    prompted_ids: tuple[int, ...] = ()
    marks: tuple[PromptMark, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is one mask for each id."""
        if len(self.object_ids) != len(self.encoded):
            msg = (
                f'Frame {self.frame_index}: expected one mask for each of '
                f'{len(self.object_ids)} ids, but got {len(self.encoded)}'
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masklets:
    """Predicted masks of frames of one video, ascending by frame."""

    frames: tuple[FrameMasklets, ...]
