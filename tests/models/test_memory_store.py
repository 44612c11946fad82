"""Memories that are offloaded come back bit for bit, and nothing is lost on errors."""

import errno
import os
import tempfile

import pytest
import torch
from torch import Tensor

from projects.sam2.models.tracking import memory_store
from projects.sam2.models.tracking.memory_store import (
    ObjectMemory,
    OffloadedMemoryStore,
    OffloadedTensors,
    OffloadFile,
)
from toy_videos import open_files


def _tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(2, 3, 5, generator=generator)
    return [numbers.to(torch.bfloat16), numbers[:1], numbers[0, :1, :1].double()]


SIZE = sum(tensor.nbytes for tensor in _tensors(0))


def _memory(seed: int) -> ObjectMemory:
    spatial, pointer, score = _tensors(seed)
    return ObjectMemory(
        spatial=spatial,
        object_pointer=pointer,
        ious=score + 1,
        object_score_logits=score,
        mask_logits=pointer + 1,
        encoded_logits=pointer + 1,
    )


def _assert_equal(offloaded: OffloadedTensors, seed: int) -> None:
    for actual, expected in zip(offloaded.read(), _tensors(seed), strict=True):
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)


@pytest.mark.parametrize('written', [False, True])
@pytest.mark.parametrize('in_memory', [False, True])
def test_tensors_come_back_bit_for_bit(*, in_memory: bool, written: bool) -> None:
    file = OffloadFile(in_memory=in_memory)
    offloaded = {seed: file.offload(_tensors(seed)) for seed in (4, 0, 900)}
    shorter = file.offload(_tensors(7)[:2])  # other shapes are fine
    if written:
        file.write_pending()
    for seed, tensors in offloaded.items():
        _assert_equal(tensors, seed)
    (first,) = shorter.read(1)
    assert torch.equal(first, _tensors(7)[0])


def test_bytes_of_freed_tensors_are_reused() -> None:
    file = OffloadFile()
    offloaded = [file.offload(_tensors(seed)) for seed in range(3)]
    file.write_pending()
    assert file.used_bytes == file.num_bytes == 3 * SIZE
    del offloaded[1]
    assert file.used_bytes == 2 * SIZE
    offloaded.insert(1, file.offload(_tensors(1)))
    file.offload(_tensors(9))  # freed before it is written
    file.write_pending()
    assert file.used_bytes == file.num_bytes == 3 * SIZE
    for seed, tensors in enumerate(offloaded):
        _assert_equal(tensors, seed)


def test_file_is_opened_with_the_first_write_and_closed_with_the_last_tensors() -> None:
    before, file = open_files(), OffloadFile()
    offloaded = [file.offload(_tensors(seed)) for seed in range(3)]
    assert open_files() == before
    file.write_pending()
    assert len(open_files() - before) == 1
    del file
    _assert_equal(offloaded[2], 2)
    offloaded.clear()
    assert open_files() == before


class LateCopy:
    """The event of a copy off a device that is complete when the test says so."""

    complete = False
    num_waits = 0

    def query(self) -> bool:
        """Is it complete?"""
        return LateCopy.complete

    def synchronize(self) -> None:
        """Wait for it."""
        LateCopy.num_waits += 1


@pytest.fixture
def late_copies(monkeypatch: pytest.MonkeyPatch) -> type[LateCopy]:
    """Copies to the CPU that are not complete yet."""
    monkeypatch.setattr(memory_store, '_copy_to_host', lambda raw: (raw, LateCopy()))
    monkeypatch.setattr(LateCopy, 'complete', False)
    monkeypatch.setattr(LateCopy, 'num_waits', 0)
    return LateCopy


def test_copies_are_written_once_they_are_complete(
    late_copies: type[LateCopy],
) -> None:
    before, file = open_files(), OffloadFile()
    offloaded = [file.offload(_tensors(seed)) for seed in range(4)]
    file.write_pending()
    assert (open_files(), late_copies.num_waits) == (before, 0)
    _assert_equal(offloaded[1], 1)  # reading waits
    assert late_copies.num_waits == 1
    late_copies.complete = True
    file.write_pending()
    assert file.num_bytes == 4 * SIZE
    for seed, tensors in enumerate(offloaded):
        _assert_equal(tensors, seed)


