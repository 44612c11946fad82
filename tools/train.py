"""Train a model: ``python tools/train.py CONFIG [options]``."""

import argparse
from collections.abc import Sequence

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import (
    add_compile_option,
    add_run_arguments,
    call_tool,
)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description='Train a model.')
    parser.add_argument('config', help='config file')
    add_run_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a path, from the newest intact one '
        'of the work directory. If there is none, start as the config says',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='run the forward pass in bfloat16, on any device',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the clips of an optimizer step over '
        'auto_scale_lr.base_batch_size of the config',
    )
    add_compile_option(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train as the command line says."""
    options = parse_arguments(arguments)
    from projects.sam2.engine.config import apply_bfloat16, apply_work_dir, load_config
    from projects.sam2.engine.launching import launched_runner
    from projects.sam2.engine.resume import apply_resume
    from projects.sam2.engine.run_options import apply_auto_scale_lr, apply_compile

    cfg = load_config(options.config, options.cfg_options)
    apply_work_dir(cfg, options.work_dir)
    if options.amp:
        apply_bfloat16(cfg)
    if options.auto_scale_lr:
        apply_auto_scale_lr(cfg)
    if options.compile:
        apply_compile(cfg)
    warnings = apply_resume(cfg, options.resume)
    with launched_runner(cfg, options) as runner:
        for warning in warnings:
            runner.logger.warning(warning)
        runner.train()


if __name__ == '__main__':
    call_tool(main)
