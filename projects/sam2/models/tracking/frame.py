"""One frame: condition on memory, decode, correct, encode the memory.

::

    track_frame
    ├─ decode_frame
    │   ├─ SAM2Tracker.condition_on_memory   features attend to the selected memories
    │   ├─ SAMHeads.decode                   prompt encoder and mask decoder
    │   └─ (correction click, SAMHeads.decode) * num_corrections
    └─ encode_frame_memory
        └─ SAM2Tracker.encode_memory         mask and features become a memory

Training (:mod:`.clip`) and the video session (:mod:`.session`) run these functions;
in a session, each object has memories of its own (:mod:`.objects`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ...ops import (
    at_least_float32,
    downsample_logits,
    fill_holes,
    match_weights,
    non_overlapping,
    send_to_device,
    upsample_logits,
)
from ...structures import (
    MASKS_PER_CELL,
    DecoderStep,
    EncodedFrame,
    FrameMemory,
    FrameOutput,
    FramePrompt,
    HighRes,
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
)
from ..memory_encoder import MASK_STRIDE
from ..prompt_encoder import PromptEmbeddings, SAM2PromptEncoder
from .promptable import PromptableHeads

# Called with the number of a frame and its features (O, C, H16, W16), conditioned on
# memories.
FeatureObserver = Callable[[int, Tensor], None]
MemoryTokens = tuple[Tensor, Tensor]  # (O, L, Cm) and position encoding (1 | O, L, Cm)
KeyScales = tuple[Tensor, Tensor]  # of R memories (O, R) and of K pointers (O, K)
# Mask probabilities are scaled to [-10, 10] for the memory encoder.
MEMORY_MASK_SCALE = 20.0
MEMORY_MASK_BIAS = -10.0
# Logits of an object judged absent; far below anything the decoder predicts.
NO_OBJECT_LOGIT = -1024.0
# A mask prompt becomes logits of +-10, and so does its object score.
GIVEN_MASK_SCALE = 20.0
GIVEN_MASK_BIAS = -10.0
# With at most one point the prompt is ambiguous: several candidates are decoded.
MAX_AMBIGUOUS_POINTS = 1
FILLED_HOLE_LOGIT = 0.1  # just inside the mask


@MODELS.register_module()
class SAM2Tracker(nn.Module):
    """The memory path of SAM 2 (Ravi et al., 2024, section 4 and appendix D).

    .. code:: text

        condition_on_memory()      memory_bank.select() chose the memories
          object_pointer.tokens()    pointers become tokens
          memory_attention()         features attend to memories and pointers
        encode_memory()
          memory_encoder()           mask and features become a spatial memory
        object_pointer()           the decoder's mask token becomes a pointer

    Args:
        memory_attention: Config of :class:`MemoryAttention`.
        memory_encoder: Config of :class:`MemoryEncoder`.
        memory_bank: Config of :class:`MemoryBank`.
        object_pointer: Config of :class:`SAM2ObjectPointer`.
        no_object_embedding: Memories of frames without the object carry a learned
            embedding (SAM 2.1).
        non_overlapping_memories: In evaluation, let each pixel belong to at most one
            object before the memory is encoded.
        binary_clicked_memories: In evaluation, threshold masks from clicks before they
            are encoded. The released predictors do so; the evaluation of the released
            trainer does not.
        gate_training_masks: In training as well, replace the masks of objects judged
            absent by ``NO_OBJECT_LOGIT``, as the released model was trained. A wrong
            judgement then gives a large focal loss without gradient: switch it off to
            train from random weights.
        memory_pooling: Average squares of cells of this side in the memories that a
            frame attends to; 2 leaves a quarter of the memory tokens.

    Attributes:
        memory_shape: Shape of a spatial memory, in letters; for exports.

    Raises:
        ValueError: If ``memory_pooling`` is not a whole number of at least 1.
    """

    memory_shape: ClassVar[tuple[str, ...]] = ('Cm', 'H16', 'W16')

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
        memory_pooling: int = 1,
    ) -> None:
        super().__init__()
        if type(memory_pooling) is not int or memory_pooling < 1:
            msg = (
                f'memory_pooling is {memory_pooling!r}; give the side of the squares '
                f'of cells that become one memory token, such as 2, or 1 for none'
            )
            raise ValueError(msg)
        self.memory_attention = MODELS.build(memory_attention)
        self.memory_encoder = MODELS.build(memory_encoder)
        self.memory_bank: MemoryBank = MODELS.build(memory_bank)
        self.object_pointer = MODELS.build(object_pointer)
        embed_dims = self.object_pointer.embed_dims
        memory_dims = self.object_pointer.memory_dims
        self.non_overlapping_memories = non_overlapping_memories
        self.binary_clicked_memories = binary_clicked_memories
        self.gate_training_masks = gate_training_masks
        self.memory_pooling = memory_pooling
        self.temporal_embedding = _embedding(
            self.memory_bank.num_frames, 1, 1, memory_dims
        )
        self.no_memory_embedding = _embedding(1, 1, embed_dims)
        # In every released file, although no released model reads it.
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
            selection: Memories to attend to; with None (the first prompted frames) or
                without memories, frames get the learned no-memory embedding.

        Returns:
            (O, C, H16, W16).
        """
        embedding = features.embedding
        if selection is None or not selection.memories:
            return embedding + self.no_memory_embedding.transpose(1, 2)[..., None]
        spatial = [
            self.spatial_tokens(
                memory.spatial[:, None],
                self.temporal_embedding[memory.age - 1][None],  # age 0: the last row
            )
            for memory in selection.memories
        ]
        pointers = self.object_pointer.tokens(selection) if selection.pointers else None
        return self._attend_to_tokens(
            embedding,
            features.position,
            spatial,
            pointers,
            selection.stacked_key_scales(),
        )

    def condition_on_tensors(
        self,
        embedding: Tensor,
        memory: Tensor,
        ages: Tensor,
        pointers: Tensor,
        pointer_times: Tensor,
        key_scales: KeyScales | None = None,
    ) -> Tensor:
        """Condition a frame on memories and pointers that are given as tensors.

        Exported graphs call this: the numbers of memories and pointers are free there.

        Args:
            embedding: Features of the frame, (O | 1, C, H16, W16).
            memory: R spatial memories of each object, (O, R, Cm, H16, W16).
            ages: As in :class:`SelectedMemory`, (R,), int64.
            pointers: (O, K, C), where K may be 0.
            pointer_times: As for :meth:`SAM2ObjectPointer.tokens_at`, (O, K).
            key_scales: As of :meth:`MemorySelection.stacked_key_scales`.

        Returns:
            (O, C, H16, W16).
        """
        spatial = self.spatial_tokens(memory, self.temporal_embedding[ages - 1])
        return self._attend_to_tokens(
            embedding,
            self.position(embedding),
            [spatial],
            self.object_pointer.tokens_at(pointers, pointer_times),
            key_scales,
        )

    @property
    def memory_sizes(self) -> dict[str, int]:
        """Sizes of the letters of ``memory_shape`` that SAM 2 does not have."""
        return {}

    def position(self, embedding: Tensor) -> Tensor:
        """Sine position encoding of the features of a frame, (1, C, H16, W16)."""
        _, channels, height, width = embedding.shape
        encoding = sine_encoding_2d(
            channels=channels, size=(height, width), device=embedding.device
        )
        return match_weights(encoding, self.no_memory_embedding)

    def _attend_to_tokens(
        self,
        embedding: Tensor,
        position: Tensor,
        spatial: list[MemoryTokens],
        pointers: MemoryTokens | None,
        key_scales: KeyScales | None,
    ) -> Tensor:
        """Attend to spatial memories, then to pointers: (O, C, H16, W16)."""
        all_tokens = spatial if pointers is None else [*spatial, pointers]
        tokens, positions = zip(*all_tokens, strict=True)
        num_rows = max(part.shape[0] for part in positions)  # 1, or O
        memory = torch.cat(tokens, dim=1)
        num_pointer_tokens = 0 if pointers is None else pointers[0].shape[1]
        height, width = embedding.shape[-2:]
        attended: Tensor = self.memory_attention(
            tokens=embedding.flatten(2).transpose(1, 2),  # (O, C, h, w) -> (O, N, C)
            position=position.flatten(2).transpose(1, 2),
            memory=memory,
            memory_position=torch.cat(
                [part.expand(num_rows, -1, -1) for part in positions], dim=1
            ),
            num_pointer_tokens=num_pointer_tokens,
            feature_size=(height, width),
            memory_pooling=self.memory_pooling,
            key_scales=None
            if key_scales is None
            else token_scales(
                key_scales,
                memory.shape[1],
                self.object_pointer.embed_dims // self.object_pointer.memory_dims,
            ),
        )
        conditioned: Tensor = attended.transpose(1, 2).unflatten(2, (height, width))
        return conditioned

    def encode_memory(
        self, features: ImageFeatures, logits: Tensor, present: Tensor, *, binary: bool
    ) -> Tensor:
        """Encode the masks of a frame as spatial memories.

        Args:
            logits: Masks at the size of the frame, (O, 1, H, W).
            present: Whether the object is in the frame, (O, 1), bool.
            binary: Threshold the masks; otherwise encode their probabilities.

        Returns:
            (O, Cm, H16, W16).
        """
        logits = upsample_logits(logits, memory_mask_size(features.embedding))
        probs = mask_probs_of(logits, binary=binary)
        return self.encode_mask_memory(features.embedding, probs, present)

    def encode_mask_memory(
        self, embedding: Tensor, mask_probs: Tensor, present: Tensor
    ) -> Tensor:
        """Encode mask probabilities as spatial memories.

        Args:
            embedding: Features of the frame, (O | 1, C, H16, W16).
            mask_probs: In [0, 1], of :func:`memory_mask_size`.
            present: Whether the object is in the frame, (O, 1), bool.

        Returns:
            (O, Cm, H16, W16).
        """
        scaled = mask_probs * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS
        memory: Tensor = self.memory_encoder(
            embedding, match_weights(scaled, self.no_memory_embedding)
        )
        if self.no_object_embedding is None:
            return memory
        absent = 1 - present.to(memory.dtype)
        return memory + (absent * self.no_object_embedding)[..., None, None]

    def spatial_tokens(self, memory: Tensor, temporal: Tensor) -> MemoryTokens:
        """Convert R spatial memories of each object to memory tokens.

        Args:
            memory: (O, R, Cm, H16, W16).
            temporal: Temporal embedding of each memory, (R, 1, 1, Cm).

        Returns:
            Tokens (O, R * N, Cm) and their position encoding, (1, R * N, Cm), for the
            N cells of a pooled map.
        """
        encoding = sine_encoding_2d(
            channels=memory.shape[2],
            size=(memory.shape[3], memory.shape[4]),
            device=memory.device,
        )
        encoding = self._pool(match_weights(encoding, temporal))
        encoding = encoding.flatten(2).transpose(1, 2)
        position = encoding + temporal.flatten(1, 2)  # (R, N, Cm)
        maps = self._pool(memory.to(temporal.dtype).flatten(0, 1))  # (O * R, Cm, h, w)
        # (O * R, Cm, h, w) -> (O, R * N, Cm)
        tokens = maps.flatten(2).transpose(1, 2).unflatten(0, memory.shape[:2])
        return tokens.flatten(1, 2), position.flatten(0, 1)[None]

    def _pool(self, maps: Tensor) -> Tensor:
        """Average squares of cells, those at the edges being smaller: (B, C, h, w)."""
        if self.memory_pooling == 1:
            return maps
        return functional.avg_pool2d(maps, self.memory_pooling, ceil_mode=True)


