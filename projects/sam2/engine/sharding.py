"""A model whose weights, gradients and optimizer state are shared out (FSDP2)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from projects.sam2.engine.shares import (
    leaves_of,
    outer_modules,
    refuse_copy,
    share,
    whole,
)

__all__ = ['SAM2FullySharded', 'attach_optimizer', 'whole_state']

State = dict[Any, dict[str, Any]]


@MODEL_WRAPPERS.register_module()
class SAM2FullySharded(nn.Module):
    """Each process keeps a share of the model and gathers the rest when it needs it.

    It stands where DDP does, under MMEngine's Runner. Checkpoints hold whole weights,
    so that they fit any number of processes and any wrapper. In evaluation every
    process holds the whole model and needs no other: videos differ in length.

    As under DDP, a parameter without a gradient on any process keeps none.

    Args:
        module: The model; the Runner gives it.
        parts: Names of modules that are gathered one at a time, with ``*`` for any
            characters. All processes must call them equally often, as they do the
            blocks of the backbone, which hold most weights; what is in none of them
            is gathered once for each step.

    Raises:
        ValueError: If no module has such a name.
    """

    def __init__(self, *, module: BaseModel, parts: Sequence[str]) -> None:
        super().__init__()
        chosen = outer_modules(module, parts)
        module.init_weights()
        # The Runner would do so again, with shares for weights.
        vars(module)['init_weights'] = lambda: None
        vars(module)['__deepcopy__'] = refuse_copy
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor.detach(), src=0)
        kind = next(module.parameters()).device.type
        mesh = init_device_mesh(kind, (distributed.get_world_size(),))
        for part in chosen:
            fully_shard(part, mesh=mesh)
        fully_shard(module, mesh=mesh)
        self.module = module
        self._root: Any = module
        self._parts: tuple[FSDPModule, ...] = tuple(
            part for part in module.modules() if isinstance(part, FSDPModule)
        )
        inside = {id(one) for part in chosen for one in part.parameters()}
        self._loose = [
            name for name, one in module.named_parameters() if id(one) not in inside
        ]
        self._optimizer: torch.optim.Optimizer | None = None
        self._whole_weights: dict[str, Tensor] | None = None
        self._whole_states: State | None = None
        # torch sets an attribute of the hook, which a method has not.
        module.register_state_dict_post_hook(partial(self._give_whole_weights))
        module.register_load_state_dict_pre_hook(self._share_out_weights)

    def train_step(
        self,
        data: Any,  # noqa: ANN401  whatever the loader gives
        optim_wrapper: OptimWrapper,
    ) -> dict[str, Tensor]:
        """Train on a batch.

        Args:
            data: Of the loader.
            optim_wrapper: Steps, or waits until enough batches have come.

        Returns:
            What is to be logged.
        """
        with optim_wrapper.optim_context(self):
            prepared = self.module.data_preprocessor(data, training=True)
            words = prepared if isinstance(prepared, dict) else {}
            rest = () if words else prepared
            losses = self.module(*rest, **words, mode='loss')
        total, logged = self.module.parse_losses(losses)
        self._agree_on_gradients(total)
        optim_wrapper.update_params(total)
        return logged

    def val_step(self, data: Any) -> list[Any]:  # noqa: ANN401  as above
        """Predict; no other process is needed.

        Args:
            data: Of the loader.

        Returns:
            What the model found.
        """
        found: list[Any] = self.module.val_step(data)
        return found

    def test_step(self, data: Any) -> list[Any]:  # noqa: ANN401  as above
        """Predict; no other process is needed.

        Args:
            data: Of the loader.

        Returns:
            What the model found.
        """
        found: list[Any] = self.module.test_step(data)
        return found

    def train(self, mode: bool = True) -> 'SAM2FullySharded':  # noqa: FBT001, FBT002  torch's
        """Share the model out for training, or gather it whole for evaluation.

        To be called by all processes.

        Args:
            mode: Whether to train.

        Returns:
            The wrapper.
        """
        super().train(mode)
        for part in self._parts:
            # The root stays gathered between its forward and its backward pass.
            is_root: bool = part is self._root
            shares = mode and not is_root
            part.set_reshard_after_forward(shares, recurse=False)
            if mode:
                part.reshard()
            else:
                part.unshard()
        return self

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Have an optimizer of the shares save and load whole states.

        Args:
            optimizer: Of this model's parameters.
        """
        if optimizer is self._optimizer:
            return
        self._optimizer = optimizer
        optimizer.register_state_dict_post_hook(self._give_whole_states)
        optimizer.register_load_state_dict_pre_hook(self._share_out_states)

    def hold_whole_state(self, *, with_optimizer: bool) -> None:
        """Gather weights and states, and keep them on the first process.

        To be called by all processes.

        Args:
            with_optimizer: Whether its states are gathered as well.
        """
        weights = self.module.state_dict()
        if is_main_process():
            self._whole_weights = {key: one.cpu() for key, one in weights.items()}
        if with_optimizer and self._optimizer is not None:
            states = self._optimizer.state_dict()['state']
            self._whole_states = states if is_main_process() else None

    def drop_whole_state(self) -> None:
        """Forget what :meth:`hold_whole_state` gathered."""
        self._whole_weights = self._whole_states = None

    def _give_whole_weights(
        self,
        module: nn.Module,  # noqa: ARG002  torch's interface
        state_dict: dict[str, Any],
        prefix: str,
        *_: object,
    ) -> None:
        """Put whole weights in the place of shares; torch's hook."""
        held = self._whole_weights
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name, value = key.removeprefix(prefix), state_dict[key]
            state_dict[key] = whole(value) if held is None else held[name]

    def _share_out_weights(
        self,
        module: nn.Module,
        state_dict: dict[str, Any],
        prefix: str,
        *_: object,
    ) -> None:
        """Put shares in the place of whole weights; torch's hook."""
        for part in self._parts:
            part.reshard()
        for name, own in module.named_parameters():
            if prefix + name in state_dict:
                state_dict[prefix + name] = share(state_dict[prefix + name], own)

    def _give_whole_states(
        self,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002  torch's interface
        state_dict: dict[str, Any],
    ) -> None:
        """Put whole states in the place of shares; torch's hook."""
        state_dict['state'] = self._whole_states or {
            index: {key: whole(value) for key, value in state.items()}
            for index, state in state_dict['state'].items()
        }

    def _share_out_states(
        self, optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]
    ) -> dict[str, Any]:
        """Put shares in the place of whole states; torch's hook."""
        own = [one for group in optimizer.param_groups for one in group['params']]
        states = {
            index: {key: share(value, own[index]) for key, value in state.items()}
            for index, state in state_dict['state'].items()
        }
        return {**state_dict, 'state': states}

    def _agree_on_gradients(self, total: Tensor) -> None:
        """Give a zero gradient to what has one on other processes alone.

        Gradients travel in one piece, which must have the same parameters everywhere;
        what is used may differ, where clips do.
        """
        reached = leaves_of(total)
        of_name: Mapping[str, nn.Parameter] = dict(self.module.named_parameters())
        loose = [of_name[name] for name in self._loose]
        flags = torch.tensor(
            [float(id(one) in reached) for one in loose], device=total.device
        )
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX)
        for one, is_used in zip(loose, flags.tolist(), strict=True):
            if is_used and id(one) not in reached and one.grad is None:
                one.grad = torch.zeros_like(one)


def attach_optimizer(model: nn.Module, optim_wrapper: object) -> None:
    """Have the optimizer of a model that is shared out save and load whole states.

    Args:
        model: Of a runner; those of other kinds are left alone.
        optim_wrapper: Of the runner; None or a config where it does not train.
    """
    if isinstance(model, SAM2FullySharded) and isinstance(optim_wrapper, OptimWrapper):
        model.attach(optim_wrapper.optimizer)


@contextmanager
def whole_state(model: nn.Module, *, with_optimizer: bool) -> Iterator[None]:
    """Let one process save what all processes share.

    To be entered by all processes.

    Args:
        model: Of a runner.
        with_optimizer: Whether the optimizer is saved as well.

    Yields:
        Nothing; inside, the first process finds the whole state. Models of other
        kinds are whole everywhere.
    """
    if not isinstance(model, SAM2FullySharded):
        yield
        return
    model.hold_whole_state(with_optimizer=with_optimizer)
    try:
        yield
    finally:
        model.drop_whole_state()
