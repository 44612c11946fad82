"""Masks from image features and prompts (Ravi et al., 2024, section 4)."""

from dataclasses import dataclass
from functools import partial

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..ops import count_pixels
from .layers.checkpointing import apply_after, recomputed
from .layers.mlp import MLP, LayerNorm2d, PixelLinear
from .prompt_encoder import PromptEmbeddings
from .two_way_transformer import TwoWayTransformer

__all__ = ['MaskDecoderOutput', 'SAM2MaskDecoder', 'stability_scores']

# One token for the mask of a clear prompt, three for an ambiguous one.
NUM_MASK_TOKENS = 4
IOU_HEAD_DIMS = 256
# A mask is stable where moving its threshold by the delta changes it little.
STABILITY_DELTA = 0.05
STABILITY_THRESHOLD = 0.98
# Object score of a decoder that does not judge: always present.
CERTAIN_OBJECT_LOGIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskDecoderOutput:
    """What the mask decoder proposes for each object.

    Attributes:
        mask_logits: (O, M, H4, W4).
        ious: Estimated IoU of each mask, (O, M).
        mask_tokens: Token of each mask, (O, M, C).
        object_score_logits: Is the object in the frame?, (O, 1).
    """

    mask_logits: Tensor
    ious: Tensor
    mask_tokens: Tensor
    object_score_logits: Tensor


