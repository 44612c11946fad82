"""Runs exported ONNX graphs with ONNX Runtime, on a CPU or a GPU."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ops import import_optional
from .backend import FileRunner, check_inputs

PROVIDERS = {
    'cpu': 'CPUExecutionProvider',
    'cuda': 'CUDAExecutionProvider',
    'tensorrt': 'TensorrtExecutionProvider',
}
# pip package that brings each provider.
PACKAGES = {
    'cpu': 'onnxruntime',
    'cuda': 'onnxruntime-gpu',
    'tensorrt': 'onnxruntime-gpu',
}
ERRORS_ONLY = 3  # log severity of ONNX Runtime


class OnnxRunner(FileRunner):
    """Runs the graphs of an export with ONNX Runtime.

    Inputs and outputs are torch tensors on :attr:`device`, which ONNX Runtime reads and
    writes in place. A graph is opened, and its file checked, when it is first run.

    Args:
        folder: Folder of the export.
        provider: ``'cpu'``, ``'cuda'`` or ``'tensorrt'``, or several in the order in
            which ONNX Runtime prefers them, such as ``('tensorrt', 'cuda')``: nodes
            that one does not run go to the next, and in the end to the CPU. By default
            that of the device.
        device: Device of inputs and outputs; by default that of the provider, and
            ``'cuda'`` without a provider if torch has a GPU.
        num_threads: Threads of an operator on a CPU; by default as many as torch uses.

    Raises:
        FileNotFoundError: If there is no export.
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the export is damaged or of another runtime, or a provider is
            unknown or not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        provider: str | Sequence[str] | None = None,
        device: str | torch.device | None = None,
        num_threads: int | None = None,
    ) -> None:
        super().__init__(folder)
        if self._manifest.runtime != 'onnx':
            msg = f'{folder} holds no ONNX graphs, but {self._manifest.runtime}'
            raise ValueError(msg)
        self._onnxruntime = import_optional(
            'onnxruntime', purpose='Running an exported ONNX model'
        )
        self._names, self.device = _choose(provider, device)
        available = self._onnxruntime.get_available_providers()
        for name in self._names:
            if PROVIDERS[name] not in available:
                msg = (
                    f'ONNX Runtime has no provider {name!r}, only '
                    f'{", ".join(available)}; pip install {PACKAGES[name]} in place of '
                    f"onnxruntime, or give device='cpu'"
                )
                raise ValueError(msg)
        if num_threads is None:
            num_threads = torch.get_num_threads()
        if not isinstance(num_threads, int) or num_threads < 1:
            msg = f'num_threads is {num_threads!r}; give a whole number of at least 1'
            raise ValueError(msg)
        self.num_threads = num_threads

    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph; see :class:`GraphRunner`."""
        exported = self._manifest.graphs[graph]
        sizes = check_inputs(graph, exported.inputs, inputs)
        session = self._graph(graph)
        bound = {
            name: tensor.detach().to(self.device).contiguous()
            for name, tensor in inputs.items()
        }
        outputs = {
            spec.name: torch.empty(
                [s if isinstance(s, int) else sizes[s] for s in spec.shape],
                dtype=getattr(torch, spec.dtype),
                device=self.device,
            )
            for spec in exported.outputs
        }
        binding = session.io_binding()
        for spec in exported.inputs:
            binding.bind_input(spec.name, *self._memory(bound[spec.name], spec.dtype))
        for spec in exported.outputs:
            binding.bind_output(
                spec.name, *self._memory(outputs[spec.name], spec.dtype)
            )
        if self.device.type == 'cuda':
            # ONNX Runtime has a stream of its own, and waits for it at the end.
            torch.cuda.current_stream(self.device).synchronize()
        session.run_with_iobinding(binding)
        return outputs

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle how to open the folder again, for another process."""
        again = partial(
            OnnxRunner,
            provider=self._names,
            device=self.device,
            num_threads=self.num_threads,
        )
        return again, (self._folder,)

    def _memory(self, tensor: Tensor, dtype: str) -> tuple[Any, ...]:
        """Where a tensor lies, as ONNX Runtime binds it."""
        device = self.device
        address = tensor.data_ptr()
        return device.type, device.index or 0, np.dtype(dtype), tensor.shape, address

    def _open(self, path: Path) -> Any:
        """Open a graph.

        Raises:
            ValueError: If this version of ONNX Runtime cannot load it, or a provider
                does not start.
        """
        ort = self._onnxruntime
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.num_threads
        options.log_severity_level = ERRORS_ONLY
        # Threads of one graph would spin while torch or another graph computes.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        providers = [PROVIDERS[name] for name in self._names]
        on_gpu = {'device_id': str(self.device.index or 0)}
        try:
            session = ort.InferenceSession(
                path,
                sess_options=options,
                providers=[
                    (p, on_gpu if p != PROVIDERS['cpu'] else {}) for p in providers
                ],
            )
        except Exception as error:  # its errors have no common base class
            opset = self._manifest.opset
            msg = (
                f'onnxruntime {ort.__version__} cannot load {path} '
                f'({_last_sentence(error)}); the graph is of opset {opset}: pip '
                f'install --upgrade onnxruntime, or export it with an older --opset'
            )
            raise ValueError(msg) from error
        for name, provider in zip(self._names, providers, strict=True):
            if provider not in session.get_providers():
                msg = (
                    f'The provider {name!r} of ONNX Runtime does not start: its '
                    f'libraries (CUDA, cuDNN, TensorRT) are missing or of another '
                    f"version; install them, or give device='cpu'"
                )
                raise ValueError(msg)
        return session


def _choose(
    provider: str | Sequence[str] | None, device: str | torch.device | None
) -> tuple[tuple[str, ...], torch.device]:
    """Choose providers and device, each by default that of the other."""
    has_gpu = torch.cuda.is_available()
    if provider is None:
        target = torch.device(device or ('cuda' if has_gpu else 'cpu'))
        names: tuple[str, ...] = (target.type,)
    else:
        names = (provider,) if isinstance(provider, str) else tuple(provider)
        # Without a GPU in torch, tensors lie in the memory of the host.
        on_gpu = has_gpu and names != ('cpu',)
        target = torch.device(device or ('cuda' if on_gpu else 'cpu'))
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or not names:
        msg = (
            f'There is no provider {(unknown or names)!r}; give one or several of '
            f'{", ".join(PROVIDERS)}'
        )
        raise ValueError(msg)
    if target.type == 'cuda' and names == ('cpu',):
        msg = f"The provider 'cpu' cannot work on {target}; leave one of the two out"
        raise ValueError(msg)
    return names, target


def _last_sentence(error: Exception) -> str:
    """The end of an error of ONNX Runtime, without the place in its source."""
    text = ' '.join(str(error).split())
    return text.rpartition(') ')[2] or text
