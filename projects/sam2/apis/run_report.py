"""The report of a run: one HTML page that needs no other file.

:func:`write_run_report` reads what a run has left in its ``work_dir`` and predicts a
few clips again for pictures. Whatever is missing is left out, and the page says why.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from mmengine.config import Config

from ..engine.config import BFLOAT16_WRAPPER, value_at
from ..evaluation import VideoScores, summarise
from ..evaluation.run_logs import (
    POSITION,
    SCORES,
    curve_points,
    is_number,
    preferred_metric,
)
from ..ops import write_atomically
from ..visualization.curves import Curve, Panel, draw_panel, sparkline
from .building import usable_device
from .run_files import RunFiles, find_run, read_baselines, read_config_copy
from .run_pictures import Pictures, draw_clips

TEMPLATE = 'run_report.html'
PAGE = 'report.html'
TIMES = ('time', 'data_time')
COPY_LABEL = 'copy'
PRECISIONS = {
    'OptimWrapper': 'float32',
    'AmpOptimWrapper': 'mixed precision',
    BFLOAT16_WRAPPER: 'bfloat16',
}
MAX_SPARKLINES = 400  # objects; the page would be too large otherwise


def write_run_report(
    work_dir: str | Path,
    *,
    out: str | Path | None = None,
    baselines: str | Path | None = None,
    cfg_options: dict[str, Any] | None = None,
    num_clips: int = 2,
    device: str | None = None,
) -> Path:
    """Write the report of a run: curves, scores, pictures of clips and settings.

    Example:
        >>> write_run_report('work_dirs/sam2_tiny_mose')
        PosixPath('work_dirs/sam2_tiny_mose/report.html')

    Args:
        work_dir: Folder of the run, which may be unfinished or moved.
        out: The page; ``report.html`` in ``work_dir`` by default.
        baselines: Scores to compare with, as ``tools/quickstart_report.py`` writes
            them; by default those in ``work_dir``, if any.
        cfg_options: Changes of the run's config, such as a new ``data_root``.
        num_clips: Worst and best clips to show, this many of each; 0 for none.
        device: Device that predicts them; a GPU by default if there is one.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: If the folder contains no run.
        ValueError: If its logs or the file of baselines are damaged, or there is no
            such device.
    """
    if num_clips < 0:
        msg = f'num_clips is {num_clips}; give 0 for no pictures, or a positive number'
        raise ValueError(msg)
    target_device = usable_device(device)
    files = find_run(Path(work_dir))
    rows = read_baselines(
        files.work_dir, None if baselines is None else Path(baselines)
    )
    pictures = draw_clips(files, cfg_options or {}, num_clips, target_device)
    target = Path(out) if out is not None else files.work_dir / PAGE
    write_atomically(target, render(files, rows, pictures))
    return target


def render(
    files: RunFiles, baselines: Sequence[Mapping[str, Any]], pictures: Pictures
) -> str:
    """Fill the template."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metrics = _validation_metrics(files.records) or [SCORES[0]]
    metric = preferred_metric(files.config, metrics, default=metrics[0])
    config = Path(str(files.run.get('config') or _config_name(files))).absolute()
    page = environment.get_template(TEMPLATE).render(
        # The config of `mmsam2 new` has the name of its folder.
        title=config.parent.name if config.stem == 'config' else config.stem,
        files=files,
        status=status(files),
        headline=headline(files, metric),
        baselines=baselines,
        panels=[
            (panel.title, Markup(draw_panel(panel)))  # noqa: S704  drawn here
            for panel in panels(files, metric, baselines)
        ],
        videos=video_table(files.scores),
        objects=object_table(files.scores),
        protocol='; '.join(
            sorted({video.protocol for video in files.scores if video.protocol})
        ),
        pictures=pictures,
        settings=settings(files.config),
        changes=changes(files),
        config_text='' if files.config is None else files.config.pretty_text,
        written=f'{datetime.now().astimezone():%d %B %Y, %H:%M}',
    )
    return str(page)


