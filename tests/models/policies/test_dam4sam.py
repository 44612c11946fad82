"""DAM4SAM: which frames are added, which are attended to, and what stays in RAM."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    assert_within,
    discover_variants,
    unpack_masks,
)
from golden_models import golden_model
from policy_cases import labelled_memory, query_of
from projects.sam2.models.memory_bank import (
    Decision,
    FrameNote,
    MemoryBank,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    Observation,
)
from projects.sam2.models.policies.dam4sam import (
    DAM4SAMNote,
    MemoryBankDAM4SAM,
    box_overlap,
    distractor_overlap,
)
from projects.sam2.models.tracking.memory_store import (
    ObjectMemory,
    OffloadedMemoryStore,
)
from projects.sam2.models.tracking.session import SessionOptions, VideoSession
from projects.sam2.ops import upsample_logits
from projects.sam2.structures import (
    DecoderStep,
    FrameMasks,
    FramePrompt,
    TrackingMode,
)
from toy_videos import SIDE, relative_difference, toy_frames, toy_model
from variant_videos import case_frames

# Names of the options in the golden files, and ours.
OPTIONS = {
    'memory_temporal_stride_for_eval': 'stride',
    'max_cond_frames_in_attn': 'max_conditioning_frames',
    'max_obj_ptrs_in_encoder': 'max_pointers',
    'num_maskmem': 'num_frames',
}
THRESHOLDS = {'iou': 'min_iou', 'box_overlap': 'max_overlap'}


def golden_bank(overrides: dict[str, Any]) -> MemoryBankDAM4SAM:
    """The policy with the options of a golden case."""
    return MemoryBankDAM4SAM(**{OPTIONS[key]: n for key, n in overrides.items()})


def add(
    store: MemoryStore, frame: int, note: DAM4SAMNote, *, reverse: bool | None = False
) -> None:
    """Add a tracked frame, or a prompted one where ``reverse`` is None."""
    store.add(
        frame,
        labelled_memory(frame),
        conditioning=reverse is None,
        note=FrameNote(value=note, reverse=reverse),
    )


def frames_of(selection: MemorySelection) -> tuple[list[int], list[int], list[int]]:
    """Frames of the memories, their ages, and frames of the pointers."""
    return (
        [int(memory.spatial[0, 0, 0, 0]) for memory in selection.memories],
        [memory.age for memory in selection.memories],
        [int(pointer.pointer[0, 0]) for pointer in selection.pointers],
    )


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('dam4sam_overlap*'))
def test_boxes_overlap_as_in_the_released_tracker(case: GoldenCase) -> None:
    for row in case.spec['rows']:
        overlap = box_overlap(tuple(row['box_a']), tuple(row['box_b']))
        assert_within(np.array(overlap), np.array(row['overlap']), 1e-9, str(row))


def test_boxes_of_one_row_or_column_count_as_the_same() -> None:
    assert box_overlap((3, 3, 9, 4), (3, 3, 20, 4)) == 1.0
    assert box_overlap((3, 3, 4, 9), (4, 2, 4, 20)) == 1.0


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('dam4sam_drm*'))
def test_the_frames_of_the_released_tracker_are_added(case: GoldenCase) -> None:
    bank = MemoryBankDAM4SAM()
    for number, expected in enumerate(case.spec['cases']):
        shape = case.arrays[f'case{number}/shape']
        masks = unpack_masks(case.arrays[f'case{number}/masks'], shape).numpy()
        note, added, sizes = None, [], []
        for frame, ious in enumerate(case.arrays[f'case{number}/ious'], start=1):
            chosen = int(ious.argmax())
            mask, others = (
                masks[frame - 1][chosen],
                np.delete(masks[frame - 1], chosen, 0),
            )
            sizes.append(int(mask.sum()))
            note = bank.next_note(
                note,
                frame_index=frame,
                is_visible=sizes[-1] > 0,
                size=sizes[-1],
                iou=float(ious[chosen]),
                overlap=partial(distractor_overlap, mask, others),
            )
            added += [frame] if note.is_added else []
        assert sizes == expected['object_sizes']
        assert_exact(added, expected['added_frames'], f'case {number}')


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('dam4sam_memory*'))
def test_the_memories_of_the_released_tracker_are_selected(case: GoldenCase) -> None:
    for expected in case.spec['cases']:
        bank, store = golden_bank(expected['overrides']), MemoryStore()
        added = expected['drm_frames'][1:]
        for row in expected['selected']:
            frame = row['frame'] - 1
            is_visible = expected['n_pixels'][frame] > 0
            note = DAM4SAMNote(is_visible=is_visible, is_added=frame in added)
            add(store, frame, note, reverse=False if frame else None)
            bank.evict_unreachable(store, query_of(frame))
            selection = bank.select(store, query_of(row['frame']))
            memories, ages, pointers = frames_of(selection)
            assert_exact(memories, _frames(row['spatial']), f'memories of {row}')
            assert_exact(pointers, _frames(row['pointers']), f'pointers of {row}')
            slots = [(age - 1) % bank.num_frames for age in ages]
            assert_exact(slots, row['tpos_index'], f'temporal positions of {row}')
            assert selection.max_pointers == min(row['frame'] + 1, bank.max_pointers)


def _frames(labels: list[str]) -> list[int]:
    """Frames of labels such as ``c0`` and ``n7``."""
    return [int(label[1:]) for label in labels]


class RecordingBank(MemoryBankDAM4SAM):
    """Remembers what each tracked frame attended to, and the IoUs of its candidates."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attended: list[dict[str, Any]] = []
        self.ious: list[Tensor] = []

    def select(self, store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        """Select memories and name them as the golden files do."""
        selection = super().select(store, query)
        memories = store.conditioning | store.tracked
        names = {
            id(tensor): f'{"c" if is_resolving(store, frame) else "n"}{frame}'
            for frame, memory in memories.items()
            for tensor in (memory.spatial, memory.object_pointer)
        }
        row = {
            'frame': query.frame_index,
            'obj': None,
            'spatial': [names[id(m.spatial)] for m in selection.memories],
            'pointers': [names[id(p.pointer)] for p in selection.pointers],
            'tpos_index': [(m.age - 1) % self.num_frames for m in selection.memories],
        }
        self.attended.append(row)
        return selection

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        """Observe a frame."""
        if not observation.is_prompted:
            self.ious.append(observation.step.candidate_ious[0])
        return super().observe(store, observation)


def is_resolving(store: MemoryStore, frame: int) -> bool:
    """Whether a frame belongs to the distractor-resolving memory."""
    value = store.notes[frame].value
    assert isinstance(value, DAM4SAMNote)
    return frame in store.conditioning or value.is_added


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('dam4sam_video_*'))
def test_a_video_is_tracked_as_by_the_released_tracker(case: GoldenCase) -> None:
    frames = case_frames(case)
    model = golden_model(case.spec['salt'])
    overrides = {key.lstrip('+'): n for key, n in case.spec['overrides'].items()}
    bank = RecordingBank(
        **{OPTIONS[key]: overrides[key] for key in OPTIONS.keys() & overrides.keys()},
        **{THRESHOLDS[key]: n for key, n in case.spec['thresholds'].items()},
    )
    model.tracker.memory_bank = bank
    options = SessionOptions(memory_dtype=torch.float32)
    session = VideoSession(
        model, frames.__getitem__, num_frames=len(frames), options=options
    )
    mask = unpack_masks(case.arrays['f0/mask_bits'], (1, *frames.shape[1:3]))
    given = FrameMasks(object_ids=(1,), masks=mask.numpy())
    prompt = FramePrompt(mask=model.data_preprocessor.mask_prompt(given))
    session.add_prompt(0, [1], prompt)
    added, compared = [], {'f0/mask_bits', 'ious'}
    for frame in range(len(frames)):
        session.step(frame)
        store = session.objects[1].store
        kind = 'c' if is_resolving(store, frame) else 'n'
        added += [frame] if kind == 'c' and frame else []
        memory = (store.conditioning | store.tracked)[frame]
        assert isinstance(memory, ObjectMemory)
        shown = upsample_logits(memory.mask_logits, frames.shape[1:3]) > 0
        assert_exact(int(shown.sum()), int(case.arrays[f'f{frame}/area']), f'f{frame}')
        numbers = {
            'low': memory.mask_logits[0, 0],
            'score': memory.object_score_logits[0],
            'ptr': memory.object_pointer[0],
            'mem': memory.spatial[0],
        }
        compared.add(f'f{frame}/area')
        for key, actual in numbers.items():
            golden = f'f{frame}/{kind}/{key}'
            if golden in case.arrays:
                assert_close(actual, case.arrays[golden], 5e-4, golden)
                compared.add(golden)
    assert compared == set(case.arrays)
    assert_close(torch.stack(bank.ious), case.arrays['ious'], 5e-4, 'IoUs')
    decisions = case.spec['extra']['decisions']
    assert_exact(added, decisions['drm_added'], 'added frames')
    assert_exact(bank.attended, decisions['memory'], 'memories')


