"""Memory in and out: what a frame recalls, and what is remembered of it."""

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.sam2.models.layers import sine_encoding_2d
from projects.sam2.models.memory_bank import MemoryBank, MemorySelection
from projects.sam2.ops import match_weights, non_overlapping
from projects.sam2.structures import ImageFeatures

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

    def recall(
        self, features: ImageFeatures, selection: MemorySelection | None
    ) -> Tensor:
        """Condition the features of a frame on memories.

        Args:
            features: Of the frame, one for each object.
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

    def memorise(
        self, features: ImageFeatures, logits: Tensor, present: Tensor, *, binary: bool
    ) -> Tensor:
        """Encode the masks of a frame as spatial memories.

        Args:
            features: Of the frame, one for each object, not conditioned on memory.
            logits: Masks at the size of the frame, (O, 1, H, W).
            present: Is the object in the frame?, (O, 1), bool.
            binary: Threshold the masks in place of taking their probabilities.

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

    def separate(self, logits: Tensor) -> Tensor:
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
