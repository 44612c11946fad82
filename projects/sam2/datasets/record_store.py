"""Keeps the records of an annotation file as bytes, which workers share."""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from projects.sam2.datasets.errors import ClipDataError, abbreviate
from projects.sam2.datasets.json_files import MEND_FILE

# JSON values; Python's own objects would be copied into every worker as soon as it
# counted a reference to them.
Record = dict[str, Any]
PROBLEM = 'problem'  # key of a record that says what is wrong with its entry
MAX_NAME = 1024  # bytes; every name takes as many as the longest


class RecordStore:
    """Records by name, compressed into three arrays.

    Args:
        records: Pairs of a name and what belongs to it.
        where: File that they are from, for the error of a record that cannot be kept.

    Raises:
        ValueError: If two records have one name, or a name is too long.
    """

    def __init__(
        self, records: Iterable[tuple[str, Record]], where: Path | str = 'a record'
    ) -> None:
        packed = sorted(
            (name.encode(), zlib.compress(_dump(record, name, where), level=1))
            for name, record in records
        )
        # Before the array is made: each name takes as many bytes as the longest.
        longest = max((len(name) for name, _ in packed), default=0)
        if longest > MAX_NAME:
            msg = f'a name has {longest} bytes, more than {MAX_NAME}'
            raise ValueError(msg)
        self._names = np.array([name for name, _ in packed], dtype=np.bytes_)
        doubles = np.flatnonzero(self._names[1:] == self._names[:-1])
        if len(doubles):
            msg = f'two records are called {self._names[doubles[0]].decode()}'
            raise ValueError(msg)
        lengths = [len(encoded) for _, encoded in packed]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._bytes = np.frombuffer(b''.join(e for _, e in packed), np.uint8)

    def __len__(self) -> int:
        """Number of records."""
        return len(self._names)

    def names(self) -> list[str]:
        """Names of the records, sorted."""
        return [name.decode() for name in self._names.tolist()]

    def __getitem__(self, name: str) -> Record:
        """Read a record.

        Args:
            name: Its name.

        Returns:
            A copy.

        Raises:
            KeyError: If there is none of this name.
        """
        encoded = name.encode()
        place = int(np.searchsorted(self._names, encoded)) if len(self) else 0
        if place == len(self) or self._names[place] != encoded:
            raise KeyError(name)
        begin = int(self._ends[place - 1]) if place else 0
        encoded = zlib.decompress(self._bytes[begin : self._ends[place]].tobytes())
        record: Record = orjson.loads(encoded)
        return record


def _dump(record: Record, name: str, where: Path | str) -> bytes:
    """Write a record; what JSON cannot hold spoils it alone."""
    try:
        return orjson.dumps(record)
    except TypeError as error:
        problem = f'has an annotation that cannot be used ({error})'
        damage = ClipDataError.at(f'{where} ({name})', problem, MEND_FILE)
        return orjson.dumps(damaged_record(damage))


def damaged_record(error: ClipDataError) -> Record:
    """Make the record of a damaged entry: :func:`find_record` raises its error."""
    return {PROBLEM: str(error)}


def checked_name(name: str, where: Path | str) -> str:
    """Check a name before it is stored.

    Args:
        name: Of a clip.
        where: File that it is from, for the error.

    Returns:
        The name.

    Raises:
        ClipDataError: If it is too long or no text of a file's name.
    """
    try:
        num_bytes = len(name.encode())
    except UnicodeEncodeError as error:
        problem = f'has a name that is no text ({error})'
        raise ClipDataError.at(where, problem, MEND_FILE) from error
    if num_bytes > MAX_NAME or '\0' in name:
        problem = f'has a name of {num_bytes} bytes, {abbreviate(repr(name))}'
        raise ClipDataError.at(where, problem, MEND_FILE)
    return name


def pack_records(records: Iterator[tuple[str, Record]], where: Path) -> RecordStore:
    """Pack the records of an annotation file.

    Args:
        records: Names and records.
        where: File that they are from, for the error.

    Returns:
        The store.

    Raises:
        ClipDataError: If two records have one name.
    """
    try:
        return RecordStore(records, where)
    except ClipDataError:
        raise
    except (ValueError, TypeError) as error:
        raise ClipDataError.at(where, str(error), MEND_FILE) from error


def find_record(records: RecordStore, name: str, where: Path) -> Record:
    """Find what belongs to a clip.

    Args:
        records: All clips.
        name: The clip.
        where: File that they are from, for the error.

    Returns:
        The record.

    Raises:
        ClipDataError: If there is none, or its entry in the file is damaged.
    """
    try:
        record = records[name]
    except KeyError:
        problem = f'has no clip {name} with an object'
        remedy = 'correct the list of clips'
        raise ClipDataError.at(where, problem, remedy) from None
    if PROBLEM in record:
        raise ClipDataError(record[PROBLEM])
    return record
