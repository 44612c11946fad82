"""Compares the weights of a checkpoint with a model, and reports what does not fit."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .adapters import ADAPTER_FIELD, fit_adapters, is_adapter_key, to_plain_key
from .key_map import (
    KEY_TABLE,
    Names,
    Naming,
    UnknownKeyError,
    to_huggingface,
    to_released,
)
from .weights import MODEL_KEY, describe_keys, find_weights, plain_key

State = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

BACKBONE = 'image_encoder.backbone.'

# Weights that SAM 2.1 added.
VERSION_2_1_KEYS = {
    'tracker.no_object_embedding',
    'tracker.object_pointer.time_projection.weight',
}
# Channels of the first stage and number of blocks.
SIZES: dict[tuple[int, ...], str] = {
    (96, 12): 'tiny',
    (96, 16): 'small',
    (112, 24): 'bplus',
    (144, 48): 'large',
}
FAMILY_NAMES = {
    'sam2': 'SAM 2',
    'efficienttam': 'EfficientTAM',
    'edgetam': 'EdgeTAM',
    'sam3': "SAM 3's tracker",
}
# Prefixes of weights that only one family has: a file that lacks one of them is still
# recognised. SAM 2 has none of these.
FAMILY_PREFIXES = {
    'efficienttam': ('image_encoder.neck.conv', 'image_encoder.neck.projection'),
    'edgetam': (f'{BACKBONE}stem.',),
    'sam3': (f'{BACKBONE}layers.',),
}
# What tells the released size: of EfficientTAM channels and number of blocks; its
# configs of a size have equal weights.
EFFICIENTTAM_SIZES: dict[tuple[int, ...], str] = {(192, 12): 'ti', (384, 12): 's'}
EFFICIENTTAM_VARIANTS = ('', '_1', '_2', '_512x512')
# Of RepViT-M1 the 14th block of the third stage.
EDGETAM_KEY = f'{BACKBONE}stem.2.conv.weight'
EDGETAM_LAST_BLOCK = f'{BACKBONE}stages.2.blocks.13.token_mixer.conv3x3.conv.weight'
# Of SAM 3 channels and number of blocks.
SAM3_KEY = f'{BACKBONE}tiled_position_embedding'
SAM3_DIMS = (1024, 32)
MAX_LISTED_KEYS = 8
MERGE_ADAPTERS = (
    'The file has adapters; use the config that it was trained with, or merge them by '
    'tools/model_converters/convert_adapters.py merge'
)
NO_SAM2 = describe_keys(())
SUPPORTED_FILES = (
    'a released SAM 2 file, a SAM 2 folder of transformers, or a checkpoint that this '
    'project wrote'
)


class CheckpointMismatchError(ValueError):
    """The weights of a file do not fit the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """Version and size of a SAM 2, or of a model that is built like one.

    Attributes:
        version: ``'2.0'``, ``'2.1'``, or None for the image part alone, which is the
            same in both. Other families have no version.
        size: ``'tiny'``, ``'small'``, ``'bplus'``, ``'large'`` (of EfficientTAM
            ``'ti'``, ``'s'``, of EdgeTAM that of its RepViT, ``'m1'``, of SAM 3
            ``'tracker'``), or None if the shapes are not those of a released model.
        family: ``'sam2'``, ``'efficienttam'``, ``'edgetam'`` or ``'sam3'``.
        is_image_part: The weights have no memory path.
    """

    version: str | None
    size: str | None
    family: str = 'sam2'
    is_image_part: bool = False

    @property
    def configs(self) -> tuple[str, ...]:
        """Configs of released models with these weights; several if they are alike."""
        if self.size is None or self.is_image_part:
            return ()
        version = (self.version or '').replace('.', '_')
        names = {
            'sam2': [f'sam{version}_{self.size}'],
            'efficienttam': [
                f'efficienttam_{self.size}{variant}'
                for variant in EFFICIENTTAM_VARIANTS
            ],
            'edgetam': ['edgetam'],
            'sam3': ['sam3_tracker'],
        }[self.family]
        return tuple(f'_base_/models/{name}.py' for name in names)

    @property
    def config(self) -> str | None:
        """Config of the model, or None if the weights do not tell."""
        return self.configs[0] if len(self.configs) == 1 else None

    def __str__(self) -> str:
        name = FAMILY_NAMES[self.family]
        if self.is_image_part:
            name = f'the image part of {name}'
        elif self.version:
            name = f'SAM {self.version}'
        if self.size is None:
            return f'{name} of a size of its own'
        if self.family == 'efficienttam':
            return f'{name}-{self.size.title()}'
        return f'{name} of {self.size}' if self.family == 'sam2' else name


