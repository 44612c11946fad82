"""Validation: prompts where objects appear, and users who add prompts by rounds."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden_models import golden_model
from inference_cases import present_model
from literal_rounds import OneUser, image_ious
from memory_videos import MemoryVideo
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.evaluation import ClipPromptIoUAccumulator
from projects.sam2.models import (
    SAM2,
    SAM2ImageRounds,
    SAM2OfflineRounds,
    SAM2OnlineRounds,
)
from projects.sam2.models.memory_bank import MemoryStore
from projects.sam2.models.prompt_simulator import PromptKind
from projects.sam2.models.tracking.rounds import (
    GroundTruth,
    SAM2PromptRounds,
    track_video,
)
from projects.sam2.structures import (
    FrameMasks,
    FramePrediction,
    PointLabel,
    VideoRecord,
    VideoResult,
)
from toy_videos import SIDE, SIZE, toy_model

CLICKS = {
    'type': 'SAM2PromptSimulator',
    'point_probability': 1.0,
    'box_probability': 0.0,
    'num_corrections': 3,
}
ENLARGE = 'projects.sam2.models.tracking.rounds.enlarge'
MIN_IOU = 0.3  # few masks of random weights are any better
ROUND_NAMES = ('1_frame', '2_frames', '3_frames')
Rounds = dict[tuple[str, int, int], NDArray[np.bool_]]


# --------------------------------------------------------------- prompts at the start
@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model at 64 px, prompted with masks."""
    return golden_model(
        'video:',
        data_preprocessor={'image_size': (64, 64)},
        val_prompt_simulator={'type': 'SAM2PromptSimulator', 'point_probability': 0.0},
    )


def _track(model: SAM2, video: MemoryVideo) -> list[FramePrediction]:
    with torch.no_grad():
        return list(track_video(model, model.val_prompt_simulator, video))


def _logits(prediction: FramePrediction) -> torch.Tensor:
    return torch.cat([output.final.mask_logits for output in prediction.outputs])


def _prompted(predictions: list[FramePrediction]) -> dict[int, tuple[int, ...]]:
    return {p.frame_index: p.prompted_ids for p in predictions if p.prompted_ids}


