"""The session behind the predictor: corrections, batches, memory on disk, errors."""

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoFrameResult, VideoState
from projects.sam2.models import SAM2Tracker
from projects.sam2.models.memory_bank import MemoryBank
from projects.sam2.models.tracking import memory_store
from projects.sam2.models.tracking.frame import SAMHeads
from projects.sam2.models.tracking.memory_store import (
    ObjectMemory,
    OffloadedMemoryStore,
)
from projects.sam2.structures import FramePrompt, PointPrompt
from toy_videos import (
    SIDE,
    SIZE,
    assert_same_results,
    click,
    masks_of,
    open_files,
    relative_difference,
    toy_frames,
    toy_model,
    track,
    with_finite_scores,
)

CPU = torch.device('cpu')
SHORT_BANK = {'num_frames': 3, 'max_pointers': 4}


def _predictor(
    bank: dict[str, Any] | None = None,
    **options: Any,
) -> SAM2VideoPredictor:
    model = toy_model(tracker__memory_bank=bank or {})
    return SAM2VideoPredictor(model, **({'memory_dtype': torch.float32} | options))


def test_correction_is_overwritten_unless_it_conditions_the_video() -> None:
    for conditions in (False, True):
        predictor = _predictor(add_all_frames_to_correct_as_cond=conditions)
        state = predictor.init_state(toy_frames(5))
        click(predictor, state)
        tracked = track(predictor, state)
        corrected = click(predictor, state, frame=2, at=(60.0, 40.0))
        assert relative_difference(corrected.mask_logits, tracked[2].mask_logits) > 0
        again = track(predictor, state)
        kept = relative_difference(again[2].mask_logits, corrected.mask_logits) == 0
        assert kept is conditions
        assert (2 in state.objects[1].store.conditioning) is conditions


@pytest.mark.parametrize('reverse', [False, True])
def test_click_on_a_tracked_frame_refines_what_was_shown(*, reverse: bool) -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(5))
    click(predictor, state, frame=4 if reverse else 0)
    track(predictor, state, reverse=reverse)
    click(predictor, state, frame=3)
    task = state.objects[1].pending[3].task
    assert task.uses_memory
    assert task.previous_logits is not None
    assert task.query.reverse is reverse


def test_cleared_conditioning_frame_becomes_a_tracked_one() -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(3))
    click(predictor, state)
    track(predictor, state)
    predictor.clear_all_prompts_in_frame(state, 0, 1)
    one = state.objects[1]
    assert not one.store.conditioning
    assert one.output(0) is not None
    assert list(one.tracked_in_reverse) == [1, 2]


def test_least_recently_used_embeddings_are_evicted() -> None:
    predictor = _predictor(num_cached_embeddings=2)
    state = predictor.init_state(toy_frames(4))
    encoded: list[int] = []
    read = state.read_frame

    def counted(frame_index: int) -> Any:
        encoded.append(frame_index)
        return read(frame_index)

    state.read_frame = counted
    for frame in (1, 2, 1, 3):
        state.features(frame)
    assert list(state.embeddings) == [1, 3]
    state.features(2)
    assert encoded == [1, 2, 3, 2]


def test_tracked_memories_around_a_prompt_are_cleared() -> None:
    for clears in (False, True):
        predictor = _predictor(SHORT_BANK, clear_non_cond_mem_around_input=clears)
        state = predictor.init_state(toy_frames(12))
        click(predictor, state)
        track(predictor, state)
        click(predictor, state, frame=6)
        state.commit()
        store = state.objects[1].store
        left = [f for f in range(12) if store.tracked_memory(f) is not None]
        # The correction itself is no conditioning frame, and goes as well.
        assert left == ([1, 2, 10, 11] if clears else list(range(1, 12)))


def test_each_pixel_belongs_to_one_object_if_the_option_is_set() -> None:
    predictor = _predictor(non_overlap_masks=True)
    state = predictor.init_state(toy_frames(3))
    click(predictor, state, number=1)
    click(predictor, state, number=2, at=(40.0, 30.0))
    for result in track(predictor, state).values():
        assert ((result.mask_logits > 0).sum(dim=0) <= 1).all()


