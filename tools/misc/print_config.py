"""Print a config with all its bases, as a run would use it.

    python tools/misc/print_config.py configs/sam2_tiny_mose.py
    python tools/misc/print_config.py configs/sam2_tiny_mose.py --graph \
        --cfg-options data_root=data/mine image_size=512 --save-path mine.py

The config is a file, or the name of one of this package, such as sam2_tiny_mose.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import add_cfg_options, call_tool

SUFFIXES = ('.py', '.json', '.yml', '.yaml')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or its name')
    parser.add_argument('--graph', action='store_true', help='print the model as well')
    parser.add_argument(
        '--save-path',
        type=Path,
        metavar='FILE',
        help=f'write the config to a file as well, {", ".join(SUFFIXES)}',
    )
    add_cfg_options(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the config.

    Raises:
        ValueError: If ``--save-path`` has another ending.
    """
    options = parse_arguments(arguments)
    path: Path | None = options.save_path
    if path is not None and path.suffix not in SUFFIXES:
        msg = f'--save-path {path}: give a file that ends in {", ".join(SUFFIXES)}'
        raise ValueError(msg)

    from projects.sam2.engine.config import load_config
    from projects.sam2.ops import atomic_write

    cfg = load_config(options.config, options.cfg_options)
    print(cfg.pretty_text)
    if options.graph:
        from mmengine.registry import MODELS

        print(f'\nModel:\n{MODELS.build(cfg.model)}')
    if path is not None:
        with atomic_write(path) as partial:
            cfg.dump(partial)
        print(f'Wrote {path}')


if __name__ == '__main__':
    call_tool(main)
