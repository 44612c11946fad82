"""Semantic segmentation with SAM 2: a map of classes, without prompts.

::

    HieraBackbone ─▶ HieraPyramid ─┬─ stride 16 ─▶ mask decoder's transformer ◀─ tokens
                                   │                   │ image          tokens │
                                   └─ strides 4, 8 ─▶ upscaling           kernels (MLP)
                                                       └─▶ logits of classes ◀─┘
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import MODELS, TASK_UTILS
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.nn import functional

from ..checkpoints import CheckpointMismatchError, part_weights, weights_of
from ..models import SAM2MaskDecoder
from ..models.layers import MLP, FourierPositionEncoding
from ..models.pretrained import PretrainedModule
from ..models.prompt_encoder import PromptEmbeddings
from .mmcv_operators import ensure_operators

ensure_operators()  # before mmseg.models is imported

from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402

MIN_CLASSES = 2
STRIDES = (4, 8, 16)
# What the head takes from a SAM 2 beside its mask decoder.
EMBEDDINGS = (
    'prompt_encoder.position_encoding.gaussian_matrix',
    'prompt_encoder.no_mask_embedding.weight',  # (1, C)
    'tracker.no_memory_embedding',  # (1, 1, C)
)


@MODELS.register_module()
class SAM2SemanticHead(PretrainedModule, BaseDecodeHead):
    """Labels every pixel with a class by SAM 2's mask decoder.

    A learned token for each class takes the place of a prompt. All classes are decoded
    in one pass: the tokens attend to each other and to the image, and each becomes a
    kernel that is applied to the features of stride 4.

    Args:
        num_classes: K, with the background if it is a class.
        embed_dims: C, channels of the pyramid and of the mask decoder.
        mask_decoder: Arguments of :class:`SAM2MaskDecoder`; its ``embed_dims`` is that
            of the head.
        adaptations: Configs of :class:`SAM2Freezing` and :class:`SAM2LowRankAdapters`,
            applied in order, such as
            ``dict(type='SAM2Freezing', parts=['mask_decoder'])``.
        loss_decode: As for any decode head.
        ignore_index: Label of pixels that are not trained.
        init_cfg: MMEngine's initialisation. ``dict(type='Pretrained', checkpoint=…)``
            takes the mask decoder from a released file, a Hugging Face folder or a
            checkpoint of ours; tokens of classes are always new.

    Raises:
        ValueError: If there are fewer than two classes.

    Example:
        >>> head = SAM2SemanticHead(num_classes=3, embed_dims=64)
        >>> maps = [
        ...     torch.rand(1, 64, 32 // 2**level, 24 // 2**level) for level in range(3)
        ... ]
        >>> head(maps).shape
        torch.Size([1, 3, 32, 24])
    """

    def __init__(
        self,
        *,
        num_classes: int,
        embed_dims: int = 256,
        mask_decoder: Mapping[str, Any] | None = None,
        adaptations: Sequence[dict[str, Any]] = (),
        loss_decode: Any = None,
        ignore_index: int = 255,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        if num_classes < MIN_CLASSES:
            msg = (
                f'num_classes is {num_classes}; give 2 or more, for one class and the '
                f'background'
            )
            raise ValueError(msg)
        super().__init__(  # type: ignore[no-untyped-call]
            in_channels=[embed_dims] * len(STRIDES),
            channels=embed_dims // 8,
            num_classes=num_classes,
            in_index=list(range(len(STRIDES))),
            input_transform='multiple_select',
            loss_decode=loss_decode or {'type': 'mmseg.CrossEntropyLoss'},
            ignore_index=ignore_index,
            init_cfg=init_cfg,
        )
        del self.conv_seg
        self.mask_decoder = SAM2MaskDecoder(
            embed_dims=embed_dims, **(mask_decoder or {})
        )
        # Not used for class maps; DDP would wait for their gradients.
        for part in (
            self.mask_decoder.hypernetworks,
            self.mask_decoder.iou_head,
            self.mask_decoder.object_score_head,
        ):
            if part is not None:
                part.requires_grad_(False)
        self.position_encoding = FourierPositionEncoding(embed_dims)
        # Added to the stride-16 map: SAM 2's embeddings of no memory and of no mask.
        self.image_embedding = nn.Parameter(torch.zeros(embed_dims, 1, 1))
        self.class_tokens = nn.Embedding(num_classes, embed_dims)
        self.class_kernels = MLP(
            in_dims=embed_dims,
            hidden_dims=embed_dims,
            out_dims=embed_dims // 8,
            num_layers=3,
        )
        for config in adaptations:
            TASK_UTILS.build(config).adapt(self)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Compute the logits of the classes.

        Args:
            inputs: Maps of strides 4, 8, 16 and further ones, each (B, C, H_i, W_i).

        Returns:
            (B, K, H4, W4).
        """
        stride_4, stride_8, stride_16 = inputs[: len(STRIDES)]
        height, width = stride_16.shape[-2:]
        size = stride_4.shape[-2:]
        high_res = self.mask_decoder.project_high_res(
            # The decoder upsamples the stride-16 map by exactly 2 and 4.
            _padded(stride_8, (2 * height, 2 * width)),
            _padded(stride_4, (4 * height, 4 * width)),
        )
        class_tokens = self.class_tokens.weight  # (K, C)
        tokens, image = self.mask_decoder.transform(
            stride_16 + self.image_embedding,
            self.position_encoding.grid((height, width))[None],
            PromptEmbeddings(
                sparse=class_tokens.expand(len(stride_16), -1, -1),
                dense=torch.zeros_like(stride_16),
            ),
        )
        upscaled = self.mask_decoder.upscale(image, high_res)
        kernels = self.class_kernels(tokens[:, -self.num_classes :])  # (B, K, C / 8)
        logits = self.mask_decoder.apply_kernels(upscaled, kernels)
        return logits[..., : size[0], : size[1]]

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses of ``loss_decode``.

        Args:
            seg_logits: (B, K, H4, W4).
            batch_data_samples: Samples with ``gt_sem_seg``.

        Raises:
            ValueError: If a label is beyond the classes.
        """
        labels = self._stack_batch_gt(batch_data_samples)
        # On a GPU the loss itself would end the process without a message.
        largest = int(labels.masked_fill(labels == self.ignore_index, 0).max())
        if largest >= self.num_classes:
            msg = (
                f'A label image has the label {largest}, but the head has num_classes='
                f'{self.num_classes} (labels 0 to {self.num_classes - 1}, and '
                f'{self.ignore_index} for pixels to ignore); set num_classes, or '
                f'reduce_zero_label or label_map of the dataset'
            )
            raise ValueError(msg)
        losses: dict[str, Tensor] = super().loss_by_feat(seg_logits, batch_data_samples)
        return losses

    def _load_pretrained(
        self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu'
    ) -> None:
        """Load what a checkpoint of SAM 2 has of the head."""
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location)
        decoder = part_weights(
            loaded,
            self.mask_decoder.state_dict(),
            part='mask_decoder.',
            prefix=prefix,
            source=checkpoint,
        )
        self.mask_decoder.load_state_dict(decoder)
        whole = weights_of(loaded, source=checkpoint)
        missing = [name for name in EMBEDDINGS if name not in whole]
        if missing:
            msg = (
                f'{checkpoint} has a mask decoder, but not {missing[0]}; give a '
                f'checkpoint of a whole SAM 2'
            )
            raise CheckpointMismatchError(msg)
        position, no_mask, no_memory = (whole[name] for name in EMBEDDINGS)
        with torch.no_grad():
            self.position_encoding.gaussian_matrix.copy_(position)
            # In float32: a file may hold half precision.
            embedding = no_mask.float() + no_memory[0].float()  # (1, C)
            self.image_embedding.copy_(embedding.T[..., None])
        # The network of the single mask is a good start for the kernels of classes.
        self.class_kernels.load_state_dict(
            self.mask_decoder.hypernetworks[0].state_dict()
        )


def _padded(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Pad maps with zeros at the right and at the bottom."""
    height, width = maps.shape[-2:]
    return functional.pad(maps, (0, size[1] - width, 0, size[0] - height))
