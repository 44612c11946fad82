"""What each section of the GPU suite measures.

A section adds rows to its table (``gpu_tables.py``). Where a row fails, the error is
its note, and the next one is measured. Medians of the elapsed time count.
"""

import re
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import automatic_masks  # type: ignore[import-not-found]
import torch
import video_objects  # type: ignore[import-not-found]
from gpu_measurement import (  # type: ignore[import-not-found]
    CONFIGS,
    Row,
    SectionRun,
)
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from step_measurement import (  # type: ignore[import-not-found]
    Setting,
    build,
    make_sample,
    plain_way,
)
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from projects.sam2.apis import SAM2ImagePredictor, SAM2VideoPredictor, build_sam2
from projects.sam2.apis.building import build_for_export
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.deployment import ExportedSAM2, load_exported
from projects.sam2.deployment.manifest import Precision
from projects.sam2.deployment.onnx_export import export_onnx
from projects.sam2.deployment.torch_package import TorchRuntime, export_torch
from projects.sam2.engine.optim import FiniteGuard
from projects.sam2.models import SAM2
from projects.sam2.models.compiling import warm_up
from projects.sam2.ops import import_optional

Job = Callable[[], object]
LEARNED = CONFIGS.parent / 'docs/weights'  # a small model with trained weights
MILLI = 1000
TERA = 1e12
SPARE_FRAMES = 8  # that warm up, and that are profiled
FULL_MEMORIES = 17  # frames until all memories and object pointers are there
BATCH_OF_IMAGES = 8
OUTCOME = re.compile(r'(\d+) (passed|failed|error|skipped)')
GPU_TESTS = ('tests/bridges/test_operators.py', 'tests/engine/test_optim.py')


def run_section(name: str, run: SectionRun) -> None:
    """Measure a section, with ``torch.compile`` switched off at toy size."""
    stance: AbstractContextManager[object] = nullcontext()
    if run.sizes.skip_compiler:
        stance = torch.compiler.set_stance('force_eager')
    with stance:
        MEASURES[name](run)


