"""Compare the models of the family, and the memory policies.

``models``: parameters, and the time and memory of a frame with one object. Each model
encodes a frame and tracks an object on it with full memories (a prompted frame and 15
others), at the size of its config. Weights are random, and the object is predicted to
be present. The models take turns in one process, on one thread; the median of CPU times
counts (on a GPU that of elapsed times). ``--peak`` adds the peak of memory, which is
measured in a process for each model.

``policies``: J&F on generated clips whose target is among objects of its texture, which
cross it, stay visible while it is hidden, or wait where it left. Each policy tracks the
same clips with the same trained model. Clips of several seeds show how far the numbers
can be trusted.

    python tools/benchmarks/family.py models --json work_dirs/family_models.json
    python tools/benchmarks/family.py policies configs/sam2_mini_synthetic.py \
        work_dirs/sam2_mini_synthetic/best_JF_epoch_72.pth
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from resident_memory import PeakMemory, resident_mb  # type: ignore[import-not-found]
from video_objects import FRAME, Bench, open_bench  # type: ignore[import-not-found]

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import build_sam2
from projects.sam2.apis.building import load_model_config
from projects.sam2.datasets import ClipSyntheticDataset
from projects.sam2.datasets.sources.synthetic import MEMORY_KINDS
from projects.sam2.evaluation import (
    JFAccumulator,
    VideoScores,
    disappearance_scores,
    reappearance_scores,
    summarise,
)
from projects.sam2.installation import CONFIGS, policy_names
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.session import VideoSession
from projects.sam2.structures import FramePrompt, VideoRecord, VideoSource

# Configs of configs/_base_/models, those that the others are compared with first.
MODELS = (
    'sam2_1_bplus',
    'sam2_1_tiny',
    'sam2_1_small',
    'sam2_1_large',
    'edgetam',
    'efficienttam_ti',
    'efficienttam_ti_1',
    'efficienttam_ti_2',
    'efficienttam_ti_512x512',
    'efficienttam_s',
    'efficienttam_s_1',
    'efficienttam_s_2',
    'efficienttam_s_512x512',
    'sam3_tracker',
)
POLICIES = ('fifo', *(name for name in policy_names() if name != 'fifo'))
MEGABYTE = 2**20


# Models ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """What a model costs.

    Attributes:
        model: Its name.
        size: Height and width of its frames.
        parameters: Number of parameters.
        encode_s: Seconds to encode a frame.
        track_s: Seconds to track an object on it and to encode its memory.
        memory_kb: Kilobytes that are kept of a tracked frame, for each object.
        peak_mb: Megabytes that tracking adds to weights and program at most; None
            where it was not measured.
    """

    model: str
    size: tuple[int, int]
    parameters: int
    encode_s: float
    track_s: float
    memory_kb: float
    peak_mb: float | None

    @property
    def frame_s(self) -> float:
        """Seconds for a frame with one object."""
        return self.encode_s + self.track_s


def open_model(name: str, options: argparse.Namespace) -> Bench:
    """Build a model with random weights, and a frame."""
    path = CONFIGS / '_base_' / 'models' / f'{name}.py'
    config = str(path) if path.is_file() else name
    size = options.size
    if size is not None:
        preprocessor = load_model_config(config).model.data_preprocessor
        divisor = preprocessor.get('size_divisor', 32)
        size = max(1, size // divisor) * divisor
    return open_bench(
        argparse.Namespace(
            config=config,
            device=options.device,
            size=size,
            compile=False,
            max_batch=None,
        )
    )


@torch.no_grad()
def full_session(bench: Bench) -> VideoSession:
    """Track an object on two frames, and repeat its memory until memories are full."""
    size = bench.predictor.model.data_preprocessor.image_size
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    session = VideoSession(
        bench.predictor.model,
        lambda _: noise,
        10 * FRAME,
        options=bench.predictor.options,
    )
    mask = torch.zeros(1, 1, *size, device=bench.device)
    mask[..., size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    session.add_prompt(0, [1], FramePrompt(mask=mask))
    session.step(0)
    session.step(1)
    store = session.objects[1].store
    memory = store.tracked.pop(1)
    for frame in range(FRAME - 15, FRAME):
        store.add(frame, memory, conditioning=False)
    return session


def kilobytes(session: VideoSession) -> float:
    """Size of what later frames read of a tracked frame: memory and object pointer."""
    memory = session.objects[1].store.tracked[FRAME - 1]
    return (memory.spatial.nbytes + memory.object_pointer.nbytes) / 1024


def peak_of_frame(name: str, options: argparse.Namespace) -> float:
    """Megabytes that tracking adds at most, in a process of its own."""
    torch.set_num_threads(1)
    bench = open_model(name, options)
    if bench.device.type == 'cuda':
        before = torch.cuda.memory_allocated(bench.device) / MEGABYTE
        _frame(bench, full_session(bench))
        return torch.cuda.max_memory_allocated(bench.device) / MEGABYTE - before
    before = resident_mb()
    # From the first frame on: freed memory stays with the process.
    with PeakMemory() as peak:
        _frame(bench, full_session(bench))
    return float(peak.max_mb - before)


@torch.no_grad()
def _frame(bench: Bench, session: VideoSession) -> tuple[float, float]:
    """Encode a frame and track the object on it; return the seconds of both."""
    encode_s, features = bench.timed(bench.features)
    track_s, _ = bench.timed(bench.together, session, features)
    return encode_s, track_s


def measure_models(options: argparse.Namespace) -> list[ModelRow]:
    """Time all models in turn, after a round that is not counted."""
    benches = {name: open_model(name, options) for name in options.models}
    sessions = {name: full_session(bench) for name, bench in benches.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in benches}
    for turn in range(1 + options.rounds):
        for name in sorted(benches, reverse=turn % 2 == 1):
            times[name].append(_frame(benches[name], sessions[name]))
    rows = []
    for name, bench in benches.items():
        model = bench.predictor.model
        encode, track = zip(*times[name][1:], strict=True)
        rows.append(
            ModelRow(
                model=name,
                size=tuple(model.data_preprocessor.image_size),
                parameters=sum(p.numel() for p in model.parameters()),
                encode_s=statistics.median(encode),
                track_s=statistics.median(track),
                memory_kb=kilobytes(sessions[name]),
                peak_mb=peak_of_model(name, options) if options.peak else None,
            )
        )
    return rows


def peak_of_model(name: str, options: argparse.Namespace) -> float:
    """Call :func:`peak_of_frame` in a new process."""
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as processes:
        return processes.submit(peak_of_frame, name, options).result()


def describe_models(rows: Sequence[ModelRow]) -> Iterator[str]:
    """Format a table; ratios are those to the first model."""
    yield (
        f'{"model":24} {"size":>5} {"M params":>9} {"encode s":>9} {"track s":>8} '
        f'{"frame s":>8} {"ratio":>6} {"kept KB":>8} {"peak MB":>8}'
    )
    for row in rows:
        yield (
            f'{row.model:24} {row.size[0]:5} {row.parameters / 1e6:9.1f} '
            f'{row.encode_s:9.2f} {row.track_s:8.2f} {row.frame_s:8.2f} '
            f'{row.frame_s / rows[0].frame_s:6.2f} {row.memory_kb:8.0f} '
            + ('       -' if row.peak_mb is None else f'{row.peak_mb:8.0f}')
        )


# Policies ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """How a policy tracks the clips of a seed.

    Attributes:
        policy: Its name.
        seed: Of the clips.
        j_and_f: Mean over the clips.
        by_kind: Mean over the clips of a kind.
        gone: Mean over the frames on which the target is gone.
        back: Mean over the frames after it has returned.
        frame_s: CPU seconds a frame, with reading and scoring.
    """

    policy: str
    seed: int
    j_and_f: float
    by_kind: dict[str, float]
    gone: float
    back: float
    frame_s: float


def open_clips(seed: int, options: argparse.Namespace) -> list[VideoSource]:
    """Render the clips of a seed."""
    clips = ClipSyntheticDataset(
        num_clips=options.clips,
        num_frames=options.frames,
        kinds=[kind.value for kind in MEMORY_KINDS],
        seed=seed,
    )
    return [clips.open_video(name) for name in clips.list_videos()]


def measure_policy(
    model: SAM2, policy: str, seed: int, clips: Sequence[VideoSource]
) -> PolicyRow:
    """Track the clips of a seed."""
    model.accumulators = [JFAccumulator()]
    scores: list[VideoScores] = []
    start = time.process_time()
    for index, source in enumerate(clips):
        record = VideoRecord(metainfo={'source': source, 'sample_index': index})
        scores.append(model.predict(record).scores)
    seconds = time.process_time() - start
    by_kind = {
        kind.value: summarise(scores[index :: len(MEMORY_KINDS)]).j_and_f
        for index, kind in enumerate(MEMORY_KINDS)
    }
    return PolicyRow(
        policy=policy,
        seed=seed,
        j_and_f=summarise(scores).j_and_f,
        by_kind=by_kind,
        gone=disappearance_scores(scores).j_and_f,
        back=reappearance_scores(scores).j_and_f,
        frame_s=seconds / sum(source.num_frames for source in clips),
    )


def measure_policies(options: argparse.Namespace) -> list[PolicyRow]:
    """Track the clips of each seed with each policy, and print the rows."""
    models = {
        policy: build_sam2(
            options.config, options.checkpoint, options.device, policy=policy
        )
        for policy in options.policies
    }
    rows = []
    for seed in options.seeds:
        clips = open_clips(seed, options)
        for policy, model in models.items():
            row = measure_policy(model, policy, seed, clips)
            print(f'  seed {seed}, {policy}: J&F {row.j_and_f:.1f}', flush=True)
            rows.append(row)
    return rows


def describe_policies(rows: Sequence[PolicyRow]) -> Iterator[str]:
    """Format a table of means over the seeds; differences are those to the first."""
    columns = (*(kind.value for kind in MEMORY_KINDS), 'gone', 'back')
    titles = ''.join(f'{title:>10}' for title in columns)
    yield f'{"policy":10}{"J&F":>7}{"difference by seed":>28}{titles}{"ms/frame":>10}'
    first = [row for row in rows if row.policy == rows[0].policy]
    for policy in dict.fromkeys(row.policy for row in rows):
        own = [row for row in rows if row.policy == policy]
        pairs = zip(own, first, strict=True)
        gains = [row.j_and_f - base.j_and_f for row, base in pairs]
        means = [
            statistics.mean(_columns(row)[title] for row in own) for title in columns
        ]
        yield (
            f'{policy:10}{statistics.mean(row.j_and_f for row in own):7.1f}'
            f'{"  ".join(f"{gain:+.1f}" for gain in gains):>28}'
            + ''.join(f'{mean:10.1f}' for mean in means)
            + f'{1000 * statistics.median(row.frame_s for row in own):10.0f}'
        )


def _columns(row: PolicyRow) -> dict[str, float]:
    return {**row.by_kind, 'gone': row.gone, 'back': row.back}


# Command line ------------------------------------------------------------------------


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest='part', required=True)
    models = parts.add_parser('models', help='parameters, time and memory')
    add = models.add_argument
    add(
        '--models',
        nargs='+',
        default=MODELS,
        metavar='NAME',
        help='of configs/_base_/models, or paths of configs; ratios are to the first '
        '(default: all of the family)',
    )
    add(
        '--size',
        type=int,
        help='side of the frames, or the next smaller one that a model takes (default: '
        'of each config)',
    )
    add('--rounds', type=int, default=3, help='of all models (default 3)')
    add('--peak', action='store_true', help='measure the peak of the memory')
    policies = parts.add_parser('policies', help='J&F on generated clips')
    add = policies.add_argument
    add('config', type=Path, help='config of a trained model')
    add('checkpoint', type=Path)
    add(
        '--policies',
        nargs='+',
        default=POLICIES,
        metavar='NAME',
        help='names, or paths of own policies; differences are to the first (default: '
        f'{" ".join(POLICIES)})',
    )
    add('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default 0 1 2)')
    add('--clips', type=int, default=24, help='of each seed (default 24)')
    add('--frames', type=int, default=60, help='of each clip (default 60)')
    for part in (models, policies):
        add = part.add_argument
        add('--device', default='cpu', help='cpu (default) or cuda')
        add('--json', type=Path, metavar='FILE', help='write the table')
    return parser.parse_args(arguments)


def main(
    arguments: Sequence[str] | None = None,
) -> Sequence[ModelRow] | Sequence[PolicyRow]:
    """Measure, print a table and write it.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    rows: Sequence[ModelRow] | Sequence[PolicyRow]
    if options.part == 'models':
        rows = measure_models(options)
        print('\n'.join(describe_models(rows)))
    else:
        rows = measure_policies(options)
        print('\n'.join(describe_policies(rows)))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps([asdict(row) for row in rows], indent=2)
        options.json.write_text(content, encoding='utf-8')
    return rows


if __name__ == '__main__':
    main()
