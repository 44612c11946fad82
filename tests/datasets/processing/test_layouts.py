"""The layout of data is told from the files, and read by the source that fits."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image

from data_folders import (
    NUM_FRAMES,
    SIZE,
    coco_content,
    object_masks,
    write_coco,
    write_frames,
    write_image,
    write_json,
    write_label_images,
    write_labelme,
    write_object_folders,
    write_png,
    write_sa1b,
    write_sav,
    write_video,
    write_youtube_vis,
)
from projects.sam2.datasets.processing.layouts import (
    DataPaths,
    Layout,
    LayoutError,
    find_split,
    recognise,
)


def labels(time: int) -> NDArray[np.uint8]:
    first, second = object_masks(time)
    return np.asarray(first + 2 * second, np.uint8)


def write_davis(root: Path) -> None:
    for name in ('ant', 'bee'):
        write_frames(root / 'JPEGImages', name)
        for time in range(NUM_FRAMES):
            write_png(root / 'Annotations' / name / f'{time:05d}.png', labels(time))


def write_sequence(root: Path) -> None:
    """One video in two folders, whose names only share their numbers."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    for time in range(NUM_FRAMES):
        picture = (7 * columns + 3 * rows + 20 * time) % 256
        (root / 'frames').mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(picture.astype(np.uint8))
        image.save(root / 'frames' / f'frame_{time + 1}.jpg')
        write_png(root / 'masks' / f'mask_{time + 1}.png', labels(time))


def write_mp4(root: Path, first: int = 0) -> None:
    write_video(root / 'ant.mp4')
    for time in range(NUM_FRAMES):
        write_png(root / 'masks' / f'{time + first:05d}.png', labels(time))


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    'davis': ('ClipPaletteDataset', write_davis),
    'object-folders': ('ClipObjectFolderDataset', write_object_folders),
    'sav': ('ClipSAVDataset', write_sav),
    'sa1b': ('ClipSA1BDataset', write_sa1b),
    'coco': ('ClipCocoDataset', write_coco),
    'youtube-vis': ('ClipYouTubeVISDataset', write_youtube_vis),
    'labelme': ('ClipLabelMeDataset', write_labelme),
    'label-images': ('ClipLabelImageDataset', write_label_images),
}


def build(layout: Layout, links: Path) -> list[str]:
    """Clips of the source, with its links in place."""
    for name, target in layout.links.items():
        link = links / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    dataset = DATASETS.build({'data_root': str(links), **layout.source})
    names = dataset.list_videos()
    return [n for n in names if layout.names is None or n in layout.names]


@pytest.mark.parametrize('kind', WRITERS)
def test_layout_is_recognised_and_its_masks_are_read(kind: str, tmp_path: Path) -> None:
    type_, write = WRITERS[kind]
    write(tmp_path)
    layout = recognise(DataPaths(root=tmp_path))
    assert (layout.kind, layout.source['type']) == (kind, type_)
    names = build(layout, tmp_path)
    assert names
    for name in names:
        video = DATASETS.build(layout.source).open_video(name)
        masks = video.read_masks(video.annotated_frames()[0])
        assert masks is not None
        assert masks.masks.any()


@pytest.mark.parametrize(
    ('write', 'first'), [(write_mp4, 0), (lambda root: write_mp4(root, 1), 1)]
)
def test_masks_of_an_mp4_are_those_of_its_frames(
    write: Callable[[Path], None], first: int, tmp_path: Path
) -> None:
    write(tmp_path / 'film')
    layout = recognise(DataPaths(root=tmp_path / 'film' / 'ant.mp4'))
    assert layout.kind == 'video'
    assert build(layout, tmp_path / 'links') == ['ant']
    video = DATASETS.build(
        {'data_root': str(tmp_path / 'links'), **layout.source}
    ).open_video('ant')
    assert len(video.annotated_frames()) == NUM_FRAMES
    masks = video.read_masks(3)
    assert masks is not None
    read = sum(i * m for i, m in zip(masks.object_ids, masks.masks, strict=True))
    np.testing.assert_array_equal(read, labels(3))
    assert any('from 1' in note for note in layout.notes) == bool(first)


def test_masks_beyond_the_last_frame_are_refused(tmp_path: Path) -> None:
    write_mp4(tmp_path, 5)
    with pytest.raises(LayoutError, match=r'belongs to none of the 12 frames.*--first'):
        recognise(DataPaths(root=tmp_path / 'ant.mp4'))
    layout = recognise(DataPaths(root=tmp_path / 'ant.mp4', first_mask=5))
    assert layout.links['Annotations/ant/00000.png'].name == '00005.png'