def _config_name(files: RunFiles) -> str:
    """Name of the config, from the copy that MMEngine puts into the work_dir."""
    copies = sorted(files.work_dir.glob('*.py'))
    return copies[0].name if copies else files.work_dir.resolve().name


def _validation_metrics(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the metrics of all validations, in the order of the log."""
    names = {
        name: None
        for record in records
        if 'iter' not in record and 'time' in record
        for name, value in record.items()
        if is_number(value) and name not in (*POSITION, *TIMES)
    }
    return list(names)


def status(files: RunFiles) -> str:
    """Say how far the run got."""
    trained = [record for record in files.records if 'iter' in record]
    if not trained:
        return 'tested'
    last = trained[-1]
    cfg = {} if files.config is None else files.config.get('train_cfg') or {}
    max_epochs, max_iters = cfg.get('max_epochs'), cfg.get('max_iters')
    minutes = curve_points(trained, ('iter',))[-1].minutes
    length = f'{minutes:.0f} min' if minutes >= 2 else f'{60 * minutes:.0f} s'
    took = f'{length} of training steps'
    if max_epochs:
        last_file = files.work_dir / f'epoch_{max_epochs}.pth'
        if files.run.get('finished') or last_file.is_file():
            plural = 's' if max_epochs > 1 else ''
            return f'finished: {max_epochs} epoch{plural}, {took}'
        epoch = int(last.get('epoch', 0))
        return f'unfinished: in epoch {epoch} of {max_epochs}, {took}'
    planned = f' of {max_iters}' if max_iters else ''
    return f'{int(last["iter"])}{planned} steps, {took}'


def headline(files: RunFiles, metric: str) -> list[tuple[str, str, str]]:
    """The best values: name, value and where they were reached."""
    names = SCORES if metric == SCORES[0] else (metric,)
    points = curve_points(files.records, names)
    finite = [point for point in points if math.isfinite(point.scores[metric])]
    if finite:
        best = max(finite, key=lambda point: point.scores[metric])
        place = f'best validation, at step {best.step}'
        return [
            (name, f'{value:.1f}', place if name == metric else '')
            for name, value in best.scores.items()
        ]
    summary = summarise(files.scores)
    if files.scores and summary.num_objects:
        values = (summary.j_and_f, summary.j, summary.f)
        return [
            (name, f'{value:.1f}', '')
            for name, value in zip(SCORES, values, strict=True)
        ]
    return []


def panels(
    files: RunFiles, metric: str, baselines: Sequence[Mapping[str, Any]]
) -> Iterator[Panel]:
    """Describe the figures: metrics, loss, learning rate, speed."""
    names = _validation_metrics(files.records)
    metrics = [metric, *(name for name in names if name != metric)]
    curves = list(_curves(files.records, metrics[:6]))
    if curves:
        lines = {
            row['label']: row['j_and_f']
            for row in baselines
            if COPY_LABEL in row['label']
        }
        yield Panel(
            title=f'{metric} of the validation set',
            curves=curves,
            baselines=lines if metric == SCORES[0] else {},
            marks_best=True,
        )
    trained = [record for record in files.records if 'iter' in record]
    logged = {name for record in trained for name in record}
    losses, steps = (
        sorted(name for name in logged if name.startswith(prefix))
        for prefix in ('loss_', 'step_')
    )
    for title, group, is_log in (
        ('Loss and its terms', ['loss', *losses[:5]], False),
        ('Loss by kind of step', steps, False),
        ('Learning rate', ['lr'], False),
        ('Norm of the gradient', ['grad_norm'], True),
        ('Clips per second', ['samples_per_second'], False),
    ):
        curves = list(_curves(trained, group))
        if curves:
            yield Panel(title=title, curves=curves, is_log=is_log)


def _curves(records: Sequence[dict[str, Any]], names: Sequence[str]) -> Iterator[Curve]:
    for name in names:
        points = [
            point
            for point in curve_points(records, (name,))
            if math.isfinite(point.scores[name])
        ]
        if points:
            yield Curve(
                name=name.removeprefix('step_').replace('loss_', ''),
                steps=[point.step for point in points],
                values=[point.scores[name] for point in points],
            )


def video_table(videos: Sequence[VideoScores]) -> list[dict[str, Any]]:
    """A row for each video."""
    rows = []
    for video in videos:
        summary = summarise([video])
        rows.append(
            {
                'video': video.video_name,
                'objects': len(video.objects),
                'frames': video.num_frames,
                **_numbers(summary.j_and_f, summary.j, summary.f),
            }
        )
    return rows


def object_table(videos: Sequence[VideoScores]) -> list[dict[str, Any]]:
    """A row for each object, with a line of its J&F over the frames."""
    objects = [(video, obj) for video in videos for obj in video.objects]
    has_lines = len(objects) <= MAX_SPARKLINES
    rows = []
    for video, obj in objects:
        pairs = zip(obj.frame_j, obj.frame_f, strict=True)
        line = sparkline([(j + f) / 2 for j, f in pairs]) if has_lines else ''
        rows.append(
            {
                'video': video.video_name,
                'object': obj.object_id,
                'frames': len(obj.frames),
                **_numbers(50 * (obj.j + obj.f), 100 * obj.j, 100 * obj.f),
                'line': Markup(line),  # noqa: S704  drawn here
            }
        )
    return rows


def _numbers(j_and_f: float, j: float, f: float) -> dict[str, float | None]:
    """Numbers of a row; None where no object counts."""
    numbers = {'j_and_f': j_and_f, 'j': j, 'f': f}
    return {
        name: None if math.isnan(value) else value for name, value in numbers.items()
    }


def settings(cfg: Config | None) -> list[tuple[str, str]]:
    """The settings that people ask for first."""
    if cfg is None:
        return []
    paths = (
        ('Data', 'data_root'),
        ('Initial weights', 'load_from'),
        ('Image size', 'model.data_preprocessor.image_size'),
        ('Memory frames', 'model.tracker.memory_bank.num_frames'),
        ('Optimizer', 'optim_wrapper.optimizer.type'),
        ('Learning rate', 'optim_wrapper.optimizer.lr'),
        ('Weight decay', 'optim_wrapper.optimizer.weight_decay'),
        ('Gradient clipping', 'optim_wrapper.clip_grad.max_norm'),
        ('Precision', 'optim_wrapper.type'),
        ('Accumulated steps', 'optim_wrapper.accumulative_counts'),
        ('Epochs', 'train_cfg.max_epochs'),
        ('Iterations', 'train_cfg.max_iters'),
        ('Clips per process and step', 'train_dataloader.batch_size'),
        ('Seed', 'randomness.seed'),
    )
    entries = dict(cfg.items())
    values = [(name, value_at(entries, path)) for name, path in paths]
    return [
        (name, str(PRECISIONS.get(value, value) if name == 'Precision' else value))
        for name, value in values
        if value is not None
    ]


def changes(files: RunFiles) -> list[tuple[str, str, str]]:
    """Entries that the command line changed: key, value of the config file, of the run.

    Empty if the config file is not there any more.
    """
    path = Path(str(files.run.get('config', '')))
    if files.config is None or not path.is_file():
        return []
    original = read_config_copy(path)
    if original is None:
        return []
    before, after = (dict(_flatten(cfg)) for cfg in (original, files.config))
    ignored = ('work_dir', 'launcher', 'model_wrapper_cfg', 'resume', 'load_from')
    return [
        (key, before.get(key, '(not set)'), after.get(key, '(not set)'))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(ignored)
    ]


def _flatten(node: Any, path: str = '') -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each value of nested dicts."""
    if isinstance(node, Config):
        node = dict(node.items())
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _flatten(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, list | tuple) and any(isinstance(v, Mapping) for v in node):
        for index, value in enumerate(node):
            yield from _flatten(value, f'{path}.{index}')
    else:
        value = list(node) if isinstance(node, tuple) else node
        yield path, repr(value)