def token_scales(key_scales: KeyScales, num_tokens: int, num_parts: int) -> Tensor:
    """Factor of the key of each memory token, alike within a memory.

    Args:
        key_scales: Of R memories and of K pointers.
        num_tokens: L.
        num_parts: Number of tokens of a pointer.

    Returns:
        (O, L, 1).
    """
    memories, pointers = key_scales
    num_spatial = num_tokens - num_parts * pointers.shape[1]
    num_cells = num_spatial // memories.shape[1]
    # Not repeat_interleave, which exporters cannot trace for any R and K.
    parts = (
        memories[..., None].expand(-1, -1, num_cells).flatten(1),
        pointers[..., None].expand(-1, -1, num_parts).flatten(1),
    )
    return torch.cat(parts, dim=1)[..., None]


def _embedding(*shape: int) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(shape))
    nn.init.trunc_normal_(parameter, std=0.02)
    return parameter


def memory_mask_size(embedding: Tensor) -> tuple[int, int]:
    """Size of the masks that the memory encoder takes with an image embedding."""
    return MASK_STRIDE * embedding.shape[-2], MASK_STRIDE * embedding.shape[-1]


def low_res_size_of(embedding: Tensor) -> tuple[int, int]:
    """H4 and W4, the size of the decoder's masks, for an image embedding."""
    return MASKS_PER_CELL * embedding.shape[-2], MASKS_PER_CELL * embedding.shape[-1]


