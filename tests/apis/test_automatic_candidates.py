"""Candidates: filtered at each crop, then taken apart and put together."""

import numpy as np
import pytest
import torch

from golden_models import golden_model
from projects.sam2.apis.automatic_mask_generator import (
    CandidateCounts,
    CandidateFilter,
    Candidates,
    find_candidates,
)
from projects.sam2.models import SAM2
from projects.sam2.ops import Crop, encode_masks, grid_of_points
from toy_videos import toy_frames

CROP = Crop(box=(8, 4, 72, 44), layer=1)


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model."""
    return golden_model('c:', data_preprocessor={'image_size': (64, 64)})


def _found(model: SAM2, points_per_batch: int, min_iou: float) -> Candidates:
    wanted = CandidateFilter(
        points_per_batch=points_per_batch,
        min_iou=min_iou,
        min_stability=0.0,
        stability_offset=0.5,
        threshold=0.0,
        repaired_area=0.0,
        refines=False,
        multimask=True,
    )
    crop = Crop(box=(0, 0, 80, 48), layer=0)
    with torch.no_grad():
        return find_candidates(
            model,
            toy_frames(1)[0],
            crop,
            grid_of_points(3),
            wanted,
            counts=CandidateCounts(),
        )


def _two() -> Candidates:
    masks = np.zeros((2, 48, 80), bool)
    masks[0, 3:9, 5:7] = True
    return Candidates(
        encoded=encode_masks(masks),
        boxes=torch.tensor([[5.0, 3, 6, 8], [0, 0, 0, 0]]),
        ious=torch.tensor([0.5, 0.9]),
        stabilities=torch.tensor([0.7, 0.8]),
        points=torch.tensor([[6.0, 4], [1, 1]]),
        crops=[CROP, CROP],
    )


def test_size_of_a_batch_changes_nothing(model: SAM2) -> None:
    few, many = _found(model, 2, 0.0), _found(model, 64, 0.0)
    assert len(few.encoded) == len(many.encoded) > 5
    torch.testing.assert_close(few.ious, many.ious)
    assert torch.equal(few.points, many.points)


def test_masks_of_low_iou_are_left_out(model: SAM2) -> None:
    everything = _found(model, 64, 0.0)
    limit = float(everything.ious.median())
    good = _found(model, 64, limit)
    assert 0 < len(good.encoded) < len(everything.encoded)
    assert (good.ious > limit).all()


def test_masks_are_selected_with_all_that_belongs_to_them() -> None:
    both = _two()
    second = both.select(torch.tensor([1]))
    assert second.encoded == both.encoded[1:]
    assert second.ious.tolist() == pytest.approx([0.9])
    assert second.points.tolist() == [[1, 1]]
    joined = Candidates.joined([second, both])
    assert joined.stabilities.tolist() == pytest.approx([0.8, 0.7, 0.8])
    assert joined.crops == [CROP] * 3
    assert Candidates.joined([]).boxes.shape == (0, 4)


def test_empty_mask_has_a_box_of_zeros() -> None:
    inverted = torch.tensor([[80.0, 48, -1, -1], [5, 3, 6, 8]])
    changed = _two().with_masks(_two().encoded, inverted)
    assert changed.boxes.tolist() == [[0, 0, 0, 0], [5, 3, 6, 8]]
