"""One frame through the model: recall, decode, correct, memorise.

Training, validation and the predictors track with this one routine.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from projects.sam2.models.mask_heads import MaskHeads
from projects.sam2.models.memory_bank import MemoryStore
from projects.sam2.models.memory_selection import MemoryQuery, MemorySelection
from projects.sam2.ops import upsample_logits
from projects.sam2.structures import (
    DecoderStep,
    FrameMemory,
    FrameOutput,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    RememberedFrame,
    TrackingMode,
)

STRIDE = 16  # of the features that memories are made of


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTask:
    """What there is to do on a frame.

    Attributes:
        query: The frame and the direction of the pass.
        prompt: The first prompt, or None on a frame that is only tracked.
        attends: The frame attends to memories; False on the first prompted frames.
        correct: Gives the next correction click from the step before, (O, 1, H, W)
            logits; None where no clicks are simulated.
        num_corrections: How often to ask for one.
        reread_prompt: Remember prompted frames the way an interactive session does:
            masks up-sampled from low resolution and binarised.
        earlier_logits: Masks of an earlier answer on this frame, (O, 1, H4, W4), that
            points refine; or None.
    """

    query: MemoryQuery
    prompt: FramePrompt | None = None
    attends: bool = True
    correct: Callable[[Tensor], PointPrompt] | None = None
    num_corrections: int = 0
    reread_prompt: bool = False
    earlier_logits: Tensor | None = None


def track_frame(
    heads: MaskHeads, features: ImageFeatures, store: MemoryStore, task: FrameTask
) -> RememberedFrame:
    """Segment the objects of a frame and make a memory of them.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        features: Of the frame, one for each object.
        store: Memories so far; read, not changed.
        task: The frame, its prompt and its corrections.

    Returns:
        All decoding steps and the memory.
    """
    segmented = segment_frame(heads, features, store, task)
    return remember_frame(heads, features, segmented.steps, task)


def segment_frame(
    heads: MaskHeads, features: ImageFeatures, store: MemoryStore, task: FrameTask
) -> FrameOutput:
    """Segment the objects of a frame that no other attends to.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        features: Of the frame, one for each object.
        store: Memories so far; read, not changed.
        task: The frame, its prompt and its corrections.

    Returns:
        All decoding steps.
    """
    selection = recall_memories(heads, store, task)
    steps = decode_frame(heads, features, selection, task)
    return FrameOutput(frame_index=task.query.frame_index, steps=steps)


def recall_memories(
    heads: MaskHeads, store: MemoryStore, task: FrameTask
) -> MemorySelection | None:
    """Choose what a frame attends to.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        store: Memories so far.
        task: The frame and its prompt.

    Returns:
        Memories, or None where the frame attends to none.

    Raises:
        ValueError: If it shall attend, and no frame was prompted yet.
    """
    given = task.prompt is not None and task.prompt.mask is not None
    if given or not task.attends:
        return None
    return heads.tracker.memory_bank.select(store, task.query)


def remember_frame(
    heads: MaskHeads,
    features: ImageFeatures,
    steps: tuple[DecoderStep, ...],
    task: FrameTask,
) -> RememberedFrame:
    """Make a memory of what was decoded on a frame.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        features: Of the frame, one for each object.
        steps: What was decoded; the last step is remembered.
        task: The frame and its prompt.

    Returns:
        The steps and the memory.
    """
    last = steps[-1]
    size = tuple(STRIDE * side for side in features.embedding.shape[-2:])
    full_logits = last.full_logits
    if full_logits is None or task.reread_prompt:
        full_logits = upsample_logits(last.mask_logits, (size[0], size[1]))
    evaluation = task.query.mode is TrackingMode.EVALUATION
    tracker = heads.tracker
    reread = task.reread_prompt and task.prompt is not None
    decided = tracker.binary_clicked_memories and (last.points is not None or reread)
    spatial = tracker.memorise(
        features,
        tracker.separate(full_logits) if evaluation else full_logits,
        last.object_score_logits > 0,
        binary=evaluation and decided,
    )
    memory = FrameMemory(spatial=spatial, object_pointer=last.object_pointer)
    frame_index = task.query.frame_index
    return RememberedFrame(frame_index=frame_index, steps=steps, memory=memory)


def decode_frame(
    heads: MaskHeads,
    features: ImageFeatures,
    selection: MemorySelection | None,
    task: FrameTask,
) -> tuple[DecoderStep, ...]:
    """Segment the objects of a frame.

    Args:
        heads: Prompt encoder, mask decoder and tracker.
        features: Of the frame, one for each object.
        selection: What the frame attends to.
        task: The frame, its prompt and its corrections.

    Returns:
        The first answer, then one for each correction click.
    """
    mode = task.query.mode
    if task.prompt is not None and task.prompt.mask is not None:
        return (heads.adopt(mask=task.prompt.mask, features=features),)
    embedding = heads.tracker.recall(features, selection)
    points = None if task.prompt is None else task.prompt.points
    step = heads.decode(
        embedding=embedding,
        features=features,
        mode=mode,
        points=points,
        earlier_logits=task.earlier_logits,
    )
    steps = [step]
    if task.correct is None:
        return (step,)
    size = (STRIDE * embedding.shape[-2], STRIDE * embedding.shape[-1])
    for _ in range(task.num_corrections):
        # A click is a decision, not something to learn through.
        shown = upsample_logits(steps[-1].mask_logits.detach(), size)
        click = task.correct(shown)
        points = click if points is None else points.followed_by(click)
        step = heads.decode(
            embedding=embedding,
            features=features,
            mode=mode,
            points=points,
            earlier_logits=steps[-1].mask_logits,
        )
        steps.append(step)
    return tuple(steps)
