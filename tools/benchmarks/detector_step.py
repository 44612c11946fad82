"""Compare mmcv's operators in torch with the compiled ones, in training a detector.

Two processes train a detector of mmdetection, with the same random weights on the same
drawn image, one step after the other by turns: this interpreter, with mmcv-lite and the
operators of this project, and another one, whose environment has mmdetection and mmcv
with compiled operators (docs/how_to/mmcv_lite.md tells how to build it). It prints the
median CPU time of a step on one thread, the compiled time divided by ours, and the loss
of the first step, which must agree.

    python tools/benchmarks/detector_step.py /path/to/env/bin/python --steps 10
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

CONFIG = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
COMPILED, OURS = 'compiled', 'ours'
ROOT = Path(__file__).resolve().parents[2]

Step = tuple[float, float]  # CPU seconds, sum of the losses


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        argv: The arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('python', help='interpreter with compiled operators')
    parser.add_argument('--config', default=CONFIG, help='of a detector, mmdet::…')
    parser.add_argument('--size', type=int, default=320, help='side of the image')
    parser.add_argument('--steps', type=int, default=10, help='after one to warm up')
    parser.add_argument('--json', type=Path, help='write the results to this file')
    parser.add_argument('--worker', choices=(COMPILED, OURS), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        answer_steps(options.worker, options.config, options.size)
        return
    pythons = {COMPILED: options.python, OURS: sys.executable}
    workers = {way: start_worker(way, pythons[way], options) for way in pythons}
    steps: dict[str, list[Step]] = {way: [] for way in workers}
    for _ in range(options.steps + 1):
        for way, worker in workers.items():
            steps[way].append(ask_step(worker, way))
    for worker in workers.values():
        worker.communicate()  # closes its input, which ends it
    medians = {
        way: statistics.median(seconds for seconds, _ in done[1:])
        for way, done in steps.items()
    }
    results = {
        'config': options.config,
        'size': options.size,
        'seconds': medians,
        'ratio': medians[COMPILED] / medians[OURS],
        'first_loss': {way: done[0][1] for way, done in steps.items()},
    }
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps({**results, 'steps': steps}))


def start_worker(
    way: str, python: str, options: argparse.Namespace
) -> 'subprocess.Popen[str]':
    """Start a process that trains a step for each line that it reads."""
    command = [python, __file__, python, '--worker', way]
    command += ['--config', options.config, '--size', str(options.size)]
    threads = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | threads,
    )


def ask_step(worker: 'subprocess.Popen[str]', way: str) -> Step:
    """Let a process train a step, while the other one waits.

    Raises:
        SystemExit: If it has ended; what it said of that is printed already.
    """
    stdin, stdout = worker.stdin, worker.stdout
    if stdin is None or stdout is None or worker.poll() is not None:
        sys.exit(f'the process with {way} operators has ended')
    stdin.write('step\n')
    stdin.flush()
    answer = stdout.readline()
    if not answer:
        sys.exit(f'the process with {way} operators has ended')
    seconds, loss = json.loads(answer)
    return seconds, loss


def answer_steps(way: str, config: str, size: int) -> None:
    """Train a step for each line of the input, and print its time and loss."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        train = training(way, config, size)
        for _ in sys.stdin:
            print(json.dumps(train()), file=answers, flush=True)


def training(way: str, config: str, size: int) -> Callable[[], Step]:
    """Build a detector with random weights and an image, and return its step.

    Raises:
        SystemExit: If the operators are not those that are to be measured.
    """
    if way == OURS:
        sys.path.insert(0, str(ROOT))
        from projects.sam2.bridges.mmcv_operators import ensure_operators

        ensure_operators()
    import mmcv.ops  # noqa: F401  loads its operators
    import torch
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config

    # Operators in torch are a module without a file.
    if hasattr(sys.modules['mmcv._ext'], '__file__') != (way == COMPILED):
        sys.exit(f'{sys.executable} has not the {way} operators of mmcv')
    torch.set_num_threads(1)
    register_all_modules()
    model_config = get_config(config).model
    model_config.backbone.pop('init_cfg', None)
    torch.manual_seed(0)
    model = MODELS.build(model_config)
    model.init_weights()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    drawn = demo_mm_inputs(1, (3, size, size), num_items=[8], with_mask=True)
    batch = model.data_preprocessor(drawn, training=True)

    def train() -> Step:
        torch.manual_seed(0)  # for the same regions in both processes
        start = time.process_time()
        losses, _ = model.parse_losses(model(**batch, mode='loss'))
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
        return time.process_time() - start, losses.item()

    return train


if __name__ == '__main__':
    main()
