"""Segment the videos of a data set from the masks of some of their frames.

FRAMES has <video>/*.jpg or <video>.mp4. MASKS has <video>/<frame>.png with values that
are object ids (DAVIS, MOSE, YouTube-VOS, LVOS), or, with --masks-per-object,
<video>/<object>/<frame>.png (SA-V). OUT gets masks of all frames, at their size:
<video>/<frame>.png with object ids, or, with --per-object-png, a folder for each
object, so that masks may overlap. Folders of objects keep their names, which may count
from 0; in one file for a frame, where 0 is the background, the value is one more.

A video is there when all its masks are; videos that are done are passed over, so the
same command goes on after an interruption. Videos that cannot be segmented are named at
the end, and the exit code is 1. It is 2 where none could be begun.

    python tools/vos_inference.py sam2.1_hiera_b+ sam2.1_hiera_base_plus.pt \
        data/DAVIS/JPEGImages/480p data/DAVIS/Annotations/480p work_dirs/davis \
        --video-list data/DAVIS/ImageSets/2017/val.txt
    torchrun --nproc-per-node 8 tools/vos_inference.py CONFIG CHECKPOINT FRAMES MASKS \
        OUT --launcher pytorch
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.apis.vos import (
    GivenMasks,
    MaskFolder,
    VideoLengths,
    VOSPlan,
    claim_folder,
    run_inference,
)
from projects.sam2.datasets.processing.worker_pool import TaskResult
from projects.sam2.engine.command_line import call_tool
from projects.sam2.engine.distributed import process_rank


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config, or a name like sam2.1_hiera_b+')
    add('checkpoint', help='released file, folder of transformers, or one of ours')
    add('frames', type=Path, help='folder of the videos')
    add('masks', type=Path, help='folder of the given masks')
    add('out', type=Path, help='folder of the masks to be written')
    add('--video-list', type=Path, help='names of the videos (default: all)')
    add(
        '--given',
        choices=[kind.value for kind in GivenMasks],
        default=GivenMasks.FIRST_SEEN.value,
        help='masks that are prompts: those of the first frame, the first one of each '
        'object (default), or all',
    )
    add('--masks-per-object', action='store_true', help='MASKS has a folder for each')
    add('--per-object-png', action='store_true', help='OUT gets a folder for each')
    add('--score-threshold', type=float, default=0.0, help='of logits (default 0)')
    add('--apply-postprocessing', action='store_true', help='fill small holes')
    add('--vos-optimized', action='store_true', help='compile the model first')
    add('--image-size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    add('--device', help='cpu, cuda or cuda:N (default: each process its GPU)')
    add('--num-processes', type=int, default=1, help='here (default 1)')
    add(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='what started this process beside others',
    )
    return parser.parse_args(arguments)


def make_plan(options: argparse.Namespace) -> VOSPlan:
    """Say what is to be done."""
    size = None if options.image_size is None else tuple(options.image_size)
    return VOSPlan(
        config=options.config,
        checkpoint=options.checkpoint,
        frames=options.frames,
        masks=options.masks,
        out=MaskFolder(root=options.out, per_object=options.per_object_png),
        file_list=options.video_list,
        masks_per_object=options.masks_per_object,
        given=GivenMasks(options.given),
        score_threshold=options.score_threshold,
        build={
            'device': options.device,
            'apply_postprocessing': options.apply_postprocessing,
            'vos_optimized': options.vos_optimized,
            'image_size': size,
        },
    )


def segment(
    plan: VOSPlan, lengths: VideoLengths, options: argparse.Namespace
) -> list[TaskResult[str, int]]:
    """Segment the videos of this process, behind a progress bar."""
    outcomes: list[TaskResult[str, int]] = []
    done = begun = 0
    with progress_bar('Frames') as advance:

        def heartbeat() -> None:
            nonlocal begun
            begun += 1
            advance(done + begun, sum(lengths.values()))

        for outcome in run_inference(
            plan,
            lengths,
            num_processes=options.num_processes,
            launcher=options.launcher,
            heartbeat=heartbeat,
        ):
            outcomes.append(outcome)
            done, begun = done + lengths[outcome.task], 0
            advance(done, sum(lengths.values()))
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Segment as the command line says.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        0 where every video has its masks, 1 where one has none.
    """
    options = parse_arguments(arguments)
    plan = make_plan(options)
    lengths = plan.lengths()
    first = process_rank(options.launcher).rank == 0
    claim_folder(options.out, plan.settings, write=first)
    outcomes = segment(plan, lengths, options)
    bad = [outcome for outcome in outcomes if outcome.error is not None]
    written = [outcome for outcome in outcomes if outcome.result]
    print(
        f'{len(outcomes)} videos: {len(written)} segmented '
        f'({sum(outcome.result or 0 for outcome in written)} frames), '
        f'{len(outcomes) - len(bad) - len(written)} done before, {len(bad)} failed'
    )
    for outcome in bad:
        print(f'  ! {outcome.task}: {outcome.error}')
    return int(bool(bad))


if __name__ == '__main__':
    call_tool(main, exit_code=2)
