"""Convert clips of any source to DAVIS layout.

CONFIG is the config of a run, whose dataset of --loader is converted, or a file with
`dataset = dict(type=…)`; see tools/check_dataset.py.

    python tools/dataset_converters/clips_to_davis.py configs/my_ytvis.py data/my_davis
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from davis_command import (  # type: ignore[import-not-found]
    add_davis_arguments,
    run_conversion,
)

from projects.sam2.engine.command_line import add_cfg_options, call_tool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return 0 if all clips were converted, else 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    add_davis_arguments(parser)
    parser.add_argument('--loader', choices=('train', 'val', 'test'), default='train')
    add_cfg_options(parser, 'key=value')
    options = parser.parse_args(arguments)
    from mmengine.registry import init_default_scope

    from projects.sam2.datasets.processing.config_sources import (
        dataset_config,
        find_sources,
    )
    from projects.sam2.engine.config import load_config

    cfg = load_config(options.config, options.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    sources = find_sources(dataset_config(cfg, options.loader))
    if len(sources) > 1:
        kinds = ', '.join(str(source['type']) for source in sources)
        msg = f'{options.config} has {len(sources)} sources ({kinds}); convert one'
        raise ValueError(msg)
    return int(run_conversion(sources[0], options))


if __name__ == '__main__':
    call_tool(main)
