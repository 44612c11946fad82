"""Transformer that updates prompt tokens and the image (Kirillov et al., 2023)."""

from torch import Tensor, nn

from .layers.attention import Attention
from .layers.mlp import MLP

__all__ = ['TwoWayLayer', 'TwoWayTransformer']

NUM_LAYERS = 2
# Attention between tokens and image works in half the channels.
CROSS_ATTENTION_REDUCTION = 2


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens.

    Args:
        embed_dims: C.
        num_heads: Heads of each attention.
        mlp_dims: Hidden channels of the tokens' MLP.
        first: Let the self-attention see the tokens without their positions (in the
            first layer they are the positions) and replace them, not add to them.
    """

    def __init__(
        self, *, embed_dims: int, num_heads: int, mlp_dims: int, first: bool
    ) -> None:
        super().__init__()
        cross_dims = embed_dims // CROSS_ATTENTION_REDUCTION
        self.self_attention = Attention(embed_dims=embed_dims, num_heads=num_heads)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.cross_attention_token_to_image = Attention(
            embed_dims=embed_dims, num_heads=num_heads, internal_dims=cross_dims
        )
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = MLP(
            in_dims=embed_dims, hidden_dims=mlp_dims, out_dims=embed_dims, num_layers=2
        )
        self.norm3 = nn.LayerNorm(embed_dims)
        self.cross_attention_image_to_token = Attention(
            embed_dims=embed_dims, num_heads=num_heads, internal_dims=cross_dims
        )
        self.norm4 = nn.LayerNorm(embed_dims)
        self.first = first

    def forward(
        self,
        *,
        tokens: Tensor,
        image: Tensor,
        token_position: Tensor,
        image_position: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Update the tokens and the image.

        Args:
            tokens: (O, N, C).
            image: (O, H16 * W16, C).
            token_position: Added to the tokens as queries and keys, (O, N, C).
            image_position: Likewise for the image, (1, H16 * W16, C).
        """
        if self.first:
            tokens = self.self_attention(tokens, tokens, tokens)
        else:
            placed = tokens + token_position
            tokens = tokens + self.self_attention(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_position
        tokens = tokens + self.cross_attention_token_to_image(
            tokens + token_position, placed_image, image
        )
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attention_image_to_token(
            placed_image, tokens + token_position, tokens
        )
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Two-way layers and a last look of the tokens at the image.

    Args:
        embed_dims: C.
        num_heads: Heads of each attention.
        mlp_dims: Hidden channels of the tokens' MLPs.
    """

    def __init__(self, *, embed_dims: int, num_heads: int, mlp_dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayLayer(
                embed_dims=embed_dims,
                num_heads=num_heads,
                mlp_dims=mlp_dims,
                first=index == 0,
            )
            for index in range(NUM_LAYERS)
        )
        self.final_attention_token_to_image = Attention(
            embed_dims=embed_dims,
            num_heads=num_heads,
            internal_dims=embed_dims // CROSS_ATTENTION_REDUCTION,
        )
        self.final_norm = nn.LayerNorm(embed_dims)

    def forward(
        self, *, tokens: Tensor, image: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and image inform each other.

        Args:
            tokens: (O, N, C).
            image: Image embedding with the dense prompt, (O, C, H16, W16).
            position: Of the image embedding, (1, C, H16, W16).

        Returns:
            Tokens (O, N, C) and image (O, C, H16, W16).
        """
        size = image.shape[-2:]
        pixels = image.flatten(2).transpose(1, 2)  # (O, C, h, w) -> (O, h * w, C)
        pixel_position = position.flatten(2).transpose(1, 2)
        updated = tokens
        for layer in self.layers:
            updated, pixels = layer(
                tokens=updated,
                image=pixels,
                token_position=tokens,
                image_position=pixel_position,
            )
        updated = updated + self.final_attention_token_to_image(
            updated + tokens, pixels + pixel_position, pixels
        )
        return self.final_norm(updated), pixels.transpose(1, 2).unflatten(2, size)
