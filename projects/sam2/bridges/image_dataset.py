"""Datasets of mmdetection and mmsegmentation as clips of one frame."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..datasets import AnnotatedVideo, ClipDataError, ClipDataset
from ..datasets.annotated_video import MaskReader
from ..datasets.io.errors import ReadLimits, reports_clip_errors
from ..datasets.io.frames import ImageFrames
from ..datasets.io.images import checked_intensity_range
from ..datasets.sources.coco import CocoMasks
from ..datasets.sources.label_images import LabelImageMasks, LabelRule
from ..datasets.sources.records import Record, RecordStore
from ..structures import VOID_LABEL
from .mmcv_operators import import_package

NUM_LABELS = 256  # of mmsegmentation, which reads labels as 8 bits
IMAGE_PREFIXES = ('img', 'img_path')
LABEL_PREFIXES = ('seg_map_path', 'seg')
Renaming = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeContent:
    """Content of a dataset of another package.

    Attributes:
        records: A record for each image, by its name.
        renamed: See :class:`LabelRule`.
    """

    records: RecordStore
    renamed: Renaming


@DATASETS.register_module()
class ClipBridgeDataset(ClipDataset):
    """Any dataset of images that mmdetection or mmsegmentation builds from a config.

    In a dataset with ``instances`` (like ``CocoDataset``) each instance is an object,
    and ignored instances are void. In a dataset with ``seg_map_path`` (like
    ``BaseSegDataset``) each class, or each connected region of a class, is an object;
    its ``label_map`` and ``reduce_zero_label`` are applied to the labels first, and
    labels that they ignore are void. Images and labels must be in the folders that
    ``data_prefix`` names, or else in ``data_root``.

    A config gives the full import path, which imports the bridge:
    ``type='projects.sam2.bridges.image_dataset.ClipBridgeDataset'``.

    Args:
        dataset: Config of the dataset, its type with the scope (``mmdet.…`` or
            ``mmseg.…``); its pipeline is not used.
        rule: How classes become objects, see :class:`LabelRule`; by default each class
            is an object.
        limits: See :class:`ReadLimits`.
        intensity_range: See :class:`ListedDataset`.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: See :class:`ClipDataset`.
    """

    def __init__(
        self,
        *,
        dataset: Mapping[str, Any],
        rule: Mapping[str, Any] | None = None,
        limits: Mapping[str, int] | None = None,
        intensity_range: Sequence[float] | None = None,
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        self.inner = {**dataset, 'pipeline': []}
        self.rule = dict(rule or {})
        self.limits = ReadLimits.of(limits)
        self.read_range = checked_intensity_range(intensity_range)
        super().__init__(data_root=None, pipeline=pipeline, max_bad_share=max_bad_share)

    @cached_property
    def _content(self) -> BridgeContent:
        dataset = build_inner(self.inner)
        return BridgeContent(
            records=RecordStore(image_records(dataset), annotation_file_of(self.inner)),
            renamed=label_renaming(dataset),
        )

    def list_videos(self) -> list[str]:
        """Names of the images: their file names without the ending."""
        return self._content.records.names()

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its masks, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If it is not in the dataset.
        """
        record = self._content.records.read(name)
        image = Path(record['image'])
        frames = ImageFrames(
            folder=image.parent,
            files=(image.name,),
            limits=self.limits,
            intensity_range=self.read_range,
        )
        return AnnotatedVideo(name=name, frames=frames, masks=self._masks(record))

    def _masks(self, record: Record) -> MaskReader:
        if 'labels' in record:
            renamed = self._content.renamed
            usual = {'background': (), 'void': (VOID_LABEL,), 'renamed': renamed}
            rule = LabelRule.of(usual | self.rule)
            return LabelImageMasks(
                path=Path(record['labels']), rule=rule, limits=self.limits
            )
        return CocoMasks(
            source=record['image'],
            size=(record['height'], record['width']),
            objects=dict(enumerate(record['masks'], start=1)),
            crowds=tuple(record['crowds']),
            limits=self.limits,
        )