def test_named_folders_of_objects_are_numbered(tmp_path: Path) -> None:
    write_video(tmp_path / 'ant.mp4')
    for name, mask in zip(('dog', 'cat'), object_masks(0), strict=True):
        write_png(tmp_path / 'masks' / name / '00000.png', mask.astype(np.uint8))
    layout = recognise(DataPaths(root=tmp_path))
    assert layout.notes[0] == 'objects of ant: cat is 0, dog is 1'
    build(layout, tmp_path / 'links')
    video = DATASETS.build(
        {'data_root': str(tmp_path / 'links'), **layout.source}
    ).open_video('ant')
    assert video.object_ids() == (1, 2)
    masks = video.read_masks(0)
    assert masks is not None
    np.testing.assert_array_equal(masks.masks, object_masks(0)[::-1])


def test_numbered_frames_that_look_alike_are_one_video(tmp_path: Path) -> None:
    write_sequence(tmp_path / 'ant')
    layout = recognise(DataPaths(root=tmp_path / 'ant'))
    assert layout.kind == 'video'
    assert build(layout, tmp_path / 'links') == ['ant']


def test_images_and_masks_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / f'photo{index}.jpg', index)
        write_png(tmp_path / f'photo{index}_mask.png', labels(index))
    layout = recognise(DataPaths(root=tmp_path))
    assert layout.source['label_suffix'] == '_mask.png'
    assert layout.names == frozenset({'photo0', 'photo1', 'photo2'})


def test_json_files_of_the_parts_are_kept(tmp_path: Path) -> None:
    for part in ('train', 'valid', 'test'):
        write_coco(tmp_path / part, folder='.')
        source = next((tmp_path / part).rglob('*.json'))
        target = tmp_path / part / '_annotations.coco.json'
        shutil.move(source, target)
    layout = recognise(DataPaths(root=tmp_path))
    assert layout.source['annotation_file'] == 'train/_annotations.coco.json'
    assert layout.val_options == {
        'annotation_file': 'valid/_annotations.coco.json',
        'image_folder': 'valid',
    }


def write_bare_json(root: Path) -> None:
    write_json(root / 'coco.json', coco_content())


def write_bare_images(root: Path) -> None:
    for index in range(3):
        write_image(root / f'{index}.jpg', index)


def write_yolo(root: Path) -> None:
    write_bare_images(root)
    for index in range(3):
        (root / f'{index}.txt').write_text('0 0.1 0.1 0.2 0.2\n')


def write_several(root: Path) -> None:
    write_coco(root)
    write_labelme(root)


@pytest.mark.parametrize(
    ('write', 'message'),
    [
        (lambda root: None, r'no known layout \(it holds no files\)\. Known are davis'),
        (write_bare_json, r'images of coco\.json were not found.*--images'),
        (write_bare_images, r'3 images have no masks.*label-images.*--masks'),
        (write_yolo, 'YOLO are not read; convert them to COCO'),
        (lambda root: write_video(root / 'a.mp4'), r'a\.mp4 has no masks.*--masks'),
        (write_several, r'several layouts \(labelme: .*coco: .*--layout'),
        (
            lambda root: (root / 'a.avi').write_bytes(b'RIFF'),
            r'a\.avi is not an mp4: ffmpeg -i a\.avi',
        ),
        (
            lambda root: write_json(root / 'a.json', {'x': 1}),
            r'a\.json holds x; expected "images"',
        ),
    ],
)
def test_error_says_what_is_missing(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(LayoutError, match=message) as error:
        recognise(DataPaths(root=tmp_path))
    assert '\n' not in str(error.value)


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        recognise(DataPaths(root=tmp_path / 'nowhere'))


def test_lists_that_come_with_the_data_are_kept(tmp_path: Path) -> None:
    names = ['ant', 'bee', 'cat']
    assert find_split(tmp_path, names) is None
    lists = tmp_path / 'ImageSets'
    lists.mkdir()
    (lists / 'val.txt').write_text('bee\n')
    split = find_split(tmp_path, names)
    assert split is not None
    assert split[:2] == (['ant', 'cat'], ['bee'])
    (lists / 'train.txt').write_text('ant\nbee\n')
    with pytest.raises(LayoutError, match='1 names, such as bee, are in both'):
        find_split(tmp_path, names)
    (lists / 'train.txt').write_text('ant\n')
    split = find_split(tmp_path, names)
    assert split is not None
    assert split[:2] == (['ant'], ['bee'])
    folders = ['train/a', 'val/b', 'train/c']
    split = find_split(tmp_path / 'other', folders)
    assert split is not None
    assert split[:2] == (['train/a', 'train/c'], ['val/b'])
