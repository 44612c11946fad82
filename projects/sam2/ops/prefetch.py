"""Reads the next frame in a thread while the current one is processed."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar('Item')


class Prefetcher(Generic[Item]):
    """Reads items by index and prefetches the next one in the direction of reading.

    Items are read one at a time, in other threads. A thread lives only while it reads,
    so idle videos hold none.

    Args:
        read: Reads the item of an index.
        num_items: Indices go from 0 to ``num_items - 1``.

    Example:
        >>> frames = Prefetcher('frame {}'.format, num_items=3)
        >>> [frames.read(index) for index in (0, 1, 2)]
        ['frame 0', 'frame 1', 'frame 2']
    """

    def __init__(self, read: Callable[[int], Item], num_items: int) -> None:
        self._read, self._num_items = read, num_items
        self._one_at_a_time = threading.Lock()
        self._pending: dict[int, Future[Item]] = {}  # at most the next item
        self._latest = -1

    def read(self, index: int) -> Item:
        """Wait for an item, and start to read the next one.

        An error of a prefetched item is raised when that item is read.
        """
        current = self._pending.pop(index, None) or self._submit(index)
        following = index + (1 if index > self._latest else -1)
        self._latest = index
        item = current.result()
        self._pending.clear()
        if 0 <= following < self._num_items:
            self._pending[following] = self._submit(following)
        return item

    def _submit(self, index: int) -> 'Future[Item]':
        future: Future[Item] = Future()
        threading.Thread(
            target=self._run, args=(index, future), name='sam2-prefetch'
        ).start()
        return future

    def _run(self, index: int, future: 'Future[Item]') -> None:
        try:
            with self._one_at_a_time:
                item = self._read(index)
        except BaseException as error:  # noqa: BLE001  raised by read()
            future.set_exception(error)
            del self, future  # else a reference cycle through the error's traceback
        else:
            future.set_result(item)
