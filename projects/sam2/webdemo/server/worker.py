"""The thread of the model: clicks first, and between them the frames of passes.

A pass (tracking through a video) is an iterator with a step for each frame. All calls
of the model run in one thread. Before each step the thread runs the calls that wait, so
that a click overtakes a running pass; the passes of several sessions take turns.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal, ParamSpec, TypeVar

logger = logging.getLogger(__name__)

Parameters = ParamSpec('Parameters')
Result = TypeVar('Result')
EndState = Literal['done', 'cancelled', 'failed']
OnItem = Callable[[Any], None]
OnEnd = Callable[[EndState, BaseException | None], None]


class PassHandle:
    """A pass that runs or waits for its turn.

    Attributes:
        session_id: Session that the pass belongs to.
        has_ended: Whether the iterator was closed, and ``on_end`` called.
    """

    def __init__(
        self, session_id: str, iterator: Iterator[Any], on_item: OnItem, on_end: OnEnd
    ) -> None:
        self.session_id = session_id
        self.has_ended = False
        self._iterator = iterator
        self._on_item, self._on_end = on_item, on_end
        self._is_cancelled = False

    def cancel(self) -> None:
        """Stop the pass before its next frame; from any thread."""
        self._is_cancelled = True

    def stop(self) -> None:
        """Stop the pass at once; in the worker's thread, hence between two frames."""
        self._is_cancelled = True
        self.step()

    def step(self) -> bool:
        """Track a frame; return whether there may be more."""
        if self.has_ended:
            return False
        state: EndState = 'done'
        error: BaseException | None = None
        try:
            if not self._is_cancelled:
                self._on_item(next(self._iterator))
                return True
            state = 'cancelled'
        except StopIteration:
            pass
        except Exception as problem:  # noqa: BLE001  the session's user is told
            state, error = 'failed', problem
        self._end(state, error)
        return False

    def _end(self, state: EndState, error: BaseException | None) -> None:
        self.has_ended = True
        close = getattr(self._iterator, 'close', None)
        try:
            if close is not None:
                close()
        except Exception as problem:  # noqa: BLE001  such as a full disk
            state, error = 'failed', problem
        try:
            self._on_end(state, error)
        except Exception:  # the thread has to go on
            logger.exception('The end of a pass could not be told')


class ModelWorker:
    """Runs all calls of the model in one thread."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._passes: deque[PassHandle] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name='model', daemon=True)
        self._thread.start()

    async def call(
        self,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Run a function before the next frame of any pass, in the order of the calls.

        A caller that is cancelled does not stop its function.

        Raises:
            RuntimeError: If the worker is closed.
        """
        future = self.submit(function, *args, **kwargs)
        return await asyncio.shield(asyncio.wrap_future(future))

    def submit(
        self,
        function: Callable[Parameters, Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> 'Future[Result]':
        """Schedule a function as :meth:`call` does, from any thread."""
        future: Future[Result] = Future()
        with self._changed:
            if self._is_closed:
                msg = 'The server is shutting down; start it again'
                raise RuntimeError(msg)
            self._calls.append((future, lambda: function(*args, **kwargs)))
            self._changed.notify()
        return future

    def start_pass(
        self,
        session_id: str,
        iterator: Iterator[Any],
        on_item: OnItem,
        on_end: OnEnd,
    ) -> PassHandle:
        """Run an iterator, a step at a time.

        Args:
            session_id: Session of the pass.
            iterator: Tracks a frame with each step. If the pass is cancelled or fails,
                its ``close`` is called.
            on_item: Called in the worker's thread with each item.
            on_end: Called there at the end: ``'done'``, ``'cancelled'``, or
                ``'failed'`` with the error.

        Raises:
            RuntimeError: If the worker is closed.
        """
        handle = PassHandle(session_id, iterator, on_item, on_end)
        with self._changed:
            if self._is_closed:
                msg = 'The server is shutting down; start it again'
                raise RuntimeError(msg)
            self._passes.append(handle)
            self._changed.notify()
        return handle

    def close(self) -> None:
        """Cancel all passes, run the calls that wait, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._calls or self._passes or self._is_closed):
                    self._changed.wait()
                if not (self._calls or self._passes):
                    return
                is_closed = self._is_closed
                call = self._calls.popleft() if self._calls else None
                handle = None if call else self._passes.popleft()
            if call is not None:
                _run_call(*call)
            elif handle is not None:
                if is_closed:
                    handle.cancel()
                if handle.step():
                    with self._changed:
                        self._passes.append(handle)


def _run_call(future: 'Future[Any]', function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001  raised where the call is awaited
        future.set_exception(error)
    else:
        future.set_result(result)
