"""Archives memories that the running pass no longer needs, on disk or on the host."""

import os
import tempfile
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from io import FileIO
from itertools import count, islice
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.memory_bank import MemoryStore
from ..models.tracking.frame import STRIDE, SAMHeads
from ..ops import upsample_logits
from ..structures import FrameMemory, ImageFeatures

__all__ = [
    'AnsweredMemory',
    'ArchiveSpace',
    'ArchivedMemoryStore',
    'FrameAnswer',
    'MaskEncoding',
    'MemoryRestorer',
    'StagedStore',
    'TensorArchive',
]

MAX_WAITING_BYTES = 1 << 28  # copies off the device that are not written yet
ASYNCHRONOUS_DEVICES = ('cuda',)
NUM_RESTORED = 8  # restored memories that an object holds: a pass needs 6 at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAnswer:
    """What is shown of one object on a frame.

    Attributes:
        mask_logits: (1, 1, H4, W4), small holes filled where that was asked for.
        object_score_logits: (1, 1).
        ious: Estimated IoU of the mask, (1, 1).
    """

    mask_logits: Tensor
    object_score_logits: Tensor
    ious: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskEncoding:
    """How a spatial memory is encoded from a mask.

    Attributes:
        binary: The mask is thresholded, as masks of prompted frames are.
        autocast: Type of autocast that is in force; None without autocast.
        fill_hole_area: Holes of up to so many pixels are filled where it is shown.
    """

    binary: bool = False
    autocast: torch.dtype | None = None
    fill_hole_area: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredMemory(FrameMemory):
    """The memory of one object on a frame, with the mask that was shown.

    Attributes:
        mask_logits: (1, 1, H4, W4), small holes filled where that was asked for.
        object_score_logits: (1, 1).
        ious: Estimated IoU of the mask, (1, 1).
        encoded_logits: The mask that ``spatial`` encodes, (1, 1, H4, W4); None if it
            is ``mask_logits``.
        encoding: How it was encoded.
    """

    mask_logits: Tensor
    object_score_logits: Tensor
    ious: Tensor
    encoded_logits: Tensor | None = None
    encoding: MaskEncoding = MaskEncoding()

    @property
    def answer(self) -> FrameAnswer:
        """What is shown."""
        return FrameAnswer(
            mask_logits=self.mask_logits,
            object_score_logits=self.object_score_logits,
            ious=self.ious,
        )

    @property
    def mask_to_encode(self) -> Tensor:
        """The mask that ``spatial`` encodes, (1, 1, H4, W4)."""
        return self.mask_logits if self.encoded_logits is None else self.encoded_logits


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRestorer:
    """Recomputes the spatial memories of archived frames.

    A spatial memory, two thirds of the bytes of a frame, depends on the image and the
    decoded mask alone. It is not archived but encoded again, which takes an image
    embedding for each frame that a pass returns to.

    Attributes:
        heads: Of the model; the tracker encodes memories.
        features: Gives the image features of a frame.
        show: Fills the holes of a mask up to an area.
        memory_dtype: Spatial memories are of this type.
    """

    heads: SAMHeads
    features: Callable[[int], ImageFeatures]
    show: Callable[[Tensor, float], Tensor]
    memory_dtype: torch.dtype

    @torch.no_grad()
    def spatial(
        self,
        frame_index: int,
        mask_logits: Tensor,
        object_score_logits: Tensor,
        encoding: MaskEncoding,
    ) -> Tensor:
        """Encode a mask as it was encoded before.

        Args:
            mask_logits: The decoded mask, (1, 1, H4, W4).
            object_score_logits: (1, 1).

        Returns:
            (1, Cm, H16, W16).
        """
        with torch.autocast(
            mask_logits.device.type,
            dtype=encoding.autocast,
            enabled=encoding.autocast is not None,
        ):
            features = self.features(frame_index)
            height, width = features.embedding.shape[-2:]
            spatial = self.heads.tracker.encode_memory(
                features,
                upsample_logits(mask_logits, (STRIDE * height, STRIDE * width)),
                object_score_logits > 0,
                binary=encoding.binary,
            )
        return spatial.to(self.memory_dtype)


