"""Keeps the records of an annotation file as bytes, which workers share."""

import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ..clip_dataset import ListedDataset
from ..io.errors import ClipDataError, clip_errors, shorten
from ..io.json_files import FIX_FILE, read_json
from ..io.listing import select_names

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
        damage = ClipDataError.at(f'{where} ({name})', problem, FIX_FILE)
        return orjson.dumps(damaged_record(damage))


def damaged_record(error: ClipDataError) -> Record:
    """Make the record of a damaged entry: :func:`find_record` raises its error."""
    return {PROBLEM: str(error)}


def checked_name(name: str, where: Path | str) -> str:
    """Check a name before it is stored.

    Raises:
        ClipDataError: If it is too long or no text of a file's name.
    """
    try:
        num_bytes = len(name.encode())
    except UnicodeEncodeError as error:
        problem = f'has a name that is no text ({error})'
        raise ClipDataError.at(where, problem, FIX_FILE) from error
    if num_bytes > MAX_NAME or '\0' in name:
        problem = f'has a name of {num_bytes} bytes, {shorten(repr(name))}'
        raise ClipDataError.at(where, problem, FIX_FILE)
    return name


def pack_records(records: Iterator[tuple[str, Record]], where: Path) -> RecordStore:
    """Pack the records of an annotation file.

    Raises:
        ClipDataError: If two records have one name.
    """
    try:
        return RecordStore(records, where)
    except ClipDataError:
        raise
    except (ValueError, TypeError) as error:
        raise ClipDataError.at(where, str(error), FIX_FILE) from error


def find_record(records: RecordStore, name: str, where: Path) -> Record:
    """Find what belongs to a clip.

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


@dataclass(kw_only=True, eq=False, repr=False)
class RecordDataset(ListedDataset):
    """Clips that one JSON file describes. It is read when the dataset is built.

    Attributes:
        annotation_file: The JSON file, relative to ``data_root``.

    Raises:
        FileNotFoundError: If it is missing.
    """

    annotation_file: str

    @property
    def annotation_path(self) -> Path:
        """Where the JSON file is."""
        return self.root / self.annotation_file

    @abstractmethod
    def records_in(self, content: object) -> Iterator[tuple[str, Record | None]]:
        """Sort the annotations by clips.

        Yields:
            Name and record of each clip; None in place of the record where the clip has
            no object and is left out. Lists may name such a clip.

        Raises:
            ClipDataError: If the file has another form.
        """

    @cached_property
    def _content(self) -> tuple[RecordStore, str]:
        """Records of the clips, and the names of clips without an object.

        The names are lines of one string, since a list would be copied into every
        worker as soon as Python counts a reference.
        """
        content = read_json(self.annotation_path, self.read_limits)
        empty: list[str] = []

        def with_objects() -> Iterator[tuple[str, Record]]:
            for name, record in self.records_in(content):
                if record is None:
                    empty.append(name)
                else:
                    yield name, record

        with clip_errors(self.annotation_path):
            records = pack_records(with_objects(), self.annotation_path)
        return records, '\n'.join(empty)

    @property
    def _records(self) -> RecordStore:
        return self._content[0]

    def list_videos(self) -> list[str]:
        """Names of the clips, see :meth:`ClipDataset.list_videos`."""
        if not self.annotation_path.is_file():
            msg = (
                f'{self.annotation_path} is missing; give the JSON file of the '
                f'annotations as annotation_file, relative to data_root (now '
                f'annotation_file={self.annotation_file!r})'
            )
            raise FileNotFoundError(msg)
        return select_names(
            data_root=self.root,
            where=self.annotation_path,
            file_list=self.file_list,
            exclude_list=self.exclude_list,
            find=self._records.names,
            find_near=lambda _: set(self._records.names()),
            find_beside=lambda _: set(self._content[1].splitlines()),
        )

    def read_record(self, name: str) -> Record:
        """Find what belongs to a clip.

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If there is none, or its entry in the file is damaged.
        """
        return find_record(self._records, name, self.annotation_path)
