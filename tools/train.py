"""Train a model: ``python tools/train.py CONFIG [options]``."""

import argparse
from collections.abc import Sequence

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import (
    add_run_arguments,
    call_tool,
    launched_runner,
)
from projects.sam2.engine.config import apply_bfloat16, apply_work_dir, load_config
from projects.sam2.engine.resume import apply_resume


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
    add_run_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; without a path, from the newest whole one of '
        'the work directory, or as the config says where there is none',
    )
    parser.add_argument(
        '--amp', action='store_true', help='bfloat16 autocast, on any device'
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    options = parse_arguments(arguments)
    cfg = load_config(options.config, options.cfg_options)
    apply_work_dir(cfg, options.work_dir)
    if options.amp:
        apply_bfloat16(cfg)
    notices = apply_resume(cfg, options.resume)
    with launched_runner(cfg, options) as runner:
        for notice in notices:
            runner.logger.warning(notice)
        runner.train()


if __name__ == '__main__':
    call_tool(main)
