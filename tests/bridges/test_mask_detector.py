"""SAM 2 on the boxes of a detector of mmdetection."""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, DefaultScope
from mmengine.structures import PixelData
from torch import nn

from projects.sam2.apis import SAM2ImagePredictor, build_sam2
from projects.sam2.bridges.detection.box_prompts import segment_boxes
from projects.sam2.bridges.samples import seg_sample
from projects.sam2.checkpoints import CheckpointMismatchError
from projects.sam2.datasets.processing.shapes_export import write_shapes
from projects.sam2.datasets.sources.shapes import CLASSES
from projects.sam2.engine.config import load_config
from text_detectors import write_detector_weights, write_rtmdet
from tool_modules import ROOT

pytest.importorskip('mmdet')
pytestmark = pytest.mark.filterwarnings('ignore')  # of the other packages

MINI = '_base_/models/sam2_1_mini.py'
META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
DECODER_ONLY = [{'type': 'SAM2Freezing', 'parts': ['*'], 'but': ['mask_decoder']}]


@pytest.fixture(scope='module', autouse=True)
def _bridge() -> None:
    from projects.sam2.bridges import mmdet  # noqa: F401, PLC0415  registers all parts


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes in COCO's layout, and a detector of their classes."""
    folder = tmp_path_factory.mktemp('shapes')
    write_shapes(
        folder / 'data',
        {'train': 1, 'val': 1},
        num_frames=12,
        side=96,
        seed=0,
        advance=lambda *_: None,
    )
    config = write_rtmdet(folder, CLASSES)
    write_detector_weights(config, folder / 'weights.pth', classes=CLASSES)
    checkpoint = torch.load(folder / 'weights.pth')
    for key, value in checkpoint['state_dict'].items():
        if 'rtm_reg' in key and key.endswith('bias'):
            value.add_(3.0)  # distances to the sides; negative ones are no box
    torch.save(checkpoint, folder / 'weights.pth')
    return folder


def model_cfg(folder: Path, **options: Any) -> dict[str, Any]:
    return {
        'type': 'SAM2MaskDetector',
        'detector': str(folder / 'rtmdet.py'),
        'detector_checkpoint': str(folder / 'weights.pth'),
        'sam2': {'config': MINI},
        **options,
    }


@pytest.fixture(scope='module')
def model(folder: Path) -> Any:
    torch.manual_seed(0)
    return MODELS.build(model_cfg(folder)).eval()


def dataset(folder: Path, pipeline: list[dict[str, Any]], split: str = 'val') -> Any:
    return DATASETS.build(
        {
            'type': 'CocoDataset',
            'data_root': str(folder / 'data'),
            'ann_file': f'instances_{split}.json',
            'data_prefix': {'img': 'images/'},
            'metainfo': {'classes': CLASSES},
            'test_mode': split == 'val',
            'pipeline': pipeline,
        }
    )


def pipeline(*, keep: bool = False, side: int = 160) -> list[dict[str, Any]]:
    """A test pipeline that enlarges the images."""
    kept = [{'type': 'SAM2KeepImage'}] if keep else []
    return [
        {'type': 'LoadImageFromFile'},
        *kept,
        {'type': 'Resize', 'scale': (side, side), 'keep_ratio': True},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
        {'type': 'PackDetInputs', 'meta_keys': (*META_KEYS, *['sam2_image'] * keep)},
    ]


def predicted_masks(model: Any, sample: Any) -> tuple[Any, Any]:
    """Masks and IoU of the image predictor for the boxes of a sample."""
    predictor = SAM2ImagePredictor(model.sam2)
    predictor.set_image(mmcv.imread(sample.img_path, channel_order='rgb'))
    boxes = sample.pred_instances.bboxes
    masks, ious, _ = predictor.predict(box=boxes, multimask_output=False)
    return masks[:, 0], ious[:, 0]


# ------------------------------------------------------------------------ boxes


