"""The base of sources with one annotation file for all clips."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from projects.sam2.datasets.errors import clip_errors
from projects.sam2.datasets.json_files import read_json
from projects.sam2.datasets.listed_dataset import ListedDataset
from projects.sam2.datasets.listing import select_names
from projects.sam2.datasets.record_store import (
    Record,
    RecordStore,
    find_record,
    pack_records,
)


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

        Args:
            content: What the file holds.

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

        Returns:
            The record.

        Raises:
            ClipDataError: If there is none, or its entry in the file is damaged.
        """
        return find_record(self._records, name, self.annotation_path)
