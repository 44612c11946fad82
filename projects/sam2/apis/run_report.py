"""The report of a run: one HTML page that needs no other file.

:func:`write_run_report` reads what a run has left in its ``work_dir`` and predicts a
few clips again for pictures. Whatever is missing is left out, and the page says why.
"""

import base64
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from ..engine.config import BFLOAT16_WRAPPER, load_config
from ..engine.screen import RUN_FILE
from ..evaluation import VideoScores, summarise
from ..evaluation.metrics import (
    BEST,
    FRAME_FILE,
    SCORE_FOLDER,
    read_report,
)
from ..evaluation.run_logs import (
    POSITION,
    SCALARS,
    SCORES,
    curve_points,
    find_logs,
    is_number,
    read_records,
)
from ..ops import write_atomically
from ..structures import VideoRecord, VideoSource
from ..visualization.curves import Curve, Panel, draw_panel, sparkline
from ..visualization.drawing import Picture
from ..visualization.strips import draw_strip
from .building import build_sam2, usable_device

TEMPLATE = 'run_report.html'
PAGE = 'report.html'
BASELINES = Path('report') / 'scores.json'  # of tools/quickstart_report.py
TIMES = ('time', 'data_time')
COPY_LABEL = 'copy'
PRECISIONS = {
    'OptimWrapper': 'float32',
    'AmpOptimWrapper': 'mixed precision',
    BFLOAT16_WRAPPER: 'bfloat16',
}
MAX_SPARKLINES = 400  # objects; the page would be too large otherwise
MAX_PICTURE_BYTES = 400_000
MAX_BYTES = 1_600_000  # of all pictures together
RECORDED_FRAMES = 120
ENVIRONMENT = re.compile(r'System environment:\n(.*?)\n-{20,}', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """What a run has left.

    Attributes:
        work_dir: Folder of the run.
        parts: Its time-stamped folders with a log, oldest first; a run has several if
            it was resumed.
        config: The run's whole config; None if there is none.
        config_path: Its file.
        records: All records of the logs.
        run: ``run.json`` of the newest part; empty for runs of other programs.
        started: When the first part started, as the name of its folder says.
        scores: Scores of the best validation; empty if there are none.
        checkpoint: The best checkpoint, else the newest; None if there is none.
        environment: Text of the log about the machine and the packages.
    """

    work_dir: Path
    parts: Sequence[Path]
    config: Config | None
    config_path: Path | None
    records: Sequence[dict[str, Any]]
    run: Mapping[str, Any]
    started: str
    scores: Sequence[VideoScores]
    checkpoint: Path | None
    environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnClip:
    """A picture of a clip.

    Attributes:
        kind: ``worst``, ``best`` or ``example``.
        name: Name of the clip.
        score: Its J&F, 0 to 100; None if unknown.
        image: The picture as a data URI.
    """

    kind: str
    name: str
    score: float | None
    image: str


@dataclass(slots=True, kw_only=True)
class Pictures:
    """Pictures of clips, or why there are none.

    Attributes:
        clips: The worst and the best clips, or the first ones if none was scored.
        problem: Why there are none; empty if there are some.
    """

    clips: list[DrawnClip] = field(default_factory=list)
    problem: str = ''


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


# --------------------------------------------------------------------- Reading a run


def find_run(work_dir: Path) -> RunFiles:
    """Find and read the files of a run.

    Raises:
        FileNotFoundError: If the folder contains no run.
        ValueError: If nothing in its logs can be read.
    """
    parts = run_parts(work_dir)
    logs = [find_logs(part)[-1] for part in parts]
    records = read_records(logs)
    if not records:
        msg = f'{logs[-1]}: nothing in it can be read; the log is empty or damaged'
        raise ValueError(msg)
    # The folder of the parts, even if one of them was given.
    folder = parts[-1].parent
    config_path = _config_path(parts[-1], folder)
    return RunFiles(
        work_dir=folder,
        parts=parts,
        config=None if config_path is None else _read_config(config_path),
        config_path=config_path,
        records=records,
        run=_read_run_file(parts[-1] / RUN_FILE),
        started=_time_of(parts[0].name),
        scores=_best_scores(parts),
        checkpoint=_best_checkpoint(folder),
        environment=_environment(parts[-1]),
    )


def run_parts(work_dir: Path) -> list[Path]:
    """Find the time-stamped folders of a training run, oldest first.

    Folders of tests are left out if there is a training run.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not work_dir.is_dir():
        msg = f'{work_dir} is no folder; give the work_dir of a run'
        raise FileNotFoundError(msg)
    if (work_dir / 'vis_data').is_dir():
        work_dir = work_dir.resolve().parent
    folders = sorted(path.parent for path in work_dir.glob('*/vis_data'))
    logged = [folder for folder in folders if (folder / SCALARS).is_file()]
    logged = logged or [
        folder for folder in folders if list(folder.glob('vis_data/events.out.*'))
    ]
    trained = [folder for folder in logged if _is_training(folder)]
    if trained or logged:
        return trained or logged
    below = sorted({path.parents[2] for path in work_dir.glob(f'*/*/{SCALARS}')})
    msg = f'{work_dir} contains no run (no <time>/{SCALARS})'
    if below:
        names = ', '.join(map(str, below[:3])) + ', …' * (len(below) > 3)
        msg += f'; give one of the runs below it: {names}'
    else:
        msg += '; give the work_dir of a run, as --work-dir named it'
    raise FileNotFoundError(msg)


def _is_training(part: Path) -> bool:
    """Whether a log has records of training steps."""
    log = find_logs(part)[-1]
    if log.suffix != '.json':
        return True
    with log.open(encoding='utf-8', errors='replace') as file:
        return any('"iter"' in line and '"lr"' in line for line in file)


def _config_path(part: Path, work_dir: Path) -> Path | None:
    """Find the whole config, which MMEngine writes beside the log and above it."""
    beside = part / 'vis_data' / 'config.py'
    if beside.is_file():
        return beside
    copies = list(work_dir.glob('*.py'))
    return max(copies, key=lambda path: path.stat().st_mtime, default=None)


def _read_config(path: Path) -> Config | None:
    """Read the config of a run; its custom imports are not needed."""
    try:
        return Config.fromfile(path, import_custom_modules=False)
    except Exception:  # noqa: BLE001  a config is a program, which may raise anything
        return None


def _read_run_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _time_of(name: str) -> str:
    """The date and time in the name of a part's folder."""
    try:
        return f'{datetime.strptime(name[:15], "%Y%m%d_%H%M%S"):%d %B %Y, %H:%M}'
    except ValueError:
        return name


def _best_scores(parts: Sequence[Path]) -> list[VideoScores]:
    """Scores of the best validation of all parts."""
    files = [part / SCORE_FOLDER / BEST / FRAME_FILE for part in parts]
    reports = [read_report(path.parent) for path in files if path.is_file()]
    return max(reports, key=_j_and_f, default=[])


def _j_and_f(videos: Sequence[VideoScores]) -> float:
    value = summarise(videos).j_and_f
    return -math.inf if math.isnan(value) else value


def _best_checkpoint(work_dir: Path) -> Path | None:
    for pattern in ('best_*.pth', 'epoch_*.pth', 'iter_*.pth'):
        files = list(work_dir.glob(pattern))
        if files:
            return max(files, key=lambda path: path.stat().st_mtime)
    return None


def _environment(part: Path) -> str:
    for log in sorted(part.glob('*.log')):
        match = ENVIRONMENT.search(log.read_text(encoding='utf-8', errors='replace'))
        if match:
            return match[1]
    return ''


def read_baselines(work_dir: Path, path: Path | None) -> list[dict[str, Any]]:
    """Read the scores to compare with: label, j, f and j_and_f of each.

    Raises:
        FileNotFoundError: If a given file does not exist.
        ValueError: If it is no such file.
    """
    if path is None:
        path = work_dir / BASELINES
        if not path.is_file():
            return []
    try:
        rows = json.loads(path.read_text(encoding='utf-8'))
        return [
            {'label': str(row['label'])}
            | {name: float(row[name]) for name in ('j', 'f', 'j_and_f')}
            for row in rows
        ]
    except (ValueError, LookupError, TypeError) as error:
        msg = (
            f'{path} is no file of baselines ({type(error).__name__}: {error}); give '
            f'the scores.json of tools/quickstart_report.py'
        )
        raise ValueError(msg) from error


# -------------------------------------------------------------------------- Pictures


def draw_clips(
    files: RunFiles, cfg_options: dict[str, Any], num_clips: int, device: torch.device
) -> Pictures:
    """Predict the worst and the best clips again, and draw them."""
    if not num_clips:
        return Pictures(problem='They were not asked for.')
    if files.config_path is None or files.checkpoint is None:
        missing = 'config' if files.config_path is None else 'checkpoint'
        return Pictures(problem=f'The {missing} of the run is gone.')
    try:
        cfg = load_config(str(files.config_path), cfg_options)
        dataset = _validation_set(cfg)
        chosen = choose_clips(files.scores, num_clips) or [
            ('example', dataset[index].source.name, None)
            for index in range(min(2 * num_clips, len(dataset)))
        ]
        sources = _find_sources(dataset, {name for _, name, _ in chosen})
        model = build_sam2(_recording(cfg), files.checkpoint, device)
        max_bytes = min(MAX_PICTURE_BYTES, MAX_BYTES // len(chosen))
        clips = [
            DrawnClip(
                kind=kind,
                name=name,
                score=score,
                image=data_uri(_draw_clip(model, sources[name], score), max_bytes),
            )
            for kind, name, score in chosen
        ]
    except (OSError, ValueError, ImportError, LookupError) as error:
        text = str(error.args[-1] if isinstance(error, LookupError) else error)
        return Pictures(problem=f'The clips cannot be predicted again: {text}.')
    return Pictures(clips=clips)


def choose_clips(
    scores: Sequence[VideoScores], num_clips: int
) -> list[tuple[str, str, float | None]]:
    """Choose the worst and the best clips: kind, name and J&F; each clip once."""
    ranked = [(summarise([video]).j_and_f, video.video_name) for video in scores]
    ranked = sorted(item for item in ranked if not math.isnan(item[0]))
    best = ranked[: -num_clips - 1 : -1]
    worst = [item for item in ranked[:num_clips] if item not in best]
    return [
        (kind, name, score)
        for kind, items in (('worst', worst), ('best', best))
        for score, name in items
    ]


def _validation_set(cfg: Config) -> Any:
    """Build the validation set of a run.

    Raises:
        ValueError: If the config has none.
    """
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        msg = 'the config has no validation set'
        raise ValueError(msg)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return DATASETS.build(loader.dataset)


def _find_sources(dataset: Any, names: set[str]) -> dict[str, VideoSource]:
    """Open the videos of these names.

    Raises:
        LookupError: If a video is missing.
    """
    sources: dict[str, VideoSource] = {}
    for index in range(len(dataset)):
        source = dataset[index].source
        if source.name in names:
            sources[source.name] = source
        if len(sources) == len(names):
            return sources
    msg = f'the validation set no longer has {min(names - sources.keys())}'
    raise LookupError(msg)


def _recording(cfg: Config) -> Config:
    """The config of a model that keeps the masks of all videos."""
    recorder = {
        'type': 'MaskletRecorder',
        'max_videos': 2**62,
        'max_frames': RECORDED_FRAMES,
    }
    cfg.model.accumulators = [recorder]
    return cfg


def _draw_clip(model: Any, source: VideoSource, score: float | None) -> Picture:
    """Predict a clip and draw it."""
    record = VideoRecord(metainfo={'source': source, 'sample_index': 0})
    with torch.inference_mode():
        (result,) = model.test_step([record])
    title = source.name if score is None else f'{source.name}   J&F {score:.1f}'
    return draw_strip(source, result.masklets, title=title)


def data_uri(picture: Picture, max_bytes: int) -> str:
    """Encode a picture as a data URI, at a lower quality or size if it is large."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    quality = 85
    while True:
        file = io.BytesIO()
        image.save(file, format='WEBP', quality=quality, method=4)
        if file.tell() <= max_bytes or min(image.size) < 64:
            break
        if quality > 50:
            quality -= 15
        else:
            image = image.reduce(2)
    return f'data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}'


# -------------------------------------------------------------------------- The page


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
    metric = main_metric(files)
    name = files.run.get('config') or _config_name(files)
    page = environment.get_template(TEMPLATE).render(
        title=Path(str(name)).stem,
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
        protocol=_protocol(files.scores),
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


def main_metric(files: RunFiles) -> str:
    """Return the logged metric of ``save_best``, else J&F, else the first one."""
    logged = _validation_metrics(files.records)
    hooks = {} if files.config is None else files.config.get('default_hooks') or {}
    best = (hooks.get('checkpoint') or {}).get('save_best')
    names = [best] if isinstance(best, str) else list(best or ())
    choices = (name for name in (*names, SCORES[0], *logged) if name in logged)
    return next(choices, SCORES[0])


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
    took = (
        f'{minutes:.0f} min of training steps'
        if minutes >= 2
        else (f'{60 * minutes:.0f} s of training steps')
    )
    epoch = int(last.get('epoch', 0))
    if max_epochs:
        is_done = (
            files.run.get('finished')
            or (files.work_dir / f'epoch_{max_epochs}.pth').is_file()
        )
        if is_done:
            return f'finished: {max_epochs} epochs, {took}'
        return f'unfinished: in epoch {epoch} of {max_epochs}, {took}'
    done = (
        f'{int(last["iter"])} of {max_iters} steps'
        if max_iters
        else (f'{int(last["iter"])} steps')
    )
    return f'{done}, {took}'


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
    losses = ['loss', *sorted(name for name in logged if name.startswith('loss_'))]
    for title, group, is_log in (
        ('Loss and its terms', losses[:6], False),
        ('Loss by kind of step', _step_names(logged), False),
        ('Learning rate', ['lr'], False),
        ('Norm of the gradient', ['grad_norm'], True),
        ('Clips per second', ['samples_per_second'], False),
    ):
        curves = list(_curves(trained, group))
        if curves:
            yield Panel(title=title, curves=curves, is_log=is_log)


def _step_names(logged: set[str]) -> list[str]:
    return sorted(name for name in logged if name.startswith('step_'))


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


def _protocol(videos: Sequence[VideoScores]) -> str:
    return '; '.join(sorted({video.protocol for video in videos if video.protocol}))


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
    values = [(name, _lookup(entries, path)) for name, path in paths]
    return [
        (name, str(PRECISIONS.get(value, value) if name == 'Precision' else value))
        for name, value in values
        if value is not None
    ]


def _lookup(node: Any, path: str) -> Any:
    for key in path.split('.'):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def changes(files: RunFiles) -> list[tuple[str, str, str]]:
    """Entries that the command line changed: key, value of the config file, of the run.

    Empty if the config file is not there any more.
    """
    path = Path(str(files.run.get('config', '')))
    if files.config is None or not path.is_file():
        return []
    original = _read_config(path)
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
