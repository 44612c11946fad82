"""Shrinks configs of mmdetection and mmsegmentation to small generated data.

Model, losses, transforms, loops and optimizer stay those of the config. What changes:
the data, sizes of images (divided by twelve), the numbers of classes, boxes and
queries, workers and batches; and weights that would have to be downloaded are not
loaded.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from projects.sam2.datasets.processing.shapes_export import write_shapes
from projects.sam2.datasets.sources.shapes import CLASSES
from projects.sam2.engine.config import load_config
from projects.sam2.ops import import_optional

NUM_ITERATIONS, BATCH_SIZE, NUM_VAL_IMAGES = 3, 2, 2
SHRINKING, MULTIPLE, SMALLEST = 12, 32, 64  # of sizes of images, pixels
NUM_FRAMES, SIDE = 12, 64
STUFF_FOLDER = 'things_and_stuff'
# Options of transforms and batch augmentations that hold a size in pixels.
SIZE_KEYS = (
    'border',
    'crop_size',
    'img_scale',
    'random_size_range',
    'scale',
    'scales',
    'size',
    'stride',
)
COUNTS = {'max_per_img': 50, 'nms_pre': 200, 'num_proposals': 50, 'num_queries': 60}
COCO_THINGS, COCO_STUFF = 80, 53
# Where text models are named.
LANGUAGE_KEYS = ('lang_model_name', 'name')
WORDS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', *CLASSES)


def make_data(root: Path) -> None:
    """Write the data, unless they exist."""
    write_shapes(
        root,
        {'train': 2, 'val': 1},
        num_frames=NUM_FRAMES,
        side=SIDE,
        seed=0,
        advance=lambda _done, _total: None,
    )
    for path in sorted((root / 'labels').rglob('*.png')):
        target = root / STUFF_FOLDER / path.relative_to(root / 'labels')
        target.parent.mkdir(parents=True, exist_ok=True)
        labels = np.array(Image.open(path))
        # Panoptic labels: things first, then the background as the only stuff.
        num_labels = len(CLASSES) + 1
        Image.fromarray((labels + num_labels - 1) % num_labels).save(target)
    folder = root / 'language_model'
    if not folder.is_dir():
        _make_language_model(folder)


def _make_language_model(folder: Path) -> None:
    """Write a BERT of two layers with random weights, for text-prompted detectors."""
    transformers: Any = import_optional(
        'transformers', purpose='A text-prompted detector', install='"transformers<5"'
    )
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(WORDS), encoding='utf-8')
    transformers.BertTokenizerFast(str(folder / 'vocab.txt')).save_pretrained(folder)
    # 768 is written into mmdetection's fusion of text and image.
    sizes = {'hidden_size': 768, 'intermediate_size': 256, 'num_hidden_layers': 2}
    config = transformers.BertConfig(
        vocab_size=len(WORDS), num_attention_heads=12, **sizes
    )
    transformers.BertModel(config).save_pretrained(folder)


def small_config(name: str, module: str, data: Path, work_dir: Path) -> Config:
    """Read a config as a user would who adds our import, and shrink it.

    Args:
        name: What the config inherits: ``mmdet::…``, ``mmseg::…`` or a path.
        module: What it imports, ``projects.sam2.bridges.mmdet`` or ``….mmseg``.
        data: Folder of :func:`make_data`.
        work_dir: Work directory of the run.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    path = work_dir / 'config.py'
    imports = f'custom_imports = dict(imports=[{module!r}])\n'
    has_own = not name.startswith(('mmdet::', 'mmseg::'))
    path.write_text(
        f'_base_ = {name!r}\n' + ('' if has_own else imports), encoding='utf-8'
    )
    cfg = load_config(str(path))
    cfg.work_dir, cfg.load_from, cfg.resume = str(work_dir), None, False
    cfg.randomness = {'seed': 0}
    for part in _dicts(cfg.model):
        _drop_weights(part)
        _limit_counts(part)
        _name_language_model(part, data / 'language_model')
    if module.endswith('mmseg'):
        _shrink_segmenter(cfg, data)
    else:
        _shrink_detector(cfg, data)
    _shrink_sizes(cfg.model)
    _shrink_run(cfg)
    # Formatting the config for the log would take a third of the time of a small run.
    return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)


