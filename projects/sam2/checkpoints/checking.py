"""Weights of models with low-rank adapters, named as the package ``peft`` does.

A layer ``x`` with an adapter has its own weights in ``x.base_layer``, and the adapter's
in ``x.lora_A.default`` and its like.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from .key_map import (
    KEY_TABLE,
    MODEL_SIGN,
    Naming,
    UnknownKeyError,
    describe_keys,
    find_weights,
    plain_key,
    to_huggingface,
    to_released,
)

BASE = '.base_layer.'
ADAPTER_SIGN = '.lora_'
MAGNITUDE = '.lora_magnitude_vector.default.weight'
# Of files that hold what was trained alone.
ADAPTER_FIELD = 'adapter_state_dict'


def is_adapter_key(key: str) -> bool:
    """Tell adapters from the layers that they adapt."""
    return ADAPTER_SIGN in key


def to_plain_key(key: str) -> str:
    """Translate the name of an adapted layer's weight."""
    return key.replace(BASE, '.')


def fit_adapters(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Make weights of a plain model fit a model with adapters.

    Returns:
        Weights by the model's names, with the adapters that the model has now: it
        then computes what a plain model would, if these are new. Weights that have
        adapters already, and those for a model without any, are left as they are.
    """
    if any(map(is_adapter_key, weights)) or not any(map(is_adapter_key, wanted)):
        return dict(weights)
    adapted = {to_plain_key(key): key for key in wanted if BASE in key}
    fitted = {adapted.get(key, key): value for key, value in weights.items()}
    for key, value in wanted.items():
        if is_adapter_key(key):
            base = fitted.get(f'{key.removesuffix(MAGNITUDE)}{BASE}weight')
            # DoRA keeps the lengths of a matrix's rows apart.
            fitted[key] = value if base is None else vector_norm(base, dim=1)
    return fitted


def adapter_weights_of(checkpoint: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Take the weights out of a file that holds what was trained alone.

    Raises:
        ValueError: If it is another kind of file.
    """
    if ADAPTER_FIELD not in checkpoint:
        msg = (
            f'{source} is no file of adapters, but has {sorted(checkpoint)}; write one '
            f'by tools/model_converters/convert_adapters.py save'
        )
        raise ValueError(msg)
    return dict(checkpoint[ADAPTER_FIELD])


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


MAX_NAMES = 3  # that an error shows

State = Mapping[str, Tensor]


def part_weights(
    checkpoint: Mapping[str, Any],
    wanted: State,
    *,
    part: str,
    prefix: str | None,
    source: str,
) -> dict[str, Tensor]:
    """Take the weights of a part out of a checkpoint.

    The checkpoint may be a whole SAM 2 of any kind, a run of a model that has the part
    under another name (``backbone.…``), or the part alone.

    Args:
        checkpoint: As :func:`read_checkpoint` gives it.
        part: Prefix of the part in our SAM 2, such as ``'image_encoder.backbone.'``.
        prefix: Its prefix in the checkpoint, in the checkpoint's names or in ours;
            None to look for it.

    Raises:
        CheckpointMismatchError: If the checkpoint does not have the part, or a weight
            is missing, unexpected, of another shape, no floating-point number or NaN.
    """
    plain_names = {to_plain_key(name): name for name in wanted}
    plain = {key: wanted[name] for key, name in plain_names.items()}
    state = _bare_state(checkpoint)
    candidates = dict(_candidates(state, plain, part))
    if prefix is not None:
        start = f'{plain_key(prefix.strip("."))}.'
        candidates = {key: value for key, value in candidates.items() if key == start}
    is_of_part = prefix is None or any(
        f'.{start}'.endswith(f'.{name}') for name in _names_of(part)
    )
    if is_of_part and (prefix is None or not candidates):
        try:
            whole = find_weights(checkpoint, within_models=True)
        except (UnknownKeyError, ValueError) as error:
            raise CheckpointMismatchError(f'{source}: {error}') from error
        if whole is not None:
            candidates = {part: whole[1]}
    if not candidates:
        where = '' if prefix is None else f' under prefix={prefix!r}'
        hint = '' if prefix is None else '; without prefix it is looked for'
        names = ', '.join(sorted(state)[:MAX_NAMES])
        msg = (
            f'{source} has no {part.rstrip(".")}{where}: it holds '
            f'{describe_keys(state)} ({names or "no weights"}, …); give a checkpoint '
            f'of SAM 2, or one with the weights of this part{hint}'
        )
        raise CheckpointMismatchError(msg)
    start, state = max(
        candidates.items(),
        key=lambda item: sum(item[0] + key in item[1] for key in plain),
    )
    given = {
        key.removeprefix(start): value
        for key, value in state.items()
        if key.startswith(start)
    }
    fitted = fit_adapters(given, wanted)
    _check(fitted, wanted, f'{source} does not fit {part.rstrip(".")}')
    check_values(fitted, wanted, source=source)
    return fitted


def _check(given: State, wanted: State, what: str) -> None:
    """Raise unless weights are exactly those that are wanted."""
    shapes = {
        f'{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}'
        for key, value in wanted.items()
        if key in given and given[key].shape != value.shape
    }
    problems = [
        listed('missing', sorted(wanted.keys() - given.keys())),
        listed('unexpected', sorted(given.keys() - wanted.keys())),
        listed('of another shape', sorted(shapes)),
    ]
    if any(problems):
        lines = [f'{what}.', *filter(None, problems)]
        raise CheckpointMismatchError('\n'.join(lines))


def _bare_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights by the checkpoint's names, without the parts that wrappers add."""
    state = checkpoint
    for field in ('state_dict', 'model', 'model_state_dict'):
        if isinstance(checkpoint.get(field), Mapping):
            state = checkpoint[field]
            break
    return {
        plain_key(key): value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def _candidates(
    state: State, wanted: State, part: str
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Find the prefixes under which a state dict may have a part, in any naming."""
    for naming, translate in (
        (Naming.OURS, str),
        (Naming.RELEASED, to_released),
        (Naming.HUGGINGFACE, to_huggingface),
    ):
        start = _names_of(part)[naming] if naming else part
        try:
            names = {
                translate(f'{part}{key}').removeprefix(start): key for key in wanted
            }
        except UnknownKeyError:  # a weight that no SAM 2 has
            continue
        # The longest name is the one that other models are least likely to have.
        sign = max(names, key=lambda name: (name.count('.'), len(name)))
        for match in [key for key in state if f'.{key}'.endswith(f'.{sign}')]:
            prefix = match.removesuffix(sign)
            yield (
                prefix,
                {
                    prefix
                    + names.get(key.removeprefix(prefix), key.removeprefix(prefix))
                    if key.startswith(prefix)
                    else key: value
                    for key, value in state.items()
                },
            )


def _names_of(part: str) -> tuple[str, str, str]:
    """Prefix of a part in each naming; of several parts, the prefix they share."""
    for prefixes, _ in KEY_TABLE:
        if prefixes[Naming.OURS] == part:
            return prefixes
    for prefixes, _ in KEY_TABLE:
        if prefixes[Naming.OURS].startswith(part):
            ours, released, theirs = (f'{name.partition(".")[0]}.' for name in prefixes)
            return ours, released, theirs
    return part, part, part
