"""SAM2Long equals the released one on its ground, and works beyond it."""

from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from golden_cases import GoldenCase, assert_close, assert_exact, discover_variants
from golden_models import golden_model
from golden_variant_videos import ellipse
from policy_cases import PolicyRun, selected_labels
from projects.sam2.models.memory_bank import (
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    SelectedMemory,
    SelectedPointer,
)
from projects.sam2.models.policies.sam2long import (
    Branch,
    MemoryBankSAM2Long,
)
from projects.sam2.models.tracking.frame import token_scales
from projects.sam2.models.tracking.memory_store import ObjectMemory
from projects.sam2.models.tracking.session import TrackedObject

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