@dataclass(slots=True)
class _Record:
    """Tensors that are stored in the space, or are being copied to it.

    Attributes:
        layout: Types and shapes of the tensors, and the note that came with them.
        size: In bytes.
        serial: Counts the records of a space in the order of writing.
        offset: Position in the space; -1 until the record is written.
        copied: Bytes on the CPU, valid after ``event``; None once they are written.
        event: Marks the end of the copy off a GPU; None without such a copy.
    """

    layout: '_Layout'
    size: int
    serial: int
    offset: int = -1
    copied: Tensor | None = None
    event: torch.cuda.Event | None = None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Types and shapes of the tensors of a record, and a note."""

    kinds: tuple[tuple[torch.dtype, torch.Size], ...]
    note: Hashable

    def sizes(self) -> list[int]:
        """Bytes of each tensor."""
        return [shape.numel() * dtype.itemsize for dtype, shape in self.kinds]


@dataclass(slots=True)
class _Shelf:
    """Records of one archive, oldest first, and the keys of evicted records."""

    records: dict[int, _Record] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)


class ArchiveSpace:
    """One temporary file, or host memory, that archives share.

    The file has no name. It is opened with the first write and closed with the last
    archive. When the limit is reached, the oldest records are evicted.

    Args:
        max_bytes: Limit; None for no limit.
        in_memory: Keep the records in host memory, without a file.
    """

    def __init__(
        self, *, max_bytes: int | None = None, in_memory: bool = False
    ) -> None:
        self.max_bytes = max_bytes
        self.in_memory = in_memory
        self.num_bytes = 0  # all offsets in use or free lie below
        self._records: _TemporaryFile | _HostMemory
        self._records = _HostMemory() if in_memory else _TemporaryFile()
        self._free: dict[int, list[int]] = {}  # offsets by size
        self._shelves: dict[int, _Shelf] = {}
        self._waiting: deque[tuple[_Shelf, int, _Record]] = deque()
        self._waiting_bytes = 0
        self._layouts: dict[_Layout, _Layout] = {}
        self._serials = count()

    def another(self) -> 'ArchiveSpace':
        """An empty space of the same kind."""
        return ArchiveSpace(max_bytes=self.max_bytes, in_memory=self.in_memory)

    def add_shelf(self) -> _Shelf:
        """Make room for one archive."""
        shelf = _Shelf()
        self._shelves[id(shelf)] = shelf
        return shelf

    def remove_shelf(self, shelf: _Shelf) -> None:
        """Delete all records of an archive."""
        for key in tuple(shelf.records):
            self.discard(shelf, key)
        del self._shelves[id(shelf)]

    def put(
        self, shelf: _Shelf, key: int, tensors: tuple[Tensor, ...], note: Hashable
    ) -> None:
        """Start to copy tensors to the CPU, and write the copies that are complete."""
        layout = _Layout(tuple((t.dtype, t.shape) for t in tensors), note)
        layout = self._layouts.setdefault(layout, layout)
        copied, event = _copy_off(_as_bytes(tensors))
        record = _Record(
            layout=layout,
            size=len(copied),
            serial=next(self._serials),
            copied=copied,
            event=event,
        )
        shelf.records[key] = record
        self._waiting.append((shelf, key, record))
        self._waiting_bytes += record.size
        try:
            self._write_arrived()
        except (OSError, MemoryError):
            self.discard(shelf, key)
            raise

    def get(self, record: _Record, num_tensors: int) -> tuple[Tensor, ...]:
        """The first tensors of a record, on the CPU."""
        sizes = record.layout.sizes()[:num_tensors]
        if record.copied is None:
            raw = self._records.read(record.offset, sum(sizes))
        else:
            if record.event is not None:
                record.event.synchronize()
            raw = record.copied[: sum(sizes)]
        return tuple(
            part.clone().view(dtype).view(shape)  # a copy is aligned for its type
            for part, (dtype, shape) in zip(
                raw.split(sizes), record.layout.kinds[:num_tensors], strict=True
            )
        )

    def discard(self, shelf: _Shelf, key: int) -> None:
        """Delete a record; its bytes are reused."""
        record = shelf.records.pop(key, None)
        if record is None:
            return
        if record.copied is not None:
            record.copied = None  # taken out of the queue by `_write_arrived`
            self._waiting_bytes -= record.size
        else:
            self._records.free(record.offset)
            self._free.setdefault(record.size, []).append(record.offset)

    def _write_arrived(self) -> None:
        """Write complete copies; wait for the oldest where too many are pending."""
        while self._waiting:
            shelf, key, record = self._waiting[0]
            too_many = self._waiting_bytes > MAX_WAITING_BYTES
            if record.event is not None and not record.event.query() and not too_many:
                return
            if record.event is not None:
                record.event.synchronize()
            if record.copied is not None:  # it was not discarded meanwhile
                self._write(shelf, key, record, record.copied)
            self._waiting.popleft()

    def _write(self, shelf: _Shelf, key: int, record: _Record, copied: Tensor) -> None:
        """Write one record, evicting older ones where the limit is reached."""
        offset = self._allocate(record)
        if offset is None:  # larger than the limit
            self.discard(shelf, key)
            shelf.lost.append(key)
            return
        try:
            self._records.write(offset, copied.numpy())
        except MemoryError as error:
            self._free.setdefault(record.size, []).append(offset)
            msg = (
                'A memory does not fit into the memory of the host; lower '
                'max_archive_gb of the predictor, or leave offload_state_to_cpu out'
            )
            raise MemoryError(msg) from error
        except OSError as error:
            self._free.setdefault(record.size, []).append(offset)
            msg = (
                f'A memory cannot be written to {tempfile.tempdir or "any disk"} '
                f'({error.strerror}); make room there, set TMPDIR to another disk, or '
                f'lower max_archive_gb of the predictor'
            )
            raise OSError(error.errno, msg) from error
        record.offset, record.copied, record.event = offset, None, None
        self._waiting_bytes -= record.size

    def _allocate(self, record: _Record) -> int | None:
        """Find an offset for a record; None if it is larger than the limit."""
        limit = self.max_bytes
        if limit is not None and record.size > limit:
            return None
        while not self._free.get(record.size):
            if limit is None or self.num_bytes + record.size <= limit:
                offset, self.num_bytes = self.num_bytes, self.num_bytes + record.size
                return offset
            oldest = self._oldest(before=record.serial)
            if oldest is None:
                # All offsets are free, but for records of other sizes.
                self._free.clear()
                self.num_bytes = 0
                continue
            shelf, key = oldest
            self.discard(shelf, key)
            shelf.lost.append(key)
        return self._free[record.size].pop()

    def _oldest(self, *, before: int) -> tuple[_Shelf, int] | None:
        """The oldest record, if it is older than the record of a serial number."""
        # A dict keeps the order of writing, so each shelf begins with its oldest.
        firsts = [
            (record.serial, shelf, key)
            for shelf in tuple(self._shelves.values())  # finalizers may remove some
            for key, record in islice(shelf.records.items(), 1)
            if record.serial < before
        ]
        if not firsts:
            return None
        _, shelf, key = min(firsts, key=itemgetter(0))
        return shelf, key


class _TemporaryFile:
    """Bytes in a file without a name, opened with the first of them.

    It is written plainly: a memory-mapped file ends the process on a full disk.
    """

    def __init__(self) -> None:
        self._file: FileIO | None = None

    def write(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes; the file grows where it must."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, prefix='sam2-memories-')  # noqa: SIM115  open as long as the space lives
            weakref.finalize(self, self._file.close)
        left = data.data
        while left:
            written = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[written:], offset + written

    def read(self, offset: int, size: int) -> Tensor:
        """Read bytes that were written."""
        if self._file is None:
            msg = 'Nothing was written yet'
            raise ValueError(msg)
        data = bytearray()
        while len(data) < size:
            part = os.pread(self._file.fileno(), size - len(data), offset + len(data))
            if not part:
                msg = f'The file of memories ends at byte {offset + len(data)}'
                raise OSError(msg)
            data += part
        return torch.frombuffer(data, dtype=torch.uint8)

    def free(self, offset: int) -> None:
        """Do nothing: the bytes will be overwritten."""


class _HostMemory:
    """Bytes in host memory, with the calls of the file."""

    def __init__(self) -> None:
        self._data: dict[int, Tensor] = {}

    def write(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Keep a copy in pageable memory; copies off a GPU are in pinned memory."""
        self._data[offset] = torch.from_numpy(data.copy())

    def read(self, offset: int, size: int) -> Tensor:
        """Return bytes that were written."""
        return self._data[offset][:size]

    def free(self, offset: int) -> None:
        """Free the bytes."""
        del self._data[offset]


