"""The summary of a run: what it starts with, in a few rows of plain words."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.version import __version__ as mmengine_version
from torch import nn

from ..version import __version__
from .config import EXPORTED_MODEL, part_name
from .distributed import unwrap_model
from .loops import CLIPS_PER_STEP

COUNT_SECONDS = 1.0  # for counting the objects and frames of a dataset


def training_rows(runner: Runner) -> dict[str, str]:
    """Describe a training run: a line for each row of the summary."""
    rows = {
        'model': describe_model(runner),
        'weights': describe_weights(runner),
    }
    if teacher := describe_teacher(runner.cfg.get('model') or {}):
        rows['teacher'] = teacher
    rows |= {
        'train': describe_data(runner.train_dataloader),
    }
    if runner.val_loop is not None:
        rows['validate'] = describe_data(runner.val_dataloader)
    return rows | {
        'schedule': describe_schedule(runner),
        'device': describe_device(runner),
        'files': describe_files(runner),
    }


def test_rows(runner: Runner) -> dict[str, str]:
    """Describe a test run: a line for each row of the summary."""
    return {
        'model': describe_model(runner),
        'weights': describe_weights(runner),
        'test': describe_data(runner.test_dataloader),
        'device': describe_device(runner),
        'files': describe_files(runner),
    }


def describe_model(runner: Runner) -> str:
    """Name, numbers of parameters and size of the images."""
    model: nn.Module = unwrap_model(runner.model)
    sizes = [(part.numel(), part.requires_grad) for part in model.parameters()]
    total = sum(size for size, _ in sizes)
    trained = sum(size for size, is_trained in sizes if is_trained)
    words = [type(model).__name__]
    if total:  # an exported model has none
        words.append(f'{_millions(total)} parameters')
    if is_training(runner):
        words.append(
            'all trained' if trained == total else f'{_millions(trained)} trained'
        )
    size = getattr(getattr(model, 'data_preprocessor', None), 'image_size', None)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        words.append(f'images of {width} x {height}')
    return ', '.join(words)


def describe_weights(runner: Runner) -> str:
    """Where the weights come from."""
    source, is_resumed = runner._load_from, runner._resume  # noqa: SLF001
    if is_resumed and runner.iter:
        path = source or 'the last checkpoint'
        return f'{path} (resumed after epoch {runner.epoch}, step {runner.iter})'
    if source and not is_resumed:
        return str(source)
    model = runner.cfg.get('model') or {}
    if part_name(model) == EXPORTED_MODEL:
        return str(model['folder'])
    # Parts of a model may read the same file.
    pretrained = dict.fromkeys(_pretrained_parts(model))
    return ', '.join(pretrained) if pretrained else 'random'


def describe_teacher(model: Mapping[str, Any]) -> str:
    """The teacher of a distilled model, and what the student takes from it."""
    teacher = model.get('teacher')
    if part_name(model) != 'SAM2Distillation' or teacher is None:
        return ''
    words = [teacher if isinstance(teacher, str) else part_name(teacher)]
    if checkpoint := model.get('teacher_checkpoint'):
        words.append(str(checkpoint))
    if parts := model.get('init_from_teacher'):
        words.append(f'its weights in {", ".join(parts)} of the student')
    return ', '.join(words)


def _pretrained_parts(node: Any) -> Iterator[str]:
    """Checkpoints of the model's ``init_cfg`` entries."""
    if isinstance(node, Mapping):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            yield str(node['checkpoint'])
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _pretrained_parts(child)


def describe_data(loader: Any) -> str:
    """Number of clips of a loader, and of their objects and frames where counted."""
    dataset = loader.dataset
    words = [count_of(len(dataset), item_noun(dataset))]
    counts = count_objects_and_frames(dataset)
    if counts is not None:
        words += [count_of(counts[0], 'object'), count_of(counts[1], 'frame')]
    text = ', '.join(words)
    lengths = next(_sampled_lengths(dataset), ())
    if lengths:
        (_, first), *later = lengths
        text += f'; {count_of(first, "frame")} of a clip at a time'
        text += ''.join(f', {frames} from epoch {epoch + 1}' for epoch, frames in later)
    return text


def item_noun(dataset: Any) -> str:
    """What an item of a dataset is called: ``clip``, or ``sample`` if not ours."""
    if hasattr(dataset, 'open_video'):
        return 'clip'
    for inner in (getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())):
        if inner is not None:
            return item_noun(inner)
    return 'sample'


