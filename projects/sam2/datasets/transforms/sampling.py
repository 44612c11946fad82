"""Adds objects that the first frame of a clip does not show."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from mmengine.registry import TRANSFORMS

from ...structures import VideoSource
from ..annotated_video import list_objects, read_objects, void_note
from ..io.errors import ClipDataError
from .base import ClipState


@TRANSFORMS.register_module()
class ClipAddHiddenObjects:
    """Adds objects that appear later or not at all, so that absence is learnt.

    Comes after :class:`ClipSampleFrames`. Where only decoding tells which objects a
    frame shows, the masks of the frames that it asks are decoded once more for it.

    Args:
        max_num_objects: Objects of a clip at most.
        later_probability: Share of clips that also get objects which only a later
            frame of the clip shows, as many as there is room for.
        absent_probability: Share of clips that get an object of the video which no
            frame of the clip shows. Where there is no room it takes the place of the
            last object, but never of the only one.

    Raises:
        ValueError: If ``max_num_objects`` is not positive.
    """

    def __init__(
        self,
        *,
        max_num_objects: int,
        later_probability: float = 0.0,
        absent_probability: float = 0.0,
    ) -> None:
        if max_num_objects < 1:
            msg = f'max_num_objects is {max_num_objects}; give a positive number'
            raise ValueError(msg)
        self.max_num_objects = max_num_objects
        self.later_probability = later_probability
        self.absent_probability = absent_probability

    def __call__(self, state: ClipState) -> ClipState:
        """Add objects, or not.

        Args:
            state: A clip with ``frame_indices``, ``object_ids`` and ``first_ids``.

        Returns:
            The clip with more ``object_ids``, which ``hidden_ids`` names.
        """
        wants_later, wants_absent = state.rng.random(2) < (
            self.later_probability,
            self.absent_probability,
        )
        # A clip of which nothing is to be seen has no frame to be prompted on.
        wants_absent = wants_absent and self.max_num_objects > 1
        if not wants_later and not wants_absent:
            return state
        first = {*state.first_ids}
        later = seen_on(state, state.frame_indices[1:]) - first
        ids: tuple[int, ...] = state.object_ids
        hidden: tuple[int, ...] = ()
        if wants_later:
            hidden = self._some(state, later, self.max_num_objects - len(ids))
        if wants_absent:
            absent = self._some(state, self._elsewhere(state) - first - later, 1)
            ids = ids[: self.max_num_objects - len(absent)]
            hidden = (*hidden[: self.max_num_objects - len(absent) - len(ids)], *absent)
        return replace(state, object_ids=(*ids, *hidden), hidden_ids=hidden)

    @staticmethod
    def _some(state: ClipState, ids: set[int], most: int) -> tuple[int, ...]:
        """Draw from objects."""
        order = sorted(ids)
        count = max(0, min(len(order), most))
        picked = state.rng.choice(len(order), size=count, replace=False)
        return tuple(order[index] for index in picked.tolist())

    @staticmethod
    def _elsewhere(state: ClipState) -> set[int]:
        """Objects of one annotated frame that is not in the clip."""
        others = sorted({*state.source.annotated_frames()} - {*state.frame_indices})
        if not others:
            return set()
        return seen_on(state, (others[int(state.rng.integers(len(others)))],))


def seen_on(state: ClipState, frame_indices: tuple[int, ...]) -> set[int]:
    """Objects that any of some frames shows."""
    return {
        object_id
        for index in frame_indices
        for object_id in list_objects(state.source, index)[0]
    }


Value = TypeVar('Value')


@TRANSFORMS.register_module()
class ClipSampleFrames:
    """Takes frames at a regular distance, and objects visible in the first of them.

    Where masks are sparse, the frames are taken among the annotated ones, as long as
    there are enough; otherwise among all, beginning at an annotated one. Where no clip
    of the drawn gap and direction begins with an object, the other gaps and directions
    are tried, at last among all frames: a video is refused only if none of them does.

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

    @property
    def epochs_of_change(self) -> list[int]:
        """Epochs from which on clips are drawn differently; 0 is the first of them."""
        return sorted({epoch for epoch, _ in (*self.lengths, *self.gaps)})

    def __call__(self, state: ClipState) -> ClipState:
        """Choose frames and objects.

        Returns:
            The clip with ``frame_indices``, ``object_ids``, ``first_ids`` and
            ``first_masks``.

        Raises:
            ClipDataError: If the video is too short or shows no object.
        """
        source = state.source
        length = value_in_epoch(self.lengths, state.epoch)
        gaps = value_in_epoch(self.gaps, state.epoch)
        blank: set[int] = set()  # annotated frames that turned out to show no object
        for candidates in candidate_frames(source, (length - 1) * min(gaps) + 1):
            for step in self._draw_steps(state.rng, gaps, length, len(candidates)):
                sampled = self._begin(state, candidates, step, length, blank)
                if sampled is not None:
                    return sampled
        problem = (
            f'shows no object on a frame with which a clip of {length} can begin'
            f'{void_note(source)}'
        )
        backwards = '' if self.reverse_probability else ', set reverse_probability'
        remedy = (
            f'annotate an object, lower num_frames{backwards}, or put the clip on the '
            f'exclude list'
        )
        raise ClipDataError.at(source.name, problem, remedy)

    def _draw_steps(
        self,
        rng: np.random.Generator,
        gaps: Sequence[int],
        length: int,
        num_candidates: int,
    ) -> Iterator[int]:
        """Draw a step from frame to frame, then all others in random order.

        The others cost random numbers only where they are needed: a clip whose first
        step works is the same as if there were no others.
        """
        fitting = [gap for gap in gaps if (length - 1) * gap < num_candidates]
        gap = int(rng.choice(fitting))
        first = -gap if rng.random() < self.reverse_probability else gap
        yield first
        signs = [1] * (self.reverse_probability < 1) + [-1] * (
            self.reverse_probability > 0
        )
        others = {sign * gap for sign in signs for gap in fitting} - {first}
        yield from rng.permutation(sorted(others)).tolist()

    def _begin(
        self,
        state: ClipState,
        candidates: Sequence[int],
        step: int,
        length: int,
        blank: set[int],
    ) -> ClipState | None:
        """Look for a start from which a clip can be taken."""
        rng, source = state.rng, state.source
        annotated = frozenset(source.annotated_frames())
        span = (length - 1) * abs(step)
        for start in rng.permutation(len(candidates) - span).tolist():
            first = start if step > 0 else start + span
            if candidates[first] not in annotated or candidates[first] in blank:
                continue  # nothing is known to be seen there
            chosen = [candidates[first + i * step] for i in range(length)]
            seen, masks = list_objects(source, chosen[0])
            if not seen:
                blank.add(chosen[0])
                continue
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
        return None


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
            note = void_note(state.source)
            problem = f'has no object on its first annotated frame{note}'
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
    """Look up a value that changes with the epoch."""
    return [value for start, value in begun if start <= epoch][-1]


def candidate_frames(source: VideoSource, needed: int) -> Iterator[Sequence[int]]:
    """Frames among which a clip is taken.

    Yields:
        The annotated frames, where there are enough; then all frames.

    Raises:
        ClipDataError: If the video is too short.
    """
    annotated = source.annotated_frames()
    if len(annotated) >= needed:
        yield annotated
    if source.num_frames < needed:
        problem = f'needs {needed} frames, has {source.num_frames}'
        remedy = 'lower num_frames or drop the video'
        raise ClipDataError.at(source.name, problem, remedy)
    if len(annotated) < source.num_frames:
        yield range(source.num_frames)
