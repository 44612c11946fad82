"""The next item is read ahead, and every item is the requested one."""

import threading
import time

import pytest

from projects.sam2.ops import Prefetcher


@pytest.mark.parametrize('order', [range(6), range(5, -1, -1), [0, 4, 2, 3, 4, 4, 0]])
def test_items_are_those_requested_and_read_one_at_a_time(
    order: range | list[int],
) -> None:
    busy = threading.Lock()

    def read(index: int) -> int:
        assert busy.acquire(blocking=False)
        time.sleep(0.002)
        busy.release()
        return 10 * index

    items = Prefetcher(read, 6)
    assert [items.read(index) for index in order] == [10 * index for index in order]


@pytest.mark.parametrize(('order', 'following'), [((2,), 3), ((4, 3), 2)])
def test_next_item_in_the_direction_of_reading_is_read_meanwhile(
    order: tuple[int, ...], following: int
) -> None:
    started: list[int] = []
    done = threading.Event()

    def read(index: int) -> int:
        started.append(index)
        if index == following:
            done.set()
        return index

    items = Prefetcher(read, 5)
    for index in order:
        items.read(index)
    assert done.wait(timeout=10)
    num_reads = len(started)
    assert items.read(following) == following
    assert started[:num_reads].count(following) == 1


def test_idle_prefetchers_hold_no_thread() -> None:
    before = set(threading.enumerate())
    readers = [Prefetcher(lambda index: index, 3) for _ in range(20)]
    for reader in readers:
        reader.read(0)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert set(threading.enumerate()) <= before
    assert all(reader.read(1) == 1 for reader in readers)


def test_error_of_a_prefetched_item_is_raised_when_it_is_read() -> None:
    broken = {1}

    def read(index: int) -> int:
        if index in broken:
            raise ValueError('broken')
        return index

    items = Prefetcher(read, 3)
    assert items.read(0) == 0
    for _ in range(2):
        with pytest.raises(ValueError, match='broken'):
            items.read(1)
    broken.clear()
    assert items.read(1) == 1