def build_inner(config: Mapping[str, Any]) -> BaseDataset:
    """Build a dataset of another package."""
    scope, _, name = str(config['type']).partition('.')
    if not name or '.' in name:
        built: BaseDataset = DATASETS.build(dict(config))
        return built
    import_package(f'{scope}.datasets', purpose=f'{scope}.{name}')
    registry = import_module(f'{scope}.registry').DATASETS
    # A run's default scope would otherwise take the place of the registry's own.
    dataset: BaseDataset = registry.build({**config, 'type': name, '_scope_': scope})
    return dataset


def annotation_file_of(config: Mapping[str, Any]) -> Path:
    """Path of a dataset's annotations, for errors."""
    root = str(config.get('data_root') or '.')
    return Path(root) / str(config.get('ann_file', ''))


def label_renaming(dataset: BaseDataset) -> Renaming:
    """Map the labels in files to classes, as mmsegmentation does.

    Args:
        dataset: Has ``label_map`` and ``reduce_zero_label`` if it has labels.

    Returns:
        Pairs of a label and its class, where they differ; ignored labels become 255.
    """
    class_of = {label: label for label in range(NUM_LABELS)}
    if getattr(dataset, 'reduce_zero_label', False):
        last = NUM_LABELS - 1
        class_of = {label: label - 1 for label in range(last)} | {0: last, last: last}
    given = getattr(dataset, 'label_map', None) or {}
    final = {old: int(given.get(new, new)) for old, new in class_of.items()}
    return tuple(
        (old, new if 0 <= new < NUM_LABELS else VOID_LABEL)
        for old, new in final.items()
        if old != new
    )


def image_records(dataset: BaseDataset) -> Iterator[tuple[str, Record]]:
    """Yield the name and the record of each image of a dataset.

    Args:
        dataset: Its items have ``img_path`` and ``instances`` or ``seg_map_path``.

    Raises:
        ClipDataError: If a file lies outside of the dataset's folder, or an image has
            neither instances nor labels.
    """
    images, labels = (folder_of(dataset, k) for k in (IMAGE_PREFIXES, LABEL_PREFIXES))
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        if 'images' in info:
            problem = f'{type(dataset).__name__} is a dataset of videos, not of images'
            where = str(dataset.ann_file)
            raise ClipDataError.at(where, problem, 'take ClipVideoBridgeDataset')
        path = str(info['img_path'])
        name = name_inside(images, path)
        if info.get('seg_map_path'):
            name_inside(labels, str(info['seg_map_path']))
        record = {'image': path, **_truth_of(info)}
        if record.get('masks', True):
            yield Path(name).with_suffix('').as_posix(), record


def folder_of(dataset: BaseDataset, keys: Sequence[str]) -> str:
    """Folder that files of a kind must be in, relative to the working directory."""
    prefixes = (dataset.data_prefix.get(key) for key in keys)
    return next((p for p in prefixes if p), '') or str(dataset.data_root or '') or '.'


def name_inside(folder: str, path: str) -> str:
    """Path of a file relative to its folder; symbolic links are not resolved."""
    name = os.path.relpath(path, folder)
    if Path(name).parts[:1] == ('..',):
        problem = f'is asked for {path}, which is outside of it'
        remedy = 'correct the annotation file, or data_root and data_prefix'
        raise ClipDataError.at(folder, problem, remedy)
    return name


def _truth_of(info: Mapping[str, Any]) -> Record:
    """Masks of an image, still encoded."""
    if info.get('seg_map_path'):
        return {'labels': str(info['seg_map_path'])}
    if 'instances' not in info:
        remedy = 'take a dataset of instances or of label images'
        problem = 'has neither instances nor seg_map_path'
        raise ClipDataError.at(str(info['img_path']), problem, remedy)
    masks: dict[bool, list[Any]] = {False: [], True: []}
    for instance in info['instances']:
        masks[bool(instance.get('ignore_flag'))].append(instance.get('mask'))
    return {
        'masks': masks[False],
        'crowds': masks[True],
        'height': info['height'],
        'width': info['width'],
    }
