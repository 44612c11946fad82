"""Choose the frames and objects of a clip."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from mmengine.registry import TRANSFORMS

from ...structures import VideoSource
from ..annotated_video import list_objects, read_objects, void_note
from ..clip_dataset import ClipState
from ..io.errors import ClipDataError

Value = TypeVar('Value')


@TRANSFORMS.register_module()
class ClipSampleFrames:
    """Samples frames at a regular distance, and objects visible on the first of them.

    If masks are sparse, the frames are sampled among the annotated ones as long as
    there are enough of them; otherwise among all, beginning with an annotated one. If
    no clip with the drawn gap and direction begins with an object, the other gaps and
    directions are tried, and finally all frames.

    Args:
        num_frames: Frames of a clip.
        max_num_objects: Largest number of objects, chosen at random from more.
        frame_gaps: Distances between neighbouring frames. One is drawn from those for
            which the video is long enough.
        reverse_probability: Share of clips that run backwards.
        later_num_frames: Pairs of an epoch and ``num_frames`` from that epoch on,
            ascending: short clips teach to match, longer ones not to drift.
        later_frame_gaps: Pairs of an epoch and ``frame_gaps`` from that epoch on,
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
        """Epochs from which on clips are sampled differently, beginning with 0."""
        return sorted({epoch for epoch, _ in (*self.lengths, *self.gaps)})

    def __call__(self, state: ClipState) -> ClipState:
        """Sample frames and objects.

        Returns:
            The clip with ``frame_indices``, ``object_ids``, ``first_ids`` and
            ``first_masks``.

        Raises:
            ClipDataError: If the video is too short or shows no object.
        """
        source = state.source
        length = _value_in_epoch(self.lengths, state.epoch)
        gaps = _value_in_epoch(self.gaps, state.epoch)
        empty_frames: set[int] = set()  # annotated frames that show no object
        for candidates in _candidate_frames(source, (length - 1) * min(gaps) + 1):
            for step in self._draw_steps(state.rng, gaps, length, len(candidates)):
                sampled = self._sample(state, candidates, step, length, empty_frames)
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
        """Draw the step from frame to frame, then all others in random order.

        The others are drawn only if the first one fails, so they do not change the
        random numbers of a clip whose first step works.
        """
        gaps = [gap for gap in gaps if (length - 1) * gap < num_candidates]
        gap = int(rng.choice(gaps))
        first = -gap if rng.random() < self.reverse_probability else gap
        yield first
        signs = [1] * (self.reverse_probability < 1)
        signs += [-1] * (self.reverse_probability > 0)
        others = {sign * gap for sign in signs for gap in gaps} - {first}
        yield from rng.permutation(sorted(others)).tolist()

    def _sample(
        self,
        state: ClipState,
        candidates: Sequence[int],
        step: int,
        length: int,
        empty_frames: set[int],
    ) -> ClipState | None:
        """Sample a clip with a step; None if no start shows an object."""
        rng, source = state.rng, state.source
        annotated = frozenset(source.annotated_frames())
        span = (length - 1) * abs(step)
        for start in rng.permutation(len(candidates) - span).tolist():
            first = start if step > 0 else start + span
            if candidates[first] not in annotated or candidates[first] in empty_frames:
                continue
            frame_indices = tuple(candidates[first + i * step] for i in range(length))
            visible, masks = list_objects(source, frame_indices[0])
            if not visible:
                empty_frames.add(frame_indices[0])
                continue
            num_objects = min(len(visible), self.max_num_objects)
            chosen = rng.choice(len(visible), size=num_objects, replace=False)
            ids = tuple(visible[i] for i in chosen.tolist())
            return replace(
                state,
                frame_indices=frame_indices,
                object_ids=ids,
                first_ids=visible,
                first_masks=masks or read_objects(source, frame_indices[0], ids),
            )
        return None


def _value_in_epoch(values: Sequence[tuple[int, Value]], epoch: int) -> Value:
    return [value for start, value in values if start <= epoch][-1]


def _candidate_frames(source: VideoSource, needed: int) -> Iterator[Sequence[int]]:
    """Yield the annotated frames, if there are enough, then all frames.

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


@TRANSFORMS.register_module()
class ClipSampleWhole:
    """Takes the annotated frames of a video and the objects of the first one.

    Nothing is random: this is for evaluation. Objects are those that the source names
    on the first annotated frame, in its order; their masks may be empty there.

    Args:
        num_frames: Largest number of frames; None for all.
        max_num_objects: Largest number of objects; None for all.

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
        visible, masks = list_objects(state.source, frames[0]) if frames else ((), None)
        ids = (visible if masks is None else masks.object_ids)[: self.max_num_objects]
        if not ids:
            note = void_note(state.source)
            problem = f'has no object on its first annotated frame{note}'
            remedy = 'annotate an object there, or put the video on the exclude list'
            raise ClipDataError.at(state.source.name, problem, remedy)
        return replace(
            state,
            frame_indices=frames,
            object_ids=ids,
            hidden_ids=tuple(i for i in ids if i not in visible),
            first_ids=visible,
            first_masks=masks or read_objects(state.source, frames[0], ids),
        )


@TRANSFORMS.register_module()
class ClipAddHiddenObjects:
    """Adds objects that appear later or not at all, so that absence is learnt.

    Comes after :class:`ClipSampleFrames`. Where a source cannot list the objects of a
    frame, the masks of the frames in question are decoded once more.

    Args:
        max_num_objects: Largest number of objects of a clip.
        later_probability: Share of clips that also get objects which only a later
            frame of the clip shows, as many as there is room for.
        absent_probability: Share of clips that get an object of the video which no
            frame of the clip shows. Without room it replaces the last object, but never
            the only one.

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
        """Add objects to ``object_ids`` and ``hidden_ids``, or not."""
        add_later, add_absent = state.rng.random(2) < (
            self.later_probability,
            self.absent_probability,
        )
        # A clip without visible objects has no frame that can be prompted.
        add_absent = add_absent and self.max_num_objects > 1
        if not add_later and not add_absent:
            return state
        first = {*state.first_ids}
        later = _objects_on(state, state.frame_indices[1:]) - first
        ids: tuple[int, ...] = state.object_ids
        hidden: tuple[int, ...] = ()
        if add_later:
            hidden = self._choose(state, later, self.max_num_objects - len(ids))
        if add_absent:
            others = self._objects_of_another_frame(state) - first - later
            absent = self._choose(state, others, 1)
            room = self.max_num_objects - len(absent)
            ids = ids[:room]
            hidden = (*hidden[: room - len(ids)], *absent)
        return replace(state, object_ids=(*ids, *hidden), hidden_ids=hidden)

    @staticmethod
    def _choose(state: ClipState, ids: set[int], max_num: int) -> tuple[int, ...]:
        """Choose objects at random."""
        order = sorted(ids)
        num_chosen = max(0, min(len(order), max_num))
        chosen = state.rng.choice(len(order), size=num_chosen, replace=False)
        return tuple(order[index] for index in chosen.tolist())

    @staticmethod
    def _objects_of_another_frame(state: ClipState) -> set[int]:
        """Objects of a random annotated frame that is not in the clip."""
        others = sorted({*state.source.annotated_frames()} - {*state.frame_indices})
        if not others:
            return set()
        return _objects_on(state, (others[int(state.rng.integers(len(others)))],))


def _objects_on(state: ClipState, frame_indices: tuple[int, ...]) -> set[int]:
    """Objects that any of the frames shows."""
    return {
        object_id
        for index in frame_indices
        for object_id in list_objects(state.source, index)[0]
    }
