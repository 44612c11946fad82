"""All masks of a session: an append-only file, and the index of what is valid in it.

A record says which mask an object has on a frame from now on, and which it had before::

    header: kind, score, earlier score, object, frame, height, width,
            offset of the mask, offset of the earlier mask, length, CRC
    counts of the mask as COCO's compressed run lengths (kind MASK alone)

Nothing is overwritten, so undoing a change needs no copy of masks: reading the records
of the change gives both sides (:meth:`MaskIndex.apply`, :meth:`MaskIndex.revert`).
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from ...ops import EncodedMask
from .append_only import AppendOnlyFile

FILE_BEGIN = b'SAM2MSK1'
HEADER = Struct('<BBBxIIIIqqI')
CHECKSUM = Struct('<I')
RECORD_BYTES = HEADER.size + CHECKSUM.size  # before the counts
NO_MASK = -1  # offset
UNKNOWN_SCORE, NO_SCORE = 253, 255
READ_BYTES = 1 << 20  # of the file at once


class RecordKind(IntEnum):
    """What a record says.

    ``MASK`` carries a mask, ``REFERENCE`` names one that is in the file already,
    ``REMOVAL`` removes the mask of a frame, ``BROKEN`` marks a frame that cannot be
    read.
    """

    MASK = 1
    REFERENCE = 2
    REMOVAL = 3
    BROKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRecord:
    """One record, without the counts.

    Attributes:
        kind: What it says.
        object_id: The object; 0 for a broken frame.
        frame_index: The frame.
        size: Height and width of the mask.
        score: Probability in percent that the object is in the frame;
            ``UNKNOWN_SCORE`` for masks that no model made, ``NO_SCORE`` without one.
        offset: Where the mask is; ``NO_MASK`` without one.
        earlier_score: The score before.
        earlier_offset: Where the mask before is.
    """

    kind: RecordKind
    object_id: int
    frame_index: int
    size: tuple[int, int] = (0, 0)
    score: int = NO_SCORE
    offset: int = NO_MASK
    earlier_score: int = NO_SCORE
    earlier_offset: int = NO_MASK


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChange:
    """The mask that an object gets on a frame.

    Attributes:
        object_id: The object.
        frame_index: The frame.
        mask: A mask; the offset of one that is in the file; or None to remove it.
        score: See :class:`MaskRecord`.
    """

    object_id: int
    frame_index: int
    mask: EncodedMask | int | None
    score: int = UNKNOWN_SCORE


class MaskIndex:
    """Where the mask of each object on each frame is, and its score.

    Args:
        num_frames: Frames of the video, T.

    Attributes:
        offsets: (T,), int64, for each object; ``NO_MASK`` where it has no mask.
        scores: (T,), uint8, for each object; ``NO_SCORE`` where it has no mask.
        broken_frames: Frames that could not be read.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self.offsets: dict[int, NDArray[np.int64]] = {}
        self.scores: dict[int, NDArray[np.uint8]] = {}
        self.broken_frames: set[int] = set()

    def offset(self, object_id: int, frame_index: int) -> int:
        """Where the mask of an object on a frame is, or ``NO_MASK``."""
        offsets = self.offsets.get(object_id)
        return NO_MASK if offsets is None else int(offsets[frame_index])

    def score(self, object_id: int, frame_index: int) -> int:
        """Score of an object on a frame."""
        scores = self.scores.get(object_id)
        return NO_SCORE if scores is None else int(scores[frame_index])

    def frames(self, object_id: int) -> NDArray[np.intp]:
        """Frames on which an object has a mask, sorted."""
        if object_id not in self.offsets:
            return np.zeros(0, np.intp)
        return np.flatnonzero(self.offsets[object_id] != NO_MASK)

    def apply(self, records: Iterable[MaskRecord]) -> None:
        """Make records valid, in their order."""
        for record in records:
            if record.kind is RecordKind.BROKEN:
                self.broken_frames.add(record.frame_index)
            else:
                self._set(record, record.offset, record.score)

    def revert(self, records: Sequence[MaskRecord]) -> None:
        """Undo records, the last one first. Broken frames stay broken."""
        for record in reversed(records):
            if record.kind is not RecordKind.BROKEN:
                self._set(record, record.earlier_offset, record.earlier_score)

    def _set(self, record: MaskRecord, offset: int, score: int) -> None:
        key = record.object_id
        if key not in self.offsets:
            scores = np.full(self.num_frames, NO_SCORE, np.uint8)
            offsets = np.full(self.num_frames, NO_MASK, np.int64)
            # Scores first: a reader in another thread looks for offsets.
            self.scores[key], self.offsets[key] = scores, offsets
        self.scores[key][record.frame_index] = score
        self.offsets[key][record.frame_index] = offset


