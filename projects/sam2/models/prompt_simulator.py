"""Simulated prompts: a mask, a box or clicks (Ravi et al., 2024, appendix D.2.2).

``SAM2PromptSimulator.plan`` decides which frames of a clip are prompted. While the clip
is tracked, ``first_prompt`` prompts its conditioning frames, and ``correction`` clicks
on what the model got wrong, as often as ``num_corrections`` says.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..ops import (
    center_error_points,
    jittered_boxes,
    sample_error_points,
    send_to_device,
)
from ..structures import FramePrompt, PointPrompt

ClickMethod = Literal['uniform', 'center']
CLICK_METHODS: tuple[str, ...] = get_args(ClickMethod)


class PromptKind(Enum):
    """How a conditioning frame is prompted."""

    MASK = 'mask'
    POINT = 'point'
    BOX = 'box'


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPlan:
    """Which frames of a clip are prompted, and how.

    Attributes:
        prompts: The prompted frames and how each one is prompted, the first frame of
            the clip first. They are tracked before all others.
        correction_frames: Frames that get correction clicks.
        conditioning_frames: Frames whose memories condition the clip: the prompted and
            the corrected ones.
    """

    prompts: dict[int, PromptKind]
    correction_frames: frozenset[int]
    conditioning_frames: frozenset[int]

    def where_annotated(self, annotated_frames: Collection[int]) -> 'PromptPlan':
        """Leave out frames other than the first that lack an annotation.

        Their empty masks would prompt the model with the absence of the objects.
        """
        frames = {0, *annotated_frames}
        return PromptPlan(
            prompts={
                frame: kind for frame, kind in self.prompts.items() if frame in frames
            },
            correction_frames=self.correction_frames & frames,
            conditioning_frames=self.conditioning_frames & frames,
        )


class ClickGenerators:
    """Random numbers of the clicks, from one seeded generator per clip.

    The clicks of a clip do not depend on the other clips of the batch. Numbers are
    drawn on the CPU and copied to the device without waiting for it.

    Args:
        seeds: One per clip.
        objects_per_clip: Number of objects of each clip.
        device: Where the numbers are needed.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        objects_per_clip: Sequence[int],
        device: torch.device | str = 'cpu',
    ) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.objects_per_clip = tuple(objects_per_clip)
        self.device = torch.device(device)

    def per_object(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw uniform numbers in [0, 1) for each object, (O, *shape)."""
        draws = [
            torch.rand(num_objects, *shape, generator=generator, dtype=dtype)
            for num_objects, generator in zip(
                self.objects_per_clip, self.generators, strict=True
            )
        ]
        return self._to_device(torch.cat(draws))

    def per_clip(self) -> Tensor:
        """Draw one uniform number in [0, 1) for each clip, repeated for its objects."""
        draws = [
            torch.rand((), generator=generator).expand(num_objects)
            for num_objects, generator in zip(
                self.objects_per_clip, self.generators, strict=True
            )
        ]
        return self._to_device(torch.cat(draws))

    def _to_device(self, numbers: Tensor) -> Tensor:
        return send_to_device(numbers, self.device)


@MODELS.register_module()
class SAM2PromptSimulator:
    """Decides which frames of a clip are prompted, and draws the prompts.

    Args:
        point_probability: Probability that a clip is prompted with points or boxes
            rather than masks. Single frames always get points or boxes.
        box_probability: Probability that a conditioning frame of such a clip gets a
            box.
        truth_click_probability: Probability that a correction click falls anywhere on
            the object, whatever was predicted; drawn per clip, unused with
            ``'center'``.
        num_conditioning_frames: Minimum and maximum number of conditioning frames.
        num_correction_frames: Minimum and maximum number of frames with correction
            clicks; conditioning frames are always among them.
        num_corrections: Correction clicks on each of these frames.
        click_method: ``'uniform'``, a random wrong pixel, or ``'center'``, the middle
            of the largest error.

    Raises:
        ValueError: If a range is empty, a probability is not in [0, 1], or the click
            method is unknown.

    Example:
        >>> simulator = SAM2PromptSimulator(point_probability=1.0)
        >>> plan = simulator.plan(num_frames=8, step=0)
        >>> clicks = ClickGenerators(batch.seeds, batch.objects_per_clip)
        >>> prompt = simulator.first_prompt(plan.prompts[0], masks, clicks)
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
        for name, probability in (
            ('point_probability', point_probability),
            ('box_probability', box_probability),
            ('truth_click_probability', truth_click_probability),
        ):
            if not 0 <= probability <= 1:
                msg = f'{name} is {probability}; give a number from 0 to 1'
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
        """Decide which frames of a clip are prompted, and how.

        The plan shapes the graph, so all ranks must have the same one: it depends only
        on the training step and the seed of the run.
        """
        rng = np.random.default_rng((seed, step))
        with_points = bool(rng.random() < self.point_probability) or num_frames == 1
        # A mask prompt has no loss to learn from, so one frame must be tracked.
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
            conditioning_frames=corrected,  # includes the prompted frames
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
            return FramePrompt(points=jittered_boxes(truth, clicks.per_object(4)))
        return FramePrompt(points=self._click(truth, None, clicks))

    def correction(
        self,
        truth: Tensor,
        prediction: Tensor,
        clicks: ClickGenerators,
        void: Tensor | None = None,
    ) -> PointPrompt:
        """Click once on each object where the prediction is wrong.

        Args:
            truth: (O, 1, H, W), bool.
            prediction: (O, 1, H, W), bool.
            void: Pixels that get no click, (O | 1, 1, H, W), bool, or None.
        """
        if self.click_method == 'uniform':
            on_truth = clicks.per_clip() < self.truth_click_probability
            # Without a prediction the whole object is wrong, and may be clicked.
            prediction = prediction & ~on_truth[:, None, None, None]
        return self._click(truth, prediction, clicks, void)

    def _click(
        self,
        truth: Tensor,
        prediction: Tensor | None,
        clicks: ClickGenerators,
        void: Tensor | None = None,
    ) -> PointPrompt:
        if self.click_method == 'center':
            return center_error_points(truth, prediction, void)
        uniform = clicks.per_object(dtype=torch.float64)
        return sample_error_points(truth, prediction, uniform, void)


def _draw_count(
    bounds: tuple[int, int], num_frames: int, rng: np.random.Generator
) -> int:
    """Number of frames within the bounds, at most all frames of the clip."""
    least, most = bounds
    return min(int(rng.integers(least, most, endpoint=True)), num_frames)