def prompted(frame: int = 0) -> MemoryStore:
    """The memories of an object that was prompted on a frame."""
    store = MemoryStore()
    add(store, frame, DAM4SAMNote(is_visible=True), reverse=None)
    return store


@settings(max_examples=25)
@given(
    states=st.lists(st.sampled_from('.vva'), min_size=30, max_size=90),
    stride=st.integers(1, 6),
    num_frames=st.integers(1, 7),
    max_pointers=st.sampled_from((1, 4, 16)),
    start=st.sampled_from((0, 7, 200)),
    reverse=st.booleans(),
)
def test_evicted_memories_are_never_missed_and_time_runs_along_the_pass(
    states: list[str],
    stride: int,
    num_frames: int,
    max_pointers: int,
    start: int,
    *,
    reverse: bool,
) -> None:
    bank = MemoryBankDAM4SAM(
        stride=stride, num_frames=num_frames, max_pointers=max_pointers
    )
    # Frames without the object, with it, and added; forwards from 0 nothing is evicted.
    whole, running = prompted(), prompted(start)
    step = -1 if reverse else 1
    for time, state in enumerate(states, start=1):
        frame = start + step * time
        now, query = query_of(time), query_of(frame, reverse=reverse)
        expected, actual = bank.select(whole, now), bank.select(running, query)
        times = [[start + step * n for n in part] for part in frames_of(expected)]
        memories, ages, pointers = frames_of(actual)
        assert (memories, pointers) == (times[0], times[2])
        assert ages == frames_of(expected)[1]
        offsets = [pointer.time_offset for pointer in actual.pointers]
        assert offsets == [pointer.time_offset for pointer in expected.pointers]
        note = DAM4SAMNote(is_visible=state != '.', is_added=state == 'a')
        add(whole, time, note)
        add(running, frame, note, reverse=reverse)
        bank.evict_unreachable(running, query)
        # The frame may be tracked again, with a prompt.
        assert frames_of(bank.select(running, query)) == (memories, ages, pointers)
        reach = max(max_pointers, 2 + stride * num_frames)
        assert len(running.tracked) <= reach + num_frames + 5
        assert running.notes.keys() == running.tracked.keys() | {start}