class MaskLog(AppendOnlyFile):
    """The append-only file of masks.

    Raises:
        ValueError: If the file is something else.
        OSError: If the disk is full.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._check_begin()
        except BaseException:
            self.close()
            raise

    def _check_begin(self) -> None:
        begin = os.pread(self._descriptor, len(FILE_BEGIN), 0)
        if begin == FILE_BEGIN:
            return
        if not FILE_BEGIN.startswith(begin):
            msg = f'{self.path} is not a file of masks of the demo; restore the file'
            raise ValueError(msg)
        self.size = 0  # a new file, or one whose first bytes are torn
        self._write(FILE_BEGIN)

    def append(
        self, changes: Sequence[MaskChange], index: MaskIndex
    ) -> list[MaskRecord]:
        """Write records of changes, all or none.

        Args:
            index: Says what is valid before; it is not changed.

        Returns:
            The records, for :meth:`MaskIndex.apply`.

        Raises:
            OSError: If the disk is full; the file is as it was.
        """
        begin, parts, records = self.size, bytearray(), []
        for change in changes:
            record = MaskRecord(
                kind=RecordKind.REMOVAL,
                object_id=change.object_id,
                frame_index=change.frame_index,
                earlier_score=index.score(change.object_id, change.frame_index),
                earlier_offset=index.offset(change.object_id, change.frame_index),
            )
            counts = b''
            match change.mask:
                case None:
                    pass
                case int(offset):
                    record = _filled(record, RecordKind.REFERENCE, offset, change.score)
                case code:
                    counts, offset = code['counts'].encode('ascii'), begin + len(parts)
                    record = _filled(
                        record,
                        RecordKind.MASK,
                        offset,
                        change.score,
                        size=(code['size'][0], code['size'][1]),
                    )
            parts += _pack(record, counts)
            records.append(record)
        self._write(bytes(parts))
        return records

    def append_broken(self, frame_index: int) -> MaskRecord:
        """Write that a frame cannot be read; see :meth:`append`."""
        record = MaskRecord(
            kind=RecordKind.BROKEN, object_id=0, frame_index=frame_index
        )
        self._write(_pack(record, b''))
        return record

    def read(self, offset: int) -> EncodedMask:
        """Read a mask.

        Raises:
            OSError: If there is none, or it is damaged.
        """
        # Most masks are small: one read for header and counts.
        data = os.pread(self._descriptor, 2048, offset)
        if len(data) >= RECORD_BYTES:
            *_, height, width, _, _, length = HEADER.unpack_from(data)
            total = RECORD_BYTES + length
            if total > len(data):
                data = os.pread(self._descriptor, total, offset)
            if len(data) >= total and _is_intact(data[:total]):
                counts = data[RECORD_BYTES:total].decode('ascii')
                return EncodedMask(size=[height, width], counts=counts)
        msg = f'{self.path}: the mask at byte {offset} is damaged; restore the file'
        raise OSError(msg)

    def scan(self, start: int, stop: int) -> Iterator[MaskRecord]:
        """Read the records of a part of the file.

        Raises:
            OSError: If one is damaged.
        """
        for end, record in self._scan(start, stop):
            start = end
            yield record
        if start < stop:
            msg = (
                f'{self.path}: the record at byte {start} is damaged; restore the file'
            )
            raise OSError(msg)

    def drop_torn_tail(self, start: int) -> None:
        """Remove the first damaged record at or after ``start``, and all after it."""
        end = min(max(start, len(FILE_BEGIN)), self.size)
        for stop, _ in self._scan(end, self.size):
            end = stop
        if end < self.size:
            self.truncate(end)

    def _scan(self, start: int, stop: int) -> Iterator[tuple[int, MaskRecord]]:
        """Intact records, each with the position after it."""
        data, begin, position = b'', start, start
        while position + RECORD_BYTES <= stop:
            if position + RECORD_BYTES > begin + len(data):
                begin, data = position, self._read_part(position, stop)
            at = position - begin
            if len(data) < at + RECORD_BYTES:
                return
            fields = HEADER.unpack_from(data, at)
            total = RECORD_BYTES + fields[-1]
            if position + total > stop:
                return
            if at + total > len(data):
                begin, at = position, 0
                data = self._read_part(position, stop, total)
            if not _is_intact(data[at : at + total]):
                return
            record = _unpack(fields)
            if record is None:
                return
            position += total
            yield position, record

    def _read_part(self, start: int, stop: int, at_least: int = READ_BYTES) -> bytes:
        num_bytes = min(stop - start, max(at_least, READ_BYTES))
        return os.pread(self._descriptor, num_bytes, start)


def _filled(
    record: MaskRecord,
    kind: RecordKind,
    offset: int,
    score: int,
    size: tuple[int, int] = (0, 0),
) -> MaskRecord:
    return MaskRecord(
        kind=kind,
        object_id=record.object_id,
        frame_index=record.frame_index,
        size=size,
        score=score,
        offset=offset,
        earlier_score=record.earlier_score,
        earlier_offset=record.earlier_offset,
    )


def _pack(record: MaskRecord, counts: bytes) -> bytes:
    header = HEADER.pack(
        record.kind,
        record.score,
        record.earlier_score,
        record.object_id,
        record.frame_index,
        *record.size,
        record.offset,
        record.earlier_offset,
        len(counts),
    )
    return header + CHECKSUM.pack(zlib.crc32(counts, zlib.crc32(header))) + counts


def _unpack(fields: tuple[int, ...]) -> MaskRecord | None:
    kind, score, earlier_score, key, frame, height, width, offset, earlier, _ = fields
    if kind not in RecordKind.__members__.values():
        return None
    return MaskRecord(
        kind=RecordKind(kind),
        object_id=key,
        frame_index=frame,
        size=(height, width),
        score=score,
        offset=offset,
        earlier_score=earlier_score,
        earlier_offset=earlier,
    )


def _is_intact(data: bytes) -> bool:
    """Whether a whole record has the checksum that it states."""
    header, counts = data[: HEADER.size], data[RECORD_BYTES:]
    checksum = zlib.crc32(counts, zlib.crc32(header))
    return data[HEADER.size : RECORD_BYTES] == CHECKSUM.pack(checksum)
