"""SAM2Long equals the released one on its ground, and works beyond it."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_cases import GoldenCase, assert_close, assert_exact, discover_variants
from golden_models import golden_model
from memory_videos import MemoryVideo
from policy_cases import PolicyRun, labelled_store, query_of, selected_labels
from projects.sam2.apis import SAM2Stream, SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.apis.vos import segment_video
from projects.sam2.models import SAM2, SAM2OfflineRounds, SAM2PromptSimulator
from projects.sam2.models.memory_bank import (
    Decision,
    MemoryBank,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    Observation,
    SelectedMemory,
    SelectedPointer,
)
from projects.sam2.models.policies.sam2long import (
    Branch,
    MaskQuality,
    MemoryBankSAM2Long,
)
from projects.sam2.models.tracking import pathways
from projects.sam2.models.tracking.frame import encode_frame_memory, token_scales
from projects.sam2.models.tracking.memory_store import (
    ObjectMemory,
    OffloadedMemoryStore,
    OffloadedTensors,
    OffloadFile,
)
from projects.sam2.models.tracking.rounds import predict_video
from projects.sam2.models.tracking.session import TrackedObject
from projects.sam2.structures import EncodedFrame, FrameMasks, FramePrediction
from toy_videos import click, relative_difference, toy_frames, toy_model, track
from variant_videos import ellipse

golden = pytest.mark.golden_variants
MAX_SUM_ERROR, MAX_ATTENTION_ERROR, MAX_ERROR, MAX_AREA = 1e-9, 1e-4, 5e-4, 1e-3
RELEASED_NAMES = {
    'num_pathway': 'num_pathways',
    'iou_thre': 'iou_threshold',
    'uncertainty': 'uncertainty',
}


def _options(case: dict[str, Any]) -> dict[str, Any]:
    return {RELEASED_NAMES[name]: value for name, value in case['options'].items()}


@golden
@pytest.mark.parametrize('case', discover_variants('sam2long_tree*'))
def test_choice_of_pathways_equals_the_released_one(case: GoldenCase) -> None:
    for number, sequence in enumerate(case.spec['cases']):
        bank = MemoryBankSAM2Long(**_options(sequence))
        first, *frames = sequence['frames']
        totals, paths = first['acc_score'], first['paths']
        for frame in frames:
            ious = np.array(frame['ious'], np.float32).tolist()
            branches = bank.choose(totals, ious, frame['object_score'])
            what = f'case {number}, frame {frame["frame"]}'
            kept = [[branch.pathway, branch.candidate] for branch in branches]
            assert_exact(kept, frame['kept'], what)
            totals = [branch.total for branch in branches]
            assert totals == pytest.approx(frame['acc_score'], abs=MAX_SUM_ERROR)
            paths = [
                [*paths[branch.pathway], rank] for rank, branch in enumerate(branches)
            ]
            assert_exact(paths, frame['paths'], what)
        assert_exact(paths[0], sequence['final_branch_per_frame'], 'the result')


def test_estimates_below_0_are_the_worst_candidates() -> None:
    """Decoders without a sigmoid may estimate them."""
    branches = MemoryBankSAM2Long(num_pathways=2).choose(
        [0.0, -0.5], [[-0.2, 0.6, -0.1], [0.5, -0.3, -0.4]], object_scores=[4.0, 3.0]
    )
    assert [(b.pathway, b.candidate) for b in branches] == [(0, 1), (1, 0)]


def _selection(
    num_memories: int, num_pointers: int, scales: tuple[tuple[float, ...]] | None
) -> MemorySelection:
    memory = SelectedMemory(spatial=torch.zeros(1, 2, 1, 1), age=1)
    pointer = SelectedPointer(pointer=torch.zeros(1, 4), time_offset=1)
    return MemorySelection(
        memories=(memory,) * num_memories,
        pointers=(pointer,) * num_pointers,
        max_pointers=16,
        key_scales=scales,
    )


@golden
@pytest.mark.parametrize('case', discover_variants('sam2long_modulation*'))
@torch.no_grad()
def test_scaled_keys_equal_the_released_ones(case: GoldenCase) -> None:
    model = golden_model(case.spec['salt'])
    bank = MemoryBankSAM2Long()
    attention = model.tracker.memory_attention
    for name, scores in case.spec['extra']['cases'].items():
        num_memories, num_pointers = map(len, scores.values())
        length = num_memories * 64 + num_pointers * 4
        shapes = {
            'curr': (64, 1, 64),
            'curr_pos': (64, 1, 64),
            'memory': (length, 1, 16),
            'memory_pos': (length, 1, 16),
        }
        tokens, position, memory, memory_position = (
            # (N, O, C) -> (O, N, C)
            case.input(
                f'sam2long.mod.{name}.{tag}', shape, 0.5 if 'pos' in tag else 1.0
            ).transpose(0, 1)
            for tag, shape in shapes.items()
        )
        rows = bank.key_scales(scores['frame_scores'], scores['ptr_scores'])
        scales = _selection(num_memories, num_pointers, rows).stacked_key_scales()
        attended = attention(
            tokens=tokens,
            position=position,
            memory=memory,
            memory_position=memory_position,
            num_pointer_tokens=num_pointers * 4,
            feature_size=(8, 8),
            key_scales=scales and token_scales(scales, length, 4),
        )
        assert_close(
            attended.transpose(0, 1), case.arrays[name], MAX_ATTENTION_ERROR, name
        )


@golden
@pytest.mark.parametrize('case', discover_variants('sam2long_video*'))
def test_video_equals_the_released_one(case: GoldenCase) -> None:
    bank_config = {'type': 'MemoryBankSAM2Long', **_options(case.spec)}
    run = PolicyRun.of(case, bank_config)
    bank: MemoryBankSAM2Long = run.predictor.model.tracker.memory_bank
    mask = ellipse(case.spec['prompt_mask_blob'], run.state.frames.size)
    run.predictor.add_new_mask(run.state, frame_idx=0, obj_id=1, mask=mask)
    paths: list[dict[int, int]] = [{}] * bank.num_pathways  # rank by frame
    select, choose = bank.select, bank.choose
    asked: list[dict[str, Any]] = []

    def labelled(store: MemoryStore, query: MemoryQuery) -> MemorySelection:
        selection = select(store, query)
        frame = query.frame_index
        pathway = sum(entry['frame'] == frame for entry in asked)
        labels = selected_labels(store, selection, bank)
        asked.append(
            {'frame': frame}
            | {
                kind: [f'{k}:{paths[pathway].get(int(k[1:]), 0)}' for k in labels[kind]]
                for kind in ('spatial', 'pointers')
            }
        )
        return selection

    def chosen(*arguments: Any) -> tuple[Branch, ...]:
        branches = choose(*arguments)
        frame = asked[-1]['frame']
        paths[:] = [paths[b.pathway] | {frame: rank} for rank, b in enumerate(branches)]
        return branches

    with patch.object(bank, 'select', labelled), patch.object(bank, 'choose', chosen):
        for shown in run.predictor.propagate_in_video(run.state):
            obj, frame = run.state.objects[1], shown.frame_index
            for name, actual in _kept(obj, frame).items() if frame else ():
                expected = case.arrays[f'f{frame}/{name}']
                assert_close(actual, expected, MAX_ERROR, f'frame {frame} {name}')
    assert_exact(asked, case.spec['extra']['decisions'], 'memories')
    for frame in range(run.state.num_frames):
        area = int((run.state.show(frame).mask_logits > 0).sum())
        released = int(case.arrays[f'f{frame}/area'][0])
        assert abs(area - released) <= max(MAX_AREA * released, 1), frame


def _kept(obj: TrackedObject, frame: int) -> dict[str, Tensor]:
    """Mask, IoU, score and sum of each history after a frame."""
    memories = [cast('ObjectMemory', s.tracked_memory(frame)) for s in obj.stores]
    assert obj.pathways is not None
    totals = torch.tensor(obj.pathways.totals)
    return {
        'low': torch.stack([m.mask_logits[0, 0] for m in memories], dim=-1),
        'ious': torch.cat([m.ious[0] for m in memories]),
        'score': torch.cat([m.object_score_logits[0] for m in memories]),
        # One history counts as three.
        'acc': totals if len(totals) > 1 else totals.expand(3),
    }


class ShufflingBank(MemoryBankSAM2Long):
    """Lets the best history be another one on each frame."""

    def choose(
        self,
        totals: Sequence[float],
        ious: Sequence[Sequence[float]],
        object_scores: Sequence[float],
    ) -> tuple[Branch, ...]:
        """Depend on nothing but the number of the frame."""
        del ious, object_scores
        number = int(totals[0]) + 1
        return tuple(
            Branch(
                pathway=(2 * number + r) % 3, candidate=(number + r) % 3, total=number
            )
            for r in range(self.num_pathways)
        )


class OneHistoryBank(MemoryBankSAM2Long):
    """Keeps one history, whose candidates are given by frame."""

    candidates: Mapping[int, int]

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        """Choose the given candidate, if there is one."""
        candidate = self.candidates.get(observation.query.frame_index)
        if candidate is not None:
            observation = replace(
                observation, step=observation.step.choose([candidate])
            )
        return replace(super().observe(store, observation), candidate=candidate)


@pytest.fixture(name='model', scope='module')
def _model() -> SAM2:
    return toy_model()


def _predictor(model: SAM2, bank: MemoryBank | None = None) -> SAM2VideoPredictor:
    model.tracker.memory_bank = bank or ShufflingBank()
    return SAM2VideoPredictor(model, memory_dtype=torch.float32)


def _choices(frames: Sequence[int]) -> list[dict[int, int]]:
    """Candidates by frame of the histories that :class:`ShufflingBank` leaves."""
    paths: list[dict[int, int]] = [{}] * 3
    for number, frame in enumerate(frames):
        branches = ShufflingBank().choose([float(number)], [], [])
        paths = [paths[b.pathway] | {frame: b.candidate} for b in branches]
    return paths


GOOD = MaskQuality(iou=0.5, object_score=2.0)
POOR, ABSENT = replace(GOOD, iou=0.3), replace(GOOD, object_score=-1.0)


@pytest.mark.parametrize('reverse', [False, True])
def test_reliable_frames_are_attended_to_by_rank(*, reverse: bool) -> None:
    bank = MemoryBankSAM2Long(num_frames=4, max_pointers=5, iou_threshold=0.3)
    qualities = [GOOD, GOOD, POOR, GOOD, ABSENT, replace(GOOD, object_score=9.0), POOR]
    sign = -1 if reverse else 1
    # Frame -4 precedes the first prompt, frame 8 is later.
    notes = dict(zip((-4, -1, 1, 2, 3, 5, 6), qualities, strict=True)) | {8: GOOD}
    store = labelled_store(
        {-3 * sign: GOOD, 4 * sign: GOOD},
        {frame * sign: quality for frame, quality in notes.items()},
    )
    at_7 = query_of(7 * sign, reverse=reverse)
    selection = bank.select(store, at_7)
    frames = [(int(m.spatial.max()) * sign, m.age) for m in selection.memories]
    assert frames == [(-3, 0), (4, 0), (2, 3), (5, 2), (6, 1)]
    pointers = [
        (int(p.pointer.max()) * sign, p.time_offset) for p in selection.pointers
    ]
    assert pointers == [(-3, 10), (4, 3), (6, 1), (5, 2), (2, 3)]
    assert selection.key_scales is not None
    scales = selection.key_scales[0]
    assert scales[:5] == pytest.approx((1.025, 1.05, 0.95, 1.0, 0.975))
    assert {f * sign for f in bank.kept_frames(store, at_7)} == {-1, 2, 5, 6}


LENGTH = 7
POINTS = {1: (10.0, 10.0), 2: (40.0, 30.0)}


@pytest.mark.parametrize('reverse', [False, True])
def test_each_history_equals_a_session_that_makes_its_choices(
    model: SAM2, *, reverse: bool
) -> None:
    order = range(LENGTH)[:: -1 if reverse else 1]
    first = {1: order[0], 2: order[2]}
    predictor = _predictor(model)
    predictor.max_batch_objects = 2
    state = predictor.init_state(toy_frames(LENGTH))
    for frame in order:
        for number in (n for n, at in first.items() if at == frame):
            click(predictor, state, frame=frame, number=number, at=POINTS[number])
        state.step(frame, reverse=reverse)
    for number, obj in state.objects.items():
        tracked = order[order.index(first[number]) + 1 :]
        for store, candidates in zip(obj.stores, _choices(tracked[1:]), strict=True):
            bank = OneHistoryBank(num_pathways=1)
            bank.candidates = candidates
            single = _predictor(model, bank)
            alone = single.init_state(toy_frames(LENGTH))
            click(single, alone, frame=first[number], at=POINTS[number])
            track(single, alone, reverse=reverse)
            expected = alone.objects[1].store
            for frame in tracked:
                _assert_same_memory(store, expected, frame)


def _assert_same_memory(store: MemoryStore, expected: MemoryStore, frame: int) -> None:
    memories = [
        cast('ObjectMemory', s.tracked_memory(frame)) for s in (store, expected)
    ]
    for name in ('mask_logits', 'spatial', 'object_pointer', 'ious'):
        values = [getattr(memory, name) for memory in memories]
        assert relative_difference(*values) < 1e-4, (frame, name)


def _tracked(predictor: SAM2VideoPredictor, **how: int) -> VideoState:
    """A video of two objects that were tracked."""
    state = predictor.init_state(toy_frames(LENGTH))
    click(predictor, state, number=1)
    click(predictor, state, number=2, at=POINTS[2])
    track(predictor, state, **how)
    return state


def test_stream_shows_the_best_history_so_far(model: SAM2) -> None:
    predictor = _predictor(model)
    frames = toy_frames(LENGTH)
    state = predictor.init_state(frames)
    click(predictor, state)
    shown = track(predictor, state)
    assert any(
        relative_difference(state.show(frame).mask_logits, shown[frame].mask_logits) > 0
        for frame in shown
    )
    stream = SAM2Stream(predictor, num_frames=LENGTH)
    stream.track(frames[0])
    click(predictor, stream.state)
    for frame in range(1, LENGTH):
        masks = stream.track(frames[frame]).mask_logits
        assert relative_difference(masks, shown[frame].mask_logits) < 1e-5


def test_prompt_jump_and_turn_leave_the_history_that_is_shown(model: SAM2) -> None:
    predictor = _predictor(model)
    state = _tracked(predictor, max_frame_num_to_track=LENGTH - 2)
    shown = [state.show(frame).mask_logits for frame in range(LENGTH - 1)]

    def prompt(video: VideoState) -> None:
        click(predictor, video, frame=3, at=(60.0, 40.0))
        video.step(LENGTH - 1)

    def clear(video: VideoState) -> None:
        click(predictor, video, frame=LENGTH - 1)  # so that a prompt is left
        predictor.clear_all_prompts_in_frame(video, 0, 1)

    endings: dict[Callable[[VideoState], object], tuple[int, int]] = {
        lambda video: video.step(LENGTH - 1): (3, 3),
        prompt: (1, 3),
        clear: (1, 3),
        lambda video: video.step(LENGTH - 1, object_ids=[2]): (3, 3),
        lambda video: video.step(LENGTH - 3): (1, 1),
        lambda video: video.step(LENGTH - 3, reverse=True): (1, 1),
    }
    for ending, num_histories in endings.items():
        video = copy.deepcopy(state)
        ending(video)
        counts = tuple(len(obj.stores) for obj in video.objects.values())
        assert counts == num_histories
        for row in (row for row, number in enumerate(counts) if number == 1):
            for frame in (1, 2):
                assert torch.equal(
                    video.show(frame).mask_logits[row], shown[frame][row]
                )
    copy.deepcopy(state).objects[1].erase(1)
    assert all(1 in store.tracked for store in state.objects[1].stores)
    predictor.reset_state(state)
    assert state.offload_file is not None
    assert state.offload_file.used_bytes == 0


def test_frame_that_fails_changes_no_history(model: SAM2) -> None:
    predictor = _predictor(model)
    state = _tracked(predictor, max_frame_num_to_track=LENGTH - 2)
    untouched = copy.deepcopy(state)
    calls = count()

    def fail_late(*arguments: Any) -> EncodedFrame:
        if next(calls) == 2:  # after the memories that are shown
            raise MemoryError
        return encode_frame_memory(*arguments)

    with (
        patch.object(pathways, 'encode_frame_memory', fail_late),
        pytest.raises(MemoryError),
        state.edit(),
    ):
        state.step(LENGTH - 1)
    for video in (state, untouched):
        video.step(LENGTH - 1)
    for obj, expected in zip(
        state.objects.values(), untouched.objects.values(), strict=True
    ):
        for store, other in zip(obj.stores, expected.stores, strict=True):
            for frame in range(1, LENGTH):
                _assert_same_memory(store, other, frame)


def test_memory_of_several_histories_is_written_once(model: SAM2) -> None:
    predictor = _predictor(model, ShufflingBank(num_frames=2, max_pointers=2))
    evicted: list[object] = []
    evict, offload = OffloadedMemoryStore.evict, OffloadFile.offload
    written: list[OffloadedTensors] = []

    def evicting(store: OffloadedMemoryStore, frame_index: int) -> None:
        evicted.append(store.tracked[frame_index])
        evict(store, frame_index)

    def offloading(file: OffloadFile, tensors: list[Tensor]) -> OffloadedTensors:
        written.append(offload(file, tensors))
        return written[-1]

    with (
        patch.object(OffloadedMemoryStore, 'evict', evicting),
        patch.object(OffloadFile, 'offload', offloading),
    ):
        state = _tracked(predictor)
    assert len(written) == len({id(memory) for memory in evicted}) < len(evicted)
    written.clear()
    evicted.clear()
    stores = [
        cast('OffloadedMemoryStore', store)
        for obj in state.objects.values()
        for store in obj.stores
    ]
    assert all(max(store.offloaded) == LENGTH - 3 for store in stores)
    sizes = {
        id(memory.tensors): memory.tensors.num_bytes
        for store in stores
        for memory in store.offloaded.values()
    }
    assert state.offload_file is not None
    assert state.offload_file.used_bytes == sum(sizes.values())
    del stores
    for number in (1, 2):
        predictor.remove_object(state, number)
    assert state.offload_file.used_bytes == 0


def test_masks_that_were_deleted_before_they_were_final_are_an_error(
    model: SAM2,
) -> None:
    predictor = _predictor(model, ShufflingBank(num_frames=2, max_pointers=2))
    predictor.max_archive_gb = 0
    state = predictor.init_state(toy_frames(LENGTH))
    click(predictor, state)
    with (
        pytest.warns(UserWarning, match='max_archive_gb'),
        pytest.raises(ValueError, match='deleted before they were final'),
    ):
        list(state.until_final(predictor.propagate_in_video(state)))


@pytest.mark.parametrize('reader', ['validation', 'rounds', 'vos'])
def test_readers_of_whole_videos_get_the_history_that_is_best_in_the_end(
    model: SAM2, reader: str
) -> None:
    video = MemoryVideo(length=LENGTH)
    single = OneHistoryBank(num_pathways=1)
    single.candidates = _choices(range(2, LENGTH))[0]
    read: list[list[NDArray[np.bool_]]] = []
    for bank in (ShufflingBank(), single):
        predictor = _predictor(model, bank)
        frames: Iterable[FramePrediction | FrameMasks]
        if reader == 'vos':
            frames = segment_video(predictor, video)
        else:
            simulator = SAM2PromptSimulator(point_probability=0.0)
            if reader == 'rounds':
                simulator = SAM2OfflineRounds(num_frames=1, num_clicks=1)
            frames = list(predict_video(model, simulator, video))
        read.append([frame.masks for frame in frames])
    histories, alone = read
    assert len(histories) == LENGTH
    for frame, (masks, expected) in enumerate(zip(histories, alone, strict=True)):
        assert (masks != expected).mean() < 1e-4, frame
