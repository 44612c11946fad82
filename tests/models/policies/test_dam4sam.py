"""DAM4SAM: which frames are added, which are attended to, and what stays in RAM."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    assert_within,
    discover_variants,
    unpack_masks,
    variants_dir,
)
from golden_models import golden_model
from projects.sam2.models.memory_bank import (
    Decision,
    FrameNote,
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
from projects.sam2.models.tracking.memory_store import ObjectMemory
from projects.sam2.models.tracking.session import SessionOptions, VideoSession
from projects.sam2.ops import upsample_logits
from projects.sam2.structures import (
    FrameMasks,
    FrameMemory,
    FramePrompt,
    TrackingMode,
)

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


def query_of(frame: int, *, reverse: bool = False) -> MemoryQuery:
    """A tracked frame of a stream of which no length is known."""
    return MemoryQuery(
        frame_index=frame,
        num_video_frames=1 << 30,
        mode=TrackingMode.EVALUATION,
        reverse=reverse,
    )


def labelled(frame: int) -> FrameMemory:
    """A memory that names its frame."""
    label = torch.full((1, 1), float(frame))
    return FrameMemory(
        spatial=label[..., None, None],
        object_pointer=label,
        ious=label,
        object_score_logits=label,
    )


def add(
    store: MemoryStore, frame: int, note: DAM4SAMNote, *, reverse: bool | None = False
) -> None:
    """Add a tracked frame, or a prompted one where ``reverse`` is None."""
    store.add(
        frame,
        labelled(frame),
        conditioning=reverse is None,
        note=FrameNote(value=note, reverse=reverse),
    )


def frames_of(selection: MemorySelection) -> tuple[list[int], list[int], list[int]]:
    """Frames of the memories, their ages, and frames of the pointers."""
    return (
        [int(memory.spatial) for memory in selection.memories],
        [memory.age for memory in selection.memories],
        [int(pointer.pointer) for pointer in selection.pointers],
    )


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('dam4sam_overlap*'))
def test_boxes_overlap_as_in_the_released_tracker(case: GoldenCase) -> None:
    for row in case.spec['rows']:
        overlap = box_overlap(tuple(row['box_a']), tuple(row['box_b']))
        assert_within(np.array(overlap), np.array(row['overlap']), 1e-9, str(row))


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
    name, stop = case.spec['frames_file'].rstrip(']').split(' frames[:')
    frames = np.load(variants_dir() / name)['frames'][: int(stop)]
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