class Once:
    """Builds something when it is first needed, so that a failure is one of a row.

    Args:
        build: Builds it.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._built: list[Any] = []

    def __call__(self) -> Any:
        """What was built."""
        if not self._built:
            self._built.append(self._build())
        return self._built[0]


def build_model(run: SectionRun, config: str) -> SAM2:
    """Build a model whose objects are all present, with random weights."""
    torch.manual_seed(0)
    side = run.sizes.image_size
    model = build_sam2(config, device=run.device.name, image_size=(side, side))
    with torch.no_grad():  # or all masks would be the same
        model.mask_decoder.object_score_head.layers[-1].bias += 10
    return model


def measure_card(run: SectionRun) -> None:
    """Measure the ceilings of the card, and whether it computes what a CPU does."""
    run.rows_left = 4
    device, sizes = run.device, run.sizes

    def copy() -> Row:
        source = torch.empty(sizes.copied_bytes, dtype=torch.uint8, device=device.name)
        target = torch.empty_like(source)
        seconds = run.times(lambda: target.copy_(source)).median
        return {'value': 2 * sizes.copied_bytes / seconds / 1e9, 'unit': 'GB/s'}

    def multiply() -> Row:
        side = sizes.matrix_side
        left, right = (
            torch.randn(side, side, device=device.name).to(torch.bfloat16)
            for _ in range(2)
        )
        seconds = run.times(lambda: left @ right).median
        return {'value': 2 * side**3 / seconds / TERA, 'unit': 'TFLOP/s'}

    run.row(copy, what='copy within the memory, read and written')
    run.row(multiply, what=f'matrix product of {sizes.matrix_side}, bfloat16')
    for name, half in (('float32', False), ('bfloat16', True)):
        run.row(
            partial(difference_to_host, run, half=half),
            what=f'masks of a video against those of a CPU, {name}',
        )


def difference_to_host(run: SectionRun, *, half: bool) -> Row:
    """Compare the masks of a video with those of a CPU in float32."""
    masks = []
    for name, context in (
        ('cpu', nullcontext()),
        (run.device.name, run.device.autocast(enabled=half)),
    ):
        model = build_sam2(
            LEARNED / 'sam2_mini_cells.py', LEARNED / 'sam2_mini.pth', device=name
        )
        predictor = SAM2VideoPredictor(model)
        with context:
            state = predictor.init_state(run.noise(4))
            prompt_objects(predictor, state, 2, run.sizes.video_size)
            shown = [r.mask_logits.cpu() for r in predictor.propagate_in_video(state)]
        masks.append(torch.cat(shown))
    host, device = masks
    difference = (device - host).norm() / host.norm()
    return {'value': difference.item(), 'unit': 'of the norm'}


def measure_training(run: SectionRun) -> None:
    """Measure a training step of each recipe, as the Runner takes it."""
    recipes = run.sizes.recipes
    ways = [('plain', next(iter(recipes))), *(('ours', name) for name in recipes)]
    run.rows_left = len(ways)
    with tempfile.TemporaryDirectory() as folder:
        for way, name in ways:
            measure = partial(training_step, run, way, name, Path(folder))
            run.row(measure, recipe=name, way=way)


def training_step(run: SectionRun, way: str, name: str, folder: Path) -> Row:
    """Time the steps of a recipe: clip to the device, forward, backward, optimizer."""
    trainer = Trainer.of(run, way, name, folder)
    with run.device.peak() as peak:
        times = run.times(trainer.step)
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    flops = counter.get_total_flops()
    return {
        'step_s': times.median,
        'clips_s': 1 / times.median,
        'peak_gb': peak.gb,
        'first_s': times.first,
        'rounds': len(times.rounds),
        'tflop': flops / TERA,
        'tflop_s': flops / TERA / times.median,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A model with its optimizer, and a clip to train on."""

    model: SAM2
    guard: Any  # a FiniteGuard, in place of the wrapper that MMEngine expects
    sample: Any
    plain: bool

    @classmethod
    def of(cls, run: SectionRun, way: str, name: str, folder: Path) -> 'Trainer':
        """Build the model of a recipe."""
        sizes, device = run.sizes, run.device
        config = Config.fromfile(CONFIGS / sizes.recipes[name])
        if sizes.model_of_recipes is not None:
            small = Config.fromfile(CONFIGS / sizes.model_of_recipes).model
            small.adaptations = config.model.get('adaptations', [])
            config.model = small
        config.optim_wrapper.pop('accumulative_counts', None)  # a step for each clip
        path = folder / f'{way} {name}.py'
        config.dump(path)
        setting = Setting(
            config=str(path),
            image_size=sizes.image_size,
            num_frames=sizes.num_frames,
            num_objects=sizes.num_objects,
            prompt='points',
            device=device.name,
            dtype='bfloat16',
            dropout=True,
            num_threads=torch.get_num_threads(),
        )
        model = build(setting, 'plain' if way == 'plain' else 'ours')
        model.data_preprocessor.image_size = (sizes.image_size,) * 2
        sample = make_sample(setting)
        for key, value in sample.items():
            sample.set_data({key: device.send(value)})
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        return cls(
            model=model,
            guard=FiniteGuard(wrapper),
            sample=sample,
            plain=way == 'plain',
        )

    def step(self) -> None:
        """Train on the clip once; the weights change."""
        with plain_way(fused_attention=True) if self.plain else nullcontext():
            self.model.train_step([self.sample], self.guard)


def measure_video(run: SectionRun) -> None:
    """Measure the time to track objects: one by one, in a batch, and end to end."""
    run.rows_left = len(run.sizes.models) * len(run.sizes.object_counts)
    for name, config in run.sizes.models.items():
        bench = Once(partial(open_bench, run, config))
        for count in run.sizes.object_counts:
            measure = partial(tracked_frame, run, bench, count)
            run.row(measure, num_jobs=4, model=name, objects=count)


def open_bench(run: SectionRun, config: str) -> Any:
    """Build the bench of ``video_objects.py``."""
    options = Namespace(
        config=config,
        device=run.device.name,
        compile=False,
        size=run.sizes.image_size,
        max_batch=None,
    )
    return video_objects.open_bench(options)


@torch.no_grad()
def tracked_frame(run: SectionRun, opened: Once, count: int) -> Row:
    """Time a frame with full memories, and whole frames of the predictor."""
    bench = opened()
    with run.device.autocast(), run.device.peak() as peak:
        encode = run.times(bench.features)
        features, session = bench.features(), bench.session(count)
        batch = run.times(lambda: bench.together(session, features))
        loop = run.times(lambda: bench.one_by_one(session, features), warm_up=0)
        frames_s = frames_per_second(run, bench.predictor, count)
    return {
        'encode_ms': encode.median * MILLI,
        'loop_ms': loop.median * MILLI,
        'batch_ms': batch.median * MILLI,
        'frames_s': frames_s,
        'peak_gb': peak.gb,
    }


