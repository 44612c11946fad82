"""Reads what MMEngine logged: records, metrics and curves of a run."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

SCORES = ('J&F', 'J', 'F')
SCALARS, EVENTS = 'vis_data/scalars.json', 'vis_data/events.out.tfevents.*'
CONFIG = 'config.py'  # written by MMEngine beside scalars.json
EVENT_LOADERS = 'tensorboard.backend.event_processing.event_file_loader'
POSITION = ('iter', 'epoch', 'step')  # of a record: no measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A point of a curve.

    Attributes:
        step: Optimizer steps; for a validation, those of the training record before it.
        minutes: Time in training steps so far, without validation.
        scores: Values by metric.
    """

    step: int
    minutes: float
    scores: dict[str, float]


def find_logs(run: Path) -> list[Path]:
    """Find the logs of a run, oldest first: ``scalars.json``, else TensorBoard's.

    Raises:
        FileNotFoundError: If there is none.
    """
    if run.is_file():
        return [run]
    for pattern in (SCALARS, EVENTS):
        logs = sorted(path for path in run.rglob(pattern) if path.is_file())
        if logs:
            return logs
    msg = f'{run}: no {SCALARS} or {EVENTS}; give the work_dir of a training run'
    raise FileNotFoundError(msg)


def read_records(logs: Iterable[Path]) -> list[dict[str, Any]]:
    """Read logs: files with a JSON object per line, or TensorBoard event files."""
    records: list[dict[str, Any]] = []
    for log in logs:
        is_events = '.tfevents.' in log.name
        records += _event_records(log) if is_events else _json_records(log)
    return [_without_missing_scores(record) for record in records]


def _without_missing_scores(record: dict[str, Any]) -> dict[str, Any]:
    """Drop the -1 of COCO's metrics, which says that no object had the size."""
    return {
        name: value
        for name, value in record.items()
        if not (value == -1 and ('mAP' in name or 'AR@' in name))
    }


def _json_records(log: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines; skip damaged ones, such as the last line of a killed run."""
    num_damaged = 0
    with log.open(encoding='utf-8-sig', errors='replace') as file:
        for line in filter(str.strip, file):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict) and _has_finite_position(record):
                yield record
            else:
                num_damaged += 1
    if num_damaged:
        lines = 'a damaged line' if num_damaged == 1 else f'{num_damaged} damaged lines'
        print_log(f'{log}: skipped {lines}')


def _has_finite_position(record: Mapping[str, Any]) -> bool:
    numbers = [record[name] for name in (*POSITION, 'time') if name in record]
    return all(is_number(number) and math.isfinite(number) for number in numbers)


def is_number(value: object) -> bool:
    """Whether a logged value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _event_records(log: Path) -> Iterator[dict[str, Any]]:
    """Read TensorBoard events; those of one call of MMEngine's hook form a record."""
    # The import takes a second.
    loaders: Any = import_module(EVENT_LOADERS)

    record: dict[str, Any] = {}
    step = None
    for event in loaders.LegacyEventFileLoader(str(log)).Load():
        for value in event.summary.value:
            if not value.HasField('simple_value'):
                continue
            if record and (event.step != step or value.tag in record):
                yield record
                record = {}
            step = event.step
            record[value.tag] = value.simple_value
    if record:
        yield record


def metrics_of(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of all logged metrics."""
    names = {
        name
        for record in records
        for name, value in record.items()
        if is_number(value) and name not in POSITION
    }
    return sorted(names)


def curve_points(
    records: Iterable[dict[str, Any]], metrics: Sequence[str] = SCORES
) -> list[CurvePoint]:
    """Make a curve of logged metrics.

    If a run was resumed from an earlier step, what the first part logged after it is
    dropped.

    Args:
        records: Training records (with ``iter`` and ``time``) and validation records,
            in the order of the log.
        metrics: Metrics of the curve; records without the first one give no point.
    """
    clock: list[tuple[int, float]] = [(0, 0.0)]  # (step, minutes) of training records
    points: list[CurvePoint] = []
    for record in records:
        if 'iter' in record:
            step = int(record['iter'])
            while clock[-1][0] >= step and len(clock) > 1:
                clock.pop()
            last_step, minutes = clock[-1]
            while points and points[-1].step > last_step:
                points.pop()
            minutes += (step - last_step) * record.get('time', 0.0) / 60
            clock.append((step, minutes))
        if is_number(record.get(metrics[0])):
            scores = {
                name: float(record[name])
                for name in metrics
                if is_number(record.get(name))
            }
            step, minutes = clock[-1]
            points.append(CurvePoint(step=step, minutes=minutes, scores=scores))
    return points


def default_metric(run: Path) -> str:
    """Return the logged metric of ``save_best`` in the run's config, else J&F."""
    logs = find_logs(run)
    config = logs[-1].parent / CONFIG
    if not config.is_file():
        return SCORES[0]
    # The config's custom imports may be missing here and are not needed.
    cfg = Config.fromfile(config, import_custom_modules=False)
    return preferred_metric(cfg, metrics_of(read_records(logs)))


def preferred_metric(
    cfg: Config | None, logged: Sequence[str], default: str = SCORES[0]
) -> str:
    """Choose a logged metric: that of ``save_best``, else J&F, else the default."""
    hooks = {} if cfg is None else cfg.get('default_hooks') or {}
    best = (hooks.get('checkpoint') or {}).get('save_best')
    names = [best] if isinstance(best, str) else list(best or ())
    return next((name for name in (*names, SCORES[0]) if name in logged), default)
