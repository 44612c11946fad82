"""Whole videos: grouping of objects, reading, and equality with one-object loops."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from golden_models import golden_model
from memory_videos import MemoryVideo
from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import MemoryStore
from projects.sam2.models.tracking.video import VideoTracker
from projects.sam2.structures import FrameMasks, FramePrediction


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model at 64 px, prompted with masks."""
    return golden_model(
        'video:',
        data_preprocessor={'image_size': (64, 64)},
        val_prompt_simulator={'type': 'SAM2PromptSimulator', 'point_probability': 0.0},
    )


def _track(model: SAM2, video: MemoryVideo) -> list[FramePrediction]:
    tracker = VideoTracker(
        heads=model.heads,
        simulator=model.val_prompt_simulator,
        preprocessor=model.data_preprocessor,
        encode=model.encode,
    )
    with torch.no_grad():
        return list(tracker.track(video))


def _logits(prediction: FramePrediction) -> torch.Tensor:
    return torch.cat([output.final.mask_logits for output in prediction.outputs])


class _OneObject(MemoryVideo):
    """The same video with the ground truth of one object alone."""

    only = 1

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth of the one object."""
        truth = super().read_masks(frame_index)
        if truth is None:
            return None
        position = truth.object_ids.index(self.only)
        return replace(
            truth,
            object_ids=(self.only,),
            masks=truth.masks[position : position + 1],
        )


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
    prompted = {p.frame_index: p.prompted_ids for p in predictions if p.prompted_ids}
    assert prompted == {0: (1,), 3: (2,)}
    assert all(p.masks.shape == (len(p.object_ids), 48, 80) for p in predictions)


def test_frames_before_the_first_object_are_passed_over(model: SAM2) -> None:
    predictions = _track(model, MemoryVideo(first_frames=(2,)))
    assert [p.frame_index for p in predictions] == [2, 3, 4, 5]


def test_prompted_frame_shows_the_prompt(model: SAM2) -> None:
    video = MemoryVideo(first_frames=(0,), size=(64, 64))
    first = _track(model, video)[0]
    truth = video.masks(0)
    overlap = (first.masks & truth).sum() / (first.masks | truth).sum()
    assert overlap > 0.8


def test_no_pixel_belongs_to_two_objects(model: SAM2) -> None:
    for prediction in _track(model, MemoryVideo(first_frames=(0, 0, 0))):
        assert prediction.masks.sum(axis=0).max() <= 1


def test_sparse_truth_prompts_on_annotated_frames_alone(model: SAM2) -> None:
    video = MemoryVideo(first_frames=(0, 2), annotated=(1, 4))
    predictions = _track(model, video)
    assert predictions[0].frame_index == 1
    assert {p.frame_index: p.prompted_ids for p in predictions if p.prompted_ids} == {
        1: (1,),
        4: (2,),
    }
    assert [p.truth is not None for p in predictions] == [
        True,
        False,
        False,
        True,
        False,
    ]


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
    assert sizes[-1] <= 1 + 16


def test_prompt_by_clicks_is_corrected_on_its_frame() -> None:
    clicked = golden_model(
        'video:',
        data_preprocessor={'image_size': (64, 64)},
        val_prompt_simulator={
            'type': 'SAM2PromptSimulator',
            'point_probability': 1.0,
            'box_probability': 0.0,
            'num_corrections': 2,
            'click_method': 'center',
        },
    )
    predictions = _track(clicked, MemoryVideo(first_frames=(0, 2), length=4))
    steps = [[len(o.steps) for o in p.outputs] for p in predictions]
    assert steps == [[3], [1], [1, 3], [1, 1]]


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
    assert predictions[0].frame_index == 2
    assert predictions[0].prompted_ids == (1,)


class _AllVoid(MemoryVideo):
    """The same video, every pixel outside the objects to be ignored."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth with void pixels."""
        truth = super().read_masks(frame_index)
        return (
            None
            if truth is None
            else replace(truth, void=np.logical_not(truth.masks.any(axis=0)))
        )


def test_validation_clicks_never_correct_void_pixels() -> None:
    clicked = golden_model(
        'v3:',
        data_preprocessor={'image_size': (64, 64)},
        val_prompt_simulator={
            'type': 'SAM2PromptSimulator',
            'point_probability': 1.0,
            'box_probability': 0.0,
            'num_corrections': 3,
        },
    )

    def labels(video: MemoryVideo) -> list[int]:
        points = _track(clicked, video)[0].outputs[0].final.points
        assert points is not None
        return points.labels.flatten().tolist()

    assert 0 in labels(MemoryVideo(first_frames=(0,), length=1))
    assert 0 not in labels(_AllVoid(first_frames=(0,), length=1))


def test_masks_are_those_of_the_logits_at_the_size_of_the_file(model: SAM2) -> None:
    prediction = _track(model, MemoryVideo(first_frames=(0,)))[-1]
    enlarged = torch.nn.functional.interpolate(
        _logits(prediction), size=(48, 80), mode='bilinear', align_corners=False
    )
    assert np.array_equal(prediction.masks, enlarged[:, 0].numpy() > 0)