def mask_probs_of(logits: Tensor, *, binary: bool) -> Tensor:
    """Probabilities of masks, thresholded if they are to be binary, (O, 1, H, W)."""
    return (logits > 0).to(logits.dtype) if binary else logits.sigmoid()


@dataclass(frozen=True, slots=True, kw_only=True)
class SAMHeads:
    """The prompt encoder and the mask decoder; owns no parameters, the model does.

    Attributes:
        prompt_encoder: Embeds points and earlier masks.
        mask_decoder: Decodes masks.
        tracker: Owns the object pointers and the convolution of mask prompts.
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
        decoded = self._decode(embedding, features, points, previous_logits, mode)
        bank = self.tracker.memory_bank
        is_evaluation = mode is TrackingMode.EVALUATION
        present = decoded.object_score_logits > self._presence_threshold(mode)
        # In float32 under autocast as well: masks are up-sampled or fed back.
        logits = at_least_float32(decoded.mask_logits)  # (O, M, H4, W4)
        if is_evaluation or self.tracker.gate_training_masks:
            logits = gate_masks(logits, present)
        best = decoded.best  # the only candidate, where there is one
        to_pointer, pointers = self.tracker.object_pointer, None
        if is_evaluation and bank.observes_frames:
            pointers = to_pointer(decoded.mask_tokens, present[:, None])  # (O, M, C)
            pointer = pointers[best]
        else:
            pointer = to_pointer(decoded.mask_tokens[best], present)
        return DecoderStep(
            candidate_logits=logits,
            candidate_ious=decoded.ious,
            mask_logits=logits[best][:, None],  # (O, 1, H4, W4)
            object_pointer=pointer,
            object_score_logits=decoded.object_score_logits,
            points=points,
            candidate_pointers=pointers,
        )

    def decode_image(
        self,
        *,
        embedding: Tensor,
        high_res: HighRes,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode the masks of an image, ignoring the object score.

        Args:
            embedding: Features of a frame without memory, (O | 1, C, H16, W16).
            high_res: Of :class:`ImageFeatures`.
            points: Points and boxes; None adds no padding point either.
            previous_logits: Masks of the previous step, (O | 1, 1, H4, W4), or None.
            multimask: Decode three masks for an ambiguous prompt, not one.

        Returns:
            Mask logits (O, M, H4, W4) and their estimated IoU (O, M).
        """
        decoded = self.mask_decoder(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(
                embedding,
                points,
                previous_logits,
                num_objects=1 if points is None else len(points.coords),
            ),
            high_res=high_res,
            multimask=multimask,
            select_by_stability=True,
        )
        return at_least_float32(decoded.mask_logits), decoded.ious

    def use_mask_as_output(
        self, *, mask: Tensor, features: ImageFeatures, mode: TrackingMode
    ) -> DecoderStep:
        """Take a mask prompt as the mask of the frame.

        Args:
            mask: (O, 1, H, W), bool.

        Returns:
            The mask as logits; only the object pointer comes from the decoder.
        """
        pointer = self.mask_pointer(embedding=features.embedding, mask=mask, mode=mode)
        return given_mask_step(mask, pointer, low_res_size_of(features.embedding))

    def mask_pointer(
        self, *, embedding: Tensor, mask: Tensor, mode: TrackingMode
    ) -> Tensor:
        """Object pointers of given masks.

        Args:
            embedding: Features of the frame, (O | 1, C, H16, W16).
            mask: (O, 1, H, W), of 0 and 1.

        Returns:
            (O, C); the no-object pointer where the mask is empty or the decoder judges
            the object absent.
        """
        given = mask.to(embedding.dtype)
        token, object_score = self.mask_decoder.encode_mask_prompt(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(
                embedding,
                padding_point(given),
                self._mask_prompt_logits(given, embedding),
                num_objects=given.shape[0],
            ),
        )
        pointers = self.tracker.object_pointer
        pointer = pointers(token, object_score > self._presence_threshold(mode))
        present = mask.flatten(1).any(dim=1, keepdim=True)
        blended: Tensor = pointers.blend(pointer, present)
        return blended

    def _mask_prompt_logits(self, mask: Tensor, embedding: Tensor) -> Tensor:
        """Convert masks (O, 1, H, W) to logits that refine a mask, (O, 1, H4, W4)."""
        logits: Tensor = self.tracker.mask_prompt_downsample(mask)
        size = low_res_size_of(embedding)
        # A quarter of the frame has that size only where the stride is 16.
        return logits if logits.shape[-2:] == size else downsample_logits(logits, size)

    def _decode(
        self,
        embedding: Tensor,
        features: ImageFeatures,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        mode: TrackingMode,
    ) -> MaskDecoderOutput:
        output: MaskDecoderOutput = self.mask_decoder(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(
                embedding,
                padding_point(embedding) if points is None else points,
                previous_logits,
                num_objects=embedding.shape[0],
            ),
            high_res=features.high_res,
            multimask=is_ambiguous(points),
            select_by_stability=mode is TrackingMode.EVALUATION,
        )
        return output

    def _presence_threshold(self, mode: TrackingMode) -> float:
        """Object score above which an object counts as present."""
        if mode is TrackingMode.TRAINING:
            return 0.0
        return self.tracker.memory_bank.presence_threshold

    def _position(self, embedding: Tensor) -> Tensor:
        """Position encoding of an embedding, (1, C, H16, W16)."""
        size = (embedding.shape[-2], embedding.shape[-1])
        return self.prompt_encoder.dense_position(size)

    def _prompts(
        self,
        embedding: Tensor,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        *,
        num_objects: int,
    ) -> PromptEmbeddings:
        prompts: PromptEmbeddings = self.prompt_encoder(
            points=points,
            mask_logits=previous_logits,
            embedding_size=(embedding.shape[-2], embedding.shape[-1]),
            num_objects=num_objects,
        )
        return prompts


