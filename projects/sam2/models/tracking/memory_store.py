"""Memories of one object, those out of reach offloaded to a temporary file.

========  =================================================================
evict     A memory leaves RAM: after each tracked frame, those that the
          running pass cannot reach (:meth:`MemoryBank.evict_unreachable`).
offload   An evicted memory goes to an :class:`OffloadFile`, if the video may
          be revisited: it is copied off the device at once and written after
          the next frame. A later pass or a prompt reads it again.
erase     A memory is deleted, in RAM or in the file.
free      Its bytes in the file may be used again, as soon as no store holds
          it: its object was removed, its frame was tracked again, or the
          session deleted it at its limit (``max_archive_gb``).
========  =================================================================
"""

import os
import tempfile
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from io import FileIO
from itertools import count
from typing import cast

import torch
from torch import Tensor

from ...ops import at_least_float32, send_to_device
from ...structures import FrameMemory
from ..memory_bank import MemoryStore
from .frame import fill_small_holes

MAX_PENDING_BYTES = 1 << 28  # copied off the device and not yet written
ASYNCHRONOUS_DEVICES = ('cuda',)
NUM_RESTORED = 8  # restored memories cached for each object; a pass needs 6 at a time

Layout = tuple[tuple[torch.dtype, torch.Size], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOutput:
    """The mask of one object on a frame.

    Attributes:
        mask_logits: (1, 1, H4, W4), small holes filled if the options say so.
        object_score_logits: (1, 1).
        ious: Estimated IoU of the mask, (1, 1).
    """

    mask_logits: Tensor
    object_score_logits: Tensor
    ious: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskEncoding:
    """How a spatial memory was encoded from a mask.

    Attributes:
        binary: The mask was thresholded, as masks of prompted frames are.
        autocast: Type of the autocast that was active; None without autocast.
        fill_hole_area: Largest area of a hole, in pixels, that is filled in the mask
            that is shown. The encoded mask has its holes.
    """

    binary: bool = False
    autocast: torch.dtype | None = None
    fill_hole_area: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMemory(FrameMemory):
    """The memory of one object on a frame, with its mask.

    Attributes:
        mask_logits: The mask that is shown, (1, 1, H4, W4).
        encoded_logits: The mask that ``spatial`` encodes, (1, 1, H4, W4).
        encoding: How it was encoded.
        offloaded: Its tensors in the file, as long as a store holds them; others that
            share the memory need not write it again.
    """

    mask_logits: Tensor
    encoded_logits: Tensor
    encoding: MaskEncoding = MaskEncoding()
    offloaded: list['weakref.ref[OffloadedTensors]'] = field(
        default_factory=list, init=False, repr=False, compare=False
    )


# Encodes a spatial memory again: frame, mask, object score, how it was encoded.
EncodeAgain = Callable[[int, Tensor, Tensor, MaskEncoding], Tensor]


@dataclass(slots=True, kw_only=True)
class OffloadedMemoryStore(MemoryStore):
    """Memories of one object; evicted ones go to a file and can be looked up there.

    Attributes:
        file: Where evicted memories are written.
        encode_again: Encodes a spatial memory again from the image and the mask, so
            that it need not be written: this saves two thirds of the bytes, but takes
            an image embedding for each frame that is revisited. None writes it.
        offloaded: Evicted memories by frame, in the order of writing.
    """

    file: 'OffloadFile'
    encode_again: EncodeAgain | None = None
    offloaded: dict[int, 'OffloadedMemory'] = field(default_factory=dict)
    _restored: OrderedDict[int, ObjectMemory] = field(default_factory=OrderedDict)

    @property
    def can_restore(self) -> bool:
        """Evicted memories can still be looked up."""
        return True

    def evict(self, frame_index: int) -> None:
        """Move a tracked memory to the file."""
        memory = cast('ObjectMemory', self.tracked[frame_index])
        offloaded = memory.offloaded[-1]() if memory.offloaded else None
        if offloaded is None:
            tensors = [
                memory.object_pointer,
                memory.encoded_logits,
                memory.object_score_logits,
                memory.ious,
            ]
            if self.encode_again is None:
                tensors.append(memory.spatial)
            offloaded = self.file.offload(tensors)
            memory.offloaded[:] = [weakref.ref(offloaded)]
        self.offloaded[frame_index] = OffloadedMemory(
            tensors=offloaded, encoding=memory.encoding
        )
        del self.tracked[frame_index]

    def erase(self, frame_index: int) -> None:
        """Delete the tracked memory of a frame wherever it is, if there is one."""
        MemoryStore.erase(self, frame_index)
        self.offloaded.pop(frame_index, None)
        self._restored.pop(frame_index, None)

    def tracked_memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of a tracked frame, restored if it was offloaded."""
        offloaded = self.offloaded.get(frame_index)
        if offloaded is None:
            return self.tracked.get(frame_index)
        if frame_index not in self._restored:
            self._restored[frame_index] = self._restore(frame_index, offloaded)
        self._restored.move_to_end(frame_index)
        while len(self._restored) > NUM_RESTORED:
            self._restored.popitem(last=False)
        return self._restored[frame_index]

    def tracked_pointer(self, frame_index: int) -> Tensor | None:
        """Look up the object pointer of a tracked frame, (1, C), without restoring."""
        if frame_index in self.offloaded:
            return self.offloaded[frame_index].tensors.read(1)[0]
        return MemoryStore.tracked_pointer(self, frame_index)

    def copy(self) -> 'OffloadedMemoryStore':
        """Copy the store; the copy shares the tensors and what is in the file."""
        return OffloadedMemoryStore(
            conditioning=dict(self.conditioning),
            tracked=dict(self.tracked),
            notes=dict(self.notes),
            file=self.file,
            encode_again=self.encode_again,
            offloaded=dict(self.offloaded),
            _restored=self._restored.copy(),
        )

    def _restore(self, frame_index: int, offloaded: 'OffloadedMemory') -> ObjectMemory:
        pointer, mask, score, ious, *spatial = offloaded.tensors.read()
        encoding = offloaded.encoding
        if self.encode_again is not None:
            spatial = [self.encode_again(frame_index, mask, score, encoding)]
        return ObjectMemory(
            spatial=spatial[0],
            object_pointer=pointer,
            ious=ious,
            object_score_logits=score,
            mask_logits=_shown(mask, encoding),
            encoded_logits=mask,
            encoding=encoding,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadedMemory:
    """A memory in the file.

    Attributes:
        tensors: Object pointer, encoded mask, object score, IoU, and the spatial memory
            where it cannot be encoded again.
        encoding: How the spatial memory was encoded.
    """

    tensors: 'OffloadedTensors'
    encoding: MaskEncoding

    def output(self) -> ObjectOutput:
        """Read the mask that was shown, without the spatial memory."""
        _, mask, score, ious = self.tensors.read(4)
        mask = _shown(mask, self.encoding)
        return ObjectOutput(mask_logits=mask, object_score_logits=score, ious=ious)


def _shown(mask: Tensor, encoding: MaskEncoding) -> Tensor:
    return at_least_float32(fill_small_holes(mask, encoding.fill_hole_area))


class OffloadFile:
    """A temporary file for the memories of all objects of a video, or host memory.

    The file has no name; it is opened with the first write and closed with this object.
    It is not memory-mapped: on a full disk that would kill the process.

    Args:
        in_memory: Keep the tensors in the memory of the host, without a file.

    Attributes:
        used_bytes: Bytes of all tensors that a store still holds.
        num_bytes: Size of the file.
    """

    def __init__(self, *, in_memory: bool = False) -> None:
        self.in_memory = in_memory
        self.used_bytes = 0
        self.num_bytes = 0
        self._file: FileIO | None = None
        self._free: dict[int, list[int]] = {}  # offsets by size
        self._pending: deque[weakref.ref[OffloadedTensors]] = deque()
        self._pending_bytes = 0
        self._layouts: dict[Layout, Layout] = {}
        self._serials = count()

    def offload(self, tensors: list[Tensor]) -> 'OffloadedTensors':
        """Start to copy tensors off their device, without waiting for it.

        :meth:`write_pending` writes them once the copy is complete.
        """
        layout = tuple((t.dtype, t.shape) for t in tensors)
        # One copy for all tensors; views as bytes need contiguous vectors.
        raw = torch.cat([t.detach().reshape(-1).view(torch.uint8) for t in tensors])
        copied, event = _copy_to_host(raw)
        offloaded = OffloadedTensors(
            file=self,
            layout=self._layouts.setdefault(layout, layout),
            device=raw.device,
            serial=next(self._serials),
            num_bytes=len(copied),
            copied=copied,
            event=event,
        )
        self._pending.append(weakref.ref(offloaded))
        self._pending_bytes += offloaded.num_bytes
        self.used_bytes += offloaded.num_bytes
        return offloaded

    def write_pending(self) -> None:
        """Write the tensors whose copy off the device is complete.

        Waits for the device only where too many copies are pending.

        Raises:
            OSError: If the disk is full; nothing is lost.
            MemoryError: If the memory of the host is full; likewise.
        """
        while self._pending:
            tensors = self._pending[0]()
            if tensors is not None:  # not freed in the meantime
                event, too_many = tensors.event, self._pending_bytes > MAX_PENDING_BYTES
                if event is not None and not too_many and not event.query():
                    return
                if event is not None:
                    event.synchronize()
                self._write(tensors)
                tensors.pending = False
                self._pending_bytes -= tensors.num_bytes
            self._pending.popleft()

    def read(self, offset: int, size: int) -> Tensor:
        """Read bytes that were written."""
        data = bytearray()
        file = cast('FileIO', self._file)
        while len(data) < size:
            part = os.pread(file.fileno(), size - len(data), offset + len(data))
            if not part:
                msg = f'The file of memories ends at byte {offset + len(data)}'
                raise OSError(msg)
            data += part
        return torch.frombuffer(data, dtype=torch.uint8)

    def free(self, tensors: 'OffloadedTensors') -> None:
        """Reuse the bytes of tensors that are not held any more."""
        self.used_bytes -= tensors.num_bytes
        if tensors.pending:
            self._pending_bytes -= tensors.num_bytes
        if tensors.offset is not None:
            self._free.setdefault(tensors.num_bytes, []).append(tensors.offset)

    def _write(self, tensors: 'OffloadedTensors') -> None:
        """Write tensors to the file, or move them to pageable memory."""
        copied = cast('Tensor', tensors.copied)
        if self.in_memory:
            try:
                if tensors.event is not None:  # copies off a GPU are in pinned memory
                    tensors.copied = copied.clone()
            except (MemoryError, RuntimeError) as error:
                msg = (
                    'A memory does not fit into the memory of the host; lower '
                    'max_archive_gb of the predictor, or leave offload_state_to_cpu out'
                )
                raise MemoryError(msg) from error
            tensors.event = None
            return
        num_bytes, free = tensors.num_bytes, self._free.get(tensors.num_bytes)
        if free:
            offset = free.pop()
        else:
            offset, self.num_bytes = self.num_bytes, self.num_bytes + num_bytes
        try:
            self._write_bytes(copied, offset)
        except OSError as error:
            self._free.setdefault(num_bytes, []).append(offset)
            msg = (
                f'A memory cannot be written to {tempfile.tempdir or "any disk"} '
                f'({error.strerror}); make room there, set TMPDIR to another disk, or '
                f'lower max_archive_gb of the predictor'
            )
            raise OSError(error.errno, msg) from error
        tensors.offset, tensors.copied, tensors.event = offset, None, None

    def _write_bytes(self, data: Tensor, offset: int) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0, prefix='sam2-memories-')  # noqa: SIM115  open as long as this object lives
            weakref.finalize(self, self._file.close)
        left = data.numpy().data
        while left:
            written = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[written:], offset + written


@dataclass(eq=False, kw_only=True)
class OffloadedTensors:
    """Tensors in an :class:`OffloadFile`; their bytes are freed with this object.

    Attributes:
        file: The file.
        layout: Type and shape of each tensor.
        device: Original device of the tensors.
        serial: Number of this call of :meth:`OffloadFile.offload`.
        num_bytes: Bytes of all tensors.
        copied: Their bytes on the host, complete after ``event``; None in a file.
        event: Marks the end of the copy off a GPU; None without such a copy.
        pending: Whether they are still to be written.
        offset: Position in the file; None until they are written, or without a file.
    """

    file: OffloadFile
    layout: Layout
    device: torch.device
    serial: int
    num_bytes: int
    copied: Tensor | None
    event: torch.cuda.Event | None
    pending: bool = True
    offset: int | None = None

    def read(self, num_tensors: int | None = None) -> list[Tensor]:
        """Read the first tensors, or all, and copy them to their original device."""
        layout = self.layout[:num_tensors]
        sizes = [shape.numel() * dtype.itemsize for dtype, shape in layout]
        if self.copied is None:
            raw = self.file.read(cast('int', self.offset), sum(sizes))
        else:
            if self.event is not None:
                self.event.synchronize()
            raw = self.copied[: sum(sizes)]
        # A clone of each part, since a slice may not be aligned for its type.
        return [
            send_to_device(part.clone().view(dtype).view(shape), self.device)
            for part, (dtype, shape) in zip(raw.split(sizes), layout, strict=True)
        ]

    def __del__(self) -> None:
        """Free the bytes."""
        self.file.free(self)


def _copy_to_host(raw: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Start a copy to the CPU; the event tells when a copy off a GPU is complete."""
    if raw.device.type not in ASYNCHRONOUS_DEVICES:
        return raw.cpu(), None
    copied = raw.to('cpu', non_blocking=True)  # to pinned memory
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(raw.device))
    return copied, event
