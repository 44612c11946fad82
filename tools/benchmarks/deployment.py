"""Measure a model as it is, compiled, and exported to ONNX and AOTInductor.

    python tools/benchmarks/deployment.py --json work_dirs/deployment.json
    python tools/benchmarks/deployment.py --config sam2.1_hiera_t --rounds 5

eager        the model as it is
compiled     its regions compiled by torch.compile, as by --compile
onnx         the graphs of tools/export_onnx.py in ONNX Runtime
aotinductor  the graphs of tools/export_torch.py

Each graph and each call of a predictor runs in these ways alternately, in one process,
with one thread and with two; the medians of several rounds count, of elapsed and of CPU
time. Calls are set_image and a click of the image predictor, and a frame of a video
with one object and with three: it is encoded, tracked with full memories (7 maps and 16
object pointers), and remembered. The largest difference of an output from that of
`eager`, over its root mean square, is stated.

Without a checkpoint the weights are random, and all objects are predicted to be
present. It runs on a CPU.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from video_objects import FRAME, Bench  # type: ignore[import-not-found]

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import SAM2ImagePredictor, SAM2VideoPredictor
from projects.sam2.apis.building import build_for_export
from projects.sam2.deployment import (
    GRAPHS,
    ExportedSAM2,
    GraphRunner,
    ModuleRunner,
    example_inputs,
    export_onnx,
    export_torch,
    is_export,
    load_exported,
)
from projects.sam2.models import SAM2
from projects.sam2.models.compiling import compile_model
from projects.sam2.ops import write_atomically

Run = Callable[[], Tensor]

MEGABYTE = 1e6
NUM_OBJECTS = (1, 3)
# Threads of ONNX Runtime spin for a while after a run, and would disturb the next.
PAUSE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One of the ways to run the model.

    Attributes:
        model: What predictors take.
        runner: Runs single graphs.
        predictor: Of images; keeps its image from call to call.
    """

    model: SAM2 | ExportedSAM2
    runner: GraphRunner
    predictor: SAM2ImagePredictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What an export costs once.

    Attributes:
        way: Name of the way.
        export_s: Seconds to export all graphs; None if they were there.
        megabytes: Size of all files.
        load_s: Seconds to check and to load all graphs.
    """

    way: str
    export_s: float | None
    megabytes: float
    load_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A graph or a call, in all ways.

    Attributes:
        name: Name of the graph or the call.
        num_threads: Threads of torch and ONNX Runtime.
        wall_ms: Median elapsed time of each way.
        cpu_ms: Median CPU time of each way.
        first_s: Elapsed time of the first call of each way, which may compile.
        difference: Largest difference of each way from eager.
    """

    name: str
    num_threads: int
    wall_ms: dict[str, float] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)
    first_s: dict[str, float] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)


def prepare(
    options: argparse.Namespace, folder: Path
) -> tuple[SAM2, list[Preparation]]:
    """Build the model and export it to a folder for each runtime."""
    torch.manual_seed(0)
    size = None if options.size is None else (options.size, options.size)
    model, config = build_for_export(options.config, options.checkpoint, size)
    if options.checkpoint is None:
        with torch.no_grad():
            model.mask_decoder.object_score_head.layers[-1].bias += 10
    preparations = []
    for way, export in (('onnx', export_onnx), ('aotinductor', export_torch)):
        start = time.perf_counter()
        is_there = is_export(folder / way)
        if not is_there:
            export(model, folder / way, config=config, check=False)
        exported = time.perf_counter()
        runner = load_exported(folder / way).runner
        for name, inputs in example_inputs(model).items():
            runner.run(name, inputs)
        preparations.append(
            Preparation(
                way=way,
                export_s=None if is_there else exported - start,
                megabytes=sum(p.stat().st_size for p in (folder / way).iterdir())
                / MEGABYTE,
                load_s=time.perf_counter() - exported,
            )
        )
    return model, preparations


def open_ways(model: SAM2, folder: Path, num_threads: int) -> dict[str, Way]:
    """Open the model in all ways; the exported ones load their graphs when called."""
    compiled = copy.deepcopy(model)
    compile_model(compiled)
    onnx = load_exported(folder / 'onnx', num_threads=num_threads)
    aotinductor = load_exported(folder / 'aotinductor')
    runners: dict[str, tuple[SAM2 | ExportedSAM2, GraphRunner]] = {
        'eager': (model, ModuleRunner(model)),
        'compiled': (compiled, ModuleRunner(compiled)),
        'onnx': (onnx, onnx.runner),
        'aotinductor': (aotinductor, aotinductor.runner),
    }
    return {
        name: Way(model=model, runner=runner, predictor=SAM2ImagePredictor(model))
        for name, (model, runner) in runners.items()
    }


@torch.no_grad()
def measure(
    name: str,
    ways: dict[str, Way],
    prepare_run: Callable[[Way], Run],
    *,
    num_threads: int,
    num_rounds: int,
) -> Row:
    """Run a graph or a call in all ways alternately.

    Args:
        prepare_run: Prepares a run in one of the ways; only the run is timed.
    """
    row = Row(name=name, num_threads=num_threads)
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    expected = prepare_run(ways['eager'])()
    scale = expected.square().mean().sqrt()
    for turn in range(num_rounds + 1):
        for way in sorted(ways, reverse=turn % 2 == 1):
            run = prepare_run(ways[way])
            time.sleep(PAUSE_S)
            start, cpu_start = time.perf_counter(), time.process_time()
            output = run()
            seconds = time.perf_counter() - start
            cpu_seconds = time.process_time() - cpu_start
            if turn == 0:
                row.first_s[way] = seconds
                row.difference[way] = float((output - expected).abs().max() / scale)
            else:
                wall[way].append(1000 * seconds)
                cpu[way].append(1000 * cpu_seconds)
    row.wall_ms.update({way: statistics.median(times) for way, times in wall.items()})
    row.cpu_ms.update({way: statistics.median(times) for way, times in cpu.items()})
    return row