def frames_per_second(
    run: SectionRun, predictor: SAM2VideoPredictor, num_objects: int
) -> float:
    """Frames a second of a video, from its pixels to masks on the host."""
    next_frame = tracking_frames(run, predictor, num_objects)

    def show_frame() -> None:
        (next_frame() > 0).cpu()

    seconds: float = run.times(show_frame).median
    return 1 / seconds


def tracking_frames(
    run: SectionRun, predictor: SAM2VideoPredictor, num_objects: int
) -> Callable[[], Tensor]:
    """Start to track objects; each call of the result tracks the next frame.

    Returns:
        A function that returns mask logits, (O, 1, height, width).
    """
    frames = run.noise(2)
    num_frames = FULL_MEMORIES + SPARE_FRAMES + run.sizes.rounds
    state = predictor.init_state([frames[n % 2] for n in range(num_frames)])
    prompt_objects(predictor, state, num_objects, run.sizes.video_size)
    results = predictor.propagate_in_video(state)
    for _ in range(FULL_MEMORIES):
        next(results)
    return lambda: next(results).mask_logits


def prompt_objects(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    num_objects: int,
    size: tuple[int, int],
) -> None:
    """Prompt objects with boxes on the first frame."""
    height, width = size
    for number in range(num_objects):
        left = number * width // (2 * num_objects)
        box = [left, height // 4, left + width // 4, height // 2]
        predictor.add_new_points_or_box(state, 0, number, box=box)


def measure_images(run: SectionRun) -> None:
    """Measure the image predictor: an image, a batch of images, and a click."""
    run.rows_left = len(run.sizes.models)
    for name, config in run.sizes.models.items():
        run.row(partial(built_image_times, run, config), num_jobs=3, model=name)


def built_image_times(run: SectionRun, config: str) -> Row:
    """Build a model, and time the calls of its image predictor."""
    return image_times(run, SAM2ImagePredictor(build_model(run, config)))


def image_times(
    run: SectionRun, predictor: SAM2ImagePredictor, *, half: bool = True
) -> Row:
    """Time the calls of an image predictor, from pixels to masks on the host."""
    height, width = run.sizes.video_size
    images = run.noise(BATCH_OF_IMAGES)
    with run.device.autocast(enabled=half), run.device.peak() as peak:
        batch = run.times(lambda: predictor.set_image_batch(images))
        image = run.times(lambda: predictor.set_image(images[0]))
        click = run.times(lambda: predictor.predict([[width // 2, height // 2]], [1]))
    return {
        'image_ms': image.median * MILLI,
        'batch_ms': batch.median * MILLI / len(images),
        'click_ms': click.median * MILLI,
        'peak_gb': peak.gb,
    }


def measure_masks(run: SectionRun) -> None:
    """Measure automatic masks, with no mask and with all masks kept."""
    cases = list(automatic_masks.CASES)
    run.rows_left = len(run.sizes.models) * len(cases)
    for name, config in run.sizes.models.items():
        for case in cases:
            run.row(partial(everything, run, config, case), model=name, kept=case)


def everything(run: SectionRun, config: str, case: str) -> Row:
    """Segment everything in an image, in one of the cases of ``automatic_masks.py``."""
    model, costs = build_model(run, config), []

    def segment() -> None:
        costs.append(
            automatic_masks.measure(
                model, case, points_per_side=run.sizes.points_per_side, before_mb=0
            )
        )

    with run.device.autocast(), run.device.peak() as peak:
        times = run.times(segment, warm_up=0)
    return {
        'image_s': times.median,
        'masks': costs[-1].num_masks,
        'peak_gb': peak.gb,
    }


def measure_waits(run: SectionRun) -> None:
    """Count where the host waits for the device, and how busy the device is."""
    jobs = {
        'training step, as published': training_job,
        'tracked frame of 3 objects': tracking_job,
        'click on an image': click_job,
    }
    run.rows_left = len(jobs)
    with tempfile.TemporaryDirectory() as folder:
        for name, prepare in jobs.items():
            run.row(partial(waits_of, run, prepare, Path(folder)), job=name)


def waits_of(
    run: SectionRun, prepare: Callable[[SectionRun, Path], Job], folder: Path
) -> Row:
    """Time a job, list its waits, and profile it."""
    job = prepare(run, folder)
    times = run.times(job)
    with run.device.waits() as lines:
        job()
    profile = run.device.profile(job)
    return {
        'job_ms': times.median * MILLI,
        'busy_ms': profile.busy_s * MILLI,
        'busy': profile.busy_s / times.median,
        'kernels': profile.num_kernels,
        'waits': len(lines),
        'waiting_calls': profile.num_waits,
        'lines': count_lines(lines),
        'top_kernels': profile.top,
    }


def count_lines(lines: list[str]) -> list[str]:
    """Each line that waits, with how often it does."""
    return [f'{count} x {line}' for line, count in Counter(lines).most_common()]


def training_job(run: SectionRun, folder: Path) -> Job:
    """A training step of the published recipe."""
    return Trainer.of(run, 'ours', next(iter(run.sizes.recipes)), folder).step


def tracking_job(run: SectionRun, _: Path) -> Job:
    """A tracked frame whose masks stay on the device."""
    model = build_model(run, next(iter(run.sizes.models.values())))
    next_frame = tracking_frames(run, SAM2VideoPredictor(model), 3)

    def track() -> None:
        with run.device.autocast():
            next_frame()

    return track


def click_job(run: SectionRun, _: Path) -> Job:
    """A click on an image, with its masks on the host."""
    model = build_model(run, next(iter(run.sizes.models.values())))
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(run.noise(1)[0])

    def click() -> None:
        with run.device.autocast():
            predictor.predict([[20, 20]], [1])

    return click


def measure_compiled(run: SectionRun) -> None:
    """Compare compiled models with eager ones: frames, and a training step."""
    jobs = ['encoding a frame']
    jobs += [f'tracked frame of {count}' for count in run.sizes.object_counts]
    recipe = next(iter(run.sizes.recipes))
    run.rows_left = len(jobs) * len(run.sizes.models) + 1
    for name, config in run.sizes.models.items():
        frames = Once(partial(CompiledFrames.of, run, config))
        for index, job in enumerate(jobs):
            measure = partial(compiled_frame, run, frames, index)
            run.row(measure, num_jobs=1 if index else len(jobs), model=name, job=job)
    with tempfile.TemporaryDirectory() as folder:
        measure = partial(compiled_step, run, recipe, Path(folder))
        trained = list(run.sizes.models)[-1]  # base+, in the recipes
        run.row(measure, num_jobs=2, model=trained, job=f'training step, {recipe}')


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledFrames:
    """Jobs of a model that was compiled, and what they took and gave before.

    Attributes:
        jobs: Each returns a tensor.
        eager: Seconds and result of each job without compiling.
        compile_s: Seconds to compile all that a video needs.
    """

    jobs: list[Callable[[], Tensor]]
    eager: list[tuple[float, Tensor]]
    compile_s: float

    @classmethod
    @torch.no_grad()
    def of(cls, run: SectionRun, config: str) -> 'CompiledFrames':
        """Measure a model, then compile it."""
        bench = open_bench(run, config)
        with run.device.autocast():
            features = bench.features()
            jobs: list[Callable[[], Tensor]] = [
                lambda: bench.features().embedding,
                *(
                    partial(bench.together, bench.session(count), features)
                    for count in run.sizes.object_counts
                ),
            ]
            eager = [(run.times(job).median, job()) for job in jobs]
            model = bench.predictor.model
            model.compile_regions()
            compile_s, _ = run.device.timed(lambda: warm_up(model))
        return cls(jobs=jobs, eager=eager, compile_s=compile_s)


@torch.no_grad()
def compiled_frame(run: SectionRun, frames: Once, index: int) -> Row:
    """Time a job of a compiled model, and compare its result with the eager one."""
    compiled: CompiledFrames = frames()
    job = compiled.jobs[index]
    eager_s, expected = compiled.eager[index]
    with run.device.autocast():
        seconds = run.times(job).median
        difference = (job() - expected).norm() / expected.norm()
    row = {
        'eager_ms': eager_s * MILLI,
        'compiled_ms': seconds * MILLI,
        'ratio': seconds / eager_s,
        'difference': difference.item(),
    }
    return row if index else {**row, 'compile_s': compiled.compile_s}


def compiled_step(run: SectionRun, recipe: str, folder: Path) -> Row:
    """Time a training step with and without compiling."""
    trainer = Trainer.of(run, 'ours', recipe, folder)
    eager = run.times(trainer.step).median
    trainer.model.compile_regions()
    compiled = run.times(trainer.step)
    return {
        'eager_ms': eager * MILLI,
        'compiled_ms': compiled.median * MILLI,
        'ratio': compiled.median / eager,
        'compile_s': compiled.first,
    }


def measure_onnx(run: SectionRun) -> None:
    """Measure a model that ONNX Runtime runs on the device, in both precisions."""
    try:
        runtime = import_optional('onnxruntime', purpose='Measuring ONNX')
    except ModuleNotFoundError as error:
        run.skip(str(error))
        return
    providers = runtime.get_available_providers()
    wanted = {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'}
    if wanted[run.device.name] not in providers:
        run.skip(
            f'onnxruntime {runtime.__version__} has no provider for a GPU; pip install '
            f'onnxruntime-gpu in place of onnxruntime'
        )
        return
    precisions: tuple[Precision, ...] = ('float32', 'float16')
    run.rows_left = len(precisions) * len(run.sizes.object_counts)
    for precision in precisions:
        export = partial(export_onnx, precision=precision, check=False)
        run_exported(run, export, 'cpu', precision=precision)


def measure_package(run: SectionRun) -> None:
    """Measure a model that AOTInductor compiled, at toy size one that it did not."""
    runtime: TorchRuntime = 'export' if run.sizes.skip_compiler else 'aotinductor'
    export = partial(export_torch, runtime=runtime, check=False)
    run.rows_left = len(run.sizes.object_counts)
    run_exported(run, export, run.device.name, runtime=runtime)


def run_exported(
    run: SectionRun, export: Callable[..., object], device: str, **labels: object
) -> None:
    """Export the first model with random weights, and measure its predictors.

    Args:
        export: Takes the model, the folder and ``config``.
        device: Device of the model that is exported.
        labels: First cells of the rows.
    """
    name, config = next(iter(run.sizes.models.items()))

    def write() -> tuple[ExportedSAM2, float]:
        side = run.sizes.image_size
        torch.manual_seed(0)
        model, loaded = build_for_export(config, None, (side, side), device)
        start = time.perf_counter()
        export(model, folder, config=loaded)
        seconds = time.perf_counter() - start
        return load_exported(folder, device=run.device.name), seconds

    exported = Once(write)

    def measure(count: int) -> Row:
        model, export_s = exported()
        row: Row = {}
        if count == run.sizes.object_counts[0]:
            images = image_times(run, SAM2ImagePredictor(model), half=False)
            row = {**images, 'export_s': export_s}
        frames_s = frames_per_second(run, SAM2VideoPredictor(model), count)
        return {**row, 'frames_s': frames_s}

    with tempfile.TemporaryDirectory() as folder:
        for count in run.sizes.object_counts:
            run.row(
                partial(measure, count),
                num_jobs=4 if count == run.sizes.object_counts[0] else 1,
                model=name,
                **labels,
                objects=count,
            )


def measure_operators(run: SectionRun) -> None:
    """Measure the operators of mmcv."""
    import mmcv_operators  # type: ignore[import-not-found]

    calls = mmcv_operators.calls(run.device.name)
    run.rows_left = len(calls)
    for name, call in calls:
        run.row(partial(called, run, call), operator=name)


def called(run: SectionRun, call: Job) -> Row:
    """Time a call."""
    return {'call_ms': run.times(call).median * MILLI}


def measure_tests(run: SectionRun) -> None:
    """Run the tests of operators and optimizers that need a GPU."""
    run.rows_left = len(GPU_TESTS)
    for name in GPU_TESTS:
        run.row(partial(outcomes, name), file=name)


def outcomes(name: str) -> Row:
    """Run the tests of a file that are called after the GPU, and count the outcomes."""
    command = [sys.executable, '-m', 'pytest', name, '-q', '-k', 'cuda']
    done = subprocess.run(
        [*command, '-p', 'no:cacheprovider'],
        check=False,
        cwd=CONFIGS.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    print(done.stdout)
    *_, last = done.stdout.strip().splitlines() or ['']
    counts = {kind: int(number) for number, kind in OUTCOME.findall(last)}
    if not counts:
        return {'note': last}
    failed = counts.get('failed', 0) + counts.get('error', 0)
    row = {
        'passed': counts.get('passed', 0),
        'failed': failed,
        'skipped': counts.get('skipped', 0),
    }
    return {**row, 'note': 'log.txt has the failures'} if failed else row


MEASURES: dict[str, Callable[[SectionRun], None]] = {
    'card': measure_card,
    'images': measure_images,
    'masks': measure_masks,
    'waits': measure_waits,
    'training': measure_training,
    'video': measure_video,
    'onnx': measure_onnx,
    'compiled': measure_compiled,
    'package': measure_package,
    'operators': measure_operators,
    'tests': measure_tests,
}
