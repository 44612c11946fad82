"""SA-V's training set: its clips, and the index of its annotation files."""

import json
import math
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_folders import object_masks, rle, write_frames, write_json, write_sav
from projects.sam2.datasets import AnnotatedVideo, ClipDataError, ClipSAVDataset
from projects.sam2.datasets.io.errors import ReadLimits
from projects.sam2.datasets.sources import sav
from projects.sam2.datasets.sources.sav import (
    SAVMasks,
    element_spans,
    frame_numbers,
    index_sav,
)
from projects.sam2.ops import encode_masks
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


def test_manual_objects_come_before_auto_objects(data_root: Path) -> None:
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


def test_extracted_frames_are_matched_by_number(data_root: Path) -> None:
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


def test_missing_files_and_masks_of_another_size_are_refused(data_root: Path) -> None:
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


JSON_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(alphabet='a[]{}",\\:ü\n', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet='mas"\\k:', max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def noisy_codes(num_frames: int, num_objects: int) -> list[list[dict[str, Any]]]:
    """Masks with ragged edges, as SA-V has them."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(num_frames):
        masks = np.zeros((num_objects, 240, 320), bool)
        for mask in masks:
            for column in range(40, 280):
                top, height = rng.integers(40, 60), rng.integers(80, 100)
                mask[top : top + height, column] = True
        frames.append([dict(code) for code in encode_masks(masks)])
    return frames


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON_VALUES, min_size=1, max_size=5), JSON_VALUES, st.booleans())
def test_elements_of_any_json_are_found(
    frames: list[Any],
    other: Any,
    spaced: bool,
) -> None:
    separators = (' , ', ' : ') if spaced else (',', ':')
    content = {'a': other, 'b': {'masks': [1]}, 'masks': frames, 'c': [other, 'masks']}
    for key, value in (('masks', content), (None, frames)):
        text = json.dumps(value, separators=separators).encode()
        found = [orjson.loads(text[a:b]) for a, b in element_spans(text, key)]
        assert found == frames


def test_all_forms_of_the_file_are_read(tmp_path: Path) -> None:
    frames = [['a', 'b'], ['c', 'd']]
    cases: list[tuple[Any, int]] = [
        ({'masklet': frames}, 4),
        ({'masks': frames, 'fps': [6.0]}, 4),
        ({'masks': frames, 'fps': 12}, 2),
        ({'masks': frames, 'fps': 0.1}, 240),
        (frames, 1),
    ]
    for number, (content, ann_every) in enumerate(cases):
        index = index_sav(write_json(tmp_path / f'{number}.json', content))
        assert (index.ann_every, index.num_objects) == (ann_every, 2)
        assert [index.read(i) for i in (1, 0)] == [['c', 'd'], ['a', 'b']]


def test_frame_that_lacks_a_mask_is_incomplete(tmp_path: Path) -> None:
    content = {'masklet': [['a', 'b'], None, ['c', None], ['d', 'e']]}
    index = index_sav(write_json(tmp_path / 'a.json', content))
    assert index.complete == (0, 3)
    assert index.incomplete == (1, 2)
    assert index.read(3) == ['d', 'e']


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_json(tmp_path / 'a.json', [['a']])
    assert index_sav(path).read(0) == ['a']
    index = index_sav(write_json(path, [['bcd'], ['e']]))
    assert index.read(1) == ['e']
    path.write_text('[["x"')
    with pytest.raises(ClipDataError, match='changed while it was read'):
        index.read(1)


def write_videos(root: Path, num_videos: int) -> list[Path]:
    """Annotations as long as SA-V's are on average, 14 seconds."""
    content = [[{'size': [1, 1], 'counts': '0'}]] * 85
    return [
        write_json(root / f'sav_{number:06d}_manual.json', {'masklet': content})
        for number in range(num_videos)
    ]


def test_indices_of_fifty_thousand_videos_fit_into_200_megabytes(
    tmp_path: Path,
) -> None:
    paths = write_videos(tmp_path, 300)
    index_sav(paths[0])
    tracemalloc.start()
    indices = [index_sav(path) for path in paths]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 50_000 * kept / len(paths) < 200 * 10**6
    counted = indices[0].num_bytes
    assert 50_000 * counted < sav.MAX_INDEX_BYTES < 200 * 10**6
    assert kept / len(paths) < 1.2 * counted


def test_oldest_indices_are_evicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = write_videos(tmp_path, 3)
    monkeypatch.setattr(sav, '_indices', sav._IndexCache())
    room = 2 * index_sav(first).num_bytes
    monkeypatch.setattr(sav, 'MAX_INDEX_BYTES', room)
    before = {path: index_sav(path) for path in (second, first)}
    assert all(index_sav(path) is before[path] for path in before)
    index_sav(third)
    assert index_sav(second) is before[second]
    assert index_sav(first) is not before[first]


def test_offsets_in_a_large_file_need_not_fit_32_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index_sav(write_videos(tmp_path, 1)[0]).marks.dtype == np.uint32
    monkeypatch.setattr(sav, 'SMALL_FILE', 9)
    index = index_sav(write_json(tmp_path / 'a.json', [['abc'], ['d']]))
    assert index.marks.dtype == np.uint64
    assert index.read(1) == ['d']


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (7, 'the content is 7'),
        ({'mask': []}, 'no list masklet or masks'),
        ({'masklet': 7}, 'masklet is 7'),
        ({'masklet': []}, 'frames of'),
        ({'masklet': [['a'], ['a', 'b']]}, r'frames of \[1, 2\] objects'),
        ({'masklet': [['a'], 7]}, 'has frame 7'),
        ({'masklet': [['a']], 'fps': 7}, 'fps 7.0.*set ann_every'),
        ({'masklet': [['a']], 'fps': 5e-324}, 'fps 5e-324.*set ann_every'),
        ({'masklet': [['a']], 'fps': math.nan}, 'fps nan'),
        ({'masklet': [['a']], 'fps': math.inf}, 'fps inf'),
        ({'masklet': [['a']], 'fps': 10**400}, 'fps is 1000'),
        ({'masklet': [['a']], 'fps': 'x'}, "fps is 'x'"),
        ({'masklet': [['a']], 'fps': []}, 'fps is a list'),
        ({'masklet': [['a']], 'fps': -6}, 'fps'),
    ],
)
def test_malformed_file_is_refused(
    tmp_path: Path,
    content: Any,
    reason: str,
) -> None:
    path = write_json(tmp_path / 'a.json', content)
    with pytest.raises(ClipDataError, match=rf'a\.json: .*{reason}'):
        index_sav(path)


def test_escaped_name_and_large_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    path.write_text('{"m\\u0061sks": [["a"], ["b"]]}')
    with pytest.raises(ClipDataError, match='without escapes'):
        index_sav(path)
    with pytest.raises(ClipDataError, match='max_file_size=9'):
        index_sav(path, ReadLimits(max_file_size=9))


def test_reading_with_an_index_is_ten_times_faster_than_parsing(
    tmp_path: Path,
) -> None:
    path = write_json(tmp_path / 'a.json', {'masklet': noisy_codes(120, 8)})
    chosen = range(8, 72, 8)
    index_sav(path)

    def read() -> list[Any]:
        index = index_sav(path)
        return [index.read(i) for i in chosen]

    def parse() -> list[Any]:
        frames = json.loads(path.read_bytes())['masklet']
        return [frames[i] for i in chosen]

    def seconds(function: Any) -> float:
        began = time.process_time()
        for _ in range(5):
            function()
        return time.process_time() - began

    assert read() == parse()
    slow, quick = (min(seconds(f) for _ in range(3)) for f in (parse, read))
    assert slow >= 10 * quick
