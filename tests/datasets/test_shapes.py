"""Generated shapes with classes, and their annotations in every layout."""

import configparser
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from projects.sam2.datasets.processing.shapes_export import (
    mask_polygons,
    write_shapes,
)
from projects.sam2.datasets.sources.shapes import (
    CLASSES,
    Role,
    ShapesClip,
    draw_shapes,
)
from projects.sam2.datasets.sources.synthetic import returning_objects
from tool_modules import load_tool

SIDE, NUM_FRAMES = 64, 12


def done(num_done: int, num_total: int | None) -> None:
    """Do nothing after each clip."""


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset."""
    folder = tmp_path_factory.mktemp('shapes') / 'data'
    counts = {'train': 2, 'val': 1}
    assert write_shapes(
        folder, counts, num_frames=NUM_FRAMES, side=SIDE, seed=0, advance=done
    )
    return folder


@pytest.fixture(scope='module')
def clips() -> list[ShapesClip]:
    """Clips of the usual size."""
    return [draw_shapes('test', index) for index in range(16)]


def masks_in(root: Path, kind: str, name: str) -> NDArray[np.uint8]:
    """Labels of all frames of a clip: (T, H, W)."""
    paths = sorted((root / kind / name).glob('*.png'))
    return np.stack([np.array(Image.open(path)) for path in paths])


def decode(code: Any) -> NDArray[np.uint8]:
    """Decode a run-length code with COCO's tools: (H, W)."""
    mask: NDArray[np.uint8] = coco_masks.decode(code)  # type: ignore[no-untyped-call]
    return mask


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


# Clips


def test_objects_come_and_go_as_their_roles_say(clips: list[ShapesClip]) -> None:
    roles = {role for clip in clips for role in clip.roles}
    assert roles == set(Role)
    for clip in clips:
        assert set(clip.roles) - {Role.STAYING}
        returning = returning_objects(clip.labels, len(clip.roles))
        for object_id, role in enumerate(clip.roles, start=1):
            is_visible = (clip.labels == object_id).any(axis=(1, 2))
            assert (role is Role.LATE) == (not is_visible[0])
            assert (role is Role.LEAVING) == (not is_visible[-1])
            assert (role is Role.RETURNING) == (object_id in returning)


def test_literal_rule_tells_the_classes_from_the_outlines(
    clips: list[ShapesClip],
) -> None:
    pairs = []
    for clip in clips:
        for frame_index, object_index in np.argwhere(clip.visibility > 0.97):
            mask = clip.labels[frame_index] == object_index + 1
            if not mask[[0, -1]].any() and not mask[:, [0, -1]].any():
                pairs.append((class_by_rule(mask), clip.classes[object_index]))
    assert {actual for _, actual in pairs} == set(range(len(CLASSES)))
    hits = np.mean([guess == actual for guess, actual in pairs])
    assert len(pairs) > 100
    assert hits > 0.99