def graph_runs(model: SAM2) -> dict[str, Callable[[Way], Run]]:
    """Runs of each graph, with full memories and one point."""
    bank = model.tracker.memory_bank
    runs: dict[str, Callable[[Way], Run]] = {}
    for num_objects in NUM_OBJECTS:
        inputs = example_inputs(
            model,
            num_objects=num_objects,
            num_memories=bank.num_frames,
            num_pointers=bank.max_pointers,
            num_points=2,  # one point and its padding
        )
        for graph in GRAPHS:
            if graph == 'encode':
                name = graph
            else:
                name = f'{graph}, {num_objects} object{"s" * (num_objects > 1)}'
            runs[name] = partial(_graph_run, graph=graph, inputs=inputs[graph])
    return runs


def _graph_run(way: Way, *, graph: str, inputs: dict[str, Tensor]) -> Run:
    first = GRAPHS[graph].outputs[0].name
    return lambda: way.runner.run(graph, inputs)[first]


def call_runs(model: SAM2) -> dict[str, Callable[[Way], Run]]:
    """Runs of the calls of predictors, on noise."""
    height, width = model.data_preprocessor.image_size
    noise = np.random.default_rng(0)
    image = noise.integers(0, 255, (height, width, 3), dtype=np.uint8)
    bench = Bench(
        predictor=SAM2VideoPredictor(model),
        pixels=model.data_preprocessor.frame(image),
        device=torch.device('cpu'),
    )

    def set_image(way: Way) -> Run:
        def run() -> Tensor:
            way.predictor.set_image(image)
            return way.predictor.get_image_embedding()

        return run

    def click(way: Way) -> Run:
        points = [[width / 2, height / 2]]
        predict = partial(way.predictor.predict, points, [1], return_logits=True)
        return lambda: torch.from_numpy(predict()[0])

    def frame(way: Way, num_objects: int) -> Run:
        session = bench.session(num_objects)
        session.model = way.model

        def run() -> Tensor:
            session.embeddings[FRAME] = way.model.encode(bench.pixels)
            batches = session.step(FRAME)
            return torch.cat([batch.output.final.mask_logits for batch in batches])

        return run

    frames = {
        f'frame, {n} object{"s" * (n > 1)}': partial(frame, num_objects=n)
        for n in NUM_OBJECTS
    }
    return {'set_image': set_image, 'click': click, **frames}


def print_tables(preparations: Sequence[Preparation], rows: Sequence[Row]) -> None:
    """Print tables in Markdown."""
    print('\n| | export, s | MB | load, s |\n|---|---|---|---|')
    for item in preparations:
        export_s = '' if item.export_s is None else f'{item.export_s:.0f}'
        cells = f'{export_s} | {item.megabytes:.1f} | {item.load_s:.1f}'
        print(f'| {item.way} | {cells} |')
    ways = list(rows[0].wall_ms)
    print(
        f'\n| CPU ms (elapsed ms) | threads | {" | ".join(ways)} | largest difference |'
    )
    print('|---' * (len(ways) + 3) + '|')
    for row in rows:
        times = [f'{row.cpu_ms[way]:.1f} ({row.wall_ms[way]:.1f})' for way in ways]
        difference = max(row.difference.values())
        cells = ' | '.join([row.name, str(row.num_threads), *times])
        print(f'| {cells} | {difference:.0e} |')


def write_report(
    path: Path, preparations: Sequence[Preparation], rows: Sequence[Row]
) -> None:
    """Write all that was measured so far."""
    report = {
        'preparations': [asdict(item) for item in preparations],
        'rows': [asdict(row) for row in rows],
    }
    write_atomically(path, json.dumps(report, indent=2))


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure, print tables and write them.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', default='_base_/models/sam2_1_mini.py', help='config or name')
    add('--checkpoint', help='checkpoint (default: random weights)')
    add('--size', type=int, help='side of the image (default: of the config)')
    add('--threads', type=int, nargs='+', default=[1, 2], help='default 1 2')
    add('--rounds', type=int, default=11, help='runs of each way (default 11)')
    add(
        '--folder',
        type=Path,
        help='of the exports, which are used again (default: temporary)',
    )
    add('--json', type=Path, metavar='FILE', help='write the tables')
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        model, preparations = prepare(options, folder)
        runs = graph_runs(model) | call_runs(model)
        for num_threads in options.threads:
            torch.set_num_threads(num_threads)
            ways = open_ways(model, folder, num_threads)
            for name, prepare_run in runs.items():
                row = measure(
                    name,
                    ways,
                    prepare_run,
                    num_threads=num_threads,
                    num_rounds=options.rounds,
                )
                rows.append(row)
                print(row.name, row.num_threads, row.cpu_ms, flush=True)
                if options.json is not None:
                    write_report(options.json, preparations, rows)
    print_tables(preparations, rows)
    return rows


if __name__ == '__main__':
    main()
