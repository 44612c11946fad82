"""Memories that no longer fit in memory: on disk, until a prompt comes back to them."""

import os
import tempfile
import weakref
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.models.memory_bank import MemoryStore
from projects.sam2.structures import FrameMemory

__all__ = ['AnsweredMemory', 'ArchivedMemoryStore', 'TensorArchive']


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredMemory(FrameMemory):
    """The memory of one object on a frame, with the mask that was shown.

    Attributes:
        mask_logits: (1, 1, H4, W4), small holes filled where that was asked for.
        object_score_logits: (1, 1).
        ious: Estimated IoU of the mask, (1, 1).
    """

    mask_logits: Tensor
    object_score_logits: Tensor
    ious: Tensor


class TensorArchive:
    """Tensors of the same shapes for each key, in a memory-mapped file.

    The file has no name and goes with the archive. Only the record that is read is
    mapped, so that the resident memory stays small; records are written plainly, since
    a mapped one ends the process where the disk is full.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0, prefix='sam2-memories-')  # noqa: SIM115  open as long as the archive lives
        weakref.finalize(self, self._file.close)
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._kinds: tuple[tuple[torch.dtype, torch.Size], ...] = ()
        self._num_bytes: tuple[int, ...] = ()

    def __contains__(self, key: int) -> bool:
        """Is something kept under a key?"""
        return key in self._slots

    def write(self, key: int, tensors: tuple[Tensor, ...]) -> None:
        """Keep tensors, in place of earlier ones of this key.

        Args:
            key: Not negative.
            tensors: Of the types and shapes of the first that were written.

        Raises:
            ValueError: If types or shapes differ from those of the first.
            OSError: If the disk is full; nothing is kept then.
        """
        kinds = tuple((tensor.dtype, tensor.shape) for tensor in tensors)
        raw = [_as_bytes(tensor) for tensor in tensors]
        if not self._kinds:
            self._kinds = kinds
            self._num_bytes = tuple(part.size for part in raw)
        if kinds != self._kinds:
            msg = f'Expected tensors {self._kinds}, but got {kinds}; use a new archive'
            raise ValueError(msg)
        slot = self._slots.pop(key, None)
        if slot is None:
            slot = self._free.pop() if self._free else len(self._slots)
        self._slots[key] = slot
        try:
            self._fill(slot, np.concatenate(raw))
        except OSError as error:
            self.discard(key)
            msg = (
                f'A memory cannot be written to {tempfile.gettempdir()} '
                f'({error.strerror}); make room there, or set TMPDIR to another disk'
            )
            raise OSError(error.errno, msg) from error

    def read(self, key: int) -> tuple[Tensor, ...]:
        """Read tensors back, bit for bit.

        Args:
            key: One that was written.

        Returns:
            The tensors, on the CPU.
        """
        size = sum(self._num_bytes)
        offset = self._slots[key] * size
        record = np.array(
            np.memmap(self._file, np.uint8, mode='r', offset=offset, shape=(size,))
        )
        ends = np.cumsum(self._num_bytes)
        parts = np.split(record, ends[:-1])
        return tuple(
            torch.from_numpy(part).view(dtype).view(shape)
            for part, (dtype, shape) in zip(parts, self._kinds, strict=True)
        )

    def discard(self, key: int) -> None:
        """Let go of a key; its place is used again.

        Args:
            key: One that was written, or not.
        """
        if key in self._slots:
            self._free.append(self._slots.pop(key))

    def _fill(self, slot: int, record: NDArray[np.uint8]) -> None:
        """Write one record; the file grows where it must."""
        left, offset = record.data, slot * record.size
        while left:
            written = os.pwrite(self._file.fileno(), left, offset)
            left, offset = left[written:], offset + written


@dataclass(slots=True)
class ArchivedMemoryStore(MemoryStore):
    """Memories of one object: what the running pass reaches, and the rest on disk.

    Attributes:
        archive: Takes what the pass lets go of; None forgets it.
    """

    archive: TensorArchive | None = field(default_factory=TensorArchive)

    def add(self, frame_index: int, memory: FrameMemory, *, prompted: bool) -> None:
        """Keep the memory of a frame, in place of an earlier one of that frame.

        Args:
            frame_index: Position in the video.
            memory: What to remember.
            prompted: The frame conditions the rest of the video.
        """
        MemoryStore.add(self, frame_index, memory, prompted=prompted)
        if self.archive is not None:
            self.archive.discard(frame_index)

    def tracked_memory(self, frame_index: int) -> FrameMemory | None:
        """Look up the memory of a frame that does not condition the video.

        Args:
            frame_index: Position in the video.

        Returns:
            The memory, read from disk where it was let go of; or None.
        """
        kept = self.tracked.get(frame_index)
        if kept is not None or self.archive is None or frame_index not in self.archive:
            return kept
        device = self._device()
        names = [one.name for one in fields(AnsweredMemory)]
        tensors = [tensor.to(device) for tensor in self.archive.read(frame_index)]
        return AnsweredMemory(**dict(zip(names, tensors, strict=True)))

    def drop(self, frame_index: int) -> None:
        """Move a tracked memory to disk.

        Args:
            frame_index: Position in the video.
        """
        if self.archive is not None:
            memory = self.tracked[frame_index]
            names = [one.name for one in fields(AnsweredMemory)]
            tensors = tuple(getattr(memory, name) for name in names)
            self.archive.write(frame_index, tensors)
        del self.tracked[frame_index]

    def erase(self, frame_index: int) -> None:
        """Forget the tracked memory of a frame for good, where there is one.

        Args:
            frame_index: Position in the video.
        """
        self.tracked.pop(frame_index, None)
        if self.archive is not None:
            self.archive.discard(frame_index)

    def answer(self, frame_index: int) -> AnsweredMemory | None:
        """Look up what was shown on a frame.

        Args:
            frame_index: Position in the video.

        Returns:
            The memory of the frame with its mask, or None.
        """
        memory = self.conditioning.get(frame_index) or self.tracked_memory(frame_index)
        return memory if isinstance(memory, AnsweredMemory) else None

    def _device(self) -> torch.device:
        """Where the memories are used."""
        some = next(iter((self.conditioning or self.tracked).values()), None)
        return torch.device('cpu') if some is None else some.object_pointer.device


def _as_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """The bytes of a tensor of any type."""
    flat = tensor.detach().cpu().contiguous().view(-1)
    raw: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return raw
