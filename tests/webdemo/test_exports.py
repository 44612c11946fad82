"""Exports are read by other programs as the masks of the session."""

import base64
import io
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from demo_masks import (
    SESSIONS,
    GivenMasks,
    document,
    frame_pixels,
    images_session,
)
from projects.sam2.datasets.processing.davis_export import davis_palette
from projects.sam2.datasets.processing.layouts import DataPaths, recognise
from projects.sam2.datasets.sources import segmentations
from projects.sam2.datasets.sources.segmentations import fill_polygons
from projects.sam2.webdemo.formats.exports import EXPORT_FORMATS, export_annotations
from projects.sam2.webdemo.formats.imports import import_annotations
from projects.sam2.webdemo.formats.polygons import MIN_IOU, mask_polygons
from projects.sam2.webdemo.session.document import AnnotatedObject, Document
from projects.sam2.webdemo.session.video import AnnotatedVideo

Mask = NDArray[np.bool_]
# Formats that training reads, and the layout that they are.
DATA_SETS = {
    'davis': 'davis',
    'masks': 'object-folders',
    'coco': 'coco',
    'coco_polygons': 'coco',
    'youtube_vis': 'youtube-vis',
    'labelme': 'labelme',
    'labelme_polygons': 'labelme',
    'sav': 'sav',
}


@pytest.fixture(params=SESSIONS)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> GivenMasks:
    return SESSIONS[request.param](tmp_path / 'source')


def export(
    session: GivenMasks, format_name: str, target: Path, *, with_frames: bool = True
) -> Path:
    shares: list[float] = []
    export_annotations(
        session, target, format_name, shares.append, with_frames=with_frames
    )
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    return target


def iou(first: Mask, second: Mask) -> float:
    return float((first & second).sum() / (first | second).sum())


def painted(masks: Mapping[int, Mask]) -> dict[int, Mask]:
    """What remains of masks where the later object lies on top."""
    rest = dict(masks)
    for key in masks:
        for later in (other for other in masks if other > key):
            rest[key] = rest[key] & ~masks[later]
    return rest


@pytest.mark.parametrize('format_name', DATA_SETS)
def test_training_recognises_an_export_and_reads_the_masks(
    session: GivenMasks, format_name: str, tmp_path: Path
) -> None:
    root = export(session, format_name, tmp_path / 'export')
    layout = recognise(DataPaths(root=root))
    assert layout.kind == DATA_SETS[format_name]
    dataset = DATASETS.build({**layout.source, 'pipeline': []})
    expected = []
    for frame, masks in session.masks_of.items():
        shown = painted(masks) if format_name == 'davis' else masks
        size = session.video.size(frame)
        expected += [(size, mask) for mask in shown.values() if mask.any()]
    read = []
    for name in dataset.list_videos():
        video = dataset.open_video(name)
        for frame in video.annotated_frames():
            pixels, masks = video.read_frame(frame), video.read_masks(frame)
            assert masks is not None
            read += [(pixels.shape[:2], mask) for mask in masks.masks]
    assert len(read) == len(expected)
    for size, mask in read:
        ious = [iou(mask, other) for s, other in expected if s == size]
        bound = MIN_IOU if format_name.endswith('_polygons') else 1
        assert max(ious) >= bound


@pytest.mark.parametrize('format_name', EXPORT_FORMATS)
def test_frames_are_those_of_the_video(
    session: GivenMasks, format_name: str, tmp_path: Path
) -> None:
    root = export(session, format_name, tmp_path / 'export')
    frames = [p for p in root.rglob('*') if p.suffix in {'.jpg', '.png'}]
    frames = [path for path in frames if 'Annotations' not in path.parts]
    if format_name.startswith('cvat'):
        assert not frames
        return
    numbers = [f for f, masks in session.masks_of.items() if masks]
    if session.video.kind == 'video' and format_name in {'davis', 'masks', 'sav'}:
        numbers = list(range(numbers[0], numbers[-1] + 1))
    assert len(frames) == len(numbers)
    for path, number in zip(sorted(frames, key=_number), numbers, strict=True):
        pixels = np.asarray(Image.open(path).convert('RGB'), float)
        if session.video.kind == 'images':
            others = range(session.video.num_frames)
            same = [i for i in others if session.video.size(i) == pixels.shape[:2]]
            (number,) = same  # noqa: PLW2901
        difference = pixels - session.video.read(number)
        assert np.abs(difference).mean() < 4


def _number(path: Path) -> int:
    digits = re.search('[0-9]+$', path.stem)
    return int(digits[0]) if digits else 0


