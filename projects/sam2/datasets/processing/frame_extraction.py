"""Takes the frames out of video files, each video whole or not at all."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...ops import flush_and_rename, import_optional
from ..io.errors import REPLACE_FILE, ClipDataError
from ..io.frames import VideoFileFrames
from ..io.listing import (
    VIDEO_SUFFIX,
    child,
    find_file,
    find_stems,
    list_names,
    scan_folder,
)
from .worker_pool import Beat, run_supervised

JPEG_SUFFIX = '.jpg'


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionPlan:
    """How frames are taken out.

    Attributes:
        videos: Folder of the mp4 files, which may lie in sub-folders.
        out: Folder that gets a folder for each video, in the same sub-folders.
        every: Distance between the frames that are taken; they keep their numbers.
        quality: Of the JPEG files, 1 to 100.
    """

    videos: Path
    out: Path
    every: int = 1
    quality: int = 95

    def __post_init__(self) -> None:
        """Check the numbers and that there are videos."""
        if self.every < 1 or not 1 <= self.quality <= 100:
            msg = (
                f'every={self.every}, quality={self.quality}; give a positive number '
                f'and one from 1 to 100'
            )
            raise ValueError(msg)
        if not self.videos.is_dir():
            msg = f'{self.videos} is no folder; give the one that holds the mp4 files'
            raise FileNotFoundError(msg)

    @property
    def aside(self) -> Path:
        """Folder of what is not whole yet, beside ``out`` and never in it."""
        return self.out.with_name(f'.{self.out.name}.unfinished')


def find_mp4(plan: ExtractionPlan, file_list: Path | None) -> list[str]:
    """Name the videos.

    Args:
        file_list: Text file with one name a line; None for all.

    Returns:
        Paths below ``plan.videos`` without their ending.

    Raises:
        FileNotFoundError: If there is no list, or no video.
        ValueError: If the list names no video that is there.
    """
    find = partial(find_stems, suffixes=(VIDEO_SUFFIX,))
    if file_list is not None:
        return list_names(
            data_root=file_list.parent,
            folder=plan.videos,
            file_list=file_list.name,
            exclude_list=None,
            find=find,
        )
    names = sorted(find(plan.videos))
    if not names:
        msg = f'{plan.videos} holds no {VIDEO_SUFFIX}, nor do its sub-folders'
        raise FileNotFoundError(msg)
    return names


def extract_video(plan: ExtractionPlan, name: str, beat: Beat) -> int:
    """Take the frames out of a video, unless that is done.

    They are written aside; the folder gets its name when it is whole: when as many
    frames were decoded as the header promises, and a file of each is there.

    Args:
        name: Of the video, see :func:`find_mp4`.

    Returns:
        Number of frames that were written; 0 where they were there.

    Raises:
        ClipDataError: If the video is damaged, or another number of frames is there.
        OSError: If a frame cannot be written.
    """
    video = find_file(child(plan.videos, name), (VIDEO_SUFFIX,))
    header = VideoFileFrames.open(video)
    expected = len(range(0, header.num_frames, plan.every))
    folder = child(plan.out, name)
    if folder.is_dir():
        _check_number(folder, expected, plan)
        return 0
    aside = plan.aside / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for index, frame in _chosen_frames(header, plan.every):
            _write_jpeg(aside / f'{index:05d}{JPEG_SUFFIX}', frame, plan.quality)
            beat()
        _check_number(aside, expected, plan)
        folder.parent.mkdir(parents=True, exist_ok=True)
        flush_and_rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return expected


def remove_leftovers(plan: ExtractionPlan) -> None:
    """Remove what interrupted runs left unfinished, once no run goes on."""
    shutil.rmtree(plan.aside, ignore_errors=True)


def _chosen_frames(
    header: VideoFileFrames, every: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode a video from its begin to its end; every n-th frame with its number."""
    capture = cv2.VideoCapture(str(header.path.absolute()), cv2.CAP_FFMPEG)
    num_decoded = 0
    while capture.grab():
        if num_decoded % every == 0:
            done, frame = capture.retrieve()
            if not done:
                break
            yield num_decoded, np.asarray(frame, np.uint8)
        num_decoded += 1
    capture.release()
    if num_decoded != header.num_frames:
        problem = f'holds {num_decoded} frames, its header says {header.num_frames}'
        raise ClipDataError.at(header.path, problem, REPLACE_FILE)


