"""COCO's instance annotations."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.logging import MMLogger

from data_folders import coco_content, object_masks, write_coco, write_json
from projects.sam2.datasets import ClipCocoDataset, ClipDataError

FILE = 'annotations/instances_train2017.json'


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """One image."""
    write_coco(tmp_path)
    return tmp_path


def build(root: Path, **settings: Any) -> ClipCocoDataset:
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


def spoiled(**changes: Any) -> dict[str, Any]:
    """Two images; other values for the first of them or its first annotation."""
    content = coco_content()
    content['images'].append(content['images'][0] | {'id': 2, 'file_name': 'bee.jpg'})
    content['annotations'].append(
        content['annotations'][0] | {'id': 9, 'image_id': 2, 'iscrowd': '0'}
    )
    for key, value in changes.items():
        part, _, name = key.partition('__')
        (content[part][0] if name else content)[name or part] = value
    return content


CROWDS_ALONE = [each | {'iscrowd': '1'} for each in coco_content()['annotations']]
NO_MASKS: list[Any] = [None, [], {}, [[1, 2, 3, 4]], [[], [1, 2]]]
BOXES_ALONE = [
    {'id': 5, 'image_id': 1, 'bbox': [1, 2, 3, 4], 'segmentation': code}
    for code in NO_MASKS
]


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ([], 'a list of 0'),
        (spoiled(images=5), 'images is 5'),
        (spoiled(annotations={}), 'annotations is a dict'),
        (spoiled(images=coco_content()['images'] * 2), 'two images of id 1'),
        (spoiled(annotations=[]), 'list of annotations is empty'),
        (spoiled(images=[]), r'none of 4 annotations belongs.*image_id 1'),
        (spoiled(annotations=[5]), r'annotations\[0\] with image_id missing'),
        (
            spoiled(annotations=CROWDS_ALONE),
            r'all 3 annotations are crowds \(iscrowd=1\).*set crowd_as_objects=True',
        ),
        (spoiled(annotations=BOXES_ALONE), 'none of 5 annotations has a segmentation'),
    ],
)
def test_malformed_file_is_refused_when_built(
    data_root: Path, content: object, reason: str
) -> None:
    write_json(data_root / FILE, content)
    with pytest.raises(ClipDataError, match=rf'instances_train2017\.json.*{reason}'):
        build(data_root)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (spoiled(images__file_name=7), r'images\[0\]: file_name is 7'),
        (spoiled(images__file_name='x' * 2000), '2000 bytes'),
        (spoiled(images__file_name='a\0b'), 'a name of 3 bytes'),
        (spoiled(images__height='x'), r"images\[0\]: height is 'x'"),
        (spoiled(images__height=-3), r'images\[0\]: height is -3'),
        (spoiled(images__id=True), r'images\[0\]: id is True'),
        (spoiled(images__width=31), r'\(24, 31\) beside a frame of \(24, 32\)'),
        (spoiled(images__file_name='../secret.jpg'), 'not inside'),
        (spoiled(images__file_name='/etc/hostname'), 'not inside'),
        (spoiled(images__file_name='gone.jpg'), r'gone\.jpg: is missing'),
        (spoiled(annotations__id=None), 'id is missing'),
        (spoiled(annotations__id=6), 'two annotations of id 6'),
        (spoiled(annotations__id=10**30), r'id is 1e\+30'),
        (spoiled(annotations__iscrowd=[2]), 'annotation 5 has iscrowd a list of 1'),
        (spoiled(annotations__iscrowd='no'), "annotation 5 has iscrowd 'no'"),
        (spoiled(annotations__segmentation=[[1, 2, 3]]), 'object 5: a polygon has 3'),
        (
            spoiled(annotations__segmentation=[[math.nan] * 6]),
            'object 5: a polygon has',
        ),
        (
            spoiled(annotations__segmentation=[[10**400] * 6]),
            r'train2017\.json \(ant\).*64-bit range',
        ),
        (spoiled(annotations__segmentation='x'), "'x' in place of an object"),
        (spoiled(annotations__score=math.nan, images__width=31), 'beside a frame'),
    ],
)
def test_damaged_entry_affects_only_its_clip(
    data_root: Path, content: dict[str, Any], reason: str
) -> None:
    folder = data_root / 'train2017'
    for copy in (data_root / 'secret.jpg', folder / 'bee.jpg'):
        copy.write_bytes((folder / 'ant.jpg').read_bytes())
    (data_root / FILE).write_text(json.dumps(content))
    dataset = build(data_root, limits={'max_pixels': 10**6})
    bad, *_ = set(dataset.list_videos()) - {'bee'}
    with pytest.raises(ClipDataError, match=reason):
        dataset.open_video(bad).read_masks(0)
    masks = dataset.open_video('bee').read_masks(0)
    assert masks is not None
    assert masks.object_ids == (9,)


def warnings_of(
    content: dict[str, Any], root: Path, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What is said when the file is indexed, by lines."""
    (root / FILE).write_text(json.dumps(content))
    logger = MMLogger.get_instance('coco', logger_name='coco')
    logger.addHandler(caplog.handler)
    caplog.clear()
    dataset = build(root)
    assert dataset.list_videos() == dataset.list_videos() == ['ant']
    logger.removeHandler(caplog.handler)
    return [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']


def test_annotations_that_are_not_objects_cause_one_warning(
    data_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = coco_content()
    content['annotations'] += [
        {'id': 10, 'image_id': 1, 'segmentation': []},
        {'id': 11, 'image_id': 7, 'segmentation': []},
        {'id': 12, 'image_id': 1, 'segmentation': [[1, 2, 3, 4], [1, 1, 9, 1, 9, 9]]},
    ]
    stray, crowds, maskless, flat = warnings_of(content, data_root, caplog)
    assert '1 of 6 annotations belong to nothing' in stray
    assert 'annotations[4] with image_id 7' in stray
    assert '1 of 5 annotations are crowds (iscrowd=1)' in crowds
    assert 'crowd_as_objects=True' in crowds
    assert '1 of 4 annotations have no segmentation' in maskless
    assert '1 polygons of fewer than three corners' in flat
    assert 'annotation 12' in flat
    masks = build(data_root).open_video('ant').read_masks(0)
    assert masks is not None
    assert masks.object_ids == (5, 6, 12)


@pytest.mark.parametrize('flag', [1, '1', True, 1.0])
def test_crowds_are_objects_on_request(data_root: Path, flag: object) -> None:
    content = coco_content()
    for annotation in content['annotations']:
        annotation['iscrowd'] = flag
    (data_root / FILE).write_text(json.dumps(content))
    dataset = build(data_root, crowd_as_objects=True)
    masks = dataset.open_video('ant').read_masks(0)
    assert masks is not None
    assert masks.object_ids == (5, 6, 7)
    assert masks.masks[2, :, 28:].all()
    assert masks.void is None


def test_ids_of_images_may_be_text(data_root: Path) -> None:
    content = coco_content()
    content['images'][0]['id'] = '0001'
    for annotation in content['annotations']:
        annotation['image_id'] = '0001'
    write_json(data_root / FILE, content)
    assert build(data_root).open_video('ant').object_ids() == (5, 6)


def test_images_of_the_same_name_are_refused(data_root: Path) -> None:
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


def test_images_that_differ_only_in_suffix_are_two_clips(
    data_root: Path,
) -> None:
    content = coco_content()
    image, annotation = content['images'][0], content['annotations'][0]
    ending = Path(image['file_name']).suffix
    content['images'] += [
        image | {'id': 2, 'file_name': 'ant.png'},
        image | {'id': 3, 'file_name': 'bee.jpg'},
    ]
    content['annotations'] += [
        annotation | {'id': 20, 'image_id': 2},
        annotation | {'id': 30, 'image_id': 3},
    ]
    write_json(data_root / FILE, content)
    assert build(data_root).list_videos() == [f'ant{ending}', 'ant.png', 'bee']
    (data_root / 'not.txt').write_text('ant.png\n')
    kept = build(data_root, exclude_list='not.txt').list_videos()
    assert kept == [f'ant{ending}', 'bee']
    (data_root / 'not.txt').write_text('ant\n')
    with pytest.raises(ClipDataError, match='may mean'):
        build(data_root, exclude_list='not.txt').list_videos()


def test_whole_numbers_written_as_fractions_are_read(data_root: Path) -> None:
    content = coco_content()
    expected = build(data_root).open_video('ant').read_masks(0)
    for image in content['images']:
        image |= {key: float(image[key]) for key in ('id', 'height', 'width')}
    for annotation in content['annotations']:
        annotation |= {key: float(annotation[key]) for key in ('id', 'image_id')}
    write_json(data_root / FILE, content)
    masks = build(data_root).open_video('ant').read_masks(0)
    assert masks is not None
    assert expected is not None
    assert [type(i) for i in masks.object_ids] == [int, int]
    assert masks.object_ids == expected.object_ids
    np.testing.assert_array_equal(masks.masks, expected.masks)


def test_polygon_of_pairs_is_an_error(data_root: Path) -> None:
    content = coco_content()
    pairs = [[[1, 1], [9, 1], [9, 9], [1, 9]]]
    content['annotations'][0]['segmentation'] = pairs
    write_json(data_root / FILE, content)
    with pytest.raises(ClipDataError, match='a list of 2 among them'):
        build(data_root).open_video('ant').read_masks(0)
