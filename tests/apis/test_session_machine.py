"""Sequences of calls of the video predictor and the stream, drawn at random.

After each call the masks of all frames equal those of a literal session that follows
the released rules; what is refused or fails changes nothing. With the environment
variable ``SAM2_LONG_SESSIONS=2000`` so many sequences are drawn of each machine.
"""

import copy
import functools
import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from literal_sessions import LiteralOptions, LiteralSession, Refused
from projects.sam2.apis import SAM2Stream, SAM2VideoPredictor
from projects.sam2.apis.inputs import read_points
from projects.sam2.apis.video_predictor import VideoFrameResult, VideoState
from projects.sam2.models import SAM2
from projects.sam2.structures import FrameMasks, FramePrompt, ImageFeatures
from toy_videos import SIZE, toy_frames, toy_model

Result = TypeVar('Result')

LONG = int(os.environ.get('SAM2_LONG_SESSIONS', '0'))
MAX_CALLS = 12
LENGTH = 5
STREAM_LENGTH = 12
TOLERANCE = 5e-4  # of logits
TIES = 2  # pixels that two objects claim with the same logit, of each frame
SCORE_SHIFTS = (0.0, -2.9)  # all objects are seen; some of them
BANKS: tuple[dict[str, Any], ...] = (
    {},
    {'num_frames': 3, 'max_pointers': 4},
    {'num_frames': 3, 'max_pointers': 3, 'stride': 2, 'max_conditioning_frames': 2},
)
FRAMES = toy_frames(STREAM_LENGTH)
NUMBERS = st.sampled_from((1, 2, 7))
FRAME = st.integers(0, LENGTH - 1)
FAULT = st.one_of(st.none(), st.none(), st.integers(0, 9))
OPTIONS = st.fixed_dictionaries(
    {
        'fill_hole_area': st.sampled_from((0, 8)),
        'non_overlap_masks': st.booleans(),
        'clear_non_cond_mem_around_input': st.booleans(),
        'add_all_frames_to_correct_as_cond': st.booleans(),
        'max_batch_objects': st.sampled_from((1, 2, 16)),
    }
)
POINT = st.tuples(st.integers(0, SIZE[1] - 1), st.integers(0, SIZE[0] - 1))
CLICKS = st.lists(st.tuples(POINT, st.sampled_from((0, 1))), min_size=1, max_size=2)
BOX = st.sampled_from(((8, 12, 40, 24), (30, 5, 70, 44), (0, 0, 20, 47)))


class Fault(Exception):  # noqa: N818  stands for errors of a device or a disk
    """Raised by a part of the model instead of a result."""


class Faults:
    """Makes a call fail after ``left`` further steps of work."""

    left: int | None = None

    def tick(self) -> None:
        """Count a step of work, or fail."""
        if self.left is None:
            return
        if not self.left:
            self.left = None
            msg = 'out of memory'
            raise Fault(msg)
        self.left -= 1

    def before(self, work: Callable[..., Result]) -> Callable[..., Result]:
        """Wrap a function so that it may fail."""

        @functools.wraps(work)
        def counted(*inputs: Any, **options: Any) -> Result:
            self.tick()
            return work(*inputs, **options)

        return counted


FAULTS = Faults()
SESSION = 'projects.sam2.models.tracking.session'
WORK = (
    f'{SESSION}:decode_frame',
    f'{SESSION}:encode_frame_memory',
    f'{SESSION}:track_objects',
    'projects.sam2.apis.video_predictor:upsample_logits',
    'projects.sam2.models.tracking.memory_store:OffloadFile.offload',
)


@pytest.fixture(autouse=True)
def _parts_that_may_fail() -> Iterator[None]:
    """Let the parts of a session fail when :data:`FAULTS` says so."""
    with ExitStack() as patches:
        for path in WORK:
            original = pkgutil.resolve_name(path)
            patches.enter_context(
                mock.patch(path.replace(':', '.'), FAULTS.before(original))
            )
        yield


@functools.cache
def _model(shift: float, bank: int) -> SAM2:
    """A small model that encodes each frame once in all tests."""
    model = toy_model(tracker__memory_bank=BANKS[bank])
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += shift
    encode, known = model.encode, dict[bytes, ImageFeatures]()

    @torch.no_grad()
    def encode_once(frames: torch.Tensor) -> ImageFeatures:
        FAULTS.tick()
        key = frames.numpy().tobytes()
        if key not in known:
            known[key] = encode(frames)
        return known[key]

    model.encode = encode_once  # type: ignore[method-assign]
    return model


