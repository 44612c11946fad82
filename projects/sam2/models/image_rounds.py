"""Boxes and clicks on single images, as image models are scored."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from projects.sam2.models.prompt_rounds import (
    SAM2PromptRounds,
    count_name,
)
from projects.sam2.models.prompted_model import FrameTruth, PromptedModel, enlarge
from projects.sam2.structures import (
    FrameMasks,
    FramePrediction,
    ImageFeatures,
    PointLabel,
    PointPrompt,
    PromptMark,
    PromptRound,
    VideoSource,
    marks_of_points,
)

__all__ = ['SAM2ImageRounds']

BOX_ROUND = 'box'
MAX_BATCH_OBJECTS = 16  # of one image, decoded and enlarged at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAnswers:
    """What came of the prompts on some objects of an image.

    Attributes:
        masks: (O, 1, height, width), bool, on the CPU, by the name of the round.
        clicks: All points, in pixels of the file.
    """

    masks: dict[str, Tensor]
    clicks: PointPrompt


@MODELS.register_module()
class SAM2ImageRounds(SAM2PromptRounds):
    """Prompts each object of an image by a box, and apart from that by clicks.

    The first click falls in the centre of the object, the others in the centre of
    the largest error (Kirillov et al., 2023, section 7.1; Ravi et al., 2024, section
    6.3). The box is the tightest one. Annotated frames of a video count as images.

    Args:
        click_counts: After how many clicks masks are scored, ascending.

    Raises:
        ValueError: If the counts do not ascend from at least one.
    """

    def __init__(self, *, click_counts: Sequence[int]) -> None:
        if list(click_counts) != sorted({*click_counts}) or not click_counts:
            msg = f'click_counts is {tuple(click_counts)}; give ascending numbers'
            raise ValueError(msg)
        super().__init__(num_clicks=click_counts[-1])
        if click_counts[0] < 1:
            msg = f'click_counts begins with {click_counts[0]}; begin with 1 or more'
            raise ValueError(msg)
        self.click_counts = tuple(click_counts)

    def run(
        self, model: PromptedModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of each annotated frame.

        Args:
            model: The model.
            source: The image, or a video.

        Yields:
            For each frame that shows an object: the masks of the box, then those of
            the clicks.
        """
        for frame_index in source.annotated_frames():
            truth = _shown(source.read_masks(frame_index))
            if truth is not None:
                features = model.features(source.read_frame(frame_index))
                yield from self._predictions(model, features, truth, frame_index)

    def _predictions(
        self,
        model: PromptedModel,
        features: ImageFeatures,
        truth: FrameMasks,
        frame_index: int,
    ) -> Iterator[FramePrediction]:
        """All rounds of one image."""
        known = FrameTruth.of(truth, model.device)
        answers: list[ImageAnswers] = []
        marks: list[PromptMark] = []
        for first in range(0, len(truth.masks), MAX_BATCH_OBJECTS):
            chosen = slice(first, first + MAX_BATCH_OBJECTS)
            answers.append(self._answers(model, features, known.select(chosen)))
            marks += marks_of_points(answers[-1].clicks, truth.object_ids[chosen])
        names = tuple(answers[0].masks)
        for name in names:
            masks = torch.cat([answer.masks[name] for answer in answers])
            final = name == names[-1]
            yield FramePrediction(
                frame_index=frame_index,
                object_ids=truth.object_ids,
                masks=masks[:, 0].numpy(),
                truth=truth,
                prompted_ids=truth.object_ids,
                prompt_round=PromptRound(name=name, is_final=final),
                marks=tuple(marks) if final else (),
            )

    def _answers(
        self, model: PromptedModel, features: ImageFeatures, truth: FrameTruth
    ) -> ImageAnswers:
        """Prompt some objects, all in one batch."""
        num_objects = len(truth.masks)
        device = features.embedding.device
        every = torch.zeros(num_objects, dtype=torch.int64, device=device)
        repeated = features.select(every)
        box = model.answer_still(repeated, truth.boxes(), truth.size)
        masks = {BOX_ROUND: enlarge(box, truth.size).cpu()}
        points = truth.click(None)
        logits = model.answer_still(repeated, points, truth.size)
        for number in range(1, self.num_clicks + 1):
            shown = enlarge(logits, truth.size)
            if number in self.click_counts:
                masks[count_name(number, 'click')] = shown.cpu()
            if number < self.num_clicks:
                # A user does not touch a mask without any error.
                done = (truth.ious(shown) == 1)[:, None]
                points = points.followed_by(_but(done, truth.click(shown)))
                answer = model.answer_still(repeated, points, truth.size, logits)
                logits = torch.where(done[..., None, None], logits, answer)
        return ImageAnswers(masks=masks, clicks=points)


def _but(done: Tensor, click: PointPrompt) -> PointPrompt:
    """A click on the objects that are not done, (O, 1), bool."""
    labels = torch.where(done, PointLabel.PADDING, click.labels)
    return PointPrompt(coords=click.coords, labels=labels.int())


def _shown(truth: FrameMasks | None) -> FrameMasks | None:
    """The objects of a frame that have a pixel; None if there are none."""
    if truth is None:
        return None
    kept = np.flatnonzero(truth.masks.any(axis=(1, 2))).tolist()
    if not kept:
        return None
    return FrameMasks(
        object_ids=tuple(truth.object_ids[position] for position in kept),
        masks=truth.masks[kept],
        void=truth.void,
    )
