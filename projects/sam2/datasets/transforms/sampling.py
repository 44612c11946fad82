"""Chooses the frames and the objects of a clip."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from mmengine.registry import TRANSFORMS

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.structures import FrameMasks, VideoSource


@TRANSFORMS.register_module()
class ClipSampleFrames:
    """Takes frames at a regular distance, and objects visible in the first of them.

    Where masks are sparse, the frames are taken among the annotated ones, as long as
    there are enough; otherwise among all, beginning at an annotated one.

    Args:
        num_frames: Frames of a clip.
        max_num_objects: Objects of a clip at most; chosen at random from more.
        frame_gaps: Distances between neighbouring frames, one of which is drawn from
            those for which the video is long enough.
        reverse_probability: Share of clips that run backwards.
        later_num_frames: Pairs of an epoch and the frames of a clip from that epoch
            on, ascending: short clips teach to match, longer ones not to drift.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self,
        *,
        num_frames: int,
        max_num_objects: int,
        frame_gaps: Sequence[int] = (1,),
        reverse_probability: float = 0.0,
        later_num_frames: Sequence[tuple[int, int]] = (),
    ) -> None:
        lengths = (num_frames, *(later for _, later in later_num_frames))
        if min(*lengths, max_num_objects, *frame_gaps) < 1:
            msg = (
                f'num_frames={lengths}, max_num_objects={max_num_objects}, '
                f'frame_gaps={tuple(frame_gaps)}: give positive numbers'
            )
            raise ValueError(msg)
        self.num_frames = num_frames
        self.later_num_frames = tuple(later_num_frames)
        self.max_num_objects = max_num_objects
        self.frame_gaps = tuple(frame_gaps)
        self.reverse_probability = reverse_probability

    def __call__(self, state: ClipState) -> ClipState:
        """Choose frames and objects.

        Args:
            state: A clip of which nothing was chosen yet.

        Returns:
            The clip with ``frame_indices``, ``object_ids`` and ``first_masks``.

        Raises:
            ClipDataError: If the video is too short or shows no object.
        """
        rng, source = state.rng, state.source
        length = self._length(state.epoch)
        candidates = self._candidates(source, length)
        gap = self._draw_gap(length, len(candidates), rng, source.name)
        step = -gap if rng.random() < self.reverse_probability else gap
        span = (length - 1) * gap
        for start in rng.permutation(len(candidates) - span).tolist():
            first = start if step > 0 else start + span
            chosen = [candidates[first + i * step] for i in range(length)]
            masks = source.read_masks(chosen[0])
            if masks is not None and masks.object_ids:
                return replace(
                    state,
                    frame_indices=tuple(chosen),
                    object_ids=self._draw_objects(masks, rng),
                    first_masks=masks,
                )
        problem = 'shows no object on a frame with which a clip can begin'
        remedy = 'annotate an object, or put the clip on the exclude list'
        raise ClipDataError.at(source.name, problem, remedy)

    def _length(self, epoch: int) -> int:
        """Frames of a clip in an epoch."""
        begun = [frames for start, frames in self.later_num_frames if start <= epoch]
        return begun[-1] if begun else self.num_frames

    def _candidates(self, source: VideoSource, length: int) -> Sequence[int]:
        annotated = source.annotated_frames()
        needed = (length - 1) * min(self.frame_gaps) + 1
        return annotated if len(annotated) >= needed else range(source.num_frames)

    def _draw_gap(
        self, length: int, num_frames: int, rng: np.random.Generator, name: str
    ) -> int:
        gaps = [g for g in self.frame_gaps if (length - 1) * g < num_frames]
        if gaps:
            return int(rng.choice(gaps))
        needed = (length - 1) * min(self.frame_gaps) + 1
        problem = f'needs {needed} frames, has {num_frames}'
        raise ClipDataError.at(name, problem, 'lower num_frames or drop the video')

    def _draw_objects(
        self, masks: FrameMasks, rng: np.random.Generator
    ) -> tuple[int, ...]:
        ids = masks.object_ids
        count = min(len(ids), self.max_num_objects)
        picked = rng.choice(len(ids), size=count, replace=False)
        return tuple(ids[i] for i in picked.tolist())