class TensorArchive:
    """Tensors for each frame of one object, bit for bit.

    Args:
        space: Where they are kept, shared with the other objects of a video; by
            default a temporary file of its own.
    """

    def __init__(self, space: ArchiveSpace | None = None) -> None:
        self._space = ArchiveSpace() if space is None else space
        self._shelf = self._space.add_shelf()
        weakref.finalize(self, self._space.remove_shelf, self._shelf).atexit = False

    def __contains__(self, key: int) -> bool:
        """Is something kept under a key?"""
        return key in self._shelf.records

    def write(
        self, key: int, tensors: tuple[Tensor, ...], note: Hashable = None
    ) -> None:
        """Keep tensors, in place of earlier ones of this key.

        The device is not waited for: they are copied off it while it works on, and
        written with a later call.

        Raises:
            OSError: If the disk is full; these tensors are not kept then.
        """
        self.discard(key)
        self._space.put(self._shelf, key, tensors, note)

    def read(self, key: int, num_tensors: int | None = None) -> tuple[Tensor, ...]:
        """Read tensors back.

        Args:
            num_tensors: Read the first of them alone; None for all.
        """
        record = self._shelf.records[key]
        every = len(record.layout.kinds)
        return self._space.get(record, every if num_tensors is None else num_tensors)

    def note(self, key: int) -> Hashable:
        """The note that was written with tensors."""
        return self._shelf.records[key].layout.note

    def discard(self, key: int) -> None:
        """Delete the tensors of a key, if there are any."""
        self._space.discard(self._shelf, key)

    def take_lost(self) -> list[int]:
        """Keys that were evicted since the last call."""
        lost, self._shelf.lost = self._shelf.lost, []
        return lost

    def copy_to(self, space: ArchiveSpace) -> 'TensorArchive':
        """Copy the archive."""
        other = TensorArchive(space)
        for key in self._shelf.records:
            other.write(key, self.read(key), self.note(key))
        return other


