"""Do the weights of a file fit the model? MMEngine would only log that they do not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from projects.sam2.checkpoints.adapters import ADAPTER_FIELD, is_adapter_key
from projects.sam2.checkpoints.formats import MODEL_SIGN, describe_keys, find_weights
from projects.sam2.checkpoints.key_map import UnknownKeyError

__all__ = [
    'CheckpointMismatchError',
    'ModelKind',
    'check_values',
    'check_weights',
    'listed',
    'recognise_model',
    'weights_of',
]

# Weights that SAM 2.1 added.
VERSION_2_1_SIGNS = (
    'tracker.no_object_embedding',
    'tracker.object_pointer.time_projection.weight',
)
# Weights of the memory path; the image model of transformers has none of them.
MEMORY_SIGN = 'tracker.memory_attention.'
POSITION_KEY = 'image_encoder.backbone.position_embedding'
BLOCK_SIGN = 'image_encoder.backbone.blocks.{}.norm1.weight'
# Channels of the first stage and number of blocks.
SIZES = {
    (96, 12): 'tiny',
    (96, 16): 'small',
    (112, 24): 'bplus',
    (144, 48): 'large',
}
MAX_NAMED_KEYS = 8
MERGING = (
    'The file has adapters; use the config that it was trained with, or merge them by '
    'tools/model_converters/convert_adapters.py merge.'
)

NO_SAM2 = describe_keys(())
GIVE_WEIGHTS = (
    'give a released SAM 2 file, a SAM 2 folder of transformers, or a checkpoint that '
    'this project wrote'
)

Shapes = Mapping[str, tuple[int, ...]]


class CheckpointMismatchError(ValueError):
    """The weights of a file do not fit the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """Which SAM 2 a set of weights belongs to.

    Attributes:
        version: ``'2.0'``, ``'2.1'``, or None for the image part alone, which is the
            same in both.
        size: ``'tiny'``, ``'small'``, ``'bplus'``, ``'large'``, or None where the
            shapes are those of no released model.
    """

    version: str | None
    size: str | None

    @property
    def config(self) -> str | None:
        """Config of the model, or None where no released model is of this kind."""
        if self.size is None or self.version is None:
            return None
        return f'_base_/models/sam{self.version.replace(".", "_")}_{self.size}.py'

    def __str__(self) -> str:
        """For people: version and size."""
        version = self.version and f'SAM {self.version}'
        size = self.size or 'a size of its own'
        return f'{version or "the image part of SAM 2"} of {size}'


def recognise_model(shapes: Shapes) -> ModelKind | None:
    """Tell version and size of weights: the version by keys, the size by shapes.

    Args:
        shapes: Shape of each weight, by our names.

    Returns:
        Version and size, or None where the weights are no SAM 2.
    """
    if MODEL_SIGN not in shapes:
        return None
    version: str | None = '2.0'
    if any(sign in shapes for sign in VERSION_2_1_SIGNS):
        version = '2.1'
    elif not any(key.startswith(MEMORY_SIGN) for key in shapes):
        version = None
    num_blocks = 0
    while BLOCK_SIGN.format(num_blocks) in shapes:
        num_blocks += 1
    channels = shapes[POSITION_KEY][1] if POSITION_KEY in shapes else 0
    return ModelKind(version=version, size=SIZES.get((channels, num_blocks)))


def weights_of(checkpoint: Mapping[str, Any], *, source: str) -> dict[str, Tensor]:
    """Take the weights out of a checkpoint.

    Args:
        checkpoint: As :func:`read_checkpoint` gives it.
        source: Where the checkpoint comes from, for the error.

    Returns:
        Weights by our names, without what wrappers of the model add.

    Raises:
        CheckpointMismatchError: If there are none, those of several models, or some
            that are no dense tensors.
    """
    if ADAPTER_FIELD in checkpoint:
        msg = (
            f'{source} holds what a run has trained, and not the rest; merge it with '
            f'the plain file that the run began with (convert_adapters.py merge '
            f'--base), or name it as default_hooks.checkpoint_check.adapters'
        )
        raise CheckpointMismatchError(msg)
    try:
        found = find_weights(checkpoint, within_models=True)
    except (UnknownKeyError, ValueError) as error:
        raise CheckpointMismatchError(f'{source}: {error}') from error
    if found is None and not isinstance(checkpoint.get('state_dict'), Mapping):
        held = describe_keys(checkpoint)
        names = sorted(map(str, checkpoint))[:MAX_NAMED_KEYS]
        msg = (
            f'{source} holds '
            f'{"no weights that this project can read" if held == NO_SAM2 else held}, '
            f'but {names}; {GIVE_WEIGHTS}'
        )
        raise CheckpointMismatchError(msg)
    if found is None:
        state = checkpoint['state_dict']
        weights = {key.removeprefix('module.'): value for key, value in state.items()}
    else:
        _, weights = found
    odd = [key for key, value in weights.items() if not _is_dense(value)]
    if odd:
        msg = f'{source}: {listed("weights are no dense tensors", odd)}; save it again'
        raise CheckpointMismatchError(msg)
    return weights


