"""Measures the time and the peak memory of a training step."""

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from plain_training import plain_way  # type: ignore[import-not-found]
from torch import Tensor

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.models import SAM2
from projects.sam2.structures import ClipBatch, ClipSample, ClipTargets

ROOT = Path(__file__).resolve().parents[2]
WAYS = ('plain', 'ours', 'low_memory')
LOW_MEMORY = 'configs/_base_/schedules/finetune_40e_low_memory.py'
LOW_MEMORY_HOOK = 'SAM2LowMemoryHook'
MEGABYTE = 2**20
TOOL = Path(__file__).with_name('train_step.py')


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured.

    Attributes:
        config: File with a ``model``.
        image_size: Side of the square frames in pixels; a multiple of 32.
        num_frames: Frames of the clip.
        num_objects: Objects of the clip.
        prompt: ``'mask'``, or ``'points'``: a click, and seven corrections on each of
            two frames.
        device: ``'cpu'`` or ``'cuda'``.
        dtype: ``'float32'``, or ``'bfloat16'`` for autocast.
        dropout: Use the config's dropout; otherwise none.
        num_threads: Threads of torch on a CPU.
    """

    config: str
    image_size: int
    num_frames: int
    num_objects: int
    prompt: str
    device: str
    dtype: str
    dropout: bool
    num_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """Peak memory and time of steps in a process of their own.

    Attributes:
        megabytes: Peak memory above that of the loaded model.
        seconds: Time of the last step.
        forward_seconds: Time of its forward pass.
        trained_parameters: Number of parameters that the optimizer would update.
    """

    megabytes: float
    seconds: float
    forward_seconds: float
    trained_parameters: int


def build(setting: Setting, way: str) -> SAM2:
    """Build the model for one of the ``WAYS``, with the same weights for all."""
    config = Config.fromfile(setting.config)
    config.model.accumulators = []
    clicks = setting.prompt == 'points'
    config.model.prompt_simulator.update(
        point_probability=float(clicks),
        num_conditioning_frames=(1, 1),
        num_correction_frames=(2, 2) if setting.num_frames > 1 else (1, 1),
    )
    if not setting.dropout:
        config.model.tracker.memory_attention.dropout = 0.0
        config.model.image_encoder.backbone.drop_path_rate = 0.0
    torch.manual_seed(0)
    model: SAM2 = MODELS.build(config.model)
    model.train().to(setting.device)
    source = Config.fromfile(ROOT / LOW_MEMORY) if way == 'low_memory' else config
    for hook in source.get('custom_hooks', []) if way != 'plain' else []:
        if hook.type == LOW_MEMORY_HOOK:
            HOOKS.build(hook).apply(model)
    return model


def make_clip(setting: Setting) -> ClipBatch:
    """Generate a clip of noise with moving rectangles as objects."""
    masks = moving_rectangles(setting)
    num_frames, num_objects, size, _ = masks.shape
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(num_frames, 3, size, size, generator=generator)
    device = setting.device
    return ClipBatch(
        frames=frames.to(device),
        num_frames=num_frames,
        targets=ClipTargets(
            masks=masks.to(device),
            void=None,
            annotated=torch.ones(masks.shape[:2], dtype=torch.bool, device=device),
        ),
        objects_per_clip=(num_objects,),
        annotated_frames=frozenset(range(num_frames)),
        seeds=(0,),
    )


def make_sample(setting: Setting) -> ClipSample:
    """Generate the same objects in noise of 8 bits, as the data loader returns it."""
    masks = moving_rectangles(setting)
    num_frames, num_objects, size, _ = masks.shape
    generator = torch.Generator().manual_seed(0)
    shape = (num_frames, 3, size, size)
    sample = ClipSample(
        metainfo={
            'video_name': 'noise',
            'frame_indices': tuple(range(num_frames)),
            'sample_index': 0,
            'seed': 0,
        }
    )
    sample.frames = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    sample.masklets = masks
    sample.void = torch.zeros(num_frames, size, size, dtype=torch.bool)
    sample.annotated = torch.ones(num_frames, dtype=torch.bool)
    sample.object_ids = torch.arange(1, num_objects + 1)
    return sample


def moving_rectangles(setting: Setting) -> Tensor:
    """Masks of objects that move through a clip, (T, O, H, W), bool."""
    size, num_objects = setting.image_size, setting.num_objects
    shape = (setting.num_frames, num_objects)
    masks = torch.zeros(*shape, size, size, dtype=torch.bool)
    side = size // 3
    for frame in range(setting.num_frames):
        for index in range(num_objects):
            top = (size - side) * index // max(num_objects - 1, 1)
            left = (size - side) * frame // max(setting.num_frames - 1, 1)
            masks[frame, index, top : top + side, left : left + side] = True
    return masks


def run_step(
    model: SAM2, clip: ClipBatch, setting: Setting, way: str
) -> tuple[float, float]:
    """Run forward, loss and backward once, without changing the weights.

    Returns:
        Seconds of the step, and of its forward pass.
    """
    model.zero_grad(set_to_none=True)
    half = setting.dtype == 'bfloat16'
    with plain_way() if way == 'plain' else nullcontext():
        start = now(setting.device)
        with torch.autocast(setting.device, torch.bfloat16, enabled=half):
            total = sum(
                model.loss(clip).values(), torch.zeros((), device=clip.frames.device)
            )
        middle = now(setting.device)
        total.backward()
        end = now(setting.device)
    return end - start, middle - start


def now(device: str) -> float:
    """Read the CPU time, or on a GPU the wall clock once the device is done."""
    if device == 'cpu':
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def take_times(
    setting: Setting, ways: list[str], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Time steps of all given ``WAYS`` alternately.

    Returns:
        Results of :func:`run_step` for each way.
    """
    clip = make_clip(setting)
    models = {way: build(setting, way) for way in ways}
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, model in models.items():
            times[way].append(run_step(model, clip, setting, way))
            model.zero_grad(set_to_none=True)
    return {way: seconds[1:] for way, seconds in times.items()}  # without warm-up


def measure_peak(setting: Setting, way: str, num_steps: int) -> Peak:
    """Measure the peak memory of some steps; call it in a fresh process."""
    model, clip = build(setting, way), make_clip(setting)
    on_cpu = setting.device == 'cpu'
    loaded = resident('VmRSS') if on_cpu else torch.cuda.memory_allocated()
    times = [run_step(model, clip, setting, way) for _ in range(num_steps)]
    highest = resident('VmHWM') if on_cpu else torch.cuda.max_memory_allocated()
    seconds, forward_seconds = times[-1]
    return Peak(
        megabytes=(highest - loaded) / MEGABYTE,
        seconds=seconds,
        forward_seconds=forward_seconds,
        trained_parameters=sum(
            weight.numel() for weight in model.parameters() if weight.requires_grad
        ),
    )


def resident(name: str) -> int:
    """Read the resident memory of this process in bytes.

    Args:
        name: ``'VmRSS'`` for the current value, ``'VmHWM'`` for the peak so far.
    """
    status = Path('/proc/self/status').read_text(encoding='ascii')
    line = next(line for line in status.splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def peak_in_child(setting: Setting, way: str, num_steps: int) -> Peak:
    """Measure a peak in a new process."""
    job = {'setting': asdict(setting), 'way': way, 'num_steps': num_steps}
    done = subprocess.run(
        [sys.executable, TOOL, '--peak-of', json.dumps(job)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Peak(**json.loads(done.stdout.splitlines()[-1]))
