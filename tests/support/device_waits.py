"""A device that stands in for a GPU, and a list of what would wait for it.

Tensors on it report the device ``meta``, so that the code under test takes the way of
an accelerator, but hold their numbers on the CPU. A *wait* is an operation for which
CUDA stops the host until the device has caught up: reading a number, a result whose
size depends on the data, or a copy between devices that is not ``non_blocking``.
"""

import traceback
from collections.abc import Iterable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device('meta')
HOST = torch.device('cpu')
aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# Operations that read numbers of the device, or whose results depend on them in size.
READS = {
    aten._local_scalar_dense,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.bincount,
    aten.repeat_interleave,
    aten._unique2,
}


class DeviceTensor(Tensor):
    """A tensor on the stand-in device; ``host`` holds its numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls: type['DeviceTensor'], host: Tensor) -> 'DeviceTensor':
        """Wrap a tensor of the CPU."""
        wrapper: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )
        wrapper.host = host
        return wrapper

    def tolist(self) -> Any:
        """Read all numbers, which torch refuses to do for a subclass."""
        return self.cpu().tolist()

    def new_tensor(  # type: ignore[override]  # which spells out the options
        self, data: Any, **options: Any
    ) -> Tensor:
        """Like :func:`torch.tensor`, in the type and on the device of this one."""
        return torch.tensor(data, **{'dtype': self.dtype, 'device': DEVICE, **options})

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch types it as disabled
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation outside of :class:`StandInDevice`; nothing is counted."""
        return StandInDevice().__torch_dispatch__(function, types, args, kwargs)


class StandInDevice(TorchDispatchMode):
    """Runs the operations of the stand-in device, and lists those that wait for it.

    Attributes:
        waits: Line of the project and name of each operation that waited.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.waits: list[str] = []
        self._patches = (
            patch.object(torch, 'tensor', partial(self._tensor, torch.tensor)),
            # Autocast knows no device of that name.
            patch.object(torch, 'autocast', partial(_autocast, torch.autocast)),
        )

    def __enter__(self) -> 'StandInDevice':
        """Begin to count."""
        for change in self._patches:
            change.start()
        super().__enter__()  # type: ignore[no-untyped-call]  # torch
        return self

    def __exit__(self, *error: Any) -> None:
        """End it."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch
        for change in self._patches:
            change.stop()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation on the CPU, and wrap what is on the device."""
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_device = {isinstance(tensor, DeviceTensor) for tensor in tensors}
        is_result_on_device = True in on_device
        if kwargs.get('device') is not None:
            is_result_on_device = torch.device(kwargs['device']) == DEVICE
            kwargs['device'] = HOST
        if _waits(
            function.overloadpacket, args, kwargs, on_device, is_result_on_device
        ):
            self.waits.append(f'{_project_line()}: {function.overloadpacket}')
        wrappers = {id(x.host): x for x in tensors if isinstance(x, DeviceTensor)}

        def wrapped(result: Any) -> Any:
            if not is_result_on_device or not isinstance(result, Tensor):
                return result
            if id(result) in wrappers:  # of an operation in place
                return wrappers[id(result)]
            return DeviceTensor(result)

        args, kwargs = tree_map(_host, (args, kwargs))
        return tree_map(wrapped, function(*args, **kwargs))

    def _tensor(
        self, make: Any, data: Any, *, device: Any = None, **options: Any
    ) -> Tensor:
        """``torch.tensor``, which on a device copies numbers of the host there."""
        if device is None or torch.device(device) != DEVICE:
            plain: Tensor = make(data, device=device, **options)
            return plain
        self.waits.append(f'{_project_line()}: torch.tensor')
        return DeviceTensor(make(data, **options))


def _waits(
    packet: Any,
    args: Any,
    kwargs: Any,
    on_device: Iterable[bool],
    is_result_on_device: bool,
) -> bool:
    if packet in COPIES:
        is_async = kwargs.get('non_blocking', False) or (
            packet is aten.copy_ and len(args) > 2 and args[2]
        )
        return len({*on_device, is_result_on_device}) > 1 and not is_async
    if packet in INDEXING:
        # The true elements of a mask are counted; an index on the host is copied.
        return True in on_device and any(
            index.dtype in (torch.bool, torch.uint8)
            or not isinstance(index, DeviceTensor)
            for index in args[1]
            if index is not None
        )
    return True in on_device and packet in READS


def _autocast(plain: Any, device_type: str, *args: Any, **options: Any) -> Any:
    return plain('cpu' if device_type == DEVICE.type else device_type, *args, **options)


def _host(part: Any) -> Any:
    return part.host if isinstance(part, DeviceTensor) else part


def _project_line() -> str:
    """The innermost line of the project in the stack."""
    for frame in reversed(traceback.extract_stack()):
        if 'projects/sam2/' in frame.filename:
            name = frame.filename.rpartition('projects/sam2/')[2]
            return f'{name}:{frame.lineno} {frame.line}'
    return 'outside of the project'


def move_to_stand_in(module: nn.Module) -> None:
    """Move the weights and buffers of a module to the stand-in device."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        module._apply(lambda tensor: DeviceTensor(tensor.detach()))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