class _OneObject(MemoryVideo):
    """The same video with the ground truth of one object alone."""

    only = 1

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth of the one object."""
        truth = super().read_masks(frame_index)
        return None if truth is None else truth.select([self.only])


@pytest.mark.parametrize('first_frames', [(0, 0), (0, 3), (2, 0)])
def test_objects_tracked_together_equal_objects_tracked_alone(
    model: SAM2, first_frames: tuple[int, int]
) -> None:
    together = {
        (p.frame_index, object_id): logits
        for p in _track(model, MemoryVideo(first_frames=first_frames))
        for object_id, logits in zip(p.object_ids, _logits(p), strict=True)
    }
    for object_id in (1, 2):
        video = _OneObject(first_frames=first_frames)
        video.only = object_id
        for prediction in _track(model, video):
            alone = _logits(prediction)[0]
            both = together.pop((prediction.frame_index, object_id))
            error = (both - alone).abs().max() / alone.square().mean().sqrt()
            assert error <= 1e-4
    assert not together


def test_object_is_prompted_on_the_frame_where_it_appears(model: SAM2) -> None:
    predictions = _track(model, MemoryVideo(first_frames=(0, 3)))
    assert [p.object_ids for p in predictions] == [(1,)] * 3 + [(1, 2)] * 3
    assert _prompted(predictions) == {0: (1,), 3: (2,)}
    assert all(p.masks.shape == (len(p.object_ids), 48, 80) for p in predictions)


def test_frames_before_the_first_object_are_skipped(model: SAM2) -> None:
    predictions = _track(model, MemoryVideo(first_frames=(2,)))
    assert [p.frame_index for p in predictions] == [2, 3, 4, 5]


def test_sparse_truth_prompts_on_annotated_frames_alone(model: SAM2) -> None:
    predictions = _track(model, MemoryVideo(first_frames=(0, 2), annotated=(1, 4)))
    assert _prompted(predictions) == {1: (1,), 4: (2,)}
    has_truth = {p.frame_index: p.truth is not None for p in predictions}
    assert has_truth == {1: True, 2: False, 3: False, 4: True, 5: False}


def test_prompted_frame_shows_the_prompt(model: SAM2) -> None:
    video = MemoryVideo(first_frames=(0,), size=(64, 64))
    first = _track(model, video)[0]
    truth = video.masks(0)
    assert (first.masks & truth).sum() / (first.masks | truth).sum() > 0.8


def test_masks_are_those_of_the_logits_at_the_size_of_the_file(model: SAM2) -> None:
    prediction = _track(model, MemoryVideo(first_frames=(0,)))[-1]
    enlarged = torch.nn.functional.interpolate(
        _logits(prediction), size=(48, 80), mode='bilinear', align_corners=False
    )
    assert np.array_equal(prediction.masks, enlarged[:, 0].numpy() > 0)


def test_no_pixel_belongs_to_two_objects(model: SAM2) -> None:
    for prediction in _track(model, MemoryVideo(first_frames=(0, 0, 0))):
        assert prediction.masks.sum(axis=0).max() <= 1


def test_each_frame_is_decoded_once_and_off_the_main_thread(model: SAM2) -> None:
    video = MemoryVideo(length=5)
    _track(model, video)
    assert video.reads == [0, 1, 2, 3, 4]
    assert threading.get_ident() not in video.threads


def test_memories_do_not_grow_with_the_video(
    model: SAM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    add = MemoryStore.add

    def counted(store: MemoryStore, *args: object, **options: bool) -> None:
        add(store, *args, **options)  # type: ignore[arg-type]  # handed through
        sizes.append(len(store.tracked) + len(store.conditioning))

    monkeypatch.setattr(MemoryStore, 'add', counted)
    _track(model, MemoryVideo(first_frames=(0,), length=40, size=(32, 32)))
    assert max(sizes[20:]) == max(sizes)
    assert sizes[-1] <= 1 + 17


def test_prompt_by_clicks_is_corrected_on_its_frame() -> None:
    clicked = golden_model(
        'video:',
        data_preprocessor={'image_size': (64, 64)},
        val_prompt_simulator=CLICKS | {'click_method': 'center'},
    )
    predictions = _track(clicked, MemoryVideo(first_frames=(0, 2), length=4))
    steps = [[len(o.steps) for o in p.outputs] for p in predictions]
    assert steps == [[4], [1], [1, 4], [1, 1]]


class _Growing(MemoryVideo):
    """The first object covers a single pixel at first, and is large from frame 2."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth of an object that grows."""
        truth = super().read_masks(frame_index)
        if truth is None or frame_index >= 2:
            return truth
        dot = np.zeros_like(truth.masks)
        dot[0, 20, 40] = True
        return replace(truth, masks=dot)


def test_object_too_small_to_be_seen_is_prompted_once_it_is_larger(model: SAM2) -> None:
    predictions = _track(model, _Growing(first_frames=(0,), size=(400, 600)))
    assert _prompted(predictions) == {2: (1,)}


class _AllVoid(MemoryVideo):
    """The same video, every pixel outside the objects to be ignored."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth with void pixels."""
        truth = super().read_masks(frame_index)
        if truth is None:
            return None
        return replace(truth, void=np.logical_not(truth.masks.any(axis=0)))


def test_correction_clicks_ignore_void_pixels() -> None:
    clicked = golden_model(
        'v3:',
        data_preprocessor={'image_size': (64, 64)},
        val_prompt_simulator=CLICKS,
    )

    def labels(video: MemoryVideo) -> list[int]:
        points = _track(clicked, video)[0].outputs[0].final.points
        assert points is not None
        return points.labels.flatten().tolist()

    assert 0 in labels(MemoryVideo(first_frames=(0,), length=1))
    assert 0 not in labels(_AllVoid(first_frames=(0,), length=1))


# ------------------------------------------------------------------ clicks by rounds
@pytest.fixture(scope='module')
def present() -> SAM2:
    """A model that shows all objects, and soon evicts the memories of a pass."""
    return present_model(tracker__memory_bank={'num_frames': 2, 'max_pointers': 2})


def _run(
    simulator: SAM2PromptRounds, model: SAM2, video: MemoryVideo
) -> list[FramePrediction]:
    with torch.no_grad():
        return list(simulator.run(model, video))


def _user(model: SAM2, video: MemoryVideo, number: int) -> OneUser:
    """A user of one object who works with the video predictor."""
    predictor = SAM2VideoPredictor(
        model, add_all_frames_to_correct_as_cond=True, memory_dtype=torch.float32
    )
    return OneUser(predictor, video, number, clicks=3)


