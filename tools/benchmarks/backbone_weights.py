"""Loads each released size into ``HieraBackbone`` from each kind of checkpoint.

::

    python tools/benchmarks/backbone_weights.py             # 2 GB of disk, minutes
    python tools/benchmarks/backbone_weights.py --sizes tiny small

The weights are random, in files as the release, transformers and this project write
them. Every weight has to come back bit for bit, and every other size has to raise.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import Tensor

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.bridges.hiera_backbone import HieraBackbone, HieraPyramid
from projects.sam2.checkpoints import (
    CheckpointKind,
    CheckpointMismatchError,
    write_checkpoint,
)

MODEL_CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'models'
SIZES = ('tiny', 'small', 'bplus', 'large')
BACKBONE, NECK = 'image_encoder.backbone.', 'image_encoder.neck.'


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights whose names begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def write_kinds(
    folder: Path, config: Config, state: dict[str, Tensor]
) -> Iterator[tuple[str, Path]]:
    """Write a model as each kind of checkpoint, one at a time."""
    model = dict(config.model)
    for kind, name in (
        (CheckpointKind.RELEASED, 'released.pt'),
        (CheckpointKind.HUGGINGFACE, 'transformers'),
        (CheckpointKind.MMSAM2, 'ours.pth'),
    ):
        write_checkpoint(folder / name, state, kind, model)
        yield kind.value, folder / name
    torch.save(below(state, BACKBONE), folder / 'no_prefix.pth')
    yield 'no prefix', folder / 'no_prefix.pth'


def loads(part: HieraBackbone | HieraPyramid, wanted: dict[str, Tensor]) -> bool:
    """Whether a part gets exactly the wanted weights from its checkpoint."""
    part.init_weights()
    given = part.state_dict()
    return given.keys() == wanted.keys() and all(
        torch.equal(given[key], wanted[key]) for key in wanted
    )


def refuses(size: str, init_cfg: dict[str, object]) -> bool:
    """Whether a backbone of another size raises before it has loaded anything."""
    backbone = HieraBackbone(arch=size, init_cfg=init_cfg)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    try:
        backbone.init_weights()
    except CheckpointMismatchError:
        state = backbone.state_dict()
        return all(torch.equal(state[key], before[key]) for key in before)
    return False


def main() -> None:
    """Check all combinations, a line for each."""
    MMLogger.get_instance('quiet', log_level='ERROR')
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--sizes', nargs='+', choices=SIZES, default=SIZES)
    parser.add_argument('--versions', nargs='+', default=('2.0', '2.1'))
    options = parser.parse_args()
    for version in options.versions:
        for size in options.sizes:
            path = MODEL_CONFIGS / f'sam{version.replace(".", "_")}_{size}.py'
            config = Config.fromfile(path)
            config.model.update(loss=None, accumulators=[])
            state = MODELS.build(config.model).state_dict()
            channels = config.model.image_encoder.neck.in_channels
            with tempfile.TemporaryDirectory() as folder:
                for kind, file in write_kinds(Path(folder), config, state):
                    init_cfg: dict[str, object] = {
                        'type': 'Pretrained',
                        'checkpoint': str(file),
                    }
                    backbone = HieraBackbone(arch=size, init_cfg=init_cfg)
                    is_right = loads(backbone, below(state, BACKBONE))
                    if kind != 'no prefix':
                        neck = HieraPyramid(in_channels=channels, init_cfg=init_cfg)
                        is_right &= loads(neck, below(state, NECK))
                    others = [other for other in options.sizes if other != size]
                    is_right &= all(refuses(other, init_cfg) for other in others)
                    print(f'{version} {size:5} {kind:11} {is_right}', flush=True)
                    if not is_right:
                        raise SystemExit(1)


if __name__ == '__main__':
    main()
