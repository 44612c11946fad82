"""A detector that prompts SAM 2: its masks, what it trains, images without objects."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from projects.sam2.apis import SAM2ImagePredictor, build_sam2
from projects.sam2.models import SAM2
from projects.sam2.structures import select_high_res

pytest.importorskip('mmdet.version')
pytestmark = pytest.mark.filterwarnings('ignore')  # of mmdet's imports

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/mmdet/sam2_prompt_mini_shapes.py'
SIDE = 64
Detector = Any  # a type of mmdet, which is not imported here
BOXES = ((8.0, 10.0, 40.0, 50.0), (20.0, 4.0, 60.0, 30.0))


def model_config(**mask_head: Any) -> ConfigDict:
    config: ConfigDict = Config.fromfile(CONFIG).model  # imports the bridge, too
    config.backbone.pop('init_cfg')
    config.backbone.adaptations = [{'type': 'SAM2Freezing', 'parts': ['*']}]
    config.backbone.data_preprocessor.image_size = (SIDE, SIDE)
    config.roi_head.mask_head.update(mask_head)
    return config


def build(config: ConfigDict) -> Detector:
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model: Detector = MODELS.build(copy.deepcopy(config))
    # An untrained decoder gives nearly the same logit everywhere.
    kernels = model.backbone.mask_decoder.hypernetworks[0].layers[-1]
    torch.nn.init.normal_(kernels.weight)
    return model


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), np.uint8) for size in sizes]


def batch(arrays: list[np.ndarray], counts: list[int]) -> dict[str, Any]:
    """Images in BGR as from a pipeline, each with some of the two objects."""
    from mmdet.structures import DetDataSample  # noqa: PLC0415  it warns
    from mmdet.structures.mask import BitmapMasks  # noqa: PLC0415

    inputs, samples = [], []
    for array, count in zip(arrays, counts, strict=True):
        size = array.shape[:2]
        masks = np.zeros((count, *size), np.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, BOXES, strict=False):
            mask[int(y0) : int(y1), int(x0) : int(x1)] = 1
        truth = InstanceData(
            bboxes=torch.tensor(BOXES[:count]).view(-1, 4),
            labels=torch.arange(count),
            masks=BitmapMasks(masks, *size),
        )
        meta = {'img_shape': size, 'ori_shape': size, 'scale_factor': (1.0, 1.0)}
        sample = DetDataSample(metainfo=meta, gt_instances=truth)
        inputs.append(torch.from_numpy(array.transpose(2, 0, 1).copy()))
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


def losses(model: Detector, data: dict[str, Any]) -> Tensor:
    prepared = model.data_preprocessor(data, training=True)
    total: Tensor
    total, _ = model.parse_losses(model(**prepared, mode='loss'))
    return total


def predict_masks(model: Detector, data: dict[str, Any], boxes: Tensor) -> Tensor:
    """Masks of the first image for boxes in the place of what the detector finds."""
    prepared = model.data_preprocessor(data)
    metas = [sample.metainfo for sample in prepared['data_samples']]
    found = [InstanceData(bboxes=boxes.clone(), labels=torch.zeros(len(boxes)))]
    others = [InstanceData(bboxes=boxes[:0], labels=torch.zeros(0)) for _ in metas[1:]]
    with torch.no_grad():
        pyramid = model.extract_feat(prepared['inputs'])
        results = model.roi_head.predict_mask(
            pyramid, metas, found + others, rescale=True
        )
    masks: Tensor = results[0].masks
    return masks


@pytest.fixture(scope='module')
def detector() -> Detector:
    return build(model_config()).eval()


def test_a_head_that_predicts_nothing_prompts_with_the_box_of_the_detector() -> None:
    model = build(model_config(num_points=2)).eval()
    last = model.roi_head.mask_head.layers[-1]
    torch.nn.init.zeros_(last.weight)
    (image,) = images((SIDE, SIDE))
    model.backbone.mask_decoder.stability_selection = False
    predictor = SAM2ImagePredictor(model.backbone)
    predictor.set_image(np.ascontiguousarray(image[..., ::-1]))
    expected, _, _ = predictor.predict(box=np.array(BOXES), multimask_output=False)
    masks = predict_masks(model, batch([image], [0]), torch.tensor(BOXES))
    assert 0.02 < masks.float().mean() < 0.98
    np.testing.assert_array_equal(masks.numpy(), expected[:, 0])


def test_masks_are_those_of_the_decoder_for_each_prompt_alone(
    detector: Detector,
) -> None:
    prepared = detector.data_preprocessor(
        batch(images((SIDE, SIDE), (SIDE, SIDE)), [0, 0])
    )
    model: SAM2 = detector.backbone
    head = detector.roi_head.mask_head
    with torch.no_grad():
        pyramid = detector.extract_feat(prepared['inputs'])
        prompts = head(torch.rand(2, 64, 14, 14), torch.tensor(BOXES))
        content = torch.randn_like(prompts.content)
        prompts = replace(prompts, content=content)
        logits = pyramid.decode(prompts, torch.tensor([1, 0]))
        features = model.encode(prepared['inputs'])
        conditioned = model.tracker.condition_on_memory(features, None)
        for row, image in ((0, 1), (1, 0)):
            embedded = model.prompt_encoder(
                points=prompts.points.select(slice(row, row + 1)),
                mask_logits=None,
                embedding_size=(4, 4),
                num_objects=1,
            )
            embedded.sparse[0, :5] += content[row]  # the padding point is last
            decoded = model.mask_decoder(
                embedding=conditioned[[image]],
                position=model.prompt_encoder.dense_position((4, 4)),
                prompts=embedded,
                high_res=select_high_res(features.high_res, torch.tensor([image])),
                multimask=False,
                select_by_stability=False,
            )
            torch.testing.assert_close(logits[[row]], decoded.mask_logits)


def test_points_move_with_the_box_and_content_is_added(
    detector: Detector,
) -> None:
    head = detector.roi_head.mask_head
    features = torch.rand(2, 64, 14, 14)
    boxes = torch.tensor(BOXES)
    with torch.no_grad():
        first = head(features, boxes)
        second = head(features, 2 * boxes + 5)
    torch.testing.assert_close(second.points.coords, 2 * first.points.coords + 5)
    torch.testing.assert_close(second.content, first.content)
    assert first.points.labels.tolist() == [[2, 3, 1, 1, 1]] * 2


def test_training_reaches_prompts_and_adapters_but_not_what_is_frozen() -> None:
    config = model_config()
    lora = {'type': 'SAM2LowRankAdapters', 'layers': ['image_encoder.backbone']}
    config.backbone.adaptations.append(lora)
    model = build(config).train()
    losses(model, batch(images((SIDE, SIDE)), [2])).backward()
    graded = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert {f'roi_head.mask_head.layers.{index}.weight' for index in (0, 2, 5, 7)} <= (
        graded
    )
    assert 'neck.lateral_convs.0.conv.weight' in graded
    in_backbone = {name for name in graded if name.startswith('backbone.')}
    assert in_backbone
    assert all('lora_B' in name for name in in_backbone)  # A begins after B


def test_images_without_objects_train_and_predict(detector: Detector) -> None:
    model = build(model_config()).train()
    total = losses(model, batch(images((SIDE, SIDE)), [0]))
    total.backward()
    assert total.isfinite()
    # DDP waits for a gradient of every parameter.
    head = model.roi_head.mask_head
    assert all(parameter.grad is not None for parameter in head.parameters())
    strict = copy.deepcopy(detector)
    strict.roi_head.test_cfg.score_thr = 1.1
    (result,) = strict.test_step(batch(images((50, 30)), [0]))
    assert result.pred_instances.masks.shape == (0, 50, 30)


def test_padding_changes_no_mask_inside_the_image(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = images((SIDE, SIDE), (SIDE, 2 * SIDE))
    sizes = []

    def decode(pyramid: Any, prompts: Any, image_index: Tensor) -> Tensor:
        """Masks that depend on the place alone: x / 4 - 6 of the padded image."""
        height, width = 4 * pyramid.embedding.shape[-2], 4 * pyramid.embedding.shape[-1]
        sizes.append((height, width))
        columns = torch.arange(width) - 6.4
        return columns.expand(len(image_index), 1, height, width)

    monkeypatch.setattr(
        'projects.sam2.bridges.detection.learned_prompts.PromptablePyramid.decode',
        decode,
    )
    boxes = torch.tensor(BOXES)
    alone = predict_masks(detector, batch([small], [0]), boxes)
    padded = predict_masks(detector, batch([small, large], [0, 0]), boxes)
    assert sizes == [(16, 16), (16, 32)]
    assert alone.shape == padded.shape == (2, SIDE, SIDE)
    assert torch.equal(alone, padded)
    # Column 4 * (c + 0.5) - 0.5 shows cell c; the edge lies at c = 6.4.
    assert alone[0, 0].nonzero()[0].item() == 28


def test_a_checkpoint_holds_the_detector_and_its_sam2(
    detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / 'detector.pth'
    torch.save({'state_dict': detector.state_dict(), 'meta': {}}, path)
    again = build(model_config()).eval()
    torch.nn.init.ones_(again.roi_head.mask_head.layers[0].weight)
    again.load_state_dict(torch.load(path, weights_only=True)['state_dict'])
    data = batch(images((SIDE, SIDE)), [0])
    boxes = torch.tensor(BOXES)
    assert torch.equal(
        predict_masks(again, data, boxes), predict_masks(detector, data, boxes)
    )
    model = build_sam2(ROOT / 'configs/_base_/models/sam2_1_mini.py', path, 'cpu')
    assert isinstance(model, SAM2)
    for name, value in detector.backbone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'mask_head': {'prompt_dims': 32}}, 'prompt_dims=64'),
        ({'mask_head': {'num_points': 1}}, 'num_points is 1'),
        ({'masks_per_image': 0}, 'masks_per_image is 0'),
        ({'mask_roi_extractor': None}, 'mask_roi_extractor'),
    ],
)
def test_parts_that_do_not_fit_are_named(change: dict[str, Any], words: str) -> None:
    config = model_config()
    for key, value in change.items():
        if isinstance(value, dict):
            config.roi_head[key].update(value)
        else:
            config.roi_head[key] = value
    with pytest.raises(ValueError, match=words):
        build(config)
