"""Image encoder: a backbone, and a feature pyramid on its maps."""

from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ..ops import at_least_float32, match_weights
from .layers import PixelLinear
from .pretrained import PretrainedModule


@MODELS.register_module()
class HieraFPN(PretrainedModule):
    """Projects all maps to the same channels and adds coarse maps to finer ones.

    Args:
        in_channels: Channels of the maps, finest first.
        out_channels: C, channels of the outputs.
        top_down_levels: Levels, 0 being the finest, to which the upsampled coarser
            level is added.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.

    Raises:
        ValueError: If a top-down level does not exist.
    """

    checkpoint_part = 'image_encoder.neck.'

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        out_channels: int = 256,
        top_down_levels: Sequence[int] = (2, 3),
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        num_levels = len(in_channels)
        if not set(top_down_levels) <= set(range(num_levels)):
            msg = (
                f'Expected top_down_levels below {num_levels}, the number of '
                f'in_channels, but got {tuple(top_down_levels)}'
            )
            raise ValueError(msg)
        self.top_down_levels = frozenset(top_down_levels)
        # Coarse to fine, the order of the released weights.
        self.lateral_convs = nn.ModuleList(
            PixelLinear(channels, out_channels) for channels in reversed(in_channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            maps: Finest first, each (B, C_i, H_i, W_i), half as high and wide as the
                one before; an odd size is rounded up or down.

        Returns:
            A map for each level, finest first, each (B, C, H_i, W_i).

        Raises:
            ValueError: If there is not one map for each level.
        """
        if len(maps) != len(self.lateral_convs):
            msg = f'Expected {len(self.lateral_convs)} maps, but got {len(maps)}'
            raise ValueError(msg)
        outputs: list[Tensor] = []
        for conv, features in zip(self.lateral_convs, reversed(maps), strict=True):
            lateral: Tensor = conv(features)
            level = len(maps) - 1 - len(outputs)
            if outputs and level in self.top_down_levels:
                # The maps are added in float32, as in the release.
                coarse = functional.interpolate(
                    at_least_float32(outputs[-1]),
                    size=lateral.shape[-2:],
                    mode='nearest',
                )
                weight = conv.get_parameter('weight')
                lateral = match_weights(lateral + coarse, weight)
            outputs.append(lateral)
        return tuple(reversed(outputs))


MAX_LEVELS = 3  # strides 4, 8 and 16; the coarsest only feeds the top-down path


@MODELS.register_module()
class SAM2ImageEncoder(PretrainedModule):
    """Encodes frames as feature maps that the tracker and the mask decoder share.

    Args:
        backbone: Config of the backbone, which returns maps, finest first.
        neck: Config of the neck, which returns as many maps with equal channels.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.
    """

    checkpoint_part = 'image_encoder.'

    def __init__(
        self,
        *,
        backbone: dict[str, object],
        neck: dict[str, object],
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        # Frames encoded at a time, set by SAM2LowMemoryHook; None for all.
        self.frames_at_once: int | None = None

    @property
    def trunk(self) -> nn.Module:
        """The backbone, as the release calls it."""
        backbone: nn.Module = self.backbone
        return backbone

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode frames.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            (B, C, H4, W4), (B, C, H8, W8), (B, C, H16, W16); the last one alone if
            the neck has a single level.
        """
        chunks = [
            self.neck(self.backbone(chunk))[:MAX_LEVELS]
            for chunk in images.split(self.frames_at_once or len(images))
        ]
        if len(chunks) == 1:
            return tuple(chunks[0])
        return tuple(map(torch.cat, zip(*chunks, strict=True)))
