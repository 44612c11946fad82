"""Prompts reach the predictors, and their masks come back as they gave them."""

import numpy as np
import pytest
import torch

from inference_cases import lenient, nested_masks, present_model
from projects.sam2.apis import ObjectPrompt
from projects.sam2.apis.frame_readers import ArrayReader
from projects.sam2.apis.inference_io import InferredFrame, StreamInput, VideoInput
from projects.sam2.apis.inferencer import PromptedInference
from toy_videos import refuse_archives, toy_frames

LENGTH = 17  # as long as a stream has to be, to equal a video
FRAMES = toy_frames(LENGTH)
BOX = (4.0, 4.0, 20.0, 18.0)


@pytest.fixture(scope='module')
def predictors() -> PromptedInference:
    """Of the small model."""
    made = PromptedInference(present_model())
    lenient(made)
    return made


def video(length: int = LENGTH) -> VideoInput:
    return VideoInput(
        name='v', frames=ArrayReader(FRAMES[:length]), frames_per_second=12
    )


def stream(length: int = LENGTH) -> StreamInput:
    return StreamInput(name='s', frames=iter(FRAMES[:length]), frames_per_second=12)


def shown(frames: list[InferredFrame]) -> list[tuple[int, tuple[int, ...], float]]:
    """Frames, ids, and how much of a frame is covered."""
    return [(f.frame_index, f.object_ids, float(f.masks.mean())) for f in frames]


def test_objects_of_an_image_are_those_of_the_image_predictor(
    predictors: PromptedInference,
) -> None:
    mask = nested_masks()[1]
    found = predictors.image(
        FRAMES[0],
        [
            ObjectPrompt(object_id=5, box=BOX, points=[(9, 9)]),
            ObjectPrompt(object_id=2, points=[(12, 9)]),
            ObjectPrompt(object_id=9, mask=mask),
        ],
    )
    predictors.images.set_image(FRAMES[0])
    predict = predictors.images.predict
    both, _, _ = predict([[9, 9]], [1], box=BOX, multimask_output=False)
    three, ious, _ = predict([[12, 9]], [1])
    soft = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(),
        size=(8, 8),
        mode='bilinear',
        antialias=True,
    )
    given, _, _ = predict(mask_input=20 * soft[0] - 10, multimask_output=False)
    assert found.object_ids == (5, 2, 9)
    expected = np.stack([both[0], three[ious.argmax()], given[0]])
    assert np.array_equal(found.masks, expected)
    assert found.ious[1] == pytest.approx(float(ious.max()))
    assert len(found.marks) == 2 + 1 + 1


def test_image_without_a_prompt_is_segmented_as_a_whole(
    predictors: PromptedInference,
) -> None:
    found = predictors.image(FRAMES[0], ())
    expected = predictors.everything.generate(FRAMES[0])
    assert found.object_ids == tuple(range(1, len(expected) + 1))
    assert len(expected) > 1
    for mask, one in zip(found.masks, expected, strict=True):
        assert np.array_equal(mask, np.asarray(one['segmentation']))


def test_video_is_tracked_by_the_video_predictor(
    predictors: PromptedInference,
) -> None:
    prompts = [
        ObjectPrompt(object_id=3, frame_index=1, box=BOX),
        ObjectPrompt(object_id=8, frame_index=2, mask=nested_masks()[0]),
        ObjectPrompt(object_id=3, frame_index=4, points=[(9, 9)], labels=[0]),
    ]
    found = list(predictors.video(video(6), prompts))
    state = predictors.videos.init_state(FRAMES[:6])
    predictors.videos.add_new_points_or_box(state, 1, 3, box=BOX)
    predictors.videos.add_new_mask(state, 2, 8, nested_masks()[0])
    predictors.videos.add_new_points_or_box(state, 4, 3, [[9, 9]], [0])
    expected = list(predictors.videos.propagate_in_video(state))
    assert [frame.frame_index for frame in found] == [1, 2, 3, 4, 5]
    for frame, result in zip(found, expected, strict=True):
        assert frame.object_ids == (3, 8)
        assert np.array_equal(frame.masks, (result.mask_logits[:, 0] > 0).numpy())
        assert np.array_equal(frame.pixels, FRAMES[frame.frame_index])
    assert [len(frame.marks) for frame in found] == [2, 0, 0, 1, 0]


def test_what_is_passed_leaves_nothing_on_disk(
    predictors: PromptedInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_archives(monkeypatch)
    prompts = [ObjectPrompt(object_id=3, box=BOX)]
    longer = VideoInput(
        name='longer', frames=ArrayReader(toy_frames(20)), frames_per_second=5.0
    )
    assert len(list(predictors.video(longer, prompts))) == 20


def test_stream_shows_what_the_video_shows(predictors: PromptedInference) -> None:
    prompts = [ObjectPrompt(object_id=3, box=BOX)]
    live = list(predictors.stream(stream(), prompts))
    assert shown(live) == shown(list(predictors.video(video(), prompts)))
    assert len({frame.masks.mean() for frame in live}) > LENGTH // 2


def test_stream_shows_nothing_before_its_first_prompt(
    predictors: PromptedInference,
) -> None:
    prompts = [ObjectPrompt(object_id=3, frame_index=2, box=BOX)]
    live = list(predictors.stream(stream(4), prompts))
    assert [frame.object_ids for frame in live] == [(), (), (3,), (3,)]


def test_everything_on_the_first_frame_is_tracked(
    predictors: PromptedInference,
) -> None:
    number = len(predictors.everything.generate(FRAMES[0]))
    for frames in (predictors.video(video(2), ()), predictors.stream(stream(2), ())):
        ids = [frame.object_ids for frame in frames]
        assert ids == [tuple(range(1, number + 1))] * 2


def test_prompts_that_an_image_cannot_have_are_refused(
    predictors: PromptedInference,
) -> None:
    later = ObjectPrompt(frame_index=2, box=BOX)
    twice = [ObjectPrompt(box=BOX), ObjectPrompt(points=[(1, 1)])]
    outside = ObjectPrompt(points=[(500, 1)])
    for prompts, message in (
        ([later], 'no frame 2'),
        (twice, 'Object 1 has two prompts'),
        ([outside], 'outside'),
        ([ObjectPrompt(mask=np.ones((3, 3), bool))], 'mask has shape'),
    ):
        with pytest.raises(ValueError, match=message):
            predictors.image(FRAMES[0], prompts)