def test_boxes_in_one_batch_equal_those_of_the_image_predictor() -> None:
    predictor = SAM2ImagePredictor(build_sam2(MINI, device='cpu'))
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 255, (75, 90, 3), generator=draw, dtype=torch.uint8)
    predictor.set_image(image.numpy())
    corner = torch.rand(5, 2, generator=draw) * 40
    boxes = torch.cat([corner, corner + 30], dim=1)
    masks, ious, low_res = predictor.predict(box=boxes, multimask_output=False)
    nan, inf = float('nan'), float('inf')
    bad = torch.tensor(
        [[9, 9, 9, 40], [nan, 0, 9, 9], [0, 0, inf, 9], [-30, -30, 0, -1], [9, 9, 3, 3]]
    )
    beyond = torch.tensor([[-20.0, 20, 200, 60], [0, 20, 90, 60]])
    given = torch.cat([bad, boxes, beyond])
    result = segment_boxes(predictor, given, boxes_per_batch=5)
    assert np.array_equal(result.masks[5:10].numpy(), masks[:, 0])
    assert np.array_equal(result.ious[5:10].numpy(), ious[:, 0])
    assert np.array_equal(result.low_res_logits[5:10].numpy(), low_res)
    assert not result.masks[:5].any()
    assert not result.ious[:5].any()
    assert torch.equal(result.low_res_logits[-1], result.low_res_logits[-2])  # clamped
    assert segment_boxes(predictor, boxes[:0]).masks.shape == (0, 75, 90)


# ------------------------------------------------------------------- prediction


@pytest.mark.parametrize('keep', [False, True])
def test_masks_are_those_of_the_image_predictor_on_the_original_image(
    folder: Path, model: Any, keep: bool
) -> None:
    images = dataset(folder, pipeline(keep=keep))
    batch = pseudo_collate([images[0], images[7]])
    plain = dataset(folder, pipeline())
    found = model.detector.test_step(pseudo_collate([plain[0], plain[7]]))
    model.rescore = True
    try:
        samples = model.test_step(batch)
    finally:
        model.rescore = False
    for sample, boxes in zip(samples, found, strict=True):
        instances = sample.pred_instances
        assert len(instances) == 40
        for name in ('bboxes', 'scores', 'labels'):
            assert torch.equal(instances[name], boxes.pred_instances[name])
        masks, ious = predicted_masks(model, sample)
        assert np.array_equal(instances.masks.numpy(), masks)
        assert np.array_equal(instances.mask_scores, instances.scores * ious)
        assert 'sam2_image' not in sample


def test_arrays_need_the_kept_image(folder: Path, model: Any) -> None:
    images = dataset(folder, pipeline(keep=True))
    from_file, from_array = images[0], images[0]
    from_array['data_samples'].set_metainfo({'img_path': None})
    one, other = model.test_step(pseudo_collate([from_file, from_array]))
    assert torch.equal(one.pred_instances.masks, other.pred_instances.masks)
    from_array = dataset(folder, pipeline())[0]
    from_array['data_samples'].set_metainfo({'img_path': None})
    with pytest.raises(ValueError, match=r"put dict\(type='SAM2KeepImage'\) after"):
        model.test_step(pseudo_collate([from_array]))


def test_images_without_boxes_and_with_many_have_masks(
    folder: Path, model: Any
) -> None:
    (sample,) = model.test_step(pseudo_collate([dataset(folder, pipeline())[0]]))
    instances = sample.pred_instances
    none, many = copy.deepcopy(sample), copy.deepcopy(sample)
    none.pred_instances = instances[:0]
    many.pred_instances = instances[torch.zeros(500, dtype=torch.int64)]
    none, many = model.add_masks([none, many])
    assert none.pred_instances.masks.shape == (0, *sample.ori_shape)
    masks = many.pred_instances.masks
    assert masks.shape == (500, *sample.ori_shape)
    assert (masks == masks[0]).all()
    model.score_thr = 2.0
    try:
        (below,) = model.add_masks([many])
    finally:
        model.score_thr = 0.0
    assert len(below.pred_instances) == 0