def class_by_rule(mask: NDArray[np.bool_]) -> int:
    """Tell a class by the share of the hull and of the smallest circle it fills."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    contour = max(contours, key=len)  # a tip of a star may be cut off
    hull = cv2.contourArea(cv2.convexHull(contour))
    _, radius = cv2.minEnclosingCircle(contour)
    if cv2.contourArea(contour) < 0.8 * hull:
        return CLASSES.index('star')
    filled = hull / (np.pi * radius**2)  # disk 1, square 0.64, triangle 0.41
    return int(np.argmin(np.abs(filled - np.array([1, 0.64, 0.41]))))


def test_visibility_is_the_share_of_the_whole_shape(clips: list[ShapesClip]) -> None:
    for clip in clips:
        ids = np.arange(1, len(clip.classes) + 1)
        pixels = (clip.labels[..., None] == ids).sum(axis=(1, 2))
        np.testing.assert_array_equal(pixels > 0, clip.visibility > 0)
        assert pixels[pixels > 0].min() >= 16
    whole = [clip.visibility[0, 0] for clip in clips if clip.roles[0] is Role.STAYING]
    assert np.median(whole) > 0.95


def test_clip_depends_on_split_index_and_seed_alone() -> None:
    first, again, *others = (
        draw_shapes(split, 1, num_frames=NUM_FRAMES, side=SIDE, seed=seed)
        for split, seed in [('a', 0), ('a', 0), ('b', 0), ('a', 1)]
    )
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.labels, again.labels)
    for other in others:
        assert np.abs(first.frames.astype(int) - other.frames).mean() > 5


# Files


@pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')
def test_every_layout_has_the_same_masks(root: Path) -> None:
    names = (root / 'ImageSets/train.txt').read_text().split()
    coco: Any = COCO(str(root / 'instances_train.json'))  # type: ignore[no-untyped-call]
    vis = read(root / 'youtube_vis_train.json')
    roles = read(root / 'meta.json')['clips']['train']
    num_instances = 0
    for video, entry in zip(vis['videos'], roles, strict=True):
        assert video['name'] == names[video['id'] - 1] == entry['name']
        objects = masks_in(root, 'objects', video['name'])
        labels = masks_in(root, 'labels', video['name'])
        tracks = [t for t in vis['annotations'] if t['video_id'] == video['id']]
        for object_id, track in enumerate(tracks, start=1):
            assert CLASSES[track['category_id'] - 1] == entry['classes'][object_id - 1]
            for frame, code in enumerate(track['segmentations']):
                mask = objects[frame] == object_id
                decoded = decode(code) if code else np.zeros(mask.shape)
                np.testing.assert_array_equal(decoded, mask)
                np.testing.assert_array_equal(labels[frame][mask], track['category_id'])
        assert (labels[objects == 0] == 0).all()
        for image in coco.imgs.values():
            if image['video_id'] != video['id']:
                continue
            assert image['file_name'] == video['file_names'][image['frame_id']]
            for instance in coco.loadAnns(coco.getAnnIds(image['id'])):
                object_id = [t['id'] for t in tracks].index(instance['instance_id']) + 1
                mask = objects[image['frame_id']] == object_id
                np.testing.assert_array_equal(coco.annToMask(instance), mask)
                x, y, width, height = instance['bbox']
                box = np.zeros_like(mask)
                box[y : y + height, x : x + width] = True
                assert (box >= mask).all()
                assert mask[y].any()
                assert mask[:, x].any()
                assert mask[y + height - 1].any()
                assert mask[:, x + width - 1].any()
                num_instances += 1
    assert num_instances == len(coco.anns) > 0


def test_mot_sequences_have_the_boxes_of_the_instances(root: Path) -> None:
    table = read(root / 'mot/annotations/val_cocoformat.json')
    instances = read(root / 'instances_val.json')['annotations']
    assert [a['bbox'] for a in table['annotations']] == [a['bbox'] for a in instances]
    sequence = root / 'mot/val/val_00000'
    info = configparser.ConfigParser()
    info.read(sequence / 'seqinfo.ini')
    first = table['images'][0]
    size = int(info['Sequence']['imHeight']), int(info['Sequence']['imWidth'])
    assert size == (first['height'], first['width'])
    rows = np.loadtxt(sequence / 'gt/gt.txt', delimiter=',')
    assert [row[2:6].tolist() for row in rows] == [a['bbox'] for a in instances]
    assert {row[7] for row in rows} == {1}
    for image in table['images']:
        frame = root / 'mot/val' / image['file_name']
        plain = root / 'images/val_00000' / f'{image["frame_id"]:05d}.jpg'
        assert frame.read_bytes() == plain.read_bytes()


@pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')
def test_polygons_decode_to_masks_with_holes_and_specks() -> None:
    rng = np.random.default_rng(0)
    for sigma in (0.1, 0.7, 2.0, 4.0):
        mask = cv2.GaussianBlur(rng.random((37, 51)), (0, 0), sigma) > 0.5
        codes = coco_masks.frPyObjects(mask_polygons(mask), *mask.shape)
        np.testing.assert_array_equal(decode(coco_masks.merge(codes)), mask)


def test_tool_keeps_a_dataset_and_refuses_to_mix_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_shapes = load_tool('dataset_converters/make_shapes')
    folder = tmp_path / 'shapes'
    few = [str(folder), '--num-clips', '1', '--num-val-clips', '1', '--num-frames']
    with pytest.raises(ValueError, match='11 frames of 128 pixels are too few'):
        make_shapes.main([*few, '11'])
    assert not folder.exists()
    small = [*few, '12', '--size', '64']
    make_shapes.main(small)
    assert 'disk, square, triangle, star' in capsys.readouterr().out
    make_shapes.main(small)
    assert 'holds these clips already' in capsys.readouterr().out
    with pytest.raises(FileExistsError, match='other settings'):
        make_shapes.main([*small, '--seed', '1'])
