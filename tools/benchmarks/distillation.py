"""J&F of a small student with a teacher, beside the same student without one.

Both students start from the teacher's weights where they have the same parts, and from
random ones in the image encoder. They train on generated clips for the same CPU time,
in one process with one thread. CPU time, and not that of a clock, because it depends
little on what else runs on the machine; the teacher's forward passes count. The numbers
of epochs follow from the measured time of a step of each, so the student without a
teacher takes more steps.

    python tools/quickstart.py                        # trains the teacher
    python tools/benchmarks/distillation.py --json work_dirs/distillation.json

Runs that are complete in the work directory are not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

TOOLS = Path(__file__).resolve().parents[1]
CONFIG = 'configs/sam2_student_synthetic_distill.py'
KINDS: dict[str, dict[str, Any]] = {'with': {}, 'without': {'model.feature_losses': []}}
CLIPS_PER_STEP = 4
# As in the quickstart: most epochs have clips of 4 frames, the last ones of 8.
SHORT, LONG, SHORT_SHARE = 4, 8, 0.8
MIN_EPOCHS = 4
EMA_MOMENTUM = 0.05  # the runs are too short for the config's average of 100 steps
ROUNDS, WARM_UP_ROUNDS = 8, 2  # of measuring a step
RESULT_FILE, SPEED_FILE, LOG_FILE = 'result.json', 'speed.json', 'train.log'


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Epochs of a run, and how many of them have short clips."""

    num_epochs: int
    num_short_epochs: int

    @classmethod
    def fitting(
        cls, seconds: float, step_seconds: dict[str, float], steps_per_epoch: int
    ) -> 'Plan':
        """Choose the schedule that comes nearest to a time.

        Args:
            step_seconds: CPU time of a step with ``short`` and with ``long`` clips.
        """

        def plan_of(num_epochs: int) -> Plan:
            return cls(
                num_epochs=num_epochs,
                num_short_epochs=round(SHORT_SHARE * num_epochs),
            )

        def distance(num_epochs: int) -> float:
            plan = plan_of(num_epochs)
            num_long = plan.num_epochs - plan.num_short_epochs
            cost = steps_per_epoch * (
                plan.num_short_epochs * step_seconds['short']
                + num_long * step_seconds['long']
            )
            return abs(cost - seconds)

        num_epochs = MIN_EPOCHS
        while distance(num_epochs + 1) < distance(num_epochs):
            num_epochs += 1
        return plan_of(num_epochs)


def cfg_options(options: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Entries of a config that all runs of a kind share."""
    shared: dict[str, Any] = {
        'train_dataloader.batch_size': CLIPS_PER_STEP,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'custom_hooks.0.momentum': EMA_MOMENTUM,
        'model.teacher_checkpoint': str(options.teacher),
        **KINDS[kind],
        **options.cfg_options,
    }
    if options.data_root is not None:
        shared['data_root'] = options.data_root
    if kind == 'with':
        shared |= options.teacher_options
    return shared


def measure_steps(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the CPU time of training steps, with and without the teacher in turns.

    Returns:
        ``steps_per_epoch``, and for each kind the seconds of a ``short`` and of a
        ``long`` step.
    """
    import torch
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS
    from mmengine.runner import Runner

    from projects.sam2.engine.config import load_config

    torch.set_num_threads(1)
    trained: dict[str, tuple[Any, Any]] = {}
    for kind in KINDS:
        cfg = load_config(CONFIG, cfg_options(options, kind))
        model = MODELS.build(cfg.model).train()
        trained[kind] = model, build_optim_wrapper(model, cfg.optim_wrapper)
    times: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    num_steps = 0
    for length, num_frames in (('short', SHORT), ('long', LONG)):
        loader_cfg = cfg.train_dataloader
        sampling = loader_cfg.dataset.pipeline[0]
        sampling.num_frames, sampling.later_num_frames = num_frames, ()
        loader = Runner.build_dataloader(loader_cfg, seed=0)
        num_steps = len(loader)
        batches = iter(loader)
        for index in range(WARM_UP_ROUNDS + ROUNDS):
            start = time.process_time()
            batch = next(batches)
            loading = time.process_time() - start
            for kind, (model, optim_wrapper) in trained.items():
                start = time.process_time()
                model.train_step(batch, optim_wrapper)
                seconds = loading + time.process_time() - start
                if index >= WARM_UP_ROUNDS:
                    times[kind].setdefault(length, []).append(seconds)
    medians = {
        kind: {length: statistics.median(parts) for length, parts in lengths.items()}
        for kind, lengths in times.items()
    }
    return {'steps_per_epoch': num_steps, **medians}


def train(options: argparse.Namespace, kind: str, seed: int, plan: Plan) -> Path:
    """Train a student in a process of its own, unless that was done before.

    Returns:
        The folder of the run, with its results.
    """
    folder = Path(options.work_dir) / f'{kind}_{seed}'
    result = folder / RESULT_FILE
    if result.is_file():
        return folder
    entries = cfg_options(options, kind) | {
        'train_cfg.max_epochs': plan.num_epochs,
        'train_cfg.val_interval': plan.num_epochs,
        'train_dataloader.dataset.pipeline.0.later_num_frames': [
            [plan.num_short_epochs, LONG]
        ],
        'randomness.seed': seed,
        'default_hooks.checkpoint.interval': plan.num_epochs,
    }
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(TOOLS / 'train.py'), CONFIG]
    command += ['--work-dir', str(folder), '--cfg-options']
    command += [f'{key}={_as_option(value)}' for key, value in entries.items()]
    with (folder / LOG_FILE).open('w', encoding='utf-8') as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                'OMP_NUM_THREADS': '1',
                'MKL_NUM_THREADS': '1',
                'CUDA_VISIBLE_DEVICES': '',
            },
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        msg = f'The training failed; see {folder / LOG_FILE}'
        raise RuntimeError(msg)
    scores = [
        record for record in _scalars(folder) if any('J&F' in name for name in record)
    ]
    report = {
        'epochs': plan.num_epochs,
        'cpu_minutes': (usage.ru_utime + usage.ru_stime) / 60,
        'J&F': [_score(record) for record in scores],
    }
    result.write_text(json.dumps(report, indent=2), encoding='utf-8')
    return folder


