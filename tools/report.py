"""Write the report of a run: one HTML page with curves, scores, pictures and settings.

    python tools/report.py work_dirs/sam2_tiny_mose
    python tools/report.py MOVED_RUN --cfg-options data_root=/data/MOSE/train

The page needs no other file: open it in a browser, or send it to somebody. The worst
and the best clips are predicted again with the best checkpoint; without the data or the
checkpoint the page says so and leaves their pictures out.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import add_cfg_options, call_tool


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('work_dir', type=Path, help='work directory of a run, finished or not')
    add('--out', type=Path, help='the page (default: WORK_DIR/report.html)')
    add(
        '--baselines',
        type=Path,
        metavar='FILE',
        help='scores to compare with (default: report/scores.json in WORK_DIR, which '
        'tools/quickstart_report.py writes)',
    )
    add(
        '--clips',
        type=int,
        default=2,
        metavar='N',
        help='worst and best clips to show, N of each (default 2; 0 predicts none)',
    )
    add('--device', help='device that predicts them (default: a GPU if there is one)')
    add_cfg_options(
        parser, 'override entries of the config of the run, e.g. data_root=FOLDER'
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Write the page, and return its path."""
    options = parse_arguments(arguments)
    from projects.sam2.apis.run_report import write_run_report

    page = write_run_report(
        options.work_dir,
        out=options.out,
        baselines=options.baselines,
        cfg_options=options.cfg_options,
        num_clips=options.clips,
        device=options.device,
    )
    print(f'report: {page}')
    return page


if __name__ == '__main__':
    call_tool(main)
