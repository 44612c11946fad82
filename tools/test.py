"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

import argparse
import json
from collections.abc import Sequence

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import (
    add_compile_option,
    add_fast_option,
    add_policy_option,
    add_run_arguments,
    call_tool,
    is_export_folder,
)


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate as the command line says, and print the metrics as JSON."""
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='released weights, a checkpoint of a run, or folder of an exported model',
    )
    add_run_arguments(parser)
    parser.add_argument(
        '--out', metavar='FILE', help='write scores and masks to FILE, .pkl or .json'
    )
    parser.add_argument(
        '--show', action='store_true', help='show the frames of each video in a window'
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='draw all videos, as strips and mp4, in DIR'
    )
    parser.add_argument(
        '--wait-time',
        type=float,
        default=2.0,
        metavar='SECONDS',
        help='time for which --show shows a frame; 0 waits for a key (default 2)',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help="average mirrored views of each frame, as the config's tta_model says",
    )
    add_compile_option(parser)
    add_fast_option(parser)
    add_policy_option(parser)
    options = parser.parse_args(arguments)
    from mmengine.dist import is_main_process

    from projects.sam2.engine.config import load_config
    from projects.sam2.engine.distributed import unwrap_model
    from projects.sam2.engine.launching import launched_runner
    from projects.sam2.engine.memory_policy import apply_policy
    from projects.sam2.engine.run_options import (
        apply_dump,
        apply_export,
        apply_tta,
        apply_visualization,
        use_fast_settings,
    )

    cfg = load_config(options.config, options.cfg_options)
    cfg.load_from, cfg.resume = options.checkpoint, False
    if is_export_folder(options.checkpoint):
        if options.tta or options.compile or options.fast:
            msg = (
                f'{options.checkpoint} is an exported model, which has neither '
                f'augmentation nor anything to compile or change; leave out --tta, '
                f'--compile and --fast'
            )
            raise ValueError(msg)
        apply_export(cfg, options.checkpoint, options.policy)
    elif options.policy is not None:
        apply_policy(cfg.model, options.policy)
    if options.show or options.show_dir:
        apply_visualization(
            cfg,
            show=options.show,
            show_dir=options.show_dir,
            wait_time=options.wait_time,
        )
    if options.out:
        apply_dump(cfg, options.out)
    if options.tta:
        apply_tta(cfg)
    with launched_runner(cfg, options) as runner:
        if options.fast:
            use_fast_settings(unwrap_model(runner.model))
        if options.compile:
            from projects.sam2.engine.hooks import SAM2CompileHook

            SAM2CompileHook().apply(unwrap_model(runner.model))
        metrics: dict[str, float] = runner.test()
        if is_main_process():
            print(json.dumps(metrics, indent=2, default=float))
    return metrics


if __name__ == '__main__':
    call_tool(main)
