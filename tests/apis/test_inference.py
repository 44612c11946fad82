"""The functions of mmdetection and mmsegmentation."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inference_cases import present_model
from projects.sam2.apis import (
    ObjectPrompt,
    SAM2ImagePredictor,
    inference_model,
    init_model,
    show_result_pyplot,
)

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
BOX = (10, 5, 60, 40)
SETTINGS: dict[str, Any] = {
    'points_per_side': 2,
    'pred_iou_thresh': 0.0,
    'stability_score_thresh': 0.0,
}


def test_built_model_has_the_changed_config_and_the_weights(tmp_path: Path) -> None:
    config = '_base_/models/sam2_1_mini.py'
    first = init_model(config, device='cpu')
    torch.save({'state_dict': first.state_dict()}, tmp_path / 'weights.pth')
    options = {'model.data_preprocessor.image_size': (64, 96)}
    model = init_model(config, tmp_path / 'weights.pth', 'cpu', options)
    assert not model.training
    assert model.data_preprocessor.image_size == (64, 96)
    assert model.cfg.model.data_preprocessor.image_size == (64, 96)
    assert first.cfg.model.data_preprocessor.image_size == (128, 128)
    weights = model.state_dict()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, weights[name])


def test_prompted_object_is_that_of_the_image_predictor(tmp_path: Path) -> None:
    model = present_model()
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(IMAGE)
    masks, ious, _ = predictor.predict(box=BOX, multimask_output=False)
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), IMAGE[..., ::-1])
    for image in (IMAGE, path):
        sample = inference_model(model, image, [ObjectPrompt(object_id=7, box=BOX)])
        instances: Any = sample.pred_instances
        np.testing.assert_array_equal(instances.masks.numpy(), masks > 0)
        assert instances.scores.tolist() == pytest.approx(ious.tolist())
        assert instances.object_ids.tolist() == [7]
        assert sample.ori_shape == (48, 80)
    assert sample.img_path == str(path)


def test_list_gives_a_list_and_no_prompt_segments_everything() -> None:
    results = inference_model(present_model(), [IMAGE, IMAGE], **SETTINGS)
    assert len(results) == 2
    assert len(results[0].pred_instances) >= 1
    first, second = (dict(result.pred_instances.items()) for result in results)
    assert torch.equal(first['masks'], second['masks'])


def test_result_is_drawn_into_a_file(tmp_path: Path) -> None:
    model = present_model()
    result = inference_model(model, IMAGE, [ObjectPrompt(box=BOX)])
    out = tmp_path / 'new' / 'drawn.png'
    picture = show_result_pyplot(model, IMAGE, result, show=False, out_file=out)
    stored = cv2.imread(str(out))
    assert stored is not None
    np.testing.assert_array_equal(stored[..., ::-1], picture)
    with pytest.raises(ValueError, match='result is of one of 48 x 80'):
        show_result_pyplot(model, IMAGE[:40], result, show=False)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    model = present_model()
    with pytest.raises(FileNotFoundError, match='nowhere'):
        inference_model(model, tmp_path / 'nowhere.png')
    with pytest.raises(ValueError, match='SAM2Inferencer segments videos'):
        inference_model(model, [np.zeros((2, 48, 80, 3), np.uint8)])