def _as_option(value: object) -> str:
    """Write a value as ``--cfg-options`` reads it."""
    if isinstance(value, list):
        return f'[{",".join(map(_as_option, value))}]'
    return str(value)


def _scalars(folder: Path) -> list[dict[str, Any]]:
    """Records of the run's log, oldest first."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    lines = logs[-1].read_text(encoding='utf-8').splitlines()
    return [json.loads(line) for line in lines]


def _score(record: dict[str, Any]) -> float:
    (score,) = (value for name, value in record.items() if name.endswith('J&F'))
    return float(score)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        '--teacher',
        type=Path,
        default=Path('work_dirs/quickstart/best_JF_epoch_72.pth'),
        help='weights of configs/sam2_mini_synthetic.py (default: %(default)s)',
    )
    add('--minutes', type=float, default=4.0, help='CPU time of a training')
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--kinds', nargs='+', default=list(KINDS), choices=list(KINDS))
    add('--data-root', help='generated clips; by default those of the config')
    add('--work-dir', type=Path, default=Path('work_dirs/distillation'))
    add('--json', type=Path, metavar='FILE', help='write the table')
    add('--cfg-options', nargs='+', action=DictAction, default={})
    add(
        '--teacher-options',
        nargs='+',
        action=DictAction,
        default={},
        help='as --cfg-options, for the runs with a teacher only',
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all students and print their scores."""
    options = parse_arguments(arguments)
    speed_file = options.work_dir / SPEED_FILE
    if not speed_file.is_file():
        options.work_dir.mkdir(parents=True, exist_ok=True)
        speed = measure_steps(options)
        speed_file.write_text(json.dumps(speed, indent=2), encoding='utf-8')
    speed = json.loads(speed_file.read_text(encoding='utf-8'))
    print(json.dumps(speed), flush=True)
    table: dict[str, list[dict[str, Any]]] = {kind: [] for kind in options.kinds}
    print(f'{"teacher":9} {"seed":>4} {"epochs":>6} {"CPU min":>8} {"J&F":>6}')
    for seed in options.seeds:
        for kind in options.kinds:
            plan = Plan.fitting(
                60 * options.minutes, speed[kind], speed['steps_per_epoch']
            )
            folder = train(options, kind, seed, plan)
            row = json.loads((folder / RESULT_FILE).read_text(encoding='utf-8'))
            table[kind].append({'seed': seed, **row})
            print(
                f'{kind:9} {seed:4} {row["epochs"]:6} {row["cpu_minutes"]:8.2f} '
                f'{row["J&F"][-1]:6.2f}',
                flush=True,
            )
    for kind, rows in table.items():
        scores = [row['J&F'][-1] for row in rows]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        print(f'{kind:9} mean {statistics.mean(scores):.2f}, deviation {spread:.2f}')
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        report = {'speed': speed, 'runs': table}
        options.json.write_text(json.dumps(report, indent=2), encoding='utf-8')


if __name__ == '__main__':
    main()
