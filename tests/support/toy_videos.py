"""A small model with a video predictor, and what users say to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_models import golden_model
from memory_videos import MemoryVideo
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoFrameResult, VideoState
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.memory_store import OffloadFile

SIZE = (48, 80)
SIDE = 32  # pixels that the small model sees


def toy_model(**changes: Any) -> SAM2:
    """The small golden model at few pixels."""
    return golden_model(
        'toy:', **({'data_preprocessor': {'image_size': (SIDE, SIDE)}} | changes)
    )


def toy_frames(length: int) -> list[NDArray[np.uint8]]:
    """Frames of squares that move over noise."""
    video = MemoryVideo(length=length, size=SIZE)
    return [video.read_frame(index) for index in range(length)]


def click(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    *,
    frame: int = 0,
    number: int = 1,
    at: tuple[float, float] = (10.0, 10.0),
) -> VideoFrameResult:
    """One positive click on an object."""
    return predictor.add_new_points_or_box(
        state, frame_idx=frame, obj_id=number, points=[at], labels=[1]
    )


def track(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    **how: Any,
) -> dict[int, VideoFrameResult]:
    """Everything that a propagation shows, by frame."""
    shown = predictor.propagate_in_video(state, **how)
    return {result.frame_index: result for result in shown}


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """Largest difference over the root mean square."""
    scale = expected.float().square().mean().sqrt().item()
    return (actual.float() - expected.float()).abs().max().item() / scale


def assert_same_results(
    actual: dict[int, VideoFrameResult],
    expected: dict[int, VideoFrameResult],
    *,
    tolerance: float = 0.0,
) -> None:
    """Frames, ids and masks are the same."""
    assert list(actual) == list(expected)
    for frame, result in actual.items():
        assert result.object_ids == expected[frame].object_ids
        assert result.mask_logits.shape == expected[frame].mask_logits.shape
        error = relative_difference(result.mask_logits, expected[frame].mask_logits)
        assert error <= tolerance, f'frame {frame}: {error:.1e}'


def masks_of(results: dict[int, VideoFrameResult], number: int) -> dict[int, Tensor]:
    """Masks of one object, by frame."""
    return {
        frame: result.mask_logits[result.object_ids.index(number)]
        for frame, result in results.items()
    }


def with_finite_scores(results: Sequence[VideoFrameResult]) -> bool:
    """Has each object on each frame a score and an IoU?"""
    return all(
        bool(torch.isfinite(one.object_score_logits).all())
        and bool(torch.isfinite(one.ious).all())
        for one in results
    )


def refuse_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a memory is written to disk."""

    def offload(file: OffloadFile, tensors: list[Tensor]) -> None:
        del file, tensors
        pytest.fail('a memory went to disk')

    monkeypatch.setattr(OffloadFile, 'offload', offload)


def open_files() -> set[Path]:
    """Files that this process holds open, by their number."""
    return set(Path('/proc/self/fd').iterdir())
