"""Memory policies by name: ``--policy samurai`` in place of the model's memory bank."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import MODELS

from ..installation import POLICIES, policy_names
from .config import part_name, read_config

BANK, LARGE_BANK = 'memory_bank', 'memory_bank_large'  # variables of such a config
LARGE_TRUNK = {'type': 'Hiera', 'embed_dims': 144}


def read_policy(
    policy: str | Path, *, is_large: bool = False, plain: Mapping[str, Any]
) -> dict[str, Any]:
    """Read the memory bank of a policy.

    Args:
        policy: A name, such as ``'samurai'``, or the path of a config that has a
            ``memory_bank``, as those in ``configs/_base_/policies`` have.
        is_large: Also take what the config has in ``memory_bank_large``, for Hiera-L.
        plain: Memory bank of the model, whose options are kept where the policy takes
            them and has no value of its own.

    Returns:
        The config of the memory bank.

    Raises:
        FileNotFoundError: If there is no such policy.
        ImportError: If a module of its ``custom_imports`` cannot be imported.
        ValueError: If it has no memory bank.
    """
    path = POLICIES / f'{policy}.py'
    if not path.is_file():
        path = Path(policy).expanduser()
    if not path.is_file():
        msg = (
            f'There is no memory policy {str(policy)!r}; give '
            f'{", ".join(policy_names())}, or the path of a config with a memory_bank'
        )
        raise FileNotFoundError(msg)
    config = read_config(path)
    bank = config.get(BANK)
    if not isinstance(bank, Mapping) or 'type' not in bank:
        msg = (
            f'{path} is no memory policy: it has no memory_bank; write '
            f"memory_bank = dict(type='…') into it"
        )
        raise ValueError(msg)
    large = config.get(LARGE_BANK, {}) if is_large else {}
    return replace_memory_bank(plain, {**bank, **large})


def replace_memory_bank(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    """Replace a memory bank by one of another type.

    Returns:
        The config of the new one. It keeps options of the old one that it takes.

    Raises:
        ValueError: If there is no such memory bank, or it has not such an option.
    """
    kind = new['type']
    class_ = MODELS.get(kind) if isinstance(kind, str) else kind
    if class_ is None:
        msg = (
            f'There is no memory bank {kind!r}; name the file that registers it in '
            f'custom_imports of the policy, dict(imports=[…])'
        )
        raise ValueError(msg)
    if not hasattr(class_, 'select'):  # also a class of the user's
        msg = f'{kind!r} is no memory bank; name a subclass of MemoryBank as its type'
        raise ValueError(msg)
    parameters = inspect.signature(class_).parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = {parameter.name for parameter in parameters}
    unknown = sorted(new.keys() - names - {'type'})
    if unknown and not takes_any:
        msg = (
            f'The memory bank {kind!r} has no option {", ".join(unknown)}; it takes '
            f'{", ".join(sorted(names)) or "none"}'
        )
        raise ValueError(msg)
    return {k: v for k, v in old.items() if takes_any or k in names} | {**new}


def apply_policy(model: ConfigDict, policy: str | Path) -> None:
    """Replace the memory bank of a model's config by a policy.

    Args:
        model: Config of a :class:`SAM2`.
        policy: As for :func:`read_policy`, as are the errors.

    Raises:
        ValueError: Also if the model has no memory bank.
    """
    tracker = model.get('tracker') or {}
    if BANK not in tracker:
        msg = (
            f'The model {part_name(model)} has no tracker with a memory bank, so that '
            f'no memory policy can replace it; leave the policy {policy} out'
        )
        raise ValueError(msg)
    trunk = (model.get('image_encoder') or {}).get('backbone') or {}
    is_large = all(trunk.get(name) == value for name, value in LARGE_TRUNK.items())
    bank = read_policy(policy, is_large=is_large, plain=tracker[BANK])
    tracker[BANK] = ConfigDict(bank)
