"""Imports give the masks of an export back, and refuse what is damaged or hostile."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo_masks import (
    NUM_FRAMES,
    SESSIONS,
    GivenMasks,
    Mask,
    decode,
    file_session,
    frame_pixels,
    images_session,
    stills_session,
)
from projects.sam2.ops import encode_masks
from projects.sam2.webdemo.formats import cvat, imports
from projects.sam2.webdemo.formats.exports import EXPORT_FORMATS, export_annotations
from projects.sam2.webdemo.formats.imports import ImportedObject, import_annotations
from projects.sam2.webdemo.formats.polygons import MIN_IOU
from projects.sam2.webdemo.session.video import AnnotatedVideo

SIZE = (37, 53)


@pytest.fixture(params=SESSIONS)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> GivenMasks:
    return SESSIONS[request.param](tmp_path / 'source')


@pytest.fixture
def video(tmp_path: Path) -> AnnotatedVideo:
    """Six frames of 37 x 53 pixels, img_0003 to img_0008."""
    return images_session(tmp_path / 'source').video


def export(session: GivenMasks, format_name: str, target: Path) -> Path:
    export_annotations(session, target, format_name, lambda _: None)
    return target


def painted(session: GivenMasks) -> dict[int, dict[int, Mask]]:
    """Masks by object and frame where the later object lies on top."""
    visible = session.visible()
    rest: dict[int, dict[int, Mask]] = {}
    for key, masks in visible.items():
        for frame, mask in masks.items():
            for later in (other for other in visible if other > key):
                if frame in visible[later]:
                    mask = mask & ~visible[later][frame]  # noqa: PLW2901
            if mask.any():
                rest.setdefault(key, {})[frame] = mask
    return rest


def archive(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), 'zip', folder))


@pytest.mark.parametrize('packed', [False, True], ids=['folder', 'zip'])
@pytest.mark.parametrize('format_name', EXPORT_FORMATS)
def test_import_gives_an_export_back(
    session: GivenMasks, format_name: str, packed: bool, tmp_path: Path
) -> None:
    root = export(session, format_name, tmp_path / 'export')
    found = import_annotations(archive(root) if packed else root, session.video)
    expected = painted(session) if format_name == 'davis' else session.visible()
    objects = session.document.objects
    by_name = {each.name: each for each in found}
    assert by_name.keys() == {objects[key].name for key in expected}
    for key, masks in expected.items():
        each = by_name[objects[key].name]
        assert each.category == objects[key].category
        # LabelMe has no place for a colour.
        has_color = not format_name.startswith('labelme')
        assert each.color == (objects[key].color if has_color else '')
        assert each.masks.keys() == masks.keys()
        for frame, mask in masks.items():
            decoded = decode(each.masks[frame])
            if format_name.endswith('_polygons'):
                iou = (decoded & mask).sum() / (decoded | mask).sum()
                assert iou >= MIN_IOU
            else:
                np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize('format_name', EXPORT_FORMATS)
def test_a_clip_of_several_is_found_by_its_name(
    format_name: str, tmp_path: Path
) -> None:
    first = images_session(tmp_path / 'source')
    second = file_session(tmp_path / 'other')
    sessions = [first, second]
    if format_name.startswith('cvat'):
        with pytest.raises(ValueError, match='about one video, not 2'):
            export_annotations(
                sessions, tmp_path / 'export', format_name, lambda _: None
            )
        return
    export_annotations(sessions, tmp_path / 'export', format_name, lambda _: None)
    found = import_annotations(tmp_path / 'export', second.video)
    assert len(found) == 4
    assert {mask['size'][0] for each in found for mask in each.masks.values()} == {48}
    renamed = tmp_path / 'renamed.mp4'
    shutil.copy(second.video.path, renamed)
    with pytest.raises(ValueError, match='none called renamed'):
        import_annotations(tmp_path / 'export', AnnotatedVideo(renamed))


# Files of other programs -------------------------------------------------------------


def square(top: int = 5, size: tuple[int, int] = SIZE) -> Mask:
    mask = np.zeros(size, bool)
    mask[top : top + 4, 10:20] = True
    return mask


def only(found: list[ImportedObject]) -> ImportedObject:
    (each,) = found
    return each


def coco_file(path: Path, **changes: object) -> Path:
    """One image with a polygon of class dog."""
    image = {'id': 5, 'file_name': 'img_0004.jpg', 'height': 37, 'width': 53}
    polygon = [10, 5, 20, 5, 20, 9, 10, 9]
    annotation = {'id': 1, 'image_id': 5, 'category_id': 3, 'segmentation': [polygon]}
    content: dict[str, Any] = {
        'images': [image],
        'annotations': [annotation],
        'categories': [{'id': 3, 'name': 'dog'}],
    }
    for key, value in changes.items():
        target = image if key in image else annotation
        target[key] = value
    path.write_text(json.dumps(content))
    return path


def test_coco_without_tracks_joins_the_shapes_of_a_class_over_frames(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    content = json.loads(coco_file(tmp_path / 'a.json').read_text())
    content['images'].append({**content['images'][0], 'id': 6, 'file_name': 'img_0005'})
    first = content['annotations'][0]
    content['annotations'] += [{**first, 'id': 2}, {**first, 'id': 3, 'image_id': 6}]
    (tmp_path / 'a.json').write_text(json.dumps(content))
    found = import_annotations(tmp_path / 'a.json', video)
    assert [(each.name, list(each.masks)) for each in found] == [
        ('dog 1', [1, 2]),
        ('dog 2', [1]),
    ]
    np.testing.assert_array_equal(decode(found[0].masks[1]), square())


@pytest.mark.parametrize(
    ('names', 'frames'),
    [
        (['img_0003.png', 'img_0008.jpg'], [0, 5]),  # by name, whatever the suffix
        (['frame_000001', 'frame_000004'], [1, 4]),  # by number
        (['x1', 'x2', 'x3', 'x4', 'x5', 'x6'], [0, 1, 2, 3, 4, 5]),  # by order
        ([f'img_000{n}' for n in range(6)], [0, 1, 2, 3, 4, 5]),  # counted from 0
    ],
)
def test_frames_are_matched_by_name_number_or_order(
    names: list[str], frames: list[int], video: AnnotatedVideo
) -> None:
    matched = imports.match_frames(names, video, 'here')
    assert [matched[name] for name in names] == frames


@pytest.mark.parametrize('names', [['img_0009'], ['a', 'b'], ['x_1', 'y_1'], ['x_6']])
def test_names_of_other_frames_are_refused(
    names: list[str], video: AnnotatedVideo
) -> None:
    with pytest.raises(ValueError, match='do not match the 6 frames of my <clip>'):
        imports.match_frames(names, video, 'here')


def test_images_that_are_not_in_the_session_are_left_out(tmp_path: Path) -> None:
    session = stills_session(tmp_path / 'source')
    assert imports.match_frames(['Hund.png', 'Katze.png'], session.video, 'here') == {
        'Hund.png': session.video.num_frames - 3
    }


def test_label_images_become_objects(video: AnnotatedVideo, tmp_path: Path) -> None:
    folder = tmp_path / 'masks'
    folder.mkdir()
    labels = np.zeros(SIZE, np.uint8)
    labels[square()], labels[square(20)], labels[0] = 3, 7, 255  # and void
    Image.fromarray(labels).save(folder / 'img_0003.png')
    found = import_annotations(tmp_path, video)
    assert len(found) == 2
    np.testing.assert_array_equal(decode(found[0].masks[0]), square())
    np.testing.assert_array_equal(decode(found[1].masks[0]), square(20))


@pytest.mark.parametrize('whole_folder', [False, True])
def test_masks_of_0_and_255_are_one_object(
    video: AnnotatedVideo, tmp_path: Path, whole_folder: bool
) -> None:
    path = tmp_path / 'given' / 'img_0003.png'
    path.parent.mkdir()
    Image.fromarray(square().astype(np.uint8) * 255).save(path)
    found = only(import_annotations(path.parent if whole_folder else path, video))
    np.testing.assert_array_equal(decode(found.masks[0]), square())


@pytest.mark.parametrize('folder', ['masks', 'masks/000'])
def test_masks_of_another_size_are_refused(
    folder: str, video: AnnotatedVideo, tmp_path: Path
) -> None:
    path = tmp_path / folder / 'img_0003.png'
    path.parent.mkdir(parents=True)
    Image.fromarray(np.ones((38, 53), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r'img_0003.png: mask of \(38, 53\) beside'):
        import_annotations(tmp_path / 'masks', video)


def test_masks_are_told_from_frames_of_the_same_format(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    shutil.copytree(video.path, tmp_path / 'data' / 'images')
    (tmp_path / 'data' / 'masks').mkdir()
    mask = Image.fromarray(square().astype(np.uint8))
    mask.save(tmp_path / 'data' / 'masks' / 'img_0005.png')
    found = only(import_annotations(tmp_path / 'data', video))
    assert list(found.masks) == [2]


def test_clips_may_lie_below_the_resolution_as_in_davis(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    for clip in ('my <clip>', 'other'):
        folder = tmp_path / 'DAVIS' / 'Annotations' / '480p' / clip
        folder.mkdir(parents=True)
        Image.fromarray(square().astype(np.uint8)).save(folder / '00004.png')
    found = only(import_annotations(tmp_path / 'DAVIS', video))
    assert list(found.masks) == [4]


def cvat_file(path: Path, body: str, prolog: str = '') -> Path:
    path.write_text(f'{prolog}<annotations><version>1.1</version>{body}</annotations>')
    return path


def test_cvat_shapes_of_all_kinds_are_drawn(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    body = """
    <track id="0" label="dog"><polygon frame="1" outside="0" keyframe="1"
      points="10.00,5.00;20.00,5.00;20.00,9.00;10.00,9.00"/>
      <polygon frame="2" outside="0" points="10,20;20,20;20,24;10,24"/>
      <polygon frame="3" outside="1" points="10,20;20,20;20,24;10,24"/></track>
    <track id="1" label="box"><box frame="0" outside="0" keyframe="1"
      xtl="10" ytl="5" xbr="20" ybr="9"/></track>
    <track id="2" label="turned"><box frame="0" outside="0" keyframe="1"
      xtl="13" ytl="2" xbr="17" ybr="12" rotation="90"/></track>
    <track id="3" label="round"><ellipse frame="0" outside="0" keyframe="1"
      cx="20" cy="20" rx="8" ry="5"/></track>
    <track id="4" label="nothing"><points frame="0" outside="0" points="1,1"/></track>
    """
    found = import_annotations(cvat_file(tmp_path / 'a.xml', body), video)
    assert [each.name for each in found] == ['dog', 'box', 'turned', 'round']
    dog, box, turned, ellipse = found
    np.testing.assert_array_equal(decode(dog.masks[1]), square())
    np.testing.assert_array_equal(decode(dog.masks[2]), square(20))
    assert list(dog.masks) == [1, 2]
    np.testing.assert_array_equal(decode(box.masks[0]), square())
    np.testing.assert_array_equal(decode(turned.masks[0]), square())
    area = decode(ellipse.masks[0]).sum()
    assert area == pytest.approx(np.pi * 8 * 5, rel=0.03)


def test_cvat_masks_of_one_group_are_one_object(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    mask = 'rle="0, 40" left="10" top="5" width="10" height="4"'
    tracks = ''.join(
        f'<track id="{n}" label="dog" group_id="8"><mask frame="{n}" outside="0" '
        f'keyframe="1" {mask}/><mask frame="{n + 1}" outside="1" keyframe="1" {mask}/>'
        '</track>'
        for n in range(3)
    )
    found = only(import_annotations(cvat_file(tmp_path / 'a.xml', tracks), video))
    assert list(found.masks) == [0, 1, 2]
    np.testing.assert_array_equal(decode(found.masks[1]), square())


def test_a_name_or_class_of_spaces_is_none(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    track = """<track label=" "><box name=" " frame="0" outside="0" keyframe="1"
      xtl="10" ytl="5" xbr="20" ybr="9"/></track>"""
    found = only(import_annotations(cvat_file(tmp_path / 'a.xml', track), video))
    assert (found.name, found.category) == ('', '')


def test_labelme_without_groups_and_types(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    """As LabelMe wrote its files years ago."""
    points = [[10, 5], [20, 5], [20, 9], [10, 9]]
    for name in ('img_0003', 'img_0005'):
        content = {'shapes': [{'label': 'dog', 'points': points}]}
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    found = only(import_annotations(tmp_path, video))
    assert (found.name, list(found.masks)) == ('dog', [0, 2])
    np.testing.assert_array_equal(decode(found.masks[0]), square())


def test_sav_annotates_every_fourth_frame(tmp_path: Path) -> None:
    folder = tmp_path / 'clip'
    folder.mkdir()
    for frame in range(9):
        Image.fromarray(frame_pixels(SIZE, frame)).save(folder / f'{frame:05d}.jpg')
    (code,) = encode_masks(square()[None])
    content = {'video_frame_count': 9.0, 'masklet': [[code], [code], [None]]}
    path = tmp_path / 'clip_manual.json'
    path.write_text(json.dumps(content))
    found = only(import_annotations(path, AnnotatedVideo(folder, 'video')))
    assert list(found.masks) == [0, 4]


# Damaged and hostile files -----------------------------------------------------------


@pytest.mark.parametrize(
    ('changes', 'problem'),
    [
        ({'height': 38}, r'mask of \(38, 53\) beside a frame of \(37, 53\)'),
        ({'file_name': '../../etc/passwd'}, 'do not match the 6 frames'),
        ({'file_name': 7}, 'file_name is 7'),
        ({'segmentation': [[1, 2, 3]]}, 'has a segmentation|3 numbers'),
        ({'segmentation': [[1e9, 2, 3, 4, 5, 6]]}, '1e\\+09 among them'),
        ({'segmentation': {'size': [37, 53], 'counts': [10**9]}}, 'do not fill'),
        ({'segmentation': {'size': [37, 53], 'counts': 'a\u00e9'}}, 'counts of a mask'),
        ({'segmentation': {'size': [10**6] * 2, 'counts': 'a'}}, 'beside a frame of'),
        ({'segmentation': 'x'}, 'img_0004.jpg, annotation 1'),
        ({'id': 'x'}, 'belongs to anything'),
    ],
)
def test_damaged_coco_is_refused(
    changes: dict[str, object], problem: str, video: AnnotatedVideo, tmp_path: Path
) -> None:
    path = coco_file(tmp_path / 'a.json', **changes)
    with pytest.raises(ValueError, match=problem) as error:
        import_annotations(path, video)
    assert str(path) in str(error.value)
    assert 'exclude list' not in str(error.value)


BILLION_LAUGHS = (
    '<!DOCTYPE a [<!ENTITY l "lol">'
    + ''.join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 9}">' for n in range(1, 9))
    + ']>'
).replace('&l0;', '&l;')
MASK = '<track label="dog"><mask frame="0" outside="0" {}/></track>'
POLYGON = '<track label="a"><polygon frame="0" points="{}"/></track>'


@pytest.mark.parametrize(
    ('body', 'prolog', 'problem'),
    [
        ('&l8;', BILLION_LAUGHS, 'document type'),
        ('&x;', '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', 'document'),
        ('<track', '', 'is not XML'),
        (MASK.format('rle="5" left="0" top="0" width="9" height="9"'), '', 'not fill'),
        (MASK.format('rle="-1,82" left="0" top="0" width="9" height="9"'), '', 'fill'),
        (MASK.format('rle="9" left="50" top="0" width="9" height="1"'), '', 'at row 0'),
        (MASK.format('rle="9" left="1" top="0" width="1e9" height="1"'), '', 'at row'),
        (MASK.format('rle="x" left="1" top="0" width="9" height="1"'), '', 'numbers'),
        (MASK.format('rle="0,0,3" left="1" top="0" width="1" height="1"'), '', 'runs'),
        (MASK.format('rle="9" left="nan" top="0" width="9" height="1"'), '', "'nan'"),
        (MASK.replace('"0"', '"99"', 1).format('rle="9"'), '', 'has 6 frames'),
        (MASK.replace('"0"', '"-1"', 1).format('rle="9"'), '', "frame is '-1'"),
        (POLYGON.format('1,2;3'), '', 'pairs'),
        ('<track label="a"><polygon frame="0"/></track>', '', 'pairs'),
    ],
)
def test_damaged_cvat_is_refused(
    body: str, prolog: str, problem: str, video: AnnotatedVideo, tmp_path: Path
) -> None:
    path = cvat_file(tmp_path / 'a.xml', body, prolog)
    with pytest.raises(ValueError, match=problem) as error:
        import_annotations(path, video, 'cvat')
    assert str(path) in str(error.value)


def test_a_polygon_that_would_fill_the_memory_is_refused(
    video: AnnotatedVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvat, 'MAX_CORNERS', 4)
    path = cvat_file(tmp_path / 'a.xml', POLYGON.format('1,2;3,4;5,6;7,8;9,9'))
    with pytest.raises(ValueError, match='has more than 4 points'):
        import_annotations(path, video)


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


@pytest.mark.parametrize('name', ['../a.json', '/etc/a.json', 'x\\..\\..\\a.json'])
def test_an_archive_does_not_write_outside_its_folder(
    name: str, video: AnnotatedVideo, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / 'a.zip', {name: b'{}'})
    with pytest.raises(ValueError, match='leads out of it'):
        import_annotations(path, video)


def test_an_archive_does_not_fill_the_disk(
    video: AnnotatedVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, 'MAX_ARCHIVE_BYTES', 10**6)
    path = write_zip(tmp_path / 'a.zip', {'a.json': b'0' * 10**7})
    with pytest.raises(ValueError, match='unpacks to more than'):
        import_annotations(path, video)


def test_frames_in_an_archive_are_not_unpacked(
    video: AnnotatedVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, 'MAX_ARCHIVE_BYTES', 10**6)
    files = {'images/a.jpg': b'0' * 10**7, 'a.json': b''}
    files['a.json'] = coco_file(tmp_path / 'a.json').read_bytes()
    found = import_annotations(write_zip(tmp_path / 'a.zip', files), video)
    assert only(found).name == 'dog'


def test_a_link_in_a_folder_is_not_followed(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    inside = tmp_path / 'inside'
    inside.mkdir()
    secret = tmp_path / 'secret'
    secret.mkdir()
    (inside / 'a.json').symlink_to(coco_file(secret / 'b.json'))
    (inside / 'folder').symlink_to(secret)
    with pytest.raises(ValueError, match='none of the formats'):
        import_annotations(inside, video)


def test_a_huge_png_is_refused_by_its_header(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    path = tmp_path / 'img_0003.png'
    Image.new('1', (2**15, 2**13)).save(path)
    assert path.stat().st_size < 10**6
    with pytest.raises(ValueError, match='max_pixels'):
        import_annotations(path, video)


def _write(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / 'img_0003.json').write_text(text)
        return folder / 'img_0003.json'

    return write


@pytest.mark.parametrize(
    ('write', 'problem'),
    [
        (_write('{"images": [], "annotations": []}'), 'annotations is empty'),
        (_write('{"images": 3, "annotations": []}'), 'images is 3'),
        (_write('{"videos": [{}], "annotations": [{}]}'), 'belongs to anything'),
        (_write('{"masklet": [3]}'), 'has frame 3'),
        (_write('{"masklet": []}'), 'frames of'),
        (_write('{"shapes": [3]}'), 'in place of an object'),
        (_write('{"hello": 1}'), 'none of the formats'),
        (_write('[' * 10**5), 'is not JSON'),
        (_write('no'), 'is not JSON'),
        (lambda folder: folder, 'none of the formats'),
        (lambda folder: folder / 'missing', 'no such file'),
        (lambda folder: write_zip(folder / 'a.zip', {}), 'none of the formats'),
        (lambda folder: shutil.copy(__file__, folder / 'a.zip'), 'is no zip'),
    ],
)
def test_what_is_no_annotation_is_refused_in_words(
    write: Callable[[Path], Path], problem: str, video: AnnotatedVideo, tmp_path: Path
) -> None:
    folder = tmp_path / 'given'
    folder.mkdir()
    with pytest.raises(ValueError, match=problem) as error:
        import_annotations(write(folder), video)
    assert str(folder) in str(error.value)


def test_objects_without_a_pixel_are_an_error(
    video: AnnotatedVideo, tmp_path: Path
) -> None:
    (code,) = encode_masks(np.zeros((1, *SIZE), bool))
    path = coco_file(tmp_path / 'a.json', segmentation=code)
    with pytest.raises(ValueError, match='holds no mask of my <clip>; check'):
        import_annotations(path, video)


def test_two_formats_in_a_folder_have_to_be_chosen_from(tmp_path: Path) -> None:
    session = images_session(tmp_path / 'source')
    for format_name in ('coco', 'cvat'):
        export(session, format_name, tmp_path / 'both' / format_name)
    with pytest.raises(ValueError, match='choose the format'):
        import_annotations(tmp_path / 'both', session.video)
    assert len(import_annotations(tmp_path / 'both', session.video, 'cvat')) == 4
    assert session.video.num_frames == NUM_FRAMES
