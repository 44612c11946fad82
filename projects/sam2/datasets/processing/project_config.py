"""Choose a recipe for the data and the device of a user, and write its config."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import torch

from ...ops import write_atomically
from ..io.listing import write_list
from .checking import ClipReport
from .config_sources import DatasetConfig
from .layouts import PROJECT_DATA
from .project_data import DataSplit, InspectedData, count
from .project_options import CONFIG, LEFT_OUT_LIST, SIZES, TRAIN_LIST, VAL_LIST

# Recipe ------------------------------------------------------------------------------

NUM_EPOCHS = 20
NUM_VALIDATIONS = 10  # of a run
MAX_DRAWS = 40_000  # of clips or images in a run; large data have fewer epochs
# Clips or images of an epoch, at least; few data are repeated.
MINI_CLIPS, CLIPS, IMAGES = 48, 100, 200
CPU_SHARE = 0.2  # of that on a CPU, unless the model is small
MAX_GENERATED = 1000
MAX_VAL_FRAMES = 300  # of a mini model; of more, every third is predicted
# GB of a GPU from which on a schedule fits, and whether the image encoder is frozen.
SCHEDULES = (
    (70, 'finetune_40e', False),
    (36, 'finetune_40gb', False),
    (20, 'finetune_24gb', False),
    (14, 'finetune_16gb', True),
    (0, 'finetune_8gb', True),
)
IMAGE_MEMORY = 0.5  # of a batch of images, in that of a clip of eight frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a project trains on.

    Attributes:
        memory: Of the GPU in GB; None for a CPU.
    """

    memory: float | None

    def __str__(self) -> str:
        return 'a CPU' if self.memory is None else f'a GPU of {self.memory:.0f} GB'


