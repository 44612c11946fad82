"""DAVIS-style folders, good and bad."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.datasets import ClipDataError, ClipPaletteDataset
from projects.sam2.structures import VideoSource

Build = Callable[..., ClipPaletteDataset]


def test_frames_have_the_masks_of_the_same_name(root: Path, build: Build) -> None:
    source = build(root).open_video('bee')
    assert isinstance(source, VideoSource)
    assert (source.name, source.num_frames) == ('bee', 6)
    assert source.frame_name(2) == '00002'
    assert source.read_frame(2).shape == (24, 32, 3)
    masks = source.read_masks(2)
    assert masks is not None
    assert masks.object_ids == (2, 1)
    labels = np.asarray(Image.open(root / 'Annotations' / 'bee' / '00002.png'))
    np.testing.assert_array_equal(masks.masks[0], labels == 2)


def test_opening_decodes_nothing(root: Path, build: Build) -> None:
    for path in root.glob('*/ant/*'):
        path.write_bytes(b'no image')
    assert build(root).open_video('ant').num_frames == 6


def test_frames_without_a_mask_are_not_annotated(root: Path, build: Build) -> None:
    for time in (1, 2, 4):
        (root / 'Annotations' / 'ant' / f'{time:05d}.png').unlink()
    source = build(root).open_video('ant')
    assert source.annotated_frames() == (0, 3, 5)
    assert source.read_masks(1) is None


def test_masks_are_matched_to_frames_by_number(root: Path, build: Build) -> None:
    expected = build(root).open_video('ant').read_masks(3)
    folder = root / 'Annotations' / 'ant'
    for time in range(6):
        (folder / f'{time:05d}.png').rename(folder / f'{time}.PNG')
    source = build(root).open_video('ant')
    assert source.annotated_frames() == tuple(range(6))
    masks = source.read_masks(3)
    assert masks is not None
    assert expected is not None
    np.testing.assert_array_equal(masks.masks, expected.masks)
    (folder / '03.png').touch()
    with pytest.raises(ClipDataError, match=r'03\.png and 3\.PNG have the same'):
        build(root).open_video('ant')


def test_lists_and_folders_are_options(root: Path, build: Build) -> None:
    (root / 'ImageSets').mkdir()
    (root / 'ImageSets' / 'few.txt').write_text('cat\nant\n')
    (root / 'ImageSets' / 'not.txt').write_text('ant\n')
    (root / 'JPEGImages').rename(root / 'frames')
    (root / 'Annotations').rename(root / 'masks')
    dataset = build(
        root,
        file_list='ImageSets/few.txt',
        exclude_list='ImageSets/not.txt',
        frame_folder='frames',
        mask_folder='masks',
    )
    assert [dataset.video_name(i) for i in range(len(dataset))] == ['cat']
    assert dataset[0].video_name == 'cat'


def test_empty_split_raises_when_built(root: Path, build: Build) -> None:
    (root / 'empty.txt').write_text('\n')
    with pytest.raises(ValueError, match=r'empty\.txt: names no clip; write one name'):
        build(root, file_list='empty.txt')


def wrong_size(folder: Path) -> None:
    """Write the masks at half their size."""
    for path in folder.glob('*.png'):
        Image.fromarray(np.ones((12, 16), np.uint8)).save(path)


def no_object(folder: Path) -> None:
    """Leave only background and void."""
    labels = np.zeros((24, 32), np.uint8)
    labels[:3] = 255
    for path in folder.glob('*.png'):
        Image.fromarray(labels).save(path)


def too_many_objects(folder: Path) -> None:
    """Write ids beyond a byte."""
    for path in folder.glob('*.png'):
        Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32)).save(path)


def no_masks(folder: Path) -> None:
    """Remove all masks."""
    for path in folder.glob('*.png'):
        path.unlink()


def missing_frame(folder: Path) -> None:
    """Remove a frame whose mask stays."""
    (folder.parents[1] / 'JPEGImages' / folder.name / '00003.jpg').unlink()


def short_clip(folder: Path) -> None:
    """Leave two frames."""
    for time in range(2, 6):
        (folder / f'{time:05d}.png').unlink()
        (folder.parents[1] / 'JPEGImages' / folder.name / f'{time:05d}.jpg').unlink()


def truncated_frames(folder: Path) -> None:
    """Cut all frames short."""
    for path in (folder.parents[1] / 'JPEGImages' / folder.name).iterdir():
        path.write_bytes(path.read_bytes()[:-200])


def uneven_frames(folder: Path) -> None:
    """Give every second frame, and its mask, another size."""
    for time in (1, 3, 5):
        frame = folder.parents[1] / 'JPEGImages' / folder.name / f'{time:05d}.jpg'
        cv2.imwrite(str(frame), np.zeros((10, 10, 3), np.uint8))
        mask = np.ones((10, 10), np.uint8)
        Image.fromarray(mask).save(folder / f'{time:05d}.png')


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [
        (wrong_size, r'Annotations/bee/.*\(12, 16\).*\(24, 32\).*size of its frame'),
        (no_object, r'bee: shows no object.*exclude list'),
        (too_many_objects, r'Annotations/bee/.*at most 254'),
        (no_masks, r'Annotations/bee: holds no \.png'),
        (missing_frame, r'JPEGImages/bee/00003\.jpg: is missing'),
        (short_clip, r'bee: needs 3 frames, has 2; lower num_frames'),
        (truncated_frames, r'JPEGImages/bee/.*damaged.*replace the file'),
        (uneven_frames, r'bee/0000.: frame of .*one size'),
    ],
)
def test_corrupt_clip_is_skipped_and_its_error_names_file_and_remedy(
    root: Path, build: Build, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(root / 'Annotations' / 'bee')
    dataset = build(root, max_bad_share=0.5)
    assert dataset[1].video_name in {'ant', 'cat'}
    assert list(dataset.corrupt_clips.reasons) == ['bee']
    strict = build(root, max_bad_share=0.0)
    with pytest.raises(ClipDataError, match=reason):
        strict[1]


def test_clips_start_where_an_object_appears(root: Path, build: Build) -> None:
    folder = root / 'Annotations' / 'ant'

    def labels(time: int) -> NDArray[np.uint8]:
        mask = np.zeros((24, 32), np.uint8)
        mask[4:20, 4:28] = 5 if time >= 2 else 0
        return mask

    for time in range(6):
        Image.fromarray(labels(time)).save(folder / f'{time:05d}.png')
    dataset = build(root)
    starts = {dataset[epoch, 0].frame_indices[0] for epoch in range(20)}
    assert starts == {2, 3}
    assert not dataset.corrupt_clips.reasons