def padding_point(objects: Tensor) -> PointPrompt:
    """One padding point for each object: the model was trained to expect a point."""
    num_objects, device = objects.shape[0], objects.device
    return PointPrompt(
        coords=torch.zeros(num_objects, 1, 2, device=device),
        labels=torch.full(
            (num_objects, 1), PointLabel.PADDING, dtype=torch.int32, device=device
        ),
    )


def is_ambiguous(points: PointPrompt | None) -> bool:
    """Whether a prompt is ambiguous, so that several candidates are decoded."""
    return points is None or points.num_points <= MAX_AMBIGUOUS_POINTS


def gate_masks(logits: Tensor, present: Tensor) -> Tensor:
    """Replace the masks of objects judged absent by ``NO_OBJECT_LOGIT``.

    Args:
        logits: (O, M, H4, W4).
        present: (O, 1), bool.
    """
    return torch.where(present[..., None, None], logits, NO_OBJECT_LOGIT)


def best_masks(logits: Tensor, ious: Tensor) -> Tensor:
    """Choose the mask with the highest estimated IoU.

    Args:
        logits: (O, M, H4, W4).
        ious: (O, M).

    Returns:
        (O, 1, H4, W4).
    """
    objects = torch.arange(len(ious), device=ious.device)
    return logits[objects, ious.argmax(dim=1)][:, None]