def _sampled_lengths(dataset: Any) -> Iterator[Sequence[tuple[int, int]]]:
    """Frames that are sampled from each clip, by the epoch from which they are."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    yield from (part.lengths for part in transforms if hasattr(part, 'lengths'))
    for name in ('dataset', 'videos'):
        if hasattr(dataset, name):
            yield from _sampled_lengths(getattr(dataset, name))
    for part in getattr(dataset, 'datasets', ()):
        yield from _sampled_lengths(part)


def count_objects_and_frames(dataset: Any) -> tuple[int, int] | None:
    """Count the objects and frames of a dataset of ours.

    Masks may have to be decoded to know the objects, so that the count stops after a
    second: a summary must not delay a large run.

    Returns:
        Number of objects and of frames; None if unknown.
    """
    end = time.monotonic() + COUNT_SECONDS
    videos = getattr(dataset, 'videos', dataset)  # of ClipVideoDataset
    if not hasattr(videos, 'open_video') or not hasattr(videos, 'video_name'):
        return None
    num_objects = num_frames = 0
    for index in range(len(videos)):
        if time.monotonic() > end:
            return None
        try:
            source = videos.open_video(videos.video_name(index))
            num_objects += len(source.object_ids())
        except (OSError, ValueError, AttributeError):
            return None  # a corrupt clip is reported when it is drawn
        num_frames += source.num_frames
    return num_objects, num_frames


def describe_schedule(runner: Runner) -> str:
    """Epochs, steps, clips of a step, optimizer and learning rate."""
    num_steps = runner.max_iters
    wrapper: Any = runner.optim_wrapper
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        num_batches = len(runner.train_dataloader)
        length = f'{count_of(runner.max_epochs, "epoch")} of {num_batches} steps'
    else:
        length = count_of(num_steps, 'step')
    words = [length, _clips_of_step(runner.train_dataloader)]
    accumulated = getattr(wrapper, '_accumulative_counts', 1)
    if accumulated > 1:
        words.append(f'{accumulated} steps an update')
    optimizer = getattr(wrapper, 'optimizer', None)
    if optimizer is not None:
        rate = max(
            group.get('initial_lr', group['lr']) for group in optimizer.param_groups
        )
        words.append(f'{type(optimizer).__name__}, learning rate {rate:.3g}')
    return '; '.join(words)


def _clips_of_step(loader: Any) -> str:
    """Number of clips in a step, of all processes together."""
    processes = get_world_size()
    numbers = getattr(loader.batch_sampler, CLIPS_PER_STEP, None)
    if numbers is None:
        # A loader with a batch sampler has no size of its own.
        sampler = loader.batch_sampler
        numbers = [processes * getattr(sampler, 'batch_size', loader.batch_size)]
    noun = item_noun(loader.dataset)
    text = f'{" or ".join(map(str, numbers))} {noun}s a step'
    return f'{text} in {processes} processes' if processes > 1 else text


def describe_device(runner: Runner) -> str:
    """Device, number of processes, precision, and whether the model is compiled."""
    processes = get_world_size()
    if get_device() == 'cuda':
        device = torch.cuda.get_device_name()
        device = f'{processes} x {device}' if processes > 1 else device
    else:
        device = get_device().upper()
        threads = count_of(torch.get_num_threads(), 'thread')
        each = ' each' if processes > 1 else ''
        device += f', {count_of(processes, "process", "es")}, {threads}{each}'
    modules = runner.model.modules()
    is_compiled = any(module._compiled_call_impl for module in modules)  # noqa: SLF001
    # The first steps would seem to hang.
    note = '; compiled, which takes minutes at first' if is_compiled else ''
    return f'{device}; {_precision(runner)}{note}'


def _precision(runner: Runner) -> str:
    """Data type of the forward pass."""
    if not is_training(runner):
        layers = runner.model.modules()
        is_fast = any(getattr(layer, 'in_bfloat16', False) for layer in layers)
        return 'float32, large layers in bfloat16' if is_fast else 'float32'
    wrapper = runner.optim_wrapper
    dtype = getattr(wrapper, 'cast_dtype', None)
    if dtype is not None:
        return str(dtype).removeprefix('torch.')
    name = type(wrapper).__name__
    if 'BFloat16' in name:
        return 'bfloat16'
    return 'mixed precision' if 'Amp' in name else 'float32'


def describe_files(runner: Runner) -> str:
    """Where checkpoints and the log are."""
    log = Path(runner.log_dir) / f'{runner.timestamp}.log'
    return f'{relative_path(runner.work_dir)} (all messages: {relative_path(log)})'


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about results."""
    return {
        'mmsam2': __version__,
        'python': sys.version.split()[0],
        'torch': torch.__version__,
        'mmengine': mmengine_version,
    }


def is_training(runner: Runner) -> bool:
    """Whether a runner trains, and does not only test."""
    # The property `train_loop` would build the loop.
    return not isinstance(runner._train_loop, dict | None)  # noqa: SLF001


def _millions(number: int) -> str:
    return f'{number / 1e6:.3g} million'


def count_of(number: int, noun: str, plural: str = 's') -> str:
    """A number with its noun: ``1 clip``, ``1,200 clips``."""
    return f'{number:,} {noun}{plural if number != 1 else ""}'


def relative_path(path: str | Path) -> str:
    """A path relative to the working folder if it is below, else as it is."""
    absolute = Path(path).resolve()
    if absolute.is_relative_to(Path.cwd()):
        return str(absolute.relative_to(Path.cwd()))
    return str(path)
