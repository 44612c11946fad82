"""Trains on what was annotated: data set, project, checks, run, curves, checkpoints.

A run has a folder, of which everything can be used without the demo as well::

    RUN/data/             the data set: DAVIS layout for videos, COCO for images
    RUN/project/          what `mmsam2 new` makes of it; work_dir/ has the checkpoints
    RUN/before/           the score of the model that the training starts from
    RUN/train.log         what the programs printed
    RUN/run.json          its state
    RUN/lock              locked by the server that is at work on it

The programs (``new``, ``check_dataset``, ``test``, ``train``) are child processes in a
process group of their own. They end with the run and with the server.
"""

import fcntl
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from ..apis import fitting_config
from ..checkpoints import CheckpointMismatchError, weights_of
from ..checkpoints.released import find_file
from ..datasets.io.listing import is_hidden
from ..datasets.processing.project_config import NUM_VALIDATIONS
from ..datasets.processing.project_options import CONFIG, SIZES
from ..evaluation.run_logs import (
    find_logs,
    is_number,
    metrics_of,
    preferred_metric,
    read_records,
)
from ..installation import TOOLS
from ..ops import write_atomically
from .formats.exports import AnnotatedView, MaskOnFrame, Progress, export_annotations
from .models import MINI_WEIGHTS, RUN_PREFIX, ModelChoice

State = Literal['preparing', 'running', 'done', 'failed', 'stopped']
Curves = dict[str, list[list[float]]]
DATA, PROJECT, BEFORE = 'data', 'project', 'before'
LOG, STATE_FILE, LOCK = 'train.log', 'run.json', 'lock'
MAX_EPOCHS = 1000
MAX_NAME = 60  # characters of a folder
MAX_POINTS = 500  # of a curve; longer ones are thinned
NUM_TAIL_LINES = 6  # of the log, that explain a failure
# From SIGTERM, after which a run saves a checkpoint, to SIGKILL: if the user stops it,
# and if the server ends, for which containers have ten seconds.
STOP_SECONDS, CLOSE_SECONDS = 30.0, 6.0
NICENESS = 5  # of training, so that clicks stay quick
EPOCHS_LINE = re.compile(
    r'^train_cfg = dict\(max_epochs=(\d+), val_interval=\d+\)  # (\d+) steps each$',
    re.M,
)
WEIGHTS_LINE = re.compile(r'^load_from = .*$', re.M)


# Data set ----------------------------------------------------------------------------


class CompleteFrames:
    """A view of a session without the frames on which an object is left out.

    An object that has masks before and after a frame, but none on it, is not absent
    there: nobody has tracked it. A model would learn that it is.

    Args:
        view: The session, of a video.
    """

    def __init__(self, view: AnnotatedView) -> None:
        self._view = view
        self.video = view.video
        self.document = view.document
        seen: dict[int, list[int]] = {}  # frames with a mask, by object
        for frame in range(view.video.num_frames):
            for mask in view.masks(frame):
                seen.setdefault(mask.object_id, []).append(frame)
        # Objects that should have a mask, and those that have one.
        expected = np.zeros(view.video.num_frames + 1, int)
        known = np.zeros(view.video.num_frames, int)
        for frames in seen.values():
            expected[frames[0]] += 1
            expected[frames[-1] + 1] -= 1
            known[frames] += 1
        self.is_complete = (known > 0) & (known == expected.cumsum()[:-1])

    def masks(self, frame_index: int) -> Sequence[MaskOnFrame]:
        """Masks of a frame; none if it is left out."""
        return self._view.masks(frame_index) if self.is_complete[frame_index] else ()

    def mask(self, object_id: int, frame_index: int) -> MaskOnFrame | None:
        """Mask of one object; None if nothing is known or the frame is left out."""
        if not self.is_complete[frame_index]:
            return None
        return self._view.mask(object_id, frame_index)


def write_data(
    views: Sequence[AnnotatedView], folder: Path, progress: Progress
) -> None:
    """Write annotated sessions as one data set.

    Args:
        views: Sessions, all of videos or all of images.
        folder: New folder. Videos become clips in DAVIS layout, images a COCO file.
        progress: Called with the share that is done; what it raises stops.

    Raises:
        ValueError: If kinds are mixed, or too little is annotated.
        OSError: If the disk is full.
    """
    kinds = {view.video.kind for view in views}
    if kinds == {'images'}:
        export_annotations(views, folder, 'coco', progress)
        return
    if 'images' in kinds:
        msg = 'videos and images are not trained on together; choose one kind'
        raise ValueError(msg)
    clips = [CompleteFrames(view) for view in views]
    for clip in clips:
        num_frames = np.count_nonzero(clip.is_complete)
        if num_frames < 2:
            msg = (
                f'{clip.video.name}: {num_frames} frames can be trained on, those '
                f'where no object is left out; track the objects over more frames'
            )
            raise ValueError(msg)
    export_annotations(clips, folder, 'davis', progress)


