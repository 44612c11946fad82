"""Extract the frames of mp4 files, such as SA-V's, as JPEG files.

Writes OUT/<video>/<frame index>.jpg in the sub-folders of the videos. A video's folder
appears when all its frames are written, and finished videos are skipped, so the same
command continues after an interruption. Videos that cannot be read are listed at the
end; the exit code is then 1.

    python tools/dataset_converters/extract_sav_frames.py data/sav/videos \
        data/sav/JPEGImages --every 4 --workers 8

As an array of SLURM jobs (pip install submitit), which keep running when this command
is interrupted:

    python tools/dataset_converters/extract_sav_frames.py data/sav/videos \
        data/sav/JPEGImages --jobs 50 --partition cpu --workers 8
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import (  # type: ignore[import-not-found]
    ROOT,
    use_repository_root,
)

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import call_tool

if TYPE_CHECKING:
    from projects.sam2.datasets.processing.frame_extraction import ExtractionPlan
    from projects.sam2.datasets.processing.worker_pool import TaskResult


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('videos', type=Path, help='folder of the mp4 files')
    add('out', type=Path, help='output folder')
    add('--every', type=int, default=1, help='keep every n-th frame (default 1)')
    add('--quality', type=int, default=95, help='JPEG quality (default 95)')
    add('--file-list', type=Path, help='text file of video names (default: all)')
    add('--workers', type=int, default=1, help='processes, per job (default 1)')
    add('--jobs', type=int, default=0, help='number of SLURM jobs (default: none)')
    add('--partition', help='SLURM partition')
    add('--minutes', type=int, default=240, help='time limit of a job (default 240)')
    add(
        '--logs',
        type=Path,
        default=Path('work_dirs/extract_frames'),
        help='folder for the logs of the jobs',
    )
    add('--cluster', choices=('slurm', 'local', 'debug'), default='slurm')
    return parser.parse_args(arguments)


def extract(
    plan: 'ExtractionPlan', names: list[str], options: argparse.Namespace
) -> 'tuple[list[TaskResult[str, int]], dict[str, str]]':
    """Extract the frames behind a progress bar.

    Returns:
        The result of each video, and the errors of failed jobs.
    """
    from projects.sam2.datasets.processing.frame_extraction import (
        collect_results,
        extract_videos,
        submit_jobs,
    )

    results: list[TaskResult[str, int]] = []
    with progress_bar('Videos') as advance:

        def report(result: 'TaskResult[str, int]') -> None:
            results.append(result)
            advance(len(results), len(names))

        if not options.jobs:
            for result in extract_videos(plan, names, num_workers=options.workers):
                report(result)
            return results, {}
        # Jobs must import the same package as this command.
        paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
        jobs = submit_jobs(
            plan,
            names,
            num_workers=options.workers,
            num_jobs=options.jobs,
            minutes=options.minutes,
            logs=options.logs,
            cluster=options.cluster,
            partition=options.partition,
        )
        print(f'Submitted {len(jobs)} jobs, logs in {options.logs}')
        return results, collect_results(jobs, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return 0 if every video has its frames, else 1."""
    options = parse_arguments(arguments)
    from projects.sam2.datasets.processing.frame_extraction import (
        ExtractionPlan,
        find_mp4,
    )

    plan = ExtractionPlan(
        videos=options.videos,
        out=options.out,
        every=options.every,
        quality=options.quality,
    )
    names = find_mp4(plan, options.file_list)
    results, job_errors = extract(plan, names, options)
    if not job_errors:  # the cluster may restart failed jobs
        shutil.rmtree(plan.unfinished, ignore_errors=True)
    failed = [result for result in results if result.error is not None]
    written = [result.result for result in results if result.result]
    print(
        f'{len(names)} videos: {len(written)} extracted ({sum(written)} frames), '
        f'{len(results) - len(failed) - len(written)} done before, '
        f'{len(failed)} broken, {len(names) - len(results)} in failed jobs'
    )
    for result in failed:
        print(f'  ! {result.task}: {result.error}')
    for job, error in job_errors.items():
        print(f'  ! job {job}: {error.splitlines()[-1]} (see {options.logs})')
    return int(bool(failed or job_errors))


if __name__ == '__main__':
    call_tool(main)
