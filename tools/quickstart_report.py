"""Score a model before training, after training, and without its memory.

    python tools/quickstart_report.py CONFIG --work-dir WORK_DIR [--processes 2]
                                      [--cfg-options ...]

*Before training* is the model with the weights that training starts from. *After
training* is the best checkpoint of the work directory, once as it is and once with a
memory bank that stays empty. The *copy* baseline repeats each object's first true mask.
All models run in the Runner's test loop.
"""

import argparse
import json
import multiprocessing
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from projects.sam2.engine.command_line import add_run_arguments, call_tool
from projects.sam2.engine.config import apply_work_dir, load_config
from projects.sam2.engine.launching import launched_runner
from projects.sam2.evaluation import score_copy_baseline, summarise

REPORT_FOLDER = 'report'
REPORT_FILE = 'scores.json'
WITHOUT_MEMORY = {'model.tracker.memory_bank.type': 'MemoryBankEmpty'}
# Results of a run, and the pattern of their files below the work directory.
RESULTS = (
    ('TensorBoard logs', '**/events.out.tfevents.*'),
    ('overlay videos', '**/*.mp4'),
    ('image strips', '**/*.png'),
    ('checkpoints', '*.pth'),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Scores of a model or a baseline, 0 to 100."""

    label: str
    j: float
    f: float
    j_and_f: float


def best_checkpoint(work_dir: Path) -> Path:
    """Find the checkpoint with the best validation score; the latest of several."""
    checkpoints = list(work_dir.glob('best_JF_*.pth'))
    if not checkpoints:
        msg = (
            f'{work_dir} contains no best_JF_*.pth; train with at least one '
            f'validation, or give the work directory of another run'
        )
        raise FileNotFoundError(msg)
    return max(checkpoints, key=lambda path: path.stat().st_mtime)


def score_model(
    options: argparse.Namespace,
    label: str,
    checkpoint: Path | None,
    changes: Mapping[str, str] | None = None,
) -> Row:
    """Score a model on the clips of the config's test loader.

    Args:
        checkpoint: Weights; None for those that training starts from.
        changes: Entries of the config to change.
    """
    cfg = load_config(options.config, options.cfg_options)
    cfg.merge_from_dict(dict(changes or {}))
    apply_work_dir(cfg, options.work_dir)
    name = re.sub(r'\W+', '_', label)
    cfg.work_dir = str(Path(cfg.work_dir) / REPORT_FOLDER / name)
    cfg.experiment_name = f'{name}_{Path(options.config).stem}'
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    cfg.resume = False
    run_options = argparse.Namespace(**{**vars(options), 'work_dir': None})
    with launched_runner(cfg, run_options) as runner:
        metrics = runner.test()
    return Row(label=label, j=metrics['J'], f=metrics['F'], j_and_f=metrics['J&F'])


def score_copy(cfg: Config, label: str) -> Row:
    """Score the baseline that repeats each object's first true mask."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    protocols = [
        accumulator.get('protocol')
        for accumulator in cfg.model.accumulators
        if accumulator.type == 'JFAccumulator'
    ]
    sources = [dataset[index].source for index in range(len(dataset))]
    summary = summarise(score_copy_baseline(sources, protocol=protocols[0]))
    return Row(label=label, j=summary.j, f=summary.f, j_and_f=summary.j_and_f)


def call_all(tasks: Sequence[Callable[[], Row]], processes: int) -> list[Row]:
    """Call all tasks, some of them at the same time."""
    if processes == 1:
        return [task() for task in tasks]
    # A fork has imported everything already; its data loader may have workers.
    context = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return [future.result() for future in map(pool.submit, tasks)]


def format_table(rows: Sequence[Row]) -> str:
    """Format the scores as a table."""
    width = max(len(row.label) for row in rows)
    lines = [f'{"":{width}}      J      F    J&F']
    lines += [
        f'{row.label:{width}} {row.j:6.1f} {row.f:6.1f} {row.j_and_f:6.1f}'
        for row in rows
    ]
    return '\n'.join(lines)


def list_results(work_dir: Path) -> list[str]:
    """List the folders with results of a run."""
    lines = []
    for name, pattern in RESULTS:
        files = [
            path
            for path in work_dir.glob(pattern)
            if REPORT_FOLDER not in path.relative_to(work_dir).parts
        ]
        if files:
            newest = max(files, key=lambda path: path.stat().st_mtime)
            lines.append(f'{name}: {newest.parent} ({len(files)} files)')
    return lines


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Score as the command line says; print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description='Score before and after training.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--processes', type=int, default=1, help='models scored at the same time'
    )
    add_run_arguments(parser)
    options = parser.parse_args(arguments)
    cfg = load_config(options.config, options.cfg_options)
    apply_work_dir(cfg, options.work_dir)
    work_dir = Path(cfg.work_dir)
    checkpoint = best_checkpoint(work_dir)
    without_memory = 'after training, without memory'
    rows = call_all(
        [
            partial(score_model, options, 'before training', None),
            partial(score_copy, cfg, 'copy of the first masks'),
            partial(score_model, options, 'after training', checkpoint),
            partial(score_model, options, without_memory, checkpoint, WITHOUT_MEMORY),
        ],
        options.processes,
    )
    report = work_dir / REPORT_FOLDER / REPORT_FILE
    report.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    print(f'\n{format_table(rows)}\n')
    print(f'After training: {checkpoint}')
    print(
        'Results:',
        *list_results(work_dir),
        f'scores: {report}',
        sep='\n  ',
    )
    return rows


if __name__ == '__main__':
    call_tool(main)
