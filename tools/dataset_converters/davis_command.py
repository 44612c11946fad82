"""Common options and output of the tools that convert to DAVIS layout."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from progress_bar import progress_bar  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from projects.sam2.datasets.processing.config_sources import DatasetConfig
    from projects.sam2.datasets.processing.davis_export import Conversion

MAX_PRINTED = 30  # problems


def add_davis_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the common options."""
    add = parser.add_argument
    add('out', type=Path, help='folder of the new dataset')
    add('--split', default='train', help='name of the list of clips (default train)')
    add(
        '--split-objects',
        action='store_true',
        help='split clips with more than 254 objects into several clips',
    )
    add('--workers', type=int, default=1, help='processes (default 1)')


def run_conversion(source: 'DatasetConfig', options: argparse.Namespace) -> int:
    """Convert behind a progress bar; return 0 if all clips were converted, else 1."""
    import projects.sam2.registration  # noqa: F401  registers the sources
    from projects.sam2.datasets.processing.davis_export import (
        DavisFolder,
        convert_to_davis,
    )

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


def describe(conversion: 'Conversion', out: Path) -> list[str]:
    """Describe the result of a conversion."""
    clips, problems = conversion.clips, conversion.problems
    num_frames = sum(clip.num_frames for clip in clips)
    num_objects = sum(len(clip.source_ids) for clip in clips)
    counts = f'{len(clips)} clips, {num_frames} frames, {num_objects} objects'
    lines = [f'{out}: {counts}; {len(problems)} clips could not be converted']
    num_overlaps = sum(clip.num_overlaps for clip in clips)
    if num_overlaps:
        num_covered = sum(clip.num_covered for clip in clips)
        lines.append(
            f'  Masks overlap on {num_overlaps} frames: pixels belong to the smaller '
            f'object; {num_covered} masks are covered completely'
        )
    lines += [f'  ! {name}: {problems[name]}' for name in list(problems)[:MAX_PRINTED]]
    num_hidden = len(problems) - MAX_PRINTED
    return [*lines, f'  ! and {num_hidden} more'] if num_hidden > 0 else lines
