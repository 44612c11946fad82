"""Measure the CPU time of each part of loading a clip against a plain implementation.

Both run alternately in one process on one thread, and their medians are compared, so
that a busy machine slows both alike.

    python tools/benchmarks/clip_loading.py --json work_dirs/clip_loading.json

A ratio is the plain time divided by ours:

transform   8 frames of 1280 x 720 with 3 objects to 1024 x 1024, against PIL images and
            one mask after another (ours stay uint8, the plain ones are normalised)
jpeg        a frame of 1280 x 720, against PIL
sav_json    8 frames of an SA-V file that was read before, against parsing all of it;
            the file was closed in between, as after reading many other clips
sav_opened  the same, but the file is reopened for each of the 8 frames
rle         selected masks of 1280 x 720, against pycocotools' batch
png         palette masks of 1280 x 720, against PIL
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import orjson
import torch
from mmengine.registry import TRANSFORMS
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from plain_loading import (  # type: ignore[import-not-found]
    NUM_FRAMES,
    TRANSFORM_CONFIGS,
    GeneratedSource,
    make_source,
    make_state,
    plain_clip,
    plain_jpeg,
    plain_png,
    plain_rle,
    plain_sav,
)

from projects.sam2.datasets import ClipPack, ClipWarp
from projects.sam2.datasets.io.images import read_frame, read_labels
from projects.sam2.datasets.sources.sav import SAVIndex, close_files, index_sav
from projects.sam2.ops.rle import decode_masks, encode_masks

NUM_ANNOTATED = 121  # frames of a generated SA-V file of 20 seconds; 8 are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that two implementations do.

    Attributes:
        name: Name in the table.
        target: Ratio that should be reached.
        plain: Runs the plain implementation.
        ours: Runs that of this project.
    """

    name: str
    target: float
    plain: Callable[[], object]
    ours: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Median CPU times of a job in milliseconds."""

    name: str
    target: float
    plain_ms: float
    ours_ms: float

    @property
    def ratio(self) -> float:
        """Plain time over ours."""
        return self.plain_ms / self.ours_ms


def transform_job(source: GeneratedSource) -> Job:
    """Augment a clip."""
    transforms = [TRANSFORMS.build(dict(config)) for config in TRANSFORM_CONFIGS]
    warp, pack = ClipWarp(), ClipPack()

    def ours() -> object:
        state = make_state(source)
        for transform in transforms:
            state = transform(state)
        return pack(warp(state))

    def plain() -> object:
        state = make_state(source)
        _, (affine,), _, (first,), second = [t.draw(state) for t in transforms]
        return plain_clip(state, affine, [first] * NUM_FRAMES, second)

    return Job(name='transform', target=8.0, plain=plain, ours=ours)


def jpeg_job(source: GeneratedSource, folder: Path) -> Job:
    """Decode a frame."""
    path = folder / 'frame.jpg'
    Image.fromarray(source.frame).save(path, quality=90)
    return Job(
        name='jpeg',
        target=1 / 0.65,
        plain=lambda: plain_jpeg(path),
        ours=lambda: read_frame(path),
    )


def rle_job(source: GeneratedSource) -> Job:
    """Decode two of three masks."""
    encoded = encode_masks(source.masks.masks)[:2]
    return Job(
        name='rle',
        target=2.0,
        plain=lambda: plain_rle(encoded),
        ours=lambda: decode_masks(encoded),
    )


def sav_job(source: GeneratedSource, folder: Path, *, open_each: bool = False) -> Job:
    """Read the masks of eight frames from a file that was read before.

    Args:
        open_each: Close the file before each frame, not only before the first.
    """
    path = folder / 'sav_000001_manual.json'
    # Like SA-V's example: 14 objects, manual and auto, of a third of a kilobyte each.
    codes = (encode_masks(source.masks.masks[:, ::2, ::2]) * 5)[:14]
    path.write_bytes(orjson.dumps({'fps': 6.0, 'masklet': [codes] * NUM_ANNOTATED}))
    positions = range(20, 20 + NUM_FRAMES)

    def read(index: SAVIndex, position: int) -> object:
        if open_each:
            close_files()
        return index.read(position)

    def ours() -> object:
        close_files()
        index = index_sav(path)  # once for a clip, as ClipSAVDataset does
        return [read(index, position) for position in positions]

    return Job(
        name='sav_opened' if open_each else 'sav_json',
        target=10.0,
        plain=lambda: plain_sav(path, positions),
        ours=ours,
    )


def png_job(source: GeneratedSource, folder: Path) -> Job:
    """Decode a map of labels."""
    path = folder / 'labels.png'
    labels = (source.masks.masks * np.array([1, 2, 3])[:, None, None]).max(axis=0)
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([value // 3 for value in range(768)])
    image.save(path)
    return Job(
        name='png',
        target=1.0,
        plain=lambda: plain_png(path),
        ours=lambda: read_labels(path),
    )


def measure(job: Job, num_rounds: int) -> Timing:
    """Time both implementations alternately.

    Each runs twice in a row and only the second run counts, so that neither pays for
    the caches that the other has filled.
    """
    times: dict[str, list[float]] = {'plain': [], 'ours': []}
    for _ in range(num_rounds + 1):
        for name, compute in (('plain', job.plain), ('ours', job.ours)):
            compute()
            start = time.process_time()
            compute()
            times[name].append(1000 * (time.process_time() - start))
    return Timing(
        name=job.name,
        target=job.target,
        plain_ms=statistics.median(times['plain'][1:]),
        ours_ms=statistics.median(times['ours'][1:]),
    )


def run(num_rounds: int) -> list[Timing]:
    """Measure every job."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    source = make_source()
    with tempfile.TemporaryDirectory() as folder:
        short_jobs = [
            jpeg_job(source, Path(folder)),
            sav_job(source, Path(folder)),
            sav_job(source, Path(folder), open_each=True),
            rle_job(source),
            png_job(source, Path(folder)),
        ]
        timings = [measure(job, 10 * num_rounds) for job in short_jobs]
        return [*timings, measure(transform_job(source), num_rounds)]


def main() -> None:
    """Measure, print a table and write the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=7, help='runs of each job')
    parser.add_argument('--json', type=Path, help='file for times and ratios')
    arguments = parser.parse_args()
    timings = run(arguments.rounds)
    print(f'{"job":10} {"plain ms":>9} {"ours ms":>9} {"ratio":>7} {"target":>7}')
    for timing in timings:
        row = f'{timing.name:10} {timing.plain_ms:9.2f} {timing.ours_ms:9.2f}'
        print(f'{row} {timing.ratio:7.2f} {timing.target:7.2f}')
    if arguments.json is not None:
        report: dict[str, object] = {f'{t.name}_ratio': t.ratio for t in timings}
        report['timings'] = [asdict(timing) for timing in timings]
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2), encoding='utf-8')


if __name__ == '__main__':
    main()