def test_filled_holes_are_shown_and_not_encoded_on_tracked_frames() -> None:
    plain, filling = _predictor(), _predictor(fill_hole_area=10_000)
    shown = {}
    for name, predictor in (('plain', plain), ('filling', filling)):
        state = predictor.init_state(toy_frames(3))
        click(predictor, state)
        track(predictor, state, max_frame_num_to_track=1)
        memory = state.objects[1].output(1)
        assert memory is not None
        shown[name] = memory
    # All that is no mask is one hole, smaller than the limit.
    assert (shown['filling'].mask_logits > 0).all()
    assert not (shown['plain'].mask_logits > 0).all()


@pytest.mark.parametrize('max_batch', [1, 2, 16])
def test_objects_tracked_together_equal_each_alone(max_batch: int) -> None:
    predictor = _predictor(max_batch_objects=max_batch)
    prompts = {1: (0, (10.0, 10.0)), 2: (0, (40.0, 30.0)), 5: (2, (60.0, 20.0))}
    frames = toy_frames(24)
    together = predictor.init_state(frames)
    for number, (frame, at) in prompts.items():
        click(predictor, together, number=number, frame=frame, at=at)
    results = track(predictor, together)
    for number, (frame, at) in prompts.items():
        alone = predictor.init_state(frames)
        click(predictor, alone, number=number, frame=frame, at=at)
        expected = track(predictor, alone, start_frame_idx=0)
        both, one = masks_of(results, number), masks_of(expected, number)
        for index in both:
            assert relative_difference(both[index], one[index]) <= 1e-4


