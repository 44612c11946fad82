"""Translates names of weights by the table in ``key_table.py``.

Released files hold the same tensors as ours under other names. Files of Hugging Face's
transformers stack the point embeddings in one tensor, and may hold a copy of the
matrix that encodes places.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

from projects.sam2.checkpoints.key_table import (
    ALTERNATIVES,
    COPIES,
    KEY_TABLE,
    PROJECTIONS,
    Naming,
)

__all__ = [
    'PROJECTIONS',
    'UnknownKeyError',
    'from_huggingface',
    'from_released',
    'map_from_huggingface',
    'map_from_released',
    'map_to_huggingface',
    'map_to_released',
    'to_huggingface',
    'to_released',
]

Value = TypeVar('Value')

OWNERS = {
    Naming.OURS: 'this project',
    Naming.RELEASED: 'released SAM 2 files',
    Naming.HUGGINGFACE: 'the SAM 2 of transformers',
}
STACK_ROW = re.compile(r'(?P<stack>.+)\[(?P<row>\d+)\]')


class UnknownKeyError(KeyError):
    """A name of a weight that no row of the table fits."""

    def __str__(self) -> str:
        """The message itself; KeyError would print it in quotes."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class _Rule:
    """One row of the table, read in one direction."""

    pattern: re.Pattern[str]
    replacement: str

    @classmethod
    def of(cls, source: str, target: str) -> '_Rule':
        """Compile a row.

        Args:
            source: Name to be recognised, with placeholders.
            target: Name to be made of it, with the same placeholders.

        Returns:
            The rule.
        """
        literal = re.escape(source)
        pattern = literal.replace(r'\#', r'(\d+)').replace(r'\*', '(weight|bias)')
        groups = count(1)
        replacement = re.sub(r'[#*]', lambda _: rf'\g<{next(groups)}>', target)
        return cls(re.compile(pattern), replacement)

    def apply(self, key: str) -> str | None:
        """The other name of ``key``, or None where the row does not fit."""
        match = self.pattern.fullmatch(key)
        return match.expand(self.replacement) if match else None


def to_released(our_key: str) -> str:
    """Translate a name of ours.

    Args:
        our_key: Key of our model's state dict.

    Returns:
        Key of a released file.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(our_key, Naming.OURS, Naming.RELEASED)


def from_released(released_key: str) -> str:
    """Translate a released name.

    Args:
        released_key: Key of a released file.

    Returns:
        Key of our model's state dict.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(released_key, Naming.RELEASED, Naming.OURS)


def to_huggingface(our_key: str) -> str:
    """Translate a name of ours.

    Args:
        our_key: Key of our model's state dict.

    Returns:
        Key of a transformers model; ``name[2]`` for row 2 of the tensor ``name``.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(our_key, Naming.OURS, Naming.HUGGINGFACE)


def from_huggingface(huggingface_key: str) -> str:
    """Translate a name of Hugging Face's transformers.

    Args:
        huggingface_key: Key of a transformers model; ``name[2]`` for row 2 of the
            tensor ``name``.

    Returns:
        Key of our model's state dict.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(huggingface_key, Naming.HUGGINGFACE, Naming.OURS)


def map_to_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a state dict of ours.

    Args:
        state: Weights by our names.

    Returns:
        The same weights by released names.
    """
    return {to_released(key): value for key, value in state.items()}


def map_from_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a released state dict.

    Args:
        state: Weights by released names.

    Returns:
        The same weights by our names.
    """
    return {from_released(key): value for key, value in state.items()}


def map_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a state dict of ours and stack those that belong together.

    Args:
        state: Weights by our names.

    Returns:
        The weights as transformers writes them, without copies.
    """
    renamed = {to_huggingface(key): value for key, value in state.items()}
    rows: dict[str, dict[int, Tensor]] = {}
    for key in tuple(renamed):
        match = STACK_ROW.fullmatch(key)
        if match:
            stack = rows.setdefault(match['stack'], {})
            stack[int(match['row'])] = renamed.pop(key)
    stacks = {
        key: torch.cat([stack[row] for row in sorted(stack)])
        for key, stack in rows.items()
    }
    return renamed | stacks


def map_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a transformers model and take stacks apart.

    Args:
        state: Weights by the names of transformers, with or without copies.

    Returns:
        The same weights by our names.

    Raises:
        ValueError: If a copy differs from what it should be a copy of.
    """
    single: dict[str, Tensor] = {}
    for key, value in _without_copies(state).items():
        rows = value.split(1) if key in _stacks() else ()
        single |= {f'{key}[{row}]': part.clone() for row, part in enumerate(rows)}
        if not rows:
            single[key] = value
    return {from_huggingface(key): value for key, value in single.items()}


def _without_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each weight once."""
    kept = dict(state)
    for original, copy in COPIES:
        if copy not in kept:
            continue
        value = kept.pop(copy)
        if not torch.equal(kept.setdefault(original, value), value):
            msg = (
                f'{copy} should be a copy of {original}, but holds other numbers; '
                f'write the file again'
            )
            raise ValueError(msg)
    return kept


def _rows() -> Iterable[tuple[str, ...]]:
    """The table with prefixes and alternatives written out."""
    for prefixes, rows in KEY_TABLE:
        for row in rows:
            names = tuple(
                prefix + name for prefix, name in zip(prefixes, row, strict=True)
            )
            sign = next((sign for sign in ALTERNATIVES if sign in names[0]), None)
            if sign is None:
                yield names
                continue
            for words in ALTERNATIVES[sign]:
                yield tuple(
                    name.replace(sign, word)
                    for name, word in zip(names, words, strict=True)
                )


@cache
def _rules(source: Naming, target: Naming) -> tuple[_Rule, ...]:
    """The table, read in one direction."""
    return tuple(_Rule.of(names[source], names[target]) for names in _rows())


@cache
def _stacks() -> frozenset[str]:
    """Names of transformers' tensors that hold several weights of ours."""
    names = (row[Naming.HUGGINGFACE] for row in _rows())
    return frozenset(name.removesuffix('[#]') for name in names if '[#]' in name)


def _translate(key: str, source: Naming, target: Naming) -> str:
    """The first name that a rule gives."""
    for rule in _rules(source, target):
        other = rule.apply(key)
        if other is not None:
            return other
    msg = (
        f'{key!r} is no known name of a weight of {OWNERS[source]}; if the model has a '
        f'part of its own, add a row to projects/sam2/checkpoints/key_table.py'
    )
    raise UnknownKeyError(msg)
