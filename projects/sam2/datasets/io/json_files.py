"""Reads JSON annotation files and checks the types of their values."""

import codecs
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from .errors import DEFAULT_LIMITS, ClipDataError, ReadLimits, read_bytes

Kind = TypeVar('Kind')
FIX_FILE = 'fix the annotation file or put the clip on the exclude list'
MAX_SHOWN = 60  # characters of a value in an error
MAX_ID = 2**63 - 1  # fits into int64


def read_json(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> Any:
    """Read a JSON file.

    Raises:
        ClipDataError: If the file is missing, too large or not JSON.
    """
    return parse_json(read_bytes(path, limits), path)


def parse_json(encoded: bytes, where: Path | str) -> Any:
    """Parse a JSON text in UTF-8, with or without a byte order mark."""
    check_utf8(encoded, where, 'JSON', FIX_FILE)
    try:
        return orjson.loads(encoded.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        # Python writes NaN, Infinity and 10**400, which are not JSON. Its slower parser
        # reads them, so that they spoil only the clip that they belong to.
        try:
            return json.loads(encoded)
        except (ValueError, RecursionError, MemoryError):
            problem = f'is not JSON ({error})'
            raise ClipDataError.at(where, problem, FIX_FILE) from error


def check_utf8(encoded: bytes, where: Path | str, kind: str, remedy: str) -> None:
    """Refuse a text in UTF-16 or UTF-32, which some editors and shells write."""
    marks = {
        # UTF-32 first: its mark begins with that of UTF-16.
        'UTF-32': (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
        'UTF-16': (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    }
    for encoding, begins in marks.items():
        if encoded.startswith(begins):
            problem = f'is not {kind} in UTF-8 but in {encoding}'
            raise ClipDataError.at(where, problem, f'save it as UTF-8, or {remedy}')


def get_field(record: object, key: str, kind: type[Kind], where: Path | str) -> Kind:
    """Get a value of a JSON object and check its type, see :func:`check_type`."""
    if not isinstance(record, Mapping):
        problem = f'has {describe(record)} in place of an object with {key!r}'
        raise ClipDataError.at(where, problem, FIX_FILE)
    return check_type(record.get(key), kind, key, where)


def check_type(value: object, kind: type[Kind], name: str, where: Path | str) -> Kind:
    """Check the type of a JSON value.

    Args:
        kind: ``str``, ``int`` (not negative; ``480.0`` counts too), ``float`` (whole
            numbers count too), ``list`` or ``dict``.

    Raises:
        ClipDataError: If it has another type.
    """
    if kind is int:
        value = to_whole_number(value)
    if kind is float and type(value) is int and abs(value) <= MAX_ID:
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = f'{name} is {describe(value)}, expected {kind.__name__}'
        raise ClipDataError.at(where, problem, FIX_FILE)
    if isinstance(value, int) and not 0 <= value <= MAX_ID:
        problem = f'{name} is {describe(value)}, expected a number from 0 to {MAX_ID}'
        raise ClipDataError.at(where, problem, FIX_FILE)
    return value


def to_whole_number(value: object) -> object:
    """Read a number like 480.0, as Matlab and pandas write it, as 480."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_whole else value  # type: ignore[call-overload]


def describe(value: object) -> str:
    """Describe a value in an error, shortened where it is long."""
    if value is None:
        return 'missing'
    if isinstance(value, list | dict):
        return f'a {type(value).__name__} of {len(value)}'
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}…'


def check_unique(ids: Sequence[int | str], what: str, where: Path | str) -> None:
    """Refuse ids that occur twice."""
    seen: set[int | str] = set()
    for each in ids:
        if each in seen:
            raise ClipDataError.at(where, f'has two {what} of id {each}', FIX_FILE)
        seen.add(each)
