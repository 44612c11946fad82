"""Which memories a frame attends to: golden cases, rules, and a policy of one's own."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden_cases import GoldenCase, assert_close, discover
from golden_models import EMBED_DIMS, MEMORY_DIMS, golden_model
from projects.sam2.models.memory_bank import (
    MemoryBank,
    MemoryBankEmpty,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    SelectedMemory,
    SelectedPointer,
    join_selections,
)
from projects.sam2.structures import FrameMemory, ImageFeatures, TrackingMode

SIDE = 16


def _memory(label: float, iou: float = 0.5) -> FrameMemory:
    return FrameMemory(
        spatial=torch.full((1, 2, 1, 1), label),
        object_pointer=torch.full((1, 4), label),
        ious=torch.full((1, 1), iou),
        object_score_logits=torch.ones(1, 1),
    )


def _store(conditioning: list[int], tracked: list[int]) -> MemoryStore:
    store = MemoryStore()
    for frame in conditioning:
        store.add(frame, _memory(frame), conditioning=True)
    for frame in tracked:
        store.add(frame, _memory(frame), conditioning=False)
    return store


def _query(
    frame: int,
    length: int = 100,
    *,
    mode: TrackingMode = TrackingMode.EVALUATION,
    reverse: bool = False,
) -> MemoryQuery:
    return MemoryQuery(
        frame_index=frame, num_video_frames=length, mode=mode, reverse=reverse
    )


def _frames(bank: MemoryBank, store: MemoryStore, query: MemoryQuery) -> list[int]:
    return [int(m.spatial.max()) for m in bank.select(store, query).memories]


def _golden_store(
    case: GoldenCase, setup: dict[str, Any], num_objects: int
) -> MemoryStore:
    store = MemoryStore()
    maps, pointers = (num_objects, MEMORY_DIMS, SIDE, SIDE), (num_objects, EMBED_DIMS)
    for letter, frames in (('c', setup['cond']), ('n', setup['noncond'])):
        for frame in frames:
            memory = FrameMemory(
                spatial=case.input(f'{letter}mf{frame}', maps),
                object_pointer=case.input(f'{letter}op{frame}', pointers),
                ious=torch.ones(num_objects, 1),
                object_score_logits=torch.ones(num_objects, 1),
            )
            store.add(frame, memory, conditioning=letter == 'c')
    return store


def _golden_features(case: GoldenCase, num_objects: int) -> ImageFeatures:
    def as_map(tag: str, scale: float) -> torch.Tensor:
        tokens = case.input(tag, (SIDE * SIDE, num_objects, EMBED_DIMS), scale)
        return tokens.permute(1, 2, 0).reshape(num_objects, EMBED_DIMS, SIDE, SIDE)

    nothing = torch.empty(0)
    return ImageFeatures(
        embedding=as_map('c2', 1.0),
        position=as_map('cp2', 0.5),
        high_res_8=nothing,
        high_res_4=nothing,
    )


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('memcond_*'))
def test_memory_conditioned_features_equal_the_released_ones(case: GoldenCase) -> None:
    for name, setup in case.spec['cases'].items():
        num_objects = len(case.arrays[name])
        features = _golden_features(case, num_objects)
        signed = setup.get('signed', True)
        limit = setup.get('max_cond', -1)
        model = golden_model(
            case.spec['salt'],
            tracker__memory_bank={
                'max_conditioning_frames': None if limit < 0 else limit,
                'stride': setup.get('stride', 1),
                'max_pointers': setup.get('max_ptr', 16),
                'future_pointers': not setup.get('past_only', True),
            },
            tracker__object_pointer={
                'time_encoding': 'signed' if signed else 'unsigned'
            },
        )
        training = setup.get('train', False)
        mode = TrackingMode.TRAINING if training else TrackingMode.EVALUATION
        query = _query(
            setup['frame'],
            setup['num_frames'],
            mode=mode,
            reverse=setup.get('reverse', False),
        )
        tracker = model.tracker
        selection = None
        if not setup.get('init', False):
            store = _golden_store(case, setup, num_objects)
            selection = tracker.memory_bank.select(store, query)
        with torch.no_grad():
            actual = tracker.condition_on_memory(features, selection)
        assert_close(actual, case.arrays[name], 1e-4, f'{case.name}/{name}')


def test_frame_before_first_prompt_is_never_attended() -> None:
    with pytest.raises(ValueError, match=r'Frame 3 has no conditioning frame'):
        MemoryBank().select(_store([], [1, 2]), _query(3))


def test_conditioning_frames_come_first_then_tracked_ones_oldest_first() -> None:
    store = _store([0, 8], list(range(9, 20)))
    assert _frames(MemoryBank(num_frames=4), store, _query(20)) == [0, 8, 17, 18, 19]


def test_adjacent_frame_is_attended_whatever_the_stride() -> None:
    store = _store([0], list(range(1, 30)))
    ages = MemoryBank(num_frames=4, stride=5)
    assert _frames(ages, store, _query(28)) == [0, 20, 25, 27]
    training = _query(28, mode=TrackingMode.TRAINING)
    assert _frames(ages, store, training) == [0, 25, 26, 27]


def test_conditioning_frame_left_out_returns_as_a_tracked_one() -> None:
    store = _store([0, 9, 18], [])
    bank = MemoryBank(num_frames=3, max_conditioning_frames=2)
    assert _frames(bank, store, _query(10)) == [9, 18]
    assert _frames(bank, store, _query(20)) == [18, 9]
    far = bank.select(store, _query(19))
    assert [m.age for m in far.memories] == [0, 0]


def test_pointers_ahead_are_left_out_in_evaluation_alone() -> None:
    store = _store([0, 9], [4])
    bank = MemoryBank()

    def offsets(query: MemoryQuery) -> list[int]:
        return [p.offsets(1)[0] for p in bank.select(store, query).pointers]

    assert offsets(_query(5)) == [5, 1]
    assert offsets(_query(5, mode=TrackingMode.TRAINING)) == [5, -4, 1]
    assert offsets(_query(5, reverse=True)) == [4]
    # A conditioning frame that is corrected attends to its own pointer.
    assert offsets(_query(9)) == [9, 0, 5]


@settings(deadline=None)  # a busy machine is slow
@given(
    num_frames=st.integers(1, 8),
    stride=st.integers(1, 6),
    max_pointers=st.integers(1, 20),
    start=st.integers(0, 5),
    reverse=st.booleans(),
)
def test_eviction_never_changes_what_a_later_frame_attends_to(
    num_frames: int, stride: int, max_pointers: int, start: int, *, reverse: bool
) -> None:
    bank = MemoryBank(num_frames=num_frames, stride=stride, max_pointers=max_pointers)
    length = 60
    order = range(length - 1 - start, -1, -1) if reverse else range(start, length)
    bounded, whole = _store([order[0]], []), _store([order[0]], [])
    for frame in order[1:]:
        query = _query(frame, length, reverse=reverse)
        bank.evict_unreachable(bounded, query)
        kept, every = bank.select(bounded, query), bank.select(whole, query)
        assert [int(m.spatial.max()) for m in kept.memories] == [
            int(m.spatial.max()) for m in every.memories
        ]
        assert [p.time_offset for p in kept.pointers] == [
            p.time_offset for p in every.pointers
        ]
        for store in (bounded, whole):
            store.add(frame, _memory(frame), conditioning=False)
    assert len(bounded.tracked) <= 2 + max(stride * num_frames, max_pointers)


def test_prompting_a_tracked_frame_moves_its_memory() -> None:
    store = _store([0], [1, 2])
    store.add(2, _memory(2), conditioning=True)
    assert list(store.conditioning) == [0, 2]
    assert list(store.tracked) == [1]


@pytest.mark.parametrize(
    ('arguments', 'remedy'),
    [
        ({'num_frames': 0}, 'start at 1'),
        ({'stride': 0}, 'start at 1'),
        ({'max_conditioning_frames': 1}, 'give at least 2'),
    ],
)
def test_number_out_of_range_is_named(arguments: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        MemoryBank(**arguments)


def test_empty_bank_selects_nothing_whatever_is_stored() -> None:
    selection = MemoryBankEmpty().select(_store([0], [1, 2]), _query(3))
    assert not selection.memories
    assert not selection.pointers


def _selection(
    label: float, ages: tuple[int, ...] = (0, 2, 1), offsets: tuple[int, ...] = (4, 1)
) -> MemorySelection:
    return MemorySelection(
        memories=tuple(
            SelectedMemory(spatial=torch.full((1, 2, 3, 3), label + age), age=age)
            for age in ages
        ),
        pointers=tuple(
            SelectedPointer(pointer=torch.full((1, 4), label), time_offset=offset)
            for offset in offsets
        ),
        max_pointers=16,
    )


def test_selections_are_joined_object_by_object() -> None:
    joined = join_selections([_selection(10), _selection(20), _selection(30)])
    assert [memory.age for memory in joined.memories] == [0, 2, 1]
    assert joined.memories[1].spatial[:, 0, 0, 0].tolist() == [12, 22, 32]
    assert joined.pointers[0].pointer[:, 0].tolist() == [10, 20, 30]
    assert joined.pointers[0].time_offset == 4
    assert joined.max_pointers == 16


def test_joined_pointers_keep_their_own_age() -> None:
    joined = join_selections([_selection(1), _selection(2, offsets=(9, 1))])
    assert [p.time_offset for p in joined.pointers] == [(4, 9), 1]
    again = join_selections([joined, _selection(3, offsets=(7, 2))])
    assert [p.time_offset for p in again.pointers] == [(4, 9, 7), (1, 1, 2)]


class MemoryBankBestIoU(MemoryBank):
    """Attends to the past tracked frames of the highest IoU, and keeps those in RAM."""

    def tracked_frames(
        self, store: MemoryStore, query: MemoryQuery
    ) -> list[tuple[int, int]]:
        """The best frames that the pass has seen, in the order of time."""
        past = [f for f in store.tracked if self._distance(f, query) > 0]
        best = sorted(past, key=lambda f: -float(store.tracked[f].ious.mean()))
        best = sorted(best[: self.num_frames - 1], key=lambda f: -f * query.direction)
        return list(enumerate(best, start=1))[::-1]  # the latest has age 1

    def evict_unreachable(self, store: MemoryStore, query: MemoryQuery) -> None:
        """Keep the best frames, and the latest ones for their pointers."""
        best = {frame for _, frame in self.tracked_frames(store, query)}
        for frame in set(store.tracked) - best:
            if self._distance(frame, query) >= self.max_pointers:
                store.evict(frame)

    @staticmethod
    def _distance(frame: int, query: MemoryQuery) -> int:
        """Frames since then; negative for frames that the pass has not come to."""
        return (query.frame_index - frame) * query.direction


@settings(deadline=None)
@given(
    shares=st.lists(st.integers(0, 100), min_size=1, max_size=30, unique=True),
    reverse=st.booleans(),
)
def test_own_policy_keeps_the_memories_with_the_best_iou(
    *, shares: list[int], reverse: bool
) -> None:
    ious = [share / 100 for share in shares]
    prompted = 31 if reverse else 0
    step = -1 if reverse else 1
    bank, store = (
        MemoryBankBestIoU(num_frames=4, max_pointers=2),
        _store([prompted], []),
    )
    seen: dict[int, float] = {}
    for number, iou in enumerate(ious, start=1):
        frame = prompted + step * number
        store.add(frame, _memory(frame, iou), conditioning=False)
        seen[frame] = iou
        query = _query(frame, reverse=reverse)
        # The frame itself is no memory of its own, when it is tracked again.
        assert frame not in [f for _, f in bank.tracked_frames(store, query)]
        bank.evict_unreachable(store, query)
        best = sorted(seen, key=lambda f: -seen[f])[:3]  # literally, of all so far
        after = _query(frame + step, reverse=reverse)
        assert _frames(bank, store, after) == [
            prompted,
            *sorted(best, key=lambda f: f * step),
        ]
        assert len(store.tracked) <= 3 + 3


@pytest.mark.parametrize(
    'other',
    [
        _selection(1, ages=(0, 1)),
        _selection(1, ages=(0, 3, 1)),
        _selection(1, (0, 2, 1), (4,)),
    ],
)
def test_selections_of_two_shapes_are_not_joined(other: MemorySelection) -> None:
    with pytest.raises(ValueError, match='different shapes cannot be joined'):
        join_selections([_selection(1), other])
