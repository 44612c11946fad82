"""The distance between the features of a student and those of its teacher."""

from typing import Literal, get_args

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ..ops import at_least_float32

Feature = Literal['image', 'memory']
FEATURES: tuple[str, ...] = get_args(Feature)


@MODELS.register_module()
class SAM2FeatureLoss(nn.Module):
    """Mean squared error between features of a student and of a teacher.

    Computed in float32 at least, also under autocast. :class:`SAM2Distillation` says
    which maps are compared.

    Args:
        feature: ``'image'`` for the image embedding of each frame, or ``'memory'`` for
            the output of memory attention for each object and frame.
        weight: Weight of the loss.
        projection: Channels of the student's and of the teacher's map, if these differ:
            a 1 x 1 convolution, trained with the student but no part of it, is applied
            to the student's map, which is also resized to the teacher's. None compares
            maps of equal shape as they are.

    Raises:
        ValueError: If the feature is unknown.
    """

    def __init__(
        self,
        *,
        feature: Feature,
        weight: float = 1.0,
        projection: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if feature not in FEATURES:
            msg = f'feature is {feature!r}; choose among {FEATURES}'
            raise ValueError(msg)
        self.feature = feature
        self.weight = weight
        self.projection = None if projection is None else nn.Conv2d(*projection, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare maps.

        Args:
            student: (N, C, h, w).
            teacher: (N, C', h', w'), without a graph.

        Returns:
            The mean over all elements, weighted; a scalar.

        Raises:
            ValueError: If the shapes differ without a projection, or the projection is
                one of other channels.
        """
        projection = self.projection
        channels = student.shape[1], teacher.shape[1]
        if projection is None and student.shape != teacher.shape:
            msg = (
                f"The student's {self.feature} features are {_shape(student)}, those "
                f'of its teacher {_shape(teacher)}: give the SAM2FeatureLoss '
                f'projection={channels}'
            )
            raise ValueError(msg)
        if projection is not None:
            expected = projection.in_channels, projection.out_channels
            if channels != expected:
                msg = (
                    f'projection={expected} of SAM2FeatureLoss, but the '
                    f'{self.feature} features of student and teacher have {channels} '
                    f'channels'
                )
                raise ValueError(msg)
            student = functional.interpolate(
                projection(student),
                size=teacher.shape[-2:],
                mode='bilinear',
                align_corners=False,
            )
        with torch.autocast(student.device.type, enabled=False):
            error = at_least_float32(student) - at_least_float32(teacher)
            return self.weight * error.square().mean()


def _shape(features: Tensor) -> str:
    """Channels and size of a map in words."""
    _, channels, height, width = features.shape
    return f'{channels} channels of {height} x {width}'
