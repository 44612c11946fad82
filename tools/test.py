"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [options]``."""

import argparse
import json
from collections.abc import Sequence

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import add_run_arguments, call_tool


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate as the command line says, and print the metrics as JSON."""
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='released weights or a checkpoint of a run')
    add_run_arguments(parser)
    options = parser.parse_args(arguments)
    from mmengine.dist import is_main_process

    from projects.sam2.engine.config import load_config
    from projects.sam2.engine.launching import launched_runner

    cfg = load_config(options.config, options.cfg_options)
    cfg.load_from, cfg.resume = options.checkpoint, False
    with launched_runner(cfg, options) as runner:
        metrics: dict[str, float] = runner.test()
        if is_main_process():
            print(json.dumps(metrics, indent=2, default=float))
    return metrics


if __name__ == '__main__':
    call_tool(main)
