"""Image encoder: backbone and neck."""

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

__all__ = ['SAM2ImageEncoder']

NUM_LEVELS = 3  # strides 4, 8 and 16; the coarsest only feeds the top-down path


@MODELS.register_module()
class SAM2ImageEncoder(BaseModule):
    """Turns frames into feature maps that tracker and mask decoder share.

    Args:
        backbone: Config of the backbone, whose maps come finest first.
        neck: Config of the neck, which gives as many maps of equal channels.
        init_cfg: MMEngine's initialisation.
    """

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

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode frames.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            (B, C, H4, W4), (B, C, H8, W8), (B, C, H16, W16).
        """
        stride4, stride8, stride16 = self.neck(self.backbone(images))[:NUM_LEVELS]
        return stride4, stride8, stride16
