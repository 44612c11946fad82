"""Runs the predictors over an image, a video or a stream, as prompts say."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray

from projects.sam2.apis.automatic_masks import SAM2AutomaticMaskGenerator
from projects.sam2.apis.image_predictor import SAM2ImagePredictor
from projects.sam2.apis.inference_results import InferredFrame
from projects.sam2.apis.inference_sources import StreamInput, VideoInput
from projects.sam2.apis.inputs import read_mask
from projects.sam2.apis.object_prompt import ObjectPrompt
from projects.sam2.apis.streaming import SAM2Stream
from projects.sam2.apis.video_predictor import SAM2VideoPredictor
from projects.sam2.apis.video_state import VideoFrameResult, VideoState
from projects.sam2.models import SAM2
from projects.sam2.ops import downsample_logits
from projects.sam2.structures import PromptMark

__all__ = ['PromptedInference']

GIVEN_MASK_LOGIT = 10.0  # of a mask that is given for an image
FILLED_HOLE_AREA = 8  # pixels of the stride-4 mask, as in the released predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One object of an image.

    Attributes:
        object_id: As the user calls it.
        mask: (height, width), bool.
        iou: The model's estimate.
        marks: Its prompt.
    """

    object_id: int
    mask: NDArray[np.bool_]
    iou: float
    marks: tuple[PromptMark, ...] = ()


