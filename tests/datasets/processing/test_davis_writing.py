"""Clips written in DAVIS layout, and read back."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from data_folders import SIZE, object_masks, write_coco, write_sav, write_youtube_vis
from projects.sam2.datasets import (
    ClipCocoDataset,
    ClipDataError,
    ClipDataset,
    ClipPaletteDataset,
    ClipSAVDataset,
    ClipYouTubeVISDataset,
)
from projects.sam2.datasets.processing.davis_export import (
    DavisClip,
    DavisFolder,
    davis_name,
    merge_masks,
    whole_name,
    write_davis,
)
from projects.sam2.structures import FrameMasks, VideoSource

COCO = 'annotations/instances_train2017.json'


@pytest.fixture
def folder(tmp_path: Path) -> DavisFolder:
    (tmp_path / 'davis/.unfinished').mkdir(parents=True)
    return DavisFolder(root=tmp_path / 'davis', split_objects=False)


@pytest.fixture
def coco(tmp_path: Path) -> ClipDataset:
    """One image: object 5 below, object 6 above, and a crowd."""
    write_coco(tmp_path / 'coco')
    root = str(tmp_path / 'coco')
    return ClipCocoDataset(
        data_root=root, image_folder='train2017', annotation_file=COCO
    )


def write(video: VideoSource, folder: DavisFolder) -> tuple[DavisClip, ...]:
    return write_davis(video, folder, heartbeat=lambda: None)


def read_back(folder: DavisFolder, name: str = 'ant') -> VideoSource:
    return ClipPaletteDataset(data_root=str(folder.root)).open_video(name)


def test_image_becomes_a_clip_of_one_frame(
    coco: ClipDataset, folder: DavisFolder
) -> None:
    (clip,) = write(coco.open_video('ant'), folder)
    assert clip == DavisClip(
        name='ant',
        source_ids=(5, 6),
        num_frames=1,
        num_masks=1,
        num_overlaps=0,
        num_covered=0,
    )
    before, after = (
        coco.open_video('ant').read_masks(0),
        read_back(folder).read_masks(0),
    )
    assert before is not None
    assert after is not None
    assert after.void is not None
    assert sorted(after.object_ids) == [1, 2]
    for label, mask in zip(after.object_ids, after.masks, strict=True):
        assert np.array_equal(mask, before.masks[label - 1])
    assert before.void is not None
    assert np.array_equal(after.void, before.void)


def test_frames_that_are_jpeg_are_copied_bit_by_bit(
    coco: ClipDataset, folder: DavisFolder, tmp_path: Path
) -> None:
    write(coco.open_video('ant'), folder)
    copied = (folder.root / 'JPEGImages/ant/00000.jpg').read_bytes()
    assert copied == (tmp_path / 'coco/train2017/ant.jpg').read_bytes()


def test_frames_of_a_video_file_are_encoded(
    tmp_path: Path, folder: DavisFolder
) -> None:
    write_sav(tmp_path / 'sav')
    video = ClipSAVDataset(data_root=str(tmp_path / 'sav')).open_video('ant')
    (clip,) = write(video, folder)
    assert (clip.num_frames, clip.num_masks) == (12, 3)
    written = read_back(folder)
    assert written.annotated_frames() == (0, 4, 8)
    difference = written.read_frame(7).astype(int) - video.read_frame(7)
    assert np.abs(difference).max() <= 2


def test_objects_are_numbered_as_they_appear(
    tmp_path: Path, folder: DavisFolder
) -> None:
    write_youtube_vis(tmp_path / 'vis')
    dataset = ClipYouTubeVISDataset(
        data_root=str(tmp_path / 'vis'), annotation_file='train.json'
    )
    (name,) = dataset.list_videos()
    (clip,) = write(dataset.open_video(name), folder)
    assert clip.source_ids == (6, 5)  # 5 is not seen on the first frame
    first, later = (read_back(folder, clip.name).read_masks(i) for i in (0, 3))
    assert first is not None
    assert later is not None
    assert first.object_ids == (1,)
    of_label = dict(zip(later.object_ids, later.masks, strict=True))
    assert np.array_equal(of_label[2], object_masks(3)[0])


def test_damaged_image_leaves_nothing(
    coco: ClipDataset, folder: DavisFolder, tmp_path: Path
) -> None:
    image = tmp_path / 'coco/train2017/ant.jpg'
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(ClipDataError, match=r'ant\.jpg'):
        write(coco.open_video('ant'), folder)
    assert [path.name for path in folder.root.iterdir()] == ['.unfinished']


def test_clip_that_is_whole_is_not_written_again(
    coco: ClipDataset, folder: DavisFolder
) -> None:
    first = write(coco.open_video('ant'), folder)
    image = folder.root / 'JPEGImages/ant/00000.jpg'
    image.write_bytes(b'touched')
    assert write(coco.open_video('ant'), folder) == first
    assert image.read_bytes() == b'touched'


def test_clip_of_an_interrupted_run_is_written_again(
    coco: ClipDataset, folder: DavisFolder
) -> None:
    write(coco.open_video('ant'), folder)
    (folder.aside / 'ant.json').unlink()
    (folder.root / 'Annotations/ant/00000.png').unlink()
    write(coco.open_video('ant'), folder)
    assert read_back(folder).annotated_frames() == (0,)


class Crowd:
    """A frame of as many objects as pixels, in memory."""

    def __init__(self, num_objects: int) -> None:
        self.name, self.num_frames, self.num_objects = 'sub/crowd', 1, num_objects

    def annotated_frames(self) -> tuple[int, ...]:
        """The one."""
        return (0,)

    def frame_name(self, frame_index: int) -> str:
        """Its number."""
        return str(frame_index)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """A grey frame."""
        return np.full((*SIZE, 3), frame_index, np.uint8)

    def read_masks(self, frame_index: int) -> FrameMasks:
        """One pixel each."""
        pixels = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
        ids = tuple(range(1000, 1000 + self.num_objects))
        masks = np.array([pixels == each - 1000 for each in ids]).reshape(-1, *SIZE)
        return FrameMasks(object_ids=ids, masks=masks)


def test_more_objects_than_labels_are_refused_with_the_remedy(
    folder: DavisFolder,
) -> None:
    assert len(write(Crowd(254), folder)[0].source_ids) == 254
    folder = DavisFolder(root=folder.root / 'more', split_objects=False)
    remedy = 'has 255 objects, a palette PNG holds 254; split it .* --split-objects'
    with pytest.raises(ClipDataError, match=remedy):
        write(Crowd(255), folder)


def test_more_objects_than_labels_are_split_among_clips(folder: DavisFolder) -> None:
    folder = DavisFolder(root=folder.root, split_objects=True)
    first, second = write(Crowd(300), folder)
    assert (first.name, second.name) == ('sub__crowd_part0', 'sub__crowd_part1')
    assert first.source_ids + second.source_ids == tuple(range(1000, 1300))
    masks = read_back(folder, second.name).read_masks(0)
    assert masks is not None
    assert masks.object_ids == tuple(range(1, 47))
    assert masks.masks[0][divmod(254, SIZE[1])]
    frame = cv2.imread(str(folder.root / 'JPEGImages/sub__crowd_part0/00000.jpg'))
    assert frame is not None


def test_name_of_a_part_names_its_clip(folder: DavisFolder) -> None:
    folder = DavisFolder(root=folder.root, split_objects=True)
    parts = write(Crowd(255), folder)
    assert [whole_name(part.name) for part in parts] == ['sub__crowd'] * 2
    assert [whole_name(n) for n in ('a', 'a_part', 'a_partb', '_part0')] == [None] * 4


def test_clip_without_objects_is_refused(folder: DavisFolder) -> None:
    empty = Crowd(0)
    with pytest.raises(ClipDataError, match='shows no object; leave the clip out'):
        write(empty, folder)


def frame_masks(*masks: list[int], void: list[int] | None = None) -> FrameMasks:
    return FrameMasks(
        object_ids=tuple(range(10, 10 + len(masks))),
        masks=np.array([masks], bool).transpose(1, 0, 2),
        void=None if void is None else np.array([void], bool),
    )


def test_small_object_lies_over_a_large_one() -> None:
    found = merge_masks(frame_masks([0, 1, 0, 0], [1, 1, 1, 0]), (10, 11))
    assert found.labels.tolist() == [[2, 1, 2, 0]]
    assert (found.overlaps, found.num_covered) == (True, 0)


def test_object_that_others_cover_is_counted() -> None:
    found = merge_masks(frame_masks([1, 1, 0], [1, 0, 0], [0, 1, 0]), (10, 11, 12))
    assert found.labels.tolist() == [[2, 3, 0]]
    assert (found.overlaps, found.num_covered) == (True, 1)


def test_void_gives_way_to_objects_and_others_are_left_out() -> None:
    masks = frame_masks([1, 0, 0], [0, 1, 0], void=[1, 0, 1])
    found = merge_masks(masks, (10,))
    assert found.labels.tolist() == [[1, 0, 255]]
    assert (found.overlaps, found.num_covered) == (False, 0)


@pytest.mark.parametrize('name', ['.', '..', '', '.unfinished'])
def test_no_clip_is_written_into_a_folder_that_holds_others(name: str) -> None:
    with pytest.raises(ClipDataError, match='rename the clip'):
        davis_name(name)


def test_sub_folders_become_part_of_the_name() -> None:
    assert davis_name('a/b\\..') == 'a__b__..'
