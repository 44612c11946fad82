"""Frames are kept, drawn and written as they come."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inference_cases import frame_of, nested_masks
from projects.sam2.apis.frame_readers import ArrayReader
from projects.sam2.apis.inference_io import (
    InferredFrame,
    Output,
    StreamInput,
    VideoInput,
)
from projects.sam2.visualization.drawing import Picture

STREAM = StreamInput(name='s', frames=iter(()), frames_per_second=12)
VIDEO = VideoInput(
    name='v',
    frames=ArrayReader(np.zeros((1, 48, 80, 3), np.uint8)),
    frames_per_second=12,
)


def draw(frame: InferredFrame, name: str) -> Picture:
    del name
    return frame.pixels


def frames(*, interrupted: bool = False) -> Iterator[InferredFrame]:
    for index in range(2):
        yield frame_of(nested_masks(), (1, 2), index=index)
    if interrupted:
        raise KeyboardInterrupt


def output(folder: Path | None, *, keep: bool = False) -> Output:
    return Output(folder=folder, formats=('json',), draw=draw, keep_pictures=keep)


def test_pictures_are_kept_only_where_they_are_asked_for() -> None:
    for keep in (False, True):
        result, pictures = output(None, keep=keep).take(frames(), VIDEO, 'v')
        assert len(result.frames) == 2
        assert result.size == (48, 80)
        assert len(pictures) == (2 if keep else 0)


def test_interrupted_stream_keeps_what_came(tmp_path: Path) -> None:
    stopped = frames(interrupted=True)
    result, _ = output(tmp_path).take(stopped, STREAM, 's')
    assert [frame.frame_index for frame in result.frames] == [0, 1]
    assert (tmp_path / 'vis' / 's.mp4').is_file()
    assert (tmp_path / 'pred' / 's.json').is_file()


def test_interrupted_video_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        output(tmp_path).take(frames(interrupted=True), VIDEO, 'v')
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]
