"""Memory in and out: what a frame recalls, and what is remembered of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ...ops import (
    at_least_float32,
    downsample_logits,
    match_weights,
    non_overlapping,
    upsample_logits,
)
from ...structures import (
    DecoderStep,
    EncodedFrame,
    FrameMemory,
    FrameOutput,
    FramePrompt,
    ImageFeatures,
    PointLabel,
    PointPrompt,
    TrackingMode,
)
from ..layers import sine_encoding_2d
from ..mask_decoder import MaskDecoderOutput, SAM2MaskDecoder
from ..memory_bank import (
    MemoryBank,
    MemoryQuery,
    MemorySelection,
    MemoryStore,
    join_selections,
)
from ..prompt_encoder import PromptEmbeddings, SAM2PromptEncoder

# Mask probabilities are stretched to [-10, 10] before they are remembered.
MEMORY_MASK_SCALE = 20.0
MEMORY_MASK_BIAS = -10.0


@MODELS.register_module()
class SAM2Tracker(nn.Module):
    """The memory path of SAM 2 (Ravi et al., 2024, section 4 and appendix D).

    Args:
        memory_attention: Config of :class:`MemoryAttention`.
        memory_encoder: Config of :class:`MemoryEncoder`.
        memory_bank: Config of :class:`MemoryBank`.
        object_pointer: Config of :class:`SAM2ObjectPointer`.
        no_object_embedding: Memories of frames without the object carry a learned
            embedding (SAM 2.1).
        non_overlapping_memories: In evaluation, let each pixel belong to at most one
            object before it is remembered.
        binary_clicked_memories: In evaluation, remember masks from clicks as decided:
            thresholded, not as probabilities. The released predictors do; the
            released trainer, when it evaluates, does not.
        gate_training_masks: In training, too, replace the masks of objects judged
            absent by ``NO_OBJECT_LOGIT``, as the released model was trained. It gives
            a large focal loss without gradient where the judgement is wrong: switch it
            off to train from random weights.
    """

    def __init__(
        self,
        *,
        memory_attention: dict[str, object],
        memory_encoder: dict[str, object],
        memory_bank: dict[str, object],
        object_pointer: dict[str, object],
        no_object_embedding: bool = True,
        non_overlapping_memories: bool = False,
        binary_clicked_memories: bool = True,
        gate_training_masks: bool = True,
    ) -> None:
        super().__init__()
        self.memory_attention = MODELS.build(memory_attention)
        self.memory_encoder = MODELS.build(memory_encoder)
        self.memory_bank: MemoryBank = MODELS.build(memory_bank)
        self.object_pointer = MODELS.build(object_pointer)
        embed_dims = self.object_pointer.embed_dims
        memory_dims = self.object_pointer.memory_dims
        self.non_overlapping_memories = non_overlapping_memories
        self.binary_clicked_memories = binary_clicked_memories
        self.gate_training_masks = gate_training_masks
        self.temporal_embedding = _embedding(
            self.memory_bank.num_frames, 1, 1, memory_dims
        )
        self.no_memory_embedding = _embedding(1, 1, embed_dims)
        # Part of every released file, read by no released model.
        self.no_memory_position = _embedding(1, 1, embed_dims)
        self.no_object_embedding = (
            _embedding(1, memory_dims) if no_object_embedding else None
        )
        self.mask_prompt_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)

    def condition_on_memory(
        self, features: ImageFeatures, selection: MemorySelection | None
    ) -> Tensor:
        """Condition the features of a frame on memories.

        Args:
            selection: What to attend to; with None (the first prompted frames) or
                no memories, frames get the learned no-memory embedding.

        Returns:
            (O, C, H16, W16).
        """
        embedding = features.embedding
        if selection is None or not selection.memories:
            return embedding + self.no_memory_embedding.transpose(1, 2)[..., None]
        memory, position, num_pointer_tokens = self._memory_tokens(selection)
        height, width = embedding.shape[-2:]
        attended: Tensor = self.memory_attention(
            tokens=embedding.flatten(2).transpose(1, 2),  # (O, C, h, w) -> (O, N, C)
            position=features.position.flatten(2).transpose(1, 2),
            memory=memory,
            memory_position=position,
            num_pointer_tokens=num_pointer_tokens,
            feature_size=(height, width),
        )
        conditioned: Tensor = attended.transpose(1, 2).unflatten(2, (height, width))
        return conditioned

    def encode_memory(
        self, features: ImageFeatures, logits: Tensor, present: Tensor, *, binary: bool
    ) -> Tensor:
        """Encode the masks of a frame as spatial memories.

        Args:
            logits: Masks at the size of the frame, (O, 1, H, W).
            present: Is the object in the frame?, (O, 1), bool.

        Returns:
            (O, Cm, H16, W16).
        """
        mask = (logits > 0).to(logits.dtype) if binary else logits.sigmoid()
        scaled = mask * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS
        memory: Tensor = self.memory_encoder(
            features.embedding, match_weights(scaled, self.no_memory_embedding)
        )
        if self.no_object_embedding is None:
            return memory
        absent = 1 - present.to(memory.dtype)
        return memory + (absent * self.no_object_embedding)[..., None, None]

    def non_overlapping_logits(self, logits: Tensor) -> Tensor:
        """Let each pixel belong to one object, where the tracker is set to do so.

        Args:
            logits: Masks of the objects of one video, (O, 1, H, W).

        Returns:
            (O, 1, H, W).
        """
        return non_overlapping(logits) if self.non_overlapping_memories else logits

    def _memory_tokens(self, selection: MemorySelection) -> tuple[Tensor, Tensor, int]:
        """Memory tokens (O, N, Cm), their positions, and how many are pointers."""
        tokens: list[Tensor] = []
        positions: list[Tensor] = []
        for recalled in selection.memories:
            spatial = recalled.spatial.to(self.temporal_embedding.dtype)
            encoding = sine_encoding_2d(
                channels=spatial.shape[1],
                size=(spatial.shape[2], spatial.shape[3]),
                device=spatial.device,
            )
            row = self.temporal_embedding[recalled.age - 1]  # age 0: the last row
            tokens.append(spatial.flatten(2).transpose(1, 2))
            encoding = match_weights(encoding, row)
            positions.append(encoding.flatten(2).transpose(1, 2) + row)
        num_pointer_tokens = 0
        if selection.pointers:
            pointer_tokens, pointer_position = self.object_pointer.tokens(selection)
            num_pointer_tokens = pointer_tokens.shape[1]
            tokens.append(pointer_tokens)
            positions.append(pointer_position)
        rows = max(len(position) for position in positions)  # 1, or one per object
        position = torch.cat([p.expand(rows, -1, -1) for p in positions], dim=1)
        return torch.cat(tokens, dim=1), position, num_pointer_tokens


def _embedding(*shape: int) -> nn.Parameter:
    """A learned embedding with the usual start."""
    parameter = nn.Parameter(torch.zeros(shape))
    nn.init.trunc_normal_(parameter, std=0.02)
    return parameter


# Logits of an object judged absent; far below anything the decoder gives.
NO_OBJECT_LOGIT = -1024.0
# A mask prompt becomes logits of +-10, and so does its object score.
GIVEN_MASK_SCALE = 20.0
GIVEN_MASK_BIAS = -10.0
# Several candidates are decoded while the prompt is ambiguous: at most one point.
MAX_AMBIGUOUS_POINTS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SAMHeads:
    """The prompt encoder and the mask decoder, working together.

    It owns no parameters: the model does.

    Attributes:
        prompt_encoder: Embeds points and earlier masks.
        mask_decoder: Decodes masks.
        tracker: Owns the object pointers and the way to read mask prompts.
    """

    prompt_encoder: SAM2PromptEncoder
    mask_decoder: SAM2MaskDecoder
    tracker: SAM2Tracker

    def decode(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        mode: TrackingMode,
        points: PointPrompt | None = None,
        previous_logits: Tensor | None = None,
    ) -> DecoderStep:
        """Decode the masks of a frame.

        Args:
            embedding: Features conditioned on memory, (O, C, H16, W16).
            points: All points given on the frame so far, or None.
            previous_logits: Masks of the previous step, (O, 1, H4, W4), or None.
        """
        multimask = points is None or points.num_points <= MAX_AMBIGUOUS_POINTS
        decoded = self._run(
            embedding=embedding,
            features=features,
            points=points,
            previous_logits=previous_logits,
            multimask=multimask,
            mode=mode,
        )
        present = decoded.object_score_logits > 0
        # Also under autocast: what is enlarged, remembered and fed back stays fine.
        logits = at_least_float32(decoded.mask_logits)
        if mode is TrackingMode.EVALUATION or self.tracker.gate_training_masks:
            logits = torch.where(present[..., None, None], logits, NO_OBJECT_LOGIT)
        best = decoded.ious.argmax(dim=1)
        objects = torch.arange(len(best), device=best.device)
        # One candidate alone comes with one token; so best is 0 for both.
        return DecoderStep(
            candidate_logits=logits,
            candidate_ious=decoded.ious,
            mask_logits=logits[objects, best][:, None],
            object_pointer=self.tracker.object_pointer(
                decoded.mask_tokens[objects, best], present
            ),
            object_score_logits=decoded.object_score_logits,
            points=points,
        )

    def predict_masks(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        points: PointPrompt,
        previous_logits: Tensor | None = None,
    ) -> Tensor:
        """Decode the masks of an image; whether objects are there is not asked.

        Args:
            embedding: Features of a frame without memory, (O, C, H16, W16).
            previous_logits: Masks of the previous answer, (O, 1, H4, W4), or None.

        Returns:
            The mask with the highest estimate of its IoU, (O, 1, H4, W4), logits.
        """
        decoded = self._run(
            embedding=embedding,
            features=features,
            points=points,
            previous_logits=previous_logits,
            multimask=points.num_points <= MAX_AMBIGUOUS_POINTS,
            mode=TrackingMode.EVALUATION,
        )
        best = decoded.ious.argmax(dim=1)
        objects = torch.arange(len(best), device=best.device)
        return at_least_float32(decoded.mask_logits)[objects, best][:, None]

    def use_mask_as_output(
        self, *, mask: Tensor, features: ImageFeatures
    ) -> DecoderStep:
        """Take a mask prompt as the mask of the frame.

        Args:
            mask: (O, 1, H, W), bool.

        Returns:
            The mask as logits; the decoder gives the object pointer alone.
        """
        given = mask.to(features.embedding.dtype)
        full_logits = at_least_float32(given) * GIVEN_MASK_SCALE + GIVEN_MASK_BIAS
        height, width = mask.shape[-2:]
        logits = downsample_logits(full_logits, (height // 4, width // 4))
        embedding = features.embedding
        token, object_score = self.mask_decoder.read(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(
                embedding, None, self.tracker.mask_prompt_downsample(given)
            ),
        )
        pointers = self.tracker.object_pointer
        pointer = pointers(token, object_score > 0)
        present = mask.flatten(1).any(dim=1, keepdim=True)
        return DecoderStep(
            candidate_logits=logits,
            candidate_ious=torch.ones_like(object_score),
            mask_logits=logits,
            # Both judgements count: the decoder's above, and the mask's own.
            object_pointer=pointers.blend(pointer, present),
            object_score_logits=present * GIVEN_MASK_SCALE + GIVEN_MASK_BIAS,
            full_logits=full_logits,
        )

    def _run(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        multimask: bool,
        mode: TrackingMode,
    ) -> MaskDecoderOutput:
        """Encode the prompt and decode."""
        output: MaskDecoderOutput = self.mask_decoder(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(embedding, points, previous_logits),
            high_res=(features.high_res_8, features.high_res_4),
            multimask=multimask,
            select_by_stability=mode is TrackingMode.EVALUATION,
        )
        return output

    def _position(self, embedding: Tensor) -> Tensor:
        """Position encoding of an embedding, (1, C, H16, W16)."""
        size = (embedding.shape[-2], embedding.shape[-1])
        return self.prompt_encoder.dense_position(size)

    def _prompts(
        self,
        embedding: Tensor,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
    ) -> PromptEmbeddings:
        """Encode the prompts of all objects."""
        prompts: PromptEmbeddings = self.prompt_encoder(
            points=_no_point(embedding) if points is None else points,
            mask_logits=previous_logits,
            embedding_size=(embedding.shape[-2], embedding.shape[-1]),
            num_objects=embedding.shape[0],
        )
        return prompts


def _no_point(embedding: Tensor) -> PointPrompt:
    """One padding point for each object: the model was trained to expect a point."""
    num_objects = embedding.shape[0]
    return PointPrompt(
        coords=embedding.new_zeros(num_objects, 1, 2, dtype=torch.float32),
        labels=torch.full(
            (num_objects, 1),
            PointLabel.PADDING,
            dtype=torch.int32,
            device=embedding.device,
        ),
    )


STRIDE = 16  # of the features that memories are made of


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTask:
    """What there is to do on a frame.

    Attributes:
        query: The frame and the direction of the pass.
        prompt: The first prompt, or None on a frame that is only tracked.
        uses_memory: The frame attends to memories; False on the first prompted frames.
        correct: Gives the next correction click from the step before, (O, 1, H, W)
            logits; None where no clicks are simulated.
        num_corrections: How often to ask for one.
        reread_prompt: Remember prompted frames the way an interactive session does:
            masks up-sampled from low resolution and binarised.
        previous_logits: Masks of an earlier answer on this frame, (O, 1, H4, W4), that
            points refine; or None.
    """

    query: MemoryQuery
    prompt: FramePrompt | None = None
    uses_memory: bool = True
    correct: Callable[[Tensor], PointPrompt] | None = None
    num_corrections: int = 0
    reread_prompt: bool = False
    previous_logits: Tensor | None = None


def track_frame(
    heads: SAMHeads, features: ImageFeatures, store: MemoryStore, task: FrameTask
) -> EncodedFrame:
    """Segment the objects of a frame and make a memory of them."""
    segmented = segment_frame(heads, features, store, task)
    return encode_frame_memory(heads, features, segmented.steps, task)


def segment_frame(
    heads: SAMHeads, features: ImageFeatures, store: MemoryStore, task: FrameTask
) -> FrameOutput:
    """Segment the objects of a frame that no other attends to."""
    selection = select_memories(heads, store, task)
    steps = decode_frame(heads, features, selection, task)
    return FrameOutput(frame_index=task.query.frame_index, steps=steps)


def select_memories(
    heads: SAMHeads, store: MemoryStore, task: FrameTask
) -> MemorySelection | None:
    """Choose what a frame attends to.

    Returns:
        Memories, or None where the frame attends to none.

    Raises:
        ValueError: If it shall attend, and no frame was prompted yet.
    """
    given = task.prompt is not None and task.prompt.mask is not None
    if given or not task.uses_memory:
        return None
    return heads.tracker.memory_bank.select(store, task.query)


def encode_frame_memory(
    heads: SAMHeads,
    features: ImageFeatures,
    steps: tuple[DecoderStep, ...],
    task: FrameTask,
) -> EncodedFrame:
    """Make a memory of what was decoded on a frame."""
    last = steps[-1]
    size = tuple(STRIDE * side for side in features.embedding.shape[-2:])
    full_logits = last.full_logits
    if full_logits is None or task.reread_prompt:
        full_logits = upsample_logits(last.mask_logits, (size[0], size[1]))
    evaluation = task.query.mode is TrackingMode.EVALUATION
    tracker = heads.tracker
    reread = task.reread_prompt and task.prompt is not None
    decided = tracker.binary_clicked_memories and (last.points is not None or reread)
    spatial = tracker.encode_memory(
        features,
        tracker.non_overlapping_logits(full_logits) if evaluation else full_logits,
        last.object_score_logits > 0,
        binary=evaluation and decided,
    )
    memory = FrameMemory(spatial=spatial, object_pointer=last.object_pointer)
    frame_index = task.query.frame_index
    return EncodedFrame(frame_index=frame_index, steps=steps, memory=memory)


def decode_frame(
    heads: SAMHeads,
    features: ImageFeatures,
    selection: MemorySelection | None,
    task: FrameTask,
) -> tuple[DecoderStep, ...]:
    """Segment the objects of a frame."""
    mode = task.query.mode
    if task.prompt is not None and task.prompt.mask is not None:
        return (heads.use_mask_as_output(mask=task.prompt.mask, features=features),)
    embedding = heads.tracker.condition_on_memory(features, selection)
    points = None if task.prompt is None else task.prompt.points
    step = heads.decode(
        embedding=embedding,
        features=features,
        mode=mode,
        points=points,
        previous_logits=task.previous_logits,
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
            previous_logits=steps[-1].mask_logits,
        )
        steps.append(step)
    return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBatch:
    """Objects that were tracked together on a frame.

    Attributes:
        positions: Which of the objects asked for, one for each row of ``output``.
        output: What was decoded and remembered of them.
    """

    positions: tuple[int, ...]
    output: EncodedFrame


def track_objects(
    heads: SAMHeads,
    stores: Sequence[MemoryStore],
    features: ImageFeatures,
    query: MemoryQuery,
    *,
    max_batch_objects: int,
) -> Iterator[ObjectBatch]:
    """Track objects on a frame without a prompt; nothing is changed.

    Objects that attend to the same number of memories go in one batch. What does not
    depend on memories, like the first self-attention, is done once for all.
    """
    recalled = [heads.tracker.memory_bank.select(store, query) for store in stores]
    groups: dict[object, list[int]] = {}
    for position, selection in enumerate(recalled):
        groups.setdefault(selection.shape, []).append(position)
    for members in groups.values():
        for first in range(0, len(members), max_batch_objects):
            batch = tuple(members[first : first + max_batch_objects])
            selection = join_selections([recalled[position] for position in batch])
            shared = features
            if not selection.memories:  # nothing says how many objects there are
                device = features.embedding.device
                every = torch.zeros(len(batch), dtype=torch.int64, device=device)
                shared = features.select(every)
            task = FrameTask(query=query)
            steps = decode_frame(heads, shared, selection, task)
            yield ObjectBatch(
                positions=batch,
                output=encode_frame_memory(heads, shared, steps, task),
            )
