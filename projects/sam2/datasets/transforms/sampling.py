"""Chooses the frames and the objects of a clip."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mmengine.registry import TRANSFORMS

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.object_masks import list_objects, read_objects
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.structures import VideoSource

Value = TypeVar('Value')


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
        later_frame_gaps: Pairs of an epoch and the ``frame_gaps`` from that epoch on,
            ascending: wider gaps are harder to track over.

    Raises:
        ValueError: If a number is not positive, or a list of gaps is empty.
    """

    def __init__(
        self,
        *,
        num_frames: int,
        max_num_objects: int,
        frame_gaps: Sequence[int] = (1,),
        reverse_probability: float = 0.0,
        later_num_frames: Sequence[tuple[int, int]] = (),
        later_frame_gaps: Sequence[tuple[int, Sequence[int]]] = (),
    ) -> None:
        self.lengths = ((0, num_frames), *later_num_frames)
        self.gaps = ((0, tuple(frame_gaps)), *later_frame_gaps)
        lengths = [length for _, length in self.lengths]
        gaps = [[*gaps] for _, gaps in self.gaps]
        if min(*lengths, max_num_objects, *(min(each, default=0) for each in gaps)) < 1:
            msg = (
                f'num_frames={lengths}, max_num_objects={max_num_objects}, '
                f'frame_gaps={gaps}: give positive numbers'
            )
            raise ValueError(msg)
        self.max_num_objects = max_num_objects
        self.reverse_probability = reverse_probability

    def __call__(self, state: ClipState) -> ClipState:
        """Choose frames and objects.

        Args:
            state: A clip of which nothing was chosen yet.

        Returns:
            The clip with ``frame_indices``, ``object_ids``, ``first_ids`` and
            ``first_masks``.

        Raises:
            ClipDataError: If the video is too short or shows no object.
        """
        rng, source = state.rng, state.source
        length = value_in_epoch(self.lengths, state.epoch)
        gaps = value_in_epoch(self.gaps, state.epoch)
        candidates = candidate_frames(source, (length - 1) * min(gaps) + 1)
        gap = int(rng.choice([g for g in gaps if (length - 1) * g < len(candidates)]))
        step = -gap if rng.random() < self.reverse_probability else gap
        span = (length - 1) * gap
        annotated = frozenset(source.annotated_frames())
        for start in rng.permutation(len(candidates) - span).tolist():
            first = start if step > 0 else start + span
            if candidates[first] not in annotated:
                continue  # nothing is known to be seen there
            chosen = [candidates[first + i * step] for i in range(length)]
            seen, masks = list_objects(source, chosen[0])
            if seen:
                count = min(len(seen), self.max_num_objects)
                picked = rng.choice(len(seen), size=count, replace=False)
                ids = tuple(seen[i] for i in picked.tolist())
                return replace(
                    state,
                    frame_indices=tuple(chosen),
                    object_ids=ids,
                    first_ids=seen,
                    first_masks=masks or read_objects(source, chosen[0], ids),
                )
        problem = 'shows no object on a frame with which a clip can begin'
        remedy = 'annotate an object, or put the clip on the exclude list'
        raise ClipDataError.at(source.name, problem, remedy)


@TRANSFORMS.register_module()
class ClipSampleWhole:
    """Takes a video as it is, for evaluation: nothing is drawn.

    The frames are the annotated ones from the first on, the objects those that the
    source names on the first frame, in its order; their masks may be empty there.

    Args:
        num_frames: Frames at most; None for all.
        max_num_objects: Objects at most; None for all.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self, *, num_frames: int | None = None, max_num_objects: int | None = None
    ) -> None:
        limits = [n for n in (num_frames, max_num_objects) if n is not None]
        if min(limits, default=1) < 1:
            msg = (
                f'num_frames={num_frames}, max_num_objects={max_num_objects}: give '
                f'positive numbers, or None for all'
            )
            raise ValueError(msg)
        self.num_frames = num_frames
        self.max_num_objects = max_num_objects

    def __call__(self, state: ClipState) -> ClipState:
        """Take frames and objects.

        Args:
            state: A clip of which nothing was chosen yet.

        Returns:
            The clip with ``frame_indices``, ``object_ids``, ``hidden_ids``,
            ``first_ids`` and ``first_masks``.

        Raises:
            ClipDataError: If the first frame has no object.
        """
        frames = tuple(state.source.annotated_frames())[: self.num_frames]
        seen, masks = list_objects(state.source, frames[0]) if frames else ((), None)
        ids = (seen if masks is None else masks.object_ids)[: self.max_num_objects]
        if not ids:
            problem = 'has no object on its first annotated frame'
            remedy = 'annotate an object there, or put the video on the exclude list'
            raise ClipDataError.at(state.source.name, problem, remedy)
        return replace(
            state,
            frame_indices=frames,
            object_ids=ids,
            hidden_ids=tuple(object_id for object_id in ids if object_id not in seen),
            first_ids=seen,
            first_masks=masks or read_objects(state.source, frames[0], ids),
        )


def value_in_epoch(begun: Sequence[tuple[int, Value]], epoch: int) -> Value:
    """Look up a value that changes with the epoch.

    Args:
        begun: Pairs of an epoch and the value from that epoch on, ascending.
        epoch: The epoch.

    Returns:
        The value of the last pair that has begun.
    """
    return [value for start, value in begun if start <= epoch][-1]


def candidate_frames(source: VideoSource, needed: int) -> Sequence[int]:
    """Frames among which a clip is taken.

    Args:
        source: The video.
        needed: Frames that a clip spans.

    Returns:
        The annotated frames, as long as there are enough; else all.

    Raises:
        ClipDataError: If the video is too short.
    """
    annotated = source.annotated_frames()
    if len(annotated) >= needed:
        return annotated
    if source.num_frames < needed:
        problem = f'needs {needed} frames, has {source.num_frames}'
        remedy = 'lower num_frames or drop the video'
        raise ClipDataError.at(source.name, problem, remedy)
    return range(source.num_frames)