def _is_dense(value: object) -> bool:
    """Whether a value can be copied into a parameter."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_meta
    )


def check_weights(
    weights: Mapping[str, Tensor], model: nn.Module, *, source: str
) -> None:
    """Compare weights with a model.

    Args:
        weights: By our names.
        model: The model that they are for.
        source: Where the weights come from, for the error.

    Raises:
        CheckpointMismatchError: If a weight is missing, unknown or of another shape.
            It names version and size of both, the weights, and the config to use.
            Also if a weight is no real floating-point tensor, or has NaN or infinity.
    """
    given = _shapes(weights.items())
    wanted = _shapes(model.state_dict().items())
    shared = given.keys() & wanted.keys()
    problems = [
        listed('missing', sorted(wanted.keys() - given.keys())),
        listed('unexpected', sorted(given.keys() - wanted.keys())),
        listed(
            'of another shape',
            [
                f'{key} {given[key]} instead of {wanted[key]}'
                for key in sorted(shared)
                if given[key] != wanted[key]
            ],
        ),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        kinds = recognise_model(given), recognise_model(wanted)
        verdict = list(_verdict(*kinds, held=describe_keys(given)))
        if any(map(is_adapter_key, given)) and not any(map(is_adapter_key, wanted)):
            verdict[1:] = [MERGING]
        lines = [f'{source} does not fit the model.', *verdict, *problems]
        raise CheckpointMismatchError('\n'.join(lines))
    check_values(weights, model.state_dict(), source=source)


def check_values(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, source: str
) -> None:
    """Refuse values that torch would copy or convert, and that are no weights.

    Args:
        weights: By the names of the model, or of a part of it.
        wanted: The weights that the model has now.
        source: Where the weights come from, for the error.

    Raises:
        CheckpointMismatchError: If a weight is no real floating-point tensor, or has
            NaN or infinity.
    """
    floating = {k for k, value in wanted.items() if value.is_floating_point()}
    others = sorted(k for k in floating if not weights[k].is_floating_point())
    # A sum is quicker than a test of each value, and needs no memory.
    broken = sorted(
        k
        for k in floating.difference(others)
        if not weights[k].is_meta and not weights[k].detach().float().sum().isfinite()
    )
    if others or broken:
        types = sorted({str(weights[k].dtype) for k in others})
        problems = (
            listed(f'weights are {", ".join(types)}, not floating point', others),
            listed('weights have NaN or infinite values', broken),
        )
        told = '; '.join(problem for problem in problems if problem)
        msg = f'{source}: {told}; give a checkpoint from before it broke'
        raise CheckpointMismatchError(msg)


def _verdict(
    given: ModelKind | None, wanted: ModelKind | None, *, held: str
) -> Iterable[str]:
    """What the file holds, what the model is, and the remedy."""
    yield f'The file holds {given or held}; the model is {wanted or NO_SAM2}.'
    if given is None:
        yield f'{GIVE_WEIGHTS[0].upper()}{GIVE_WEIGHTS[1:]}.'
    elif given.version is None and wanted != given:
        yield (
            'Give a file with the memory path as well; transformers writes it from '
            'Sam2VideoModel, not from Sam2Model.'
        )
    elif given == wanted:
        yield 'Give the file that belongs to this config.'
    elif given.config is not None:
        yield f"Use a config with _base_ = '{given.config}', or give another file."
    else:
        yield 'Use the config that the file was trained with.'


def listed(what: str, names: list[str]) -> str:
    """Count and name weights in a line.

    Args:
        what: What is the matter with them.
        names: Of the weights; of many, a few are named.

    Returns:
        The line, empty where there are none.
    """
    if not names:
        return ''
    more = f', and {len(names) - MAX_NAMED_KEYS} more'
    shown = ', '.join(names[:MAX_NAMED_KEYS])
    return f'{len(names)} {what}: {shown}{more if len(names) > MAX_NAMED_KEYS else ""}'


def _shapes(items: Iterable[tuple[str, Tensor]]) -> Shapes:
    """Shape of each weight."""
    return {key: tuple(value.shape) for key, value in items}
