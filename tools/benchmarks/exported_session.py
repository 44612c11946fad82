"""Compare an exported model with the model in torch, through the predictors.

    python tools/benchmarks/exported_session.py CONFIG CHECKPOINT EXPORT
    python tools/benchmarks/exported_session.py _base_/models/sam2_1_mini.py \
        docs/weights/sam2_mini.pth work_dirs/mini_onnx --frames 12

Both get the same generated video: clicks, a box and a mask on the first frame, a pass,
corrections and an object that is added late, passes in both directions, a copy of the
session, prompts that are cleared and an object that is removed. Then the same video as
a stream, prompts on an image, and automatic masks.

For each, the largest difference of a logit is printed, over the root mean square of the
mask, and the root mean square of all differences, over that of all logits; for the
masks of objects that are present. Memories are stored in bfloat16 by default: there, a
difference in the last digit of float32 becomes one in the third digit now and then.

The exit code is 1 if a difference in float32, or the root mean square of one in
bfloat16, is above 1e-4.
"""

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2Stream,
    SAM2VideoPredictor,
    build_sam2,
)
from projects.sam2.apis.video_predictor import VideoFrameResult
from projects.sam2.datasets.sources.synthetic import (
    SyntheticClip,
    make_clip,
    make_plans,
)
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.frame import NO_OBJECT_LOGIT

MAX_DIFFERENCE = 1e-4  # over the root mean square
NUM_OBJECTS = 3
SIDE = 160  # of the video in pixels
NUM_DRAWS = 16
# A small grid that keeps most masks, of a small model too.
AUTOMATIC_MASKS: dict[str, Any] = {
    'points_per_side': 8,
    'pred_iou_thresh': 0.3,
    'stability_score_thresh': 0.5,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How far predictions are from those of torch.

    Attributes:
        largest: Largest difference of a logit, over the root mean square of the mask.
        rms: Root mean square of all differences, over that of all logits.
        num_masks: Number of masks that were compared.
    """

    largest: float
    rms: float
    num_masks: int


def draw_clip(num_frames: int) -> SyntheticClip:
    """Generate a video with at least three objects."""
    plans = make_plans(
        split='val', num_clips=NUM_DRAWS, num_frames=num_frames, size=SIDE, seed=0
    )
    clips = map(make_clip, plans)
    return next(clip for clip in clips if clip.num_objects >= NUM_OBJECTS)


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Corners of the box around a mask."""
    rows, columns = np.nonzero(mask)
    return [int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max())]


def point_in(mask: NDArray[np.bool_]) -> list[int]:
    """A point of a mask, ``(x, y)``."""
    rows, columns = np.nonzero(mask)
    middle = len(rows) // 2
    return [int(columns[middle]), int(rows[middle])]


def run_video(
    predictor: SAM2VideoPredictor, clip: SyntheticClip
) -> list[VideoFrameResult]:
    """Prompt, track, correct, and track in both directions; see the module."""
    first = [clip.labels[0] == number for number in range(1, NUM_OBJECTS + 1)]
    last = len(clip.frames) - 1
    middle = last // 2
    state = predictor.init_state(clip.frames)
    shown: list[VideoFrameResult] = []

    def click(frame: int, number: int, **prompt: Any) -> None:
        shown.append(predictor.add_new_points_or_box(state, frame, number, **prompt))

    def track(**how: Any) -> None:
        shown.extend(predictor.propagate_in_video(state, **how))

    click(0, 1, points=[point_in(first[0])], labels=[1])
    outside = point_in(first[1])
    click(0, 1, points=[outside], labels=[0], clear_old_points=False)
    click(0, 2, box=box_of(first[1]))
    shown.append(predictor.add_new_mask(state, 0, 3, first[2]))
    track()
    click(middle, 2, points=[outside], labels=[1])  # a correction
    click(middle, 9, box=box_of(first[0]))  # a late object
    track(start_frame_idx=middle)
    track(start_frame_idx=last, reverse=True)
    other = copy.deepcopy(state)
    predictor.remove_object(state, 3)
    predictor.clear_all_prompts_in_frame(state, middle, 2)
    track(start_frame_idx=0, max_frame_num_to_track=2)
    # The copy goes on as if nothing had happened.
    shown.extend(predictor.propagate_in_video(other, start_frame_idx=last - 1))
    return shown


def run_stream(
    predictor: SAM2VideoPredictor, clip: SyntheticClip
) -> list[VideoFrameResult]:
    """Track the frames of a video as they come."""
    stream = SAM2Stream(predictor)
    shown = [stream.track(clip.frames[0])]
    box = box_of(clip.labels[0] == 1)
    shown.append(predictor.add_new_points_or_box(stream.state, 0, 1, box=box))
    return shown + [stream.track(frame) for frame in clip.frames[1:]]


