"""Tests of the model's thread: what overtakes what, and how passes end."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from projects.sam2.webdemo.server.worker import ModelWorker

WAIT = 10.0  # seconds; nothing here takes a tenth


class Recorder:
    """Notes in one list what happens in the model's thread.

    Attributes:
        events: Such as ``'a0'``, the first frame of the pass ``a``.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.errors: dict[str, BaseException | None] = {}
        self._ended: dict[str, threading.Event] = {}

    def steps(
        self,
        name: str,
        num_frames: int,
        at_frame: Callable[[int], object] = lambda frame: None,
    ) -> Iterator[str]:
        """A pass of some frames, which notes that it is closed."""
        try:
            for frame in range(num_frames):
                at_frame(frame)
                yield f'{name}{frame}'
        finally:
            self.events.append(f'{name} closed')

    def start(self, worker: ModelWorker, name: str, steps: Iterator[str]) -> Any:
        """Start a pass."""
        ended = self._ended[name] = threading.Event()

        def on_end(state: str, error: BaseException | None) -> None:
            self.events.append(f'{name} {state}')
            self.errors[name] = error
            ended.set()

        return worker.start_pass(name, steps, self.events.append, on_end)

    def wait(self, *names: str) -> None:
        """Wait for the end of passes."""
        for name in names:
            assert self._ended[name].wait(WAIT)


@pytest.fixture
def worker() -> Iterator[ModelWorker]:
    """A worker, closed after the test."""
    worker = ModelWorker()
    yield worker
    worker.close()


def hold(worker: ModelWorker) -> Callable[[], None]:
    """Keep the thread busy until the returned function is called."""
    event = threading.Event()
    worker.submit(event.wait, WAIT)
    return event.set


def test_clicks_run_before_the_next_frame_of_a_pass(worker: ModelWorker) -> None:
    recorder = Recorder()

    def click_twice(frame: int) -> None:
        if frame == 2:
            worker.submit(recorder.events.append, 'click 1')
            worker.submit(recorder.events.append, 'click 2')

    recorder.start(worker, 'a', recorder.steps('a', 5, click_twice))
    recorder.wait('a')
    assert recorder.events == [
        *('a0', 'a1', 'a2', 'click 1', 'click 2', 'a3', 'a4'),
        *('a closed', 'a done'),
    ]


def test_passes_of_several_sessions_take_turns(worker: ModelWorker) -> None:
    recorder = Recorder()
    release = hold(worker)
    for name in ('a', 'b', 'c'):
        recorder.start(worker, name, recorder.steps(name, 3))
    release()
    recorder.wait('a', 'b', 'c')
    frames = [event for event in recorder.events if ' ' not in event]
    assert frames == ['a0', 'b0', 'c0', 'a1', 'b1', 'c1', 'a2', 'b2', 'c2']


def test_a_cancelled_pass_tracks_no_frame_more(worker: ModelWorker) -> None:
    recorder = Recorder()
    cancel: Future[Callable[[], None]] = Future()
    steps = recorder.steps('a', 100, lambda frame: frame == 3 and cancel.result()())
    cancel.set_result(recorder.start(worker, 'a', steps).cancel)
    recorder.wait('a')
    assert recorder.events == ['a0', 'a1', 'a2', 'a3', 'a closed', 'a cancelled']


def test_a_pass_that_is_stopped_ends_before_what_follows(worker: ModelWorker) -> None:
    recorder = Recorder()
    release = hold(worker)
    handle = recorder.start(worker, 'a', recorder.steps('a', 100))
    worker.submit(handle.stop)
    worker.submit(recorder.events.append, 'undo')
    release()
    recorder.wait('a')
    worker.submit(handle.stop).result(WAIT)  # twice does nothing
    # The iterator had not begun, so nothing of it was to be closed.
    assert recorder.events == ['a cancelled', 'undo']


def test_a_failing_pass_ends_alone(worker: ModelWorker) -> None:
    recorder = Recorder()

    def fail(frame: int) -> None:
        if frame == 1:
            raise OSError(28, 'No space left on device')

    release = hold(worker)
    recorder.start(worker, 'a', recorder.steps('a', 9, fail))
    recorder.start(worker, 'b', recorder.steps('b', 3))
    release()
    recorder.wait('a', 'b')
    assert isinstance(recorder.errors['a'], OSError)
    assert recorder.events[-1] == 'b done'
    assert worker.submit(lambda: 7).result(WAIT) == 7


def test_calls_return_results_and_raise_errors_in_order(worker: ModelWorker) -> None:
    calls: list[int] = []

    async def call_all() -> list[object]:
        tasks = [worker.call(calls.append, number) for number in range(50)]
        results: list[object] = list(await asyncio.gather(*tasks))
        with pytest.raises(ZeroDivisionError):
            await worker.call(divmod, 1, 0)
        return results

    assert asyncio.run(call_all()) == [None] * 50
    assert calls == list(range(50))


def test_a_caller_that_leaves_does_not_stop_its_call(worker: ModelWorker) -> None:
    done = threading.Event()

    async def leave() -> None:
        release = hold(worker)
        task = asyncio.ensure_future(worker.call(done.set))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release()

    asyncio.run(leave())
    assert done.wait(WAIT)


def test_closing_cancels_passes_and_runs_the_calls_that_wait() -> None:
    worker, recorder = ModelWorker(), Recorder()
    release = hold(worker)
    recorder.start(worker, 'a', recorder.steps('a', 10**9))
    saved = worker.submit(recorder.events.append, 'saved')
    closing = threading.Thread(target=worker.close)
    closing.start()
    release()
    closing.join(WAIT)
    assert not closing.is_alive()
    assert saved.done()
    assert recorder.events[0] == 'saved'
    assert recorder.events[-1] == 'a cancelled'
    with pytest.raises(RuntimeError, match='shutting down'):
        worker.submit(print)
