"""Takes frames out of many videos: on this machine, or as an array of jobs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from projects.sam2.datasets.processing.frame_extraction import (
    ExtractionPlan,
    extract_video,
)
from projects.sam2.datasets.processing.supervised import run_supervised
from projects.sam2.ops import import_optional

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
    """Take out the frames of videos in processes of this machine.

    Args:
        plan: How.
        names: Of the videos.
        num_workers: Processes.

    Yields:
        What became of each, as they end.
    """
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

    Args:
        plan: How; its folders are made absolute.
        names: Of the videos.
        array: The jobs.
        num_workers: Processes of each job.

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
    """What a job of the array does.

    Args:
        plan: How.
        num_workers: Processes.
        names: Its videos.

    Returns:
        What became of each.
    """
    return list(extract_here(plan, names, num_workers=num_workers))


def gather(
    jobs: Sequence[Any], report: Callable[[VideoOutcome], None]
) -> dict[str, str]:
    """Wait for the jobs of an array.

    Args:
        jobs: submitit's jobs.
        report: Called with what became of each video.

    Returns:
        Why a job failed, by its id. Its videos were not reported.
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
