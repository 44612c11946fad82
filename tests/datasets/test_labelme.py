"""LabelMe annotations."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image, ImageOps

from data_folders import labelme_content, object_masks, write_json, write_labelme
from projects.sam2.datasets import ClipDataError, ClipLabelMeDataset
from projects.sam2.structures import FrameMasks


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """One image with two shapes."""
    write_labelme(tmp_path)
    return tmp_path


def read(root: Path, *shapes: dict[str, Any]) -> FrameMasks:
    """Read the image with other shapes."""
    write_json(root / 'ant.json', labelme_content() | {'shapes': list(shapes)})
    masks = ClipLabelMeDataset(data_root=str(root)).open_video('ant').read_masks(0)
    assert masks is not None
    return masks


def shape(kind: str, points: Any, **more: Any) -> dict[str, Any]:
    return {'label': 'cat', 'shape_type': kind, 'points': points, **more}


def png(values: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()


def test_rectangle_and_polygon_are_objects(data_root: Path) -> None:
    dataset = ClipLabelMeDataset(data_root=str(data_root))
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    masks = video.read_masks(0)
    assert masks is not None
    assert masks.object_ids == video.object_ids() == (1, 2)
    np.testing.assert_array_equal(masks.masks, object_masks(0))


@pytest.mark.parametrize('orientation', range(10))
def test_image_is_rotated_by_its_orientation(data_root: Path, orientation: int) -> None:
    noted = Image.Exif()
    noted[0x0112] = orientation
    stored = Image.open(data_root / 'ant.jpg')
    stored.save(data_root / 'ant.jpg', exif=noted)
    with Image.open(data_root / 'ant.jpg') as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    sides = {'imageHeight': upright.shape[0], 'imageWidth': upright.shape[1]}
    write_json(data_root / 'ant.json', labelme_content() | sides | {'shapes': []})
    video = ClipLabelMeDataset(data_root=str(data_root)).open_video('ant')
    frame, masks = video.read_frame(0), video.read_masks(0)
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).max() <= 3  # of two JPEG decoders
    assert masks is not None
    assert masks.masks.shape[1:] == upright.shape[:2]


def test_circle_and_mask_are_objects(data_root: Path) -> None:
    masks = read(
        data_root,
        shape('circle', [[15, 12], [15, 18]]),
        shape('mask', [[3, 4], [5, 5]], mask=png(np.array([[1, 0, 1], [1, 1, 1]]))),
    )
    assert abs(int(masks.masks[0].sum()) - np.pi * 36) < 5
    assert masks.masks[0, 12, 15]
    np.testing.assert_array_equal(masks.masks[1, 4:6, 3:6], [[1, 0, 1], [1, 1, 1]])
    assert masks.masks[1].sum() == 5


def test_shapes_of_a_group_are_one_object(data_root: Path) -> None:
    one, two = [[1, 1], [4, 4]], [[10, 10], [14, 14]]
    masks = read(
        data_root,
        shape('rectangle', one, group_id=7),
        shape('rectangle', one),
        shape('rectangle', two, group_id=7),
    )
    assert masks.object_ids == (1, 2)
    assert masks.masks.sum(axis=(1, 2)).tolist() == [25, 9]


def test_rectangles_of_four_points_and_shapes_without_a_type_are_polygons(
    data_root: Path,
) -> None:
    corners = [[2, 3], [9, 3], [9, 8], [2, 8]]
    untyped = shape('polygon', corners)
    del untyped['shape_type']
    masks = read(
        data_root,
        shape('rectangle', [[2, 3], [9, 8]]),
        shape('rectangle', corners),
        shape('rotation', corners[::-1]),
        untyped,
        untyped | {'shape_type': None},
    )
    assert masks.object_ids == (1, 2, 3, 4, 5)
    assert masks.masks[0].sum() == 35
    assert (masks.masks == masks.masks[0]).all()


def test_points_and_lines_are_skipped_with_one_warning(
    data_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = MMLogger.get_instance('labelme', logger_name='labelme')
    logger.addHandler(caplog.handler)
    odd = [shape(kind, [[1, 1], [5, 5]]) for kind in ('point', 'line', 'linestrip')]
    for _ in range(2):
        masks = read(data_root, *odd, shape('rectangle', [[1, 1], [4, 4]]), *odd)
        assert masks.object_ids == (1,)
        assert masks.masks.sum() == 9
    logger.removeHandler(caplog.handler)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "shapes of type 'line' have no area and are skipped" in messages[1]


def test_images_may_have_a_folder_of_their_own(
    data_root: Path,
) -> None:
    write_json(data_root / 'json' / 'ant.json', labelme_content() | {'imagePath': '/x'})
    (data_root / 'list.txt').write_text('ant\nbee\n')
    (data_root / 'not.txt').write_text('bee\n')
    dataset = ClipLabelMeDataset(
        data_root=str(data_root),
        annotation_folder='json',
        image_folder='.',
        file_list='list.txt',
        exclude_list='not.txt',
        limits={'max_pixels': 10**6},
        max_bad_share=0.0,
    )
    assert dataset.list_videos() == ['ant']
    assert dataset.open_video('ant').read_masks(0) is not None


@pytest.mark.parametrize(
    ('spoiled', 'reason'),
    [
        (shape('blob', [[1, 1]]), r"shape 1 \(cat\): has the type 'blob'"),
        (shape('rectangle', [[1, 1]]), 'rectangle of 1 points'),
        (shape('rectangle', [[1, 1]] * 3), 'rectangle of 3 points, expected 2 or 4'),
        (shape('circle', [[1, 1]] * 3), 'circle of 3 points'),
        (shape('polygon', [[1, 1], [2, 2]]), 'polygon of 2 points'),
        (shape('polygon', [[1], [2], [3]]), 'a point of 1 numbers'),
        (shape('polygon', [[1, 'x'], [2, 2], [3, 3]]), "x or y is 'x'"),
        (shape('polygon', 7), 'points is 7'),
        (shape('circle', [[1, 1], [1, 9e9]]), '9e.09 among them'),
        (shape('mask', [[3, 4]], mask='*'), 'not in base64'),
        (shape('mask', [[3, 4]], mask='AAAA'), 'cannot be read'),
        (shape('mask', [[3, 4]]), 'mask is missing'),
        (shape('mask', [], mask=png(np.ones((2, 2)))), 'at'),
        (shape('mask', [[31, 4]], mask=png(np.ones((2, 2)))), 'at'),
        (shape('mask', [[1e300, 4]], mask=png(np.ones((2, 2)))), 'at'),
        (shape('polygon', [], group_id='x'), "group_id is 'x'"),
        ({'shape_type': 'polygon'}, 'label is missing'),
    ],
)
def test_damaged_shapes_are_refused(
    data_root: Path, spoiled: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClipDataError, match=rf'ant\.json: .*{reason}'):
        read(data_root, spoiled)


def test_shapes_of_another_size_than_the_image_are_refused(data_root: Path) -> None:
    write_json(data_root / 'ant.json', labelme_content() | {'imageWidth': 33})
    video = ClipLabelMeDataset(data_root=str(data_root)).open_video('ant')
    with pytest.raises(ClipDataError, match=r'\(24, 33\) beside a frame of \(24, 32\)'):
        video.read_masks(0)


@pytest.mark.parametrize('given', [{}, {'imageHeight': None, 'imageWidth': None}])
def test_file_without_the_size_of_its_image_is_read(
    data_root: Path, given: dict[str, None]
) -> None:
    write_json(data_root / 'ant.json', {'shapes': labelme_content()['shapes']} | given)
    masks = ClipLabelMeDataset(data_root=str(data_root)).open_video('ant').read_masks(0)
    assert masks is not None
    np.testing.assert_array_equal(masks.masks, object_masks(0))
