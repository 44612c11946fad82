"""Finds the weights of a SAM 2 in a checkpoint, whatever they are wrapped in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from .key_map import (
    Naming,
    UnknownKeyError,
    from_huggingface,
    from_released,
    map_from_huggingface,
    map_from_released,
    to_huggingface,
    to_released,
)
from .sam3_files import tracker_of_sam3

# A weight that every version and size has.
MODEL_KEY = 'prompt_encoder.position_encoding.gaussian_matrix'
# A weight by which a SAM 2 is recognised, in each naming.
SIGNATURE_KEYS = (
    (Naming.RELEASED, to_released(MODEL_KEY)),
    # The first SAM has the same name for MODEL_KEY in transformers.
    (Naming.HUGGINGFACE, to_huggingface('image_encoder.backbone.position_embedding')),
    (Naming.HUGGINGFACE, to_huggingface('image_encoder.backbone.stem.0.conv.weight')),
    # SAM 3's tracker.
    (
        Naming.HUGGINGFACE,
        to_huggingface('image_encoder.backbone.tiled_position_embedding'),
    ),
    (Naming.OURS, MODEL_KEY),
)
FIRST_SAM_KEY = 'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix'
# Fields in which training scripts save weights: trained ones first, then averages.
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
# Parts of names that DDP, torch.compile, FSDP and DeepSpeed add anywhere in a name.
WRAPPER_PARTS = frozenset(
    {
        'module',
        '_orig_mod',
        '_fsdp_wrapped_module',
        '_checkpoint_wrapped_module',
        '_forward_module',
    }
)
# Step counters that torch's and MMEngine's averaged models keep beside the weights.
COUNTERS = frozenset({'n_averaged', 'steps'})
MAX_DESCRIBED_KEYS = 100


def find_weights(
    checkpoint: Mapping[str, Any], *, within_models: bool = False
) -> tuple[str, dict[str, Tensor]] | None:
    """Find the weights of a SAM 2 in a checkpoint.

    Args:
        within_models: Also find a SAM 2 that is a part of a larger model, such as
            ``'model.…'`` in a training script's class, and leave the other parts out.
            Not for weights that are to be loaded into that larger model.

    Returns:
        The field that holds them (``''`` for the checkpoint itself) and the weights by
        our names; None where there is no SAM 2.

    Raises:
        UnknownKeyError: If there is a SAM 2 with a weight that no SAM 2 has.
        ValueError: If there are several, if two weights have the same name without the
            parts that wrappers add, or if a copy differs from its original.
    """
    for field, whole in _nested_states(checkpoint):
        state = tracker_of_sam3(whole) if within_models else whole
        plain = {key: plain_key(key) for key in state if isinstance(key, str)}
        for naming, signature in SIGNATURE_KEYS:
            prefixes = sorted(
                {
                    name.removesuffix(signature)
                    for name in plain.values()
                    if name == signature
                    or (within_models and name.endswith(f'.{signature}'))
                }
            )
            if not prefixes:
                continue
            if len(prefixes) > 1:
                msg = (
                    f'it holds several models, under {prefixes}; save one of them, by '
                    f'the names that it has itself'
                )
                raise ValueError(msg)
            weights: dict[str, Tensor] = {}
            key_of: dict[str, str] = {}
            for key, name in plain.items():
                if not name.startswith(prefixes[0]) or name in COUNTERS:
                    continue
                if not field and not isinstance(state[key], Tensor):
                    continue  # beside bare weights, such as the epoch
                own_name = name.removeprefix(prefixes[0])
                if own_name in weights:
                    msg = (
                        f'it holds {own_name} several times, as {key_of[own_name]} and '
                        f'{key}; save one model alone'
                    )
                    raise ValueError(msg)
                weights[own_name], key_of[own_name] = state[key], key
            if naming is Naming.RELEASED:
                weights = map_from_released(weights)
            elif naming is Naming.HUGGINGFACE:
                weights = map_from_huggingface(weights)
            return field, weights
    return None


def plain_key(key: str) -> str:
    """Remove the parts that model wrappers add from the name of a weight.

    Args:
        key: Such as ``'module._orig_mod.image_encoder.neck.convs.0.conv.bias'``.
    """
    return '.'.join(part for part in key.split('.') if part not in WRAPPER_PARTS)


def describe_keys(keys: Iterable[object]) -> str:
    """Describe weights that are no whole SAM 2 in a few words, as ``the first SAM``."""
    names = [plain_key(key) for key in keys if isinstance(key, str)]
    if FIRST_SAM_KEY in names:
        return 'the first SAM'
    if {'param_groups', 'state'} <= set(names) or set(names) == {'optimizer'}:
        return 'the state of an optimizer and no weights'
    names = names[:MAX_DESCRIBED_KEYS]
    of_sam2 = [name for name in names if _is_known(name)]
    if of_sam2 and 2 * len(of_sam2) >= len(names):
        parts = sorted({name.partition('.')[0] for name in of_sam2})
        return f'a part of SAM 2 alone ({", ".join(parts)})'
    return 'no SAM 2'


def _is_known(key: str) -> bool:
    """Whether a SAM 2 has a weight of this name in any naming."""
    for translate in (from_released, from_huggingface, to_released):
        try:
            translate(key)
        except UnknownKeyError:
            continue
        return True
    return False


def _nested_states(
    checkpoint: Mapping[str, Any], field: str = '', depth: int = 0
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a dict and the dicts in it that may hold weights, with their fields."""
    yield field, checkpoint
    for name in WEIGHT_FIELDS:
        inner = checkpoint.get(name)
        if isinstance(inner, Mapping) and depth < MAX_NESTING:
            yield from _nested_states(inner, f'{field}.{name}'.lstrip('.'), depth + 1)
