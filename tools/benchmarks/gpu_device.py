"""The device that the GPU suite measures on: its clock, memory, precision and waits.

All that differs between a GPU and a CPU is here. A CPU stands in where there is no GPU,
so that the sections of the suite run everywhere.
"""

import gc
import platform
import shutil
import subprocess
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

import torch
from resident_memory import PeakMemory  # type: ignore[import-not-found]
from torch import Tensor
from torch.profiler import ProfilerActivity

Result = TypeVar('Result')
GIGABYTE = 2**30
PACKAGE = 'projects/sam2/'
WAIT = 'synchronizing CUDA operation'  # in the warning of torch
# Calls of the CUDA runtime that return when the device is done.
WAITING_CALLS = (
    'cudaDeviceSynchronize',
    'cudaEventSynchronize',
    'cudaMemcpy',
    'cudaStreamSynchronize',
)
NUM_TOP_KERNELS = 8
QUERY = 'name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw'


@dataclass(slots=True)
class Peak:
    """Peak memory in GB, known at the end of the block that is measured."""

    gb: float = 0.0


@dataclass(slots=True, kw_only=True)
class Profile:
    """What the device did while a job ran once.

    Attributes:
        busy_s: Time that the device computed, in seconds.
        num_kernels: Kernels and copies.
        num_waits: Calls in which the host waited for the device.
        top: Name, seconds and number of the kernels that took longest.
    """

    busy_s: float = 0.0
    num_kernels: int = 0
    num_waits: int = 0
    top: list[tuple[str, float, int]] = field(default_factory=list)


class HostDevice:
    """The CPU."""

    name = 'cpu'

    def synchronize(self) -> None:
        """Wait until all work is done; work on a CPU always is."""

    def timed(self, job: Callable[[], Result]) -> tuple[float, Result]:
        """Run a job; return the elapsed seconds and its result."""
        start = time.perf_counter()
        result = job()
        return time.perf_counter() - start, result

    @contextmanager
    def peak(self) -> Iterator['Peak']:
        """Measure the peak memory of a ``with`` block: resident memory on a CPU."""
        peak = Peak()
        with PeakMemory() as resident:
            yield peak
        peak.gb = resident.max_mb / 1024

    def release(self) -> None:
        """Free the memory of models that nobody holds any more."""
        gc.collect()

    def autocast(self, *, enabled: bool = True) -> AbstractContextManager[None]:
        """Compute in bfloat16, as the recipes do."""
        return torch.autocast(self.name, torch.bfloat16, enabled=enabled)

    def send(self, tensor: Tensor) -> Tensor:
        """Prepare a tensor as the data loader does, in page-locked memory for a GPU."""
        return tensor

    @contextmanager
    def waits(self) -> Iterator[list[str]]:
        """List the lines of the package that wait for the device; none for a CPU."""
        yield []

    def profile(self, job: Callable[[], object]) -> Profile:
        """Record what the device does while a job runs; nothing for a CPU."""
        del job
        return Profile()

    def describe(self) -> dict[str, Any]:
        """Versions, and what the machine is."""
        return {
            'device': platform.processor() or platform.machine(),
            'threads': torch.get_num_threads(),
            'python': platform.python_version(),
            'torch': torch.__version__,
        }


class CudaDevice(HostDevice):
    """A GPU.

    Args:
        cuda: ``torch.cuda``, or a module that stands in for it.
    """

    name = 'cuda'

    def __init__(self, cuda: ModuleType = torch.cuda) -> None:
        self.cuda: Any = cuda

    def synchronize(self) -> None:
        """Wait until all work is done."""
        self.cuda.synchronize()

    def timed(self, job: Callable[[], Result]) -> tuple[float, Result]:
        """Run a job; return the seconds between two events of the device."""
        start, end = (self.cuda.Event(enable_timing=True) for _ in range(2))
        self.synchronize()
        start.record()
        result = job()
        end.record()
        self.synchronize()
        return start.elapsed_time(end) / 1000, result

    @contextmanager
    def peak(self) -> Iterator['Peak']:
        """Measure the peak of the memory that torch allocates, with the model's."""
        self.cuda.reset_peak_memory_stats()
        peak = Peak()
        yield peak
        peak.gb = self.cuda.max_memory_allocated() / GIGABYTE

    def release(self) -> None:
        """Free the memory of models that nobody holds any more."""
        super().release()
        self.cuda.empty_cache()

    def send(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to page-locked memory, as the data loader does."""
        return tensor.pin_memory()

    @contextmanager
    def waits(self) -> Iterator[list[str]]:
        """List the lines of the package that wait for the device, where torch warns."""
        lines: list[str] = []
        before = self.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            show = warnings.showwarning

            def note(message: Warning | str, *rest: Any, **options: Any) -> None:
                if WAIT in str(message):
                    lines.append(project_line())
                else:
                    show(message, *rest, **options)

            warnings.simplefilter('always')
            warnings.showwarning = note
            self.cuda.set_sync_debug_mode('warn')
            try:
                yield lines
            finally:
                self.cuda.set_sync_debug_mode(before)

    def profile(self, job: Callable[[], object]) -> Profile:
        """Record what the device does while a job runs."""
        activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            job()
            self.synchronize()
        return summary(profiler.events() or [])

    def describe(self) -> dict[str, Any]:
        """Versions, what the machine is, and the clocks of the card."""
        card = self.cuda.get_device_properties(self.cuda.current_device())
        return {
            **super().describe(),
            'device': card.name,
            'memory_gb': round(card.total_memory / GIGABYTE, 1),
            'multiprocessors': card.multi_processor_count,
            'cuda': torch.version.cuda,
            'cudnn': torch.backends.cudnn.version(),
            'state': card_state(f'GPU-{getattr(card, "uuid", "")}'),
        }


def find_device() -> HostDevice:
    """The GPU if there is one, else the CPU."""
    return CudaDevice() if torch.cuda.is_available() else HostDevice()


def card_state(card: str) -> str:
    """Clocks, temperature and power of a card, which explain a slow run."""
    program = shutil.which('nvidia-smi')
    if program is None:
        return ''
    done = subprocess.run(
        [program, f'--query-gpu={QUERY}', '--format=csv,noheader', f'--id={card}'],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return '' if done.returncode else done.stdout.strip()


def project_line() -> str:
    """The innermost line of the package that is running."""
    for frame in reversed(traceback.extract_stack()):
        if PACKAGE in frame.filename:
            name = frame.filename.rpartition(PACKAGE)[2]
            return f'{name}:{frame.lineno} {frame.line}'
    return 'outside of the package'


def summary(events: Any) -> Profile:
    """Sum up the events of torch's profiler."""
    result = Profile()
    seconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for event in events:
        if getattr(event, 'is_user_annotation', False):
            continue  # it spans kernels that are counted themselves
        if event.device_type.name == 'CUDA':
            took = event.time_range.elapsed_us() / 1e6
            result.busy_s += took
            seconds[event.name] += took
            counts[event.name] += 1
        elif event.name in WAITING_CALLS:
            result.num_waits += 1
    result.num_kernels = sum(counts.values())
    result.top = [
        (name, round(took, 6), counts[name])
        for name, took in seconds.most_common(NUM_TOP_KERNELS)
    ]
    return result
