"""Proposals of the demo: masks of everything, and of what a detector finds."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    build_sam2_video_predictor,
)
from projects.sam2.bridges.mmcv_operators import (
    OperatorStandIn,
    ensure_operators,
    nms,
)
from projects.sam2.installation import WEIGHTS
from projects.sam2.ops import decode_masks
from projects.sam2.webdemo.proposals import (
    TextDetector,
    propose_masks,
    propose_text,
    segment_boxes,
)

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
    codes = segment_boxes(predictor, frame, [tuple(box) for box in boxes.tolist()])
    assert len(codes) == 19
    image_predictor = SAM2ImagePredictor(predictor.model)
    image_predictor.set_image(frame)
    for box, code in zip(boxes, codes, strict=True):
        mask, _, _ = image_predictor.predict(box=box, multimask_output=False)
        assert (
            decode_masks([code])[0] != mask[0]
        ).sum() <= 2  # batches round otherwise


# Text --------------------------------------------------------------------------------


def detector_config(folder: Path) -> str:
    """A narrow RTMDet of five classes, written to a file."""
    mmdet = pytest.importorskip('mmdet')
    configs = Path(mmdet.__file__).parent / '.mim' / 'configs'
    ensure_operators()
    cfg = Config.fromfile(configs / 'rtmdet' / 'rtmdet_tiny_8xb32-300e_coco.py')
    classes = ('cat', 'Dog', 'traffic light', 'cup', 'kite')
    cfg.model.backbone.update(init_cfg=None, widen_factor=0.125)
    cfg.model.neck.update(in_channels=[32, 64, 128], out_channels=16)
    cfg.model.bbox_head.update(in_channels=16, feat_channels=16, num_classes=5)
    cfg.model.test_cfg.update(max_per_img=40)
    for part in cfg.test_dataloader.dataset.pipeline:
        if part.type == 'Resize':
            part.scale = (160, 160)
        elif part.type == 'Pad':
            part.size = (160, 160)
    cfg.test_dataloader.dataset.metainfo = {'classes': classes}
    path = folder / 'detector.py'
    cfg.dump(path)
    return str(path)


@pytest.fixture(scope='module')
def detector(tmp_path_factory: pytest.TempPathFactory) -> TextDetector:
    """A detector of random weights."""
    folder = tmp_path_factory.mktemp('detector')
    config = detector_config(folder)
    torch.manual_seed(0)
    built = TextDetector(config, None, device='cpu')
    weights = {'state_dict': built._inferencer.model.state_dict()}
    weights['meta'] = {
        'dataset_meta': {'classes': ('cat', 'Dog', 'traffic light', 'cup', 'kite')}
    }
    torch.save(weights, folder / 'detector.pth')
    return TextDetector(config, str(folder / 'detector.pth'), device='cpu')


@pytest.mark.filterwarnings('ignore')  # of mmdet and mmcv
def test_classes_named_by_a_text_are_those_of_mmdets_own_inference(
    detector: TextDetector, frame: NDArray[np.uint8]
) -> None:
    from mmdet.apis import inference_detector  # noqa: PLC0415  optional

    model = detector._inferencer.model
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    found_by_mmdet: Any = inference_detector(model, bgr)
    result = found_by_mmdet.pred_instances.cpu()
    assert detector.classes == ('cat', 'Dog', 'traffic light', 'cup', 'kite')
    wanted = {
        (round(score, 5), detector.classes[label])
        for score, label in zip(
            result.scores.tolist(), result.labels.tolist(), strict=True
        )
    }
    found = detector.detect(frame, '', 0.0)
    assert {(round(each.score, 5), each.label) for each in found} <= wanted
    assert len(found) > 5
    some = detector.detect(frame, ' dog, Traffic Light\nCAT.', 0.0)
    named = {'cat', 'Dog', 'traffic light'}
    assert some == [each for each in found if each.label in named]
    limit = found[2].score
    assert detector.detect(frame, '', limit) == found[:3]
    for each in found:
        left, top, right, bottom = each.box
        assert 0 <= left < right <= 127
        assert 0 <= top < bottom <= 127


@pytest.mark.filterwarnings('ignore')
def test_text_gives_a_labelled_mask_for_each_box(
    detector: TextDetector, predictor: SAM2VideoPredictor, frame: NDArray[np.uint8]
) -> None:
    found = propose_text(predictor, detector, frame, 'dog, cat', threshold=0.0)
    boxes = detector.detect(frame, 'dog, cat', 0.0)
    assert [each.label for each in found] == [box.label for box in boxes]
    codes = segment_boxes(predictor, frame, [box.box for box in boxes])
    assert [each.code for each in found] == codes
    with pytest.raises(ValueError, match=r"nothing was found for 'dog'.*of 1$"):
        propose_text(predictor, detector, frame, 'dog', threshold=1.0)
    with pytest.raises(ValueError, match='any class of the detector'):
        propose_text(predictor, detector, frame, ' ', threshold=1.0)
    with pytest.raises(ValueError, match=r"no class 'dgo'.*such as Dog"):
        propose_text(predictor, detector, frame, 'dgo')
    with pytest.raises(ValueError, match='threshold must be a number from 0 to 1'):
        propose_text(predictor, detector, frame, 'dog', threshold=2)


def test_open_vocabulary_detectors_get_phrases_and_need_no_download(
    detector: TextDetector, frame: NDArray[np.uint8]
) -> None:
    """Mmdet calls nltk's downloader unless it is told that these are entities."""
    calls: list[dict[str, Any]] = []
    instances = InstanceData(
        bboxes=torch.tensor([[1.0, 2, 30, 40], [-5, -5, 500, 500], [9, 9, 9, 20]]),
        scores=torch.tensor([0.4, 0.9, 0.8]),
        labels=torch.tensor([1, 0, 0]),
    )

    def inferencer(image: NDArray[np.uint8], **options: Any) -> dict[str, Any]:
        assert image.shape == frame.shape
        calls.append(options)
        return {'predictions': [SimpleNamespace(pred_instances=instances)]}

    asked = object.__new__(TextDetector)
    asked._inferencer, asked.takes_any_text, asked.classes = inferencer, True, ()
    found = asked.detect(frame, 'a red car.  person on a bike\n')
    assert calls[0]['texts'] == 'a red car . person on a bike .'
    assert calls[0]['custom_entities'] is True
    assert [(each.label, each.box) for each in found] == [
        ('a red car', (0, 0, 127, 127)),
        ('person on a bike', (1, 2, 30, 40)),
    ]
    with pytest.raises(ValueError, match='the text is empty'):
        asked.detect(frame, ' ., ')