@dataclass(slots=True)
class ArchivedMemoryStore(MemoryStore):
    """Memories of one object: what the running pass reaches, and the rest archived.

    Attributes:
        archive: Takes what the pass lets go of; None forgets it.
        restorer: Makes spatial memories again, which are then not archived; None
            archives them, three times the bytes.
    """

    archive: TensorArchive | None = field(default_factory=TensorArchive)
    restorer: MemoryRestorer | None = None
    _restored: OrderedDict[int, AnsweredMemory] = field(default_factory=OrderedDict)

    @property
    def can_restore(self) -> bool:
        """Memories that were dropped can be looked up."""
        return self.archive is not None

    def add(self, frame_index: int, memory: FrameMemory, *, conditioning: bool) -> None:
        """Keep the memory of a frame, in place of an earlier one of that frame."""
        if self.restorer is None and isinstance(memory, AnsweredMemory):
            memory = replace(memory, encoded_logits=None)  # not needed again
        MemoryStore.add(self, frame_index, memory, conditioning=conditioning)
        self._discard(frame_index)

    def tracked_memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of a frame that does not condition the video.

        Returns:
            The memory, restored where it was let go of; or None.
        """
        kept = self.tracked.get(frame_index)
        if kept is not None or self.archive is None or frame_index not in self.archive:
            return kept
        if frame_index not in self._restored:
            self._restored[frame_index] = self._restore(self.archive, frame_index)
        self._restored.move_to_end(frame_index)
        while len(self._restored) > NUM_RESTORED:
            self._restored.popitem(last=False)
        return self._restored[frame_index]

    def tracked_pointer(self, frame_index: int) -> Tensor | None:
        """Look up the object pointer alone of a frame, which needs no restoring.

        Returns:
            (1, C), or None.
        """
        kept = self.tracked.get(frame_index)
        if kept is not None:
            return kept.object_pointer
        if self.archive is None or frame_index not in self.archive:
            return None
        return self.archive.read(frame_index, 1)[0].to(self._device())

    def evict(self, frame_index: int) -> None:
        """Move a tracked memory to the archive.

        Raises:
            OSError: If the disk is full; the memory stays where it is.
        """
        memory = self.tracked[frame_index]
        if self.archive is not None and isinstance(memory, AnsweredMemory):
            tensors: tuple[Tensor, ...] = (
                memory.object_pointer,
                memory.mask_logits if self.restorer is None else memory.mask_to_encode,
                memory.object_score_logits,
                memory.ious,
            )
            if self.restorer is None:
                tensors = (*tensors, memory.spatial)
            self.archive.write(frame_index, tensors, memory.encoding)
        del self.tracked[frame_index]

    def erase(self, frame_index: int) -> None:
        """Forget the tracked memory of a frame for good, where there is one."""
        self.tracked.pop(frame_index, None)
        self._discard(frame_index)

    def answer(self, frame_index: int) -> FrameAnswer | None:
        """Look up what was shown on a frame.

        Returns:
            The mask and its scores, or None.
        """
        memory = self.conditioning.get(frame_index) or self.tracked.get(frame_index)
        if isinstance(memory, AnsweredMemory):
            return memory.answer
        if (
            memory is not None
            or self.archive is None
            or frame_index not in self.archive
        ):
            return None
        _, mask, score, ious = self._read(self.archive, frame_index, 4)
        if self.restorer is not None:
            encoding = _encoding_of(self.archive, frame_index)
            mask = self.restorer.show(mask, encoding.fill_hole_area)
        return FrameAnswer(
            mask_logits=mask,
            object_score_logits=score,
            ious=ious,
        )

    def take_lost(self) -> list[int]:
        """Frames whose memories were evicted since the last call."""
        lost = [] if self.archive is None else self.archive.take_lost()
        for frame_index in lost:
            self._restored.pop(frame_index, None)
        return lost

    def _restore(self, archive: TensorArchive, frame_index: int) -> AnsweredMemory:
        """Read a memory; encode the spatial memory again where it is not archived."""
        pointer, mask, score, ious, *rest = self._read(archive, frame_index)
        encoding = _encoding_of(archive, frame_index)
        if self.restorer is None:
            (spatial,) = rest
            shown, encoded = mask, None
        else:
            spatial = self.restorer.spatial(frame_index, mask, score, encoding)
            shown, encoded = self.restorer.show(mask, encoding.fill_hole_area), mask
        return AnsweredMemory(
            spatial=spatial,
            object_pointer=pointer,
            mask_logits=shown,
            object_score_logits=score,
            ious=ious,
            encoded_logits=encoded,
            encoding=encoding,
        )

    def _read(
        self, archive: TensorArchive, frame_index: int, num_tensors: int | None = None
    ) -> list[Tensor]:
        """Read tensors to the device of the memories."""
        device = self._device()
        return [tensor.to(device) for tensor in archive.read(frame_index, num_tensors)]

    def _discard(self, frame_index: int) -> None:
        """Delete the archived memory of a frame."""
        self._restored.pop(frame_index, None)
        if self.archive is not None:
            self.archive.discard(frame_index)

    def branch(self, space: ArchiveSpace | None) -> 'ArchivedMemoryStore':
        """Copy the store; the copy shares the tensors, which never change.

        Args:
            space: Where the copy archives; None where nothing is archived.
        """
        archive = None
        if self.archive is not None and space is not None:
            archive = self.archive.copy_to(space)
        return ArchivedMemoryStore(
            conditioning=dict(self.conditioning),
            tracked=dict(self.tracked),
            archive=archive,
            restorer=self.restorer,
        )

    def _device(self) -> torch.device:
        """Device of the memories."""
        memory = next(iter((self.conditioning or self.tracked).values()), None)
        return torch.device('cpu') if memory is None else memory.object_pointer.device


def _encoding_of(archive: TensorArchive, frame_index: int) -> MaskEncoding:
    """How the memory of an archived frame was encoded and shown."""
    note = archive.note(frame_index)
    return note if isinstance(note, MaskEncoding) else MaskEncoding()


def _as_bytes(tensors: tuple[Tensor, ...]) -> Tensor:
    """The bytes of tensors of any types, where the tensors are."""
    return torch.cat(
        [t.detach().contiguous().view(-1).view(torch.uint8) for t in tensors]
    )


def _copy_off(raw: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start a copy to the CPU; the event tells when a copy off a GPU is done."""
    if raw.device.type not in ASYNCHRONOUS_DEVICES:
        return raw.cpu(), None
    copied = raw.to('cpu', non_blocking=True)  # to pinned memory
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(raw.device))
    return copied, event