def test_device_is_waited_for_where_too_many_copies_are_pending(
    late_copies: type[LateCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_store, 'MAX_PENDING_BYTES', 3 * SIZE)
    file, offloaded = OffloadFile(), []
    for seed in range(10):
        offloaded.append(file.offload(_tensors(seed)))
        file.write_pending()
    assert late_copies.num_waits == 7
    offloaded.clear()  # freed copies are not pending any more
    offloaded.append(file.offload(_tensors(0)))
    file.write_pending()
    assert late_copies.num_waits == 7


def _fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write, halves = os.pwrite, [True]

    def write_on_full_disk(file: int, data: memoryview, offset: int) -> int:
        if halves:
            halves.pop()
            return write(file, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(os, 'pwrite', write_on_full_disk)


def test_full_disk_is_named_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = OffloadFile()
    offloaded = [file.offload(_tensors(seed)) for seed in range(2)]
    with monkeypatch.context() as full:
        _fill_disk(full)
        with pytest.raises(OSError, match=r'No space left.*set TMPDIR') as no:
            file.write_pending()
    assert no.value.errno == errno.ENOSPC
    for written in (False, True):
        if written:
            file.write_pending()
            assert file.num_bytes == 2 * SIZE
        for seed, tensors in enumerate(offloaded):
            _assert_equal(tensors, seed)


def test_full_host_memory_is_named_and_nothing_is_lost(
    late_copies: type[LateCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensor: Tensor) -> Tensor:
        raise MemoryError

    late_copies.complete = True
    file = OffloadFile(in_memory=True)
    offloaded = file.offload(_tensors(0))
    with monkeypatch.context() as full:
        full.setattr(Tensor, 'clone', fail)
        with pytest.raises(MemoryError, match='leave offload_state_to_cpu out'):
            file.write_pending()
    file.write_pending()
    _assert_equal(offloaded, 0)


def test_missing_temporary_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.setattr(tempfile, '_candidate_tempdir_list', lambda: ['/missing'])
    file = OffloadFile()
    offloaded = file.offload(_tensors(0))
    with pytest.raises(OSError, match=r'cannot be written to any .*set TMPDIR'):
        file.write_pending()
    _assert_equal(offloaded, 0)


# ------------------------------------------------------------------------------ store
def _store(num_frames: int) -> OffloadedMemoryStore:
    """Frame 0 conditions, all others are tracked."""
    store = OffloadedMemoryStore(file=OffloadFile())
    for frame in range(num_frames):
        store.add(frame, _memory(frame), conditioning=frame == 0)
    return store


def test_evicted_memory_is_restored() -> None:
    store = _store(4)
    store.evict(2)
    assert (list(store.tracked), list(store.offloaded)) == ([1, 3], [2])
    actual, expected = store.tracked_memory(2), _memory(2)
    assert isinstance(actual, ObjectMemory)
    for name in ('spatial', 'object_pointer', 'mask_logits', 'ious'):
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name
    pointer = store.tracked_pointer(2)
    assert pointer is not None
    assert torch.equal(pointer, expected.object_pointer)
    assert torch.equal(store.offloaded[2].output().mask_logits, expected.mask_logits)
    assert store.tracked_memory(9) is None
    assert store.tracked_pointer(9) is None


@pytest.mark.parametrize('conditioning', [False, True])
def test_new_memory_replaces_the_offloaded_one(*, conditioning: bool) -> None:
    store = _store(2)
    store.evict(1)
    store.tracked_memory(1)  # restored ones are cached
    store.add(1, _memory(5), conditioning=conditioning)
    assert store.file.used_bytes == 0
    tracked = store.tracked_memory(1)
    actual = store.conditioning[1] if conditioning else tracked
    assert actual is not None
    assert torch.equal(actual.spatial, _memory(5).spatial)
    assert (tracked is None) is conditioning


def test_erased_memories_are_gone_wherever_they_were() -> None:
    store = _store(4)
    for frame in (1, 2):
        store.evict(frame)
    store.tracked_memory(1)
    for frame in range(5):
        store.erase(frame)
    assert [store.tracked_memory(frame) for frame in range(4)] == [None] * 4
    assert list(store.conditioning) == [0]
    assert store.file.used_bytes == 0


def test_copies_share_offloaded_memories_until_the_last_is_gone() -> None:
    store = _store(3)
    store.evict(1)
    copy = store.copy()
    copy.evict(2)
    store.erase(1)
    assert list(store.tracked) == [2]
    restored = copy.tracked_memory(1)
    assert restored is not None
    assert torch.equal(restored.spatial, _memory(1).spatial)
    assert copy.file is store.file
    del copy
    assert store.file.used_bytes == 0