def _dicts(node: object) -> Iterator[dict[str, Any]]:
    """Yield all dicts of a part of a config, outermost first."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _dicts(child)


def _drop_weights(part: dict[str, Any]) -> None:
    for key in ('init_cfg', 'pretrained'):
        value = part.get(key)
        if isinstance(value, str) or 'checkpoint' in (value or ()):
            part[key] = None


def _limit_counts(part: dict[str, Any]) -> None:
    """Limit boxes and queries; keep all scores, so that something is detected."""
    for key, most in COUNTS.items():
        if isinstance(part.get(key), int):
            part[key] = min(part[key], most)
    if str(part.get('type')).endswith('Sampler') and 'num' in part:
        part['num'] = min(part['num'], COUNTS['max_per_img'])
    for key in ('score_thr', 'conf_thr', 'filter_thr', 'mask_thr'):
        if key in part:
            part[key] = 0.0
    if 'num_cp' in part:
        part['num_cp'] = 0  # activation checkpointing of fairscale


def _name_language_model(part: dict[str, Any], folder: Path) -> None:
    for key in LANGUAGE_KEYS:
        if str(part.get(key)).startswith('bert-'):
            part[key] = str(folder)


def _shrink_detector(cfg: Config, data: Path) -> None:
    things = len(CLASSES)
    counts = {COCO_THINGS: things, COCO_STUFF: 1}
    counts[COCO_THINGS + COCO_STUFF] = things + 1
    _set_classes(cfg.model, counts)
    for split in ('train', 'val', 'test'):
        dataset = _innermost(cfg, split)
        if dataset is None:
            continue
        file_split = 'train' if split == 'train' else 'val'
        if dataset['type'] == 'CocoPanopticDataset':
            dataset['type'] = 'CocoDataset'
            _load_stuff_as_labels(cfg)
        dataset.update(
            data_root=f'{data}/',
            ann_file=f'instances_{file_split}.json',
            data_prefix={'img': 'images/', 'seg': f'{STUFF_FOLDER}/'},
            metainfo={'classes': CLASSES},
        )
    annotations = str(data / 'instances_val.json')
    for stage in ('val_evaluator', 'test_evaluator'):
        metrics = cfg.get(stage) or []
        metrics = [metrics] if isinstance(metrics, dict) else metrics
        coco = [metric for metric in metrics if metric['type'] == 'CocoMetric']
        if len(coco) < len(metrics):  # CocoPanopticMetric needs `panopticapi`
            coco = [{'type': 'CocoMetric', 'metric': ['bbox', 'segm']}]
        for metric in coco:
            metric['ann_file'] = annotations
        cfg[stage] = coco


def _load_stuff_as_labels(cfg: Config) -> None:
    """Read labels instead of COCO's panoptic files, which need ``panopticapi``."""
    for part in _dicts([cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]):
        if part.get('type') == 'LoadPanopticAnnotations':
            part.clear()
            part.update(
                type='LoadAnnotations', with_bbox=True, with_mask=True, with_seg=True
            )


def _shrink_segmenter(cfg: Config, data: Path) -> None:
    loaders = [cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader]
    # Then the background is no class but ignored.
    is_reduced = any(part.get('reduce_zero_label') for part in _dicts(loaders))
    names = CLASSES if is_reduced else ('background', *CLASSES)
    parts = _dicts(cfg.model.decode_head)
    num_classes = next(part['num_classes'] for part in parts if 'num_classes' in part)
    _set_classes(cfg.model, {num_classes: len(names)})
    palette = [[50 * index, 255 - 50 * index, 90] for index in range(len(names))]
    for split in ('train', 'val', 'test'):
        dataset = _innermost(cfg, split)
        if dataset is None:
            continue
        pipeline = dataset['pipeline']
        dataset.clear()
        dataset.update(
            type='BaseSegDataset',
            data_root=str(data),
            ann_file=f'frames_{"train" if split == "train" else "val"}.txt',
            data_prefix={'img_path': 'images', 'seg_map_path': 'labels'},
            img_suffix='.jpg',
            seg_map_suffix='.png',
            reduce_zero_label=is_reduced,
            metainfo={'classes': names, 'palette': palette},
            pipeline=pipeline,
        )


def _set_classes(model: object, counts: Mapping[int, int]) -> None:
    """Replace numbers of classes, and cut the lists of their weights."""
    for part in _dicts(model):
        for key in ('num_classes', 'num_things_classes', 'num_stuff_classes'):
            value = part.get(key)
            if isinstance(value, int):
                part[key] = counts.get(value, value)
        weights = part.get('class_weight')
        if isinstance(weights, Sequence):
            old = len(weights) if len(weights) in counts else len(weights) - 1
            part['class_weight'] = [*weights[: counts[old]], *weights[old:]]


def _innermost(cfg: Config, split: str) -> dict[str, Any] | None:
    """Dataset of a split, without its wrappers; each is read once only."""
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        return None
    dataset: dict[str, Any] = loader['dataset']
    while 'dataset' in dataset:
        if 'times' in dataset:
            dataset['times'] = 1
        dataset = dataset['dataset']
    return dataset


def _shrink_sizes(node: object) -> None:
    for part in _dicts(node):
        for key in SIZE_KEYS:
            if key in part:
                part[key] = _smaller(part[key])


def _smaller(value: Any) -> Any:
    """Divide sizes in pixels; small numbers are none."""
    if isinstance(value, list | tuple):
        return type(value)(map(_smaller, value))
    if isinstance(value, int) and abs(value) >= SMALLEST:
        sign = 1 if value > 0 else -1
        steps = round(abs(value) / SHRINKING / MULTIPLE)
        return sign * max(SMALLEST, steps * MULTIPLE)
    return value


def _shrink_run(cfg: Config) -> None:
    """Three iterations and a validation, without checkpoints."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        is_train = split == 'train'
        batch_size = BATCH_SIZE if is_train else 1
        num_images = NUM_ITERATIONS * BATCH_SIZE if is_train else NUM_VAL_IMAGES
        _shrink_sizes(loader)
        loader.update(num_workers=0, persistent_workers=False, batch_size=batch_size)
        dataset = _innermost(cfg, split)
        if dataset is not None:
            dataset['indices'] = num_images
    if cfg.get('train_cfg'):
        is_by_iteration = cfg.train_cfg.get('type') == 'IterBasedTrainLoop'
        key = 'max_iters' if is_by_iteration else 'max_epochs'
        length = NUM_ITERATIONS if is_by_iteration else 1
        cfg.train_cfg.update({key: length, 'val_interval': length})
        cfg.train_cfg.pop('dynamic_intervals', None)
    cfg.default_hooks['checkpoint'] = None
    wrapper = cfg.get('optim_wrapper')
    if wrapper and wrapper.type == 'AmpOptimWrapper' and not torch.cuda.is_available():
        wrapper.type = 'OptimWrapper'
        wrapper.pop('loss_scale', None)
