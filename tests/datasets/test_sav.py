"""SA-V's training set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import object_masks, rle, write_frames, write_json, write_sav
from projects.sam2.datasets import AnnotatedVideo, ClipDataError, ClipSAVDataset
from projects.sam2.datasets.sources.sav import SAVMasks, frame_numbers, index_sav
from projects.sam2.structures import FrameMasks


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A video with both files."""
    write_sav(tmp_path)
    return tmp_path


def open_ant(root: Path, **settings: Any) -> AnnotatedVideo:
    return ClipSAVDataset(data_root=str(root), **settings).open_video('ant')


def masks_of(video: AnnotatedVideo, frame_index: int) -> FrameMasks:
    masks = video.read_masks(frame_index)
    assert masks is not None
    return masks


def test_every_fourth_frame_of_the_video_is_annotated(data_root: Path) -> None:
    video = open_ant(data_root)
    assert (video.num_frames, video.annotated_frames()) == (12, (0, 4, 8))
    assert video.read_masks(1) is None
    masks = masks_of(video, 8)
    assert masks.object_ids == video.object_ids() == (0, 1)
    np.testing.assert_array_equal(masks.masks, object_masks(8))
    assert video.read_frame(8).shape == (24, 32, 3)


def test_manual_comes_before_auto_where_both_are_wanted(data_root: Path) -> None:
    (data_root / 'ant_auto.json').unlink()
    flipped = [rle(time)[::-1] for time in (0, 4, 8)]
    write_json(data_root / 'ant_auto.json', flipped)
    both = open_ant(data_root, kinds=('manual', 'auto'), ann_every=4)
    assert masks_of(both, 4).object_ids == (0, 1, 2, 3)
    np.testing.assert_array_equal(masks_of(both, 4).masks[3], object_masks(4)[0])
    with pytest.raises(ClipDataError, match=r'distances \[1, 4\].*set ann_every'):
        open_ant(data_root, kinds=('manual', 'auto'))
    (data_root / 'ant_auto.json').unlink()
    assert open_ant(data_root, kinds=('manual', 'auto')).object_ids() == (0, 1)


def test_frame_that_lacks_a_mask_is_not_annotated(data_root: Path) -> None:
    frames: list[Any] = [rle(0), [rle(4)[0], None], None]
    write_json(data_root / 'ant_manual.json', {'masklet': frames})
    assert open_ant(data_root).annotated_frames() == (0,)


def test_frame_that_lacks_a_mask_in_one_of_two_files_is_not_annotated(
    data_root: Path,
) -> None:
    both = ('manual', 'auto')
    lacking: list[Any] = [rle(0), [rle(4)[0], None], rle(8)]
    for kind, other in (both, both[::-1]):
        whole = {'masklet': [rle(0), rle(4), rle(8)]}
        write_json(data_root / f'ant_{other}.json', whole)
        write_json(data_root / f'ant_{kind}.json', {'masklet': lacking})
        assert open_ant(data_root, kinds=both).annotated_frames() == (0, 8)
        assert masks_of(open_ant(data_root, kinds=both), 8).object_ids == (0, 1, 2, 3)
        write_json(data_root / f'ant_{kind}.json', {'masklet': lacking[:1]})
        assert open_ant(data_root, kinds=both).annotated_frames() == (0,)
        assert open_ant(data_root, kinds=(other,)).annotated_frames() == (0, 4, 8)


def test_extracted_frames_are_known_by_their_numbers(data_root: Path) -> None:
    (data_root / 'ant.mp4').unlink()
    write_frames(data_root / 'frames')
    for path in (data_root / 'frames' / 'ant').iterdir():
        if int(path.stem) % 4:
            path.unlink()
    video = open_ant(data_root, frame_folder='frames', annotation_folder='.')
    assert (video.num_frames, video.annotated_frames()) == (3, (0, 1, 2))
    assert frame_numbers(video.frames) == [0, 4, 8]
    np.testing.assert_array_equal(masks_of(video, 2).masks, object_masks(8))
    for path in (data_root / 'frames' / 'ant').iterdir():
        path.rename(path.with_stem(f'1{path.stem}'))
    with pytest.raises(ClipDataError, match='none is among the 3 frames'):
        open_ant(data_root, frame_folder='frames')


def test_frames_without_numbers_are_counted(data_root: Path) -> None:
    write_frames(data_root / 'frames')
    for path in (data_root / 'frames' / 'ant').iterdir():
        path.rename(path.with_stem(f'f{path.stem}'))
    video = open_ant(data_root, frame_folder='frames')
    assert video.annotated_frames() == (0, 4, 8)


def test_clips_in_sub_folders_and_lists_are_found(data_root: Path) -> None:
    shard = data_root / 'sav_000'
    shard.mkdir()
    for path in data_root.glob('ant*'):
        path.rename(shard / path.name)
    dataset = ClipSAVDataset(data_root=str(data_root))
    assert dataset.list_videos() == ['sav_000/ant']
    assert dataset.open_video('sav_000/ant').num_frames == 12
    (data_root / 'list.txt').write_text('sav_000/ant.mp4\nsav_000/bee\n')
    (data_root / 'not.txt').write_text('sav_000/bee\n')
    listed = ClipSAVDataset(
        data_root=str(data_root), file_list='list.txt', exclude_list='not.txt'
    )
    assert listed.list_videos() == ['sav_000/ant']


@pytest.mark.parametrize('settings', [{'kinds': ()}, {'kinds': 'x'}, {'ann_every': 0}])
def test_unknown_kind_and_distance_are_refused(
    data_root: Path, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match='manual'):
        open_ant(data_root, **settings)


def test_missing_files_and_masks_of_another_size_are_named(data_root: Path) -> None:
    with pytest.raises(ClipDataError, match='bee'):
        ClipSAVDataset(data_root=str(data_root)).open_video('bee')
    wide = {'size': [24, 33], 'counts': [24 * 33]}
    write_json(data_root / 'ant_manual.json', {'masklet': [[wide]]})
    with pytest.raises(ClipDataError, match=r'ant_manual\.json.*\(24, 33\)'):
        open_ant(data_root).read_masks(0)
    with pytest.raises(ClipDataError, match='max_file_size=9'):
        open_ant(data_root, limits={'max_file_size': 9}, max_bad_share=0.0)
    dataset = ClipSAVDataset(data_root=str(data_root))
    (data_root / 'ant_manual.json').unlink()
    with pytest.raises(ClipDataError, match=r'ant_manual\.json: is missing'):
        dataset.open_video('ant')


def test_published_example_files_are_read(data_dir: Path) -> None:
    for kind, num_objects in (('manual', 5), ('auto', 9)):
        path = data_dir / 'sam2_sav_example' / f'sav_000001_{kind}.json'
        index = index_sav(path)
        assert (len(index.marks), index.num_objects) == (122, num_objects)
        assert (index.complete, index.ann_every) == (tuple(range(121)), 4)
        masks = SAVMasks(
            indices=(index_sav(path),), position_of={4 * i: i for i in range(121)}
        )
        assert masks.object_ids() == tuple(range(num_objects))
        first = masks.read(0, (848, 480))
        later = masks.read(480, (848, 480), masks.object_ids())
        assert 0 < len(first.object_ids) <= num_objects
        assert later.masks.shape == (num_objects, 848, 480)
        # Published areas are means over all frames on which an object is seen.
        assert first.masks.any(axis=(1, 2)).all()