def test_a_detector_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    pytest.importorskip('mmdet')
    (tmp_path / 'empty.py').write_text('a = 1\n')
    with pytest.raises(ValueError, match=r'empty\.py cannot be built'):
        TextDetector(str(tmp_path / 'empty.py'), None, device='cpu')
    with pytest.raises(ValueError, match=r'missing\.py'):
        TextDetector(str(tmp_path / 'missing.py'), None, device='cpu')


def test_without_mmdet_the_package_to_install_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    with pytest.raises(ImportError, match=r'pip install mmsam2\[mmdet\]'):
        TextDetector('a.py', None, device='cpu')


# Operators ---------------------------------------------------------------------------


@pytest.mark.parametrize('offset', [0, 1])
def test_suppression_keeps_what_a_literal_one_keeps(offset: int) -> None:
    rng = np.random.default_rng(offset)
    for _ in range(20):
        corners = rng.integers(0, 20, (25, 2))
        boxes = np.hstack([corners, corners + rng.integers(1, 15, (25, 2))])
        scores = rng.permutation(25) / 25
        kept: list[int] = []
        for index in np.argsort(-scores):
            if all(iou(boxes[index], boxes[other], offset) <= 0.4 for other in kept):
                kept.append(int(index))
        found = nms(
            torch.tensor(boxes, dtype=torch.float32),
            torch.tensor(scores),
            iou_threshold=0.4,
            offset=offset,
        )
        assert found.tolist() == kept


def iou(one: NDArray[Any], other: NDArray[Any], offset: int) -> float:
    """IoU of two boxes, whose second corners belong to them if the offset is 1."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + offset
    height = min(one[3], other[3]) - max(one[1], other[1]) + offset
    overlap = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0] + offset) * (b[3] - b[1] + offset) for b in (one, other)]
    return float(overlap / (sum(areas) - overlap))


def test_deformable_attention_is_mmcvs_own() -> None:
    ensure_operators()
    attention = pytest.importorskip('mmcv.ops.multi_scale_deform_attn')
    torch.manual_seed(0)
    shapes = torch.tensor([[6, 4], [3, 2]])
    value = torch.randn(2, 30, 2, 8)
    places = torch.rand(2, 5, 2, 2, 4, 2)
    weights = torch.rand(2, 5, 2, 2, 4)
    found = OperatorStandIn('mmcv._ext').ms_deform_attn_forward(
        value, shapes, torch.tensor([0, 24]), places, weights, im2col_step=64
    )
    wanted = attention.multi_scale_deformable_attn_pytorch(
        value, shapes, places, weights
    )
    torch.testing.assert_close(found, wanted)
