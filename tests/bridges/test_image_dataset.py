"""Datasets of mmdetection and mmsegmentation as clips of one frame."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from data_folders import (
    coco_content,
    object_masks,
    write_coco,
    write_json,
    write_label_images,
)
from projects.sam2.bridges.image_dataset import ClipBridgeDataset, build_inner
from projects.sam2.datasets import ClipDataError

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmsegmentation is not installed')
pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore::UserWarning'),
    pytest.mark.filterwarnings('ignore::FutureWarning'),
]
PIPELINE = [
    {'type': 'ClipSampleFrames', 'num_frames': 1, 'max_num_objects': 2},
    {'type': 'ClipLoadFrames'},
    {'type': 'ClipLoadMasklets'},
    {'type': 'ClipResize', 'size': (16, 16)},
    {'type': 'ClipWarp'},
    {'type': 'ClipPack'},
]


@DATASETS.register_module(force=True)
class ToyImageDataset(BaseDataset):
    """Images without any truth."""


def coco(root: Path) -> dict[str, Any]:
    """A config of mmdetection, which filters by categories."""
    write_coco(root)
    content = coco_content() | {'categories': [{'id': 1, 'name': 'person'}]}
    for annotation in content['annotations']:
        annotation |= {'category_id': 1, 'bbox': [2, 2, 9, 9], 'area': 81}
    write_json(root / 'annotations' / 'instances_train2017.json', content)
    return {
        'type': 'mmdet.CocoDataset',
        'data_root': str(root),
        'ann_file': 'annotations/instances_train2017.json',
        'data_prefix': {'img': 'train2017'},
        'metainfo': {'classes': ('person',)},
        'pipeline': [{'type': 'LoadImageFromFile'}],
    }


def segmentation(root: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401  arguments
    """A config of mmsegmentation."""
    write_label_images(root)
    return {
        'type': 'mmseg.BaseSegDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'labels'},
        'metainfo': {'classes': ('cat', 'dog', 'cow')},
        **more,
    }


def test_instances_of_mmdetection_are_objects(tmp_path: Path) -> None:
    config = {
        'type': 'projects.sam2.bridges.image_dataset.ClipBridgeDataset',
        'dataset': coco(tmp_path),
        'pipeline': PIPELINE,
        'max_bad_share': 0.0,
    }
    dataset = DATASETS.build(config)
    assert dataset.list_videos() == ['ant']
    masks = dataset.open_video('ant').read_masks(0)
    assert masks.object_ids == (1, 2)
    np.testing.assert_array_equal(masks.masks, object_masks(0))
    assert masks.void is not None
    sample = dataset[0]
    assert sample.frames.shape == (1, 3, 16, 16)
    assert sample.masklets.shape == (1, 2, 16, 16)


def test_classes_of_mmsegmentation_are_objects(tmp_path: Path) -> None:
    dataset = ClipBridgeDataset(dataset=segmentation(tmp_path))
    masks = dataset.open_video('ant').read_masks(0)
    assert masks is not None
    # Class 0 is an object too; ids are labels plus one then.
    assert masks.object_ids == (1, 2, 3)
    np.testing.assert_array_equal(masks.masks[1:], object_masks(0))


def test_ignored_classes_and_regions_follow_the_config(tmp_path: Path) -> None:
    config = segmentation(tmp_path, reduce_zero_label=True)
    dataset = ClipBridgeDataset(
        dataset=config, rule={'regions': True}, limits={'max_pixels': 10**6}
    )
    masks = dataset.open_video('ant').read_masks(0)
    assert masks is not None
    np.testing.assert_array_equal(masks.masks, object_masks(0))


def test_image_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    config = coco(tmp_path)
    content = coco_content() | {'categories': [{'id': 1, 'name': 'person'}]}
    content['images'][0]['file_name'] = '../../secret.jpg'
    for annotation in content['annotations']:
        annotation |= {'category_id': 1, 'bbox': [2, 2, 9, 9], 'area': 81}
    write_json(tmp_path / config['ann_file'], content)
    with pytest.raises(ClipDataError, match=r'secret\.jpg, which is outside'):
        ClipBridgeDataset(dataset=config)


def test_dataset_without_masks_is_refused(tmp_path: Path) -> None:
    write_json(
        tmp_path / 'list.json',
        {'metainfo': {}, 'data_list': [{'img_path': str(tmp_path / 'a.jpg')}]},
    )
    config = {'type': 'ToyImageDataset', 'ann_file': str(tmp_path / 'list.json')}
    assert len(build_inner({**config, 'pipeline': []})) == 1
    with pytest.raises(ClipDataError, match='neither instances nor seg_map_path'):
        ClipBridgeDataset(dataset=config)
