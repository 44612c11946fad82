"""What every memory policy has to be able to do, whatever it remembers."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from golden_models import tiny_config
from policy_cases import labelled_memory, query_of
from projects.sam2.apis import SAM2Stream, SAM2VideoPredictor, build_sam2
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.deployment import ExportedSAM2, ModuleRunner
from projects.sam2.deployment.graphs import GRAPHS, fixed_sizes
from projects.sam2.deployment.manifest import ExportedGraph, describe_export
from projects.sam2.engine.memory_policy import read_policy
from projects.sam2.installation import policy_names
from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import (
    Decision,
    FrameNote,
    MemoryBank,
    MemoryStore,
    Observation,
)
from projects.sam2.models.tracking.memory_store import (
    ObjectMemory,
    OffloadedMemoryStore,
    OffloadFile,
)
from projects.sam2.structures import DecoderStep
from toy_videos import toy_frames, toy_model

NUM_FRAMES = 6
LATE = 2  # frame on which the third object is prompted
TOLERANCE = 1e-4
PLAIN = {'num_frames': 4, 'max_pointers': 5}  # of the model's own memory bank
# Thresholds at which the policy acts within a few frames of an untrained model.
LIVELY: dict[str, dict[str, Any]] = {
    'samurai': {
        'stable_frames_threshold': 2,
        'stable_ious_threshold': 0.1,
        'kf_score_weight': 0.8,
        'memory_bank_iou_threshold': 0.45,
    },
    'dam4sam': {
        'min_iou': 0.1,
        'size_range': (0.1, 10.0),
        'min_interval': 1,
        'max_overlap': 1.0,
    },
    'sam2long': {'num_pathways': 2},
}
PROMPTS: dict[int, tuple[int, dict[str, Any]]] = {
    1: (0, {'points': [(20.0, 20.0)], 'labels': [1]}),
    2: (0, {'box': (40.0, 20.0, 62.0, 40.0)}),
    3: (LATE, {'box': (10.0, 10.0, 40.0, 40.0)}),
}
Masks = dict[int, Tensor]  # logits by frame


@lru_cache(maxsize=1)
def _model() -> SAM2:
    model = toy_model(tracker__memory_bank=PLAIN)
    # Untrained, it judges most objects absent.
    model.mask_decoder.object_score_head.layers[-1].bias.data += 4
    return model


@dataclass
class Policy:
    """A policy, and each object of a video tracked alone with it."""

    name: str
    predictor: SAM2VideoPredictor
    alone: dict[int, Masks]


def _bank(name: str) -> dict[str, Any]:
    return read_policy(name, plain=PLAIN) | LIVELY.get(name, {})


def _predictor(name: str) -> SAM2VideoPredictor:
    model = copy.copy(_model())  # with the same weights
    model._modules = {**model._modules, 'tracker': copy.copy(model.tracker)}
    model.tracker.memory_bank = MODELS.build(_bank(name))
    return SAM2VideoPredictor(
        model,
        memory_dtype=torch.float32,
        num_cached_embeddings=1,  # streams keep the memories of frames in the cache
    )


def _prompt(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    number: int,
    time: Callable[[int], int] = int,
) -> None:
    frame, prompt = PROMPTS[number]
    predictor.add_new_points_or_box(
        state, frame_idx=time(frame), obj_id=number, **prompt
    )


def _masks(state: VideoState, number: int) -> Masks:
    """The final masks of an object."""
    obj = state.objects[number]
    outputs = {frame: obj.output(frame) for frame in range(NUM_FRAMES)}
    return {frame: o.mask_logits for frame, o in outputs.items() if o is not None}


def _track(
    predictor: SAM2VideoPredictor, state: VideoState, **options: Any
) -> dict[int, Masks]:
    for _ in predictor.propagate_in_video(state, **options):
        pass
    return {number: _masks(state, number) for number in state.objects}


def _assert_equal(actual: Masks, expected: Masks, tolerance: float = TOLERANCE) -> None:
    assert set(actual) == set(expected)
    for frame, masks in expected.items():
        torch.testing.assert_close(actual[frame], masks, rtol=tolerance, atol=tolerance)


@lru_cache
def _policy(name: str) -> Policy:
    predictor = _predictor(name)
    alone: dict[int, Masks] = {}
    for number in PROMPTS:
        state = predictor.init_state(toy_frames(NUM_FRAMES))
        _prompt(predictor, state, number)
        # From the first frame, as beside the others.
        alone |= _track(predictor, state, start_frame_idx=0)
    return Policy(name=name, predictor=predictor, alone=alone)


@pytest.fixture(params=policy_names())
def policy(request: pytest.FixtureRequest) -> Policy:
    return _policy(request.param)


def _notes(state: VideoState) -> Iterator[tuple[set[int], set[int]]]:
    """Frames with notes, and frames with memories, of each object."""
    for obj in state.objects.values():
        for store in obj.stores:
            frames = {*store.conditioning, *store.tracked}
            if isinstance(store, OffloadedMemoryStore):
                frames |= {*store.offloaded}
            yield {*store.notes}, frames


def test_three_objects_equal_three_videos_and_leave_nothing(policy: Policy) -> None:
    """Together and again: a late object, a second pass, removal, and a new start."""
    predictor = policy.predictor
    state = predictor.init_state(toy_frames(NUM_FRAMES))
    for number in PROMPTS:
        _prompt(predictor, state, number)
    for _ in range(2):  # the second pass finds the memories of the first
        together = _track(predictor, state)
        for number, masks in policy.alone.items():
            _assert_equal(together[number], masks)
        assert all(notes <= memories for notes, memories in _notes(state))
    predictor.remove_object(state, 1)
    _prompt(predictor, state, 1)
    _assert_equal(_track(predictor, state)[1], policy.alone[1])
    predictor.reset_state(state)
    assert not state.objects
    _prompt(predictor, state, 3)
    _assert_equal(_track(predictor, state, start_frame_idx=0)[3], policy.alone[3])


def test_policies_differ_from_the_memory_of_sam2(policy: Policy) -> None:
    plain = _policy('fifo').alone[1][NUM_FRAMES - 1]
    is_equal = torch.equal(policy.alone[1][NUM_FRAMES - 1], plain)
    assert is_equal is (policy.name == 'fifo')


def test_time_runs_along_the_pass(policy: Policy) -> None:
    """A video that runs backwards, tracked backwards, is the same video."""
    predictor, last = policy.predictor, NUM_FRAMES - 1
    state = predictor.init_state(toy_frames(NUM_FRAMES)[::-1])
    _prompt(predictor, state, 1, lambda frame: last - frame)
    tracked = _track(predictor, state, reverse=True, start_frame_idx=last)[1]
    turned = {last - frame: masks for frame, masks in tracked.items()}
    _assert_equal(turned, policy.alone[1])


def test_stream_equals_the_video_and_does_not_grow(policy: Policy) -> None:
    """A stream forgets what no later frame attends to, and nothing else."""
    predictor, bank = policy.predictor, policy.predictor.model.tracker.memory_bank
    bound = 2 * bank.num_frames + bank.max_pointers + 1
    length = bound + 2
    frames = toy_frames(length)
    state = predictor.init_state(frames)
    stream = SAM2Stream(predictor, num_frames=length)
    stream.track(frames[0])
    for each in (state, stream.state):
        _prompt(predictor, each, 1)
    shown = predictor.propagate_in_video(state)
    next(shown)
    for frame, expected in zip(frames[1:], shown, strict=True):
        masks = stream.track(frame).mask_logits
        _assert_equal({0: masks}, {0: expected.mask_logits})
        for notes, memories in _notes(stream.state):
            assert notes <= memories
            assert len(memories) <= bound


def test_copy_continues_alone_and_a_failed_edit_changes_nothing(
    policy: Policy,
) -> None:
    predictor = policy.predictor
    state = predictor.init_state(toy_frames(NUM_FRAMES))
    _prompt(predictor, state, 1)
    for frame in range(NUM_FRAMES // 2):
        state.step(frame)
    other = copy.deepcopy(state)
    _prompt(predictor, other, 2)

    def fail() -> None:
        with state.edit():
            state.step(NUM_FRAMES // 2)
            state.get_object(1).clear_prompts(0)
            raise OSError('no disk')

    with pytest.raises(OSError, match='no disk'):
        fail()
    for each in (other, state):
        for frame in range(NUM_FRAMES // 2, NUM_FRAMES):
            each.step(frame)
        _assert_equal(_masks(each, 1), policy.alone[1])


def test_correction_is_followed_as_if_nothing_had_been_tracked_after_it(
    policy: Policy,
) -> None:
    """A pass that starts at a correction forgets what came after it before."""
    predictor, results = policy.predictor, []
    for num_tracked in (LATE + 1, NUM_FRAMES):
        state = predictor.init_state(toy_frames(NUM_FRAMES))
        _prompt(predictor, state, 1)
        for frame in range(num_tracked):
            state.step(frame)
        predictor.add_new_points_or_box(
            state, frame_idx=LATE, obj_id=1, points=[(22.0, 18.0)], labels=[1]
        )
        results.append(_track(predictor, state, start_frame_idx=LATE)[1])
    short, long = results
    _assert_equal(short, long)


@pytest.mark.parametrize(
    'store', [MemoryStore(), OffloadedMemoryStore(file=OffloadFile(in_memory=True))]
)
def test_notes_live_and_die_with_their_frames(store: MemoryStore) -> None:
    for frame, reverse in ((0, None), (1, False), (2, True)):
        note = FrameNote(value=frame, reverse=reverse)
        is_prompted = reverse is None
        memory = labelled_memory(frame)
        store.add(frame, memory, conditioning=is_prompted, note=note)
    bank, copied = MemoryBank(), store.copy()
    # A frame that was prompted, of the same pass, of the other, and without a note.
    notes = [bank.previous_note(store, query_of(frame)) for frame in (1, 2, 3, 4)]
    assert notes == [0, 1, None, None]
    backwards = [
        bank.previous_note(store, query_of(f, reverse=True)) for f in (-1, 0, 1)
    ]
    assert backwards == [0, None, 2]
    copied.erase(0)  # only the tracked memory, of which there is none
    copied.erase(1)
    copied.add(2, labelled_memory(2), conditioning=False)
    assert set(copied.notes) == {0}
    assert set(store.notes) == {0, 1, 2}


class _Worst(MemoryBank):
    """Chooses the candidate that the decoder judges worst."""

    def __init__(self) -> None:
        super().__init__(num_frames=4, max_pointers=5)
        self.steps: dict[int, DecoderStep] = {}

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        step = observation.step
        self.steps[observation.query.frame_index] = step
        return Decision(candidate=int(step.candidate_ious.argmin()))


def test_chosen_candidate_becomes_mask_pointer_and_memory_but_not_of_a_prompt() -> None:
    predictor = _predictor('fifo')
    bank = predictor.model.tracker.memory_bank = _Worst()
    state = predictor.init_state(toy_frames(3))
    _prompt(predictor, state, 1)
    _track(predictor, state)
    store = state.objects[1].store
    for frame, step in bank.steps.items():
        worst = int(step.candidate_ious.argmin())
        expected = int(step.candidate_ious.argmax()) if frame == 0 else worst
        memory = store.conditioning.get(frame) or store.tracked[frame]
        assert isinstance(memory, ObjectMemory)
        assert step.candidate_pointers is not None
        for actual, candidates in (
            (memory.mask_logits[0, 0], step.candidate_logits),
            (memory.encoded_logits[0, 0], step.candidate_logits),
            (memory.object_pointer[0], step.candidate_pointers),
            (memory.ious[0, 0], step.candidate_ious),
        ):
            assert torch.equal(actual, candidates[0, expected])
            assert not torch.equal(actual, candidates[0, (expected + 1) % 3])


def test_exported_graphs_track_as_torch_does(policy: Policy) -> None:
    predictor = policy.predictor
    model: SAM2 = predictor.model
    config = Config({'model': tiny_config(tracker__memory_bank=_bank(policy.name))})
    sizes, graphs = fixed_sizes(model), {}
    for name, kind in GRAPHS.items():
        graph = kind(model)
        inputs, outputs = (
            tuple(spec.with_sizes(sizes) for spec in specs)
            for specs in (graph.inputs, graph.outputs)
        )
        graphs[name] = ExportedGraph(
            file='', num_bytes=0, sha256='', inputs=inputs, outputs=outputs
        )
    manifest = describe_export(
        model, graphs, config=config, checkpoint=None, runtime='export'
    )
    exported = SAM2VideoPredictor(
        ExportedSAM2(manifest, ModuleRunner(model)), memory_dtype=torch.float32
    )
    state = exported.init_state(toy_frames(NUM_FRAMES))
    for number in PROMPTS:
        _prompt(exported, state, number)
    for number, masks in _track(exported, state).items():
        _assert_equal(masks, policy.alone[number], tolerance=1e-3)


@pytest.mark.parametrize('name', policy_names())
def test_name_config_and_base_give_the_same_memory_bank(
    name: str, tmp_path: Path
) -> None:
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = ['mmsam2::_base_/models/sam2_1_mini.py',\n"
        f"          'mmsam2::_base_/policies/{name}.py']\n"
        f'model = dict(tracker=dict(memory_bank={{{{_base_.memory_bank}}}}))\n'
    )
    path = f'configs/_base_/policies/{name}.py'
    mini = '_base_/models/sam2_1_mini.py'
    banks: list[MemoryBank] = [
        build_sam2(given, device='cpu', policy=policy).tracker.memory_bank
        for given, policy in ((mini, name), (mini, path), (config, None))
    ]
    assert type(banks[0]) is MODELS.get(read_policy(name, plain={})['type'])
    assert vars(banks[0]) == vars(banks[1]) == vars(banks[2])
    assert banks[0].num_frames == 4  # that of the model


@pytest.mark.parametrize(
    ('bank', 'problem'),
    [
        (
            "type='MemoryBank', num_frame=4",
            'no option num_frame; it takes .*num_frames',
        ),
        ("type='SAM2ImageEncoder'", 'is no memory bank'),
        ("type='MemoryBankOfNobody'", 'There is no memory bank'),
    ],
)
def test_wrong_memory_bank_of_a_policy_is_named(
    bank: str, problem: str, tmp_path: Path
) -> None:
    policy = tmp_path / 'policy.py'
    policy.write_text(f'memory_bank = dict({bank})\n')
    with pytest.raises(ValueError, match=problem):
        read_policy(policy, plain=PLAIN)
