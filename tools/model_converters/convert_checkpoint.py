"""Convert a checkpoint between the three kinds.

    python tools/model_converters/convert_checkpoint.py SOURCE TARGET --to KIND

SOURCE is a released SAM 2 file, a SAM 2 folder of Hugging Face's transformers, or a
checkpoint of this project. KIND is released (a file), huggingface (a folder) or mmsam2
(a file, for load_from). The kind of SOURCE is recognised by the names of its weights.
They are checked against the model before anything is written, and TARGET is written
atomically.

A checkpoint of a run with an EMA hook holds two sets of weights. The average, which was
validated, is converted, and the last line of output says so; for the weights of the
last step use `publish_model.py --weights last --to KIND`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import CHECKPOINT_KINDS, call_tool


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the top of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('source', help='checkpoint to read')
    add('target', type=Path, help='new file or folder to write')
    add(
        '--to',
        choices=CHECKPOINT_KINDS,
        required=True,
        help='kind of checkpoint to write',
    )
    add('--config', help='config of the model; not needed for the released sizes')
    options = parser.parse_args(arguments)
    from projects.sam2.apis import fitting_config
    from projects.sam2.checkpoints import (
        TRAINED_FIELD,
        CheckpointKind,
        read_checkpoint,
        weights_of,
        write_checkpoint,
    )

    checkpoint = read_checkpoint(options.source, 'cpu')
    weights = weights_of(checkpoint, source=options.source)
    config = fitting_config(weights, options.config, source=options.source)
    kind = CheckpointKind(options.to)
    write_checkpoint(options.target, weights, kind, config.model)
    which = ' averaged by the EMA hook' if TRAINED_FIELD in checkpoint else ''
    print(f'{options.target}: {len(weights)} weights{which}, as {kind.value}')


if __name__ == '__main__':
    call_tool(main)