def _decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that are decoded from now on."""
    sizes: list[int] = []
    decode = SAMHeads.decode

    def counted(heads: SAMHeads, **inputs: Any) -> object:
        sizes.append(len(inputs['embedding']))
        return decode(heads, **inputs)

    monkeypatch.setattr(SAMHeads, 'decode', counted)
    return sizes


def test_objects_with_full_memories_go_in_one_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = _predictor(SHORT_BANK)
    state = predictor.init_state(toy_frames(9))
    for number, frame in {1: 0, 2: 0, 3: 2}.items():
        click(predictor, state, number=number, frame=frame)
    track(predictor, state, max_frame_num_to_track=7)
    sizes = _decoded(monkeypatch)
    track(predictor, state, start_frame_idx=8)
    assert sizes == [3]


def test_objects_with_fewer_memories_go_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(4))
    click(predictor, state, number=1)
    track(predictor, state, max_frame_num_to_track=2)
    click(predictor, state, number=2, frame=2)
    sizes = _decoded(monkeypatch)
    track(predictor, state, start_frame_idx=3)
    assert sizes == [1, 1]


def test_what_needs_no_memory_is_computed_once_for_all_objects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(2))
    for number in (1, 2, 3):
        click(predictor, state, number=number)
    predictor.propagate_in_video_preflight(state)
    attended: list[int] = []
    for layer in predictor.model.tracker.memory_attention.layers:
        original = layer.self_attention.forward

        def counted(
            query: torch.Tensor,
            *others: torch.Tensor,
            original: Callable[..., torch.Tensor] = original,
            **how: object,
        ) -> torch.Tensor:
            attended.append(len(query))
            return original(query, *others, **how)

        monkeypatch.setattr(layer.self_attention, 'forward', counted)
    track(predictor, state)
    assert attended == [1, 3]


def test_objects_are_tracked_without_memories() -> None:
    predictor = _predictor({'type': 'MemoryBankEmpty'})
    state = predictor.init_state(toy_frames(2))
    for number in (1, 2):
        click(predictor, state, number=number)
    last = track(predictor, state)[1]
    assert last.mask_logits.shape[0] == last.ious.shape[0] == 2


def test_memory_stays_bounded_and_evicted_memories_are_restored() -> None:
    length = 40
    frames = toy_frames(length)
    shown = []
    for bounded in (True, False):
        predictor = _predictor(SHORT_BANK)
        bank = predictor.model.tracker.memory_bank
        if not bounded:
            bank.evict_unreachable = lambda store, query: None
        state = predictor.init_state(frames)
        click(predictor, state)
        results = track(predictor, state)
        store = state.objects[1].store
        assert (len(store.tracked) <= 5) is bounded
        # Back to frames whose memories were evicted, in both directions.
        click(predictor, state, frame=9, at=(60.0, 40.0))
        for how in (
            {'start_frame_idx': 9, 'max_frame_num_to_track': 8},
            {'start_frame_idx': 20, 'reverse': True},
        ):
            results |= track(predictor, state, **how)
        shown.append(results)
    assert_same_results(shown[0], shown[1])


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'fill_hole_area': 10_000, 'max_batch_objects': 2},
        {'memory_dtype': torch.bfloat16},
        {'archive_spatial_memories': True},
        {'competing': True},
        {'autocast': True},
    ],
)
def test_restored_memories_equal_those_that_were_evicted(
    options: dict[str, Any],
) -> None:
    predictor = _predictor(
        SHORT_BANK,
        **{k: v for k, v in options.items() if k not in ('competing', 'autocast')},
    )
    predictor.model.tracker.non_overlapping_memories = 'competing' in options
    state = predictor.init_state(toy_frames(24))
    kept: dict[tuple[int, int], ObjectMemory] = {}

    def keep(frame: int) -> None:
        for one in state.objects.values():
            memory = one.store.tracked.get(frame)
            if isinstance(memory, ObjectMemory):
                kept[one.object_id, frame] = memory

    with torch.autocast('cpu', enabled='autocast' in options):
        for number, at in {1: (10.0, 10.0), 2: (40.0, 30.0), 3: (60.0, 20.0)}.items():
            click(predictor, state, number=number, at=at)
        back: dict[str, Any] = {'start_frame_idx': 20, 'reverse': True}
        for corrected, how in ((9, {}), (10, back)):
            for shown in predictor.propagate_in_video(state, **how):
                keep(shown.frame_index)
            # Memories of corrections are encoded in another way.
            click(predictor, state, frame=corrected, at=(60.0, 40.0))
            state.commit()
            keep(corrected)
        track(predictor, state, start_frame_idx=20)
    num_restored = 0
    for (number, frame), expected in kept.items():
        store = state.objects[number].store
        if frame in store.conditioning or frame >= 20:
            continue
        num_restored += frame not in store.tracked
        restored = store.tracked_memory(frame)
        assert isinstance(restored, ObjectMemory)
        assert restored.encoding == expected.encoding
        assert torch.equal(restored.object_pointer, expected.object_pointer)
        assert torch.equal(restored.mask_logits, expected.mask_logits)
        assert torch.equal(restored.ious, expected.ious)
        assert restored.spatial.dtype is expected.spatial.dtype
        # Alone and in a batch the last bits differ, of 24 or of 8.
        exact = predictor.options.memory_dtype is torch.float32
        allowed = 1e-5 if exact and 'autocast' not in options else 2**-6
        assert relative_difference(restored.spatial, expected.spatial) <= allowed
        output = state.objects[number].output(frame)
        assert output is not None
        assert torch.equal(output.mask_logits, expected.mask_logits)
    assert num_restored >= 45


def test_a_pass_on_a_device_waits_for_no_copy_off_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Copies(TorchDispatchMode):
        """Notes copies off a device; it has no data, which a blocking call needs."""

        blocking: ClassVar[list[bool]] = []

        def __torch_dispatch__(
            self,
            func: torch._ops.OpOverload,
            types: object,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> object:
            del types
            kwargs = kwargs or {}
            target = kwargs.get('device')
            if func is torch.ops.aten._to_copy.default and target == CPU:
                self.blocking.append(not kwargs.get('non_blocking'))
                return torch.zeros(args[0].shape, dtype=args[0].dtype)
            return func(*args, **kwargs)

    class NeverDone:
        """The event of a copy that is on its way for ever."""

        def record(self, stream: object) -> None:
            del stream

        def query(self) -> bool:
            return False

        def synchronize(self) -> None:
            pytest.fail('a copy off the device was waited for')

    monkeypatch.setattr(memory_store, 'ASYNCHRONOUS_DEVICES', ('meta',))
    monkeypatch.setattr(torch.cuda, 'Event', NeverDone)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: device)
    predictor = _predictor(SHORT_BANK, fill_hole_area=8)
    predictor.to('meta')
    state = predictor.init_state(toy_frames(12))
    point = PointPrompt(
        coords=torch.empty(1, 1, 2, device='meta'),
        labels=torch.empty(1, 1, dtype=torch.int32, device='meta'),
    )
    for number in (1, 2):
        state.add_prompt(0, [number], FramePrompt(points=point))
    with Copies() as copies:  # type: ignore[no-untyped-call]
        assert len(track(predictor, state)) == 12
    assert copies.blocking == [False] * 14  # of 7 frames and 2 objects


def test_frames_far_ahead_of_a_pass_are_not_held_in_memory() -> None:
    predictor = _predictor(SHORT_BANK)
    state = predictor.init_state(toy_frames(40))
    click(predictor, state)
    track(predictor, state)
    for start in (30, 20, 10):
        track(predictor, state, start_frame_idx=start, max_frame_num_to_track=2)
        assert len(state.objects[1].store.tracked) <= 10


def test_oldest_memories_beyond_the_limit_are_deleted_and_not_tracked() -> None:
    length, gigabyte = 24, 10**9
    frames = toy_frames(length)
    unbounded = _predictor(SHORT_BANK)
    free = unbounded.init_state(frames)
    click(unbounded, free)
    expected = track(unbounded, free)
    assert free.offload_file is not None
    size = free.offload_file.used_bytes / 3  # room for about six frames
    predictor = _predictor(SHORT_BANK, max_archive_gb=size / gigabyte)
    state = predictor.init_state(frames)
    click(predictor, state)
    with pytest.warns(UserWarning, match='more than max_archive_gb=.*not tracked'):
        shown = track(predictor, state)
    assert_same_results(shown, expected)
    assert state.offload_file is not None
    assert max(state.offload_file.num_bytes, state.offload_file.used_bytes) <= size
    one = state.objects[1]
    tracked = [frame for frame in range(1, length) if one.output(frame)]
    assert tracked == list(range(tracked[0], length))
    assert 8 <= tracked[0] <= 16
    assert [frame for frame in one.tracked_in_reverse if frame] == tracked
    # A prompt there conditions the video, as on a frame that was never tracked.
    alone = predictor.init_state(frames)
    click(predictor, alone)
    again = click(predictor, state, frame=3, at=(60.0, 40.0))
    first = click(predictor, alone, frame=3, at=(60.0, 40.0))
    assert torch.equal(again.mask_logits, first.mask_logits)
    # The warning came once; the next pass tracks these frames again.
    shown = track(predictor, state, start_frame_idx=0)
    assert list(shown) == list(range(length))
    assert 3 in state.objects[1].store.conditioning


def test_a_copy_that_is_kept_costs_no_memories_at_the_limit() -> None:
    predictor = _predictor(SHORT_BANK)
    state = predictor.init_state(toy_frames(24))
    click(predictor, state)
    track(predictor, state, max_frame_num_to_track=11)
    copied = copy.deepcopy(state)
    assert state.offload_file is not None
    predictor.max_archive_gb = state.offload_file.used_bytes / 10**9
    with pytest.warns(UserWarning, match='more than max_archive_gb='):
        track(predictor, state, start_frame_idx=12)
    offloaded = []
    for session in (state, copied):
        store = session.objects[1].store
        assert isinstance(store, OffloadedMemoryStore)
        offloaded.append(list(store.offloaded))
    assert len(offloaded[0]) == len(offloaded[1])
    assert offloaded[1] == list(range(1, 1 + len(offloaded[1])))


def test_nothing_goes_to_disk_where_the_limit_is_zero() -> None:
    predictor = _predictor(SHORT_BANK, max_archive_gb=0)
    state = predictor.init_state(toy_frames(12))
    click(predictor, state)
    before = open_files()
    with pytest.warns(UserWarning, match='max_archive_gb=0'):
        assert len(track(predictor, state)) == 12
    assert open_files() == before
    with pytest.raises(ValueError, match='max_archive_gb is -1'):
        _predictor(max_archive_gb=-1)


def test_objects_share_one_file_and_on_the_host_need_none_for_the_same_masks() -> None:
    predictor = _predictor(SHORT_BANK)
    shown = []
    for offloads in (False, True):
        state = predictor.init_state(toy_frames(12), offload_state_to_cpu=offloads)
        before = open_files()
        for number in range(1, 6):
            click(predictor, state, number=number, at=(12.0 * number, 20.0))
        results = track(predictor, state)
        assert len(open_files() - before) == (0 if offloads else 1)
        results |= track(predictor, state, start_frame_idx=9, reverse=True)
        shown.append(results)
    assert_same_results(shown[0], shown[1])


def test_memories_are_stored_in_the_type_of_the_options() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        predictor = _predictor(memory_dtype=dtype)
        state = predictor.init_state(toy_frames(2))
        click(predictor, state)
        track(predictor, state)
        memory = state.objects[1].store.tracked_memory(1)
        assert memory is not None
        assert memory.spatial.dtype is dtype


def test_frames_need_not_be_square() -> None:
    model = toy_model(data_preprocessor={'image_size': (SIDE, 2 * SIDE)})
    predictor = SAM2VideoPredictor(model)
    state = predictor.init_state(toy_frames(4))
    click(predictor, state)
    results = track(predictor, state)
    assert len(results) == 4
    memory = state.objects[1].output(3)
    assert memory is not None
    assert memory.mask_logits.shape == (1, 1, SIDE // 4, SIDE // 2)


def test_frames_are_encoded_once_for_all_objects() -> None:
    predictor = _predictor(num_cached_embeddings=1)
    encoded = []
    original = predictor.model.encode

    def encode(frames: torch.Tensor) -> Any:
        encoded.append(len(frames))
        return original(frames)

    predictor.model.encode = encode  # type: ignore[method-assign]
    state = predictor.init_state(toy_frames(4))
    for number in (1, 2, 3):
        click(predictor, state, number=number)
    track(predictor, state)
    assert encoded == [1] * 4


@pytest.mark.parametrize('narrow_first', [False, True])
def test_passes_with_and_without_autocast_may_follow_each_other(
    *, narrow_first: bool
) -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(20))
    click(predictor, state)
    for narrow in (narrow_first, not narrow_first):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=narrow):
            shown = track(predictor, state)
        assert shown[19].mask_logits.dtype is torch.float32
        assert shown[19].object_score_logits.dtype is torch.float32
        assert with_finite_scores(list(shown.values()))


def _box(predictor: SAM2VideoPredictor, state: VideoState) -> VideoFrameResult:
    return predictor.add_new_points_or_box(state, 0, 1, box=[8, 12, 40, 24])


def _mask(predictor: SAM2VideoPredictor, state: VideoState) -> VideoFrameResult:
    mask = np.zeros(SIZE, bool)
    mask[10:40, 20:60] = True
    return predictor.add_new_mask(state, 0, 1, mask)


def _click(predictor: SAM2VideoPredictor, state: VideoState) -> VideoFrameResult:
    return predictor.add_new_points_or_box(
        state, 0, 1, [[60, 40]], [0], clear_old_points=False
    )


def _click_anew(predictor: SAM2VideoPredictor, state: VideoState) -> VideoFrameResult:
    predictor.clear_all_prompts_in_frame(state, 0, 1)
    return click(predictor, state, at=(60.0, 40.0))


SECOND_PROMPTS = pytest.mark.parametrize('second', [_click, _box, _mask, _click_anew])


@SECOND_PROMPTS
@pytest.mark.parametrize('others', [0, 1])
def test_conditioning_frame_goes_on_conditioning_with_its_new_answer(
    second: Callable[[SAM2VideoPredictor, VideoState], VideoFrameResult], others: int
) -> None:
    shown = []
    for conditions in (False, True):
        predictor = _predictor(add_all_frames_to_correct_as_cond=conditions)
        state = predictor.init_state(toy_frames(6))
        click(predictor, state)
        if others:
            click(predictor, state, frame=4, at=(40.0, 30.0))
        track(predictor, state)
        answer = second(predictor, state)
        shown.append(track(predictor, state))
        assert list(shown[-1]) == list(range(6))
        assert torch.equal(shown[-1][0].mask_logits, answer.mask_logits)
        assert set(state.objects[1].store.conditioning) == {0, 4} if others else {0}
    assert_same_results(shown[0], shown[1])


@pytest.mark.parametrize('overwritten', [False, True])
@pytest.mark.parametrize('committed', [False, True])
def test_correction_conditions_once_the_first_prompt_is_cleared(
    *, overwritten: bool, committed: bool
) -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(5))
    click(predictor, state)
    track(predictor, state)
    corrected = click(predictor, state, frame=3, at=(60.0, 40.0))
    if committed:
        predictor.propagate_in_video_preflight(state)
    if overwritten:
        track(predictor, state)
    cleared = predictor.clear_all_prompts_in_frame(state, 0, 1)
    assert cleared is not None
    results = track(predictor, state)
    assert list(results) == [3, 4]
    assert list(state.objects[1].store.conditioning) == [3]
    same = torch.equal(results[3].mask_logits, corrected.mask_logits)
    assert same is not overwritten


def _everything(state: VideoState) -> dict[str, Any]:
    """All of a state that a later call can observe, as numbers that are compared."""
    values: dict[str, Any] = {'ids': list(state.objects), 'length': state.num_frames}
    for number, obj in state.objects.items():
        values[f'{number} frames'] = (
            {f: (p.points, p.mask) for f, p in obj.prompts.items()},
            {f: (id(a.step), a.conditioning) for f, a in obj.pending.items()},
            dict(obj.tracked_in_reverse),
            set(obj.corrections),
            list(obj.store.conditioning),
        )
        for frame in range(state.frames.num_frames):
            memory = obj.output(frame)
            values[f'{number} {frame}'] = memory and (
                memory.mask_logits.tolist(),
                memory.object_score_logits.tolist(),
            )
    return values


@pytest.mark.parametrize(
    ('part', 'method', 'message'),
    [
        (SAM2Tracker, 'condition_on_memory', 'while tracking objects 1, 2 on frame 2'),
        (SAM2Tracker, 'encode_memory', 'encoding the prompt of object 1 on frame 2'),
        (MemoryBank, 'evict_unreachable', 'evicting memories of object 1 on frame 2'),
        (VideoState, 'show', ''),
    ],
)
def test_error_in_mid_pass_names_the_object_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, part: type, method: str, message: str
) -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(5))
    click(predictor, state)
    click(predictor, state, number=2, at=(40.0, 30.0))
    passes = predictor.propagate_in_video(state)
    next(passes)
    next(passes)
    click(predictor, state, frame=2, at=(60.0, 40.0))
    predictor.clear_all_prompts_in_frame(state, 2, 1)
    click(predictor, state, frame=1, at=(60.0, 40.0))
    before = _everything(state)

    def fail(*_: object, **__: object) -> None:
        msg = 'out of memory'
        raise torch.OutOfMemoryError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(part, method, fail)
        where = message.replace('on frame 2', 'on frame [12]')
        with pytest.raises(torch.OutOfMemoryError, match=f'out of memory.*{where}'):
            next(passes)
    assert _everything(state) == before
    assert list(track(predictor, state, start_frame_idx=2)) == [2, 3, 4]


def test_refused_pass_changes_nothing() -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(4))
    click(predictor, state)
    track(predictor, state)
    click(predictor, state, frame=2, at=(60.0, 40.0))
    before = _everything(state)
    refused: tuple[dict[str, Any], ...] = (
        {'start_frame_idx': 4},
        {'max_frame_num_to_track': -1},
    )
    for how in refused:
        with pytest.raises(
            ValueError, match=r'Frame 4 is not|max_frame_num_to_track is -1'
        ):
            predictor.propagate_in_video(state, **how)
    assert _everything(state) == before


def test_object_whose_prompt_is_cleared_in_mid_pass_is_named() -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(4))
    click(predictor, state)
    click(predictor, state, number=2)
    passes = predictor.propagate_in_video(state)
    next(passes)
    predictor.clear_all_prompts_in_frame(state, 0, 2)
    before = _everything(state)
    with pytest.raises(ValueError, match='Object 2 has no prompt left'):
        next(passes)
    assert _everything(state) == before


def test_cancelling_stops_every_pass_that_was_begun() -> None:
    predictor = _predictor()
    state = predictor.init_state(toy_frames(5))
    click(predictor, state)
    there = predictor.propagate_in_video(state)
    back = predictor.propagate_in_video(state, start_frame_idx=4, reverse=True)
    assert [next(there).frame_index, next(back).frame_index] == [0, 4]
    predictor.cancel_propagate(state)
    later = predictor.propagate_in_video(state)
    assert [list(there), list(back)] == [[], []]
    assert len(list(later)) == 5


def test_copy_of_a_state_is_independent() -> None:
    predictor = _predictor(SHORT_BANK)
    state = predictor.init_state(toy_frames(12))
    click(predictor, state)
    track(predictor, state)
    before = _everything(state)
    other = copy.deepcopy(state)
    assert _everything(other) == before
    click(predictor, other, frame=5, at=(60.0, 40.0))
    click(predictor, other, number=2, at=(40.0, 30.0))
    shown = track(predictor, other)
    assert _everything(state) == before
    click(predictor, state, frame=5, at=(60.0, 40.0))
    click(predictor, state, number=2, at=(40.0, 30.0))
    assert_same_results(track(predictor, state), shown)


def test_error_of_pickling_a_state_names_the_alternative() -> None:
    predictor = _predictor()
    with pytest.raises(TypeError, match=r'Copy it with copy\.deepcopy'):
        pickle.dumps(predictor.init_state(toy_frames(1)))


def _exchange(predictor: SAM2VideoPredictor, state: VideoState) -> None:
    """What users do to objects while a pass runs."""
    predictor.remove_object(state, 1)
    click(predictor, state, frame=3, number=1, at=(60.0, 40.0))
    click(predictor, state, frame=2, number=7, at=(30.0, 20.0))
    predictor.clear_all_prompts_in_frame(state, 0, 2)
    click(predictor, state, frame=1, number=2, at=(40.0, 10.0))


def test_calls_of_another_thread_wait_for_the_frame_that_is_tracked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def session() -> tuple[SAM2VideoPredictor, VideoState]:
        predictor = _predictor()
        state = predictor.init_state(toy_frames(6))
        click(predictor, state, number=1)
        click(predictor, state, number=2, at=(50.0, 30.0))
        return predictor, state

    expected = {}
    predictor, state = session()
    for result in predictor.propagate_in_video(state):
        expected[result.frame_index] = result
        if result.frame_index == 2:
            _exchange(predictor, state)

    predictor, state = session()
    other = threading.Thread(target=_exchange, args=(predictor, state))

    show = VideoState.show

    def show_slowly(state: VideoState, frame_index: int) -> VideoFrameResult:
        if frame_index == 2 and other.ident is None:
            other.start()
            other.join(timeout=0.2)  # it waits for us, or is done
        return show(state, frame_index)

    monkeypatch.setattr(VideoState, 'show', show_slowly)
    actual = {}
    for result in predictor.propagate_in_video(state):
        actual[result.frame_index] = result
        if result.frame_index == 2:
            other.join()
    assert_same_results(actual, expected)


def test_options_that_change_later_leave_what_was_shown_as_it_was() -> None:
    predictor = _predictor(SHORT_BANK)
    state = predictor.init_state(toy_frames(12))
    click(predictor, state)
    shown = track(predictor, state)
    predictor.fill_hole_area = 10_000
    for frame, result in shown.items():
        later = state.show(frame)
        assert torch.equal(later.mask_logits, result.mask_logits), frame
    filled = track(predictor, state)
    predictor.fill_hole_area = 0
    for frame, result in filled.items():
        later = state.show(frame)
        assert torch.equal(later.mask_logits, result.mask_logits), frame


def test_limits_that_change_later_hold_for_videos_that_are_open() -> None:
    predictor = _predictor(SHORT_BANK)
    state = predictor.init_state(toy_frames(12))
    click(predictor, state)
    predictor.max_archive_gb = 0
    predictor.num_cached_embeddings = 1
    with pytest.warns(UserWarning, match='max_archive_gb=0'):
        track(predictor, state)
    assert [frame for frame in range(12) if frame in state.embeddings] == [11]
    assert state.offload_file is not None
    assert not state.offload_file.num_bytes


class Camera:
    """A reader of a user's own, whose second frame is another one."""

    size = SIZE

    def __init__(self, second: Any, num_frames: Any = 2) -> None:
        self.second, self.num_frames = second, num_frames

    def read(self, frame_index: int) -> Any:
        """Read a frame, or what is none."""
        return self.second if frame_index else toy_frames(1)[0]


@pytest.mark.parametrize(
    ('second', 'message'),
    [
        (None, 'Frame 1 is a NoneType'),
        (np.zeros((*SIZE, 3), np.float32), 'Frame 1 holds float32, not uint8'),
        (np.zeros((40, 80, 3), np.uint8), r'Frame 1 is \(40, 80\), but the first'),
    ],
)
def test_wrong_frame_of_an_own_reader_is_named(second: object, message: str) -> None:
    predictor = _predictor()
    state = predictor.init_state(Camera(second))
    click(predictor, state)
    with pytest.raises((TypeError, ValueError), match=message):
        track(predictor, state)
    for count in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f'num_frames of the reader is {count}'):
            predictor.init_state(Camera(second, count))
