"""Image encoder: backbone and neck."""

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from projects.sam2.models.pretrained import PretrainedModule

__all__ = ['SAM2ImageEncoder']

NUM_LEVELS = 3  # strides 4, 8 and 16; the coarsest only feeds the top-down path


@MODELS.register_module()
class SAM2ImageEncoder(PretrainedModule):
    """Turns frames into feature maps that tracker and mask decoder share.

    Args:
        backbone: Config of the backbone, whose maps come finest first.
        neck: Config of the neck, which gives as many maps of equal channels.
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
        self.frames_at_once: int | None = None  # None takes all

    @property
    def trunk(self) -> nn.Module:
        """The backbone, as the release calls it."""
        part: nn.Module = self.backbone
        return part

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode frames.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            (B, C, H4, W4), (B, C, H8, W8), (B, C, H16, W16).
        """
        parts = [
            self.neck(self.backbone(some))[:NUM_LEVELS]
            for some in images.split(self.frames_at_once or len(images))
        ]
        if len(parts) == 1:
            stride4, stride8, stride16 = parts[0]
        else:
            stride4, stride8, stride16 = map(torch.cat, zip(*parts, strict=True))
        return stride4, stride8, stride16
