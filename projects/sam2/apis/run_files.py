"""Reads what a run has left in its ``work_dir``: logs, config, scores, checkpoints."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..engine.screen import RUN_FILE
from ..evaluation import VideoScores, summarise
from ..evaluation.metrics import BEST, FRAME_FILE, SCORE_FOLDER, read_report
from ..evaluation.run_logs import SCALARS, find_logs, read_records

BASELINES = Path('report') / 'scores.json'  # of tools/quickstart_report.py
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
        config=None if config_path is None else read_config_copy(config_path),
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
        msg = f'{work_dir} is not a folder; give the work_dir of a run'
        raise FileNotFoundError(msg)
    if (work_dir / 'vis_data').is_dir():
        work_dir = work_dir.resolve().parent
    folders = sorted(path.parent for path in work_dir.glob('*/vis_data'))
    logged = [folder for folder in folders if (folder / SCALARS).is_file()]
    logged = logged or [
        folder for folder in folders if list(folder.glob('vis_data/events.out.*'))
    ]
    if logged:
        return [folder for folder in logged if _is_training(folder)] or logged
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


def read_config_copy(path: Path) -> Config | None:
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
        ValueError: If the file has other content.
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
            f'{path} is not a file of baselines ({type(error).__name__}: {error}); '
            f'give the scores.json of tools/quickstart_report.py'
        )
        raise ValueError(msg) from error
