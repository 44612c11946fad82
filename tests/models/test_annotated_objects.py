"""Objects that are annotated, and what their annotator knows of a frame."""

import torch

from memory_videos import MemoryVideo
from projects.sam2.models.tracking.interactive import (
    AnnotatedObject,
    FrameView,
    PromptedModel,
    new_objects,
)
from projects.sam2.structures import DecoderStep, FrameMemory
from toy_videos import SIDE, toy_model

MODEL = toy_model()
VIDEO = MemoryVideo(first_frames=(0, 2))
MEMORY = FrameMemory(spatial=torch.zeros(1), object_pointer=torch.zeros(1))
STEP = DecoderStep(
    candidate_logits=torch.zeros(1, 1, 8, 8),
    candidate_ious=torch.zeros(1, 1),
    mask_logits=torch.zeros(1, 1, 8, 8),
    object_pointer=torch.zeros(1, 64),
    object_score_logits=torch.zeros(1, 1),
)


def annotated() -> AnnotatedObject:
    """An object that was annotated on frame 3, tracked on frame 4."""
    one = AnnotatedObject(object_id=1)
    one.store.add(3, MEMORY, conditioning=True)
    one.store.add(4, MEMORY, conditioning=False)
    one.answers[3] = STEP
    return one


def view(frame: int, *, known: bool = True) -> FrameView:
    """A frame of the video."""
    pixels = MODEL.data_preprocessor.frame(VIDEO.read_frame(frame))
    with torch.no_grad():
        features = MODEL.encode(pixels)
    return FrameView(
        frame_index=frame,
        features=features,
        size=VIDEO.size,
        truth=VIDEO.read_masks(frame) if known else None,
    )


def test_a_copy_takes_its_own_course() -> None:
    one = annotated()
    other = one.copy()
    other.store.add(5, MEMORY, conditioning=True)
    other.answers[5] = STEP
    assert list(one.store.conditioning) == [3]
    assert list(one.answers) == [3]
    assert list(other.store.tracked) == list(one.store.tracked) == [4]


def test_another_pass_starts_with_annotations_alone() -> None:
    again = annotated().restarted()
    assert list(again.store.conditioning) == [3]
    assert not again.store.tracked
    assert again.first_frame == 3


def test_objects_are_new_where_they_first_have_a_pixel() -> None:
    first = new_objects(VIDEO.read_masks(0), [])
    assert [one.object_id for one in first] == [1]
    assert not new_objects(VIDEO.read_masks(1), first)
    assert [one.object_id for one in new_objects(VIDEO.read_masks(2), first)] == [2]
    assert not new_objects(None, first)


def test_object_that_the_truth_lacks_is_known_to_be_absent() -> None:
    user = PromptedModel(
        heads=MODEL.heads, preprocessor=MODEL.data_preprocessor, encode=MODEL.encode
    )
    known = view(1).known(7, user)
    assert known is not None
    assert known.size == VIDEO.size
    assert not known.masks.any()
    there = view(1).known(1, user)
    assert there is not None
    assert torch.equal(there.masks[0, 0], torch.from_numpy(VIDEO.masks(1)[0]))
    assert view(1, known=False).known(1, user) is None
    assert MODEL.data_preprocessor.image_size[0] == SIDE
