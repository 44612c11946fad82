"""Segment the videos of a dataset from the masks of some of their frames.

FRAMES has <video>/*.jpg or <video>.mp4. MASKS has <video>/<frame>.png with values that
are object ids (DAVIS, MOSE, YouTube-VOS, LVOS), or, with --masks-per-object,
<video>/<object>/<frame>.png (SA-V). OUT gets masks of all frames, at their size:
<video>/<frame>.png with object ids, or, with --per-object-png, a folder for each
object, so that masks may overlap. The folders of objects keep their names, which may
count from 0; a <frame>.png, where 0 is the background, stores the name plus one.

The folder of a video appears when all its masks are written, and finished videos are
skipped: to continue after an interruption, repeat the command. Videos that cannot be
segmented are listed at the end; the exit code is then 1. It is 2 if the run could not
start.

    python tools/vos_inference.py sam2.1_hiera_b+ sam2.1_hiera_base_plus.pt \
        data/DAVIS/JPEGImages/480p data/DAVIS/Annotations/480p work_dirs/davis \
        --video-list data/DAVIS/ImageSets/2017/val.txt
    torchrun --nproc-per-node 8 tools/vos_inference.py CONFIG CHECKPOINT FRAMES MASKS \
        OUT --launcher pytorch
    python tools/vos_inference.py work_dirs/sam2_onnx FRAMES MASKS OUT  # exported
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import (
    add_compile_option,
    add_fast_option,
    add_model_arguments,
    add_policy_option,
    call_tool,
    parse_model_arguments,
)

if TYPE_CHECKING:
    from projects.sam2.apis.vos import VOSPlan
    from projects.sam2.datasets.processing.worker_pool import TaskResult

# Values of apis.vos.GivenMasks, whose import takes seconds.
GIVEN = ('first-frame', 'first-seen', 'all')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add_model_arguments(parser)
    add('frames', type=Path, help='folder of the videos')
    add('masks', type=Path, help='folder of the given masks')
    add('out', type=Path, help='folder of the masks to be written')
    add('--video-list', type=Path, help='names of the videos (default: all)')
    add(
        '--given',
        choices=GIVEN,
        default='first-seen',
        help='masks that are prompts: those of the first frame, the first mask of '
        'each object (default), or all',
    )
    add('--masks-per-object', action='store_true', help='MASKS has object folders')
    add('--per-object-png', action='store_true', help='write a folder for each object')
    add('--score-threshold', type=float, default=0.0, help='of logits (default 0)')
    add('--apply-postprocessing', action='store_true', help='fill small holes')
    add_compile_option(parser, '--vos-optimized')
    add_fast_option(parser)
    add_policy_option(parser)
    add('--image-size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'))
    add('--device', help='cpu, cuda or cuda:N (default: a GPU per process)')
    add('--num-processes', type=int, default=1, help='on this rank (default 1)')
    add(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='launcher of several ranks (default none)',
    )
    return parse_model_arguments(parser, arguments)


def make_plan(options: argparse.Namespace) -> 'VOSPlan':
    """Describe the run."""
    from projects.sam2.apis.vos import GivenMasks, MaskFolder, VOSPlan

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
            'vos_optimized': options.compile,
            'fast': options.fast,
            'policy': options.policy,
            'image_size': size,
        },
    )


def segment(
    plan: 'VOSPlan', lengths: dict[str, int], options: argparse.Namespace
) -> 'list[TaskResult[str, int]]':
    """Segment the videos of this rank and show the progress."""
    from projects.sam2.apis.vos import run_inference

    results: list[TaskResult[str, int]] = []
    num_done = num_current = 0  # frames of finished videos, and of the current one
    with progress_bar('Frames') as advance:

        def heartbeat() -> None:
            nonlocal num_current
            num_current += 1
            advance(num_done + num_current, sum(lengths.values()))

        for result in run_inference(
            plan,
            lengths,
            num_processes=options.num_processes,
            launcher=options.launcher,
            heartbeat=heartbeat,
        ):
            results.append(result)
            num_done, num_current = num_done + lengths[result.task], 0
            advance(num_done, sum(lengths.values()))
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool.

    Returns:
        0 if every video has its masks, else 1.
    """
    options = parse_arguments(arguments)
    from projects.sam2.apis.vos import claim_folder
    from projects.sam2.engine.distributed import process_rank

    plan = make_plan(options)
    lengths = plan.lengths()
    first = process_rank(options.launcher).rank == 0
    claim_folder(options.out, plan.settings, write=first)
    results = segment(plan, lengths, options)
    bad = [result for result in results if result.error is not None]
    written = [result for result in results if result.result]
    print(
        f'{len(results)} videos: {len(written)} segmented '
        f'({sum(result.result or 0 for result in written)} frames), '
        f'{len(results) - len(bad) - len(written)} done before, {len(bad)} failed'
    )
    for result in bad:
        print(f'  ! {result.task}: {result.error}')
    return int(bool(bad))


if __name__ == '__main__':
    call_tool(main, exit_code=2)
