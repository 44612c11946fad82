"""Masks and scores that others published, read from files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.structures import FrameMasks

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskPair:
    """Two masks with the J and F that the released evaluator gives."""

    truth: Mask
    pred: Mask
    contour: Mask
    radius: int
    j: float
    f: float


@dataclass
class MaskFolder:
    """A :class:`VideoSource` without frames: label PNGs, or a folder an object."""

    folder: Path
    by_object: bool

    @property
    def name(self) -> str:
        """Name of the video."""
        return self.folder.name

    @cached_property
    def stems(self) -> list[str]:
        """Names of the annotated frames."""
        return sorted({path.stem for path in self.folder.rglob('*.png')})

    @property
    def num_frames(self) -> int:
        """Frames with a mask."""
        return len(self.stems)

    def frame_name(self, frame_index: int) -> str:
        """Stem of a frame's file."""
        return self.stems[frame_index]

    def annotated_frames(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(range(self.num_frames))

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Nothing but the size."""
        some = next(self.folder.rglob(f'{self.stems[frame_index]}.png'))
        return np.zeros((*read_png(some).shape, 3), dtype=np.uint8)

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Masks of a frame."""
        masks = read_objects(self.folder, self.stems[frame_index], self.by_object)
        size = self.read_frame(frame_index).shape[:2]
        stacked = np.stack(list(masks.values())) if masks else np.zeros((0, *size))
        return FrameMasks(object_ids=tuple(masks), masks=stacked.astype(bool))


def read_png(path: Path) -> NDArray[Any]:
    """Values of a PNG file, palette indices among them."""
    with Image.open(path) as image:
        return np.array(image)


def read_objects(folder: Path, stem: str, by_object: bool) -> dict[int, Mask]:
    """Masks of a frame by object; missing files show nothing."""
    if by_object:
        files = {int(p.name): p / f'{stem}.png' for p in sorted(folder.iterdir())}
        return {i: read_png(file) > 0 for i, file in files.items() if file.is_file()}
    labels = read_png(folder / f'{stem}.png')
    return {int(label): labels == label for label in np.unique(labels) if label}
