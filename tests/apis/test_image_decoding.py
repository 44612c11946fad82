"""Preparing images and repairing masks."""

import numpy as np
import pytest
import torch

from golden_cases import GoldenCase, assert_close, discover
from golden_models import golden_model
from golden_predictions import case_image, case_model
from projects.sam2.apis.image_predictor import (
    MaskRepair,
    points_of_model,
    preprocess_image,
)
from projects.sam2.structures import PointPrompt


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('image_pred_*'))
def test_prepared_image_equals_the_released_one(case: GoldenCase) -> None:
    prepared = preprocess_image(
        case_model(case).data_preprocessor, case_image(case, 'image')
    )
    assert_close(prepared[0, :, ::2, ::2], case.arrays['preproc'], 2e-4, 'preproc')


def test_points_are_scaled_to_the_frame_of_the_model() -> None:
    model = golden_model('points:', data_preprocessor={'image_size': (64, 96)})
    shares = PointPrompt(
        coords=torch.tensor([[[0.5, 0.25]]]), labels=torch.ones(1, 1, dtype=torch.int32)
    )
    assert points_of_model(model, shares).coords.tolist() == [[[48.0, 16.0]]]


def test_hole_and_speck_are_repaired_beyond_the_threshold() -> None:
    logits = torch.full((1, 1, 9, 9), -3.0)
    logits[..., 2:7, 2:7] = 3.0
    logits[..., 4, 4] = -1.0
    logits[..., 0, 8] = 1.0
    repair = MaskRepair(threshold=0.5, max_hole_area=2, max_speck_area=2)
    repaired = repair(logits)
    assert repaired[0, 0, 4, 4] == 10.5
    assert repaired[0, 0, 0, 8] == -9.5
    assert (repaired != logits).sum() == 2
    assert MaskRepair()(logits) is logits


def test_repairs_look_at_the_mask_as_it_came() -> None:
    logits = torch.full((1, 1, 7, 7), 2.0)
    logits[..., 2:5, 2:5] = -2.0
    logits[..., 3, 3] = 2.0  # a speck within a hole that is too large to close
    repaired = MaskRepair(max_hole_area=3, max_speck_area=3)(logits)
    assert np.array_equal((repaired != logits).nonzero().tolist(), [[0, 0, 3, 3]])
