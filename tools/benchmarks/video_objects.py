"""Measure the time to track many objects on a frame, against a loop over them.

The loop is that of the release: the frame is encoded once, then each object is tracked
separately. Ours tracks the objects in one batch. Both run alternately in one process,
on one thread, with full memories: a prompted frame and six others, and 16 object
pointers. Weights and memories are random, all objects are predicted to be present, and
the masks of both are compared. The minimum CPU time of several rounds counts (on a GPU
the elapsed time), since other work on the machine only makes them longer.

    python tools/benchmarks/video_objects.py --json work_dirs/video_objects.json
    python tools/benchmarks/video_objects.py --device cuda --compile --rounds 20
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()


import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.building import build_video_model
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.frame import FrameTask, track_frame
from projects.sam2.models.tracking.memory_store import ObjectMemory
from projects.sam2.models.tracking.session import TrackedObject, VideoSession
from projects.sam2.structures import ImageFeatures, TrackingMode

P = ParamSpec('P')
Result = TypeVar('Result')
FRAME = 20  # late enough for full memories
TARGET = 1.02  # of the loop's time
MAX_DIFFERENCE = 1e-4  # over the root mean square


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Minimum seconds per frame, without encoding the frame.

    Attributes:
        num_objects: Number of objects.
        loop_s: Time of the loop.
        batch_s: Time of the batch.
        difference: Largest difference of the mask logits over their root mean square.
    """

    num_objects: int
    loop_s: float
    batch_s: float
    difference: float

    @property
    def ratio(self) -> float:
        """Time of the batch divided by that of the loop."""
        return self.batch_s / self.loop_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A predictor and a frame to track on.

    Attributes:
        predictor: The video predictor.
        pixels: The frame, (1, 3, H, W), normalised.
        device: Device of the model and the frame.
    """

    predictor: SAM2VideoPredictor
    pixels: Tensor
    device: torch.device

    def features(self) -> ImageFeatures:
        """Encode the frame."""
        return self.predictor.model.encode(self.pixels)

    def session(self, count: int) -> VideoSession:
        """Open a session of objects with full memories.

        Returns:
            Its objects were prompted on frame 0 and tracked on the 15 latest frames.
        """
        frames: dict[int, NDArray[np.uint8]] = {}  # none is read: features are given
        session = VideoSession(
            self.predictor.model,
            frames.__getitem__,
            10 * FRAME,
            options=self.predictor.options,
        )
        session.objects = {
            number: TrackedObject(object_id=number, store=self._store(number))
            for number in range(count)
        }
        return session

    def together(self, session: VideoSession, features: ImageFeatures) -> Tensor:
        """Track all objects in one batch; return mask logits (O, 1, H4, W4)."""
        session = copy.deepcopy(session)
        session.embeddings[FRAME] = features
        session.step(FRAME)
        outputs = [obj.output(FRAME) for obj in session.objects.values()]
        return torch.cat([output.mask_logits for output in outputs if output])

    def one_by_one(self, session: VideoSession, features: ImageFeatures) -> Tensor:
        """Track each object separately; return mask logits (O, 1, H4, W4)."""
        query = MemoryQuery(
            frame_index=FRAME,
            num_video_frames=10 * FRAME,
            mode=TrackingMode.EVALUATION,
        )
        task = FrameTask(query=query)
        masks = []
        for obj in session.objects.values():
            output = track_frame(session.model.heads, features, obj.store, task)
            output.memory.spatial.to(torch.bfloat16)  # as it is stored
            masks.append(output.final.mask_logits)
        return torch.cat(masks)

    def timed(
        self, job: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[float, Result]:
        """Return the CPU time of a job (on a GPU the elapsed time) and its result."""
        clock = time.process_time if self.device.type == 'cpu' else time.perf_counter
        self._wait()
        start = clock()
        result = job(*args, **kwargs)
        self._wait()
        return clock() - start, result

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def _store(self, seed: int) -> MemoryStore:
        """Draw random memories."""
        draw = torch.Generator().manual_seed(seed)
        pointers = self.predictor.model.tracker.object_pointer
        cells = [side // 16 for side in self.pixels.shape[-2:]]
        shapes = {
            'spatial': (1, pointers.memory_dims, *cells),
            'object_pointer': (1, pointers.embed_dims),
            'mask_logits': (1, 1, 4 * cells[0], 4 * cells[1]),
            'object_score_logits': (1, 1),
            'ious': (1, 1),
        }
        store = MemoryStore()
        for frame in (0, *range(FRAME - 15, FRAME)):
            drawn = {
                name: torch.randn(shape, generator=draw).to(self.device)
                for name, shape in shapes.items()
            }
            memory = ObjectMemory(
                spatial=drawn['spatial'].to(torch.bfloat16),
                object_pointer=drawn['object_pointer'],
                ious=drawn['ious'],
                object_score_logits=drawn['object_score_logits'],
                mask_logits=drawn['mask_logits'],
                encoded_logits=drawn['mask_logits'],
            )
            store.add(frame, memory, conditioning=frame == 0)
        return store


def open_bench(options: argparse.Namespace) -> Bench:
    """Build the predictor and a frame of noise."""
    torch.manual_seed(0)
    model, _ = build_video_model(
        options.config,
        None,
        device=options.device,
        vos_optimized=options.compile,
        image_size=None if options.size is None else (options.size, options.size),
    )
    limit = (
        {} if options.max_batch is None else {'max_batch_objects': options.max_batch}
    )
    predictor = SAM2VideoPredictor(model, **limit)
    with torch.no_grad():  # or all masks would be the same
        predictor.model.mask_decoder.object_score_head.layers[-1].bias += 10
    preprocessor = predictor.model.data_preprocessor
    noise = np.random.default_rng(0)
    shape = (*preprocessor.image_size, 3)
    pixels = preprocessor.frame(noise.integers(0, 255, shape, dtype=np.uint8))
    return Bench(predictor=predictor, pixels=pixels, device=predictor.device)


@torch.no_grad()
def measure(bench: Bench, num_objects: int, num_rounds: int) -> Timing:
    """Time the batch and the loop alternately."""
    session, features = bench.session(num_objects), bench.features()
    ways = {'batch': bench.together, 'loop': bench.one_by_one}
    times: dict[str, list[float]] = {name: [] for name in ways}
    masks: dict[str, Tensor] = {}
    for turn in range(num_rounds):
        for name in sorted(ways, reverse=turn % 2 == 1):
            seconds, masks[name] = bench.timed(ways[name], session, features)
            times[name].append(seconds)
    loop = masks['loop']
    difference = (masks['batch'] - loop).abs().max() / loop.square().mean().sqrt()
    return Timing(
        num_objects=num_objects,
        loop_s=min(times['loop']),
        batch_s=min(times['batch']),
        difference=difference.item(),
    )


def main(arguments: Sequence[str] | None = None) -> list[Timing]:
    """Measure, print a table and write it.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', default='sam2.1_hiera_t', help='config or released name')
    add('--objects', type=int, nargs='+', default=[1, 3, 10, 30], help='how many')
    add('--rounds', type=int, default=3, help='turns of each way (default 3)')
    add('--max-batch', type=int, help='objects of a batch (default: of the predictor)')
    add('--size', type=int, help='side of the frames (default: of the config)')
    add('--device', default='cpu', help='cpu (default) or cuda')
    add('--compile', action='store_true', help='compile the parts first')
    add('--json', type=Path, metavar='FILE', help='write the table')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bench = open_bench(options)
    with torch.no_grad():
        bench.features()
        encode_s = min(bench.timed(bench.features)[0] for _ in range(options.rounds))
    print(f'features of a frame: {encode_s:.3f} s')
    print(
        f'{"objects":>7} {"loop s":>9} {"batch s":>9} {"ratio":>7} {"difference":>11}'
    )
    timings = []
    for num_objects in options.objects:
        timing = measure(bench, num_objects, options.rounds)
        row = f'{timing.num_objects:7} {timing.loop_s:9.3f} {timing.batch_s:9.3f}'
        print(f'{row} {timing.ratio:7.3f} {timing.difference:11.1e}', flush=True)
        timings.append(timing)
    print(f'targets: ratio at most {TARGET}, difference at most {MAX_DIFFERENCE}')
    if options.json is not None:
        report: dict[str, object] = {'device': options.device, 'encode_s': encode_s}
        for timing in timings:
            report[f'objects_{timing.num_objects}'] = asdict(timing) | {
                'ratio': timing.ratio
            }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2), encoding='utf-8')
    return timings


if __name__ == '__main__':
    main()