def given_mask_step(
    mask: Tensor, object_pointer: Tensor, low_res_size: tuple[int, int]
) -> DecoderStep:
    """The output of a frame whose masks are given.

    Args:
        mask: (O, 1, H, W), bool.
        object_pointer: Of :meth:`SAMHeads.mask_pointer`, (O, C).
        low_res_size: H4 and W4.
    """
    given = at_least_float32(mask.to(object_pointer.dtype))
    full_logits = given * GIVEN_MASK_SCALE + GIVEN_MASK_BIAS
    logits = downsample_logits(full_logits, low_res_size)
    present = mask.flatten(1).any(dim=1, keepdim=True)  # (O, 1)
    scores = present * GIVEN_MASK_SCALE + GIVEN_MASK_BIAS
    return DecoderStep(
        candidate_logits=logits,
        candidate_ious=torch.ones_like(scores),
        mask_logits=logits,
        object_pointer=object_pointer,
        object_score_logits=scores,
        full_logits=full_logits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTask:
    """What to do on a frame.

    Attributes:
        query: The frame and the direction of the pass.
        prompt: The first prompt, or None on a frame that is only tracked.
        uses_memory: The frame attends to memories; False on the first prompted frames.
        correct: Returns the next correction click for the masks of the previous step,
            (O, 1, H, W), logits; None where no clicks are simulated.
        num_corrections: Number of correction clicks.
        reread_prompt: Encode the memory of a prompted frame, with a mask too, as an
            interactive session does: from the low-resolution mask, up-sampled and
            binarised. Otherwise a mask prompt is encoded as it was given.
        previous_logits: Masks of an earlier step on this frame, (O, 1, H4, W4), that
            the points refine; or None.
        observe: Called with the features, if the frame attends to memories; or None.
    """

    query: MemoryQuery
    prompt: FramePrompt | None = None
    uses_memory: bool = True
    correct: Callable[[Tensor], PointPrompt] | None = None
    num_corrections: int = 0
    reread_prompt: bool = False
    previous_logits: Tensor | None = None
    observe: FeatureObserver | None = None

    @property
    def mask(self) -> Tensor | None:
        """The mask prompt, (O, 1, H, W), or None."""
        return None if self.prompt is None else self.prompt.mask

    @property
    def points(self) -> PointPrompt | None:
        """The points of the prompt, or None."""
        return None if self.prompt is None else self.prompt.points


def track_frame(
    heads: PromptableHeads, features: ImageFeatures, store: MemoryStore, task: FrameTask
) -> EncodedFrame:
    """Segment the objects of a frame and encode their memory."""
    steps = segment_frame(heads, features, store, task).steps
    return encode_frame_memory(heads, features, steps, task)


def segment_frame(
    heads: PromptableHeads, features: ImageFeatures, store: MemoryStore, task: FrameTask
) -> FrameOutput:
    """Segment the objects of a frame that no other frame attends to."""
    selection = select_memories(heads, store, task)
    steps = decode_frame(heads, features, selection, task)
    return FrameOutput(frame_index=task.query.frame_index, steps=steps)


def select_memories(
    heads: PromptableHeads, store: MemoryStore, task: FrameTask
) -> MemorySelection | None:
    """Select the memories that a frame attends to; None where it attends to none.

    Raises:
        ValueError: If it needs memories and no frame was prompted yet.
    """
    if task.mask is not None or not task.uses_memory:
        return None
    return heads.tracker.memory_bank.select(store, task.query)


def decode_frame(
    heads: PromptableHeads,
    features: ImageFeatures,
    selection: MemorySelection | None,
    task: FrameTask,
) -> tuple[DecoderStep, ...]:
    """Decode the masks of a frame: the first step, then one for each correction."""
    mode = task.query.mode
    if task.mask is not None:
        step = heads.use_mask_as_output(mask=task.mask, features=features, mode=mode)
        return (step,)
    embedding = heads.tracker.condition_on_memory(features, selection)
    if task.observe is not None and selection is not None and selection.memories:
        task.observe(task.query.frame_index, embedding)
    points = task.points
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
    for _ in range(task.num_corrections):
        # No gradient flows through the choice of the click.
        shown = upsample_logits(steps[-1].mask_logits.detach(), features.frame_size)
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


def encode_frame_memory(
    heads: PromptableHeads,
    features: ImageFeatures,
    steps: tuple[DecoderStep, ...],
    task: FrameTask,
    *,
    conditions: Sequence[bool] = (),
) -> EncodedFrame:
    """Encode the masks of the last step as a memory.

    Args:
        conditions: For each object, whether its mask is thresholded before, as that of
            a prompted frame (:class:`Decision`); empty where this holds for none.
    """
    last = steps[-1]
    full_logits = last.full_logits
    if full_logits is None or task.reread_prompt:
        full_logits = upsample_logits(last.mask_logits, features.frame_size)
    tracker, binary = heads.tracker, False
    if task.query.mode is TrackingMode.EVALUATION:
        if tracker.non_overlapping_memories:
            full_logits = non_overlapping(full_logits)
        is_reread_prompt = task.reread_prompt and task.prompt is not None
        is_prompted = last.points is not None or is_reread_prompt
        binary = tracker.binary_clicked_memories and is_prompted
    if any(conditions):
        full_logits = _threshold_rows(full_logits, conditions)
    spatial = tracker.encode_memory(
        features, full_logits, last.object_score_logits > 0, binary=binary
    )
    memory = FrameMemory(
        spatial=spatial,
        object_pointer=last.object_pointer,
        ious=last.ious.detach(),
        object_score_logits=last.object_score_logits.detach(),
    )
    frame_index = task.query.frame_index
    return EncodedFrame(frame_index=frame_index, steps=steps, memory=memory)


def _threshold_rows(logits: Tensor, rows: Sequence[bool]) -> Tensor:
    """Logits whose probabilities are exactly 0 and 1, for some of the objects.

    Args:
        logits: (O, 1, H, W).
        rows: One for each object.
    """
    given = send_to_device(torch.tensor(rows), logits.device)[:, None, None, None]
    return torch.where(given, torch.where(logits > 0, torch.inf, -torch.inf), logits)


def fill_small_holes(logits: Tensor, max_area: float) -> Tensor:
    """Fill the holes of masks of up to ``max_area`` pixels; 0 fills none.

    Args:
        logits: (O, 1, H4, W4).
    """
    if max_area <= 0:
        return logits
    return fill_holes(logits, max_area=max_area, value=FILLED_HOLE_LOGIT)