def test_frames_of_the_other_direction_and_of_training_are_left_out() -> None:
    bank, store = MemoryBankDAM4SAM(), prompted(20)
    note = DAM4SAMNote(is_visible=True, is_added=True)
    for frame in range(19, 9, -1):
        add(store, frame, note, reverse=True)
    assert frames_of(bank.select(store, query_of(21))) == ([20], [0], [20])
    # A pass that starts before the first prompt has nothing but those.
    assert bank.select(store, query_of(15)).memories
    training = replace(query_of(21), mode=TrackingMode.TRAINING)
    plain = MemoryBank(stride=5).select(store, training)
    assert frames_of(bank.select(store, training)) == frames_of(plain)


def test_the_object_is_remembered_after_a_long_absence() -> None:
    bank, store = MemoryBankDAM4SAM(), prompted()
    for frame in range(1, 2000):
        add(store, frame, DAM4SAMNote(is_visible=frame < 12, is_added=frame == 7))
        bank.evict_unreachable(store, query_of(frame))
    memories, ages, pointers = frames_of(bank.select(store, query_of(2000)))
    assert (memories, ages) == ([7, 0, 5, 10, 11], [0, 0, 3, 2, 1])
    assert pointers == [7, 0]


def test_what_a_user_prompted_goes_before_what_the_policy_added() -> None:
    bank, store = MemoryBankDAM4SAM(max_conditioning_frames=3), prompted()
    for frame in range(1, 40):
        note = DAM4SAMNote(is_visible=True, is_added=frame in {20, 30, 35})
        add(store, frame, note, reverse=None if frame == 10 else False)
    memories, _, _ = frames_of(bank.select(store, query_of(40)))
    assert memories[:3] == [35, 0, 10]
    # A bank of few temporal positions keeps the adjacent frame beside them.
    short = MemoryBankDAM4SAM(num_frames=3, max_conditioning_frames=4)
    memories, ages, _ = frames_of(short.select(store, query_of(40)))
    assert (memories, ages) == ([35, 0, 10, 30, 39], [0, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ('options', 'is_added'),
    [
        ({}, True),
        ({'min_iou': 0.9}, False),
        ({'max_overlap': 0.39}, False),
        ({'size_range': (0.8, 1.09)}, False),
        ({'min_interval': 9}, False),
        ({'min_interval': 8}, True),
    ],
)
def test_each_threshold_decides(options: dict[str, Any], *, is_added: bool) -> None:
    bank = MemoryBankDAM4SAM(**options)
    previous = DAM4SAMNote(
        is_visible=True, last_added=21, num_tracked=7, sizes=((1, 10), (6, 10), (7, 10))
    )
    what: Any = {'is_visible': True, 'size': 11, 'iou': 0.9, 'overlap': lambda: 0.4}
    note = bank.next_note(previous, frame_index=30, **what)
    assert note.is_added is is_added
    assert note.last_added == (30 if is_added else 21)
    # After a prompt, there is no earlier size to compare with.
    assert not bank.next_note(None, frame_index=30, **what).is_added


def test_sizes_of_long_ago_are_forgotten() -> None:
    bank, size, number = MemoryBankDAM4SAM(), 10, 1000
    for age, is_added in ((299, False), (300, True)):
        previous = DAM4SAMNote(
            is_visible=True,
            num_tracked=number - 1,
            sizes=((number - age, 100 * size),),
        )
        note = bank.next_note(
            previous,
            frame_index=number,
            is_visible=True,
            size=size,
            iou=0.9,
            overlap=lambda: 0.0,
        )
        assert note.is_added is is_added


@pytest.mark.parametrize(('chosen', 'is_added'), [(0, True), (1, False), (2, False)])
def test_other_candidates_reveal_a_distractor(chosen: int, *, is_added: bool) -> None:
    masks = torch.zeros(1, 3, 12, 12, dtype=torch.bool)
    masks[..., :4, :4] = True  # the object
    masks[:, 1, torch.arange(6, 11), torch.arange(6, 11)] = True  # a diagonal
    masks[:, 0, 2:4, 3] = False  # a smaller blob that the object's box holds
    masks[:, 2] = masks[:, 1]
    ious = torch.full((1, 3), 0.85)
    ious[:, chosen] = 0.9
    logits = masks * 20.0 - 10
    step = DecoderStep(
        candidate_logits=logits,
        candidate_ious=ious,
        mask_logits=logits[:, chosen][:, None],
        object_pointer=torch.zeros(1, 4),
        object_score_logits=torch.ones(1, 1),
    )
    bank, store = MemoryBankDAM4SAM(), prompted()
    for frame in (1, 2):
        seen = Observation(
            query=query_of(frame),
            step=step,
            is_prompted=False,
            video_size=(12, 12),
            frame_size=(48, 48),
        )
        decision = bank.observe(store, seen)
        note = decision.note
        assert isinstance(note, DAM4SAMNote)
        add(store, frame, note)
    assert decision.conditions is is_added
    assert is_resolving(store, 2) is is_added
    again = bank.observe(store, replace(seen, is_prompted=True))
    assert again.note == DAM4SAMNote(is_visible=True)


def test_pointers_of_later_prompts_are_left_out_unless_asked_for() -> None:
    store = prompted()
    add(store, 30, DAM4SAMNote(is_visible=True), reverse=None)
    for future, expected in ((False, [0]), (True, [0, 30])):
        bank = MemoryBankDAM4SAM(future_pointers=future)
        memories, _, pointers = frames_of(bank.select(store, query_of(10)))
        assert (memories, pointers) == ([0, 30], expected)


@pytest.mark.parametrize(
    'options',
    [
        {'min_iou': 1.5},
        {'max_overlap': -0.1},
        {'size_range': (1.2, 0.8)},
        {'min_interval': -1},
        {'max_conditioning_frames': 1},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(ValueError, match=name):
        MemoryBankDAM4SAM(**options)


def test_added_memories_are_encoded_thresholded_and_read_again_from_disk() -> None:
    frames, size = toy_frames(20), (SIDE, SIDE)
    bank = {
        'type': 'MemoryBankDAM4SAM',
        'stride': 1,
        'max_pointers': 2,
        'min_iou': 0.0,
        'max_overlap': 1.0,
        'size_range': (0.0, 10.0),
        'min_interval': 2,
        'max_conditioning_frames': 2,
    }
    model = toy_model(tracker__memory_bank=bank)
    session = VideoSession(model, frames.__getitem__, num_frames=20, revisits=True)
    for number, first in ((1, 0), (2, 2)):
        mask = torch.zeros(1, 1, *size, dtype=torch.bool)
        mask[..., 8 * number : 8 * number + 8, 4:20] = True
        session.add_prompt(first, [number], FramePrompt(mask=mask))
    for frame in range(len(frames)):
        session.step(frame)
    kinds = set()
    for number, first in ((1, 0), (2, 2)):
        store = session.objects[number].store
        assert isinstance(store, OffloadedMemoryStore)
        for frame in range(first + 1, len(frames)):
            memory, features = store.tracked_memory(frame), session.features(frame)
            assert isinstance(memory, ObjectMemory)
            expected = model.tracker.encode_memory(
                features,
                upsample_logits(memory.encoded_logits, size),
                memory.object_score_logits > 0,
                binary=is_resolving(store, frame),
            )
            assert relative_difference(memory.spatial, expected) < 1e-5
            kinds.add((number, is_resolving(store, frame), frame in store.offloaded))
    # Each object has frames of either kind, in RAM and on disk.
    assert len(kinds) == 8
    session.step(1)  # a new pass: the latest frames of the old one leave RAM
    assert max(session.objects[1].store.tracked) <= 8