def _assert_masks(predictions: list[FramePrediction], expected: Rounds) -> None:
    """The same rounds, objects and frames, with the same masks."""
    actual = {
        (p.prompt_round.name, object_id, p.frame_index): mask
        for p in predictions
        for object_id, mask in zip(p.object_ids, p.masks, strict=True)
    }
    assert actual.keys() == expected.keys()
    areas = [mask.mean() for mask in expected.values()]
    assert len(set(areas)) > len(areas) // 2, 'the masks are all alike'
    for key, mask in expected.items():
        assert np.array_equal(actual[key], mask), key


def test_offline_rounds_equal_a_user_of_the_video_predictor(present: SAM2) -> None:
    # Long enough that memories of the worst frame are evicted when the pass ends.
    video = MemoryVideo(first_frames=(0, 1), length=12)
    simulator = SAM2OfflineRounds(num_frames=3, num_clicks=3)
    predictions = _run(simulator, present, video)
    expected = {
        (name, number, frame): mask
        for number in (1, 2)
        for name, masks in zip(
            ROUND_NAMES, _user(present, video, number).offline(3), strict=True
        )
        for frame, mask in masks.items()
    }
    _assert_masks(predictions, expected)


def test_online_rounds_equal_separate_users_of_the_video_predictor(
    present: SAM2,
) -> None:
    video = MemoryVideo(first_frames=(0, 2), length=7)
    simulator = SAM2OnlineRounds(num_frames=3, num_clicks=3, min_iou=MIN_IOU)
    predictions = _run(simulator, present, video)
    expected = {
        (name, number, frame): mask
        for number in (1, 2)
        for budget, name in enumerate(ROUND_NAMES, start=1)
        for frame, mask in _user(present, video, number).online(budget, MIN_IOU).items()
    }
    _assert_masks(predictions, expected)
    final = [p for p in predictions if p.prompt_round.is_final]
    assert any(p.prompted_ids and p.frame_index > 2 for p in final), 'no correction'


def test_clicks_of_rounds_are_in_pixels_of_the_file(present: SAM2) -> None:
    video = MemoryVideo(first_frames=(0, 0), length=1, size=SIZE)
    (shown,) = _run(SAM2OfflineRounds(num_frames=1, num_clicks=2), present, video)
    assert shown.prompted_ids == (1, 2)
    assert len(shown.marks) == 4
    for object_id, mask in zip((1, 2), video.masks(0), strict=True):
        first = next(m for m in shown.marks if m.object_id == object_id)
        assert mask[round(first.y), round(first.x)]


def test_object_that_the_truth_lacks_is_corrected_as_absent(present: SAM2) -> None:
    class Vanishing(MemoryVideo):
        def read_masks(self, frame_index: int) -> FrameMasks | None:
            truth = super().read_masks(frame_index)
            if truth is None:
                return None
            return truth.select([2] if frame_index else [1, 2])

    video = Vanishing(first_frames=(0, 0), length=2, size=SIZE)
    simulator = SAM2OnlineRounds(num_frames=2, num_clicks=1, min_iou=0.01)
    last = _run(simulator, present, video)[-1]
    assert last.prompted_ids[0] == 1
    assert last.marks[0].label is PointLabel.NEGATIVE


# --------------------------------------------------------------------------- images
class _Image(MemoryVideo):
    """Squares in an image of the size that the model sees; one object has no pixel."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth, an empty mask among it."""
        truth = super().read_masks(frame_index)
        if truth is None:
            return None
        empty = np.zeros((1, *self.size), dtype=bool)
        masks = np.concatenate([truth.masks, empty])
        return replace(truth, object_ids=(*truth.object_ids, 9), masks=masks)


IMAGE = _Image(first_frames=(0, 0), length=1, size=(SIDE, SIDE))


@pytest.fixture(scope='module')
def image_model() -> SAM2:
    """The small model, validated with boxes and clicks."""
    simulator = {'type': 'SAM2ImageRounds', 'click_counts': (1, 3, 5)}
    return toy_model(
        data_preprocessor={'image_size': (SIDE, SIDE)}, val_prompt_simulator=simulator
    )


