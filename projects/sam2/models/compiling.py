"""Which parts of SAM 2 ``torch.compile`` compiles, and how, so that it does so once.

:func:`compile_model` compiles the parts with most of the work, the regions. Sessions,
the memory bank and the choice of prompts run eagerly. Each region is traced without a
graph break. torch takes sizes for constants and compiles again for others, so a region
declares what changes within a video: the numbers of objects, points and memories.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..ops import raise_recompile_limit
from ..structures import FramePrompt, PointPrompt
from .tracking.promptable import PromptableModel
from .tracking.session import SessionOptions, VideoSession

Backend = str | Callable[..., Any]

# Names of modules; `*` matches one level. Blocks and layers are compiled one by one:
# equal ones share what was compiled, so that 48 blocks take no longer than four.
REGIONS = (
    'image_encoder.backbone.blocks.*',
    'image_encoder.backbone.stages.*.blocks.*',
    'image_encoder.backbone.layers.*',  # of SAM 3
    'tracker.memory_attention.layers.*',
    'tracker.memory_encoder',
    'tracker.perceiver',
    'tracker.object_pointer',
    'prompt_encoder',
    'mask_decoder',
)
# Arguments whose second dimension changes (points, memories), beside the first.
OF_VARIABLE_LENGTH = frozenset({'coords', 'labels', 'sparse', 'memory', 'memory_keys'})
NUM_MAPS = 'num_maps'  # of memories in the tokens that a layer attends to
# Compiled variants of a region: blocks of different sizes, one object or several,
# training and evaluation. torch's own limit is 8.
MAX_VARIANTS = 64


def compile_model(model: nn.Module, *, backend: Backend = 'inductor') -> None:
    """Compile the regions of a SAM 2, each when it is first called.

    Results differ by rounding. A second call changes nothing, and copies of the model
    are not compiled. Threads may share the model. Compiling needs a C++ compiler, and
    Triton on a GPU; :func:`warm_up` does it before the first prompt.

    Args:
        model: The model, on its device.
        backend: Of ``torch.compile``.

    Example:
        >>> model = build_sam2('sam2.1_hiera_t', 'sam2.1_hiera_tiny.pt')
        >>> compile_model(model)

    Raises:
        ValueError: If the model is on a CPU, and there is no C++ compiler.
    """
    weight = next(model.parameters(), None)
    if backend == 'inductor' and weight is not None and weight.is_cpu:
        check_cpp_compiler('torch.compile', remedy='do not compile')
    for pattern in REGIONS:
        compiled = compile_variants(_call, backend=backend)
        for module in find_modules(model, pattern):
            if not isinstance(module._compiled_call_impl, CompiledRegion):  # noqa: SLF001
                # What nn.Module.compile sets: copies of the module and pickles lack it.
                module._compiled_call_impl = CompiledRegion(module, compiled)  # noqa: SLF001


@torch.no_grad()
def warm_up(model: PromptableModel, options: SessionOptions | None = None) -> None:
    """Run a short session of noise, so that all that a video needs is compiled.

    What is compiled depends on autocast and on inference mode: call this within the
    same contexts as the predictor.

    Args:
        model: A model in evaluation mode; see :func:`compile_model`.
        options: Those of the sessions that follow.
    """
    height, width = size = model.data_preprocessor.image_size
    frame = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    session = VideoSession(model, lambda _: frame, num_frames=7, options=options)
    device = model.device
    masks = torch.zeros(2, 1, height, width, dtype=torch.bool, device=device)
    masks[..., : height // 2, :] = True

    def prompt(frame_index: int, object_ids: Sequence[int], num_clicks: int) -> None:
        shape = len(object_ids), num_clicks
        clicks = PointPrompt(
            coords=torch.full((*shape, 2), min(size) / 2, device=device),
            labels=torch.ones(shape, dtype=torch.int32, device=device),
        )
        session.add_prompt(
            frame_index,
            object_ids,
            FramePrompt(points=clicks) if num_clicks else FramePrompt(mask=masks),
        )

    # One object is prompted by clicks and two by masks, on two frames each: a frame
    # between them attends to one memory or to several, and a frame after them in a
    # reverse pass has no pointer.
    for objects, num_clicks in (([0], 1), ([1, 2], 0)):
        prompt(0, objects, num_clicks)
        if num_clicks:
            prompt(0, objects, 2)  # refines the first mask
        session.step(1, object_ids=objects)
        session.step(2, object_ids=objects)
        if num_clicks:
            prompt(2, objects, 1)  # a correction
        session.step(5, object_ids=objects, reverse=True)
        prompt(4, objects, 2 * num_clicks)
        session.step(6, object_ids=objects, reverse=True)
    # On a CPU, torch chooses a convolution by whether there are 16 objects or fewer.
    num_objects = min(session.options.max_batch_objects, 16)
    model.tracker.encode_memory(
        session.features(0),
        torch.zeros(num_objects, 1, height, width, device=device),
        torch.ones(num_objects, 1, dtype=torch.bool, device=device),
        binary=False,
    )


def check_cpp_compiler(user: str, *, remedy: str) -> None:
    """Check that there is a C++ compiler, before minutes of tracing.

    Args:
        user: What needs it, for the error.
        remedy: What to do without one.

    Raises:
        ValueError: If there is none.
    """
    from torch._inductor import exc  # noqa: PLC0415  takes seconds
    from torch._inductor.cpp_builder import get_cpp_compiler  # noqa: PLC0415

    try:
        get_cpp_compiler()
    except exc.InvalidCxxCompiler as error:
        msg = (
            f'{user} needs a C++ compiler, and there is none; install g++ (Debian: '
            f'apt install g++), or {remedy}'
        )
        raise ValueError(msg) from error


def find_modules(model: nn.Module, pattern: str) -> list[nn.Module]:
    """Find the modules whose names match a pattern; ``*`` matches one level."""
    return [
        module
        for name, module in model.named_modules()
        if fnmatchcase(name, pattern) and name.count('.') == pattern.count('.')
    ]


def compile_variants(
    function: Callable[..., Any], *, backend: Backend
) -> Callable[..., Any]:
    """Compile a function as one graph, for all sizes that are marked."""
    limits: dict[str, Any] = {
        'recompile_limit': MAX_VARIANTS,
        'isolate_recompiles': True,
    }
    if not limits.keys() <= signature(torch.compile).parameters.keys():
        limits = {}  # older than torch 2.13
        raise_recompile_limit(MAX_VARIANTS * len(REGIONS))
    return torch.compile(
        function, backend=backend, fullgraph=True, dynamic=False, **limits
    )


def _call(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    numbers: dict[str, Tensor],
) -> Any:
    """Call a module as ``nn.Module`` does, with its hooks."""
    lengths = {name: empty.shape[0] for name, empty in numbers.items()}
    num_maps = lengths.pop(NUM_MAPS, None)
    if num_maps is not None:
        # torch would derive this number by divisions and check each in every call,
        # which takes as long as the layer on a GPU.
        num_tokens = num_maps * _memory_length(module, args[0])
        num_tokens += lengths['num_pointer_tokens']
        torch._check(kwargs['memory'].shape[1] == num_tokens)  # noqa: SLF001
        torch._check(kwargs['memory_keys'].shape[1] == num_tokens)  # noqa: SLF001
    return module._call_impl(*args, **kwargs, **lengths)  # noqa: SLF001


def _memory_length(layer: nn.Module, tokens: Tensor) -> int:
    """Number of tokens of a memory: that of the frame, or what EdgeTAM states."""
    attention = layer.get_submodule('cross_attention')
    return getattr(attention, 'memory_length', None) or tokens.shape[1]


class CompiledRegion:
    """Calls a module compiled, with the sizes declared that change between calls.

    Args:
        module: A module whose tensors all begin with a dimension of frames or objects.
        compiled: The compiled :func:`_call`.
    """

    def __init__(self, module: nn.Module, compiled: Callable[..., Any]) -> None:
        self.module = module
        self.compiled = compiled
        self.names = tuple(signature(module.forward).parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        lengths = {name: value for name, value in kwargs.items() if type(value) is int}
        if 'num_pointer_tokens' in lengths:
            num_tokens = kwargs['memory'].shape[1] - lengths['num_pointer_tokens']
            num_maps, rest = divmod(num_tokens, _memory_length(self.module, args[0]))
            lengths |= {} if rest else {NUM_MAPS: num_maps}
        args = tuple(
            _declare(value, name)
            for name, value in zip(self.names[: len(args)], args, strict=True)
        )
        # A number would be a constant, but the length of a tensor may vary.
        numbers = {
            n: _declare(torch.empty(length, 0), n) for n, length in lengths.items()
        }
        kwargs = {
            name: _declare(value, name)
            for name, value in kwargs.items()
            if name not in lengths
        }
        return self.compiled(self.module, args, kwargs, numbers)


def _declare(value: Any, name: str) -> Any:
    """Declare the sizes of an argument that change between calls."""
    if isinstance(value, tuple):
        return tuple(_declare(item, name) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        declared = {
            f.name: _declare(getattr(value, f.name), f.name) for f in fields(value)
        }
        return replace(value, **declared)
    if not isinstance(value, Tensor):
        return value
    # Variants are also told apart by strides, even where they mean nothing: those of a
    # single object depend on where it comes from, and an expanded map has none.
    if name == 'dense':
        value = value.contiguous()
    elif value.shape[0] == 1:
        value = value[0][None]
    dims = (0, 1) if name in OF_VARIABLE_LENGTH else (0,)
    # torch compiles sizes of 1, which broadcast, on their own.
    for dim in dims:
        if value.shape[dim] > 1:
            torch._dynamo.maybe_mark_dynamic(value, dim)  # noqa: SLF001
    return value
