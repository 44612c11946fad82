"""Simulated prompts: a mask, a box or clicks (Ravi et al., 2024, appendix D.2.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..ops import center_error_points, sample_boxes, sample_error_points
from ..structures import FramePrompt, PointPrompt

ClickMethod = Literal['uniform', 'center']
CLICK_METHODS: tuple[str, ...] = get_args(ClickMethod)


class PromptKind(Enum):
    """How a conditioning frame is prompted first."""

    MASK = 'mask'
    POINT = 'point'
    BOX = 'box'


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPlan:
    """Which frames of a clip are prompted, and how.

    Attributes:
        prompts: Conditioning frames and how each is prompted, the first frame of the
            clip first; they are tracked before all others.
        correction_frames: Frames that get correction clicks.
        conditioning_frames: Frames whose memories count as those of conditioning ones.
    """

    prompts: dict[int, PromptKind]
    correction_frames: frozenset[int]
    conditioning_frames: frozenset[int]

    def where_annotated(self, annotated: Tensor) -> 'PromptPlan':
        """Leave out later frames that some clip has no annotation for.

        A prompt made of their empty masks would say that the objects are gone.

        Args:
            annotated: Of each frame and each clip or object, (T, B), bool.
        """
        known = annotated.all(dim=1).nonzero().flatten().tolist()
        frames = {0, *known}
        return PromptPlan(
            prompts={
                frame: kind for frame, kind in self.prompts.items() if frame in frames
            },
            correction_frames=self.correction_frames.intersection(frames),
            conditioning_frames=self.conditioning_frames.intersection(frames),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickGenerators:
    """Randomness of the clicks, one stream for each clip.

    So a clip gets the same clicks in whatever batch it stands.

    Attributes:
        generators: One for each clip.
        objects_of_clip: Number of objects of each clip.
    """

    generators: tuple[torch.Generator, ...]
    objects_of_clip: tuple[int, ...]

    @classmethod
    def seeded(cls, seeds: Sequence[int], video_of_object: Tensor) -> 'ClickGenerators':
        """Make the streams of a batch.

        Args:
            video_of_object: (O,), ascending clip numbers.
        """
        counts = torch.bincount(video_of_object, minlength=len(seeds))
        return cls(
            generators=tuple(torch.Generator().manual_seed(seed) for seed in seeds),
            objects_of_clip=tuple(counts.tolist()),
        )


@MODELS.register_module()
class SAM2PromptSimulator:
    """Draws which frames are prompted, and the prompts.

    Args:
        point_probability: Of a clip, to be prompted with points or boxes in place of
            masks. Single frames always get points.
        box_probability: Of a conditioning frame of such a clip, to get a box.
        truth_click_probability: Of a correction click, to ignore what was predicted.
        num_conditioning_frames: Least and most frames with a first prompt.
        num_correction_frames: Least and most frames with correction clicks; never
            fewer than the conditioning frames, which come first.
        num_corrections: Correction clicks on each of these frames, whose memories
            then count as those of conditioning frames.
        click_method: ``'uniform'`` over the error region, or its ``'center'``.

    Raises:
        ValueError: If a range is empty, a probability is none, or the click method
            is unknown.
    """

    def __init__(
        self,
        *,
        point_probability: float = 0.5,
        box_probability: float = 0.5,
        truth_click_probability: float = 0.1,
        num_conditioning_frames: tuple[int, int] = (1, 2),
        num_correction_frames: tuple[int, int] = (1, 2),
        num_corrections: int = 7,
        click_method: ClickMethod = 'uniform',
    ) -> None:
        for name, (least, most) in (
            ('num_conditioning_frames', num_conditioning_frames),
            ('num_correction_frames', num_correction_frames),
        ):
            if not 1 <= least <= most:
                msg = f'{name} is ({least}, {most}); give 1 <= least <= most'
                raise ValueError(msg)
        for name, share in (
            ('point_probability', point_probability),
            ('box_probability', box_probability),
            ('truth_click_probability', truth_click_probability),
        ):
            if not 0 <= share <= 1:
                msg = f'{name} is {share}; give a number from 0 to 1'
                raise ValueError(msg)
        if click_method not in CLICK_METHODS:
            msg = f'click_method is {click_method!r}; give one of {CLICK_METHODS}'
            raise ValueError(msg)
        self.point_probability = point_probability
        self.box_probability = box_probability
        self.truth_click_probability = truth_click_probability
        self.num_conditioning_frames = num_conditioning_frames
        self.num_correction_frames = num_correction_frames
        self.num_corrections = num_corrections
        self.click_method = click_method

    def plan(self, num_frames: int, step: int, seed: int = 0) -> PromptPlan:
        """Decide which frames are prompted; equal on all ranks.

        What is decided here shapes the graph, so it must not differ between ranks: it
        depends on the run's seed and on the training step alone.
        """
        rng = np.random.default_rng((seed, step))
        with_points = bool(rng.random() < self.point_probability) or num_frames == 1
        # Given masks teach nothing by themselves: a frame is left to be tracked.
        most_conditioning = num_frames if with_points else num_frames - 1
        num_conditioning = _draw_count(
            self.num_conditioning_frames, most_conditioning, rng
        )
        later = rng.permutation(np.arange(1, num_frames)).tolist()
        conditioning = [0, *later[: num_conditioning - 1]]
        if not with_points:
            return PromptPlan(
                prompts=dict.fromkeys(conditioning, PromptKind.MASK),
                correction_frames=frozenset(),
                conditioning_frames=frozenset(conditioning),
            )
        least, most = self.num_correction_frames
        num_corrected = _draw_count(
            (max(least, num_conditioning), max(most, num_conditioning)),
            num_frames,
            rng,
        )
        corrected = frozenset([0, *later[: num_corrected - 1]])
        return PromptPlan(
            prompts={
                frame: PromptKind.BOX
                if rng.random() < self.box_probability
                else PromptKind.POINT
                for frame in conditioning
            },
            correction_frames=corrected,
            conditioning_frames=corrected,  # the conditioning frames among them
        )

    def first_prompt(
        self, kind: PromptKind, truth: Tensor, clicks: ClickGenerators
    ) -> FramePrompt:
        """Prompt the objects of a conditioning frame.

        Args:
            truth: (O, 1, H, W), bool.
        """
        if kind is PromptKind.MASK:
            return FramePrompt(mask=truth)
        if kind is PromptKind.BOX:
            return FramePrompt(points=self._boxes(truth, clicks))
        return FramePrompt(points=self._clicks(truth, None, clicks))

    def correction(
        self,
        truth: Tensor,
        prediction: Tensor,
        clicks: ClickGenerators,
        ignored: Tensor | None = None,
    ) -> PointPrompt:
        """Click once on each object where the prediction is wrong.

        Args:
            truth: (O, 1, H, W), bool; as large as all others.
            ignored: Void pixels, which get no click; None where there are none.
        """
        return self._clicks(truth, prediction, clicks, ignored)

    def _clicks(
        self,
        truth: Tensor,
        prediction: Tensor | None,
        clicks: ClickGenerators,
        ignored: Tensor | None = None,
    ) -> PointPrompt:
        """One click for each object, clip by clip."""
        if self.click_method == 'center':
            return center_error_points(truth, prediction, ignored)
        parts: list[PointPrompt] = []
        sizes = clicks.objects_of_clip
        clips = (_split(masks, sizes) for masks in (truth, prediction, ignored))
        for masks, guess, void, generator in zip(
            *clips, clicks.generators, strict=True
        ):
            on_truth = guess is None or self._clicks_on_truth(generator)
            wrong = None if on_truth else guess
            parts.append(
                sample_error_points(masks, wrong, generator=generator, ignored=void)
            )
        return _joined(parts)

    def _clicks_on_truth(self, generator: torch.Generator) -> bool:
        """Whether a correction of a clip ignores what was predicted."""
        draw = torch.rand((), generator=generator, device=generator.device)
        return bool(draw < self.truth_click_probability)

    def _boxes(self, truth: Tensor, clicks: ClickGenerators) -> PointPrompt:
        """A jittered box for each object, as its two corners."""
        return _joined(
            [
                sample_boxes(part, generator=generator)
                for part, generator in zip(
                    truth.split(clicks.objects_of_clip), clicks.generators, strict=True
                )
            ]
        )


def _draw_count(
    bounds: tuple[int, int], num_frames: int, rng: np.random.Generator
) -> int:
    """A number of frames within the bounds and within the clip."""
    least, most = bounds
    return min(int(rng.integers(least, most, endpoint=True)), num_frames)


def _joined(parts: Sequence[PointPrompt]) -> PointPrompt:
    """Points of all clips, one after another."""
    return PointPrompt(
        coords=torch.cat([part.coords for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
    )


def _split(masks: Tensor | None, sizes: tuple[int, ...]) -> Sequence[Tensor | None]:
    """Masks of each clip, or as many times None."""
    return [None] * len(sizes) if masks is None else masks.split(sizes)


def click_on_errors(
    simulator: SAM2PromptSimulator,
    clicks: ClickGenerators,
    truth: Tensor,
    ignored: Tensor | None,
    logits: Tensor,
) -> PointPrompt:
    """Click once on each object where its mask is wrong, never for a void pixel.

    Args:
        truth: (O, 1, H, W), bool.
        ignored: Void pixels, (O, 1, H, W), bool, or None.
        logits: What the model shows, (O, 1, H, W).
    """
    return simulator.correction(truth, logits > 0, clicks, ignored)