class PromptedInference:
    """The predictors of one model.

    Args:
        model: As :func:`build_sam2` gives it.
        automatic_masks: Settings of :class:`SAM2AutomaticMaskGenerator`, which is used
            where there is no prompt.
    """

    def __init__(
        self, model: SAM2, automatic_masks: Mapping[str, Any] | None = None
    ) -> None:
        self.images = SAM2ImagePredictor(model)
        self.videos = SAM2VideoPredictor(model, fill_hole_area=FILLED_HOLE_AREA)
        self.everything = SAM2AutomaticMaskGenerator(model, **(automatic_masks or {}))

    def image(
        self, pixels: NDArray[np.uint8], prompts: Sequence[ObjectPrompt]
    ) -> InferredFrame:
        """Segment the objects of an image.

        Args:
            pixels: (height, width, 3), RGB.
            prompts: One for each object; none asks for everything.

        Returns:
            Their masks.

        Raises:
            ValueError: If a prompt is malformed, of another frame or outside of the
                image, or an object has two.
        """
        if not prompts:
            found = self._everything(pixels)
            if not found:
                why = self.everything.explain_nothing()
                print_log(f'Nothing was found ({why})', 'current', logging.WARNING)
            return _as_frame(0, pixels, found)
        ids = [prompt.object_id for prompt in prompts]
        for prompt in prompts:
            if prompt.frame_index:
                msg = f'An image has no frame {prompt.frame_index}; prompt frame 0'
                raise ValueError(msg)
            if ids.count(prompt.object_id) > 1:
                msg = f'Object {prompt.object_id} has two prompts; give it one'
                raise ValueError(msg)
        self.images.set_image(pixels)
        return _as_frame(0, pixels, [self._object(prompt) for prompt in prompts])

    @torch.no_grad()
    def video(
        self, video: VideoInput, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[InferredFrame]:
        """Track objects through a video.

        Args:
            video: The video.
            prompts: On any frames; none asks for everything on the first.

        Yields:
            Masks of each frame from the first that is prompted.

        Raises:
            ValueError: If a prompt is malformed or outside of the video.
        """
        # Nobody comes back to a frame: what is passed need not be kept on disk.
        state = self.videos.session.open(video.frames, revisits=False)
        if not prompts:
            prompts = self._masks_of(video.frames.read(0))
        for prompt in prompts:
            self._prompt(state, prompt)
        for result in self.videos.propagate_in_video(state):
            pixels = video.frames.read(result.frame_index)
            yield _tracked(result, pixels, prompts)

    @torch.no_grad()
    def stream(
        self, stream: StreamInput, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[InferredFrame]:
        """Track objects in frames as they come.

        Args:
            stream: The stream.
            prompts: On frames to come; none asks for everything on the first.

        Yields:
            Masks of each frame; none before the first prompt.

        Raises:
            ValueError: If a prompt is malformed or outside of the frame.
        """
        live = SAM2Stream(self.videos)
        for index, pixels in enumerate(stream.frames):
            result = live.track(pixels)
            if not index and not prompts:
                prompts = self._masks_of(pixels)
            for prompt in prompts:
                if prompt.frame_index == index:
                    result = self._prompt(live.state, prompt)
            yield _tracked(result, pixels, prompts)

    def _object(self, prompt: ObjectPrompt) -> Found:
        """The best mask of one object of the image that was set."""
        multimask = prompt.box is None and len(prompt.points) == 1
        given = None
        if prompt.mask is not None:
            image = self.images.image(0)
            mask = torch.from_numpy(read_mask(prompt.mask, size=image.size)).float()
            low_res = (4 * image.cells[0], 4 * image.cells[1])
            soft = downsample_logits(mask[None, None], low_res)
            given = ((2 * soft - 1) * GIVEN_MASK_LOGIT)[0]
        masks, ious, _ = self.images.predict(
            prompt.point_coords,
            prompt.point_labels,
            box=prompt.box,
            mask_input=given,
            multimask_output=multimask,
        )
        best = int(ious.argmax())
        return Found(
            object_id=prompt.object_id,
            mask=masks[best],
            iou=float(ious[best]),
            marks=tuple(prompt.marks()),
        )

    def _everything(self, pixels: NDArray[np.uint8]) -> list[Found]:
        """Whatever is in an image, the most certain first."""
        found = self.everything.generate(pixels)
        return [
            Found(
                object_id=number,
                mask=np.asarray(one['segmentation'], dtype=np.bool_),
                iou=one['predicted_iou'],
            )
            for number, one in enumerate(found, start=1)
        ]

    def _masks_of(self, pixels: NDArray[np.uint8]) -> list[ObjectPrompt]:
        """Everything in the first frame of a video, as prompts."""
        found = self._everything(pixels)
        if not found:
            msg = (
                f'Nothing was found on the first frame '
                f'({self.everything.explain_nothing()}); or say where the object is'
            )
            raise ValueError(msg)
        return [ObjectPrompt(object_id=one.object_id, mask=one.mask) for one in found]

    def _prompt(self, state: VideoState, prompt: ObjectPrompt) -> VideoFrameResult:
        """Say something about an object of a video."""
        frame, number = prompt.frame_index, prompt.object_id
        if prompt.mask is not None:
            return self.videos.add_new_mask(state, frame, number, prompt.mask)
        return self.videos.add_new_points_or_box(
            state,
            frame,
            number,
            prompt.point_coords,
            prompt.point_labels,
            box=prompt.box,
        )


def _as_frame(
    index: int, pixels: NDArray[np.uint8], found: Sequence[Found]
) -> InferredFrame:
    """Masks of an image as one record."""
    empty = np.zeros((0, *pixels.shape[:2]), dtype=bool)
    return InferredFrame(
        frame_index=index,
        pixels=pixels,
        object_ids=tuple(one.object_id for one in found),
        masks=np.stack([one.mask for one in found]) if found else empty,
        ious=tuple(one.iou for one in found),
        marks=tuple(mark for one in found for mark in one.marks),
    )


def _tracked(
    result: VideoFrameResult,
    pixels: NDArray[np.uint8],
    prompts: Sequence[ObjectPrompt],
) -> InferredFrame:
    """Masks of a frame as one record."""
    return InferredFrame(
        frame_index=result.frame_index,
        pixels=pixels,
        object_ids=tuple(result.object_ids),
        masks=(result.mask_logits[:, 0] > 0).cpu().numpy(),
        ious=tuple(result.ious.tolist()),
        marks=tuple(
            mark
            for prompt in prompts
            if prompt.frame_index == result.frame_index
            for mark in prompt.marks()
        ),
    )
