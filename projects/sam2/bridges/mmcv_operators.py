"""A stand-in for mmcv's compiled operators, where they are not installed.

Non-maximum suppression and deformable attention, which detectors need to predict, are
written in torch; the other operators raise an error that names the package to install.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from torch import Tensor

from ..ops import suppress_boxes

NAME = 'mmcv._ext'


class OperatorStandIn(ModuleType):
    """Module with any operator by name; most raise an error when they are called.

    Args:
        name: Name of the module.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # Without a loader: MMEngine takes a module with a loader for the full mmcv.
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Make a stand-in for an operator.

        Returns:
            The operator in torch, or a function that raises ``NotImplementedError``.

        Raises:
            AttributeError: For the names of Python itself.
        """
        if name.startswith('__'):
            raise AttributeError(name)
        if name in IN_TORCH:
            return IN_TORCH[name]

        def operator(*args: object, **kwargs: object) -> NoReturn:
            del args, kwargs
            msg = (
                f'mmcv.ops needs the compiled operator {name}, and mmcv-lite has none; '
                f'install mmcv 2.1.0 with its operators in place of mmcv-lite'
            )
            raise NotImplementedError(msg)

        return operator


def nms(bboxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Non-maximum suppression with the signature of mmcv's operator.

    Args:
        bboxes: (N, 4), corners ``(x, y, x, y)``.
        scores: (N,).
        iou_threshold: Largest IoU of two boxes that are both kept.
        offset: 1 if the second corner belongs to the box, 0 if not.

    Returns:
        Indices of the boxes that are kept, best first, int64.
    """
    corners = bboxes + bboxes.new_tensor([0, 0, offset, offset])
    return suppress_boxes(corners, scores, threshold=iou_threshold)


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    _level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    **_: Any,
) -> Tensor:
    """Deformable attention by the function that mmcv has for CPUs, on any device.

    It computes no gradients.
    """
    # mmcv asks for the operators when this module is imported.
    from mmcv.ops import multi_scale_deform_attn  # noqa: PLC0415

    attended: Tensor = multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(
        value, spatial_shapes, sampling_locations, attention_weights
    )
    return attended


IN_TORCH: dict[str, Callable[..., Tensor]] = {
    'nms': nms,
    'ms_deform_attn_forward': ms_deform_attn_forward,
}


def ensure_operators() -> None:
    """Install the stand-in if the compiled operators are missing."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = OperatorStandIn(NAME)
