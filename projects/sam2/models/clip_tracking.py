"""A clip through the model, as it is trained (Ravi et al., 2024, appendix D.2.2)."""

from collections.abc import Iterator
from functools import partial

from projects.sam2.models.correction import click_on_errors
from projects.sam2.models.frame_tracking import FrameTask, segment_frame, track_frame
from projects.sam2.models.mask_heads import MaskHeads
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.prompt_simulator import (
    ClickGenerators,
    PromptPlan,
    SAM2PromptSimulator,
)
from projects.sam2.structures import (
    ClipBatch,
    FrameOutput,
    ImageFeatures,
    TrackingMode,
)


def track_clip(
    heads: MaskHeads,
    simulator: SAM2PromptSimulator,
    *,
    batch: ClipBatch,
    features: ImageFeatures,
    plan: PromptPlan,
    mode: TrackingMode,
) -> tuple[FrameOutput, ...]:
    """Track all objects of a batch of clips, prompted as planned.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        simulator: Draws the prompts and the correction clicks.
        batch: The clips.
        features: Of all frames, (B * T, ...), video-major.
        plan: Which frames are prompted; see :meth:`PromptPlan.where_annotated`.
        mode: Training or evaluation.

    Returns:
        One output for each frame, in the order of the clip; all but that which was
        tracked last are remembered.
    """
    clicks = ClickGenerators.seeded(batch.seeds, batch.video_of_object)
    store = MemoryStore()
    outputs: dict[int, FrameOutput] = {}
    order = tuple(tracking_order(plan, batch.num_frames))
    for frame in order:
        truth = batch.targets.masks[frame][:, None]
        void = batch.targets.void
        ignored = None if void is None else void[frame][:, None]
        prompted = frame in plan.prompts
        corrected = frame in plan.correction_frames
        task = FrameTask(
            query=MemoryQuery(
                frame_index=frame, num_video_frames=batch.num_frames, mode=mode
            ),
            prompt=simulator.first_prompt(plan.prompts[frame], truth, clicks)
            if prompted
            else None,
            attends=not prompted,
            correct=partial(click_on_errors, simulator, clicks, truth, ignored)
            if corrected
            else None,
            num_corrections=simulator.num_corrections,
        )
        frame_features = features.select(batch.frame_of_object(frame))
        # Nothing attends to the frame that is tracked last.
        if frame == order[-1]:
            outputs[frame] = segment_frame(heads, frame_features, store, task)
            break
        outputs[frame] = tracked = track_frame(heads, frame_features, store, task)
        store.add(frame, tracked.memory, prompted=frame in plan.remembered_frames)
    return tuple(outputs[frame] for frame in sorted(outputs))


def tracking_order(plan: PromptPlan, num_frames: int) -> Iterator[int]:
    """Say in which order frames are tracked.

    Args:
        plan: Which of them are prompted.
        num_frames: T.

    Yields:
        Conditioning frames first, then the others as time runs.
    """
    yield from plan.prompts
    yield from (frame for frame in range(num_frames) if frame not in plan.prompts)