# Runs --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """What is stored of a run.

    Attributes:
        run: Its id, the name of its folder.
        name: What the user called it.
        state: Of the run.
        message: What it does, or why it ended.
        size: Of the model, a name of :data:`SIZES`.
        epochs: Of the run; None for what the project has.
        start_from: Weights that it starts from.
        total_steps: Optimizer steps; 0 until it is known.
        before: Score of the starting model, by metric.
        process: Id of the running program's process group.
        started: Seconds since 1970.
    """

    run: str
    name: str
    state: State = 'preparing'
    message: str = ''
    size: str
    epochs: int | None
    start_from: str
    total_steps: int = 0
    before: Mapping[str, float] = field(default_factory=dict)
    process: int | None = None
    started: float = field(default_factory=time.time)


class _StoppedError(Exception):
    """The user has stopped the run."""


class TrainingRuns:
    """The training runs of a demo; one of them may be at work.

    Calls return at once: a thread prepares a run and waits for its programs.

    Args:
        folder: Of the runs; runs of an earlier server are found there.
        device: Device of the server; runs use the same.
    """

    def __init__(self, folder: Path, *, device: str = 'cpu') -> None:
        self.folder = folder.absolute()
        self._device = device
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._patience = STOP_SECONDS
        self._runs: dict[str, TrainingRun] = {}
        self._ended_curves: dict[str, tuple[Curves, int]] = {}
        for path in self.folder.glob(f'*/{STATE_FILE}'):
            self._restore(path)

    def start(
        self,
        views: Sequence[AnnotatedView],
        *,
        name: str,
        size: str | None = None,
        epochs: int | None = None,
        model: ModelChoice | None = None,
        on_read: Callable[[], object] = lambda: None,
    ) -> str:
        """Start a run on annotated sessions.

        Args:
            views: The sessions.
            name: For the user.
            size: Of the model, a name of :data:`SIZES`. None for that of the running
                model on a GPU, and for the small model on a CPU.
            epochs: Of training; None for what suits the data.
            model: The running model: if it has this size, the run starts from it,
                else from the weights of ``mmsam2 new``.
            on_read: Called in the run's thread once the sessions are not read any
                more; not if an error is raised.

        Returns:
            Id of the run.

        Raises:
            ValueError: If a run is at work, an option is invalid, or the weights of
                this size are not on this machine.
        """
        fitting = _fitting_size(model)
        if size is None:
            size = 'mini' if self._device == 'cpu' else fitting or 'mini'
        if size not in SIZES:
            msg = f'size must be one of {", ".join(SIZES)}, not {size!r}'
            raise ValueError(msg)
        if epochs is not None and not 1 <= epochs <= MAX_EPOCHS:
            msg = f'epochs must be a number from 1 to {MAX_EPOCHS}, not {epochs}'
            raise ValueError(msg)
        if not views:
            msg = 'no session is chosen; choose at least one to train on'
            raise ValueError(msg)
        if size == fitting and model is not None:
            start_from = str(model.checkpoint)
        else:
            start_from = _weights_of_project(size)
        with self._lock:
            active = [r for r in self._runs.values() if _is_active(r)]
            if active:
                msg = f'{active[0].name} is training; stop it first, or wait'
                raise ValueError(msg)
            run = TrainingRun(
                run=self._new_id(name),
                name=name.strip() or 'run',
                size=size,
                epochs=epochs,
                start_from=start_from,
                message='writing the data set',
            )
            self._stop.clear()
            self._patience = STOP_SECONDS
            try:
                self._set(run)
                lock_file = _lock_run(self.folder / run.run)
            except OSError:
                del self._runs[run.run]
                raise
            self._thread = threading.Thread(
                target=self._work,
                args=(run.run, list(views), on_read, lock_file),
                name='training',
            )
            self._thread.start()
        return run.run

    def stop(self, run: str) -> None:
        """Stop a run; its checkpoints stay.

        Raises:
            ValueError: If there is no such run, or it has ended.
        """
        with self._lock:
            if not _is_active(self._get(run)):
                msg = f'{self._get(run).name} has ended; there is nothing to stop'
                raise ValueError(msg)
            self._stop.set()
            process = self._get(run).process
            # Only training has something to save.
            is_training = self._get(run).state == 'running'
        if process is not None:
            _end_group(process, signal.SIGTERM if is_training else signal.SIGKILL)

    def close(self) -> None:
        """Stop the running run, and wait for its end."""
        with self._lock:
            self._patience = CLOSE_SECONDS
            active = [r.run for r in self._runs.values() if _is_active(r)]
        for run in active:
            with suppress(ValueError):  # it has just ended
                self.stop(run)
        if self._thread is not None:
            self._thread.join()

    def status(self) -> list[dict[str, Any]]:
        """All runs, the latest first, as JSON: state, progress, curves, checkpoints."""
        with self._lock:
            runs = sorted(self._runs.values(), key=lambda run: -run.started)
        return [self._describe(run) for run in runs]

    def model(self, name: str) -> ModelChoice:
        """The model of a run, for ``RUN/CHECKPOINT``.

        Raises:
            ValueError: If there is no such run or checkpoint.
        """
        run, _, checkpoint = name.partition('/')
        names = _checkpoints(self.folder / self._get(run).run / PROJECT)
        if checkpoint not in names:
            has = f'it has {", ".join(names)}' if names else 'it has none yet'
            msg = f'run {run} has no checkpoint {checkpoint!r}; {has}'
            raise ValueError(msg)
        return self._choice(run, checkpoint)

    def best_models(self) -> list[ModelChoice]:
        """The best model of each run that has one, the latest run first."""
        with self._lock:
            runs = sorted(self._runs.values(), key=lambda run: -run.started)
        best = [(run.run, _best(self.folder / run.run / PROJECT)) for run in runs]
        return [self._choice(run, name) for run, name in best if name is not None]

    def _choice(self, run: str, checkpoint: str) -> ModelChoice:
        project = self.folder / run / PROJECT
        return ModelChoice(
            name=f'{RUN_PREFIX}{run}/{checkpoint}',
            config=str(project / CONFIG),
            checkpoint=project / 'work_dir' / f'{checkpoint}.pth',
        )

    def _restore(self, path: Path) -> None:
        """Read the state of a run of an earlier server."""
        try:
            run = TrainingRun(**json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError) as error:
            print_log(f'{path} is damaged ({error})', 'current', logging.WARNING)
            return
        if not _is_active(run):
            self._runs[run.run] = run
            return
        lock_file = _lock_run(path.parent)
        if lock_file is None:  # another server with the same folder is training
            return
        if run.process is not None and _is_ours(run.process, path.parent):
            _end_group(run.process, signal.SIGKILL)
        self._set(replace(run, state='stopped', message='the demo was ended'))
        os.close(lock_file)

    def _get(self, run: str) -> TrainingRun:
        if run not in self._runs:
            msg = f'there is no training run {run!r}'
            raise ValueError(msg)
        return self._runs[run]

    def _new_id(self, name: str) -> str:
        base = re.sub(r'[^\w.-]+', '_', name).strip('._-')[:MAX_NAME] or 'run'
        number, run = 1, base
        while run in self._runs or (self.folder / run).exists():
            number += 1
            run = f'{base}_{number}'
        return run

    def _set(self, run: TrainingRun) -> None:
        with self._lock:
            self._runs[run.run] = run
            path = self.folder / run.run / STATE_FILE
            write_atomically(path, json.dumps(asdict(run), indent=1) + '\n')

    def _change(self, run: str, **changes: Any) -> TrainingRun:
        with self._lock:
            changed = replace(self._runs[run], **changes)
            self._set(changed)
            return changed

    # ---------------------------------------------------------------- in the thread

    def _work(
        self,
        run: str,
        views: Sequence[AnnotatedView],
        on_read: Callable[[], object],
        lock_file: int | None,
    ) -> None:
        """Go through the steps of a run, then release its lock."""
        state: State = 'done'
        message = ''
        try:
            data = self.folder / run / DATA
            try:
                write_data(views, data, lambda _: self._check_stop())
            finally:
                on_read()
            self._prepare(run)
            self._change(run, state='running', message='training')
            config = self.folder / run / PROJECT / CONFIG
            self._run_tool(run, 'train.py', config)
        except _StoppedError:
            state, message = 'stopped', 'stopped by the user'
        except (ValueError, OSError) as error:
            state, message = 'failed', str(error)
        except Exception as error:  # noqa: BLE001  the page is told
            state, message = 'failed', f'{type(error).__name__}: {error}'
            print_log(traceback.format_exc(), 'current', logging.ERROR)
        try:
            self._change(run, state=state, message=message, process=None)
        except OSError as error:  # a full disk; the state in memory counts
            print_log(f'{run}: {error}', 'current', logging.ERROR)
        if lock_file is not None:
            os.close(lock_file)

    def _prepare(self, run: str) -> None:
        folder = self.folder / run
        data, project = folder / DATA, folder / PROJECT
        options = self._get(run)
        self._change(run, message='making the project')
        self._run_tool(run, 'new.py', project, '--from', data, '--size', options.size)
        total_steps = _edit_config(project / CONFIG, options)
        self._change(run, message='checking the data set', total_steps=total_steps)
        # What `new` has not read: the clips as training draws them.
        self._run_tool(run, 'check_dataset.py', project / CONFIG)
        self._change(run, message='scoring the model before training')
        self._run_tool(
            run,
            'test.py',
            project / CONFIG,
            options.start_from,
            '--work-dir',
            folder / BEFORE,
        )
        self._change(run, before=_scores_of(folder / BEFORE))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _run_tool(self, run: str, tool: str, *arguments: str | Path) -> None:
        """Run a program of ours with its output in the log.

        Raises:
            ValueError: If it fails; the message holds the end of its output.
        """
        path = self.folder / run / LOG
        command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
        with path.open('ab') as log:
            log.write(f'$ {" ".join(command)}\n'.encode())
            log.flush()
            begin = log.tell()
            with self._lock:
                self._check_stop()
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=_environment(self._device),
                )
                try:
                    self._change(run, process=process.pid)
                except OSError:  # a full disk
                    _end_group(process.pid, signal.SIGKILL)
                    process.wait()
                    raise
        os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        self._wait(process)
        self._check_stop()
        if process.returncode:
            lines = _tail(path, begin)
            msg = f'{tool} failed (exit code {process.returncode}): {lines}'
            raise ValueError(msg)

    def _wait(self, process: 'subprocess.Popen[bytes]') -> None:
        """Wait for a program; kill it if it does not end after a stop."""
        while not self._stop.is_set():
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            break
        try:
            process.wait(timeout=self._patience)
        except subprocess.TimeoutExpired:
            _end_group(process.pid, signal.SIGKILL)
            process.wait()

    # ----------------------------------------------------------------------- status

    def _describe(self, run: TrainingRun) -> dict[str, Any]:
        project = self.folder / run.run / PROJECT
        work_dir = project / 'work_dir'
        # The page is told once a second, and logs of ended runs do not change.
        curves, step = self._ended_curves.get(run.run) or _curves(work_dir, run.before)
        if not _is_active(run):
            self._ended_curves[run.run] = curves, step
        progress = step / run.total_steps if run.total_steps else 0.0
        return {
            'run': run.run,
            'name': run.name,
            'state': run.state,
            'message': run.message,
            'progress': 1.0 if run.state == 'done' else min(1.0, progress),
            'curves': curves,
            'checkpoints': _checkpoints(project),
            'best': _best(project),
        }


def _is_active(run: TrainingRun) -> bool:
    return run.state in {'preparing', 'running'}


def _fitting_size(model: ModelChoice | None) -> str | None:
    """Size of a model, a name of :data:`SIZES`; None for another architecture."""
    if model is None or model.checkpoint is None:
        return None
    source = str(model.checkpoint)
    loaded = CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')
    for size, (part, _) in SIZES.items():
        try:
            weights = weights_of(loaded, source=source)
            fitting_config(weights, f'_base_/models/sam2_1_{part}.py', source=source)
        except CheckpointMismatchError:
            continue
        return size
    return None


def _weights_of_project(size: str) -> str:
    """Weights that ``mmsam2 new`` starts from.

    Raises:
        ValueError: If they are not on this machine.
    """
    name = SIZES[size][1]
    path = find_file(MINI_WEIGHTS if name is None else f'{name}.pt')
    if path is None:
        msg = (
            f'training the size {size} starts from {name}.pt, which is not on this '
            f'machine; run: mmsam2 download {name}'
        )
        raise ValueError(msg)
    return str(path.absolute())


def _edit_config(path: Path, run: TrainingRun) -> int:
    """Set the epochs and the weights of a project; return the steps of the run.

    Raises:
        ValueError: If ``mmsam2 new`` has written something else.
    """
    text = path.read_text(encoding='utf-8')
    match = EPOCHS_LINE.search(text)
    if match is None or not WEIGHTS_LINE.search(text):
        msg = f'{path} has no train_cfg and load_from in the form of mmsam2 new'
        raise ValueError(msg)
    epochs, num_steps = run.epochs or int(match[1]), int(match[2])
    interval = max(1, epochs // NUM_VALIDATIONS)
    line = f'train_cfg = dict(max_epochs={epochs}, val_interval={interval})'
    text = text.replace(match[0], f'{line}  # {num_steps} steps each')
    text = WEIGHTS_LINE.sub(lambda _: f'load_from = {run.start_from!r}', text)
    write_atomically(path, text)
    return epochs * num_steps


def _checkpoints(project: Path) -> list[str]:
    """Names of the checkpoints of a project, the latest last."""
    times: dict[str, int] = {}
    for path in (project / 'work_dir').glob('*.pth'):
        if not is_hidden(path.name):  # being written
            with suppress(FileNotFoundError):  # training removes old ones
                times[path.stem] = path.stat().st_mtime_ns
    return sorted(times, key=lambda name: times[name])


def _best(project: Path) -> str | None:
    """Name of the best checkpoint, else of the latest."""
    names = _checkpoints(project)
    best = [name for name in names if name.startswith('best_')]
    return next(reversed(best or names), None)


def _scores_of(work_dir: Path) -> dict[str, float]:
    """Scores that ``test`` has written, by metric."""
    # MMEngine names the file like its folder, by the time.
    paths = [
        path for path in work_dir.glob('*/*.json') if path.stem == path.parent.name
    ]
    if not paths:
        return {}
    scores = json.loads(max(paths).read_text(encoding='utf-8'))
    return {name: float(value) for name, value in scores.items() if is_number(value)}


def _curves(work_dir: Path, before: Mapping[str, float]) -> tuple[Curves, int]:
    """Curves of a run, and its last step.

    Returns:
        ``loss``: pairs of step and value. The score, by its name: pairs of epoch and
        value; epoch 0 is the model before training.
    """
    try:
        records = read_records(find_logs(work_dir))
    except FileNotFoundError:
        records = []
    steps = [r for r in records if 'iter' in r and is_number(r.get('loss'))]
    losses = [[int(r['iter']), float(r['loss'])] for r in steps]
    names = {*metrics_of(r for r in records if 'iter' not in r), *before}
    by_clicks = next((name for name in sorted(names) if name.startswith('mIoU')), 'J&F')
    metric = preferred_metric(None, sorted(names), by_clicks)
    scores = [[0, before[metric]]] if metric in before else []
    scores += [
        [int(r['step']), float(r[metric])]
        for r in records
        if 'iter' not in r and is_number(r.get(metric))
    ]
    last = int(steps[-1]['iter']) if steps else 0
    return {'loss': losses[:: 1 + len(losses) // MAX_POINTS], metric: scores}, last


def _environment(device: str) -> dict[str, str]:
    """Environment of a program, which uses the device of the server."""
    variables = {**os.environ, 'PYTHONUNBUFFERED': '1'}
    if device == 'cpu':
        variables['CUDA_VISIBLE_DEVICES'] = ''
    elif ':' in device:
        variables.setdefault('CUDA_VISIBLE_DEVICES', device.partition(':')[2])
    return variables


def _tail(path: Path, begin: int) -> str:
    """The last lines of a log after a position."""
    with path.open('rb') as log:
        log.seek(begin)
        lines = log.read().decode('utf-8', 'replace').splitlines()
    return '\n'.join([line for line in lines if line.strip()][-NUM_TAIL_LINES:])


def _end_group(group: int, signal_number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal_number)


def _lock_run(folder: Path) -> int | None:
    """Lock a run until the descriptor is closed; None if another server has it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_ours(process: int, folder: Path) -> bool:
    """Whether a process is a program of a run: ids are used again."""
    try:
        command = Path(f'/proc/{process}/cmdline').read_bytes()
    except OSError:
        return False
    return str(folder).encode() in command
