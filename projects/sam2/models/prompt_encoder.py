"""Prompt encoder: embeds points, boxes and masks (Kirillov et al., 2023, section 3)."""

from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ..ops import match_weights
from ..structures import EMBEDDING_STRIDE, PointLabel, PointPrompt
from .layers import FourierPositionEncoding, LayerNorm2d

# Negative and positive points, and the two corners of a box.
NUM_POINT_EMBEDDINGS = 4
# As a plain number: torch.compile does not compare tensors with members of an enum.
PADDING = PointLabel.PADDING.value
MASK_CHANNELS = 16  # between the convolutions on a mask


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEmbeddings:
    """The embeddings of a prompt, input of the mask decoder.

    Attributes:
        sparse: A token for each point, (O, P + 1, C), with a padding point at the end;
            (O, 0, C) without points.
        dense: Added to the image embedding, (O, C, H16, W16).
    """

    sparse: Tensor
    dense: Tensor


@MODELS.register_module()
class SAM2PromptEncoder(nn.Module):
    """Embeds points, boxes (as two points) and masks of an earlier step.

    Args:
        embed_dims: C.
        stride: Pixels of the frame, the unit of the points, for each cell of the image
            embedding, along a side; 14 in SAM 3.
    """

    def __init__(
        self, *, embed_dims: int = 256, stride: int = EMBEDDING_STRIDE
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.stride = stride
        self.position_encoding = FourierPositionEncoding(embed_dims)
        self.point_embeddings = nn.ModuleList(
            nn.Embedding(1, embed_dims) for _ in range(NUM_POINT_EMBEDDINGS)
        )
        self.padding_point_embedding = nn.Embedding(1, embed_dims)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, MASK_CHANNELS // 4, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS // 4),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS // 4, MASK_CHANNELS, kernel_size=2, stride=2),
            LayerNorm2d(MASK_CHANNELS),
            nn.GELU(),
            nn.Conv2d(MASK_CHANNELS, embed_dims, kernel_size=1),
        )
        self.no_mask_embedding = nn.Embedding(1, embed_dims)

    def forward(
        self,
        *,
        points: PointPrompt | None,
        mask_logits: Tensor | None,
        embedding_size: tuple[int, int],
        num_objects: int,
    ) -> PromptEmbeddings:
        """Embed the prompt of each object.

        Args:
            points: Points and boxes, or None.
            mask_logits: Masks of an earlier step, (O, 1, H4, W4), or None.
            embedding_size: H16 and W16.

        Raises:
            ValueError: If the masks are not four times the size of the embedding.
        """
        if points is None:
            weight = self.no_mask_embedding.weight
            sparse = weight.new_zeros(num_objects, 0, self.embed_dims)
        else:
            # A padding point at the end, as the model was trained to expect one.
            padded = PointPrompt(
                coords=functional.pad(points.coords, (0, 0, 0, 1)),  # (O, P + 1, 2)
                labels=functional.pad(points.labels, (0, 1), value=PADDING),
            )
            sparse = self.embed_points(padded, embedding_size)  # (O, P + 1, C)
        return PromptEmbeddings(
            sparse=sparse,
            dense=self.embed_masks(mask_logits, embedding_size, num_objects),
        )

    def embed_points(
        self, points: PointPrompt, embedding_size: tuple[int, int]
    ) -> Tensor:
        """Embed points without appending a padding point.

        Args:
            embedding_size: H16 and W16.

        Returns:
            (O, P, C).
        """
        height, width = (self.stride * cells for cells in embedding_size)
        # Coordinates name pixels; + 0.5 is the centre of a pixel.
        x, y = (points.coords + 0.5).unbind(-1)  # (O, P) each
        # Dividing by a tensor (width, height) would wait for the device.
        relative = torch.stack([x / width, y / height], dim=-1)
        encoded: Tensor = self.position_encoding(relative)  # (O, P, 2) -> (O, P, C)
        table = torch.cat(
            [embedding.get_parameter('weight') for embedding in self.point_embeddings]
        )  # (4, C)
        labels = points.labels.long()
        embedded = encoded + table[labels.clamp(min=0)]
        is_padding = (labels == PADDING)[..., None]
        return torch.where(is_padding, self.padding_point_embedding.weight, embedded)

    def dense_position(self, embedding_size: tuple[int, int]) -> Tensor:
        """Position encoding of the image embedding, (1, C, H16, W16)."""
        return self.position_encoding.grid(embedding_size)[None]

    def embed_masks(
        self,
        mask_logits: Tensor | None,
        embedding_size: tuple[int, int],
        num_objects: int,
    ) -> Tensor:
        """Embed masks of an earlier step, or their absence.

        Args:
            mask_logits: As for :meth:`forward`, as are the others.

        Returns:
            (O, C, H16, W16).

        Raises:
            ValueError: If the masks are not four times the size of the embedding.
        """
        if mask_logits is None:
            embedding = self.no_mask_embedding.weight[..., None, None]
            return embedding.expand(num_objects, -1, *embedding_size)
        expected = tuple(4 * cells for cells in embedding_size)
        if mask_logits.shape[-2:] != expected:
            msg = (
                f'Expected mask logits of {expected}, but got '
                f'{tuple(mask_logits.shape[-2:])}; resize them first'
            )
            raise ValueError(msg)
        weight = self.no_mask_embedding.weight
        dense: Tensor = self.mask_downscaling(match_weights(mask_logits, weight))
        return dense
