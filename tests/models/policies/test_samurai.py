"""SAMURAI equals the released one on its ground, and works beyond it."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_cases import GoldenCase, assert_close, assert_exact, discover_variants
from policy_cases import (
    PolicyRun,
    decoder_step,
    labelled_store,
    query_of,
    selected_labels,
)
from projects.sam2.models.memory_bank import FrameNote, MemoryStore, Observation
from projects.sam2.models.policies.samurai import (
    MemoryBankSAMURAI,
    SAMURAINote,
    box_iou,
    predict,
    start_motion,
    update,
)
from projects.sam2.models.tracking.frame import gate_masks
from projects.sam2.models.tracking.memory_store import ObjectMemory

golden = pytest.mark.golden_variants
MAX_FILTER_ERROR, MAX_SELECT_ERROR, MAX_ERROR, MAX_AREA = 1e-9, 1e-6, 5e-4, 1e-3
RELEASED_LARGE_WEIGHT = 0.15
GOOD = SAMURAINote(iou=0.9, object_score=5.0)
BAD = SAMURAINote(iou=0.2, object_score=5.0)


def _bank(overrides: dict[str, Any], config: str = '') -> dict[str, Any]:
    """Config of the policy for the overrides of a golden case, by released names."""
    names = {'num_maskmem': 'num_frames', 'max_obj_ptrs_in_encoder': 'max_pointers'}
    tiny_part = ('image_encoder', 'memory_attention', 'memory_encoder', 'image_size')
    large = {'kf_score_weight': RELEASED_LARGE_WEIGHT} if 'hiera_l' in config else {}
    options = {
        names.get(name, name): value
        for name, value in overrides.items()
        if not name.removeprefix('++').startswith(tiny_part)
    }
    return {'type': 'MemoryBankSAMURAI', **large, **options}


def _near(actual: object, expected: object, tolerance: float, what: str) -> None:
    array = actual.numpy() if isinstance(actual, torch.Tensor) else np.array(actual)
    assert_close(array, np.array(expected), tolerance, what)


@golden
@pytest.mark.parametrize('case', discover_variants('samurai_kalman*'))
def test_filter_equals_the_released_one(case: GoldenCase) -> None:
    for sequence in case.spec['sequences']:
        motion = None
        for step in sequence:
            box = tuple(step['box'])
            if step['op'] == 'initiate':
                motion = start_motion(box)
            else:
                assert motion is not None
                motion = predict(motion)
                _near(motion.mean, step['pred_mean'], MAX_FILTER_ERROR, 'mean')
                _near(motion.covariance, step['pred_cov'], MAX_FILTER_ERROR, 'cov')
                _near(motion.box, step['pred_xyxy'], MAX_FILTER_ERROR, 'box')
                overlaps = [box_iou(motion.box, tuple(b)) for b in step['cand_boxes']]
                _near(overlaps, step['cand_iou'], MAX_FILTER_ERROR, 'iou')
                if 'update' in step['op']:
                    motion = update(motion, box)
            _near(motion.mean, step['mean'], MAX_FILTER_ERROR, 'mean')
            _near(motion.covariance, step['cov'], MAX_FILTER_ERROR, 'covariance')


@golden
@pytest.mark.parametrize('case', discover_variants('samurai_select*'))
def test_choice_of_masks_equals_the_released_one(case: GoldenCase) -> None:
    for sequence in case.spec['cases']:
        options = {k: v for k, v in _bank(sequence['overrides']).items() if k != 'type'}
        bank, store = MemoryBankSAMURAI(**options), MemoryStore()
        prefix = f'case{sequence["case"]}'
        arrays = {
            name: torch.from_numpy(case.arrays[f'{prefix}/{name}']).float()
            for name in ('logits', 'ious', 'object_score')
        }
        for frame, expected in enumerate(sequence['frames']):
            logits = arrays['logits'][frame][None] / 8
            score = arrays['object_score'][frame]
            present = (score > bank.presence_threshold)[None, None]
            assert bool(present) is expected['appearing']
            step = decoder_step(
                gate_masks(logits, present), arrays['ious'][frame][None], float(score)
            )
            decision = bank.observe(
                store,
                Observation(
                    query=query_of(frame),
                    step=step,
                    is_prompted=False,
                    frame_size=(256, 256),
                    video_size=(256, 256),
                ),
            )
            note = decision.note
            assert isinstance(note, SAMURAINote)
            assert note.motion is not None
            what = f'{prefix} frame {frame}'
            assert_exact(decision.candidate, expected['chosen'], what)
            assert_exact(note.stable_frames, expected['stable_frames'], what)
            assert_exact(note.motion_score is None, expected['kf_score'] is None, what)
            _near(note.iou, expected['best_iou_score'], MAX_SELECT_ERROR, what)
            _near(note.motion.mean, expected['kf_mean'], MAX_SELECT_ERROR, what)
            if note.motion_score is not None:
                difference = abs(note.motion_score - expected['kf_score'])
                assert difference <= MAX_SELECT_ERROR, what
            store.notes[frame] = FrameNote(value=note, reverse=False)


@golden
@pytest.mark.parametrize('case', discover_variants('samurai_memory*'))
def test_selection_of_memories_equals_the_released_one(case: GoldenCase) -> None:
    for number, sequence in enumerate(case.spec['cases']):
        options = {k: v for k, v in _bank(sequence['overrides']).items() if k != 'type'}
        bank = MemoryBankSAMURAI(**options)
        store = labelled_store({0: GOOD}, {})
        notes = zip(
            sequence['iou'], sequence['object_score'], sequence['kf_score'], strict=True
        )
        values = [
            SAMURAINote(iou=iou, object_score=score, motion_score=kf)
            for iou, score, kf in notes
        ]
        for expected in sequence['selected']:
            frame = expected['frame']
            selection = bank.select(store, query_of(frame))
            labels = selected_labels(store, selection, bank)
            for name, value in labels.items():
                assert_exact(value, expected[name], f'case {number} {frame} {name}')
            added = labelled_store({}, {frame: values[frame]})
            store.add(
                frame,
                added.tracked[frame],
                conditioning=False,
                note=added.notes[frame],
            )
            bank.evict_unreachable(store, query_of(frame))


@golden
@pytest.mark.parametrize('case', discover_variants('samurai_video*'))
def test_video_equals_the_released_one(case: GoldenCase) -> None:
    bank = _bank(case.spec['overrides'], case.spec['config'])
    run = PolicyRun.of(case, bank)
    kind, prompt = case.spec['prompt']
    assert kind == 'box'
    run.predictor.add_new_points_or_box(run.state, frame_idx=0, obj_id=1, box=prompt)
    areas = run.propagate()
    store = run.state.objects[1].store
    decisions = case.spec['extra']['decisions']
    tracked = [d for d in decisions['memory'] if d['spatial']]
    assert_exact(run.selected, tracked, 'memories')
    for expected in decisions['stable']:
        note = store.notes[expected['frame']].value
        assert isinstance(note, SAMURAINote)
        assert_exact(note.stable_frames, expected['stable_frames'], 'stable frames')
    ious = [seen.step.candidate_ious[0] for seen, _ in run.observed.values()]
    assert_close(torch.stack(ious), case.arrays['ious'], MAX_ERROR, 'ious')
    for name, expected in case.arrays.items():
        if name == 'ious':
            continue
        frame = int(name[1:].partition('/')[0])
        memory = store.memory(frame)
        note = store.notes[frame].value
        assert isinstance(memory, ObjectMemory)
        assert isinstance(note, SAMURAINote)
        what = name.rpartition('/')[2]
        if what == 'area':
            allowed = max(MAX_AREA * expected[0], 1)
            assert abs(areas[frame] - expected[0]) <= allowed, name
            continue
        value: Any = {
            'low': memory.mask_logits[0, 0],
            'score': memory.object_score_logits[0],
            'ptr': memory.object_pointer[0],
            'best_iou': memory.ious[0],
            'kf': [-1.0 if note.motion_score is None else note.motion_score],
            'kf_mean': None if note.motion is None else note.motion.mean,
        }[what]
        _near(value, expected, MAX_ERROR, name)


@settings(max_examples=25)
@given(
    goods=st.lists(st.booleans(), min_size=1, max_size=40),
    prompted=st.sets(st.integers(1, 39), max_size=3),
    reverse=st.booleans(),
)
def test_evicted_memories_are_never_missed_and_time_runs_along_the_pass(
    goods: list[bool], prompted: set[int], *, reverse: bool
) -> None:
    """Many frames, some of them prompted: as without eviction, and forwards."""
    bank, direction = MemoryBankSAMURAI(num_frames=4, max_pointers=5), 1 - 2 * reverse
    kept, small, forward = (labelled_store({0: GOOD}, {}) for _ in range(3))
    for time, is_good in enumerate(goods, 1):
        frame, is_prompted = time * direction, time in prompted
        now, reader = query_of(time), query_of(frame, reverse=reverse)
        selected = [
            selected_labels(store, bank.select(store, reader), bank)
            for store in (kept, small)
        ]
        assert selected[0] == selected[1]
        expected = selected_labels(forward, bank.select(forward, now), bank)
        turned = {
            name: [f'{label[0]}{int(label[1:]) * direction}' for label in labels]
            for name, labels in selected[0].items()
            if name != 'tpos_index'
        }
        assert turned.items() <= expected.items()
        for store, number in ((kept, frame), (small, frame), (forward, time)):
            note = GOOD if is_good else BAD
            added = {number: note}
            other = labelled_store(*((added, {}) if is_prompted else ({}, added)))
            store.conditioning |= other.conditioning
            store.tracked |= other.tracked
            store.notes |= other.notes
        bank.evict_unreachable(small, reader)
        assert len(small.tracked) <= bank.num_frames + bank.max_pointers
        assert set(small.notes) == {*small.tracked, *small.conditioning}


def test_a_long_absence_leaves_the_memories_from_before() -> None:
    bank = MemoryBankSAMURAI()
    store = labelled_store({0: GOOD}, dict.fromkeys(range(1, 10), GOOD))
    for frame in range(10, 400):
        absent = labelled_store({}, {frame: SAMURAINote(iou=0.9, object_score=-3.0)})
        store.tracked |= absent.tracked
        store.notes |= absent.notes
        bank.evict_unreachable(store, query_of(frame))
    labels = selected_labels(store, bank.select(store, query_of(400)), bank)
    assert labels['spatial'] == ['c0', 'n5', 'n6', 'n7', 'n8', 'n9', 'n399']


@pytest.mark.parametrize('num_candidates', [1, 3])
def test_a_prompt_starts_the_filter_anew(num_candidates: int) -> None:
    """A clear prompt leaves the start to the next frame, as in the release."""
    bank = MemoryBankSAMURAI()
    before = SAMURAINote(
        iou=0.9,
        object_score=5.0,
        stable_frames=20,
        motion=start_motion((0.0, 0.0, 9.0, 9.0)),
    )
    store = labelled_store({0: GOOD}, {1: before})
    logits = torch.full((1, 3, 16, 16), -1.0)
    logits[:, :, 4:9, 2:12] = 1.0
    step = decoder_step(logits, torch.tensor([[0.2, 0.8, 0.5]]))
    if num_candidates == 1:
        step = decoder_step(logits[:, :1], torch.tensor([[0.8]]))
    decision = bank.observe(
        store,
        Observation(
            query=query_of(2),
            step=step,
            is_prompted=True,
            frame_size=(16, 16),
            video_size=(16, 16),
        ),
    )
    note = decision.note
    assert isinstance(note, SAMURAINote)
    is_clear = num_candidates == 1
    assert note.stable_frames == (0 if is_clear else 1)
    assert (note.motion is None) is is_clear
    if note.motion is not None:
        assert note.motion.box == (2.0, 4.0, 11.0, 8.0)


@pytest.mark.parametrize(
    'options', [{'stable_frames_threshold': 0}, {'kf_score_weight': 1.5}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        MemoryBankSAMURAI(**options)
