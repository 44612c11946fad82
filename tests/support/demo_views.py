"""Annotated videos as the demo hands them on, made of generated clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.datasets.sources.synthetic import make_clip, make_plans
from projects.sam2.ops import encode_masks
from projects.sam2.webdemo.session.annotator import FrameMask
from projects.sam2.webdemo.session.document import AnnotatedObject, Document
from projects.sam2.webdemo.session.video import AnnotatedVideo


@dataclass
class MadeView:
    """A session whose masks are given: labels of the frames, 0 where there is none.

    An object has an empty mask on an annotated frame that does not show it.

    Attributes:
        video: The frames.
        labels: (height, width) by frame.
        missing: Pairs of an object and a frame on which nothing is known of it.
        hidden: Ids of hidden objects.
        broken_frames: Those of the document.
    """

    video: AnnotatedVideo
    labels: Mapping[int, NDArray[np.uint8]]
    missing: frozenset[tuple[int, int]] = frozenset()
    hidden: frozenset[int] = frozenset()
    broken_frames: tuple[int, ...] = ()

    @property
    def document(self) -> Document:
        """Objects with the colours #ff0000, #00ff00 and #0000ff, in turn."""
        turn = ('#ff0000', '#00ff00', '#0000ff')
        ids = sorted({int(i) for each in self.labels.values() for i in np.unique(each)})
        objects = {
            i: AnnotatedObject(
                object_id=i,
                name=f'object {i}',
                color=turn[(i - 1) % 3],
                category='even' if i % 2 == 0 else 'odd',
                hidden=i in self.hidden,
            )
            for i in ids
            if i
        }
        return Document(objects=objects, broken_frames=self.broken_frames)

    def masks(self, frame_index: int) -> list[FrameMask]:
        """Masks of a frame."""
        if frame_index not in self.labels:
            return []
        labels = self.labels[frame_index]
        ids = [i for i in self.document.objects if (i, frame_index) not in self.missing]
        codes = encode_masks(np.stack([labels == i for i in ids])) if ids else []
        return [
            FrameMask(object_id=i, code=code, score=1.0)
            for i, code in zip(ids, codes, strict=True)
        ]

    def mask(self, object_id: int, frame_index: int) -> FrameMask | None:
        """Mask of one object."""
        masks = {mask.object_id: mask for mask in self.masks(frame_index)}
        return masks.get(object_id)


def write_frames(folder: Path, frames: NDArray[np.uint8]) -> None:
    """Write frames (T, height, width, 3) as PNG files."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f'{index:05d}.png')


def generated_view(folder: Path, index: int = 0, *, num_frames: int = 10) -> MadeView:
    """A generated clip of 2 to 4 objects, 128 pixels wide, with all of its masks."""
    plan = make_plans(
        split='demo', num_clips=index + 1, num_frames=num_frames, size=128, seed=7
    )[index]
    clip = make_clip(plan)
    write_frames(folder, clip.frames)
    return MadeView(AnnotatedVideo(folder), dict(enumerate(clip.labels)))
