"""Video datasets of mmdetection as clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from data_folders import (
    NUM_FRAMES,
    SIZE,
    object_masks,
    rle,
    write_json,
    write_youtube_vis,
)
from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.datasets import ClipDataError

pytest.importorskip('mmdet', reason='mmdet is not installed')
ensure_operators()

pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore::UserWarning'),
    pytest.mark.filterwarnings('ignore::FutureWarning'),
]
IDS = (7, 4)  # not in order, not from 1
BRIDGE = 'projects.sam2.bridges.video_dataset.ClipVideoBridgeDataset'
BOX_OF = {0: [20, 12, 10, 10], 1: [2, 2, 10, 8]}  # x, y, width, height on frame 0


def annotation(frame: int, number: int, **changes: Any) -> dict[str, Any]:
    """An object on a frame, as mmdetection's converters write it."""
    x, y, width, height = BOX_OF[number]
    x += frame if number else -frame
    return {
        'id': 100 * frame + number,
        'image_id': frame,
        'video_id': 1,
        'instance_id': IDS[number],
        'category_id': 1,
        'bbox': [x, y, width, height],
        'area': width * height,
        'segmentation': rle(frame)[number],
        'mot_conf': 1.0,
        'visibility': 1.0,
        **changes,
    }


def write_videos(root: Path, annotations: list[dict[str, Any]]) -> None:
    """Write the layout of ``tools/dataset_converters/youtubevis2coco.py``."""
    write_youtube_vis(root)
    frames = [
        {
            'id': frame,
            'file_name': f'ant/{frame:05d}.jpg',
            'height': SIZE[0],
            'width': SIZE[1],
            'video_id': 1,
            'frame_id': frame,
        }
        for frame in range(NUM_FRAMES)
    ]
    content = {
        'videos': [{'id': 1, 'name': 'ant'}],
        'images': frames[::-1],  # the order of a file may be any
        'annotations': annotations,
        'categories': [{'id': 1, 'name': 'person'}],
    }
    write_json(root / 'vid.json', content)


def all_annotations() -> list[dict[str, Any]]:
    """The first object is not seen on the first frame."""
    return [
        annotation(frame, number)
        for frame in range(NUM_FRAMES)
        for number in range(2)
        if frame or number
    ]


def config(root: Path, kind: str = 'YouTubeVISDataset', **more: Any) -> dict[str, Any]:
    """A bridge to a dataset of mmdetection."""
    inner = {
        'type': f'mmdet.{kind}',
        'data_root': str(root),
        'ann_file': 'vid.json',
        'data_prefix': {'img_path': 'JPEGImages'},
        'metainfo': {'classes': ('person',)},
    }
    if kind == 'YouTubeVISDataset':
        inner['dataset_version'] = '2019'
    return {'type': BRIDGE, 'dataset': inner, **more}


def test_masks_equal_those_of_the_original_annotations(tmp_path: Path) -> None:
    write_videos(tmp_path, all_annotations())
    with DefaultScope.overwrite_default_scope('mmengine'):
        dataset = DATASETS.build(config(tmp_path))
    original = DATASETS.build(
        {'type': 'ClipYouTubeVISDataset', 'data_root': str(tmp_path)}
    )
    assert dataset.list_videos() == original.list_videos() == ['ant']
    video, expected = dataset.open_video('ant'), original.open_video('ant')
    assert video.num_frames == expected.num_frames == NUM_FRAMES
    assert sorted(video.object_ids()) == sorted(IDS)
    for frame in range(NUM_FRAMES):
        assert video.frame_name(frame) == expected.frame_name(frame)
        np.testing.assert_array_equal(
            video.read_frame(frame), expected.read_frame(frame)
        )
        objects, truth = video.read_masks(frame), expected.read_masks(frame)
        assert objects is not None
        assert truth is not None
        assert objects.object_ids == (IDS if frame else IDS[1:])
        assert objects.void is None
        np.testing.assert_array_equal(objects.masks, truth.masks)


def test_ignored_instances_and_those_without_a_mask_are_void(tmp_path: Path) -> None:
    annotations = all_annotations()
    annotations[0]['iscrowd'] = 1  # object 1 on frame 0
    annotations[1]['segmentation'] = []  # object 0 on frame 1
    write_videos(tmp_path, annotations)
    video = DATASETS.build(config(tmp_path)).open_video('ant')
    first, second = video.read_masks(0), video.read_masks(1)
    assert first.object_ids == ()
    np.testing.assert_array_equal(first.void, object_masks(0)[1])
    assert second.object_ids == (IDS[1],)
    np.testing.assert_array_equal(second.void, object_masks(1)[0])  # its box


def test_boxes_are_masks_only_on_request(tmp_path: Path) -> None:
    boxes = all_annotations()
    boxes[0]['bbox'] = [-400, 2, 412, 8]  # far outside
    write_videos(tmp_path, boxes)
    with pytest.raises(
        ClipDataError, match=r'none of 23 instances has a mask.*boxes_as'
    ):
        DATASETS.build(config(tmp_path, 'MOTChallengeDataset'))
    cfg = config(tmp_path, 'MOTChallengeDataset', boxes_as_masks=True)
    video = DATASETS.build(cfg).open_video('ant')
    expected = np.zeros(SIZE, bool)
    expected[2:10, :12] = True
    np.testing.assert_array_equal(video.read_masks(0).masks, expected[None])
    np.testing.assert_array_equal(video.read_masks(5).masks, object_masks(5))


def test_wrong_datasets_are_refused_with_a_remedy(tmp_path: Path) -> None:
    doubled = all_annotations()
    doubled[1]['instance_id'] = doubled[2]['instance_id'] = 3
    write_videos(tmp_path, doubled)
    dataset = DATASETS.build(config(tmp_path))
    with pytest.raises(ClipDataError, match='instance_id 3 occurs twice; number the'):
        dataset.open_video('ant')
    others = config(tmp_path)
    others['dataset']['metainfo'] = {'classes': ('cow',)}
    with pytest.raises(ClipDataError, match='an instance of the classes cow; correct'):
        DATASETS.build(others)
    official = config(tmp_path)
    official['dataset']['ann_file'] = 'train.json'
    with pytest.raises(ClipDataError, match=r'no field .*; for the official files'):
        DATASETS.build(official)
    images = config(tmp_path, 'CocoDataset')
    images['dataset'] |= {'data_prefix': {'img': 'JPEGImages'}}
    with pytest.raises(ClipDataError, match='not of videos; take ClipBridgeDataset'):
        DATASETS.build(images)
    videos = config(tmp_path)
    videos['type'] = 'projects.sam2.bridges.image_dataset.ClipBridgeDataset'
    videos.pop('boxes_as_masks', None)
    with pytest.raises(ClipDataError, match='not of images; take ClipVideoBridge'):
        DATASETS.build(videos)