def test_augmented_boxes_are_merged_and_segmented_once(
    folder: Path, model: Any
) -> None:
    flips = [{'type': 'RandomFlip', 'prob': p} for p in (1.0, 0.0)]
    steps = [[step] for step in pipeline()[1:]]
    steps[-1][0]['meta_keys'] += ('flip', 'flip_direction')
    views = {'type': 'TestTimeAug', 'transforms': [steps[0], flips, *steps[1:]]}
    augmented = dataset(folder, [pipeline()[0], views])
    nms = ConfigDict(nms={'type': 'nms', 'iou_threshold': 0.6}, max_per_img=12)
    cfg = {'tta_cfg': nms, 'module': model}
    tta = MODELS.build({'type': 'SAM2MaskTTAModel', **cfg})
    plain = MODELS.build({'type': 'DetTTAModel', 'tta_cfg': nms, 'module': model})
    plain.module = model.detector
    batch = pseudo_collate([augmented[3]])
    (sample,) = tta.test_step(copy.deepcopy(batch))
    (expected,) = plain.test_step(batch)
    boxes = sample.pred_instances.bboxes
    assert torch.equal(boxes, expected.pred_instances.bboxes)
    masks, _ = predicted_masks(model, sample)
    assert np.array_equal(sample.pred_instances.masks.numpy(), masks)


# ---------------------------------------------------------------------- oracles


def scores(name: str, samples: list[Any], images: Any, **options: Any) -> Any:
    metric = METRICS.build({'type': name, **options})
    metric.dataset_meta = images.metainfo
    metric.process({}, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))


def test_oracles_reach_the_highest_scores_exactly(folder: Path) -> None:
    images = dataset(folder, pipeline())
    samples = {}
    for oracle in ('boxes', 'masks'):
        cfg = model_cfg(folder, detector=None, detector_checkpoint=None, oracle=oracle)
        model = MODELS.build(cfg).eval()
        batches = [pseudo_collate([item]) for item in images]
        samples[oracle] = [model.test_step(batch)[0] for batch in batches]
    options = {'ann_file': str(folder / 'data' / 'instances_val.json')}
    names = ['bbox', 'segm']
    found = scores('CocoMetric', samples['boxes'], images, metric=names, **options)
    assert found['coco/bbox_mAP'] == 1.0
    assert found['coco/segm_mAP'] < 0.5  # of random weights
    found = scores('CocoMetric', samples['masks'], images, metric=names, **options)
    assert found['coco/bbox_mAP'] == found['coco/segm_mAP'] == 1.0
    pytest.importorskip('mmseg')
    painted = [class_map(sample, folder / 'data') for sample in samples['masks']]
    background = SimpleNamespace(metainfo={'classes': ('background', *CLASSES)})
    found = scores('mmseg.IoUMetric', painted, background)
    assert found['mIoU'] == found['aAcc'] == 100.0


def class_map(sample: Any, root: Path) -> Any:
    """A sample of mmsegmentation with the painted masks and the labels of the file."""
    instances = sample.pred_instances
    painted = seg_sample(
        instances.masks,
        instances.labels + 1,
        instances.scores,
        background=0,
        metainfo={'img_path': sample.img_path},
    )
    path = Path(sample.img_path)
    labels = cv2.imread(
        str(root / 'labels' / path.parent.name / f'{path.stem}.png'),
        cv2.IMREAD_UNCHANGED,
    )
    painted.gt_sem_seg = PixelData(data=torch.from_numpy(labels)[None].long())
    return painted


@pytest.mark.parametrize('problem', ['resized', 'no truth'])
def test_oracles_want_the_truth_in_pixels_of_the_file(
    folder: Path, problem: str
) -> None:
    steps = pipeline()
    if problem == 'resized':
        steps[1], steps[2] = steps[2], steps[1]
        message = 'put LoadAnnotations after Resize'
    else:
        del steps[2]
        message = 'needs the ground truth, but the sample has none'
    model = MODELS.build(model_cfg(folder, detector=None, oracle='boxes')).eval()
    with pytest.raises(ValueError, match=message):
        model.test_step(pseudo_collate([dataset(folder, steps)[0]]))


# --------------------------------------------------------------------- training