def _ious(model: SAM2, video: MemoryVideo) -> dict[str, tuple[float, ...]]:
    """IoUs of each round, as the validation of the model finds them."""
    model.accumulators = [ClipPromptIoUAccumulator()]
    record = VideoRecord(metainfo={'source': video, 'sample_index': 0})
    (result,) = model([record], mode='predict')
    assert isinstance(result, VideoResult)
    rounds: dict[str, tuple[float, ...]] = result.rounds
    return rounds


def test_ious_equal_those_of_a_user_of_the_image_predictor(image_model: SAM2) -> None:
    user = [
        image_ious(image_model, IMAGE.read_frame(0), truth, num_clicks=5)
        for truth in IMAGE.masks(0)
    ]
    expected = {
        'box': [ious[0] for ious in user],
        '1_click': [ious[1] for ious in user],
        '3_clicks': [ious[3] for ious in user],
        '5_clicks': [ious[5] for ious in user],
    }
    assert len({tuple(ious) for ious in expected.values()}) == 4
    actual = _ious(image_model, IMAGE)
    assert list(actual) == list(expected)
    for name, ious in expected.items():
        assert actual[name] == pytest.approx(ious, abs=1e-9)


def test_objects_in_several_batches_equal_those_of_one(
    image_model: SAM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = _ious(image_model, IMAGE)
    monkeypatch.setattr('projects.sam2.models.tracking.rounds.IMAGE_BATCH_OBJECTS', 1)
    apart = _ious(image_model, IMAGE)
    for name, ious in together.items():
        assert apart[name] == pytest.approx(ious, abs=0.02)


def test_annotated_frames_of_a_video_count_as_images(image_model: SAM2) -> None:
    video = MemoryVideo(first_frames=(0, 2), length=4, annotated=(1, 3))
    assert [len(ious) for ious in _ious(image_model, video).values()] == [3] * 4
    nothing = MemoryVideo(first_frames=(3,), length=1)
    assert not _ious(image_model, nothing)


def test_mask_without_error_is_not_clicked_on(
    image_model: SAM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever is decoded, the mask that is shown is the truth of the first object.
    truth = torch.from_numpy(IMAGE.masks(0)[:1, None])
    monkeypatch.setattr(
        ENLARGE, lambda logits, size: truth.expand(len(logits), -1, *size)
    )
    *_, last = _run(image_model.val_prompt_simulator, image_model, IMAGE)
    num_clicks = [sum(m.object_id == number for m in last.marks) for number in (1, 2)]
    assert num_clicks == [1, 5]
    assert last.marks[0].label is PointLabel.POSITIVE


# -------------------------------------------------------------------------- arguments
def test_void_pixels_are_neither_clicked_on_nor_scored() -> None:
    mask = np.zeros((1, 6, 9), dtype=bool)
    mask[0, :, :6] = True
    void = np.zeros((6, 9), dtype=bool)
    void[:, :3] = True
    truth = GroundTruth.of(
        FrameMasks(object_ids=(1,), masks=mask, void=void), torch.device('cpu')
    )
    assert truth.ious(torch.zeros(1, 1, 6, 9, dtype=torch.bool)).item() == 0
    half = torch.from_numpy(mask)[:, None].clone()
    half[..., :3] = False
    assert truth.ious(half).item() == 1
    click = truth.click(None)
    assert click.coords[0, 0, 0] >= 3
    assert click.labels.item() == PointLabel.POSITIVE


def test_clips_are_prompted_by_clicks_in_the_centre() -> None:
    for user in (
        SAM2ImageRounds(click_counts=(2, 4)),
        SAM2OfflineRounds(num_frames=2, num_clicks=4),
        SAM2OnlineRounds(num_frames=2, num_clicks=4, min_iou=0.5),
    ):
        plan = user.plan(5, step=3)
        assert plan.prompts == {0: PromptKind.POINT}
        assert plan.correction_frames == {0}
        assert (user.num_corrections, user.click_method) == (3, 'center')


def test_numbers_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match='num_clicks is 0'):
        SAM2OfflineRounds(num_frames=1, num_clicks=0)
    with pytest.raises(ValueError, match='num_frames is 0'):
        SAM2OfflineRounds(num_frames=0, num_clicks=1)
    with pytest.raises(ValueError, match='min_iou is 75'):
        SAM2OnlineRounds(num_frames=1, num_clicks=1, min_iou=75)
    for counts in ((), (3, 1), (0, 1), (1, 1)):
        with pytest.raises(ValueError, match='click_counts'):
            SAM2ImageRounds(click_counts=counts)