def _write_jpeg(path: Path, frame: NDArray[np.uint8], quality: int) -> None:
    done, encoded = cv2.imencode(
        JPEG_SUFFIX, frame, [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        msg = f'{path}: the frame cannot be encoded'
        raise OSError(msg)
    path.write_bytes(encoded.tobytes())


def _check_number(folder: Path, expected: int, plan: ExtractionPlan) -> None:
    """Compare the number of files with that of the frames."""
    found = sum(entry.name.endswith(JPEG_SUFFIX) for entry in scan_folder(folder))
    if found != expected:
        problem = f'holds {found} frames, expected {expected} with every={plan.every}'
        remedy = 'remove the folder to have the frames taken out again'
        raise ClipDataError.at(folder, problem, remedy)


FRAME_SECONDS = 120.0  # after which a video counts as one that hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOutcome:
    """What became of a video.

    Attributes:
        name: Of the video.
        num_written: Frames that were written; 0 where they were there already.
        problem: Why there are none, or None.
    """

    name: str
    num_written: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArray:
    """An array of jobs.

    Attributes:
        cluster: ``slurm``; ``local`` for jobs on this machine, ``debug`` for none.
        num_jobs: Jobs among which the videos are dealt.
        minutes: Time limit of a job.
        partition: Of the cluster; None for its default.
        logs: Folder that submitit writes to.
    """

    cluster: str
    num_jobs: int
    minutes: int
    partition: str | None
    logs: Path


def extract_here(
    plan: ExtractionPlan, names: Sequence[str], *, num_workers: int
) -> Iterator[VideoOutcome]:
    """Take out the frames of videos in processes of this machine."""
    for outcome in run_supervised(
        names,
        partial(extract_video, plan),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    ):
        yield VideoOutcome(
            name=outcome.task,
            num_written=outcome.result or 0,
            problem=outcome.problem,
        )


def submit_extraction(
    plan: ExtractionPlan, names: Sequence[str], array: JobArray, *, num_workers: int
) -> list[Any]:
    """Submit the videos as an array of jobs.

    Returns:
        submitit's jobs.

    Raises:
        ModuleNotFoundError: If submitit is not installed.
        ValueError: If there is no job.
    """
    if array.num_jobs < 1:
        msg = f'num_jobs is {array.num_jobs}; give a positive number'
        raise ValueError(msg)
    absolute = ExtractionPlan(
        videos=plan.videos.absolute(),
        out=plan.out.absolute(),
        every=plan.every,
        quality=plan.quality,
    )
    executor = import_optional('submitit', purpose='An array of jobs').AutoExecutor(
        folder=array.logs, cluster=array.cluster
    )
    executor.update_parameters(
        name='extract_frames', timeout_min=array.minutes, cpus_per_task=num_workers
    )
    if array.partition is not None:
        executor.update_parameters(slurm_partition=array.partition)
    shares = [list(names[first :: array.num_jobs]) for first in range(array.num_jobs)]
    jobs: list[Any] = executor.map_array(
        partial(extract_share, absolute, num_workers), [s for s in shares if s]
    )
    return jobs


def extract_share(
    plan: ExtractionPlan, num_workers: int, names: Sequence[str]
) -> list[VideoOutcome]:
    """What a job of the array does."""
    return list(extract_here(plan, names, num_workers=num_workers))


def gather(
    jobs: Sequence[Any], report: Callable[[VideoOutcome], None]
) -> dict[str, str]:
    """Wait for the jobs of an array.

    Args:
        jobs: submitit's jobs.
    """
    failures = {}
    for job in jobs:
        error = job.exception()
        if error is not None:
            failures[str(job.job_id)] = str(error).strip() or type(error).__name__
            continue
        for outcome in job.result():
            report(outcome)
    return failures
