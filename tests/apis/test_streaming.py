"""Frames that come one at a time give what a file of them gives."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from projects.sam2.apis import SAM2Stream, SAM2VideoPredictor
from toy_videos import (
    assert_same_results,
    click,
    toy_frames,
    toy_model,
    track,
)


@pytest.fixture(scope='module')
def predictor() -> SAM2VideoPredictor:
    """The small predictor."""
    return SAM2VideoPredictor(toy_model())


@pytest.mark.parametrize(('length', 'is_known'), [(20, False), (6, True)])
def test_stream_equals_the_video(
    *, predictor: SAM2VideoPredictor, length: int, is_known: bool
) -> None:
    frames = toy_frames(length)
    state = predictor.init_state(frames)
    click(predictor, state)
    expected = track(predictor, state)
    stream = SAM2Stream(predictor, num_frames=length if is_known else None)
    shown = {0: stream.track(frames[0])}
    assert shown[0].mask_logits.shape == (0, 1, *frames[0].shape[:2])
    shown[0] = click(predictor, stream.state)
    for index in range(1, length):
        shown[index] = stream.track(frames[index])
    assert_same_results(shown, expected)


def test_length_of_a_short_video_matters(predictor: SAM2VideoPredictor) -> None:
    shown = []
    for length in (3, None):
        stream = SAM2Stream(predictor, num_frames=length)
        frames = toy_frames(3)
        stream.track(frames[0])
        click(predictor, stream.state)
        shown.append([stream.track(frame).mask_logits for frame in frames[1:]])
    assert not torch.equal(shown[0][-1], shown[1][-1])


def test_prompt_counts_from_the_next_frame_on(predictor: SAM2VideoPredictor) -> None:
    stream, frames = SAM2Stream(predictor), toy_frames(6)
    stream.track(frames[0])
    click(predictor, stream.state, number=1)
    for frame in frames[1:4]:
        stream.track(frame)
    click(predictor, stream.state, frame=stream.frame_index, number=2, at=(40.0, 30.0))
    assert stream.track(frames[4]).object_ids == [1, 2]
    predictor.remove_object(stream.state, 1)
    assert stream.track(frames[5]).object_ids == [2]


def test_stream_keeps_no_more_than_it_can_reach(
    predictor: SAM2VideoPredictor,
) -> None:
    stream = SAM2Stream(predictor)
    for index, frame in enumerate(toy_frames(40)):
        stream.track(frame)
        if index == 0:
            click(predictor, stream.state)
    one = stream.state.objects[1]
    # 15 frames before the oldest of the 8 that can be prompted.
    assert len(one.store.tracked) <= 24
    assert stream.state.offload_file is None
    assert len(one.tracked_in_reverse) <= 8


def test_frame_that_has_passed_cannot_be_prompted(
    predictor: SAM2VideoPredictor,
) -> None:
    stream, frames = SAM2Stream(predictor), toy_frames(3)
    with pytest.raises(
        ValueError, match='came yet; call track with the first one, then'
    ):
        click(predictor, stream.state, frame=stream.frame_index)
    for frame in frames:
        stream.track(frame)
    with pytest.raises(ValueError, match='Frame 1 has passed; prompt the latest'):
        click(predictor, stream.state, frame=1)
    assert click(predictor, stream.state, frame=2).object_ids == [1]


@pytest.mark.parametrize(
    ('bad', 'message'),
    [
        (np.zeros((48, 80), np.uint8), r'Frame 1 has shape \(48, 80\)'),
        (np.zeros((48, 80, 3), np.uint16), 'Frame 1 holds uint16'),
        (np.zeros((40, 80, 3), np.uint8), r'Frame 1 is \(40, 80\), but the first'),
    ],
)
def test_bad_frame_leaves_the_stream_as_it_was(
    predictor: SAM2VideoPredictor, bad: NDArray[np.uint8], message: str
) -> None:
    stream, frames = SAM2Stream(predictor), toy_frames(3)
    stream.track(frames[0])
    click(predictor, stream.state)
    with pytest.raises(ValueError, match=message):
        stream.track(bad)
    assert stream.frame_index == 0
    assert stream.track(frames[1]).frame_index == 1


def test_object_without_a_prompt_stops_no_frame_half_way(
    predictor: SAM2VideoPredictor,
) -> None:
    stream, frames = SAM2Stream(predictor), toy_frames(2)
    stream.track(frames[0])
    click(predictor, stream.state)
    predictor.clear_all_prompts_in_frame(stream.state, 0, 1)
    with pytest.raises(ValueError, match='Object 1 has no prompt left'):
        stream.track(frames[1])
    assert stream.frame_index == 0
    predictor.remove_object(stream.state, 1)
    assert stream.track(frames[1]).object_ids == []


@pytest.mark.parametrize('length', [0, '3', 2.5])
def test_wrong_length_of_a_stream_is_named(length: object) -> None:
    with pytest.raises(ValueError, match=r'num_frames is .*; give a '):
        SAM2Stream(SAM2VideoPredictor(toy_model()), num_frames=length)  # type: ignore[arg-type]


def test_prompts_on_more_frames_than_are_cached_are_encoded() -> None:
    predictor = SAM2VideoPredictor(toy_model(), num_cached_embeddings=1)
    stream, frames = SAM2Stream(predictor), toy_frames(4)
    stream.track(frames[0])
    click(predictor, stream.state, number=1)
    predictor.remove_object(stream.state, 1)
    stream.track(frames[1])
    # Frame 0 is cached as long as no other frame is encoded.
    click(predictor, stream.state, number=2)
    click(predictor, stream.state, frame=1, number=3)
    assert stream.track(frames[2]).object_ids == [2, 3]
