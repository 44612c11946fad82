"""Score a folder of predicted masks against the ground truth: J, F and J&F.

Both folders hold a folder per video, with a label PNG per frame or with a folder of
mask PNGs per object; files are matched by name. The protocol (--protocol) defines what
is scored:

davis       objects of the first frame, without the first and last frame
appearance  every object after the frame of its first appearance
sav         every object from the first frame on which truth or prediction shows it,
            without the first and last frame

and davis-all-frames, appearance-all-frames and sav-all-frames, which skip no frame.
Missing predictions count as empty and are reported. --mosev2 adds the scores of MOSEv2:
J&Ḟ, whose contour threshold adapts to the size of the object, and its means over the
frames on which objects are gone (d) and after they return (r).

    python tools/eval_vos.py work_dirs/masks data/DAVIS/Annotations/480p --workers 8
    python tools/eval_vos.py work_dirs/masks data/sav_val/Annotations_6fps \
        --protocol sav --strict --out work_dirs/scores

The exit code is 0; with --strict, 1 if predictions are missing or extra; 2 if the
scores cannot be computed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import call_tool

if TYPE_CHECKING:
    from projects.sam2.apis.folder_scores import FolderScores, ScoringTask
    from projects.sam2.evaluation import VideoScores

# Keys of evaluation.PROTOCOLS, whose import takes seconds.
PROTOCOL_NAMES = (
    'davis',
    'davis-all-frames',
    'appearance',
    'appearance-all-frames',
    'sav',
    'sav-all-frames',
)
MAX_PRINTED = 20  # missing and extra predictions; the JSON file has all


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('pred', type=Path, help='folder of the predictions')
    add('truth', type=Path, help='folder of the ground truth')
    add('--protocol', choices=PROTOCOL_NAMES, default='davis', metavar='NAME')
    add('--mosev2', action='store_true', help='add the scores of MOSEv2, J&Ḟ, d and r')
    add('--binary', action='store_true', help='all values except 0 are object 1')
    add('--list', type=Path, metavar='FILE', help='videos to score (default: all)')
    add('--workers', type=int, default=1, help='processes (default 1)')
    add('--strict', action='store_true', help='exit with 1 if masks are missing')
    add('--out', type=Path, metavar='DIR', help='folder for CSV and JSON files')
    return parser.parse_args(arguments)


def describe(scores: 'FolderScores') -> list[str]:
    """Describe missing and extra predictions."""
    from projects.sam2.evaluation import describe_gaps

    missing = set(scores.missing_videos)
    lines = [f'{name}: not predicted, counted as empty' for name in sorted(missing)]
    lines += describe_gaps([v for v in scores.videos if v.video_name not in missing])
    lines += [f'{name}: predicted, but not scored' for name in scores.extra_videos]
    if len(lines) > MAX_PRINTED:
        lines = [*lines[:MAX_PRINTED], f'and {len(lines) - MAX_PRINTED} more']
    return [f'! {line}' for line in lines]


def score_mosev2(
    task: 'ScoringTask', names: Sequence[str], options: argparse.Namespace
) -> 'Sequence[VideoScores]':
    """Score the folder again by the measure of MOSEv2; write its tables if asked to."""
    from projects.sam2.apis.folder_scores import score_folder
    from projects.sam2.evaluation import summarise, write_report

    with progress_bar('MOSEv2') as advance:
        videos = score_folder(
            replace(task, measure='mosev2'),
            names=names,
            num_workers=options.workers,
            advance=advance,
        ).videos
    if options.out is not None:
        write_report(options.out / 'mosev2', videos, summarise(videos))
    return videos


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return 1 for missing predictions with ``--strict``, else 0."""
    options = parse_arguments(arguments)
    from projects.sam2.apis.folder_scores import ScoringTask, score_folder
    from projects.sam2.datasets.io.mask_folders import list_mask_videos
    from projects.sam2.evaluation import (
        PROTOCOLS,
        describe_mosev2,
        describe_no_objects,
        describe_summary,
        format_tables,
        summarise,
        write_report,
    )

    task = ScoringTask(
        pred=options.pred,
        truth=options.truth,
        protocol=PROTOCOLS[options.protocol],
        binary=options.binary,
    )
    names = list_mask_videos(options.truth, options.list)
    with progress_bar('Videos') as advance:
        scores = score_folder(
            task, names=names, num_workers=options.workers, advance=advance
        )
    summary = summarise(scores.videos)
    if options.out is not None:
        write_report(options.out, scores.videos, summary)
    print(format_tables(scores.videos, summary))
    print(describe_summary(summary))
    if options.mosev2:
        print(describe_mosev2(score_mosev2(task, names, options)))
    print('\n'.join(describe(scores)) or 'No missing or extra predictions')
    if not summary.num_objects:
        print(f'! {describe_no_objects(scores.videos)}')
    return int(options.strict and not scores.is_complete)


if __name__ == '__main__':
    call_tool(main, exit_code=2)
