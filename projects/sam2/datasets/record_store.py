"""Keeps the records of an annotation file as bytes, which workers share."""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson

# JSON values; Python's own objects would be copied into every worker as soon as it
# counted a reference to them.
Record = dict[str, Any]
MAX_NAME = 1024  # bytes; every name takes as many as the longest


class RecordStore:
    """Records by name, compressed into three arrays.

    Args:
        records: Pairs of a name and what belongs to it.

    Raises:
        ValueError: If two records have one name, or a name is too long.
    """

    def __init__(self, records: Iterable[tuple[str, Record]]) -> None:
        packed = sorted(
            (name.encode(), zlib.compress(orjson.dumps(record), level=1))
            for name, record in records
        )
        self._names = np.array([name for name, _ in packed], dtype=np.bytes_)
        doubles = np.flatnonzero(self._names[1:] == self._names[:-1])
        if len(doubles):
            msg = f'two records are called {self._names[doubles[0]].decode()}'
            raise ValueError(msg)
        if self._names.itemsize > MAX_NAME:
            msg = f'a name has {self._names.itemsize} bytes, more than {MAX_NAME}'
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
