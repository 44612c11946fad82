"""What the commands that write DAVIS layout have in common."""

import argparse
from pathlib import Path

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.datasets.processing.checking import DatasetConfig
from projects.sam2.datasets.processing.davis_export import (
    Conversion,
    DavisFolder,
    convert_to_davis,
)

MAX_PRINTED = 30


def add_davis_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all these commands take."""
    add = parser.add_argument
    add('out', type=Path, help='folder of the new data set')
    add('--split', default='train', help='name of the list of clips (default train)')
    add('--split-objects', action='store_true', help='of clips with more than 254')
    add('--workers', type=int, default=1, help='processes (default 1)')


def run_conversion(source: DatasetConfig, options: argparse.Namespace) -> int:
    """Convert, behind a progress bar, and say what came of it.

    Returns:
        0 where all clips were converted, else 1.
    """
    folder = DavisFolder(root=options.out, split_objects=options.split_objects)
    with progress_bar('Clips') as advance:
        conversion = convert_to_davis(
            source,
            folder,
            split=options.split,
            num_workers=options.workers,
            advance=advance,
        )
    if conversion is None:
        print(f'{options.out} holds these clips already')
        return 0
    print('\n'.join(describe(conversion, options.out)))
    return int(bool(conversion.problems))


def describe(conversion: Conversion, out: Path) -> list[str]:
    """Say what came of a conversion."""
    clips = conversion.clips
    frames = sum(clip.num_frames for clip in clips)
    objects = sum(len(clip.source_ids) for clip in clips)
    bad = f'{len(conversion.problems)} clips could not be converted'
    lines = [f'{out}: {len(clips)} clips, {frames} frames, {objects} objects; {bad}']
    overlaps = sum(clip.num_overlaps for clip in clips)
    if overlaps:
        covered = sum(clip.num_covered for clip in clips)
        lines.append(
            f'  On {overlaps} frames masks overlap: the smaller object has the pixel; '
            f'{covered} masks are covered whole'
        )
    told = [f'  ! {each.clip}: {each.problem}' for each in conversion.problems]
    more = len(told) - MAX_PRINTED
    return lines + told[:MAX_PRINTED] + ([f'  ! and {more} more'] if more > 0 else [])