def recognise_model(shapes: Shapes) -> ModelKind | None:
    """Recognise the version of weights by their names and the size by their shapes.

    Returns:
        None if the weights are not those of a SAM 2.
    """
    if MODEL_KEY not in shapes:
        return None
    family = _family_of(shapes)
    if family == 'efficienttam':
        dims = shapes.get(f'{BACKBONE}position_embedding', ())[2:]
        size = EFFICIENTTAM_SIZES.get((*dims, _num_blocks(shapes, BACKBONE)))
        return ModelKind(version=None, size=size, family=family)
    # Sam2Model and EdgeTamModel of transformers have no memory.
    has_memory = any(key.startswith('tracker.memory_attention.') for key in shapes)
    if family == 'edgetam':
        channels = shapes.get(EDGETAM_KEY, ())[:1]
        is_m1 = channels == (48,) and EDGETAM_LAST_BLOCK in shapes
        return ModelKind(
            version=None,
            size='m1' if is_m1 else None,
            family=family,
            is_image_part=not has_memory,
        )
    if family == 'sam3':
        dims = (*shapes.get(SAM3_KEY, ())[2:], _num_blocks(shapes, BACKBONE, 'layers'))
        return ModelKind(
            version=None,
            size='tracker' if dims == SAM3_DIMS else None,
            family=family,
            is_image_part=not has_memory,
        )
    version: str | None = '2.0'
    if not VERSION_2_1_KEYS.isdisjoint(shapes):
        version = '2.1'
    elif not has_memory:
        version = None
    return ModelKind(
        version=version,
        size=_size_of(shapes, BACKBONE),
        is_image_part=version is None,
    )


def _family_of(shapes: Shapes) -> str:
    for family, prefixes in FAMILY_PREFIXES.items():
        if any(key.startswith(prefixes) for key in shapes):
            return family
    return 'sam2'


def _size_of(shapes: Shapes, prefix: str) -> str | None:
    """Size of a released backbone by the weights below a prefix; None for others."""
    position = shapes.get(f'{prefix}position_embedding', ())
    return SIZES.get((*position[1:2], _num_blocks(shapes, prefix)))


def _num_blocks(shapes: Shapes, prefix: str, name: str = 'blocks') -> int:
    num_blocks = 0
    while f'{prefix}{name}.{num_blocks}.norm1.weight' in shapes:
        num_blocks += 1
    return num_blocks


def weights_of(checkpoint: Mapping[str, Any], *, source: str) -> dict[str, Tensor]:
    """Get the weights of a checkpoint by our names.

    Args:
        checkpoint: As :func:`read_checkpoint` returns it.
        source: Name of the file, for errors.

    Raises:
        CheckpointMismatchError: If there are none, those of several models, or some
            that are not dense tensors.
    """
    if ADAPTER_FIELD in checkpoint:
        msg = (
            f'{source} holds what a run has trained, and not the rest; merge it with '
            f'the plain file that the run began with (convert_adapters.py merge '
            f'--base), or name it as default_hooks.checkpoint_check.adapters'
        )
        raise CheckpointMismatchError(msg)
    weights = _find(checkpoint, source)
    if weights is None:
        state = checkpoint.get('state_dict')
        if not isinstance(state, Mapping):
            description = describe_keys(checkpoint)
            if description == NO_SAM2:
                description = 'no weights that this project can read'
            fields = sorted(map(str, checkpoint))[:MAX_LISTED_KEYS]
            msg = f'{source} holds {description}, but {fields}; give {SUPPORTED_FILES}'
            raise CheckpointMismatchError(msg)
        weights = {key.removeprefix('module.'): value for key, value in state.items()}
    not_dense = [key for key, value in weights.items() if not _is_dense(value)]
    if not_dense:
        problem = list_keys('weights are no dense tensors', not_dense)
        raise CheckpointMismatchError(f'{source}: {problem}; save it again')
    return weights


def _find(checkpoint: Mapping[str, Any], source: str) -> dict[str, Tensor] | None:
    """Find a SAM 2, which may be a part of a larger model."""
    try:
        result = find_weights(checkpoint, within_models=True)
    except (UnknownKeyError, ValueError) as error:
        raise CheckpointMismatchError(f'{source}: {error}') from error
    return None if result is None else result[1]


