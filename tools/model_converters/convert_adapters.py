"""Save only what a run with frozen parts or adapters has trained, or merge it back.

    python tools/model_converters/convert_adapters.py save CONFIG CHECKPOINT TARGET
    python tools/model_converters/convert_adapters.py merge CONFIG CHECKPOINT TARGET

`save` reads a checkpoint of such a run and writes the trained weights, a small part of
it. `merge` reads a checkpoint of the run, or a file that `save` wrote together with the
checkpoint that the run began with (`--base`). It writes a plain checkpoint of any kind,
which gives the same results without adapters and without peft. CONFIG is the config of
the run. If the run has an EMA hook, the averaged weights are used.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import CHECKPOINT_KINDS, call_tool

if TYPE_CHECKING:
    from projects.sam2.models import SAM2


def load_trained(config: str, checkpoint: str, base: str | None) -> 'SAM2':
    """Build the model of a run and load its weights.

    Args:
        checkpoint: Of the run, or a file that :func:`save` wrote.
        base: In the second case, the checkpoint that the run began with.
    """
    from mmengine.registry import MODELS

    from projects.sam2.apis.building import load_model_config
    from projects.sam2.checkpoints import (
        adapter_weights_of,
        check_weights,
        fit_adapters,
        read_checkpoint,
        weights_of,
    )
    from projects.sam2.engine.config import part_name

    settings = load_model_config(config).model
    if part_name(settings) == 'SAM2':
        settings.update(loss=None, accumulators=[])  # they have no weights
    model: SAM2 = MODELS.build(settings).eval()
    loaded = read_checkpoint(checkpoint, 'cpu')
    if base is None:
        weights = weights_of(loaded, source=checkpoint)
    else:
        plain = weights_of(read_checkpoint(base, 'cpu'), source=base)
        weights = fit_adapters(plain, model.state_dict())
        weights |= adapter_weights_of(loaded, source=checkpoint)
    check_weights(weights, model, source=checkpoint)
    model.load_state_dict(weights)
    return model


def save(model: 'SAM2', target: Path) -> int:
    """Write the trained weights and return how many there are.

    Raises:
        FileExistsError: If the target exists.
    """
    import torch

    from projects.sam2.checkpoints import ADAPTER_FIELD
    from projects.sam2.models.adaptation import trained_weights
    from projects.sam2.ops import atomic_write

    if target.exists():
        msg = f'{target} exists; remove it, or name another place to write to'
        raise FileExistsError(msg)
    weights = trained_weights(model)
    with atomic_write(target) as path, path.open('wb') as file:
        torch.save({ADAPTER_FIELD: weights}, file)
    return len(weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the top of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('command', choices=('save', 'merge'))
    add('config', help='config of the run')
    add('checkpoint', help='checkpoint of the run, or a file that `save` wrote')
    add('target', type=Path, help='new file or folder to write')
    add(
        '--base',
        help='checkpoint that the run began with',
    )
    add(
        '--to',
        choices=CHECKPOINT_KINDS,
        default='mmsam2',
        help='kind of checkpoint to write',
    )
    options = parser.parse_args(arguments)
    model = load_trained(options.config, options.checkpoint, options.base)
    if options.command == 'save':
        print(f'{options.target}: {save(model, options.target)} trained weights')
        return
    from projects.sam2.apis.building import load_model_config
    from projects.sam2.checkpoints import CheckpointKind, write_checkpoint
    from projects.sam2.models.adaptation import merged_weights

    weights = merged_weights(model)
    settings = load_model_config(options.config).model
    kind = CheckpointKind(options.to)
    write_checkpoint(options.target, weights, kind, settings)
    print(f'{options.target}: {len(weights)} weights, as {kind.value}')


if __name__ == '__main__':
    call_tool(main)
