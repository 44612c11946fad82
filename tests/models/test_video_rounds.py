"""Users who annotate a video offline and online, against the video predictor."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inference_cases import present_model
from literal_rounds import OneUser
from memory_videos import MemoryVideo
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.models import SAM2, SAM2OfflineRounds, SAM2OnlineRounds
from projects.sam2.models.tracking.interactive import PromptedModel, SAM2PromptRounds
from projects.sam2.structures import FramePrediction

MIN_IOU = 0.3  # few masks of random weights are any better
Rounds = dict[tuple[str, int, int], NDArray[np.bool_]]


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model, whose masks are shown; a pass soon leaves memories behind."""
    return present_model(tracker__memory_bank={'num_frames': 2, 'max_pointers': 2})


@pytest.fixture(scope='module')
def video() -> MemoryVideo:
    """Two objects, the second of which comes later."""
    return MemoryVideo(first_frames=(0, 2), length=7)


def run(
    simulator: SAM2PromptRounds, model: SAM2, video: MemoryVideo
) -> list[FramePrediction]:
    """All predictions of all rounds."""
    user = PromptedModel(
        heads=model.heads, preprocessor=model.data_preprocessor, encode=model.encode
    )
    with torch.no_grad():
        return list(simulator.run(user, video))


def masks_of(predictions: list[FramePrediction]) -> Rounds:
    """Masks by round, object and frame."""
    return {
        (one.prompt_round.name, object_id, one.frame_index): mask
        for one in predictions
        for object_id, mask in zip(one.object_ids, one.masks, strict=True)
    }


def user(model: SAM2, video: MemoryVideo, number: int) -> OneUser:
    """A plain user of one object."""
    predictor = SAM2VideoPredictor(
        model, add_all_frames_to_correct_as_cond=True, memory_dtype=torch.float32
    )
    return OneUser(predictor, video, number, clicks=3)


def assert_equal(found: Rounds, expected: Rounds) -> None:
    """The same rounds, objects and frames, with the same masks."""
    assert found.keys() == expected.keys()
    shown = [mask.mean() for mask in expected.values()]
    assert len(set(shown)) > len(shown) // 2, 'the masks say nothing'
    for key, mask in expected.items():
        assert np.array_equal(found[key], mask), key


def test_offline_rounds_are_those_of_a_plain_user(model: SAM2) -> None:
    # Long enough for a worst frame whose memories are gone when the pass has ended.
    video = MemoryVideo(first_frames=(0, 1), length=12)
    simulator = SAM2OfflineRounds(num_frames=3, num_clicks=3)
    predictions = run(simulator, model, video)
    expected = {
        (name, number, frame): mask
        for number in (1, 2)
        for name, masks in zip(
            ('1_frame', '2_frames', '3_frames'),
            user(model, video, number).offline(3),
            strict=True,
        )
        for frame, mask in masks.items()
    }
    assert_equal(masks_of(predictions), expected)


def test_online_rounds_are_those_of_separate_plain_users(
    model: SAM2, video: MemoryVideo
) -> None:
    simulator = SAM2OnlineRounds(num_frames=3, num_clicks=3, min_iou=MIN_IOU)
    predictions = run(simulator, model, video)
    expected = {
        (name, number, frame): mask
        for number in (1, 2)
        for budget, name in enumerate(('1_frame', '2_frames', '3_frames'), start=1)
        for frame, mask in user(model, video, number).online(budget, MIN_IOU).items()
    }
    assert_equal(masks_of(predictions), expected)
    corrected = [
        one
        for one in predictions
        if one.prompt_round.is_final and one.prompted_ids and one.frame_index > 2
    ]
    assert corrected, 'nothing was bad enough'
