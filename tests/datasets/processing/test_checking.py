"""Datasets checked clip by clip, in several processes."""

import contextlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from projects.sam2.datasets import ClipDataError, ClipPaletteDataset
from projects.sam2.datasets.processing.checking import (
    ClipReport,
    ObjectReport,
    SizeCount,
    SourceSummary,
    Spread,
    check_clip,
    check_dataset,
)
from projects.sam2.structures import FrameMasks

Labels = NDArray[np.uint8]
CheckOne = Callable[..., ClipReport]


@pytest.fixture
def check_one(
    tmp_path: Path, write_davis_clip: Callable[..., None]
) -> Callable[..., ClipReport]:
    """Writes a clip, damages it, and looks into it."""

    def write_and_check(
        *,
        labels: Callable[[int], Labels | None],
        damage: Callable[[Path], object] = Path.exists,
        decode: bool = True,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> ClipReport:
        write_davis_clip(tmp_path, 'ant', num_frames=4, labels=labels)
        damage(tmp_path)
        dataset = ClipPaletteDataset(data_root=str(tmp_path))
        return check_clip(dataset, 'ant', decode=decode, heartbeat=heartbeat)

    return write_and_check


def late_object(time: int) -> Labels | None:
    """Object 1 is always seen, 2 from frame 2 on; frame 3 has no mask."""
    labels = np.zeros((24, 32), np.uint8)
    labels[:12, :8] = 1
    if time >= 2:
        labels[20:, :16] = 2
    return None if time == 3 else labels


def test_objects_are_measured_over_the_annotated_frames(
    check_one: CheckOne,
) -> None:
    beats: list[int] = []
    assert check_one(
        labels=late_object, heartbeat=lambda: beats.append(1)
    ) == ClipReport(
        num_frames=4,
        num_annotated=3,
        decoded=True,
        sizes={(24, 32)},
        objects={
            1: ObjectReport(num_frames=3, total_area=3 * 0.125, is_late=False),
            2: ObjectReport(num_frames=1, total_area=64 / 768, is_late=True),
        },
    )
    assert len(beats) == 4


def spoil_frames(*times: int) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        for time in times:
            (root / f'JPEGImages/ant/0000{time}.jpg').write_bytes(b'nothing')

    return spoil


def test_clip_that_is_only_opened_is_not_decoded(
    check_one: CheckOne,
) -> None:
    found = check_one(labels=late_object, damage=spoil_frames(1), decode=False)
    assert found == ClipReport(num_frames=4, num_annotated=3)


def test_damaged_frame_is_named_and_the_others_are_read(
    check_one: CheckOne,
) -> None:
    found = check_one(labels=late_object, damage=spoil_frames(1))
    (problem,) = found.problems
    assert 'JPEGImages/ant/00001.jpg' in problem
    assert [each.num_frames for each in found.objects.values()] == [2, 1]


def test_message_about_many_frames_comes_once(
    check_one: CheckOne,
) -> None:
    (problem,) = check_one(labels=late_object, damage=spoil_frames(0, 1, 3)).problems
    assert 'JPEGImages/ant/00000.jpg' in problem
    assert problem.endswith('(and on 2 more frames)')


def test_frames_of_two_sizes_are_a_problem(
    check_one: CheckOne,
) -> None:
    def shrink(root: Path) -> None:
        path = str(root / 'JPEGImages/ant/00003.jpg')
        cv2.imwrite(path, np.zeros((12, 16, 3), np.uint8))

    found = check_one(labels=late_object, damage=shrink)
    assert found.problems == ('has frames of the sizes [(12, 16), (24, 32)]',)


def test_clip_without_objects_is_a_problem(
    check_one: CheckOne,
) -> None:
    found = check_one(labels=lambda time: np.zeros((24, 32), np.uint8))
    assert found.problems == ('shows no object on any frame',)


def test_masks_of_0_and_255_say_that_255_is_void(
    check_one: CheckOne,
) -> None:
    found = check_one(labels=lambda time: np.full((24, 32), 255 * (time > 0), np.uint8))
    (problem,) = found.problems
    assert 'all labelled pixels are 255, which is void; set void_label=None' in problem


def test_masks_that_cannot_be_read_are_not_called_empty(
    check_one: CheckOne,
) -> None:
    (problem,) = check_one(labels=lambda time: np.ones((9, 9), np.uint8)).problems
    assert 'mask of (9, 9) beside a frame' in problem


def test_clip_that_cannot_be_opened_is_reported_with_the_reason(
    check_one: CheckOne,
) -> None:
    def lose(root: Path) -> None:
        (root / 'JPEGImages/ant/00002.jpg').unlink()

    found = check_one(labels=late_object, damage=lose)
    assert found.num_frames == 0
    assert '00002.jpg: is missing, but its mask 00002.png exists' in found.problems[0]


class StrangeVideo:
    """Masks of another size than the frame, with an id twice."""

    name, num_frames = 'ant', 1

    def annotated_frames(self) -> tuple[int, ...]:
        """The one."""
        return (0,)

    def read_frame(self, frame_index: int) -> Labels:
        """A frame."""
        return np.zeros((4, 6, 3), np.uint8)

    def read_masks(self, frame_index: int) -> FrameMasks:
        """Its masks."""
        return FrameMasks(object_ids=(5, 5), masks=np.ones((2, 4, 5), bool))


class StrangeDataset:
    """Opens it."""

    def open_video(self, name: str) -> StrangeVideo:
        """Open."""
        return StrangeVideo()


def test_problems_that_a_reader_accepts_are_reported() -> None:
    found = check_clip(StrangeDataset(), 'ant', decode=True, heartbeat=lambda: None)  # type: ignore[arg-type]
    assert found.problems == (
        'frame 0: has an object id twice',
        'frame 0: is (4, 6), its masks are (4, 5)',
    )


def test_long_list_of_problems_is_cut() -> None:
    report = ClipReport()
    for index in range(10):
        report.add_problem(f'a.png: {index}')
    assert report.problems[-1] == 'a.png: 9'
    for index in (10, 11):
        report.add_problem(f'a.png: {index}')
    assert report.problems[9:] == ('a.png: 9', 'and 2 more like these')


def check(*configs: dict[str, Any], **settings: Any) -> list[SourceSummary]:
    return check_dataset(
        {'type': 'ConcatDataset', 'datasets': list(configs)},
        **{
            'sample': None,
            'num_workers': 2,
            'time_limit': 30,
            'advance': lambda done, total: None,
            **settings,
        },
    )


def palette(root: Path, **settings: str) -> dict[str, Any]:
    return {'type': 'ClipPaletteDataset', 'data_root': str(root), **settings}


def test_sources_are_kept_apart(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp('other')
    steps: list[tuple[int, int]] = []
    good, gone, made = check(
        palette(root),
        palette(other),
        {'type': 'ClipSyntheticDataset', 'num_clips': 1},
        advance=lambda done, total: steps.append((done, total)),
    )
    assert (good.num_clips, good.num_decoded, good.num_bad) == (3, 3, 0)
    assert (good.num_objects, good.num_frames) == (6, 18)
    assert gone.num_clips == 0
    assert 'must hold a folder JPEGImages' in gone.problems[0].problem
    assert (made.kind, made.num_decoded, made.num_bad) == ('ClipSyntheticDataset', 1, 0)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_only_the_first_generated_clip_is_checked() -> None:
    steps: list[tuple[int, int]] = []
    (found,) = check(
        {'type': 'ClipSyntheticDataset', 'num_clips': 500},
        advance=lambda done, total: steps.append((done, total)),
    )
    assert (found.num_clips, found.num_decoded, found.is_generated) == (500, 1, True)
    assert steps == [(1, 1)]


def test_sample_opens_all_and_decodes_some(root: Path) -> None:
    (found,) = check(palette(root), sample=2)
    assert (found.num_opened, found.num_decoded) == (3, 2)
    assert check(palette(root), sample=2) == [found]


def test_clip_that_is_listed_twice_is_a_problem(root: Path) -> None:
    (root / 'list.txt').write_text('bee\nant\nbee\n')
    (found,) = check(palette(root, file_list='list.txt'))
    assert [(each.clip, each.problem) for each in found.problems] == [
        ('bee', 'is listed 2 times')
    ]
    assert found.num_clips == 2


def test_reader_that_dies_costs_its_clip_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., Any] = ClipPaletteDataset.open_video

    def die_on_bee(self: ClipPaletteDataset, name: str) -> Any:
        return os._exit(9) if name == 'bee' else whole(self, name)

    monkeypatch.setattr(ClipPaletteDataset, 'open_video', die_on_bee)
    (found,) = check(palette(root))
    (problem,) = found.problems
    assert problem.clip == 'bee'
    assert problem.problem == 'cannot be checked: its process exited with code 9'
    assert found.num_decoded == 2


def test_file_list_that_is_missing_is_a_problem_of_its_source(root: Path) -> None:
    (found,) = check(palette(root, file_list='none.txt'))
    assert 'none.txt is missing' in found.problems[0].problem
    assert (found.num_clips, found.num_bad) == (0, 1)


def test_summary_measures_what_was_decoded(
    tmp_path: Path, write_davis_clip: Callable[..., None]
) -> None:
    def labels(time: int) -> Labels | None:
        """Every second frame: object 1, and on the last one object 2 as well."""
        if time % 2:
            return None
        frame = np.zeros((24, 32), np.uint8)
        frame[:6] = 1
        frame[12:, :] = 2 * (time == 8)
        return frame

    write_davis_clip(tmp_path, 'a', num_frames=10, labels=labels)
    write_davis_clip(tmp_path, 'b', num_frames=6, labels=labels)
    write_davis_clip(tmp_path, 'c', num_frames=8, labels=labels)
    (tmp_path / 'JPEGImages/c/00000.jpg').unlink()
    (found,) = check(palette(tmp_path))
    assert (found.num_clips, found.num_opened, found.num_decoded) == (3, 2, 2)
    assert (found.num_bad, [each.clip for each in found.problems]) == (1, ['c'])
    assert (found.num_frames, found.annotated_share) == (16, 0.5)
    assert found.frames_per_clip == Spread(minimum=6, median=8, maximum=10)
    assert found.sizes == (SizeCount(height=24, width=32, num_clips=2),)
    assert (found.num_objects, found.num_late_objects) == (3, 1)
    assert found.objects_per_clip == Spread(minimum=1, median=1.5, maximum=2)
    assert found.object_area == Spread(minimum=0.25, median=0.25, maximum=0.5)
    assert found.seen_share == Spread(minimum=0.2, median=1, maximum=1)


def test_most_frequent_size_comes_first(
    root: Path, write_davis_clip: Callable[..., None]
) -> None:
    frame = str(root / 'JPEGImages/ant/00000.jpg')
    cv2.imwrite(frame, np.zeros((12, 16, 3), np.uint8))
    (found,) = check(palette(root))
    assert [(s.height, s.num_clips) for s in found.sizes] == [(24, 3), (12, 1)]


def test_source_without_readable_clips_has_no_spread(root: Path) -> None:
    for name in ('ant', 'bee', 'cat'):
        (root / f'JPEGImages/{name}/00000.jpg').unlink()
    (found,) = check(palette(root))
    assert (found.num_clips, found.num_opened, found.num_bad) == (3, 0, 3)
    assert found.frames_per_clip is None
    assert found.object_area is None
    assert found.annotated_share == 0


def appearing(first: int, last: int) -> Callable[[int], NDArray[np.uint8]]:
    """Labels of an object that is seen from one frame to another."""

    def labels(time: int) -> NDArray[np.uint8]:
        return np.full((24, 32), first <= time <= last, np.uint8)

    return labels


def write_odd_clips(root: Path, write: Callable[..., None]) -> None:
    """Clips of which training can use some, however they are drawn."""
    write(
        root, 'first', labels=lambda time: appearing(0, 9)(time) if not time else None
    )
    write(root, 'leaves', labels=appearing(0, 0))
    write(root, 'late', labels=appearing(5, 5))
    write(root, 'short', num_frames=2)
    write(root, 'brief', num_frames=4)
    write(root, 'empty', labels=appearing(9, 9))
    write(root, 'tiny', labels=lambda time: np.eye(24, 32, 31, np.uint8) * (time >= 0))


def test_clips_are_bad_exactly_if_training_cannot_use_them(
    root: Path, write_davis_clip: Callable[..., None], pipeline: list[dict[str, Any]]
) -> None:
    write_odd_clips(root, write_davis_clip)
    pipeline[0] |= {'reverse_probability': 0.5, 'later_num_frames': ((4, 5),)}
    pipeline[4] = {'type': 'ClipResize', 'size': (8, 8)}
    config = palette(root) | {'pipeline': pipeline, 'max_bad_share': 1.0}

    def unusable(num_epochs: int) -> set[str]:
        """Clips of which training makes no sample in its last epoch."""
        dataset = DATASETS.build(config)
        names = dataset.list_videos()
        bad = {*names}
        for index, name in enumerate(names):
            with contextlib.suppress(ClipDataError):
                if dataset[num_epochs - 1, index].video_name == name:
                    bad.remove(name)
        return bad

    for num_epochs, expected in (
        (4, {'short', 'empty', 'tiny'}),
        (5, {'short', 'empty', 'tiny', 'brief'}),
    ):
        (found,) = check(config, num_epochs=num_epochs)
        assert {each.clip for each in found.problems} == expected
        assert unusable(num_epochs) == expected
        assert len(found.problems) == len(expected)
    (brief,) = [each.problem for each in found.problems if each.clip == 'brief']
    assert brief == (
        'training cannot use it after 4 epochs: brief: needs 5 frames, has 4; lower '
        'num_frames or drop the video'
    )


def test_views_are_drawn_as_training_draws_them(
    root: Path, pipeline: list[dict[str, Any]]
) -> None:
    def view(stride: int) -> dict[str, Any]:
        steps = [dict(step) for step in pipeline]
        inner = palette(root, file_list='list.txt')
        kind = 'ClipStrideDataset'
        return {'type': kind, 'stride': stride, 'dataset': inner, 'pipeline': steps}

    (root / 'list.txt').write_text('ant\n')
    source, fits, too_wide = check(view(2), view(3))
    assert (source.kind, source.num_decoded) == ('ClipPaletteDataset', 1)
    assert (fits.kind, fits.num_opened, fits.num_decoded) == ('ClipStrideDataset', 1, 0)
    assert not source.problems + fits.problems
    (problem,) = too_wide.problems
    assert 'needs 3 frames, has 2' in problem.problem
    (root / 'list.txt').unlink()
    (missing,) = check(view(2))
    assert 'list.txt is missing' in missing.problems[0].problem


def test_damaged_file_is_reported_once_by_decoding_and_drawing(
    root: Path, pipeline: list[dict[str, Any]]
) -> None:
    # Each clip of three frames has one of these; the others show its objects.
    for time in (2, 3):
        (root / f'JPEGImages/bee/0000{time}.jpg').write_bytes(b'nothing')
    (found,) = check(palette(root) | {'pipeline': pipeline})
    (problem,) = found.problems
    assert problem.clip == 'bee'
    assert problem.problem.endswith('(and on 1 more frames)')
    assert found.num_objects == 6


@pytest.mark.parametrize(
    ('options', 'says'),
    [({'sample': -1}, 'sample is -1'), ({'time_limit': math.nan}, 'nan s')],
)
def test_invalid_sample_and_time_limit_are_refused(
    root: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        check(palette(root), **options)


@pytest.mark.parametrize(
    ('kind', 'folder', 'settings', 'num_clips'),
    [
        ('ClipPaletteDataset', 'mini_vos', {}, 4),
        ('ClipPaletteDataset', 'davis16_240p', {'void_label': None}, 32),
        ('ClipSA1BDataset', 'sa1b_style_cells', {}, 11),
    ],
)
def test_real_clips_have_no_problem(
    data_dir: Path, kind: str, folder: str, settings: dict[str, Any], num_clips: int
) -> None:
    config = {'type': kind, 'data_root': str(data_dir / folder), **settings}
    (found,) = check(config, sample=2, num_workers=1, time_limit=120)
    assert not found.problems
    assert (found.num_clips, found.num_decoded) == (num_clips, 2)
    assert found.num_objects >= 2


@pytest.mark.parametrize('kind', ['manual', 'auto'])
def test_genuine_sav_annotations_have_no_problem(
    data_dir: Path, tmp_path: Path, kind: str
) -> None:
    source = data_dir / 'sam2_sav_example'
    content = json.loads((source / f'sav_000001_{kind}.json').read_text())
    size = (int(content['video_height']), int(content['video_width']))
    frames = tmp_path / 'sav_000001'
    frames.mkdir()
    # The video itself is not public: its frames are black, and only some are there.
    cv2.imwrite(str(frames / '00000.jpg'), np.zeros((*size, 3), np.uint8))
    for number in range(40, int(content['video_frame_count']), 40):
        os.link(frames / '00000.jpg', frames / f'{number:05d}.jpg')
    config = {
        'type': 'ClipSAVDataset',
        'data_root': str(source),
        'frame_folder': str(tmp_path),
        'kinds': (kind,),
    }
    (found,) = check(config, sample=1, num_workers=1, time_limit=120)
    assert not found.problems
    assert found.annotated_share == 1
    assert found.num_objects >= 2