@MODELS.register_module()
class SAM2MaskDecoder(nn.Module):
    """Decodes masks, their IoU and the object's presence.

    Args:
        embed_dims: C.
        num_heads: Heads of each attention.
        mlp_dims: Hidden channels of the transformer's MLPs.
        high_res_features: Add features of stride 8 and 4 while up-scaling.
        object_score: Judge whether the object is in the frame.
        iou_sigmoid: Squash the estimated IoU into [0, 1].
        stability_selection: In evaluation, take the best of the three masks where
            the single one is unstable. The released predictors do; the released
            trainer, when it evaluates, does not.
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
        self.with_cp = False  # set to compute twice what is inside
        self.stability_selection = stability_selection
        dims_8, dims_4 = embed_dims // 4, embed_dims // 8
        self.transformer = TwoWayTransformer(
            embed_dims=embed_dims, num_heads=num_heads, mlp_dims=mlp_dims
        )
        self.iou_token = nn.Embedding(1, embed_dims)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, embed_dims)
        self.object_score_token = nn.Embedding(1, embed_dims) if object_score else None
        self._first_mask = 2 if object_score else 1  # after the token of the IoU
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
            _three_layers(embed_dims, dims_4) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_head = MLP(
            in_dims=embed_dims,
            hidden_dims=IOU_HEAD_DIMS,
            out_dims=NUM_MASK_TOKENS,
            num_layers=3,
            sigmoid_output=iou_sigmoid,
        )
        self.object_score_head = _three_layers(embed_dims, 1) if object_score else None

    def project_high_res(
        self, stride_8: Tensor, stride_4: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Project fine features for the decoder, once for each frame.

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
        high_res: tuple[Tensor, Tensor] | None,
        multimask: bool,
        select_by_stability: bool,
    ) -> MaskDecoderOutput:
        """Decode masks for the prompts of O objects.

        Args:
            embedding: Image embedding, of each object or one for all,
                (O | 1, C, H16, W16).
            position: Its position encoding, (1, C, H16, W16).
            high_res: Projected features of stride 8 and 4, for each object or one
                for all; None for a decoder without them.

        Returns:
            M = 3 or M = 1 masks for each object.
        """
        decode = partial(recomputed, self._decode) if self.with_cp else self._decode
        decoded = decode(embedding, position, prompts, high_res)
        if multimask:
            return _part(decoded, slice(1, None))
        if select_by_stability and self.stability_selection:
            return _stable(decoded)
        return _part(decoded, slice(0, 1))

    def read(
        self, *, embedding: Tensor, position: Tensor, prompts: PromptEmbeddings
    ) -> tuple[Tensor, Tensor]:
        """Decode what is remembered of a mask that is given, and draw none.

        Args:
            embedding: Image embedding of each object, (O, C, H16, W16).
            position: Its position encoding, (1, C, H16, W16).

        Returns:
            The token of the one mask, (O, C), and the object score, (O, 1), logits.
        """
        read = partial(recomputed, self._read) if self.with_cp else self._read
        return read(embedding, position, prompts)

    def _decode(
        self,
        embedding: Tensor,
        position: Tensor,
        prompts: PromptEmbeddings,
        high_res: tuple[Tensor, Tensor] | None,
    ) -> MaskDecoderOutput:
        """Decode the masks of all mask tokens."""
        tokens, image = self._transform(embedding, position, prompts)
        mask_tokens = tokens[:, self._first_mask :][:, :NUM_MASK_TOKENS]
        upscaled = self._upscale(image, high_res)
        kernels = torch.stack(
            [
                network(token)
                for network, token in zip(
                    self.hypernetworks, mask_tokens.unbind(1), strict=True
                )
            ],
            dim=1,
        )  # (O, M, C / 8)
        return MaskDecoderOutput(
            mask_logits=recomputed(self._masks, kernels, upscaled),
            ious=self.iou_head(tokens[:, self._first_mask - 1]),
            mask_tokens=mask_tokens,
            object_score_logits=self._object_score(tokens),
        )

    def _read(
        self, embedding: Tensor, position: Tensor, prompts: PromptEmbeddings
    ) -> tuple[Tensor, Tensor]:
        """Decode the token of the one mask and the object score."""
        tokens, _ = self._transform(embedding, position, prompts)
        return tokens[:, self._first_mask], self._object_score(tokens)

    def _transform(
        self, embedding: Tensor, position: Tensor, prompts: PromptEmbeddings
    ) -> tuple[Tensor, Tensor]:
        """Let the decoder's tokens and the prompts' see the image, and it them."""
        own_tokens = [self.iou_token.weight, self.mask_tokens.weight]
        if self.object_score_token is not None:
            own_tokens.insert(0, self.object_score_token.weight)
        own = torch.cat(own_tokens).expand(len(prompts.sparse), -1, -1)
        tokens, image = self.transformer(
            tokens=torch.cat([own, prompts.sparse], dim=1),
            image=embedding + prompts.dense,
            position=position,
        )
        return tokens, image

    def _upscale(self, image: Tensor, high_res: tuple[Tensor, Tensor] | None) -> Tensor:
        """Bring the image to stride 4: (O, C, H16, W16) -> (O, C / 8, H4, W4).

        The last activation is left to :meth:`_masks`.
        """
        to_8, norm, activation, to_4, _ = self.upscaling
        pixels_8, pixels_4 = (0.0, 0.0) if high_res is None else high_res
        pixels = apply_after(
            nn.Sequential(norm, activation), to_4, to_8(image) + pixels_8
        )
        upscaled: Tensor = pixels + pixels_4
        return upscaled

    def _masks(self, kernels: Tensor, upscaled: Tensor) -> Tensor:
        """Score all pixels by all kernels: (O, M, H4, W4)."""
        # (O, C, H4, W4) -> (O, H4, W4, C), the layout that the gradient shall have too.
        pixels: Tensor = self.upscaling[-1](upscaled).permute(0, 2, 3, 1)
        scores = pixels.flatten(1, 2) @ kernels.mT  # (O, H4 * W4, M)
        masks: Tensor = scores.mT.contiguous().unflatten(2, pixels.shape[1:3])
        return masks

    def _object_score(self, tokens: Tensor) -> Tensor:
        """Is the object in the frame?: (O, N, C) -> (O, 1)."""
        if self.object_score_head is None:
            return tokens.new_full((len(tokens), 1), CERTAIN_OBJECT_LOGIT)
        score: Tensor = self.object_score_head(tokens[:, 0])
        return score


def stability_scores(mask_logits: Tensor) -> Tensor:
    """How little masks change when their threshold moves.

    Args:
        mask_logits: (..., H4, W4).

    Returns:
        (...,), IoU of the masks at the two thresholds; 1 where both are empty.
    """
    inner = count_pixels(mask_logits > STABILITY_DELTA).float()
    outer = count_pixels(mask_logits > -STABILITY_DELTA).float()
    return torch.where(outer > 0, inner / outer, 1.0)


def _part(decoded: MaskDecoderOutput, masks: slice) -> MaskDecoderOutput:
    """Keep some of the masks."""
    return MaskDecoderOutput(
        mask_logits=decoded.mask_logits[:, masks],
        ious=decoded.ious[:, masks],
        mask_tokens=decoded.mask_tokens[:, masks],
        object_score_logits=decoded.object_score_logits,
    )


def _stable(decoded: MaskDecoderOutput) -> MaskDecoderOutput:
    """The first mask where it is stable, else the best of the others."""
    stable = stability_scores(decoded.mask_logits[:, 0]) >= STABILITY_THRESHOLD
    best_other = 1 + decoded.ious[:, 1:].argmax(dim=1)
    chosen = torch.where(stable, 0, best_other)
    objects = torch.arange(len(chosen), device=chosen.device)
    return MaskDecoderOutput(
        mask_logits=decoded.mask_logits[objects, chosen][:, None],
        ious=decoded.ious[objects, chosen][:, None],
        mask_tokens=decoded.mask_tokens[:, :1],
        object_score_logits=decoded.object_score_logits,
    )


def _three_layers(in_dims: int, out_dims: int) -> MLP:
    """MLP with as many hidden channels as the input has."""
    return MLP(in_dims=in_dims, hidden_dims=in_dims, out_dims=out_dims, num_layers=3)