def trained_names(model: Any) -> set[str]:
    return {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize('train_detector', [False, True])
def test_only_the_chosen_parts_are_trained(folder: Path, train_detector: bool) -> None:
    cfg = model_cfg(
        folder,
        train_detector=train_detector,
        sam2={'config': MINI, 'adaptations': DECODER_ONLY},
    )
    model = MODELS.build(cfg).train()
    steps = pipeline()
    steps[1], steps[2] = steps[2], steps[1]
    images = dataset(folder, steps, 'train')
    data = model.data_preprocessor(pseudo_collate([images[2], images[5]]), True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    parts = {name.split('.')[0] for name in trained_names(model)}
    assert parts == ({'detector', 'sam2'} if train_detector else {'sam2'})
    sam2 = {name for name in trained_names(model) if name.startswith('sam2.')}
    assert {name.split('.')[1] for name in sam2} == {'mask_decoder'}
    assert model.detector.training is train_detector
    trainable = [p.requires_grad for p in model.detector.parameters()]
    assert any(trainable) is train_detector
    # DDP refuses SyncBN on a CPU, and a frozen detector has no use for it.
    layers = model.detector.modules()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in layers) is train_detector
    assert not model.sam2.image_encoder.training
    assert ('detector.loss_bbox' in losses) is train_detector
    assert losses['sam2.loss_dice'] > 0


def test_the_loss_is_that_of_sam2_on_the_image_of_the_pipeline(folder: Path) -> None:
    model = MODELS.build(model_cfg(folder, detector=None, oracle='boxes')).train()
    steps = pipeline(side=128)  # the size of the mini model, so that nothing is resized
    steps[1], steps[2] = steps[2], steps[1]
    item = dataset(folder, steps, 'train')[4]
    image, sample = item['inputs'], item['data_samples']
    masks = torch.from_numpy(sample.gt_instances.masks.to_ndarray()).bool()
    data = model.data_preprocessor(pseudo_collate([item]), True)
    batches: list[Any] = []

    def spy(batch: Any) -> dict[str, torch.Tensor]:
        batches.append(batch)
        return {'loss_mask': torch.zeros(())}

    model.sam2.loss = spy
    assert set(model(**data, mode='loss')) == {'sam2.loss_mask'}
    (batch,) = batches
    rgb = image.flip(0)[None]
    assert torch.equal(batch.frames, model.sam2.data_preprocessor.normalise(rgb))
    assert torch.equal(
        batch.targets.masks[0].flatten(1).sum(1).sort().values,
        masks.flatten(1).sum(1).sort().values,
    )
    model.max_num_objects = 1
    data = model.data_preprocessor(pseudo_collate([item]), True)
    model(**data, mode='loss')
    (drawn,) = batches[1].targets.masks[0]
    assert any(torch.equal(drawn, mask) for mask in masks)


def test_a_batch_without_objects_has_no_loss_but_a_graph(folder: Path) -> None:
    model = MODELS.build(model_cfg(folder, detector=None, oracle='boxes')).train()
    steps = pipeline(side=128)
    item = dataset(folder, steps, 'train')[4]
    sample = item['data_samples']
    sample.gt_instances = sample.gt_instances[torch.zeros(0, dtype=torch.int64)]
    data = model.data_preprocessor(pseudo_collate([item]), True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total == 0
    assert 'sam2.mask_decoder.mask_tokens.weight' in trained_names(model)


def test_training_says_what_is_missing(folder: Path, model: Any) -> None:
    steps = pipeline()
    steps[2]['with_mask'] = False
    batch = pseudo_collate([dataset(folder, steps, 'train')[0]])
    with pytest.raises(ValueError, match='with_mask=True'):
        model.data_preprocessor(batch, True)
    sam2 = {'config': MINI, 'adaptations': [{'type': 'SAM2Freezing', 'parts': ['*']}]}
    frozen = MODELS.build(model_cfg(folder, sam2=sam2)).train()
    batch = pseudo_collate([dataset(folder, pipeline(), 'train')[0]])
    with pytest.raises(ValueError, match='Nothing is trained: the detector is frozen'):
        frozen(**frozen.data_preprocessor(batch, True), mode='loss')


# ------------------------------------------------------------------ checkpoints


def assert_equal(state: dict[str, Any], expected: dict[str, Any]) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_checkpoints_of_the_whole_and_of_the_parts(
    folder: Path, model: Any, tmp_path: Path
) -> None:
    whole = tmp_path / 'whole.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, whole)
    checkpoints: dict[str, Any] = {
        'detector_checkpoint': str(whole),
        'sam2_checkpoint': str(whole),
    }
    again = MODELS.build(model_cfg(folder, **checkpoints))
    before = copy.deepcopy(again.state_dict())
    again.init_weights()  # what a Runner does before training
    assert_equal(before, model.state_dict())
    assert_equal(again.state_dict(), model.state_dict())
    predictor = build_sam2(MINI, whole, device='cpu')
    assert torch.equal(
        predictor.mask_decoder.iou_token.weight,
        model.sam2.mask_decoder.iou_token.weight,
    )
    # One part alone, as `tools/test.py CONFIG CHECKPOINT` loads it.
    again = MODELS.build(
        model_cfg(folder, detector_checkpoint=None, sam2_checkpoint=str(whole))
    )
    again.load_state_dict(model.detector.state_dict(), strict=False)
    assert_equal(again.state_dict(), model.state_dict())


def test_checkpoints_that_leave_a_part_random_are_errors(
    folder: Path, model: Any
) -> None:
    random = MODELS.build(model_cfg(folder, detector_checkpoint=None))
    with pytest.raises(CheckpointMismatchError, match=r'model\.sam2_checkpoint'):
        random.load_state_dict(model.detector.state_dict(), strict=False)
    other = write_rtmdet_of(folder, ('cat', 'dog'))
    with pytest.raises(CheckpointMismatchError, match=r'another shape: .*classes'):
        MODELS.build(model_cfg(folder, detector=other))
    state = model.state_dict()
    del state['sam2.mask_decoder.iou_token.weight']
    with pytest.raises(CheckpointMismatchError, match=r'SAM 2: 1 weights are missing'):
        random.load_state_dict(state, strict=False)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        MODELS.build(model_cfg(folder, detector_checkpoint='nowhere.pth'))


def write_rtmdet_of(folder: Path, classes: tuple[str, ...]) -> str:
    inner = folder / 'other'
    inner.mkdir()
    return write_rtmdet(inner, classes)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'detector': None}, 'neither a detector nor an oracle'),
        ({'oracle': 'box'}, "oracle is 'box'"),
        ({'sam2': {'image_size': 3}}, 'neither `type` nor `config`'),
        ({'detector': 'nowhere.py'}, 'no config nowhere.py of a detector'),
    ],
)
def test_invalid_options_are_errors(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        MODELS.build(model_cfg(folder, **options))


# ---------------------------------------------------------------------- configs


def test_the_classes_of_detector_and_dataset_are_compared(
    folder: Path, model: Any
) -> None:
    hook: Any = HOOKS.build({'type': 'SAM2ClassCheckHook'})
    runner: Any = SimpleNamespace(
        model=model, test_dataloader=SimpleNamespace(dataset=dataset(folder, []))
    )
    hook.before_test(runner)
    meta = {'dataset_meta': {'classes': CLASSES[::-1]}}
    hook.after_load_checkpoint(runner, {'meta': meta})
    with pytest.raises(ValueError, match="'star' in place of 'disk'"):
        hook.before_test(runner)
    metainfo = {'classes': ('disk', 'square')}
    runner.test_dataloader.dataset = SimpleNamespace(metainfo=metainfo)
    with pytest.raises(ValueError, match='bbox_head predicts 4 classes'):
        hook.before_test(runner)
    # A semantic head of HTC predicts stuff as well, and SSD's backbone has -1 classes.
    runner.model = nn.ModuleDict()
    for name, count in {'semantic_head': 183, 'backbone': -1}.items():
        module: Any = nn.Identity()
        module.num_classes = count
        runner.model[name] = module
    runner.val_dataloader = runner.test_dataloader
    hook.before_val(runner)


@pytest.mark.parametrize('name', ['rtmdet-tiny_coco_finetune', 'faster-rcnn_r50_coco'])
def test_configs_build(name: str) -> None:
    path = ROOT / 'configs' / 'mmdet' / f'sam2_mask_detector_{name}.py'
    cfg = load_config(str(path)).model
    cfg.update(sam2_checkpoint=None, detector_checkpoint=None)
    with torch.device('meta'):
        model: Any = MODELS.build(cfg)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    parts = {name.split('.')[1] for name in trained}
    assert (parts == {'mask_decoder'}) is ('finetune' in name)
    assert all(name.startswith('sam2.') for name in trained)
