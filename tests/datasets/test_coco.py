"""COCO's instance annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import coco_content, object_masks, write_coco, write_json
from projects.sam2.datasets import ClipCocoDataset, ClipDataError

FILE = 'annotations/instances_train2017.json'


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """One image."""
    write_coco(tmp_path)
    return tmp_path


def build(root: Path, **settings: Any) -> ClipCocoDataset:  # noqa: ANN401  arguments
    return ClipCocoDataset(
        data_root=str(root),
        annotation_file=FILE,
        image_folder='train2017',
        **settings,
    )


def test_polygons_and_run_lengths_are_objects_and_a_crowd_is_void(
    data_root: Path,
) -> None:
    dataset = build(data_root)
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    masks = video.read_masks(0)
    assert masks is not None
    assert masks.object_ids == video.object_ids() == (5, 6)
    np.testing.assert_array_equal(masks.masks, object_masks(0))
    assert masks.void is not None
    expected = np.zeros((24, 32), bool)
    expected[:, 28:] = True
    np.testing.assert_array_equal(masks.void, expected & ~object_masks(0)[0])
    assert video.read_frame(0).shape == (24, 32, 3)


def test_images_without_an_object_are_left_out(data_root: Path) -> None:
    content = coco_content()
    content['images'].append(content['images'][0] | {'id': 2, 'file_name': 'b.jpg'})
    content['annotations'][2]['image_id'] = 2  # a crowd alone
    write_json(data_root / FILE, content)
    assert build(data_root).list_videos() == ['ant']
    masks = build(data_root).open_video('ant').read_masks(0)
    assert masks is not None
    assert masks.void is None


def test_lists_choose_images(data_root: Path) -> None:
    (data_root / 'list.txt').write_text('ant.jpg\nbee\n')
    (data_root / 'not.txt').write_text('bee\n')
    dataset = build(
        data_root, file_list='list.txt', exclude_list='not.txt', max_bad_share=0.0
    )
    assert dataset.list_videos() == ['ant']
    with pytest.raises(ClipDataError, match='no clip bee'):
        dataset.open_video('bee')


def spoiled(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    """The content, with other values for the image or the first annotation."""
    content = coco_content()
    for key, value in changes.items():
        place, _, name = key.partition('__')
        (content[place][0] if name else content)[name or place] = value
    return content


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ([], 'a list of 0'),
        (spoiled(images=5), 'images is 5'),
        (spoiled(images=coco_content()['images'] * 2), 'two images of id 1'),
        (spoiled(images__file_name=7), 'file_name is 7'),
        (spoiled(images__height='x'), "height is 'x'"),
        (spoiled(images__id=True), 'id is True'),
        (spoiled(images__file_name='x' * 2000), '2000 bytes'),
        (spoiled(annotations__image_id=9), 'image_id 9, which is not'),
        (spoiled(annotations__id=None), 'id is missing'),
    ],
)
def test_file_of_another_form_stops_when_built(
    data_root: Path, content: object, reason: str
) -> None:
    write_json(data_root / FILE, content)
    with pytest.raises(ClipDataError, match=rf'instances_train2017\.json.*{reason}'):
        build(data_root)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (spoiled(annotations__id=6), 'two annotations of id 6'),
        (spoiled(annotations__iscrowd=[2]), 'iscrowd that is not 0 or 1'),
        (spoiled(annotations__segmentation=[[1, 2, 3]]), 'object 5: a polygon has'),
        (spoiled(annotations__segmentation='x'), "'x' where an object"),
        (spoiled(images__width=31), r'\(24, 31\) beside a frame of \(24, 32\)'),
        (spoiled(images__file_name='../secret.jpg'), 'not inside'),
        (spoiled(images__file_name='/etc/hostname'), 'not inside'),
        (spoiled(images__file_name='gone.jpg'), r'gone\.jpg: cannot be read'),
    ],
)
def test_damaged_and_hostile_annotation_spoils_its_clip_alone(
    data_root: Path, content: dict[str, Any], reason: str
) -> None:
    (data_root / 'secret.jpg').write_bytes(
        (data_root / 'train2017' / 'ant.jpg').read_bytes()
    )
    write_json(data_root / FILE, content)
    dataset = build(data_root, limits={'max_pixels': 10**6})
    with pytest.raises(ClipDataError, match=reason):
        dataset.open_video(dataset.list_videos()[0]).read_masks(0)


def test_two_images_of_one_name_are_refused(data_root: Path) -> None:
    content = coco_content()
    content['images'].append(content['images'][0] | {'id': 2})
    content['annotations'].append(content['annotations'][0] | {'image_id': 2})
    write_json(data_root / FILE, content)
    with pytest.raises(ClipDataError, match='two records are called ant'):
        build(data_root)


def test_large_file_is_indexed_once(data_root: Path) -> None:
    dataset = build(data_root)
    (data_root / FILE).write_text(json.dumps([]))
    assert dataset.list_videos() == ['ant']
