"""Publish a training checkpoint: its weights alone, with a hash in the name.

    python tools/model_converters/publish_model.py CHECKPOINT TARGET --to KIND

Writes TARGET with the first eight digits of the SHA-256 of the written weights before
the suffix: `sam2_mose.pth` gives `sam2_mose-1a2b3c4d.pth`. Optimizer, schedules, logs
and random states are left out. A run with an EMA hook keeps two sets of weights: the
average, which was validated, and those of the last step. The average is published,
unless `--weights last` is given.
"""

import argparse
import hashlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import CHECKPOINT_KINDS, call_tool

if TYPE_CHECKING:
    from projects.sam2.checkpoints import CheckpointKind

HASH_DIGITS = 8
# Other suffixes belong to the name: that of sam2.1_mose is no .1_mose.
SUFFIXES = ('.pt', '.pth')
CHUNK_BYTES = 1 << 20


def chosen_weights(
    checkpoint: Mapping[str, Any], which: str | None, source: str
) -> Mapping[str, Any]:
    """Choose between the averaged weights and those of the last step.

    Args:
        which: ``'average'``, ``'last'``, or None for the average if there is one.

    Raises:
        ValueError: If ``which`` is ``'average'`` and there is none.
    """
    from projects.sam2.checkpoints import TRAINED_FIELD, weights_of

    averaged = weights_of(checkpoint, source=source)
    if TRAINED_FIELD not in checkpoint:
        if which == 'average':
            msg = (
                f'{source} holds no averaged weights: the run had no EMA hook; leave '
                f'--weights out'
            )
            raise ValueError(msg)
        return averaged
    if which != 'last':
        return averaged
    last = weights_of({'state_dict': checkpoint[TRAINED_FIELD]}, source=source)
    # Without the hook's own step counter.
    return {key: value for key, value in last.items() if key in averaged}


def digest(written: Path) -> str:
    """Compute the SHA-256 of the weights: of the largest file, in hexadecimal."""
    files = [written] if written.is_file() else written.iterdir()
    largest = max(files, key=lambda path: path.stat().st_size)
    sha = hashlib.sha256()
    with largest.open('rb') as file:
        while chunk := file.read(CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def publish(
    target: Path,
    weights: Mapping[str, Any],
    kind: 'CheckpointKind',
    model: Mapping[str, Any],
) -> Path:
    """Write weights under a name with their hash.

    Raises:
        FileExistsError: If the file exists.
    """
    from projects.sam2.checkpoints import write_checkpoint

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix='.publish-') as folder:
        written = Path(folder) / target.name
        write_checkpoint(written, weights, kind, model)
        suffix = target.suffix if target.suffix in SUFFIXES else ''
        stem = target.name.removesuffix(suffix)
        named = target.with_name(f'{stem}-{digest(written)[:HASH_DIGITS]}{suffix}')
        if named.exists():
            msg = f'{named} exists; these weights are published already'
            raise FileExistsError(msg)
        return written.replace(named)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the command line; see the top of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('checkpoint', help='checkpoint of a training run')
    add('target', type=Path, help='file or folder to write, without the hash')
    add(
        '--to',
        choices=CHECKPOINT_KINDS,
        default='mmsam2',
        help='kind of checkpoint to write',
    )
    add('--config', help='config of the model; not needed for the released sizes')
    add(
        '--weights',
        choices=('average', 'last'),
        help='for runs with an EMA hook',
    )
    options = parser.parse_args(arguments)
    from projects.sam2.apis import fitting_config
    from projects.sam2.checkpoints import CheckpointKind, read_checkpoint

    source = options.checkpoint
    checkpoint = read_checkpoint(source, 'cpu')
    weights = chosen_weights(checkpoint, options.weights, source)
    config = fitting_config(weights, options.config, source=source)
    kind = CheckpointKind(options.to)
    written = publish(options.target, weights, kind, config.model)
    print(f'{written}: {len(weights)} weights, as {kind.value}')
    return written


if __name__ == '__main__':
    call_tool(main)
