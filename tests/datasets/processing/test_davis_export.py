"""Clips of any source, and rendered ones, written in DAVIS layout and read back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from data_folders import (
    SIZE,
    object_masks,
    write_coco,
    write_image,
    write_json,
    write_labelme,
    write_sav,
    write_youtube_vis,
)
from projects.sam2.datasets import (
    ClipCocoDataset,
    ClipDataError,
    ClipDataset,
    ClipPaletteDataset,
    ClipSAVDataset,
    ClipYouTubeVISDataset,
)
from projects.sam2.datasets.processing.davis_export import (
    Conversion,
    DavisClip,
    DavisFolder,
    convert_to_davis,
    davis_name,
    davis_palette,
    is_complete,
    merge_masks,
    write_davis,
    write_mask,
    write_synthetic_dataset,
)
from projects.sam2.datasets.sources.synthetic import make_clip, make_plans
from projects.sam2.structures import FrameMasks, VideoSource

COCO = 'annotations/instances_train2017.json'
SETTINGS = {'seed': 1}
Convert = Callable[..., Conversion | None]


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


def test_jpeg_frames_are_copied(
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


def test_labels_follow_the_order_of_appearance(
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


def test_damaged_image_writes_nothing(
    coco: ClipDataset, folder: DavisFolder, tmp_path: Path
) -> None:
    image = tmp_path / 'coco/train2017/ant.jpg'
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(ClipDataError, match=r'ant\.jpg'):
        write(coco.open_video('ant'), folder)
    assert [path.name for path in folder.root.iterdir()] == ['.unfinished']


def test_finished_clip_is_not_written_again(
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
    folder.record('ant').unlink()
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


def test_more_than_254_objects_are_refused(
    folder: DavisFolder,
) -> None:
    assert len(write(Crowd(254), folder)[0].source_ids) == 254
    folder = DavisFolder(root=folder.root / 'more', split_objects=False)
    remedy = 'has 255 objects, a palette PNG holds 254; split it .* --split-objects'
    with pytest.raises(ClipDataError, match=remedy):
        write(Crowd(255), folder)


def test_more_than_254_objects_are_split_into_clips(folder: DavisFolder) -> None:
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


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images with shapes, and one whose file is damaged."""
    root = tmp_path / 'labelme'
    write_labelme(root)
    content = json.loads((root / 'ant.json').read_text())
    for name in ('sub/bee', 'zoo'):
        write_image(root / f'{name}.jpg')
        write_json(root / f'{name}.json', content)
    (root / 'zoo.jpg').write_bytes(b'no picture')
    return root


@pytest.fixture
def convert(source: Path, tmp_path: Path) -> Convert:
    def run(*, split_objects: bool = False, **changes: Any) -> Conversion | None:
        config = {'type': 'ClipLabelMeDataset', 'data_root': str(source)}
        return convert_to_davis(
            config | changes,
            DavisFolder(root=tmp_path / 'davis', split_objects=split_objects),
            split='val',
            num_workers=2,
            advance=lambda done, total: None,
        )

    return run


def test_good_clips_are_listed_and_bad_ones_reported(
    convert: Convert, tmp_path: Path
) -> None:
    found = convert()
    assert found is not None
    assert [clip.name for clip in found.clips] == ['ant', 'sub__bee']
    assert list(found.problems) == ['zoo']
    assert 'zoo.jpg' in found.problems['zoo']
    root = tmp_path / 'davis'
    assert sorted(path.name for path in root.iterdir()) == [
        'Annotations',
        'ImageSets',
        'JPEGImages',
        'meta.json',
    ]
    dataset = ClipPaletteDataset(data_root=str(root), file_list='ImageSets/val.txt')
    assert dataset.list_videos() == ['ant', 'sub__bee']
    assert dataset.open_video('ant').object_ids() == (1, 2)
    videos = json.loads((root / 'meta.json').read_text())['videos']
    assert videos['ant']['objects'] == {'1': {'source_id': 1}, '2': {'source_id': 2}}


def test_complete_dataset_is_not_written_again(
    convert: Convert, tmp_path: Path
) -> None:
    convert()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert convert() is None
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


def test_folder_of_another_conversion_is_not_touched(convert: Convert) -> None:
    convert()
    with pytest.raises(FileExistsError, match='made with other settings'):
        convert(exclude_list='none.txt')


