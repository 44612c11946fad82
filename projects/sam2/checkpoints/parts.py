"""Finds the weights of a part of the model, such as the backbone, in a checkpoint.

MMEngine loads the weights whose names match and only logs the others, so a backbone
under another name would silently keep its random weights.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from projects.sam2.checkpoints.adapters import fit_adapters, to_plain_key
from projects.sam2.checkpoints.checking import (
    CheckpointMismatchError,
    check_values,
    listed,
)
from projects.sam2.checkpoints.formats import describe_keys, find_weights, plain_key
from projects.sam2.checkpoints.key_map import (
    UnknownKeyError,
    to_huggingface,
    to_released,
)
from projects.sam2.checkpoints.key_table import KEY_TABLE, Naming

__all__ = ['part_weights']

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
        wanted: The weights that the part has now.
        part: Prefix of the part in our SAM 2, such as ``'image_encoder.backbone.'``.
        prefix: Its prefix in the checkpoint, in the checkpoint's names or in ours;
            None to look for it.
        source: Where the checkpoint comes from, for the errors.

    Returns:
        All weights of the part, and no others.

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
    """Find the prefixes under which a state dict may have a part, in any naming.

    Args:
        state: By its own names.
        wanted: By our names of the part's weights.
        part: Its name in a SAM 2 of ours.

    Yields:
        A prefix, and the state dict with the part's weights by our names below it.
    """
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
