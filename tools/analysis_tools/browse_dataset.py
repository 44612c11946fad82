"""Draw training clips, as browse_dataset of mmdetection and mmsegmentation does.

The pictures are written to files; no window is opened. browse_clips.py is the same
program under its older name.

    python tools/analysis_tools/browse_dataset.py configs/sam2_bplus_mose.py \
        --output-dir work_dirs/browse
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import add_cfg_options, call_tool, whole_number


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file of a run')
    add(
        '--out',
        '--output-dir',
        type=Path,
        help='folder, or .png file for one sheet (default work_dirs/browse/CONFIG)',
    )
    add('--not-show', action='store_true', help='accepted; no window is opened')
    add('--checkpoint', help='model whose errors get clicks')
    add(
        '--batches',
        type=whole_number(1),
        default=4,
        help='number of batches (default 4)',
    )
    add(
        '--epoch',
        type=whole_number(0),
        default=0,
        help='index of the epoch (default 0)',
    )
    add(
        '--first',
        type=whole_number(0),
        default=0,
        help='first batch of the epoch (default 0)',
    )
    add(
        '--long-side',
        type=whole_number(1),
        default=260,
        help='of a frame in pixels (default 260)',
    )
    add_cfg_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Draw the clips; return the paths of the pictures."""
    options = parse_arguments(arguments)
    from browse_clips import browse  # type: ignore[import-not-found]

    written: list[Path] = browse(options)
    return written


if __name__ == '__main__':
    call_tool(main)