def test_interrupted_conversion_continues(
    convert: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = 'projects.sam2.datasets.processing.davis_export.write_list'

    def interrupt(path: Path, names: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert()
    image = tmp_path / 'davis/JPEGImages/ant/00000.jpg'
    before = image.stat().st_mtime_ns
    found = convert()
    assert found is not None
    assert len(found.clips) == 2
    assert image.stat().st_mtime_ns == before


def test_clips_of_equal_written_names_are_refused(
    convert: Convert, source: Path
) -> None:
    write_json(source / 'sub__bee.json', {})
    with pytest.raises(ValueError, match='both be written as sub__bee'):
        convert()


def test_clip_named_like_a_part_of_another_is_refused(
    convert: Convert, source: Path
) -> None:
    for ending in ('jpg', 'json'):
        (source / f'zoo.{ending}').rename(source / f'sub__bee_part0.{ending}')
    with pytest.raises(ValueError, match='sub__bee_part0, which may become a part of'):
        convert(split_objects=True)
    assert convert(split_objects=False) is not None


def test_source_without_good_clips_is_an_error(convert: Convert, source: Path) -> None:
    for name in ('ant', 'sub/bee'):
        (source / f'{name}.jpg').unlink()
    with pytest.raises(ValueError, match='None of 3 clips can be converted'):
        convert()


def write_synthetic(root: Path, workers: int = 1) -> dict[str, object]:
    """Write two training clips and one held-out one; gives the progress too."""
    progress: list[tuple[int, int]] = []
    splits = {
        split: make_plans(split=split, num_clips=n, num_frames=8, size=64, seed=1)
        for split, n in (('train', 2), ('val', 1))
    }
    meta = write_synthetic_dataset(
        root, splits, SETTINGS, workers, lambda *done: progress.append(done)
    )
    return {'progress': progress, **meta}


def test_written_clips_are_what_was_generated(tmp_path: Path) -> None:
    write_synthetic(tmp_path)
    plan = make_plans(split='train', num_clips=2, num_frames=8, size=64, seed=1)[1]
    clip = make_clip(plan)
    dataset = ClipPaletteDataset(
        data_root=str(tmp_path), file_list='ImageSets/train.txt'
    )
    source = dataset.open_video(dataset.video_name(1))
    assert (source.num_frames, source.annotated_frames()) == (8, tuple(range(8)))
    masks = source.read_masks(5)
    assert masks is not None
    for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
        np.testing.assert_array_equal(mask, clip.labels[5] == object_id)
    difference = np.abs(source.read_frame(5).astype(int) - clip.frames[5])
    assert difference.mean() < 8  # JPEG


def test_meta_describes_each_clip(tmp_path: Path) -> None:
    meta = write_synthetic(tmp_path)
    assert meta['progress'] == [(1, 3), (2, 3), (3, 3)]
    stored = json.loads((tmp_path / 'meta.json').read_text())
    assert stored['clips'] == meta['clips']
    (entry,) = stored['clips']['val']
    assert entry['name'] == 'val_00000'
    assert entry['kind'] == 'like_texture'
    assert entry['like_texture'] is True
    assert 0 < entry['copy_iou'] < 1


def test_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    write_synthetic(tmp_path / 'one')
    write_synthetic(tmp_path / 'two', workers=2)
    files = sorted(p.relative_to(tmp_path / 'one') for p in tmp_path.glob('one/**/*.*'))
    assert len(files) == 3 * 8 * 2 + 3
    for file in files:
        one, two = (tmp_path / name / file for name in ('one', 'two'))
        assert one.read_bytes() == two.read_bytes()


def test_complete_folder_is_recognized_and_others_are_refused(tmp_path: Path) -> None:
    assert not is_complete(tmp_path / 'new', SETTINGS)
    assert not is_complete(tmp_path, SETTINGS)
    (tmp_path / 'JPEGImages').mkdir()
    with pytest.raises(FileExistsError, match='not a complete set'):
        is_complete(tmp_path, SETTINGS)
    (tmp_path / 'meta.json').write_text(json.dumps({'settings': SETTINGS}))
    assert is_complete(tmp_path, SETTINGS)
    with pytest.raises(FileExistsError, match='other settings; remove the folder'):
        is_complete(tmp_path, {'seed': 2})


def test_interrupted_set_is_continued_only_with_the_same_settings(
    tmp_path: Path,
) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    plans = make_plans(split='val', num_clips=2, num_frames=8, size=32, seed=1)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic_dataset(tmp_path, {'val': plans}, SETTINGS, 1, interrupt)
    assert not is_complete(tmp_path, SETTINGS)
    with pytest.raises(FileExistsError, match='not a complete set'):
        is_complete(tmp_path, {'seed': 2})
    write_synthetic_dataset(tmp_path, {'val': plans}, SETTINGS, 1, lambda *_: None)
    assert is_complete(tmp_path, SETTINGS)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {'meta.json'}


def test_masks_have_the_palette_of_davis(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / 'mask.png', labels)
    with Image.open(tmp_path / 'mask.png') as image:
        assert image.mode == 'P'
        np.testing.assert_array_equal(np.asarray(image), labels)
        assert image.getpalette() == davis_palette()
    assert davis_palette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert davis_palette()[-3:] == [224, 224, 192]
