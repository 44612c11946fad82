"""Extract the frames of mp4 files as JPEG files, on this machine or in SLURM jobs.

A video's folder appears only when all its frames are written, so an interrupted run
continues where it stopped.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...ops import flush_and_rename, import_optional
from ..io.errors import REPLACE_FILE, ClipDataError
from ..io.frames import VideoFileFrames
from ..io.images import write_jpeg
from ..io.listing import (
    VIDEO_SUFFIX,
    find_file,
    find_stems,
    list_names,
    safe_join,
    scan_folder,
)
from .worker_pool import Heartbeat, TaskResult, run_tasks

FRAME_SECONDS = 120.0  # a worker that takes longer for one frame is killed


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionPlan:
    """Which frames are extracted, from where to where.

    Attributes:
        videos: Folder of the mp4 files, which may lie in sub-folders.
        out: Output folder; each video gets a folder in the same sub-folder.
        every: Keep every n-th frame, under its number in the video.
        quality: JPEG quality, 1 to 100.
    """

    videos: Path
    out: Path
    every: int = 1
    quality: int = 95

    def __post_init__(self) -> None:
        """Check the numbers and the folder."""
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
    def unfinished(self) -> Path:
        """Folder of videos in progress, beside ``out``."""
        return self.out.with_name(f'.{self.out.name}.unfinished')


def find_mp4(plan: ExtractionPlan, file_list: Path | None) -> list[str]:
    """List the videos as paths below ``plan.videos`` without their suffix.

    Args:
        file_list: Text file with one name per line; None for all videos.

    Raises:
        FileNotFoundError: If the list is missing, or there is no video.
        ValueError: If no name of the list is that of a video.
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
        msg = f'{plan.videos} and its sub-folders hold no {VIDEO_SUFFIX} file'
        raise FileNotFoundError(msg)
    return names


def extract_videos(
    plan: ExtractionPlan, names: Sequence[str], *, num_workers: int
) -> Iterator[TaskResult[str, int]]:
    """Extract videos in worker processes; see :func:`extract_video`."""
    return run_tasks(
        names,
        partial(extract_video, plan),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    )


def extract_video(plan: ExtractionPlan, name: str, heartbeat: Heartbeat) -> int:
    """Extract the frames of a video, unless its folder exists.

    Returns:
        Number of frames written; 0 if they existed.

    Raises:
        ClipDataError: If the video is damaged, or its folder lacks frames.
        OSError: If a frame cannot be written.
    """
    header = VideoFileFrames(
        find_file(safe_join(plan.videos, name), (VIDEO_SUFFIX,)),
    )
    num_frames = len(range(0, header.num_frames, plan.every))
    folder = safe_join(plan.out, name)
    if folder.is_dir():
        num_files = sum(entry.name.endswith('.jpg') for entry in scan_folder(folder))
        if num_files != num_frames:
            problem = (
                f'holds {num_files} frames, expected {num_frames} with '
                f'every={plan.every}'
            )
            remedy = 'remove the folder to extract the frames again'
            raise ClipDataError.at(folder, problem, remedy)
        return 0
    unfinished = plan.unfinished / name
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        for index, frame in _read_frames(header, plan.every):
            write_jpeg(unfinished / f'{index:05d}.jpg', frame, plan.quality)
            heartbeat()
        folder.parent.mkdir(parents=True, exist_ok=True)
        flush_and_rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return num_frames


def _read_frames(
    header: VideoFileFrames, every: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode a video from start to end; yield every n-th frame (RGB) and its index."""
    capture = cv2.VideoCapture(str(header.path.absolute()), cv2.CAP_FFMPEG)
    num_decoded = 0
    while capture.grab():
        if num_decoded % every == 0:
            is_decoded, frame = capture.retrieve()
            if not is_decoded:
                break
            yield num_decoded, np.asarray(frame, np.uint8)[..., ::-1]
        num_decoded += 1
    capture.release()
    if num_decoded != header.num_frames:
        problem = f'holds {num_decoded} frames, its header says {header.num_frames}'
        raise ClipDataError.at(header.path, problem, REPLACE_FILE)


def submit_jobs(
    plan: ExtractionPlan,
    names: Sequence[str],
    *,
    num_workers: int,
    num_jobs: int,
    minutes: int,
    logs: Path,
    cluster: str = 'slurm',
    partition: str | None = None,
) -> list[Any]:
    """Submit the extraction as an array of jobs with submitit.

    Args:
        num_workers: Processes of each job.
        num_jobs: Jobs among which the videos are distributed.
        minutes: Time limit of a job.
        logs: Folder for submitit's logs.
        cluster: ``slurm``; ``local`` or ``debug`` for this machine.
        partition: SLURM partition; None for the default.

    Returns:
        submitit's jobs, for :func:`collect_results`.

    Raises:
        ModuleNotFoundError: If submitit is not installed.
        ValueError: If ``num_jobs`` is not positive.
    """
    if num_jobs < 1:
        msg = f'num_jobs is {num_jobs}; give a positive number'
        raise ValueError(msg)
    submitit = import_optional('submitit', purpose='An array of jobs')
    executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
    executor.update_parameters(
        name='extract_frames', timeout_min=minutes, cpus_per_task=num_workers
    )
    if partition is not None:
        executor.update_parameters(slurm_partition=partition)
    # Jobs have another working folder.
    plan = replace(plan, videos=plan.videos.absolute(), out=plan.out.absolute())
    shares = [list(names[first::num_jobs]) for first in range(num_jobs)]
    jobs: list[Any] = executor.map_array(
        partial(_run_job, plan, num_workers), [share for share in shares if share]
    )
    return jobs


def _run_job(
    plan: ExtractionPlan, num_workers: int, names: Sequence[str]
) -> list[TaskResult[str, int]]:
    return list(extract_videos(plan, names, num_workers=num_workers))


def collect_results(
    jobs: Sequence[Any], report: Callable[[TaskResult[str, int]], None]
) -> dict[str, str]:
    """Wait for submitit's jobs and report the result of each video.

    Returns:
        The errors of failed jobs by job id.
    """
    errors = {}
    for job in jobs:
        error = job.exception()
        if error is not None:
            errors[str(job.job_id)] = str(error).strip() or type(error).__name__
            continue
        for result in job.result():
            report(result)
    return errors
