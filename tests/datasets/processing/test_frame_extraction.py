"""Frames extracted from video files: whole folders, or none."""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.sam2.datasets import ClipDataError
from projects.sam2.datasets.io.frames import VideoFileFrames, open_frames
from projects.sam2.datasets.processing import frame_extraction
from projects.sam2.datasets.processing.frame_extraction import (
    ExtractionPlan,
    collect_results,
    extract_video,
    extract_videos,
    find_mp4,
    submit_jobs,
)
from projects.sam2.datasets.processing.worker_pool import TaskResult

NUM_FRAMES = 10


def write_mp4(path: Path, num_frames: int = NUM_FRAMES) -> None:
    """Write a bluish video of which each frame is brighter than the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 24, (64, 48))
    for time in range(num_frames):
        writer.write(np.full((48, 64, 3), (24 * time, 18 * time, 18 * time), np.uint8))
    writer.release()


@pytest.fixture
def plan(tmp_path: Path) -> ExtractionPlan:
    """Two videos, one in a sub-folder; every third frame."""
    write_mp4(tmp_path / 'videos/ant.mp4')
    write_mp4(tmp_path / 'videos/sav_000/bee.mp4')
    return ExtractionPlan(videos=tmp_path / 'videos', out=tmp_path / 'out', every=3)


def extract(plan: ExtractionPlan, name: str = 'ant') -> int:
    return extract_video(plan, name, heartbeat=lambda: None)


def files(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file()
    )


def test_every_third_frame_keeps_its_number(plan: ExtractionPlan) -> None:
    assert extract(plan) == 4
    names = files(plan.out)
    assert names == [f'ant/{time:05d}.jpg' for time in (0, 3, 6, 9)]
    images = open_frames(plan.out, 'ant')
    levels = [images.read(i).mean() for i in range(4)]
    assert np.allclose(levels, [0, 60, 120, 180], atol=4)


def test_frames_equal_those_of_the_video_reader(plan: ExtractionPlan) -> None:
    extract(plan)
    images, video = (open_frames(f, 'ant') for f in (plan.out, plan.videos))
    difference = images.read(2).astype(int) - video.read(6)
    assert np.abs(difference).max() <= 2


def test_sub_folders_are_kept(plan: ExtractionPlan) -> None:
    assert find_mp4(plan, None) == ['ant', 'sav_000/bee']
    extract(plan, 'sav_000/bee')
    assert files(plan.out)[0] == 'sav_000/bee/00000.jpg'


def test_file_list_selects_the_videos(plan: ExtractionPlan, tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('sav_000/bee.mp4\n')
    assert find_mp4(plan, tmp_path / 'list.txt') == ['sav_000/bee']


def test_suffix_may_be_in_upper_case(
    plan: ExtractionPlan,
) -> None:
    (plan.videos / 'ant.mp4').rename(plan.videos / 'ant.MP4')
    assert find_mp4(plan, None) == ['ant', 'sav_000/bee']
    assert extract(plan) == 4


def test_finished_video_is_not_written_again(plan: ExtractionPlan) -> None:
    extract(plan)
    before = (plan.out / 'ant').stat().st_mtime_ns
    assert extract(plan) == 0
    assert (plan.out / 'ant').stat().st_mtime_ns == before


def test_folder_that_lacks_a_frame_is_an_error(
    plan: ExtractionPlan,
) -> None:
    extract(plan)
    (plan.out / 'ant/00003.jpg').unlink()
    with pytest.raises(ClipDataError, match=r'holds 3 frames, expected 4 .*remove'):
        extract(plan)


def cut(path: Path) -> None:
    """Keep the header, which promises more frames than the file then holds."""
    content = path.read_bytes()
    begin = content.index(b'mdat') - 4
    moov = content.index(b'moov') - 4
    header, media = content[moov:], content[begin:moov]
    half = len(media) // 2
    path.write_bytes(content[:begin] + media[:half] + bytes(len(media) - half) + header)


def test_video_with_fewer_frames_than_its_header_says_leaves_nothing(
    plan: ExtractionPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Promising(VideoFileFrames):
        """Says that there is a frame more."""

        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.num_frames += 1

    monkeypatch.setattr(frame_extraction, 'VideoFileFrames', Promising)
    with pytest.raises(ClipDataError, match='holds 10 frames, its header says 11'):
        extract(plan)
    assert not files(plan.out.parent / 'out')
    assert not files(plan.unfinished)


@pytest.mark.parametrize('damage', [cut, lambda path: path.write_bytes(b'no video')])
def test_broken_video_leaves_nothing(
    plan: ExtractionPlan, damage: Callable[[Path], object]
) -> None:
    damage(plan.videos / 'ant.mp4')
    with pytest.raises(ClipDataError, match=r'ant\.mp4'):
        extract(plan)
    assert not plan.out.exists()


def test_interrupted_video_is_never_in_the_folder_of_frames(
    plan: ExtractionPlan,
) -> None:
    seen: list[bool] = []

    def interrupt() -> None:
        seen.append(plan.out.exists())
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_video(plan, 'ant', heartbeat=interrupt)
    assert seen == [False, False]
    assert extract(plan) == 4


def test_files_of_a_killed_run_are_replaced(plan: ExtractionPlan) -> None:
    (plan.unfinished / 'ant').mkdir(parents=True)
    (plan.unfinished / 'ant/00007.jpg').write_bytes(b'half')
    assert extract(plan) == 4
    assert len(files(plan.out / 'ant')) == 4


def test_name_cannot_leave_the_folder(plan: ExtractionPlan) -> None:
    with pytest.raises(ClipDataError, match='not inside it'):
        extract(plan, '../videos/ant')


@pytest.mark.parametrize(('every', 'quality'), [(0, 95), (1, 0), (1, 101)])
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, every: int, quality: int
) -> None:
    with pytest.raises(ValueError, match=f'every={every}, quality={quality}'):
        ExtractionPlan(videos=tmp_path, out=tmp_path, every=every, quality=quality)


def test_folder_without_videos_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere is no folder'):
        ExtractionPlan(videos=tmp_path / 'nowhere', out=tmp_path)
    with pytest.raises(FileNotFoundError, match=r'hold no \.mp4'):
        find_mp4(ExtractionPlan(videos=tmp_path, out=tmp_path), None)


@pytest.fixture
def broken(plan: ExtractionPlan) -> ExtractionPlan:
    """A third video, which is broken."""
    (plan.videos / 'bad.mp4').write_bytes(b'no video')
    return plan


def check(results: list[TaskResult[str, int]], out: Path) -> None:
    of_name = {result.task: result for result in results}
    assert {name: each.result for name, each in of_name.items()} == {
        'ant': 4,
        'bad': None,
        'sav_000/bee': 4,
    }
    assert 'bad.mp4: is not an mp4 file' in str(of_name['bad'].error)
    assert sorted(path.name for path in out.iterdir()) == ['ant', 'sav_000']
    assert len(list((out / 'sav_000/bee').iterdir())) == 4


def test_broken_video_does_not_stop_the_others(broken: ExtractionPlan) -> None:
    names = find_mp4(broken, None)
    check(list(extract_videos(broken, names, num_workers=2)), broken.out)
    again = extract_videos(broken, names, num_workers=1)
    assert [result.result for result in again] == [0, None, 0]


def submit(
    plan: ExtractionPlan, *, cluster: str = 'debug', num_jobs: int = 2
) -> list[object]:
    names = find_mp4(plan, None)
    return submit_jobs(
        plan,
        names,
        num_workers=1,
        num_jobs=num_jobs,
        minutes=5,
        logs=plan.out.with_name('logs'),
        cluster=cluster,
    )


@pytest.mark.parametrize(('cluster', 'num_jobs'), [('debug', 2), ('local', 1)])
@pytest.mark.filterwarnings('ignore::ResourceWarning')
@pytest.mark.timeout(600)  # a job is a process of its own, slow to start
def test_jobs_write_the_same_frames(
    broken: ExtractionPlan, cluster: str, num_jobs: int
) -> None:
    pytest.importorskip('submitit')
    jobs = submit(broken, cluster=cluster, num_jobs=num_jobs)
    assert len(jobs) == num_jobs
    results: list[TaskResult[str, int]] = []
    assert collect_results(jobs, results.append) == {}
    check(results, broken.out)


class FailedJob:
    """A job whose machine went away."""

    job_id = '17_3'

    def exception(self) -> Exception:
        """Say what happened."""
        return RuntimeError('node lost')


def test_failed_job_is_named() -> None:
    results: list[TaskResult[str, int]] = []
    assert collect_results([FailedJob()], results.append) == {'17_3': 'node lost'}
    assert not results


def test_missing_submitit_is_an_error_with_its_remedy(
    plan: ExtractionPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(ModuleNotFoundError, match='pip install submitit'):
        submit(plan)


def test_array_of_no_jobs_is_refused(plan: ExtractionPlan) -> None:
    with pytest.raises(ValueError, match='num_jobs is 0'):
        submit(plan, num_jobs=0)
