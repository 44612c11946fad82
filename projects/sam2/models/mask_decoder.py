"""Mask decoder: masks from image features and prompts (Ravi et al., 2024, section 4).

``SAM2MaskDecoder`` has a ``TwoWayTransformer``, a stack of ``TwoWayLayer``.
"""

from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ops import mask_stability
from ..structures import HighRes
from .layers import (
    MLP,
    Attention,
    LayerNorm2d,
    PixelLinear,
    checkpoint,
    object_slices,
    without_copies,
)
from .prompt_encoder import PromptEmbeddings

# One token for the mask of a clear prompt, three for an ambiguous one.
NUM_MASK_TOKENS = 4
IOU_HEAD_DIMS = 256
# A mask is stable if shifting its threshold by the delta changes it little.
STABILITY_DELTA = 0.05
STABILITY_THRESHOLD = 0.98
# Object score of a decoder that does not predict it: always present.
CERTAIN_OBJECT_LOGIT = 10.0
NUM_TRANSFORMER_LAYERS = 2
# Attention between tokens and image works in half the channels.
CROSS_ATTENTION_REDUCTION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskDecoderOutput:
    """The masks that the decoder proposes for each object.

    Attributes:
        mask_logits: (O, M, H4, W4).
        ious: Estimated IoU of each mask, (O, M).
        mask_tokens: Token of each mask, (O, M, C).
        object_score_logits: Whether the object is in the frame, (O, 1).
    """

    mask_logits: Tensor
    ious: Tensor
    mask_tokens: Tensor
    object_score_logits: Tensor

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """Index of each object's candidate with the highest estimated IoU.

        ``mask_logits[decoded.best]`` is (O, H4, W4).
        """
        best = self.ious.argmax(dim=1)
        return torch.arange(best.shape[0], device=best.device), best


