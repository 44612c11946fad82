"""Sources whose annotations are one JSON file: a compact index that workers share."""

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

Record = dict[str, Any]  # JSON values
PROBLEM = 'problem'  # key of the record of a damaged entry: its error
MAX_NAME = 1024  # bytes; in the index every name takes as much space as the longest


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
        """Path of the JSON file."""
        return self.root / self.annotation_file

    @abstractmethod
    def records_in(self, content: object) -> Iterator[tuple[str, Record | None]]:
        """Group the annotations by clips.

        Yields:
            Name and record of each clip; None in place of the record if the clip has no
            object and is left out. Lists may name such a clip.

        Raises:
            ClipDataError: If the file has another form.
        """

    def list_videos(self) -> list[str]:
        """Names of the clips, see :meth:`ClipDataset.list_videos`."""
        if not self.annotation_path.is_file():
            msg = (
                f'{self.annotation_path} is missing; give the JSON file of the '
                f'annotations as annotation_file, relative to data_root (now '
                f'annotation_file={self.annotation_file!r})'
            )
            raise FileNotFoundError(msg)
        records, empty = self._content
        return select_names(
            data_root=self.root,
            where=self.annotation_path,
            file_list=self.file_list,
            exclude_list=self.exclude_list,
            find=lambda _: set(records.names()),
            find_other=lambda _: set(empty.splitlines()),
        )

    def read_record(self, name: str) -> Record:
        """Read the record of a clip, see :meth:`RecordStore.read`."""
        return self._content[0].read(name)

    @cached_property
    def _content(self) -> tuple['RecordStore', str]:
        """Records of the clips; and the names of clips without an object, as lines.

        One string: forked workers would copy a list when its reference counts change.
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
            records = RecordStore(with_objects(), self.annotation_path)
        return records, '\n'.join(empty)


class RecordStore:
    """Records by name, compressed into three arrays.

    Forked loader workers share the memory of arrays. Python objects would be copied
    into each worker as soon as their reference counts change.

    Args:
        records: Pairs of a name and its record.
        where: File that they are from, for errors.

    Raises:
        ClipDataError: If two records have the same name, or a name is too long.
    """

    def __init__(self, records: Iterable[tuple[str, Record]], where: Path) -> None:
        self._where = where
        packed = sorted(
            (name.encode(), zlib.compress(self._dump(name, record), level=1))
            for name, record in records
        )
        longest = max((len(name) for name, _ in packed), default=0)
        if longest > MAX_NAME:  # before an array of so many bytes per name is made
            problem = f'a name has {longest} bytes, more than {MAX_NAME}'
            raise ClipDataError.at(where, problem, FIX_FILE)
        self._names = np.array([name for name, _ in packed], dtype=np.bytes_)
        doubles = np.flatnonzero(self._names[1:] == self._names[:-1])
        if len(doubles):
            problem = f'two records are called {self._names[doubles[0]].decode()}'
            raise ClipDataError.at(where, problem, FIX_FILE)
        lengths = [len(encoded) for _, encoded in packed]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._bytes = np.frombuffer(b''.join(each for _, each in packed), np.uint8)

    def _dump(self, name: str, record: Record) -> bytes:
        try:
            return orjson.dumps(record)
        except TypeError as error:  # a value that JSON cannot hold spoils its clip only
            problem = f'has an annotation that cannot be used ({error})'
            damage = ClipDataError.at(f'{self._where} ({name})', problem, FIX_FILE)
            return orjson.dumps(damaged_record(damage))

    def __len__(self) -> int:
        """Number of records."""
        return len(self._names)

    def names(self) -> list[str]:
        """Names of the records, sorted."""
        return [name.decode() for name in self._names.tolist()]

    def read(self, name: str) -> Record:
        """Read a record.

        Raises:
            ClipDataError: If there is none of this name, or it is damaged.
        """
        encoded = name.encode()
        index = int(np.searchsorted(self._names, encoded)) if len(self) else 0
        if index == len(self) or self._names[index] != encoded:
            problem = f'has no clip {name} with an object'
            raise ClipDataError.at(self._where, problem, 'correct the list of clips')
        begin = int(self._ends[index - 1]) if index else 0
        packed = self._bytes[begin : self._ends[index]].tobytes()
        record: Record = orjson.loads(zlib.decompress(packed))
        if PROBLEM in record:
            raise ClipDataError(record[PROBLEM])
        return record


def damaged_record(error: ClipDataError) -> Record:
    """Record of a damaged entry: reading it raises the error."""
    return {PROBLEM: str(error)}


def checked_name(name: str, where: Path | str) -> str:
    """Check the name of a clip before it is stored.

    Raises:
        ClipDataError: If it is too long or cannot be the name of a file.
    """
    try:
        num_bytes = len(name.encode())
    except UnicodeEncodeError as error:
        problem = f'has a name that is not text ({error})'
        raise ClipDataError.at(where, problem, FIX_FILE) from error
    if num_bytes > MAX_NAME or '\0' in name:
        problem = f'has a name of {num_bytes} bytes, {shorten(repr(name))}'
        raise ClipDataError.at(where, problem, FIX_FILE)
    return name