def _is_dense(value: object) -> bool:
    """Whether a value can be copied into a parameter."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and not value.is_meta
    )


def check_weights(weights: State, model: nn.Module, *, source: str) -> None:
    """Check that weights fit a model.

    Raises:
        CheckpointMismatchError: If a weight is missing, unexpected, of another shape,
            not a real floating-point tensor, or has NaN or infinity. The error names
            version and size of both, the weights, and the config to use.
    """
    expected = model.state_dict()
    differences = _differences(weights, expected)
    if differences:
        given_kind, expected_kind = (
            recognise_model({key: tuple(value.shape) for key, value in state.items()})
            for state in (weights, expected)
        )
        remedy = _remedy(given_kind, expected_kind)
        if _has_adapters_alone(weights, expected):
            remedy = f'{MERGE_ADAPTERS}.'
        given = given_kind or describe_keys(weights)
        kinds = f'The file holds {given}; the model is {expected_kind or NO_SAM2}.'
        title = f'{source} does not fit the model.'
        raise CheckpointMismatchError('\n'.join((title, kinds, remedy, *differences)))
    check_values(weights, expected, source=source)


def check_values(weights: State, expected: State, *, source: str) -> None:
    """Refuse values that torch would load silently, but that cannot be weights.

    Raises:
        CheckpointMismatchError: If a weight is not a real floating-point tensor, or has
            NaN or infinity.
    """
    keys = sorted(key for key, value in expected.items() if value.is_floating_point())
    not_floats = [key for key in keys if not weights[key].is_floating_point()]
    not_finite = [
        key
        for key in keys
        if key not in not_floats
        and not weights[key].is_meta
        # Faster than testing each value, and needs no memory.
        and not weights[key].detach().float().sum().isfinite()
    ]
    if not_floats or not_finite:
        types = ', '.join(sorted({str(weights[key].dtype) for key in not_floats}))
        problems = (
            list_keys(f'weights are {types}, not floating point', not_floats),
            list_keys('weights have NaN or infinite values', not_finite),
        )
        msg = (
            f'{source}: {"; ".join(filter(None, problems))}; give a checkpoint from '
            f'before it broke'
        )
        raise CheckpointMismatchError(msg)


def _has_adapters_alone(given: State, expected: State) -> bool:
    """Whether weights have adapters, and the model has none."""
    return any(map(is_adapter_key, given)) and not any(map(is_adapter_key, expected))


def _differences(given: State, expected: State) -> list[str]:
    """List missing, unexpected and misshapen weights, a line for each kind."""
    misshapen = [
        f'{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}'
        for key in sorted(given.keys() & expected.keys())
        if given[key].shape != expected[key].shape
    ]
    lines = (
        list_keys('missing', sorted(expected.keys() - given.keys())),
        list_keys('unexpected', sorted(given.keys() - expected.keys())),
        list_keys('of another shape', misshapen),
    )
    return [line for line in lines if line]


def _remedy(given: ModelKind | None, expected: ModelKind | None) -> str:
    if given is None:
        return f'Give {SUPPORTED_FILES}.'
    if given == expected:
        return 'Give the file that belongs to this config.'
    if len(given.configs) > 1:
        return f'Use a config of {given}; {ambiguity_of(given)}.'
    if given.is_image_part:
        names = {'edgetam': 'EdgeTam', 'sam3': 'Sam3Tracker'}
        name = names.get(given.family, 'Sam2')
        return (
            f'Give a file with the memory path as well; transformers writes it from '
            f'{name}VideoModel, not from {name}Model.'
        )
    if given.config is None:
        return 'Use the config that the file was trained with.'
    return f"Use a config with _base_ = '{given.config}', or give another file."


def ambiguity_of(kind: ModelKind) -> str:
    """Say that the configs of weights cannot be told apart, and which there are."""
    names = ', '.join(Path(config).stem for config in kind.configs)
    return (
        f'its {len(kind.configs)} configs have the same weights, and only the name of '
        f'the file tells which one they were trained with: {names}'
    )


def list_keys(problem: str, keys: Collection[str]) -> str:
    """Count and name the weights with a problem; empty where there are none."""
    if not keys:
        return ''
    names = ', '.join(list(keys)[:MAX_LISTED_KEYS])
    num_more = len(keys) - MAX_LISTED_KEYS
    more = f', and {num_more} more' if num_more > 0 else ''
    return f'{len(keys)} {problem}: {names}{more}'


# ---------------------------------------------------------------------------- A part


def part_weights(
    checkpoint: Mapping[str, Any],
    expected: State,
    *,
    part: str,
    prefix: str | None,
    source: str,
) -> dict[str, Tensor]:
    """Get the weights of a part of the model, such as the backbone.

    The checkpoint may be a whole SAM 2 of any kind, another model that has the part
    (``backbone.…``), or the part alone.

    Args:
        checkpoint: As :func:`read_checkpoint` returns it.
        expected: State dict of the part.
        part: Prefix of the part in our SAM 2, such as ``'image_encoder.backbone.'``.
        prefix: Its prefix in the checkpoint, in the checkpoint's names or in ours; None
            to look for it.
        source: Name of the file, for errors.

    Raises:
        CheckpointMismatchError: If the checkpoint does not have the part, or a weight
            is missing, unexpected, of another shape, not a real floating-point tensor,
            or has NaN or infinity.
    """
    plain_names = {to_plain_key(name) for name in expected if not is_adapter_key(name)}
    state = _plain_state(checkpoint)
    candidates = [
        *_candidates(state, plain_names, part),
        *_candidates(state, expected.keys(), part),  # with the adapters of a run
    ]
    is_sam2_prefix = True
    if prefix is not None:
        start = f'{plain_key(prefix.strip("."))}.'
        candidates = [item for item in candidates if item[0] == start]
        is_sam2_prefix = any(
            f'.{start}'.endswith(f'.{name}') for name in _prefixes_of(part)
        )
    if is_sam2_prefix and (prefix is None or not candidates):
        whole = _find(checkpoint, source)
        if whole is not None:
            candidates = [(part, weights_below(part, whole))]
    if not candidates:
        where = '' if prefix is None else f' under prefix={prefix!r}'
        hint = '' if prefix is None else '; without prefix it is looked for'
        names = ', '.join(sorted(state)[:3])
        msg = (
            f'{source} has no {part.rstrip(".")}{where}: it holds '
            f'{describe_keys(state)} ({names or "no weights"}, …); give a checkpoint '
            f'of SAM 2, or one with the weights of this part{hint}'
        )
        raise CheckpointMismatchError(msg)
    _, weights = max(candidates, key=lambda item: len(expected.keys() & item[1].keys()))
    fitted = fit_adapters(weights, expected)
    differences = _differences(fitted, expected)
    if differences:
        given, wanted = (
            _size_of({key: tuple(value.shape) for key, value in state.items()}, '')
            for state in (weights, expected)
        )
        kinds = ''
        if given and wanted and given != wanted:
            kinds = f': it has the weights of {given}, not of {wanted}'
        title = f'{source} does not fit {part.rstrip(".")}{kinds}.'
        if _has_adapters_alone(weights, expected):
            differences = [f'{MERGE_ADAPTERS}.', *differences]
        raise CheckpointMismatchError('\n'.join((title, *differences)))
    check_values(fitted, expected, source=source)
    return fitted


def _plain_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights by the checkpoint's names, without the parts that wrappers add."""
    fields = ('state_dict', 'model', 'model_state_dict')
    states = [checkpoint[field] for field in fields if field in checkpoint]
    state = next((s for s in states if isinstance(s, Mapping)), checkpoint)
    return {
        plain_key(key): value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }


def weights_below(prefix: str, state: State) -> dict[str, Tensor]:
    """Weights whose names begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def _candidates(
    state: State, expected: Collection[str], part: str
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Find the prefixes under which a state dict may have a part, in any naming.

    Yields:
        A prefix, and the weights below it by our names.
    """
    for naming, translate in (
        (Naming.OURS, str),
        (Naming.RELEASED, to_released),
        (Naming.HUGGINGFACE, to_huggingface),
    ):
        start = _prefixes_of(part)[naming] if naming else part
        try:
            our_names = {
                translate(f'{part}{key}').removeprefix(start): key for key in expected
            }
        except UnknownKeyError:  # a weight that no SAM 2 has
            continue
        # Another model is least likely to contain the longest name by chance.
        longest = max(our_names, key=lambda name: (name.count('.'), len(name)))
        for key in state:
            if f'.{key}'.endswith(f'.{longest}'):
                prefix = key.removesuffix(longest)
                yield (
                    prefix,
                    {
                        our_names.get(name, name): value
                        for name, value in weights_below(prefix, state).items()
                    },
                )


def _prefixes_of(part: str) -> Names:
    """Prefixes of a part in each naming; of several parts, what they share."""
    for prefixes, _ in KEY_TABLE:
        if prefixes[Naming.OURS] == part:
            return prefixes
    for prefixes, _ in KEY_TABLE:
        if prefixes[Naming.OURS].startswith(part):
            return tuple(f'{name.partition(".")[0]}.' for name in prefixes)
    return (part,) * 3