class StagedStore(ArchivedMemoryStore):
    """Pending changes of a store.

    Args:
        base: The store, which only :meth:`settle` changes.
    """

    def __init__(self, base: ArchivedMemoryStore) -> None:
        super().__init__(
            conditioning=dict(base.conditioning),
            tracked=dict(base.tracked),
            archive=None,
            restorer=base.restorer,
        )
        self.base = base
        self.changed: set[int] = set()

    def add(self, frame_index: int, memory: FrameMemory, *, conditioning: bool) -> None:
        """Stage the memory of a frame."""
        self.changed.add(frame_index)
        super().add(frame_index, memory, conditioning=conditioning)

    def erase(self, frame_index: int) -> None:
        """Stage that the tracked memory of a frame is forgotten."""
        self.changed.add(frame_index)
        super().erase(frame_index)

    def tracked_memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of a frame that does not condition the video.

        Returns:
            The memory as it is with the changes; or None.
        """
        if frame_index in self.changed:
            return super().tracked_memory(frame_index)
        return self.base.tracked_memory(frame_index)

    def tracked_pointer(self, frame_index: int) -> Tensor | None:
        """Look up the object pointer of a frame.

        Returns:
            (1, C), as it is with the changes; or None.
        """
        if frame_index in self.changed:
            return super().tracked_pointer(frame_index)
        return self.base.tracked_pointer(frame_index)

    def answer(self, frame_index: int) -> FrameAnswer | None:
        """Look up what is shown on a frame.

        Returns:
            The mask and its scores, as they are with the changes; or None.
        """
        if frame_index in self.changed:
            return super().answer(frame_index)
        return self.base.answer(frame_index)

    def settle(self) -> None:
        """Apply the changes; the store may have archived memories meanwhile."""
        for frame in self.changed:
            self.base.erase(frame)
            if frame in self.tracked:
                self.base.add(frame, self.tracked[frame], conditioning=False)
        self.base.conditioning = self.conditioning
