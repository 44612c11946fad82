"""The prompts that a batch is given in training, without a model and with one."""

import torch

from ..structures import ClipBatch, FramePrompt, TrackingMode
from .prompt_simulator import (
    ClickGenerators,
    PromptPlan,
    SAM2PromptSimulator,
)
from .sam2 import SAM2
from .tracking.clip import tracking_order


def preview_prompts(
    simulator: SAM2PromptSimulator, batch: ClipBatch, plan: PromptPlan
) -> dict[int, FramePrompt]:
    """Draw the first prompts of a batch as :func:`track_clip` does.

    Correction clicks depend on what a model predicts and are not part of them. They
    are drawn all the same: the prompts of later frames come after them from the same
    random numbers.

    Returns:
        The prompt of each conditioning frame, (O, …) of all objects of the batch.
    """
    plan = plan.where_annotated(batch.targets.annotated)
    clicks = ClickGenerators.seeded(batch.seeds, batch.video_of_object)
    prompts: dict[int, FramePrompt] = {}
    for frame in tracking_order(plan, batch.num_frames):
        truth = batch.targets.masks[frame][:, None]
        if frame in plan.prompts:
            prompts[frame] = simulator.first_prompt(plan.prompts[frame], truth, clicks)
        if frame in plan.correction_frames:
            for _ in range(simulator.num_corrections):
                simulator.correction(truth, torch.zeros_like(truth), clicks)
    return prompts


@torch.no_grad()
def preview_clicks(
    model: SAM2, batch: ClipBatch, plan: PromptPlan
) -> dict[int, FramePrompt]:
    """Click on the errors of a model as it would be corrected in training.

    Returns:
        All points of each frame that has any, first prompts and correction clicks,
        (O, …) of all objects of the batch.
    """
    outputs = model.track(batch, plan, TrackingMode.TRAINING)
    return {
        output.frame_index: FramePrompt(points=output.final.points)
        for output in outputs
        if output.final.points is not None
    }
