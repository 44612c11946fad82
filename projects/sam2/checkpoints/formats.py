"""Finds the weights of SAM 2 in the content of a checkpoint file.

They are recognised by the name of a weight that every version and size has, in any of
the three namings of ``key_table.py``. They may be nested in dicts, and DDP,
``torch.compile``, FSDP or a training script may have put a prefix before each name.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from projects.sam2.checkpoints.key_map import (
    UnknownKeyError,
    from_huggingface,
    from_released,
    map_from_huggingface,
    map_from_released,
    to_huggingface,
    to_released,
)
from projects.sam2.checkpoints.key_table import Naming

__all__ = ['MODEL_SIGN', 'describe_keys', 'find_weights', 'plain_key']

# A weight that every version and size has.
MODEL_SIGN = 'prompt_encoder.position_encoding.gaussian_matrix'
SIGNS = (
    (Naming.RELEASED, to_released(MODEL_SIGN)),
    # The first SAM has the other sign as well, under the same name.
    (Naming.HUGGINGFACE, to_huggingface('image_encoder.backbone.position_embedding')),
    (Naming.OURS, MODEL_SIGN),
)
# Entries under which training scripts save weights, the trained ones before averages.
WEIGHT_FIELDS = (
    'state_dict',
    'model',
    'model_state_dict',
    'checkpoint',
    'module',
    'net',
    'network',
    'weights',
    'params',
    'ema',
    'model_ema',
    'state_dict_ema',
    'ema_state_dict',
    'teacher',
)
MAX_NESTING = 3
# Parts of names that DDP, torch.compile, FSDP and DeepSpeed add, anywhere in a name.
WRAPPER_PARTS = frozenset(
    {
        'module',
        '_orig_mod',
        '_fsdp_wrapped_module',
        '_checkpoint_wrapped_module',
        '_forward_module',
    }
)
# What torch's AveragedModel and MMEngine's count beside the weights.
COUNTERS = frozenset({'n_averaged', 'steps'})
FIRST_SAM_SIGN = 'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix'
MAX_TRIED_KEYS = 100


def plain_key(key: str) -> str:
    """Remove from a weight's name the parts that model wrappers add.

    Args:
        key: Such as ``'module._orig_mod.image_encoder.neck.convs.0.conv.bias'``.

    Returns:
        The name in the bare model.
    """
    return '.'.join(part for part in key.split('.') if part not in WRAPPER_PARTS)


def find_weights(
    checkpoint: Mapping[str, Any], *, within_models: bool = False
) -> tuple[str, dict[str, Tensor]] | None:
    """Find the weights of a SAM 2 in a checkpoint.

    Args:
        checkpoint: What a file holds.
        within_models: Also find a SAM 2 that is part of a larger model, or of a
            training script's class (``'model.…'``); the weights of other parts are
            left out. Leave it off where the weights are loaded into that larger model,
            whose names must stay.

    Returns:
        The entry that held them (``''`` where the file holds nothing else) and the
        weights by our names; None where there is no SAM 2.

    Raises:
        UnknownKeyError: If there is a SAM 2 with a weight that no SAM 2 has.
        ValueError: If there are several, or a copy differs from its original; or if
            two weights have one name once the wrappers' parts are taken out.
    """
    for field, state in _states(checkpoint):
        keys = [key for key in state if isinstance(key, str)]
        plain = {key: plain_key(key) for key in keys}
        for naming, sign in SIGNS:
            prefixes = sorted(
                {
                    key.removesuffix(sign)
                    for key in plain.values()
                    if key == sign or (within_models and key.endswith(f'.{sign}'))
                }
            )
            if len(prefixes) > 1:
                msg = (
                    f'it holds several models, under {prefixes}; save one of them, by '
                    f'the names that it has itself'
                )
                raise ValueError(msg)
            if prefixes:
                kept = {
                    key: name.removeprefix(prefixes[0])
                    for key, name in plain.items()
                    if name.startswith(prefixes[0]) and name not in COUNTERS
                    if field or isinstance(state[key], Tensor)
                }
                _refuse_doubles(kept)
                renamed = {name: state[key] for key, name in kept.items()}
                return field, _by_our_names(renamed, naming)
    return None


def _refuse_doubles(names: Mapping[str, str]) -> None:
    """Refuse a state in which two weights would have one name."""
    if len(set(names.values())) < len(names):
        first = {name: key for key, name in reversed(list(names.items()))}
        key = next(key for key, name in names.items() if first[name] != key)
        msg = (
            f'it holds {names[key]} several times, as {first[names[key]]} and {key}; '
            f'save one model alone'
        )
        raise ValueError(msg)


def _by_our_names(state: dict[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """Rename weights of another naming."""
    if naming is Naming.RELEASED:
        return map_from_released(state)
    return map_from_huggingface(state) if naming is Naming.HUGGINGFACE else state


def _states(
    checkpoint: Mapping[str, Any], field: str = '', depth: int = 0
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A dict and the dicts in it that may hold weights, with the entries' names."""
    yield field, checkpoint
    for name in WEIGHT_FIELDS:
        inner = checkpoint.get(name)
        if isinstance(inner, Mapping) and depth < MAX_NESTING:
            yield from _states(inner, f'{field}.{name}'.lstrip('.'), depth + 1)


def describe_keys(keys: Iterable[object]) -> str:
    """Describe weights that are no whole SAM 2.

    Args:
        keys: Names of weights, or of the entries of a file.

    Returns:
        A few words, such as ``'the first SAM'``.
    """
    names = [plain_key(key) for key in keys if isinstance(key, str)]
    if FIRST_SAM_SIGN in names:
        return 'the first SAM'
    if {'param_groups', 'state'} <= set(names) or set(names) == {'optimizer'}:
        return 'the state of an optimizer and no weights'
    parts = [part for part in map(_part_of, names[:MAX_TRIED_KEYS]) if part]
    if parts and 2 * len(parts) >= len(names[:MAX_TRIED_KEYS]):
        return f'a part of SAM 2 alone ({", ".join(sorted(set(parts)))})'
    return 'no SAM 2'


def _part_of(key: str) -> str | None:
    """First word of a weight's name if a SAM 2 has such a weight."""
    for translate in (from_released, from_huggingface, to_released):
        try:
            translate(key)
        except UnknownKeyError:
            continue
        return key.partition('.')[0]
    return None