def _snapshot(state: VideoState) -> dict[str, Any]:
    """All of a state that a later call can observe."""
    values: dict[str, Any] = {
        'objects': list(state.objects),
        'frames': (state.num_frames, state.frames.num_frames),
        'promptable': [
            index
            for index in range(state.frames.num_frames)
            if _can_be_prompted(state, index)
        ],
    }
    for number, obj in state.objects.items():
        values[f'{number}'] = (
            {frame: id(prompt) for frame, prompt in obj.prompts.items()},
            {f: (id(a.step), a.conditioning) for f, a in obj.pending.items()},
            dict(obj.tracked_in_reverse),
            set(obj.corrections),
            list(obj.store.conditioning),
        )
        for frame in range(state.frames.num_frames):
            memory = obj.store.conditioning.get(frame)
            pointer = (
                obj.store.tracked_pointer(frame)
                if memory is None
                else memory.object_pointer
            )
            shown = obj.output(frame)
            if pointer is not None and shown is not None:
                values[f'{number} on {frame}'] = (
                    pointer.numpy().tobytes(),
                    shown.mask_logits.numpy().tobytes(),
                )
    return values


def _can_be_prompted(state: VideoState, frame: int) -> bool:
    """Can a frame still be prompted? In a video that is revisited all can be."""
    return state.revisits or frame in state.embeddings


