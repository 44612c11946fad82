"""Models of half and double precision, as users make them by `model.half()`."""

import functools

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
)
from projects.sam2.models import SAM2
from toy_videos import SIZE, click, toy_frames, toy_model, track

# Differences of logits over their root mean square: three and eleven bits of a number.
TOLERANCES = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-4}
DTYPES = pytest.mark.parametrize('dtype', TOLERANCES, ids=str)


@functools.cache
def _model(dtype: torch.dtype) -> SAM2:
    model = toy_model()
    model.to(dtype)
    return model


def _assert_near(answers: list[Tensor], dtype: torch.dtype) -> None:
    actual, expected = answers
    error = (actual.double() - expected.double()).square().mean().sqrt()
    assert error <= TOLERANCES[dtype] * expected.double().square().mean().sqrt()


@DTYPES
def test_image_gets_the_masks_of_float32(dtype: torch.dtype) -> None:
    answers = []
    for kind in (dtype, torch.float32):
        predictor = SAM2ImagePredictor(_model(kind))
        predictor.set_image(toy_frames(1)[0])
        _, _, low_res = predictor.predict([[10, 10]], [1], multimask_output=False)
        again = predictor.predict(
            box=[[1, 2, 30, 40], [20, 9, 60, 40]],
            mask_input=low_res,
            multimask_output=False,
            return_logits=True,
        )
        answers.append(torch.from_numpy(again[0]))
    assert answers[0].dtype is torch.promote_types(dtype, torch.float32)
    _assert_near(answers, dtype)


@DTYPES
def test_video_gets_the_masks_of_float32(dtype: torch.dtype) -> None:
    mask = np.zeros(SIZE, bool)
    mask[5:30, 10:50] = True
    answers = []
    for kind in (dtype, torch.float32):
        predictor = SAM2VideoPredictor(_model(kind), memory_dtype=kind)
        state = predictor.init_state(toy_frames(4))
        click(predictor, state)
        predictor.add_new_mask(state, 0, 2, mask)
        shown = track(predictor, state)
        answers.append(torch.stack([shown[t].mask_logits for t in range(4)]))
    _assert_near(answers, dtype)


@DTYPES
def test_everything_is_found(dtype: torch.dtype) -> None:
    generator = SAM2AutomaticMaskGenerator(
        _model(dtype), 3, pred_iou_thresh=0, stability_score_thresh=0, use_m2m=True
    )
    assert generator.generate(toy_frames(1)[0])
