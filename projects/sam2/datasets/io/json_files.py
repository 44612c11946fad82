"""Reads annotation files in JSON and says what is wrong with their content."""

import codecs
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from .errors import (
    DEFAULT_LIMITS,
    ClipDataError,
    ReadLimits,
    read_bytes,
)

Kind = TypeVar('Kind')
MEND_FILE = 'mend the annotation file or put the clip on the exclude list'
MAX_SHOWN = 60  # characters of a value in an error
LARGEST_ID = 2**63 - 1  # that int64 holds


def read_json(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> Any:
    """Read a JSON file.

    Args:
        limits: Its ``max_file_size`` counts.

    Raises:
        ClipDataError: If the file is missing, too large or no JSON.
    """
    return parse_json(read_bytes(path, limits), path)


def parse_json(encoded: bytes, where: Path | str) -> Any:
    """Read a JSON text.

    Raises:
        ClipDataError: If it is no JSON.
    """
    refuse_other_unicode(encoded, where, 'JSON', MEND_FILE)
    try:
        return orjson.loads(encoded.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        # Python's own parser is slower, but reads what Python writes though JSON has no
        # such number: NaN, Infinity, 10**400. They spoil what they belong to, not the
        # whole file.
        try:
            return json.loads(encoded)
        except (ValueError, RecursionError, MemoryError):
            problem = f'is no JSON ({error})'
            raise ClipDataError.at(where, problem, MEND_FILE) from error


def refuse_other_unicode(
    encoded: bytes, where: Path | str, kind: str, remedy: str
) -> None:
    """Refuse a text in UTF-16 or UTF-32, which some editors and shells write.

    Args:
        remedy: Beside saving it as UTF-8.

    Raises:
        ClipDataError: If it begins with the mark of such a text.
    """
    # The mark of UTF-32 begins with that of UTF-16.
    marks = {
        'UTF-32': (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
        'UTF-16': (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    }
    for name, begins in marks.items():
        if encoded.startswith(begins):
            problem = f'is no {kind} in UTF-8: it is written in {name}'
            raise ClipDataError.at(where, problem, f'save it as UTF-8, or {remedy}')


def take(record: object, key: str, kind: type[Kind], where: Path | str) -> Kind:
    """Take a value of a JSON object.

    Args:
        record: The object; whatever else it may be is an error.
        kind: Its type: ``str``, ``int`` (``480.0`` too), ``float`` (whole numbers too),
            ``list`` or ``dict``.

    Raises:
        ClipDataError: If there is none, or it is of another type.
    """
    if not isinstance(record, Mapping):
        problem = f'holds {shown(record)} where an object with {key!r} belongs'
        raise ClipDataError.at(where, problem, MEND_FILE)
    return expect(record.get(key), kind, key, where)


def expect(value: object, kind: type[Kind], name: str, where: Path | str) -> Kind:
    """Check the type of a JSON value.

    Args:
        kind: As for :func:`take`.

    Raises:
        ClipDataError: If it is of another type.
    """
    if kind is int:
        value = whole(value)
    if kind is float and type(value) is int and abs(value) <= LARGEST_ID:
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = f'{name} is {shown(value)}, expected {kind.__name__}'
        raise ClipDataError.at(where, problem, MEND_FILE)
    if isinstance(value, int) and not 0 <= value <= LARGEST_ID:
        problem = f'{name} is {shown(value)}, expected a number from 0 to {LARGEST_ID}'
        raise ClipDataError.at(where, problem, MEND_FILE)
    return value


def whole(value: object) -> object:
    """Read a number like 480.0, as Matlab and pandas write it."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value  # type: ignore[call-overload]


def shown(value: object) -> str:
    """Write a value as an error shows it.

    Returns:
        Its text, cut where it is long.
    """
    if value is None:
        return 'missing'
    if isinstance(value, list | dict):
        return f'a {type(value).__name__} of {len(value)}'
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}…'


def refuse_doubles(ids: Sequence[int | str], what: str, where: Path | str) -> None:
    """Refuse ids that are not unique.

    Raises:
        ClipDataError: If an id occurs twice.
    """
    if len(set(ids)) == len(ids):
        return
    seen: set[int | str] = set()
    double = next(each for each in ids if each in seen or seen.add(each))  # type: ignore[func-returns-value]
    raise ClipDataError.at(where, f'has two {what} of id {double}', MEND_FILE)