def find_device() -> Device:
    """The GPU of this machine with the least memory, or its CPU."""
    memory = [
        torch.cuda.get_device_properties(index).total_memory / 2**30
        for index in range(torch.cuda.device_count())
    ]
    return Device(memory=min(memory, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a project trains.

    Attributes:
        size: A name of :data:`SIZES`.
        device: What it is for.
        image_size: Side of the images in pixels, in model, training and validation.
        schedule: Name of the schedule's config.
        is_frozen: Whether the image encoder is not trained.
        num_frames: Frames of a clip; None where the pipeline's number is right.
        batch_size: Clips or images of a step.
        times: How often an epoch shows each clip or image.
        num_generated: Generated clips of an epoch.
        num_steps: Steps of an epoch.
        max_epochs: Epochs of the run.
        val_stride: Every n-th frame of the validation is predicted.
    """

    size: str
    device: Device
    image_size: int
    schedule: str
    is_frozen: bool
    num_frames: int | None
    batch_size: int
    times: int
    num_generated: int
    num_steps: int
    max_epochs: int
    val_stride: int

    @property
    def val_interval(self) -> int:
        """Epochs from one validation to the next."""
        return max(1, self.max_epochs // NUM_VALIDATIONS)

    @property
    def total_steps(self) -> int:
        """Steps of the run."""
        return self.num_steps * self.max_epochs

    @property
    def is_mini(self) -> bool:
        """Whether the model is the small one, whose weights come with the package."""
        return self.weights is None

    @property
    def weights(self) -> str | None:
        """Name of the released weights; None for the small model."""
        return SIZES[self.size][1]


def plan_training(
    split: DataSplit,
    size: str,
    device: Device,
    *,
    reports: Mapping[str, ClipReport],
    image_size: int | None = None,
) -> Recipe:
    """Choose a recipe for the amount of data and the device.

    A run has one to two thousand steps, fewer on a CPU.

    Args:
        size: A name of :data:`SIZES`.
        reports: Of the clips of the validation, by name.
        image_size: Side in pixels; None for what suits model and device.
    """
    is_video, is_mini = split.num_frames is not None, size == 'mini'
    is_cpu = device.memory is None
    schedule, is_frozen = 'mini', False
    if not is_mini:
        memory = 80.0 if device.memory is None else device.memory
        memory /= 1.0 if is_video else IMAGE_MEMORY
        _, schedule, is_frozen = next(row for row in SCHEDULES if memory >= row[0])
        is_frozen = is_frozen or is_cpu
    is_short = not is_mini and (is_cpu or schedule == 'finetune_8gb')
    num_frames = min(split.num_frames or 1, 4 if is_short else 8)
    least = (MINI_CLIPS if is_mini else CLIPS) if is_video else IMAGES
    if is_cpu and not is_mini:
        least = round(least * CPU_SHARE)
    times = ceil(least / len(split.train))
    num_real = times * len(split.train)
    num_generated = min(num_real, MAX_GENERATED) if is_mini and is_video else 0
    num_draws = num_real + num_generated
    batch_size = (2 if is_mini else 1) if is_video else 4
    val_reports = [reports[name] for name in split.val]
    num_val_frames = sum(report.num_frames for report in val_reports)
    is_dense = all(r.num_annotated == r.num_frames for r in val_reports)
    is_strided = is_mini and is_dense and num_val_frames > MAX_VAL_FRAMES
    return Recipe(
        size=size,
        device=device,
        image_size=image_size or (128 if is_mini else 512 if is_short else 1024),
        schedule=schedule,
        is_frozen=is_frozen,
        num_frames=num_frames if is_video and num_frames < 8 else None,
        batch_size=batch_size,
        times=times,
        num_generated=num_generated,
        num_steps=ceil(num_draws / batch_size),
        max_epochs=max(1, min(NUM_EPOCHS, MAX_DRAWS // num_draws)),
        val_stride=3 if is_strided else 1,
    )


# Files -------------------------------------------------------------------------------


def write_project(
    folder: Path, name: str, data: InspectedData, split: DataSplit, recipe: Recipe
) -> None:
    """Write the lists and the config of a project.

    Args:
        folder: Of the project; it has the links already.
        name: Of the project.
    """
    write_list(folder / TRAIN_LIST, list(split.train))
    write_list(folder / VAL_LIST, list(split.val))
    left_out = {**data.left_out, **split.left_out}
    if left_out:
        lines = [f'{clip}: {why}\n' for clip, why in left_out.items()]
        write_atomically(folder / LEFT_OUT_LIST, ''.join(lines))
    source, *others = (dict(each) for each in data.sources)
    if data.layout.links:
        del source['data_root']
    differing = {
        key: value
        for other in others
        for key, value in other.items()
        if source.get(key) != value
    }
    noun = 'clip' if data.layout.is_video else 'image'
    model = 'A small SAM 2.1' if recipe.is_mini else f'SAM 2.1 {recipe.size}'
    title = (
        f'{model} on {name}: {count(len(split.train), noun)} to train, '
        f'{len(split.val)} to validate.'
    )
    text = config_text(recipe, split, source, title=title, val_options=differing)
    write_atomically(folder / CONFIG, text)


HERE = '{{ fileDirname }}'  # MMEngine replaces it by the folder of the config
MINI_WEIGHTS = 'sam2_mini.pth'  # found by name, as released weights are
BASE = 'mmsam2::_base_/'  # the configs of this package, wherever it is installed


def config_text(
    recipe: Recipe,
    split: DataSplit,
    source: DatasetConfig,
    *,
    title: str,
    val_options: DatasetConfig,
) -> str:
    """Write the config of a project.

    Args:
        source: Source of the clips; without ``data_root`` it reads the links.
        title: First line.
        val_options: Options in which the source of the validation differs.
    """
    pipeline = 'images' if split.num_frames is None else 'clips'
    root = source.get('data_root', f'{HERE}/{PROJECT_DATA}')
    bases = (
        f'models/sam2_1_{SIZES[recipe.size][0]}.py',
        f'pipelines/{pipeline}{"_mini" if recipe.is_mini else ""}.py',
        f'schedules/{recipe.schedule}.py',
        'default_runtime.py',
    )
    lines = [
        f'"""{title}"""',
        '',
        *_statement('_base_', [f'{BASE}{name}' for name in bases]),
        '',
        f'data_root = {root!r}',
        f'image_size = ({recipe.image_size}, {recipe.image_size})  # of model and data',
        f"work_dir = '{HERE}/work_dir'  # logs, checkpoints, pictures",
    ]
    if recipe.weights:
        lines.append(f"load_from = 'checkpoints/{recipe.weights}.pt'")
    else:
        lines.append(f"load_from = '{MINI_WEIGHTS}'  # comes with mmsam2; or None")
    lines += ['', *_data_lines(recipe, split, source, val_options), '']
    lines += _model_lines(recipe, split)
    epochs = _Call(max_epochs=recipe.max_epochs, val_interval=recipe.val_interval)
    lines += _statement('train_cfg', epochs, f'{recipe.num_steps} steps each')
    if split.num_frames is None:
        lines.append("default_hooks = dict(checkpoint=dict(save_best='mIoU_1_click'))")
    elif recipe.is_mini:
        lines.append("custom_hooks = [dict(type='EMAHook', momentum=0.01)]")
    return '\n'.join(lines) + '\n'


def _data_lines(
    recipe: Recipe,
    split: DataSplit,
    source: DatasetConfig,
    val_options: DatasetConfig,
) -> list[str]:
    """Statements of the sources and the loaders."""
    noun = 'images' if split.num_frames is None else 'clips'
    own = {key: value for key, value in source.items() if key in val_options}
    shared = {k: v for k, v in source.items() if k not in {*own, 'data_root', 'type'}}
    code = _Call(type=source['type'], data_root=_Code('data_root'), **shared)
    lines = _statement('source', code)
    pipeline = _Code('{{_base_.train_pipeline}}')
    if recipe.num_frames is not None:
        sampling = _Call(
            type='ClipSampleFrames', num_frames=recipe.num_frames, max_num_objects=3
        )
        steps = [sampling, _Code('*_base_.train_pipeline[1:]')]
        lines += _statement('train_pipeline', steps)
        pipeline = _Code('train_pipeline')
    listed = _Call(file_list=f'{HERE}/{TRAIN_LIST}', **own)
    train = _part(listed, split, 'stop', pipeline=pipeline)
    val = _part(_Call(file_list=f'{HERE}/{VAL_LIST}', **val_options), split, 'start')
    lines += [*_statement('train_source', train), *_statement('val_source', val)]
    dataset: object = _Code('train_source')
    if recipe.times > 1:
        dataset = _Call(type='RepeatDataset', times=recipe.times, dataset=dataset)
        shown = f'an epoch shows each of the {noun} {recipe.times} times'
        lines += _statement(f'train_{noun}', dataset, shown)
        dataset = _Code(f'train_{noun}')
    if recipe.num_generated:
        generated = _Call(num_clips=recipe.num_generated)
        generated['**'] = '_base_.generated_clips'
        lines += _statement('generated_clips', generated, 'real ones are few')
        datasets = [dataset, _Code('generated_clips')]
        dataset = _Call(type='ConcatDataset', datasets=datasets)
    loader = _Call(batch_size=recipe.batch_size, dataset=dataset)
    lines += _statement('train_dataloader', loader)
    whole = _Call(dataset=_Code('val_source'))
    if recipe.val_stride > 1:
        whole['frame_stride'] = recipe.val_stride
    lines += _statement('val_dataloader', _Call(dataset=whole))
    return [*lines, 'test_dataloader = val_dataloader']


def _part(options: '_Call', split: DataSplit, side: str, **rest: '_Code') -> '_Call':
    """The source with its list; of one video, the frames on a side of the cut."""
    source: dict[str, Any] = {'**': 'source'}
    if split.cut is None:
        return _Call({**options, **rest, **source})
    part = {side: split.cut, 'dataset': _Call({**options, **source})}
    return _Call({'type': 'ClipRangeDataset', **part, **rest})


def _model_lines(recipe: Recipe, split: DataSplit) -> list[str]:
    """Statement of what differs from the model of the base, if anything does."""
    model = _Call()
    comments = []
    if recipe.is_frozen:
        freezing = _Call(type='SAM2Freezing', parts=['image_encoder'])
        model['adaptations'] = [freezing]
        comments.append('the image encoder stays as released')
    if split.num_frames is None:
        model['**'] = '_base_.image_validation'
        comments.append('validates with boxes and clicks')
    elif not split.skip_last:
        protocol = _Call(type='JFDavisProtocol', skip_last=False)
        recorder = _Call(type='MaskletRecorder', max_videos=2, max_frames=40)
        scores = _Call(type='JFAccumulator', protocol=protocol)
        model['accumulators'] = [scores, recorder]
        comments.append('scores the last mask of a clip, since masks are few')
    return _statement('model', model, '; '.join(comments)) if model else []


# Text of a config --------------------------------------------------------------------

WIDTH = 88


class _Code(str):
    """Code as it is, not a string of the config."""

    __slots__ = ()


class _Call(dict[str, Any]):
    """Is written as ``dict(key=value)``; the key ``**`` unpacks a variable."""


def _statement(name: str, value: object, comment: str = '') -> list[str]:
    """Write ``name = value``, broken into lines if it is too long for one."""
    lines = _broken(f'{name} = ', value, '', 0)
    if not comment:
        return lines
    if len(lines) == 1 and len(f'{lines[0]}  # {comment}') <= WIDTH:
        return [f'{lines[0]}  # {comment}']
    return [f'# {comment[0].upper()}{comment[1:]}.', *lines]


def _broken(head: str, value: object, tail: str, indent: int) -> list[str]:
    pad = ' ' * indent
    line = f'{pad}{head}{_written(value)}{tail}'
    if len(line) <= WIDTH or not isinstance(value, _Call | list):
        return [line]
    if isinstance(value, list):
        begin, end, items = '[', ']', [('', item) for item in value]
    else:
        begin, end = 'dict(', ')'
        items = [
            ('**', _Code(item)) if key == '**' else (f'{key}=', item)
            for key, item in value.items()
        ]
    inner = ', '.join(f'{key}{_written(item)}' for key, item in items)
    lines = [f'{pad}    {inner}']
    if len(lines[0]) > WIDTH:
        broken = [_broken(key, item, ',', indent + 4) for key, item in items]
        lines = list(chain.from_iterable(broken))
    return [f'{pad}{head}{begin}', *lines, f'{pad}{end}{tail}']


def _written(value: object) -> str:
    """A value in one line."""
    if isinstance(value, _Code):
        return str(value)
    if isinstance(value, list):
        return f'[{", ".join(map(_written, value))}]'
    if isinstance(value, Mapping):
        pairs = [
            f'**{item}' if key == '**' else f'{key}={_written(item)}'
            for key, item in value.items()
        ]
        return f'dict({", ".join(pairs)})'
    return repr(value)
