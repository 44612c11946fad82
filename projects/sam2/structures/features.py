"""What the image encoder gives for a batch of frames."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFeatures:
    """Features of frames at the three strides that the model reads.

    Attributes:
        embedding: Stride-16 features, (B, C, H16, W16).
        position: Sine position encoding of ``embedding``, (1, C, H16, W16).
        high_res_8: Stride-8 features, projected for the decoder,
            (B, C / 4, H8, W8).
        high_res_4: Stride-4 features, projected for the decoder,
            (B, C / 8, H4, W4).
    """

    embedding: Tensor
    position: Tensor
    high_res_8: Tensor
    high_res_4: Tensor

    def select(self, index: Tensor) -> 'ImageFeatures':
        """Take frames by position, repetitions allowed.

        Args:
            index: Positions along B, (O,), int64.

        Returns:
            Features with ``O`` in place of ``B``.
        """
        return ImageFeatures(
            embedding=self.embedding[index],
            position=self.position,
            high_res_8=self.high_res_8[index],
            high_res_4=self.high_res_4[index],
        )
