"""Memories of masks, against the golden cases."""

import pytest
import torch

from golden_cases import GoldenCase, assert_close, discover
from golden_models import EMBED_DIMS, IMAGE_SIZE, golden_model
from projects.sam2.models import SAM2Tracker
from projects.sam2.models.memory_bank import MemorySelection
from projects.sam2.structures import ImageFeatures


@pytest.fixture
def nothing() -> torch.Tensor:
    """A feature that is not read."""
    return torch.empty(0)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
@pytest.mark.parametrize(
    ('name', 'binary', 'separate'),
    [
        ('enc_pts', True, False),
        ('enc_nopts', False, False),
        ('enc_nonoverlap', False, True),
        ('enc_pts_trainmode', False, False),
    ],
)
def test_memory_of_masks_equals_the_released_one(
    case: GoldenCase, name: str, *, binary: bool, separate: bool, nothing: torch.Tensor
) -> None:
    tracker: SAM2Tracker = golden_model(
        case.spec['salt'], tracker={'non_overlapping_memories': separate}
    ).tracker
    tokens = case.input('f2', (256, 3, EMBED_DIMS))
    features = ImageFeatures(
        embedding=tokens.permute(1, 2, 0).unflatten(2, (16, 16)),
        position=nothing,
        high_res_8=nothing,
        high_res_4=nothing,
    )
    logits = case.input('hm', (3, 1, IMAGE_SIZE, IMAGE_SIZE), 4.0)
    present = torch.tensor([[3.0], [-2.0], [0.5]]) > 0
    with torch.no_grad():
        memory = tracker.encode_memory(
            features, tracker.non_overlapping_logits(logits), present, binary=binary
        )
    assert_close(memory, case.arrays[name], 1e-4, f'{case.name}/{name}')


def test_first_prompted_frame_gets_the_no_memory_embedding(
    nothing: torch.Tensor,
) -> None:
    tracker = golden_model('first:').tracker
    features = ImageFeatures(
        embedding=torch.zeros(2, EMBED_DIMS, 4, 6),
        position=nothing,
        high_res_8=nothing,
        high_res_4=nothing,
    )
    expected = tracker.no_memory_embedding.flatten()
    nothing_chosen = MemorySelection(memories=(), pointers=(), pointer_horizon=8)
    for selection in (None, nothing_chosen):
        recalled = tracker.condition_on_memory(features, selection)
        assert torch.equal(recalled[1, :, 3, 5], expected)


def test_sam_2_0_has_no_embedding_for_absent_objects() -> None:
    model = golden_model(
        'twozero:',
        tracker={'no_object_embedding': False},
        tracker__object_pointer={'time_encoding': 'none'},
    )
    keys = set(model.state_dict())
    assert 'tracker.no_object_embedding' not in keys
    assert not any('time_projection' in key for key in keys)
