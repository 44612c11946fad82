"""Proposals of the demo: masks of everything, and of what a detector finds."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    build_sam2_video_predictor,
)
from projects.sam2.bridges.detection.detector import Detector
from projects.sam2.installation import WEIGHTS
from projects.sam2.ops import decode_masks
from projects.sam2.webdemo.proposals import (
    encode_boxes,
    propose_masks,
    propose_text,
)
from text_detectors import write_detector_weights, write_rtmdet

EASY: dict[str, Any] = {
    'points_per_side': 6,
    'pred_iou_thresh': 0.5,
    'stability_score_thresh': 0.6,
}


@pytest.fixture(scope='module')
def predictor() -> SAM2VideoPredictor:
    """The small model that comes with the package."""
    config = '_base_/models/sam2_1_mini.py'
    return build_sam2_video_predictor(config, WEIGHTS / 'sam2_mini.pth', device='cpu')


@pytest.fixture(scope='module')
def frame() -> NDArray[np.uint8]:
    """Bright cells, which the model knows, on a dark ground with noise."""
    image = np.random.default_rng(0).integers(0, 30, (128, 128, 3), np.uint8)
    for place, color in (
        ((30, 30), (60, 235, 110)),
        ((90, 40), (235, 70, 200)),
        ((40, 95), (70, 170, 255)),
        ((100, 100), (250, 200, 60)),
    ):
        cv2.ellipse(image, place, (18, 12), 30, 0, 360, color, cv2.FILLED)
    return image


# Everything --------------------------------------------------------------------------


def test_proposals_are_the_masks_of_the_generator_best_first(
    predictor: SAM2VideoPredictor, frame: NDArray[np.uint8]
) -> None:
    found = propose_masks(predictor, frame, settings=EASY)
    wanted = SAM2AutomaticMaskGenerator(predictor.model, **EASY).generate(frame)
    assert len(found) == len(wanted) > 3
    scores = [proposal.score for proposal in found]
    assert scores == sorted(scores, reverse=True)
    by_score = sorted(wanted, key=lambda m: -m['predicted_iou'] * m['stability_score'])
    for proposal, mask in zip(found, by_score, strict=True):
        pixels = decode_masks([proposal.code])[0]
        np.testing.assert_array_equal(pixels, mask['segmentation'])


def test_masks_that_the_frame_has_are_not_proposed_again(
    predictor: SAM2VideoPredictor, frame: NDArray[np.uint8]
) -> None:
    found = propose_masks(predictor, frame, settings=EASY)
    existing = [found[0].code, found[2].code]
    left = propose_masks(predictor, frame, existing=existing, settings=EASY)
    ious = coco_mask.iou([each.code for each in found], existing, [0, 0]).max(axis=1)
    wanted = [each for each, best in zip(found, ious, strict=True) if best <= 0.7]
    assert left == wanted
    assert 0 < len(left) <= len(found) - 2
    everything = [proposal.code for proposal in found]
    with pytest.raises(ValueError, match=f'all {len(found)} masks .* are objects'):
        propose_masks(predictor, frame, existing=everything, settings=EASY)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'points_per_side': 2.5}, 'points_per_side'),
        (
            {**EASY, 'pred_iou_thresh': 1.0},
            'exceed the least quality 1; lower',
        ),
    ],
)
def test_wrong_settings_and_empty_results_say_what_to_change(
    predictor: SAM2VideoPredictor,
    frame: NDArray[np.uint8],
    settings: dict[str, float],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        propose_masks(predictor, frame, settings=settings)


def test_boxes_give_the_masks_of_the_image_predictor(
    predictor: SAM2VideoPredictor, frame: NDArray[np.uint8]
) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (19, 2))  # more than one batch
    boxes = np.hstack([corners, corners + rng.uniform(5, 60, (19, 2))])
    codes = encode_boxes(predictor, frame, torch.tensor(boxes))
    assert len(codes) == 19
    image_predictor = SAM2ImagePredictor(predictor.model)
    image_predictor.set_image(frame)
    for box, code in zip(boxes, codes, strict=True):
        mask, _, _ = image_predictor.predict(box=box, multimask_output=False)
        assert (
            decode_masks([code])[0] != mask[0]
        ).sum() <= 2  # batches round otherwise


# Text --------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A detector of random weights."""
    folder = tmp_path_factory.mktemp('detector')
    config = write_rtmdet(folder)
    weights = write_detector_weights(config, folder / 'detector.pth')
    return Detector(config, weights, device='cpu')


def test_text_gives_a_labelled_mask_for_each_box(
    detector: Detector, predictor: SAM2VideoPredictor, frame: NDArray[np.uint8]
) -> None:
    proposals = propose_text(predictor, detector, frame, 'dog, a cat', threshold=0.0)
    found = detector.detect(frame, 'dog, a cat', threshold=0.0)
    assert len(proposals) == len(found) > 0
    names = [found.class_names[label] for label in found.labels]
    assert [each.label for each in proposals] == names
    assert [each.score for each in proposals] == found.scores.tolist()
    codes = encode_boxes(predictor, frame, found.boxes)
    assert [each.code for each in proposals] == codes
    with pytest.raises(ValueError, match=r"nothing was found for 'dog'.*of 1$"):
        propose_text(predictor, detector, frame, 'dog', threshold=1.0)
    with pytest.raises(ValueError, match='any class of the detector'):
        propose_text(predictor, detector, frame, ' ', threshold=1.0)
