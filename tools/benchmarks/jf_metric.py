"""Measure the CPU time of J&F against the same definition written out plainly.

Both run alternately in one process on one thread, and their medians are compared, so
that a busy machine slows both alike. They must give the same numbers to the last bit.

    python tools/benchmarks/jf_metric.py --json work_dirs/jf_metric.json

A ratio is the plain time divided by ours, on generated scenes of objects with uneven
outlines:

480p_3         854 x 480, 3 objects, both label maps in memory
480p_10        854 x 480, 10 objects
720p_3         1280 x 720, 3 objects
720p_10        1280 x 720, 10 objects
folder_480p_3  folder to score: palette PNG of 854 x 480, 3 objects, read with Pillow or
               with this project's reader
masks_480p_3   as 480p_3, with a mask for each object, as a model gives them

The plain way is that of the DAVIS toolkit: whole masks and contours of each object,
dilated by a disk (see plain_jf.py). Its time for one object at three sizes is printed
as well.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from plain_jf import (  # type: ignore[import-not-found]
    Scene,
    literal_folder_scores,
    literal_scores,
    make_scene,
)

from projects.sam2.apis.folder_scores import ScoringTask, score_video
from projects.sam2.evaluation import PROTOCOLS, FrameScores, score_labels, score_masks

SIZES = {'480p': (480, 854), '720p': (720, 1280), '1080p': (1080, 1920)}
NUM_SCENES = 4
FOLDER_FRAMES = 6
TARGETS = {'480p_3': 12, '720p_10': 30, 'folder_480p_3': 6}

Pairs = list[list[tuple[float, float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job, done in two ways that must give the same.

    Attributes:
        name: For the table.
        plain: J and F of each object of each frame, in the plain way.
        ours: Likewise, by this project.
    """

    name: str
    plain: Callable[[], Pairs]
    ours: Callable[[], Pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Median CPU times of a frame in milliseconds."""

    name: str
    plain_ms: float
    ours_ms: float

    @property
    def ratio(self) -> float:
        """Plain time over ours."""
        return self.plain_ms / self.ours_ms


def _make_scenes(size: str, num_objects: int) -> list[Scene]:
    """Draw several scenes of different shapes."""
    return [make_scene(*SIZES[size], num_objects, seed) for seed in range(NUM_SCENES)]


def label_job(size: str, num_objects: int) -> Job:
    """Score label maps in memory.

    Args:
        size: A key of ``SIZES``.
    """
    scenes = _make_scenes(size, num_objects)
    return Job(
        name=f'{size}_{num_objects}',
        plain=lambda: [literal_scores(s.pred, s.truth, s.object_ids) for s in scenes],
        ours=lambda: [
            _pairs(score_labels(s.pred, s.truth, s.object_ids)) for s in scenes
        ],
    )


def mask_job(size: str, num_objects: int) -> Job:
    """Score a mask for each object.

    Args:
        size: A key of ``SIZES``.
    """
    scenes = _make_scenes(size, num_objects)
    stacks = [
        [
            [labels == object_id for object_id in scene.object_ids]
            for labels in (scene.pred, scene.truth)
        ]
        for scene in scenes
    ]
    return Job(
        name=f'masks_{size}_{num_objects}',
        plain=lambda: [literal_scores(s.pred, s.truth, s.object_ids) for s in scenes],
        ours=lambda: [_pairs(score_masks(pred, truth)) for pred, truth in stacks],
    )


def folder_job(size: str, num_objects: int, folder: Path) -> Job:
    """Score a folder of palette images.

    Args:
        size: A key of ``SIZES``.
    """
    object_ids = tuple(range(1, num_objects + 1))
    for index in range(FOLDER_FRAMES):
        scene = make_scene(*SIZES[size], num_objects, index)
        for kind, labels in (('pred', scene.pred), ('truth', scene.truth)):
            clip = folder / kind / 'clip'
            clip.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(labels, mode='P')
            image.putpalette([value // 3 for value in range(768)])
            image.save(clip / f'{index:05}.png')
    task = ScoringTask(
        pred=folder / 'pred',
        truth=folder / 'truth',
        protocol=PROTOCOLS['davis-all-frames'],
    )

    def ours() -> Pairs:
        objects = score_video(task, 'clip').objects
        return [
            [(scores.frame_j[index], scores.frame_f[index]) for scores in objects]
            for index in range(FOLDER_FRAMES)
        ]

    return Job(
        name=f'folder_{size}_{num_objects}',
        plain=lambda: literal_folder_scores(
            folder / 'pred' / 'clip', folder / 'truth' / 'clip', object_ids
        ),
        ours=ours,
    )


def _pairs(scores: FrameScores) -> list[tuple[float, float]]:
    return list(zip(scores.j, scores.f, strict=True))


def measure(job: Job, num_rounds: int) -> Timing:
    """Check that both ways give the same, then time them alternately.

    Each runs twice in a row and only the second run counts, so that neither pays for
    the caches that the other has filled.

    Raises:
        ValueError: If both ways do not give the same numbers to the last bit.
    """
    expected = job.plain()
    if job.ours() != expected:
        msg = f'{job.name}: the two ways give different numbers'
        raise ValueError(msg)
    times: dict[str, list[float]] = {'plain': [], 'ours': []}
    for _ in range(num_rounds + 1):
        for name, compute in (('plain', job.plain), ('ours', job.ours)):
            compute()
            start = time.process_time()
            compute()
            seconds = time.process_time() - start
            times[name].append(1000 * seconds / len(expected))
    return Timing(
        name=job.name,
        plain_ms=statistics.median(times['plain'][1:]),
        ours_ms=statistics.median(times['ours'][1:]),
    )


def literal_ms(num_rounds: int) -> dict[str, float]:
    """Measure the plain way for one object of a frame: median milliseconds by size."""
    times: dict[str, list[float]] = {size: [] for size in SIZES}
    scenes = {size: make_scene(*SIZES[size], 1) for size in SIZES}
    for _ in range(num_rounds + 1):
        for size, scene in scenes.items():
            start = time.process_time()
            literal_scores(scene.pred, scene.truth, scene.object_ids)
            times[size].append(1000 * (time.process_time() - start))
    return {size: statistics.median(spent[1:]) for size, spent in times.items()}


def run(num_rounds: int) -> list[Timing]:
    """Measure every job."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            *(label_job(size, n) for size in ('480p', '720p') for n in (3, 10)),
            folder_job('480p', 3, Path(folder)),
            mask_job('480p', 3),
        ]
        return [measure(job, num_rounds) for job in jobs]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=9, help='runs of each way')
    parser.add_argument('--json', type=Path, help='file for times and ratios')
    options = parser.parse_args(arguments)
    timings = run(options.rounds)
    print(f'{"job":14} {"plain ms":>9} {"ours ms":>9} {"ratio":>7} {"target":>7}')
    for timing in timings:
        row = f'{timing.name:14} {timing.plain_ms:9.2f} {timing.ours_ms:9.3f}'
        print(f'{row} {timing.ratio:7.1f} {TARGETS.get(timing.name, "-"):>7}')
    literal = literal_ms(options.rounds)
    named = ', '.join(f'{size} {ms:.1f} ms' for size, ms in literal.items())
    print(f'plain way, one object: {named}')
    if options.json is not None:
        report: dict[str, object] = {timing.name: timing.ratio for timing in timings}
        report['timings'] = [asdict(timing) for timing in timings]
        report['literal_ms'] = literal
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2), encoding='utf-8')


if __name__ == '__main__':
    main()
