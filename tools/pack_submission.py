"""Check predicted masks and pack them for a benchmark server.

PRED holds a folder for each video. The check compares the videos with the list (or the
folder of frames) and the names and sizes of the masks with the frames; it reads every
mask and reports other files. The archive is written only if there is no problem.

    python tools/pack_submission.py work_dirs/masks mose.zip --layout mose \
        --frames data/MOSE/valid/JPEGImages

davis, mose, mosev2   <video>/<frame>.png, with a palette
youtube-vos, lvos     Annotations/<video>/<frame>.png, with a palette
sav                   <video>/<object>/<frame>.png

The exit code is 1 if a check fails, 2 if a folder or list cannot be used.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import call_tool

# Keys of datasets.processing.submission.LAYOUTS, whose import takes seconds.
LAYOUT_NAMES = ('davis', 'mose', 'mosev2', 'youtube-vos', 'lvos', 'sav')
MAX_PRINTED = 30


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('pred', type=Path, help='folder of the predictions')
    add('archive', type=Path, help='zip file to write')
    add('--layout', choices=LAYOUT_NAMES, required=True)
    add('--frames', type=Path, metavar='DIR', help='frames, a folder per video')
    add('--list', type=Path, metavar='FILE', help='videos (default: those of --frames)')
    options = parser.parse_args(arguments)
    if options.frames is None and options.list is None:
        parser.error('give --frames or --list to define the split')
    return options


def videos_of_split(options: argparse.Namespace) -> list[str]:
    """List the videos that the archive must hold.

    Raises:
        FileNotFoundError: If the list is missing.
        ClipDataError: If a folder is missing, or the list names no video of the frames.
    """
    from projects.sam2.datasets.io.listing import match_names, read_list
    from projects.sam2.datasets.io.mask_folders import list_mask_videos

    if options.frames is not None:
        return list_mask_videos(options.frames, options.list)
    entries = read_list(options.list)
    pairs = match_names(entries, list_mask_videos(options.pred))
    return [name or entry for entry, name in pairs]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return 0 if the archive was written, else 1."""
    options = parse_arguments(arguments)
    from projects.sam2.datasets.processing.submission import (
        LAYOUTS,
        Submission,
        check_submission,
        pack_submission,
    )

    names = videos_of_split(options)
    submission = Submission(
        root=options.pred,
        names=tuple(names),
        layout=LAYOUTS[options.layout],
        frames=options.frames,
    )
    with progress_bar('Videos') as advance:
        problems = check_submission(submission, advance)
    if not problems:
        num_files = pack_submission(submission, options.archive)
        print(f'{options.archive}: {len(names)} videos, {num_files} masks')
        return 0
    for problem in problems[:MAX_PRINTED]:
        print(f'! {problem}')
    print(f'{len(problems)} problems; {options.archive} was not written')
    return 1


if __name__ == '__main__':
    call_tool(main, exit_code=2)
