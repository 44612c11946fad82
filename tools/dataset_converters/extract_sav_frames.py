"""Take the frames out of mp4 files, such as SA-V's, as JPEG files.

Writes OUT/<video>/<number of the frame>.jpg, sub-folders as those of the videos. A
folder is there when all its frames are; videos that are done are passed over, so the
same command goes on after an interruption. Videos that cannot be read are named at
the end, and the exit code is 1.

    python tools/dataset_converters/extract_sav_frames.py data/sav/videos \
        data/sav/JPEGImages --every 4 --workers 8

As an array of SLURM jobs (pip install submitit), which goes on when this command is
interrupted:

    python tools/dataset_converters/extract_sav_frames.py data/sav/videos \
        data/sav/JPEGImages --jobs 50 --partition cpu --workers 8
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import (  # type: ignore[import-not-found]
    ROOT,
    use_repository_root,
)

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.datasets.processing.frame_extraction import (
    ExtractionPlan,
    JobArray,
    VideoOutcome,
    extract_here,
    find_mp4,
    gather,
    remove_leftovers,
    submit_extraction,
)
from projects.sam2.engine.command_line import call_tool


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('videos', type=Path, help='folder of the mp4 files')
    add('out', type=Path, help='folder of the frames')
    add('--every', type=int, default=1, help='take every n-th frame (default 1)')
    add('--quality', type=int, default=95, help='of the JPEG files (default 95)')
    add('--file-list', type=Path, help='names of the videos (default: all)')
    add('--workers', type=int, default=1, help='processes, of each job (default 1)')
    add('--jobs', type=int, default=0, help='size of the array (default: no array)')
    add('--partition', help='of the cluster')
    add('--minutes', type=int, default=240, help='limit of a job (default 240)')
    add('--logs', type=Path, default=Path('work_dirs/extract_frames'), help='of jobs')
    add('--cluster', choices=('slurm', 'local', 'debug'), default='slurm')
    return parser.parse_args(arguments)


def extract(
    plan: ExtractionPlan, names: list[str], options: argparse.Namespace
) -> tuple[list[VideoOutcome], dict[str, str]]:
    """Take out the frames, here or in jobs, behind a progress bar."""
    outcomes: list[VideoOutcome] = []
    with progress_bar('Videos') as advance:

        def report(outcome: VideoOutcome) -> None:
            outcomes.append(outcome)
            advance(len(outcomes), len(names))

        if not options.jobs:
            for outcome in extract_here(plan, names, num_workers=options.workers):
                report(outcome)
            return outcomes, {}
        # Jobs import the package from where this command does.
        paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
        array = JobArray(
            cluster=options.cluster,
            num_jobs=options.jobs,
            minutes=options.minutes,
            partition=options.partition,
            logs=options.logs,
        )
        jobs = submit_extraction(plan, names, array, num_workers=options.workers)
        print(f'Submitted {len(jobs)} jobs, their logs are in {options.logs}')
        return outcomes, gather(jobs, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Take out frames as the command line says.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        0 where every video has its frames, else 1.
    """
    options = parse_arguments(arguments)
    plan = ExtractionPlan(
        videos=options.videos,
        out=options.out,
        every=options.every,
        quality=options.quality,
    )
    names = find_mp4(plan, options.file_list)
    outcomes, failures = extract(plan, names, options)
    if not failures:  # jobs that failed may be run again by the cluster
        remove_leftovers(plan)
    bad = [outcome for outcome in outcomes if outcome.problem is not None]
    written = [outcome for outcome in outcomes if outcome.num_written]
    print(
        f'{len(names)} videos: {len(written)} extracted '
        f'({sum(outcome.num_written for outcome in written)} frames), '
        f'{len(outcomes) - len(bad) - len(written)} done before, {len(bad)} broken, '
        f'{len(names) - len(outcomes)} in jobs that failed'
    )
    for outcome in bad:
        print(f'  ! {outcome.name}: {outcome.problem}')
    for job, failure in failures.items():
        print(f'  ! job {job}: {failure.splitlines()[-1]} (see {options.logs})')
    return int(bool(bad or failures))


if __name__ == '__main__':
    call_tool(main)