@MODELS.register_module()
class SAM2MaskDecoder(nn.Module):
    """Decodes masks, their IoU and whether the object is in the frame.

    The tokens of the decoder and of the prompts go through a :class:`TwoWayTransformer`
    with the image embedding. Each mask token then becomes a kernel (``hypernetworks``)
    that is applied to the embedding, upscaled to stride 4.

    Args:
        embed_dims: C.
        num_heads: Heads of each attention.
        mlp_dims: Hidden channels of the transformer's MLPs.
        high_res_features: Add features of stride 8 and 4 while upscaling.
        object_score: Predict whether the object is in the frame.
        iou_sigmoid: Squash the estimated IoU into [0, 1].
        stability_selection: In evaluation, return the best of the three masks where
            the single one is unstable. The released predictors do so; the evaluation
            of the released trainer does not.
    """

    def __init__(
        self,
        *,
        embed_dims: int = 256,
        num_heads: int = 8,
        mlp_dims: int = 2048,
        high_res_features: bool = True,
        object_score: bool = True,
        iou_sigmoid: bool = True,
        stability_selection: bool = True,
    ) -> None:
        super().__init__()
        self.with_cp = False  # recompute the whole decoder in the backward pass
        self.stability_selection = stability_selection
        dims_8, dims_4 = embed_dims // 4, embed_dims // 8
        self.transformer = TwoWayTransformer(
            embed_dims=embed_dims, num_heads=num_heads, mlp_dims=mlp_dims
        )
        self.iou_token = nn.Embedding(1, embed_dims)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, embed_dims)
        self.object_score_token = nn.Embedding(1, embed_dims) if object_score else None
        # Tokens: [object score,] IoU, masks, prompts.
        self._iou_index = 1 if object_score else 0
        self.upscaling = nn.Sequential(
            nn.ConvTranspose2d(embed_dims, dims_8, kernel_size=2, stride=2),
            LayerNorm2d(dims_8),
            nn.GELU(),
            nn.ConvTranspose2d(dims_8, dims_4, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.high_res_projections = (
            nn.ModuleList(PixelLinear(embed_dims, dims) for dims in (dims_4, dims_8))
            if high_res_features
            else None
        )
        self.hypernetworks = nn.ModuleList(
            _three_layer_mlp(embed_dims, dims_4) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_head = MLP(
            in_dims=embed_dims,
            hidden_dims=IOU_HEAD_DIMS,
            out_dims=NUM_MASK_TOKENS,
            num_layers=3,
            sigmoid_output=iou_sigmoid,
        )
        self.object_score_head = (
            _three_layer_mlp(embed_dims, 1) if object_score else None
        )

    def project_high_res(
        self, stride_8: Tensor, stride_4: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Project features of high resolution for the decoder, once for each frame.

        Args:
            stride_8: (B, C, H8, W8).
            stride_4: (B, C, H4, W4).

        Returns:
            (B, C / 4, H8, W8) and (B, C / 8, H4, W4).

        Raises:
            ValueError: If the decoder takes no high-resolution features.
        """
        if self.high_res_projections is None:
            msg = 'This decoder takes no high-resolution features; set it in its config'
            raise ValueError(msg)
        project_4, project_8 = self.high_res_projections
        return project_8(stride_8), project_4(stride_4)

    def forward(
        self,
        *,
        embedding: Tensor,
        position: Tensor,
        prompts: PromptEmbeddings,
        high_res: HighRes,
        multimask: bool,
        select_by_stability: bool,
    ) -> MaskDecoderOutput:
        """Decode masks for the prompts of O objects.

        Args:
            embedding: Image embedding, of each object or one for all,
                (O | 1, C, H16, W16).
            position: Position encoding of the embedding, (1, C, H16, W16).
            high_res: Results of :meth:`project_high_res`, for each object or one for
                all; None for a decoder without high-resolution features.
            multimask: Return three candidates, for an ambiguous prompt.
            select_by_stability: Replace a single mask that is unstable.

        Returns:
            M = 3 or M = 1 masks for each object.
        """
        decoded = checkpoint(
            self._decode_in_chunks,
            embedding,
            position,
            prompts,
            high_res,
            enabled=self.with_cp,
        )
        return self.select(
            decoded, multimask=multimask, select_by_stability=select_by_stability
        )

    def select(
        self, decoded: MaskDecoderOutput, *, multimask: bool, select_by_stability: bool
    ) -> MaskDecoderOutput:
        """Select the single mask or the three candidates of :meth:`decode_all`.

        Args:
            multimask: As for :meth:`forward`, as is ``select_by_stability``.
        """
        if multimask:
            return _select_masks(decoded, slice(1, None))
        if select_by_stability and self.stability_selection:
            return _select_stable_mask(decoded)
        return _select_masks(decoded, slice(0, 1))

    def encode_mask_prompt(
        self, *, embedding: Tensor, position: Tensor, prompts: PromptEmbeddings
    ) -> tuple[Tensor, Tensor]:
        """Encode a given mask as tokens, without decoding masks.

        Args:
            embedding: Image embedding of each object, (O, C, H16, W16).
            position: Position encoding of the embedding, (1, C, H16, W16).

        Returns:
            The token of the single mask, (O, C), and the object score logits, (O, 1).
        """
        tokens, _ = checkpoint(
            self.transform, embedding, position, prompts, enabled=self.with_cp
        )
        return tokens[:, self._iou_index + 1], self._object_score_logits(tokens)

    def _decode_in_chunks(
        self,
        embedding: Tensor,
        position: Tensor,
        prompts: PromptEmbeddings,
        high_res: HighRes,
    ) -> MaskDecoderOutput:
        """:meth:`decode_all` for a few objects at a time, where that is faster."""
        height, width = embedding.shape[-2:]
        upscaled_size = 2 * embedding.shape[1] * height * width  # C / 8 * H4 * W4
        slices = object_slices(prompts.sparse, object_size=upscaled_size)
        if len(slices) <= 1:
            return self.decode_all(embedding, position, prompts, high_res)
        chunks = [
            self.decode_all(
                _objects(embedding, chunk),
                position,
                PromptEmbeddings(
                    sparse=prompts.sparse[chunk], dense=prompts.dense[chunk]
                ),
                high_res
                and (_objects(high_res[0], chunk), _objects(high_res[1], chunk)),
            )
            for chunk in slices
        ]
        return MaskDecoderOutput(
            mask_logits=torch.cat([chunk.mask_logits for chunk in chunks]),
            ious=torch.cat([chunk.ious for chunk in chunks]),
            mask_tokens=torch.cat([chunk.mask_tokens for chunk in chunks]),
            object_score_logits=torch.cat(
                [chunk.object_score_logits for chunk in chunks]
            ),
        )

    def decode_all(
        self,
        embedding: Tensor,
        position: Tensor,
        prompts: PromptEmbeddings,
        high_res: HighRes,
    ) -> MaskDecoderOutput:
        """Decode the single mask and the three candidates together, M = 4.

        Args:
            embedding: As for :meth:`forward`, as are the others.
        """
        tokens, image = self.transform(embedding, position, prompts)
        mask_tokens = tokens[:, self._iou_index + 1 :][:, :NUM_MASK_TOKENS]  # (O, M, C)
        kernels = torch.stack(
            [
                network(token)
                for network, token in zip(
                    self.hypernetworks, mask_tokens.unbind(1), strict=True
                )
            ],
            dim=1,
        )  # (O, M, C / 8)
        upscaled = self.upscale(image, high_res)  # (O, C / 8, H4, W4)
        return MaskDecoderOutput(
            mask_logits=checkpoint(self.apply_kernels, upscaled, kernels),
            ious=self.iou_head(tokens[:, self._iou_index]),
            mask_tokens=mask_tokens,
            object_score_logits=self._object_score_logits(tokens),
        )

    def transform(
        self, embedding: Tensor, position: Tensor, prompts: PromptEmbeddings
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer on the tokens of decoder and prompts, and the image.

        Args:
            embedding: Image embedding, (O | 1, C, H16, W16).
            position: Position encoding of the embedding, (1, C, H16, W16).

        Returns:
            Tokens (O, N, C), those of the prompts at the end, and the image,
            (O, C, H16, W16).
        """
        learned = [self.iou_token.weight, self.mask_tokens.weight]
        if self.object_score_token is not None:
            learned.insert(0, self.object_score_token.weight)
        output_tokens = torch.cat(learned).expand(prompts.sparse.shape[0], -1, -1)
        tokens, image = self.transformer(
            tokens=torch.cat([output_tokens, prompts.sparse], dim=1),  # (O, N, C)
            image=embedding + without_copies(prompts.dense),  # (O | 1, C, H16, W16)
            position=position,
        )
        return tokens, image

    def upscale(self, image: Tensor, high_res: HighRes) -> Tensor:
        """Upscale the image that :meth:`transform` returns, for kernels to be applied.

        Args:
            image: (O, C, H16, W16).
            high_res: As for :meth:`forward`.

        Returns:
            (O, C / 8, H4, W4), before the last activation.
        """
        to_stride_8, norm, activation, to_stride_4, _ = self.upscaling
        pixels_8, pixels_4 = (0.0, 0.0) if high_res is None else high_res
        pixels = activation(norm(to_stride_8(image) + pixels_8))
        upscaled: Tensor = to_stride_4(pixels) + pixels_4
        return upscaled

    def apply_kernels(self, upscaled: Tensor, kernels: Tensor) -> Tensor:
        """Apply each kernel to all pixels.

        Args:
            upscaled: Of :meth:`upscale`, (O, C / 8, H4, W4).
            kernels: (O, M, C / 8).

        Returns:
            Logits, (O, M, H4, W4).
        """
        # (O, C, H4, W4) -> (O, H4, W4, C), the layout of the gradient too.
        pixels: Tensor = self.upscaling[-1](upscaled).permute(0, 2, 3, 1)
        logits = pixels.flatten(1, 2) @ kernels.mT  # (O, H4 * W4, M)
        masks: Tensor = logits.mT.contiguous().unflatten(2, pixels.shape[1:3])
        return masks

    def _object_score_logits(self, tokens: Tensor) -> Tensor:
        """(O, N, C) -> (O, 1)."""
        if self.object_score_head is None:
            return tokens.new_full((tokens.shape[0], 1), CERTAIN_OBJECT_LOGIT)
        logits: Tensor = self.object_score_head(tokens[:, 0])
        return logits


def stability_scores(mask_logits: Tensor) -> Tensor:
    """IoU of a mask at a higher and at a lower threshold; 1 where both are empty.

    Args:
        mask_logits: (..., H4, W4).

    Returns:
        (...,).
    """
    scores = mask_stability(mask_logits, threshold=0.0, offset=STABILITY_DELTA)
    return scores.nan_to_num(nan=1.0)


def _select_masks(decoded: MaskDecoderOutput, masks: slice) -> MaskDecoderOutput:
    return MaskDecoderOutput(
        mask_logits=decoded.mask_logits[:, masks],
        ious=decoded.ious[:, masks],
        mask_tokens=decoded.mask_tokens[:, masks],
        object_score_logits=decoded.object_score_logits,
    )


def _select_stable_mask(decoded: MaskDecoderOutput) -> MaskDecoderOutput:
    """Select the first mask where it is stable, else the best of the others."""
    is_stable = stability_scores(decoded.mask_logits[:, 0]) >= STABILITY_THRESHOLD
    best_other = 1 + decoded.ious[:, 1:].argmax(dim=1)
    index = torch.where(is_stable, 0, best_other)
    objects = torch.arange(index.shape[0], device=index.device)
    return MaskDecoderOutput(
        mask_logits=decoded.mask_logits[objects, index][:, None],
        ious=decoded.ious[objects, index][:, None],
        mask_tokens=decoded.mask_tokens[:, :1],
        object_score_logits=decoded.object_score_logits,
    )


def _objects(features: Tensor, chunk: slice) -> Tensor:
    """Features of a chunk of the objects, or those for all: (O | 1, ...)."""
    return features[chunk] if len(features) > 1 else features


def _three_layer_mlp(in_dims: int, out_dims: int) -> MLP:
    return MLP(in_dims=in_dims, hidden_dims=in_dims, out_dims=out_dims, num_layers=3)


class TwoWayTransformer(nn.Module):
    """Attention between tokens and image in both directions (Kirillov et al., 2023).

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
            for index in range(NUM_TRANSFORMER_LAYERS)
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
        """Update tokens and image.

        Args:
            tokens: (O, N, C); they serve as their own position encoding.
            image: Image embedding with the dense prompt, of each object or one for
                all, (O | 1, C, H16, W16).
            position: Position encoding of the image, (1, C, H16, W16).

        Returns:
            Tokens (O, N, C) and image (O, C, H16, W16).
        """
        size = image.shape[-2:]
        pixels = image.flatten(2).transpose(1, 2)  # (O | 1, h * w, C)
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


class TwoWayLayer(nn.Module):
    """Tokens attend to each other and to the image, then the image to the tokens.

    Args:
        embed_dims: C.
        num_heads: Heads of each attention.
        mlp_dims: Hidden channels of the tokens' MLP.
        first: The self-attention takes the tokens without their positions (in the
            first layer they are the positions) and has no shortcut.
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
            image: (O | 1, H16 * W16, C).
            token_position: Added to the tokens as queries and keys, (O, N, C).
            image_position: Likewise for the image, (1, H16 * W16, C).
        """
        if self.first:
            tokens = self.self_attention(tokens, tokens, tokens)
        else:
            with_position = tokens + token_position
            tokens = tokens + self.self_attention(with_position, with_position, tokens)
        tokens = self.norm1(tokens)
        image_with_position = image + image_position
        tokens = tokens + self.cross_attention_token_to_image(
            tokens + token_position, image_with_position, image
        )
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attention_image_to_token(
            image_with_position, tokens + token_position, tokens
        )
        return tokens, self.norm4(image)
