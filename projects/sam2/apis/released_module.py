"""What scripts do with the released video predictor, which is a torch module.

Ours is a predictor around a model; these calls are handed on to the model.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from projects.sam2.apis.building import Device
from projects.sam2.checkpoints import UnknownKeyError, map_to_released
from projects.sam2.models import SAM2
from projects.sam2.models.released_names import check_settable, instead_of
from projects.sam2.ops import non_overlapping

__all__ = ['ReleasedModule']


class ReleasedModule:
    """A predictor that can be used like its model.

    ``to``, ``half``, ``eval`` and the like change the model and return the predictor.
    Open videos after the model was moved or its type changed.
    """

    model: SAM2

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.model.training = mode

    def to(
        self, device: Device | torch.dtype, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the model, convert its weights, or both."""
        self.model.to(device)
        if dtype is not None:
            self.model.to(dtype)
        return self

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """Move the model to a GPU, by default the current one."""
        self.model.cuda(device)
        return self

    def cpu(self) -> Self:
        """Move the model to the CPU."""
        self.model.cpu()
        return self

    def float(self) -> Self:
        """Convert the weights to float32."""
        self.model.float()
        return self

    def half(self) -> Self:
        """Convert the weights to float16."""
        self.model.half()
        return self

    def bfloat16(self) -> Self:
        """Convert the weights to bfloat16."""
        self.model.bfloat16()
        return self

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  torch's
        """Put the model in training mode, or in evaluation mode."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Put the model in evaluation mode."""
        self.model.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:  # noqa: FBT001, FBT002
        """Set whether the weights get gradients."""
        self.model.requires_grad_(requires_grad)
        return self

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002
        """Weights of the model."""
        return self.model.parameters(recurse)

    def named_parameters(
        self,
        prefix: str = '',
        recurse: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights of the model by our names."""
        return self.model.named_parameters(prefix, recurse)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by the names of the release; by ours where there are adapters.

        Returns:
            All weights; those by our names are ``model.state_dict()``.
        """
        own = self.model.state_dict()
        try:
            return map_to_released(own)
        except UnknownKeyError:
            return dict(own)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,  # noqa: FBT001, FBT002  torch's order
        assign: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:  # noqa: ANN401  torch's own record
        """Load weights by the names of the release or by ours, as torch does."""
        return self.model.load_state_dict(state_dict, strict=strict, assign=assign)

    def _apply_non_overlapping_constraints(self, pred_masks: Tensor) -> Tensor:
        """Let each pixel belong to at most one object, (O, 1, H, W), logits."""
        return non_overlapping(pred_masks)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Look the attribute up in the model; the error names an alternative."""
            if name.startswith('__') or name == 'model':
                raise AttributeError(name)
            try:
                return getattr(self.model, name)
            except AttributeError as error:
                msg = (
                    f'{type(self).__name__} has no {name!r}, nor has its model; '
                    f'{instead_of(name)}'
                )
                raise AttributeError(msg) from error

    def __setattr__(self, name: str, value: object) -> None:
        """Set attributes of the model on the model, where they take effect."""
        check_settable(name, value)
        session = self.__dict__.get('session')
        model = None if session is None else session.model
        of_model = name in getattr(model, '_modules', {}) or (
            hasattr(type(model), name) and not hasattr(type(self), name)
        )
        if model is not None and name != 'model' and of_model:
            setattr(model, name, value)
        else:
            object.__setattr__(self, name, value)
