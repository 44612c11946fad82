"""A stand-in for mmcv's compiled operators, where they are not installed.

The operators that the models of mmdetection and mmsegmentation call are written in
torch, see :mod:`.operators`; the others raise an error that names the package to
install.
"""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ..ops import import_optional
from .operators import (
    carafe,
    deformable,
    focal_loss,
    masked_conv,
    psa_mask,
    roi_align,
    roi_pool,
    suppression,
    sync_batch_norm,
)

NAME = 'mmcv._ext'
EXTRAS = ('mmdet', 'mmseg')  # of our package, by the name of the package they install


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


def get_compiler_version() -> str:
    """Compiler that mmcv reports, of which there is none."""
    return 'n/a'


def get_compiling_cuda_version() -> str:
    """Version of CUDA that mmcv reports, of which there is none."""
    return 'n/a'


IN_TORCH: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        get_compiler_version,
        get_compiling_cuda_version,
        carafe.carafe_backward,
        carafe.carafe_forward,
        carafe.carafe_naive_backward,
        carafe.carafe_naive_forward,
        deformable.deform_conv_forward,
        deformable.deform_conv_backward_input,
        deformable.deform_conv_backward_parameters,
        deformable.modulated_deform_conv_forward,
        deformable.modulated_deform_conv_backward,
        deformable.ms_deform_attn_forward,
        deformable.ms_deform_attn_backward,
        focal_loss.sigmoid_focal_loss_forward,
        focal_loss.sigmoid_focal_loss_backward,
        focal_loss.softmax_focal_loss_forward,
        focal_loss.softmax_focal_loss_backward,
        masked_conv.masked_col2im_forward,
        masked_conv.masked_im2col_forward,
        psa_mask.psamask_backward,
        psa_mask.psamask_forward,
        roi_align.roi_align_forward,
        roi_align.roi_align_backward,
        roi_pool.deform_roi_pool_backward,
        roi_pool.deform_roi_pool_forward,
        roi_pool.roi_pool_backward,
        roi_pool.roi_pool_forward,
        suppression.bbox_overlaps,
        suppression.nms,
        suppression.nms_match,
        suppression.softnms,
        sync_batch_norm.sync_bn_backward_data,
        sync_batch_norm.sync_bn_backward_param,
        sync_batch_norm.sync_bn_forward_mean,
        sync_batch_norm.sync_bn_forward_output,
        sync_batch_norm.sync_bn_forward_var,
    )
}


def ensure_operators() -> None:
    """Install the stand-in if the compiled operators are missing."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = OperatorStandIn(NAME)


def import_package(name: str, *, purpose: str) -> Any:
    """Import mmdetection, mmsegmentation or a module of them, with operators.

    Args:
        name: Such as ``'mmdet.structures'``.
        purpose: See :func:`import_optional`.

    Raises:
        ImportError: If the package is not installed, or cannot be imported.
    """
    ensure_operators()
    package = name.partition('.')[0]
    extra = f'"mmsam2[{package}]"' if package in EXTRAS else None
    return import_optional(name, purpose=purpose, install=extra)