class Machine(RuleBasedStateMachine):
    """Calls that a video and a stream share."""

    predictor: SAM2VideoPredictor
    state: VideoState
    literal: LiteralSession

    def set_up(
        self, options: dict[str, Any], bank: int, shift: float, *, is_stream: bool
    ) -> None:
        """Make the predictor and the literal session."""
        FAULTS.left = None
        model = _model(shift, bank)
        self.predictor = SAM2VideoPredictor(
            model, memory_dtype=torch.float32, **options
        )
        numbers = BANKS[bank]
        self.literal = LiteralSession(
            model,
            lambda index: model.encode(model.data_preprocessor.frame(FRAMES[index])),
            SIZE,
            0 if is_stream else LENGTH,
            LiteralOptions(
                fill_hole_area=options['fill_hole_area'],
                non_overlap_masks=options['non_overlap_masks'],
                clear_around=options['clear_non_cond_mem_around_input'],
                all_corrections_condition=options['add_all_frames_to_correct_as_cond'],
                num_maskmem=numbers.get('num_frames', 7),
                max_pointers=numbers.get('max_pointers', 16),
                stride=numbers.get('stride', 1),
                max_cond_frames=numbers.get('max_conditioning_frames'),
            ),
            is_stream=is_stream,
        )
        self.log: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self.committed = False
        self.others: list[tuple[VideoState, dict[str, Any]]] = []

    def call(
        self,
        ours: Callable[[], Any],
        literal: Callable[[], Any],
        fault: int | None = None,
        *,
        repeats: bool = True,
    ) -> bool:
        """Make the same call on both sessions; ours may fail once first.

        Returns:
            False if both refuse it, or if it failed and is not repeated.
        """
        before = _snapshot(self.state)
        error = _attempt(ours, fault)
        if isinstance(error, Fault):
            assert 'frame' in str(error), error
            assert _snapshot(self.state) == before
            if not repeats:
                return False
            error = _attempt(ours, None)
        is_refused = _refuses(literal)
        assert is_refused is (error is not None), error
        if is_refused:
            assert _snapshot(self.state) == before
        return not is_refused

    @rule(number=NUMBERS, data=st.data(), fault=FAULT)
    def click(self, number: int, data: st.DataObject, fault: int | None) -> None:
        """Points, after earlier ones or in place of them; in pixels or in shares."""
        frame = data.draw(self.promptable())
        clicks = data.draw(CLICKS)
        clears, in_pixels = data.draw(st.booleans()), data.draw(st.booleans())
        points = np.array([at for at, _ in clicks], float)
        self.prompt(
            {
                'frame_idx': frame,
                'obj_id': number,
                'points': points if in_pixels else points / SIZE[::-1],
                'labels': [label for _, label in clicks],
                'clear_old_points': clears,
                'normalize_coords': in_pixels,
            },
            fault,
        )

    @rule(number=NUMBERS, data=st.data(), box=BOX, fault=FAULT)
    def give_box(
        self,
        number: int,
        data: st.DataObject,
        box: tuple[int, ...],
        fault: int | None,
    ) -> None:
        """A box."""
        frame = data.draw(self.promptable())
        self.prompt({'frame_idx': frame, 'obj_id': number, 'box': box}, fault)

    @rule(number=NUMBERS, data=st.data(), box=BOX, fault=FAULT)
    def give_mask(
        self,
        number: int,
        data: st.DataObject,
        box: tuple[int, ...],
        fault: int | None,
    ) -> None:
        """A mask."""
        frame = data.draw(self.promptable())
        mask = np.zeros(SIZE, dtype=bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        self.prompt({'frame_idx': frame, 'obj_id': number, 'mask': mask}, fault)

    def prompt(self, given: dict[str, Any], fault: int | None) -> None:
        """Give a prompt to both sessions."""
        number, frame = given['obj_id'], given['frame_idx']
        prompt = self.read(given)

        def ours() -> None:
            self.check_shown(frame, _give(self.predictor, self.state, given))

        if self.call(ours, lambda: self.literal.prompt(number, frame, prompt), fault):
            self.log.setdefault((number, frame), []).append(given)

    def read(self, given: dict[str, Any]) -> FramePrompt:
        """A prompt as the model takes it."""
        model = self.predictor.model
        if 'mask' in given:
            masks = FrameMasks(object_ids=(1,), masks=given['mask'][None])
            return FramePrompt(mask=model.data_preprocessor.mask_prompt(masks))
        read = read_points(
            points=given.get('points'),
            labels=given.get('labels'),
            box=given.get('box'),
            size=SIZE,
            in_pixels=given.get('normalize_coords', True),
        )
        assert read is not None
        points = model.data_preprocessor.point_prompt(read)
        obj = self.literal.objects.get(given['obj_id'])
        earlier = None if obj is None else obj.inputs.get(given['frame_idx'])
        clears = given.get('clear_old_points', True)
        if not clears and earlier is not None and earlier.points is not None:
            points = earlier.points.followed_by(points)
        return FramePrompt(points=points)

    @rule(number=NUMBERS, data=st.data(), shows=st.booleans(), fault=FAULT)
    def clear(
        self, number: int, data: st.DataObject, *, shows: bool, fault: int | None
    ) -> None:
        """Clear the prompts of a frame, if there are any."""
        frame = data.draw(self.frames())

        def ours() -> None:
            result = self.predictor.clear_all_prompts_in_frame(
                self.state, frame, number, need_output=shows
            )
            assert (result is not None) is shows
            if result is not None:
                self.check_shown(frame, result)

        if self.call(ours, lambda: self.literal.clear(number, frame), fault):
            self.log.pop((number, frame), None)

    @rule(number=NUMBERS, strict=st.booleans(), shows=st.booleans(), fault=FAULT)
    def remove(
        self, number: int, *, strict: bool, shows: bool, fault: int | None
    ) -> None:
        """Remove an object, known or not."""
        prompted = sorted(frame for n, frame in self.log if n == number)

        def ours() -> None:
            ids, results = self.predictor.remove_object(
                self.state, number, strict=strict, need_output=shows
            )
            assert number not in ids
            frames = [result.frame_index for result in results]
            assert frames == (prompted if shows and ids else [])

        if self.call(ours, lambda: self.literal.remove(number, strict=strict), fault):
            for key in [key for key in self.log if key[0] == number]:
                del self.log[key]

    @rule()
    def reset(self) -> None:
        """Remove all objects."""
        self.call(lambda: self.predictor.reset_state(self.state), self.literal.reset)
        self.log.clear()
        self.committed = False

    @rule(number=NUMBERS, what=st.sampled_from(('frame', 'points', 'mask', 'kind')))
    def refuse(self, number: int, what: str) -> None:
        """A malformed prompt changes nothing."""
        given: dict[str, Any] = {
            'frame_idx': 0,
            'obj_id': number,
            'box': (8, 9, 40, 24),
        }
        malformed: dict[str, dict[str, Any]] = {
            'frame': {'frame_idx': 99},
            'points': {'points': [[5, np.nan]], 'labels': [1]},
            'mask': {'mask': np.zeros((3, 3), bool)},
            'kind': {'clear_old_points': False},
        }
        given |= malformed[what]
        before = _snapshot(self.state)
        with pytest.raises(ValueError, match=r'\w'):
            _give(self.predictor, self.state, given)
        assert _snapshot(self.state) == before

    def frames(self) -> st.SearchStrategy[int]:
        """Frames of the video."""
        return st.integers(0, max(self.literal.num_frames - 1, 0))

    def promptable(self) -> st.SearchStrategy[int]:
        """Frames that can be prompted."""
        return self.frames()

    def check_shown(self, frame: int, result: VideoFrameResult) -> None:
        """A call returns the masks that are shown afterwards."""
        FAULTS.left = None
        assert result.frame_index == frame
        again = self.state.show(frame)
        assert result.object_ids == again.object_ids
        assert torch.equal(result.mask_logits, again.mask_logits)

    @invariant()
    def equals_the_literal_session(self) -> None:
        """Masks of all objects on all frames."""
        assert list(self.state.objects) == list(self.literal.objects)
        for frame in range(self.literal.num_frames):
            if not _can_be_prompted(self.state, frame):
                continue  # its memory may be evicted
            shown = self.state.show(frame)
            expected = self.literal.show(frame)
            assert shown.mask_logits.shape == expected.shape
            assert shown.mask_logits.isfinite().all()
            difference = (shown.mask_logits - expected).abs()
            wrong = int((difference > TOLERANCE).sum())
            most = TIES if self.literal.options.non_overlap_masks else 0
            assert wrong <= most, (frame, wrong, difference.max())

    @invariant()
    def is_consistent(self) -> None:
        """The records of an object are consistent."""
        for number, obj in self.state.objects.items():
            known = self.literal.objects[number]
            conditioning = set(obj.store.conditioning)
            assert conditioning == known.cond.keys()
            assert obj.prompts.keys() == known.inputs.keys()
            assert obj.pending.keys() == known.temp.keys()
            assert obj.pending.keys() | conditioning <= obj.prompts.keys()
            assert obj.corrections <= obj.prompts.keys()
            for frame in range(self.literal.num_frames):
                tracked = obj.store.tracked_pointer(frame) is not None
                assert not (tracked and frame in conditioning)
            if self.state.revisits:
                assert bool(obj.conditioning_frames) is bool(obj.prompts)

    def teardown(self) -> None:
        """The originals of copies did not change."""
        for state, snapshot in getattr(self, 'others', ()):
            assert _snapshot(state) == snapshot


class VideoMachine(Machine):
    """Calls on a video."""

    @initialize(
        options=OPTIONS,
        bank=st.integers(0, len(BANKS) - 1),
        shift=st.sampled_from(SCORE_SHIFTS),
        cached=st.sampled_from((1, 8)),
        ahead=st.booleans(),
        first=st.sampled_from((0, 0, 2, LENGTH - 1)),
        box=BOX,
        starts_anew=st.sampled_from((False, False, False, True)),
    )
    def begin(
        self,
        options: dict[str, Any],
        bank: int,
        shift: float,
        *,
        cached: int,
        first: int,
        box: tuple[int, ...],
        ahead: bool,
        starts_anew: bool,
    ) -> None:
        """Open a video, and prompt an object."""
        self.starts_anew = starts_anew
        options |= {'num_cached_embeddings': cached}
        self.set_up(options, bank, shift, is_stream=False)
        self.state = self.predictor.init_state(
            FRAMES[:LENGTH], async_loading_frames=ahead
        )
        self.passes: list[tuple[Iterator[VideoFrameResult], Iterator[int]]] = []
        self.prompt({'frame_idx': first, 'obj_id': 1, 'box': box}, None)

    @rule(
        start=st.one_of(st.none(), FRAME),
        count=st.one_of(st.none(), st.integers(0, LENGTH)),
        reverse=st.booleans(),
        fault=FAULT,
        steps=st.one_of(st.none(), st.integers(1, 3)),
    )
    def propagate(
        self,
        start: int | None,
        count: int | None,
        *,
        reverse: bool,
        fault: int | None,
        steps: int | None,
    ) -> None:
        """Start a pass, and track some frames or all."""
        self.propagate_from(start, count, reverse, steps, fault)

    @precondition(lambda self: bool(getattr(self, 'passes', [])))
    @rule(which=st.integers(-2, -1), steps=st.integers(1, LENGTH), fault=FAULT)
    def continue_pass(self, which: int, steps: int, fault: int | None) -> None:
        """Continue a pass."""
        self.advance(max(which, -len(self.passes)), steps, fault)

    @rule(
        how=st.sampled_from(
            (
                {},
                {'start_frame_idx': 0},
                {'start_frame_idx': LENGTH - 1, 'reverse': True},
            )
        ),
        fault=FAULT,
    )
    def propagate_wholly(self, how: dict[str, Any], fault: int | None) -> None:
        """A whole pass, the most common call."""
        start, reverse = how.get('start_frame_idx'), how.get('reverse', False)
        self.propagate_from(start, None, reverse, None, fault)

    def propagate_from(
        self,
        start: int | None,
        count: int | None,
        reverse: bool,
        steps: int | None,
        fault: int | None,
    ) -> None:
        """Start a pass, and track some frames or all."""
        ours = self.predictor.propagate_in_video(
            self.state, start, count, reverse=reverse
        )
        literal = self.literal.propagate(start, count, reverse=reverse)
        self.passes = [*self.passes, (ours, literal)][-2:]
        self.advance(-1, LENGTH + 1 if steps is None else steps, fault)

    def advance(self, which: int, steps: int, fault: int | None) -> None:
        """Track some frames of a pass; a failure ends it."""
        ours, literal = self.passes[which]
        reached: list[int | None] = [None]

        def step() -> None:
            result = next(ours, None)
            reached[0] = None if result is None else result.frame_index
            if result is not None:
                self.check_shown(result.frame_index, result)

        def expect() -> None:
            expected.append(next(literal, None))

        for number in range(steps):
            expected: list[int | None] = []
            is_last = number == steps - 1
            if not self.call(step, expect, fault if is_last else None, repeats=False):
                del self.passes[which]
                return
            self.committed = True
            assert expected == reached
            if reached[0] is None:
                del self.passes[which]
                return

    @rule()
    def cancel(self) -> None:
        """Stop all passes."""
        self.predictor.cancel_propagate(self.state)
        before = _snapshot(self.state)
        for ours, _ in self.passes:
            assert not list(ours)
        assert _snapshot(self.state) == before
        self.passes.clear()

    @rule(fault=FAULT)
    def commit(self, fault: int | None) -> None:
        """Encode the memories of all prompts."""

        def ours() -> None:
            self.predictor.propagate_in_video_preflight(self.state)

        if self.call(ours, self.literal.preflight, fault):
            self.committed = True

    @rule(
        how=st.sampled_from(
            (
                {'start_frame_idx': LENGTH},
                {'start_frame_idx': 1.5},
                {'max_frame_num_to_track': -1},
            )
        )
    )
    def refuse_pass(self, how: dict[str, Any]) -> None:
        """A pass that cannot be changes nothing."""
        before = _snapshot(self.state)
        with pytest.raises((ValueError, TypeError), match=r'\w'):
            self.predictor.propagate_in_video(self.state, **how)
        assert _snapshot(self.state) == before

    @rule()
    def continue_with_a_copy(self) -> None:
        """Continue with a copy; the original stays as it is."""
        before = _snapshot(self.state)
        self.others.append((self.state, before))
        self.state = copy.deepcopy(self.state)
        copied = _snapshot(self.state)
        assert copied == before
        self.passes.clear()

    def teardown(self) -> None:
        """The prompts that are left give the masks of a fresh session."""
        super().teardown()
        if not hasattr(self, 'state') or not self.log:
            return
        if self.committed and not self.starts_anew:
            return
        self.order = list(self.state.objects)
        if self.committed:
            self.predictor.reset_state(self.state)
            self.replay(self.state)
        for number in [n for n, obj in self.state.objects.items() if not obj.prompts]:
            self.predictor.remove_object(self.state, number)
        fresh = self.predictor.init_state(FRAMES[:LENGTH])
        self.replay(fresh)
        for first, second in zip(
            self.predictor.propagate_in_video(self.state),
            self.predictor.propagate_in_video(fresh),
            strict=True,
        ):
            for number in first.object_ids:
                rows = [r.object_ids.index(number) for r in (first, second)]
                masks = first.mask_logits[rows[0]], second.mask_logits[rows[1]]
                difference = (masks[0] - masks[1]).abs()
                assert int((difference > TOLERANCE).sum()) <= TIES

    def replay(self, state: VideoState) -> None:
        """Give the prompts that are left, in the order of the objects."""
        for number in self.order:
            for (object_id, _), calls in self.log.items():
                for given in calls if object_id == number else ():
                    _give(self.predictor, state, given)


class StreamMachine(Machine):
    """Calls on a stream."""

    @initialize(
        options=OPTIONS,
        bank=st.integers(0, len(BANKS) - 1),
        shift=st.sampled_from(SCORE_SHIFTS),
        cached=st.sampled_from((1, 3)),
    )
    def begin(
        self, options: dict[str, Any], bank: int, shift: float, cached: int
    ) -> None:
        """Open a stream."""
        options |= {'num_cached_embeddings': cached}
        self.set_up(options, bank, shift, is_stream=True)
        self.stream = SAM2Stream(self.predictor)
        self.state = self.stream.state
        self.literal.can_encode = lambda frame: frame in self.state.embeddings
        self.literal.has_memory = self.has_memory
        self.track(2, None)
        self.prompt({'frame_idx': 1, 'obj_id': 1, 'box': (8, 12, 40, 24)}, None)

    def has_memory(self, number: object, frame: int) -> bool:
        """Does the stream have the memory of a frame?"""
        assert isinstance(number, int)
        store = self.state.objects[number].store
        return frame in store.conditioning or store.tracked_pointer(frame) is not None

    @rule(steps=st.integers(1, 3), fault=FAULT)
    def track(self, steps: int, fault: int | None) -> None:
        """The next frames arrive."""
        for _ in range(min(steps, STREAM_LENGTH - self.literal.num_frames)):
            self.call(self.next_frame, self.literal.come, fault)

    def next_frame(self) -> None:
        """Track the next frame."""
        frame = self.literal.num_frames
        self.check_shown(frame, self.stream.track(FRAMES[frame]))

    @rule(shape=st.sampled_from(((48, 80), (40, 80, 3), (48, 80, 4))))
    def bad_frame(self, shape: tuple[int, ...]) -> None:
        """A wrong frame changes nothing."""
        before = _snapshot(self.state)
        with pytest.raises(ValueError, match='Frame'):
            self.stream.track(np.zeros(shape, np.uint8))
        assert _snapshot(self.state) == before

    @rule(number=NUMBERS)
    def prompt_passed_frame(self, number: int) -> None:
        """A frame that has passed cannot be prompted."""
        for frame in range(self.literal.num_frames):
            if (
                not _can_be_prompted(self.state, frame)
                and frame < self.stream.frame_index
            ):
                before = _snapshot(self.state)
                with pytest.raises(ValueError, match='has passed'):
                    _give(
                        self.predictor,
                        self.state,
                        {'frame_idx': frame, 'obj_id': number, 'box': (8, 9, 40, 24)},
                    )
                assert _snapshot(self.state) == before
                return

    @rule()
    def continue_with_a_copy(self) -> None:
        """Continue with a copy; the original stays as it is."""
        before = _snapshot(self.state)
        self.others.append((self.state, before))
        self.stream = copy.deepcopy(self.stream)
        self.state = self.stream.state
        copied = _snapshot(self.state)
        assert copied == before

    def promptable(self) -> st.SearchStrategy[int]:
        """The latest frame, and those whose embeddings are kept."""
        latest = self.stream.frame_index
        return st.sampled_from(
            [
                f
                for f in range(latest + 1)
                if _can_be_prompted(self.state, f) or f == latest
            ]
        )


def _attempt(call: Callable[[], Any], fault: int | None) -> Exception | None:
    """The error of a call that failed or was refused, or None."""
    FAULTS.left = fault
    try:
        call()
    except (Fault, ValueError) as error:
        return error
    finally:
        FAULTS.left = None
    return None


@torch.no_grad()
def _refuses(call: Callable[[], Any]) -> bool:
    """Does the literal session refuse a call?"""
    try:
        call()
    except Refused:
        return True
    return False


def _give(
    predictor: SAM2VideoPredictor, state: VideoState, given: dict[str, Any]
) -> VideoFrameResult:
    """Give a prompt of any kind."""
    if 'mask' in given:
        return predictor.add_new_mask(
            state, given['frame_idx'], given['obj_id'], given['mask']
        )
    return predictor.add_new_points_or_box(state, **given)


@pytest.mark.timeout(0 if LONG else 180)
@pytest.mark.parametrize('machine', [VideoMachine, StreamMachine])
def test_any_sequence_of_calls_keeps_the_rules(machine: type[Machine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=LONG or 20,
            stateful_step_count=MAX_CALLS,
            derandomize=not LONG,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=bool(LONG),
        ),
    )
