"""Prompts as embeddings (Kirillov et al., 2023, section 3, prompt encoder)."""

from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ops import match_weights
from ..structures import EMBEDDING_STRIDE, PointLabel, PointPrompt
from .layers import FourierPositionEncoding, LayerNorm2d

__all__ = ['PromptEmbeddings', 'SAM2PromptEncoder']

# Pixels of the frame for each cell of the image embedding.
# Labels that have an embedding of their own; padding has one beside them.
NUM_POINT_EMBEDDINGS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEmbeddings:
    """A prompt, as the mask decoder reads it.

    Attributes:
        sparse: A token for each point, (O, P + 1, C), a padding point at the end; or
            (O, 0, C) where there are no points.
        dense: What is added to the image embedding, (O, C, H16, W16).
    """

    sparse: Tensor
    dense: Tensor


MASK_CHANNELS = 16  # between the convolutions that read a mask


@MODELS.register_module()
class SAM2PromptEncoder(nn.Module):
    """Embeds points, boxes (as two points) and earlier masks.

    Args:
        embed_dims: C, channels of an embedding.
    """

    def __init__(self, *, embed_dims: int = 256) -> None:
        super().__init__()
        self.embed_dims = embed_dims
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
            mask_logits: Earlier masks, (O, 1, H4, W4), or None.
            embedding_size: H16 and W16.

        Raises:
            ValueError: If the masks are not four times the size of the embedding.
        """
        if points is None:
            weight = self.no_mask_embedding.weight
            sparse = weight.new_zeros(num_objects, 0, self.embed_dims)
        else:
            sparse = self.embed_points(_padded(points), embedding_size)
        return PromptEmbeddings(
            sparse=sparse,
            dense=self._embed_masks(mask_logits, embedding_size, num_objects),
        )

    def embed_points(
        self, points: PointPrompt, embedding_size: tuple[int, int]
    ) -> Tensor:
        """Embed points as they are given, without a padding point.

        Args:
            embedding_size: H16 and W16.

        Returns:
            (O, P, C).
        """
        height, width = (EMBEDDING_STRIDE * cells for cells in embedding_size)
        # Coordinates name pixels, not their corners.
        x, y = (points.coords + 0.5).unbind(-1)
        # Divided by plain numbers: a tensor of them would be a wait for the device.
        shares = torch.stack([x / width, y / height], dim=-1)
        encoded: Tensor = self.position_encoding(shares)
        table = torch.cat(
            [row.get_parameter('weight') for row in self.point_embeddings]
        )
        labels = points.labels.long()
        embedded = encoded + table[labels.clamp(min=0)]
        padding = (labels == PointLabel.PADDING)[..., None]
        return torch.where(padding, self.padding_point_embedding.weight, embedded)

    def dense_position(self, embedding_size: tuple[int, int]) -> Tensor:
        """Position encoding of the image embedding, by the same frequencies.

        Args:
            embedding_size: H16 and W16.

        Returns:
            (1, C, H16, W16).
        """
        return self.position_encoding.grid(embedding_size)[None]

    def _embed_masks(
        self,
        mask_logits: Tensor | None,
        embedding_size: tuple[int, int],
        num_objects: int,
    ) -> Tensor:
        """Embed earlier masks, or their absence: (O, C, H16, W16)."""
        if mask_logits is None:
            nothing = self.no_mask_embedding.weight[..., None, None]
            return nothing.expand(num_objects, -1, *embedding_size)
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


def _padded(points: PointPrompt) -> PointPrompt:
    """Append a padding point, as the model was trained to expect one."""
    coords, labels = points.coords, points.labels
    return points.followed_by(
        PointPrompt(
            coords=coords.new_zeros(len(coords), 1, 2),
            labels=labels.new_full((len(labels), 1), PointLabel.PADDING),
        )
    )
