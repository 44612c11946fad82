"""Configs of mmdetection and mmsegmentation with parts of this project."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

from projects.sam2.bridges.samples import boxes_of
from projects.sam2.datasets.sources.shapes import CLASSES, draw_shapes
from projects.sam2.engine.config import load_config
from projects.sam2.installation import CONFIGS

# Variants of these change an option or two; `stock_configs.py --ours` trains them all.
PATHS = [
    path
    for folder in ('mmdet', 'mmseg')
    for path in sorted((CONFIGS / folder).glob('*.py'))
    if 'HieraBackbone' in path.read_text(encoding='utf-8')
]
MASK_RCNN = CONFIGS / 'mmdet/mask-rcnn_hiera-t_fpn_ms-crop-3x_coco.py'
RED_GREEN_BLUE = [123.675, 116.28, 103.53]


pytest.importorskip('mmdet')
pytestmark = pytest.mark.filterwarnings('ignore')  # of the other packages


def build(cfg: Config) -> Any:
    """Build a model in the scope of its config."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


@pytest.mark.parametrize('path', PATHS, ids=lambda path: path.stem)
def test_model_and_optimizer_of_every_config_fit_together(path: Path) -> None:
    cfg = load_config(str(path))
    with torch.device('meta'):
        model = build(cfg)
    # The weights were trained on RGB images, and mmcv reads BGR.
    assert cfg.model.data_preprocessor.mean == RED_GREEN_BLUE
    assert cfg.model.data_preprocessor.bgr_to_rgb
    users = (cfg.model.get(name) for name in ('neck', 'panoptic_head', 'decode_head'))
    user = next(each for each in users if each)
    assert tuple(user.in_channels) == model.backbone.out_channels
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    in_optimizer = {id(each) for group in groups for each in group['params']}
    trained = [each for each in model.parameters() if each.requires_grad]
    assert {id(each) for each in trained} <= in_optimizer


def test_detector_with_hiera_learns_from_shapes() -> None:
    cfg = load_config(str(MASK_RCNN))
    cfg.model.backbone.update(arch='mini', init_cfg=None, drop_path_rate=0.0)
    cfg.model.neck.update(in_channels=[16, 32, 64, 128], out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    roi_head = cfg.model.roi_head
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        roi_head[name].out_channels = 16
    classes = {'in_channels': 16, 'num_classes': len(CLASSES)}
    roi_head.bbox_head.update(classes, fc_out_channels=32)
    roi_head.mask_head.update(classes, num_convs=1, conv_out_channels=16)
    cfg.model.train_cfg.rcnn.sampler.num = 32
    cfg.model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=30)
    torch.manual_seed(0)
    model = build(cfg)
    model.init_weights()
    model.train()
    data = batch_of_shapes()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first, *_, last = (take_step(model, data, optimizer) for _ in range(8))
    gradient = model.backbone.patch_embedding.projection.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert last < 0.6 * first
    model.eval()
    (sample,) = model.test_step(batch_of_shapes())
    assert len(sample.pred_instances.labels) == len(sample.pred_instances.masks)


def take_step(
    model: BaseModel, data: dict[str, Any], optimizer: torch.optim.Optimizer
) -> float:
    """Take a step of training, and return the loss before it."""
    batch = model.data_preprocessor(data, training=True)
    losses = model(**batch, mode='loss')
    loss, _ = model.parse_losses(losses)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss)


def batch_of_shapes() -> dict[str, Any]:
    """A frame with its boxes and masks, as mmdetection's loader gives it (BGR)."""
    from mmdet.structures import DetDataSample  # noqa: PLC0415  after the operators
    from mmdet.structures.mask import BitmapMasks  # noqa: PLC0415

    clip = draw_shapes('detector', 0, num_frames=12, side=64)
    frame, labels = clip.frames[6], clip.labels[6]
    ids = np.unique(labels)[1:]
    masks = labels == ids[:, None, None]
    size = labels.shape
    sample = DetDataSample(
        metainfo={
            'img_shape': size,
            'ori_shape': size,
            'scale_factor': (1.0, 1.0),
            'img_id': 0,
        }
    )
    sample.gt_instances = InstanceData(
        bboxes=boxes_of(torch.from_numpy(masks)),
        labels=torch.tensor([clip.classes[i - 1] for i in ids]),
        masks=BitmapMasks(list(masks.astype(np.uint8)), *size),
    )
    image = torch.from_numpy(frame[..., ::-1].copy()).permute(2, 0, 1)
    return {'inputs': [image], 'data_samples': [sample]}