def run_image(model: SAM2, clip: SyntheticClip) -> list[NDArray[np.float32]]:
    """Segment an image by all kinds of prompts; returns logits to be fed back."""
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(clip.frames[0])
    masks = [clip.labels[0] == number for number in range(1, NUM_OBJECTS + 1)]
    point, boxes = [point_in(masks[0])], [box_of(mask) for mask in masks]
    several: dict[str, Any] = {
        'point_coords': [*point, point_in(masks[1])],
        'point_labels': [1, 0],
        'multimask_output': False,
    }
    prompts: list[dict[str, Any]] = [
        {'point_coords': point, 'point_labels': [1]},
        several,
        {'box': boxes[0], 'multimask_output': False},
        {'box': boxes},
        {},
    ]
    results = [predictor.predict(**prompt) for prompt in prompts]
    fed_back = results[1][2]  # (1, H4, W4)
    results += [
        predictor.predict(mask_input=fed_back),
        predictor.predict(**several, mask_input=fed_back),
    ]
    return [logits.reshape(-1, *logits.shape[-2:]) for _, _, logits in results]


def compare_videos(
    actual: Sequence[VideoFrameResult], expected: Sequence[VideoFrameResult]
) -> Difference:
    """Compare the masks of objects that torch finds present.

    Raises:
        ValueError: If frames, objects, or which of them are present differ.
    """

    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        for ours, theirs in zip(actual, expected, strict=True):
            is_present = theirs.mask_logits.amax(dim=(1, 2, 3)) > NO_OBJECT_LOGIT
            same = ours.mask_logits.amax(dim=(1, 2, 3)) > NO_OBJECT_LOGIT
            names = ours.frame_index, ours.object_ids, same.tolist()
            if names != (theirs.frame_index, theirs.object_ids, is_present.tolist()):
                msg = f'Frame {theirs.frame_index}: other objects are present'
                raise ValueError(msg)
            for row in is_present.nonzero():
                yield ours.mask_logits[row], theirs.mask_logits[row]

    return compare(list(pairs()))


def compare(pairs: Sequence[tuple[Tensor, Tensor]]) -> Difference:
    """Compare pairs of an actual and an expected mask."""
    largest = max(
        float((actual - expected).abs().max() / expected.square().mean().sqrt())
        for actual, expected in pairs
    )
    actual, expected = (
        torch.stack(masks).flatten() for masks in zip(*pairs, strict=True)
    )
    rms = (actual - expected).square().mean() / expected.square().mean()
    return Difference(largest, float(rms.sqrt()), len(pairs))


def same_automatic_masks(
    actual: SAM2, expected: SAM2, clip: SyntheticClip
) -> tuple[int, int]:
    """Number of automatic masks of torch, and of those that are equal."""
    ours, theirs = (
        SAM2AutomaticMaskGenerator(model, **AUTOMATIC_MASKS).generate(clip.frames[0])
        for model in (actual, expected)
    )
    equal = [
        np.array_equal(
            np.asarray(mask['segmentation']), np.asarray(other['segmentation'])
        )
        for mask, other in zip(ours, theirs, strict=False)
    ]
    return len(theirs), sum(equal) if len(ours) == len(theirs) else 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config or released name')
    parser.add_argument('checkpoint', help='trained weights')
    parser.add_argument('export', help='folder of the exported model')
    parser.add_argument('--frames', type=int, default=30, help='of the video (30)')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print a line for each way to predict."""
    options = parse_arguments(arguments)
    exported = build_sam2(options.export, device='cpu')
    size = exported.data_preprocessor.image_size
    model = build_sam2(
        options.config, options.checkpoint, device='cpu', image_size=size
    )
    clip = draw_clip(options.frames)
    is_same = True
    for name, dtype in (('float32', torch.float32), ('bfloat16', torch.bfloat16)):
        for kind, run in (('video', run_video), ('stream', run_stream)):
            with torch.no_grad():
                ours, theirs = (
                    run(SAM2VideoPredictor(each, memory_dtype=dtype), clip)
                    for each in (exported, model)
                )
            difference = compare_videos(ours, theirs)
            print(
                f'{kind}, memories in {name}: {len(theirs)} results, '
                f'{difference.num_masks} masks, largest {difference.largest:.1e}, '
                f'rms {difference.rms:.1e}'
            )
            worst = difference.largest if dtype is torch.float32 else difference.rms
            is_same &= worst <= MAX_DIFFERENCE
    images = zip(run_image(exported, clip), run_image(model, clip), strict=True)
    difference = compare(
        [
            (torch.from_numpy(mask), torch.from_numpy(other))
            for ours, theirs in images
            for mask, other in zip(ours, theirs, strict=True)
        ]
    )
    print(
        f'image: {difference.num_masks} prompts, largest {difference.largest:.1e}, '
        f'rms {difference.rms:.1e}'
    )
    num_masks, num_equal = same_automatic_masks(exported, model, clip)
    print(f'automatic masks: {num_equal} of {num_masks} equal')
    is_same &= difference.largest <= MAX_DIFFERENCE and num_equal == num_masks
    return int(not is_same)


if __name__ == '__main__':
    raise SystemExit(main())
