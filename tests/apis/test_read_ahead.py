"""The next frame is there when it is asked for, and no other in its place."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.apis.frame_readers import ArrayReader, ReadAheadReader, open_frames
from projects.sam2.visualization.video_file import write_video

SIZE = (32, 48)


def _frame(index: int) -> NDArray[np.uint8]:
    """A flat shade that tells the frame's number."""
    return np.full((*SIZE, 3), 8 * index, np.uint8)


def _number(frame: NDArray[np.uint8]) -> int:
    return round(float(frame.mean()) / 8)


@pytest.mark.parametrize('order', [range(6), range(5, -1, -1), [0, 4, 2, 3, 4, 4, 0]])
def test_frames_read_ahead_are_those_asked_for(
    order: range | list[int], tmp_path: Path
) -> None:
    write_video(tmp_path / 'v.mp4', map(_frame, range(6)))
    frames = ReadAheadReader(open_frames(tmp_path / 'v.mp4'))
    assert (frames.num_frames, frames.size) == (6, SIZE)
    assert [_number(frames.read(index)) for index in order] == list(order)


def test_next_frame_is_decoded_meanwhile() -> None:
    decoded: list[int] = []
    done = threading.Event()

    class Noting(ArrayReader):
        def read(self, frame_index: int) -> NDArray[np.uint8]:
            decoded.append(frame_index)
            if frame_index == 3:
                done.set()
            return super().read(frame_index)

    frames = ReadAheadReader(Noting([_frame(index) for index in range(5)]))
    frames.read(2)
    assert done.wait(timeout=10)
    assert decoded == [2, 3]
    assert _number(frames.read(3)) == 3


def test_video_that_is_not_worked_on_holds_no_thread() -> None:
    before = set(threading.enumerate())
    readers = [ReadAheadReader(ArrayReader([_frame(0)] * 3)) for _ in range(20)]
    for reader in readers:
        reader.read(0)
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert set(threading.enumerate()) <= before
    assert all(_number(reader.read(1)) == 0 for reader in readers)


def test_frames_are_decoded_one_at_a_time() -> None:
    busy = threading.Lock()

    class Jealous(ArrayReader):
        def read(self, frame_index: int) -> NDArray[np.uint8]:
            assert busy.acquire(blocking=False)
            time.sleep(0.002)
            busy.release()
            return super().read(frame_index)

    frames = ReadAheadReader(Jealous([_frame(index) for index in range(9)]))
    order = [0, 5, 1, 8, 7, 2, 2, 4]  # other frames than those decoded ahead
    assert [_number(frames.read(index)) for index in order] == order


def test_bad_frame_ahead_is_an_error_when_it_is_asked_for() -> None:
    pictures = [_frame(0), _frame(1)[:, :, 0], _frame(2)]
    frames = ReadAheadReader(open_frames(pictures))
    frames.read(0)
    for _ in range(2):
        with pytest.raises(ValueError, match='Frame 1 has shape'):
            frames.read(1)
    pictures[1] = _frame(1)
    assert _number(frames.read(1)) == 1