@pytest.mark.parametrize('format_name', EXPORT_FORMATS)
def test_frames_can_be_left_out(
    session: GivenMasks, format_name: str, tmp_path: Path
) -> None:
    root = export(session, format_name, tmp_path / 'export', with_frames=False)
    files = [path for path in root.rglob('*') if path.is_file()]
    assert files
    assert not [path for path in files if path.suffix == '.jpg']


def test_davis_has_its_palette_and_names_the_labels(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    root = export(session, 'davis', tmp_path / 'export')
    assert (root / 'ImageSets' / 'train.txt').read_text() == 'my _clip_\n'
    png = Image.open(root / 'Annotations' / 'my _clip_' / 'img_0003.png')
    assert png.mode == 'P'
    assert png.getpalette() == davis_palette()
    labels = np.asarray(png)
    masks = painted(session.masks_of[0])
    for label, key in enumerate((1, 2, 4, 7), start=1):
        np.testing.assert_array_equal(labels == label, masks[key])
    objects = json.loads((root / 'meta.json').read_text())['videos']['my _clip_']
    assert objects['objects']['1'] == {
        'category': 'dog & cat',
        'name': 'Rex <&>"\' #1',
        'color': '#1f77b4',
        'object_id': 1,
        'frames': [f'img_{n:04d}' for n in (3, 4, 6, 7, 8)],
    }
    assert '5' not in objects['objects']


# pycocotools sets the shape of an array, which NumPy will forbid.
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('format_name', ['coco', 'coco_polygons'])
def test_pycocotools_reads_the_masks(
    session: GivenMasks,
    format_name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = export(session, format_name, tmp_path / 'export')
    path = root / 'annotations' / 'instances.json'
    dataset: Any = COCO(str(path))  # type: ignore[no-untyped-call]
    capsys.readouterr()
    names = {each['id']: each['name'] for each in dataset.loadCats(dataset.getCatIds())}
    assert len(set(names.values())) == len(names)
    images = {each['id']: each for each in dataset.loadImgs(dataset.getImgIds())}
    known = {frame for frame, masks in session.masks_of.items() if masks}
    assert {each['frame_index'] for each in images.values()} == known
    annotations = dataset.loadAnns(dataset.getAnnIds())
    visible = session.visible()
    assert len(annotations) == sum(map(len, visible.values()))
    for each in annotations:
        image = images[each['image_id']]
        assert (root / 'images' / image['file_name']).is_file()
        mask = visible[each['track_id']][image['frame_index']]
        read = dataset.annToMask(each).astype(bool)
        assert iou(read, mask) >= (1 if format_name == 'coco' else MIN_IOU)
        assert each['area'] == mask.sum()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert each['bbox'] == box
        obj = session.document.objects[each['track_id']]
        assert names[each['category_id']] == (obj.category or 'object')


def test_youtube_vis_has_null_where_an_object_is_not_seen(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    root = export(session, 'youtube_vis', tmp_path / 'export')
    content = json.loads((root / 'train.json').read_text())
    (video,) = content['videos']
    assert video['length'] == len(video['file_names']) == 5
    assert video['file_names'][0] == 'my _clip_/img_0003.jpg'
    assert [each['name'] for each in content['annotations']] == [
        session.document.objects[key].name for key in (1, 2, 4, 7)
    ]
    second = content['annotations'][1]
    for field in ('segmentations', 'bboxes', 'areas'):
        assert [each is None for each in second[field]] == [0, 0, 1, 0, 0]


def test_labelme_has_the_fields_that_the_program_reads(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    root = export(session, 'labelme', tmp_path / 'export')
    content = json.loads((root / 'my _clip_' / 'img_0006.json').read_text())
    assert set(content) == {
        *('version', 'flags', 'shapes', 'imagePath', 'imageData'),
        *('imageHeight', 'imageWidth'),
    }
    assert (root / 'my _clip_' / content['imagePath']).is_file()
    assert [each['group_id'] for each in content['shapes']] == [1, 4, 7]
    for shape in content['shapes']:
        (left, top), (right, bottom) = shape['points']
        png = Image.open(io.BytesIO(base64.b64decode(shape['mask'])))
        small = np.asarray(png).astype(bool)
        # Both corners belong to the mask, as LabelMe crops it.
        assert small.shape == (bottom - top + 1, right - left + 1)
        mask = np.zeros((37, 53), bool)
        mask[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = small
        np.testing.assert_array_equal(mask, session.masks_of[3][shape['group_id']])


def test_sav_has_a_mask_or_null_for_each_frame_and_object(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    root = export(session, 'sav', tmp_path / 'export')
    content = json.loads((root / 'my _clip__manual.json').read_text())
    assert content['video_frame_count'] == len(content['masklet']) == 6
    assert content['masklet'][2] == [None] * 4
    assert None not in content['masklet'][3]
    assert content['masklet_id'] == [1, 2, 4, 7]
    assert content['masklet_visibility_changes'] == [0, 2, 0, 0]
    assert content['masklet_first_appeared_frame'] == [0, 0, 0, 0]
    assert content['masklet_frame_count'] == [5, 5, 5, 5]


def cvat_tree(root: Path) -> ElementTree.Element:
    text = (root / 'annotations.xml').read_bytes()
    return ElementTree.fromstring(text)  # noqa: S314  our own


def _cvat_mask(element: ElementTree.Element, size: tuple[int, int]) -> Mask:
    """Read a mask as CVAT's documentation says, pixel by pixel."""
    left, top, width, height = (
        int(element.attrib[key]) for key in ('left', 'top', 'width', 'height')
    )
    values: list[bool] = []
    for index, run in enumerate(element.attrib['rle'].split(', ')):
        values += [index % 2 == 1] * int(run)
    mask = np.zeros(size, bool)
    for index, value in enumerate(values):
        mask[top + index // width, left + index % width] = value
    assert len(values) == width * height
    return mask


def test_cvat_gets_each_mask_as_a_track_of_one_frame(
    session: GivenMasks, tmp_path: Path
) -> None:
    root = export(session, 'cvat', tmp_path / 'export')
    tree = cvat_tree(root)
    assert (tree.tag, tree.findtext('version')) == ('annotations', '1.1')
    labels = [each.findtext('name') for each in tree.iter('label')]
    assert labels == ['unused', 'dog & cat', '<Katze>', 'ghost', 'object']
    visible = session.visible()
    tracks = tree.findall('track')
    assert len(tracks) == sum(map(len, visible.values()))
    for track in tracks:
        shown, *ended = track.findall('mask')
        key, frame = int(track.attrib['group_id']), int(shown.attrib['frame'])
        assert (shown.attrib['outside'], shown.attrib['keyframe']) == ('0', '1')
        mask = _cvat_mask(shown, session.video.size(frame))
        np.testing.assert_array_equal(mask, visible[key][frame])
        assert track.attrib['name'] == session.document.objects[key].name
        last = session.video.num_frames - 1
        assert [each.attrib['frame'] for each in ended] == [str(frame + 1)] * (
            frame < last
        )
        assert all(each.attrib['outside'] == '1' for each in ended)


def test_cvat_polygons_are_tracks_with_a_shape_on_each_frame(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    root = export(session, 'cvat_polygons', tmp_path / 'export')
    tree = cvat_tree(root)
    (track,) = [each for each in tree.findall('track') if each.get('group_id') == '2']
    shapes = [(int(e.attrib['frame']), e.attrib['outside']) for e in track]
    # The object is unknown on frame 2 and absent on frame 3.
    assert shapes == [(0, '0'), (1, '0'), (2, '1'), (4, '0'), (5, '0')]
    assert all(e.tag == 'polygon' and e.attrib['keyframe'] == '1' for e in track)


def test_cvat_images_have_the_name_and_size_of_the_image(
    session: GivenMasks, tmp_path: Path
) -> None:
    root = export(session, 'cvat_images', tmp_path / 'export')
    tree = cvat_tree(root)
    for image in tree.findall('image'):
        index = int(image.attrib['id'])
        size = (int(image.attrib['height']), int(image.attrib['width']))
        assert size == session.video.size(index)
        if session.video.path.is_dir():
            assert (session.video.path / image.attrib['name']).is_file()
        masks = {int(each.attrib['group_id']): _cvat_mask(each, size) for each in image}
        given = session.masks_of[index]
        assert masks.keys() == {key for key, mask in given.items() if mask.any()}
        for key, mask in masks.items():
            np.testing.assert_array_equal(mask, given[key])


# What can go wrong -------------------------------------------------------------------


def test_without_a_mask_there_is_nothing_to_export(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    session.masks_of = {}
    with pytest.raises(ValueError, match='my <clip>: there is no mask to export'):
        export(session, 'coco', tmp_path / 'export')
    with pytest.raises(ValueError, match="'voc' is no format; give one of davis"):
        export(session, 'voc', tmp_path / 'export')
    assert not (tmp_path / 'export').exists()


def test_more_objects_than_a_palette_has_are_refused(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    mask = np.eye(37, 53, dtype=bool)
    keys = range(1, 256)
    objects = {k: AnnotatedObject(object_id=k, name=f'{k}') for k in keys}
    session.document = Document(objects=objects)
    session.masks_of = {0: dict.fromkeys(keys, mask)}
    with pytest.raises(ValueError, match='255 objects, but a palette PNG holds 254'):
        export(session, 'davis', tmp_path / 'export')
    export(session, 'masks', tmp_path / 'export')


def test_a_cancelled_export_leaves_nothing(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')

    def cancel(share: float) -> None:
        if share > 0.5:
            raise InterruptedError

    for format_name in EXPORT_FORMATS:
        with pytest.raises(InterruptedError):
            export_annotations(session, tmp_path / 'export', format_name, cancel)
        assert [path.name for path in tmp_path.iterdir()] == ['source']


def test_a_folder_with_files_is_not_overwritten(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    (tmp_path / 'export').mkdir()
    (tmp_path / 'export' / 'mine.txt').touch()
    with pytest.raises(OSError, match='not empty'):
        export(session, 'coco', tmp_path / 'export')
    assert [path.name for path in (tmp_path / 'export').iterdir()] == ['mine.txt']


@pytest.mark.parametrize('format_name', DATA_SETS)
def test_a_broken_frame_is_left_out(format_name: str, tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    # Beside the frame that the session knows to be broken, one that nobody looked at.
    session.document = replace(session.document, broken_frames=(0,))
    for number in (3, 7):
        path = next(session.video.path.glob(f'img_000{number}.*'))
        path.write_bytes(path.read_bytes()[:60])
    root = export(session, format_name, tmp_path / 'export')
    layout = recognise(DataPaths(root=root))
    dataset = DATASETS.build({**layout.source, 'pipeline': []})
    read = []
    for name in dataset.list_videos():
        video = dataset.open_video(name)
        for frame in video.annotated_frames():
            video.read_frame(frame)
            read.append(video.frame_name(frame))
    assert len(read) == 3


@pytest.mark.parametrize('format_name', EXPORT_FORMATS)
def test_masks_of_a_frame_that_became_broken_are_left_out(
    format_name: str, tmp_path: Path
) -> None:
    session = images_session(tmp_path / 'source')
    session.document = replace(session.document, broken_frames=(1,))
    root = export(session, format_name, tmp_path / 'export', with_frames=False)
    objects = import_annotations(root, session.video)
    assert {frame for obj in objects for frame in obj.masks} == {0, 3, 4, 5}


def test_a_video_that_is_gone_is_an_error(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    shutil.rmtree(session.video.path)
    for format_name in DATA_SETS:
        with pytest.raises(ValueError, match='annotated frames can be read'):
            export_annotations(
                session, tmp_path / format_name, format_name, lambda _: None
            )


def test_an_image_that_is_shown_unrotated_is_written_so(tmp_path: Path) -> None:
    """LabelMe would rotate it by its Exif orientation."""
    folder = tmp_path / 'source'
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(frame_pixels((20, 30), 0)).save(folder / 'a.jpg', exif=exif)
    masks = {0: {1: np.eye(20, 30, dtype=bool)}}
    session = GivenMasks(AnnotatedVideo(folder, 'images'), document(), masks)
    root = export(session, 'labelme', tmp_path / 'export')
    with Image.open(root / 'a.jpg') as image:
        assert not image.getexif()
    dataset = DATASETS.build(
        {'type': 'ClipLabelMeDataset', 'data_root': str(root), 'pipeline': []}
    )
    read = dataset.open_video('a').read_masks(0)
    np.testing.assert_array_equal(read.masks[0], masks[0][1])


# Polygons ----------------------------------------------------------------------------


def drawn(polygons: list[list[float]], size: tuple[int, int]) -> Mask:
    return fill_polygons(polygons, size, 'here')


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))),
    st.booleans(),
)
def test_polygons_have_the_stated_iou(mask: Mask, is_smooth: bool) -> None:
    if is_smooth and min(mask.shape) > 2:
        mask = cv2.medianBlur(mask.astype(np.uint8), 3) > 0
    polygons = mask_polygons(mask)
    number, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert len(polygons) == number - 1
    if mask.any():
        assert iou(drawn(polygons, mask.shape), mask) >= MIN_IOU


def test_a_slanted_edge_becomes_one_line() -> None:
    mask = np.tri(100, dtype=bool)
    (polygon,) = mask_polygons(mask)
    assert len(polygon) <= 2 * 5


def test_noise_is_refused_as_polygons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentations, 'MAX_EDGE_LENGTH', 1000)
    noise = np.random.default_rng(0).random((40, 40)) < 0.5
    with pytest.raises(ValueError, match='regions is too fine for polygons'):
        mask_polygons(noise)


def test_a_hole_stays_empty() -> None:
    mask = np.ones((30, 40), bool)
    mask[10:20, 10:20] = mask[5:7, 30:33] = False
    mask[13:16, 13:16] = True  # an island in a hole is a region of its own
    polygons = mask_polygons(mask)
    assert len(polygons) == 2
    np.testing.assert_array_equal(drawn(polygons, mask.shape), mask)
