"""Memories on disk come back bit for bit."""

import errno
import os

import pytest
import torch

from projects.sam2.apis import memory_archive
from projects.sam2.apis.memory_archive import (
    AnsweredMemory,
    ArchivedMemoryStore,
    ArchiveSpace,
    TensorArchive,
)
from toy_videos import open_files


def _tensors(seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(2, 3, 5, generator=generator)
    return numbers.to(torch.bfloat16), numbers[:1], numbers[0, :1, :1].double()


def _memory(seed: int) -> AnsweredMemory:
    spatial, pointer, score = _tensors(seed)
    return AnsweredMemory(
        spatial=spatial,
        object_pointer=pointer,
        mask_logits=pointer + 1,
        object_score_logits=score,
        ious=score + 1,
    )


def test_tensors_come_back_bit_for_bit() -> None:
    archive = TensorArchive()
    for key in (4, 0, 900):
        archive.write(key, _tensors(key))
    for key in (900, 4, 0):
        for read, written in zip(archive.read(key), _tensors(key), strict=True):
            assert read.dtype == written.dtype
            assert torch.equal(read, written)


def test_place_of_what_was_discarded_is_used_again() -> None:
    space = ArchiveSpace()
    archive = TensorArchive(space)
    for key in range(3):
        archive.write(key, _tensors(key))
    size = space.num_bytes
    archive.discard(1)
    archive.discard(77)
    assert 1 not in archive
    archive.write(5, _tensors(5))
    archive.write(0, _tensors(8))
    assert space.num_bytes == size
    for key, seed in ((0, 8), (2, 2), (5, 5)):
        assert torch.equal(archive.read(key)[1], _tensors(seed)[1])


@pytest.mark.parametrize('in_memory', [False, True])
def test_archives_of_one_space_share_its_place(*, in_memory: bool) -> None:
    space = ArchiveSpace(in_memory=in_memory)
    archives = [TensorArchive(space) for _ in range(3)]
    for seed, archive in enumerate(archives):
        archive.write(0, _tensors(seed), note='first')
        archive.write(1, _tensors(10 + seed)[:2])  # other shapes are fine
    for seed, archive in enumerate(archives):
        assert torch.equal(archive.read(0)[2], _tensors(seed)[2])
        assert torch.equal(archive.read(1)[0], _tensors(10 + seed)[0])
        assert (archive.note(0), archive.note(1)) == ('first', None)
    size = space.num_bytes
    del archives[1], archive
    another = TensorArchive(space)
    another.write(7, _tensors(7))
    assert space.num_bytes == size
    assert torch.equal(another.read(7)[0], _tensors(7)[0])
    assert torch.equal(archives[0].read(0)[0], _tensors(0)[0])


def test_one_file_is_opened_with_the_first_record_and_closed_with_the_last() -> None:
    before, space = open_files(), ArchiveSpace()
    archives = [TensorArchive(space) for _ in range(9)]
    assert open_files() == before
    for key in range(9):
        archives[key].write(key, _tensors(0))
    assert len(open_files() - before) == 1
    del archives, space
    assert open_files() == before


def test_full_disk_is_named_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = ArchivedMemoryStore()
    for frame in range(4):
        store.add(frame, _memory(frame), conditioning=False)
    store.evict(0)
    assert store.archive is not None
    write, halves = os.pwrite, [True, False]

    def write_on_full_disk(file: int, data: memoryview, offset: int) -> int:
        if halves.pop(0):
            return write(file, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as full:
        full.setattr(os, 'pwrite', write_on_full_disk)
        with pytest.raises(OSError, match=r'No space left.*set TMPDIR') as no:
            store.evict(1)
    assert no.value.errno == errno.ENOSPC
    assert 1 not in store.archive
    for _ in range(2):
        for frame in range(4):
            found = store.tracked_memory(frame)
            assert found is not None
            assert torch.equal(found.spatial, _memory(frame).spatial)
            if frame in store.tracked:
                store.evict(frame)


class LateCopy:
    """The event of a copy off a device that arrives when the test says so."""

    arrived = False
    num_waits = 0

    def query(self) -> bool:
        """Has it arrived?"""
        return LateCopy.arrived

    def synchronize(self) -> None:
        """Wait for it."""
        LateCopy.num_waits += 1


@pytest.fixture
def late_copies(monkeypatch: pytest.MonkeyPatch) -> type[LateCopy]:
    """Copies to the CPU that are on their way."""
    monkeypatch.setattr(memory_archive, '_copy_off', lambda raw: (raw, LateCopy()))
    monkeypatch.setattr(LateCopy, 'arrived', False)
    monkeypatch.setattr(LateCopy, 'num_waits', 0)
    return LateCopy


def test_copies_are_written_when_they_have_arrived(
    late_copies: type[LateCopy],
) -> None:
    before, archive = open_files(), TensorArchive()
    for key in range(4):
        archive.write(key, _tensors(key))
    archive.discard(2)
    archive.write(3, _tensors(9))
    assert (open_files(), late_copies.num_waits) == (before, 0)
    assert torch.equal(archive.read(1)[0], _tensors(1)[0])  # on its way: waits
    assert late_copies.num_waits == 1
    late_copies.arrived = True
    archive.write(4, _tensors(4))
    assert len(open_files() - before) == 1
    for key, seed in ((0, 0), (1, 1), (3, 9), (4, 4)):
        assert torch.equal(archive.read(key)[1], _tensors(seed)[1])
    assert 2 not in archive


def test_no_more_than_some_copies_are_on_their_way(
    late_copies: type[LateCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = TensorArchive()
    size = sum(tensor.nbytes for tensor in _tensors(0))
    monkeypatch.setattr(memory_archive, 'MAX_WAITING_BYTES', 3 * size)
    for key in range(10):
        archive.write(key, _tensors(key))
    assert late_copies.num_waits == 7


def test_late_copy_that_meets_a_full_disk_fails_the_call_and_is_not_lost(
    late_copies: type[LateCopy], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: int, data: memoryview, offset: int) -> int:
        del file, data, offset
        raise OSError(errno.ENOSPC, 'No space left on device')

    archive = TensorArchive()
    archive.write(0, _tensors(0))
    late_copies.arrived = True
    with monkeypatch.context() as full:
        full.setattr(os, 'pwrite', fail)
        with pytest.raises(OSError, match='set TMPDIR'):
            archive.write(1, _tensors(1))
    assert (0 in archive, 1 in archive) == (True, False)
    archive.write(1, _tensors(1))
    for key in range(2):
        assert torch.equal(archive.read(key)[1], _tensors(key)[1])


def test_full_host_memory_is_named_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full:
        def copy(self) -> None:
            raise MemoryError

    archive = TensorArchive(ArchiveSpace(in_memory=True))
    with monkeypatch.context() as full:
        full.setattr(torch.Tensor, 'numpy', lambda self: Full())
        with pytest.raises(MemoryError, match='leave offload_state_to_cpu out'):
            archive.write(0, _tensors(0))
    assert 0 not in archive
    archive.write(1, _tensors(1))
    assert torch.equal(archive.read(1)[1], _tensors(1)[1])


@pytest.mark.parametrize('in_memory', [False, True])
def test_records_of_all_archives_that_were_written_first_make_room(
    *, in_memory: bool
) -> None:
    size = sum(tensor.nbytes for tensor in _tensors(0))
    space = ArchiveSpace(max_bytes=5 * size + 1, in_memory=in_memory)
    first, second = TensorArchive(space), TensorArchive(space)
    for key in range(3):
        first.write(key, _tensors(key))
        second.write(key, _tensors(10 + key))
    first.write(1, _tensors(21))  # is the latest now
    second.write(3, _tensors(13))
    assert (first.take_lost(), second.take_lost()) == ([0], [0])
    assert (first.take_lost(), second.take_lost()) == ([], [])
    assert space.num_bytes <= 5 * size
    kept = [(first, 1, 21), (first, 2, 2), (second, 1, 11), (second, 3, 13)]
    for archive, key, seed in kept:
        assert torch.equal(archive.read(key)[1], _tensors(seed)[1])
    # Records of another size fit as well, and one that is too large alone is lost.
    for key in range(20, 60):
        second.write(key, _tensors(key)[:1])
    assert space.num_bytes <= 5 * size
    assert first.take_lost() == [2, 1]
    assert torch.equal(second.read(59)[0], _tensors(59)[0])
    first.write(5, _tensors(5) * 6)
    assert first.take_lost() == [5]
    assert 5 not in first
    assert 59 in second


def test_dropped_memory_is_found_on_disk() -> None:
    store = ArchivedMemoryStore()
    for frame in range(4):
        store.add(frame, _memory(frame), conditioning=frame == 0)
    store.evict(2)
    assert list(store.tracked) == [1, 3]
    found, expected = store.tracked_memory(2), _memory(2)
    assert found is not None
    for name in ('spatial', 'object_pointer', 'mask_logits', 'ious'):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert store.tracked_memory(9) is None


def test_new_memory_replaces_the_one_on_disk() -> None:
    store = ArchivedMemoryStore()
    store.add(1, _memory(1), conditioning=False)
    store.evict(1)
    store.add(1, _memory(5), conditioning=True)
    assert store.tracked_memory(1) is None
    found = store.conditioning[1]
    assert torch.equal(found.spatial, _memory(5).spatial)


def test_memory_that_was_looked_up_is_replaced_on_disk_as_well() -> None:
    store = ArchivedMemoryStore()
    for seed in (1, 5):
        store.add(1, _memory(seed), conditioning=False)
        store.evict(1)
        found = store.tracked_memory(1)
        assert found is not None
        assert torch.equal(found.spatial, _memory(seed).spatial)
        pointer = store.tracked_pointer(1)
        assert pointer is not None
        assert torch.equal(pointer, _memory(seed).object_pointer)
    store.erase(1)
    assert store.tracked_memory(1) is None
    assert store.tracked_pointer(1) is None


def test_erased_memory_is_gone_wherever_it_was() -> None:
    store = ArchivedMemoryStore()
    for frame in range(3):
        store.add(frame, _memory(frame), conditioning=frame == 0)
    store.evict(1)
    for frame in (0, 1, 2, 3):
        store.erase(frame)
    assert [store.answer(frame) is None for frame in range(3)] == [False, True, True]


def test_store_without_archive_forgets() -> None:
    store = ArchivedMemoryStore(archive=None)
    store.add(1, _memory(1), conditioning=False)
    store.evict(1)
    assert store.answer(1) is None
