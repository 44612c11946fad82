"""Annotating and tracking the objects of a video, frame by frame."""

import pytest
import torch

from memory_videos import MemoryVideo
from projects.sam2.models.tracking.interactive import (
    AnnotatedObject,
    AnnotatedTracker,
    FrameView,
    PromptedModel,
)
from toy_videos import SIDE, SIZE, toy_model

VIDEO = MemoryVideo(first_frames=(0, 0), length=4, size=SIZE)


@pytest.fixture(scope='module')
def tracker() -> AnnotatedTracker:
    """Of two clicks on each frame."""
    model = toy_model()
    user = PromptedModel(
        heads=model.heads, preprocessor=model.data_preprocessor, encode=model.encode
    )
    return AnnotatedTracker(model=user, num_video_frames=4, num_clicks=2)


@torch.no_grad()
def view_of(tracker: AnnotatedTracker, frame: int) -> FrameView:
    """A frame with its truth."""
    return tracker.view(frame, VIDEO.read_frame(frame), VIDEO.read_masks(frame))


@torch.no_grad()
def started(tracker: AnnotatedTracker) -> list[AnnotatedObject]:
    """Both objects, annotated on the first frame."""
    objects = [AnnotatedObject(object_id=number) for number in (1, 2)]
    tracker.start(objects, view_of(tracker, 0))
    return objects


@torch.no_grad()
def test_answer_stays_on_an_annotated_frame(tracker: AnnotatedTracker) -> None:
    objects = started(tracker)
    shown = tracker.follow(objects, view_of(tracker, 0))
    for one, logits in zip(objects, shown, strict=True):
        assert torch.equal(logits, one.answers[0].mask_logits)
        assert not one.store.tracked


@torch.no_grad()
def test_an_object_is_tracked_as_if_it_were_alone(tracker: AnnotatedTracker) -> None:
    both, (_, alone) = started(tracker), started(tracker)
    for frame in (1, 2):
        together = tracker.follow(both, view_of(tracker, frame))[1]
        (apart,) = tracker.follow([alone], view_of(tracker, frame))
        error = (together - apart).abs().max() / apart.square().mean().sqrt()
        assert error <= 1e-4


@torch.no_grad()
def test_annotated_frames_are_never_wrong(tracker: AnnotatedTracker) -> None:
    objects = started(tracker)
    none = [torch.full((1, 1, SIDE // 4, SIDE // 4), -9.0)] * 2
    assert not list(tracker.wrong_frames(objects, none, view_of(tracker, 0)))
    later = list(tracker.wrong_frames(objects, none, view_of(tracker, 1)))
    assert [(wrong.one.object_id, wrong.iou) for wrong in later] == [(1, 0), (2, 0)]


@torch.no_grad()
def test_clicks_are_shown_in_pixels_of_the_file(tracker: AnnotatedTracker) -> None:
    objects = started(tracker)
    view = view_of(tracker, 0)
    shown = tracker.prediction(
        objects, tracker.follow(objects, view), view, num_annotated=1, is_final=True
    )
    assert shown.prompted_ids == (1, 2)
    first = [next(m for m in shown.marks if m.object_id == n) for n in (1, 2)]
    for mark, mask in zip(first, VIDEO.masks(0), strict=True):
        assert mask[round(mark.y), round(mark.x)]
    assert len(shown.marks) == 4
