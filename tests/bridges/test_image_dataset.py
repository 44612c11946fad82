"""Datasets of mmdetection and mmsegmentation as clips of one frame."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from data_folders import (
    coco_content,
    object_masks,
    write_coco,
    write_json,
    write_label_images,
)
from projects.sam2.bridges.image_dataset import (
    ClipBridgeDataset,
    build_inner,
    label_renaming,
)
from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.datasets import ClipDataError

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmsegmentation is not installed')
ensure_operators()
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations

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


def segmentation(root: Path, **more: Any) -> dict[str, Any]:
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


@pytest.mark.parametrize('make', [coco, segmentation])
def test_default_scope_of_a_run_does_not_hide_the_dataset(
    tmp_path: Path, make: Callable[[Path], dict[str, Any]]
) -> None:
    with DefaultScope.overwrite_default_scope('mmengine'):
        dataset = ClipBridgeDataset(dataset=make(tmp_path))
    assert 'ant' in dataset.list_videos()


def test_classes_of_mmsegmentation_are_objects(tmp_path: Path) -> None:
    dataset = ClipBridgeDataset(dataset=segmentation(tmp_path))
    masks = dataset.open_video('ant').read_masks(0)
    assert masks is not None
    # Class 0 is an object too; ids are labels plus one then.
    assert masks.object_ids == (1, 2, 3)
    np.testing.assert_array_equal(masks.masks[1:], object_masks(0))


def merged_classes(selected: Any = None) -> dict[int, int]:
    """Takes the place of the class method that compares the classes."""
    assert selected
    return {0: 1, 1: 1, 2: 0, 3: 255}


@pytest.mark.parametrize('reduce_zero_label', [False, True])
@pytest.mark.parametrize('merges', [False, True])
def test_void_and_classes_are_those_that_mmsegmentation_loads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reduce_zero_label: bool,
    merges: bool,
) -> None:
    config = segmentation(tmp_path, reduce_zero_label=reduce_zero_label)
    labels = np.repeat([0, 1, 2, 3, 5, 254, 255, 1], 96).astype(np.uint8)
    Image.fromarray(labels.reshape(24, 32)).save(tmp_path / 'labels' / 'ant.png')
    if merges:
        monkeypatch.setattr(
            BaseSegDataset, 'get_label_map', staticmethod(merged_classes)
        )
    loaded: Any = LoadAnnotations()(build_inner({**config, 'pipeline': []})[0])
    classes = loaded['gt_seg_map']
    dataset = ClipBridgeDataset(dataset=config)
    masks = dataset.open_video('ant').read_masks(0)
    assert masks is not None
    np.testing.assert_array_equal(masks.void, classes == 255)
    expected = np.setdiff1d(classes, [255])
    assert masks.object_ids == tuple((expected + 1).tolist())
    for class_index, mask in zip(expected, masks.masks, strict=True):
        np.testing.assert_array_equal(mask, classes == class_index)


def test_classes_that_older_releases_mark_as_ignored_are_void() -> None:
    dataset: Any = SimpleNamespace(label_map={3: -1, 4: 4})
    assert label_renaming(dataset) == ((3, 255),)


def test_regions_follow_the_config(tmp_path: Path) -> None:
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
    config['data_prefix'] = {'img': ''}  # then the folder of the data counts
    with pytest.raises(ClipDataError, match=r'secret\.jpg, which is outside'):
        ClipBridgeDataset(dataset=config)


def listed(root: Path, **info: str) -> dict[str, Any]:
    """A config of a dataset that is nothing but a list."""
    write_json(root / 'list.json', {'metainfo': {}, 'data_list': [info]})
    return {'type': 'ToyImageDataset', 'ann_file': 'list.json', 'data_root': str(root)}


def test_labels_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    image = str(tmp_path / 'a.jpg')
    inside = listed(tmp_path, img_path=image, seg_map_path=str(tmp_path / '..a.png'))
    assert ClipBridgeDataset(dataset=inside).list_videos() == ['a']
    config = listed(tmp_path, img_path=image, seg_map_path='/etc/a.png')
    with pytest.raises(
        ClipDataError, match=r'/etc/a\.png, which is outside of it; corr'
    ):
        ClipBridgeDataset(dataset=config)


def test_dataset_without_masks_is_refused(tmp_path: Path) -> None:
    config = listed(tmp_path, img_path=str(tmp_path / 'a.jpg'))
    assert len(build_inner({**config, 'pipeline': []})) == 1
    with pytest.raises(ClipDataError, match='neither instances nor seg_map_path'):
        ClipBridgeDataset(dataset=config)
