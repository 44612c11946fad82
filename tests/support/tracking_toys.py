"""A SAM 2 that knows the ground truth, and detectors that do, for tests of tracking."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from projects.sam2.apis.video_predictor import VideoFrameResult
from projects.sam2.bridges.detection.detections import Detections
from projects.sam2.bridges.tracking.detect_and_track import (
    DetectAndTrack,
    FrameTracks,
)
from projects.sam2.datasets.sources.shapes import CLASSES, ShapesClip
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.memory_store import ObjectOutput
from projects.sam2.ops import masks_to_boxes
from projects.sam2.structures import FramePrompt

Detect = Callable[[NDArray[np.uint8]], Detections]


def truth_masks(clip: ShapesClip, frame_index: int) -> Tensor:
    """Masks of all objects of a clip, (O, height, width), empty where they are gone."""
    ids = torch.arange(1, len(clip.classes) + 1)
    return torch.from_numpy(clip.labels[frame_index]) == ids[:, None, None]


def truth_detector(clip: ShapesClip) -> Detect:
    """A detector that finds all objects that are visible, best scores first."""
    frame_of = {frame.tobytes(): index for index, frame in enumerate(clip.frames)}

    def detect(frame: NDArray[np.uint8]) -> Detections:
        masks = truth_masks(clip, frame_of[frame.tobytes()])
        visible = masks.flatten(1).any(dim=1)
        first, last = masks_to_boxes(masks[visible][:, None]).split(2, dim=1)
        return Detections(
            boxes=torch.cat([first, last + 1], dim=1),
            scores=torch.full((int(visible.sum()),), 0.9),
            labels=torch.tensor(clip.classes)[visible],
            masks=masks[visible],
            class_names=CLASSES,
        )

    return detect


class TruthObject:
    """An object of :class:`TruthSession`; ``erase`` hides it on a frame."""

    def __init__(self, follow: Callable[[int], Tensor]) -> None:
        self.follow = follow
        self.erased: set[int] = set()

    def erase(self, frame_index: int) -> None:
        """Hide the object on a frame."""
        self.erased.add(frame_index)

    def output(self, frame_index: int) -> ObjectOutput | None:
        """The mask on a frame as logits, unless it is hidden."""
        if frame_index in self.erased:
            return None
        logits = self.follow(frame_index)[None, None].float() * 20 - 10
        one = torch.ones(1, 1)
        return ObjectOutput(mask_logits=logits, object_score_logits=one, ious=one)


class TruthSession:
    """Stands in for the session: a prompted object is the true one that it covers.

    Masks have the size of the clip, at all resolutions.

    Args:
        clip: The ground truth.
        follow: Object that is followed on a frame, by the object and the frame; by
            default the object itself.
    """

    def __init__(
        self, clip: ShapesClip, follow: Callable[[int, int], int] | None = None
    ) -> None:
        self.clip = clip
        self.follow = follow or (lambda obj, frame_index: obj)
        self.objects: dict[int, TruthObject] = {}
        self.options = type('Options', (), {'max_batch_objects': 2})()
        height, width = clip.labels.shape[1:]
        size = (4 * height, 4 * width)
        preprocessor = type('Preprocessor', (), {'image_size': size})()
        preprocessor.mask_prompt = lambda masks: torch.from_numpy(masks.masks)[:, None]
        attributes = {
            'data_preprocessor': preprocessor,
            'low_res_size': (height, width),
        }
        self.model: Any = type('Model', (), attributes)()

    @contextmanager
    def edit(self, options: object) -> Iterator[None]:
        """Change nothing: tests of errors use the real session."""
        del options
        yield

    def step(self, frame_index: int) -> None:
        """Track: the truth is known already."""

    def add_prompt(
        self, frame_index: int, object_ids: list[int], prompt: FramePrompt
    ) -> None:
        """Find the true object under each mask."""
        truth = truth_masks(self.clip, frame_index)
        assert prompt.mask is not None
        for key, mask in zip(object_ids, prompt.mask, strict=True):
            obj = int((truth & mask).flatten(1).sum(dim=1).argmax())
            self.objects[key] = TruthObject(partial(self.mask_of, obj))

    def mask_of(self, obj: int, frame_index: int) -> Tensor:
        """Mask of the object that is followed for an object, on a frame."""
        return truth_masks(self.clip, frame_index)[self.follow(obj, frame_index)]

    def remove_object(self, object_id: int) -> None:
        """Remove an object."""
        del self.objects[object_id]

    def show(self, frame_index: int) -> VideoFrameResult:
        """Masks of all objects."""
        outputs = [obj.output(frame_index) for obj in self.objects.values()]
        height, width = self.clip.labels.shape[1:]
        absent = torch.full((1, 1, height, width), -10.0)
        logits = [absent[:0]] + [
            absent if output is None else output.mask_logits for output in outputs
        ]
        nothing = torch.zeros(len(outputs))
        return VideoFrameResult(
            frame_index=frame_index,
            object_ids=list(self.objects),
            mask_logits=torch.cat(logits),
            object_score_logits=nothing,
            ious=nothing,
        )


def truth_tracker(
    model: SAM2,
    clip: ShapesClip,
    *,
    follow: Callable[[int, int], int] | None = None,
    detect: Detect | None = None,
    **options: Any,
) -> DetectAndTrack:
    """A tracker whose detector and SAM 2 know the truth of a clip.

    Args:
        model: Any model; only its device counts.
        clip: The ground truth.
        follow: See :class:`TruthSession`.
        detect: Another detector.
        options: Of the tracker.
    """
    tracker = DetectAndTrack(
        model, detect or truth_detector(clip), prompts='masks', **options
    )
    tracker._state = TruthSession(clip, follow)  # type: ignore[assignment]  # a toy
    return tracker


def truth_ids(clip: ShapesClip, tracks: Sequence[FrameTracks]) -> list[dict[int, int]]:
    """Id of the track that covers each true object, by frame."""
    ids = []
    for frame in tracks:
        truth = truth_masks(clip, frame.frame_index)
        ids.append(
            {
                obj: key
                for key, mask in zip(frame.object_ids, frame.masks, strict=True)
                for obj in range(len(truth))
                if torch.equal(truth[obj], mask)
            }
        )
    return ids
