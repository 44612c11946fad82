"""The validation loss of whole videos."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import METRICS, TASK_UTILS

from loss_cases import (
    NAMES,
    Settings,
    gathered_losses,
    in_processes,
    make_output,
    plain_losses,
    random_step,
)
from projects.sam2.evaluation.clip_loss import (
    ClipLossAccumulator,
    ClipLossMetric,
    VideoLosses,
)
from projects.sam2.structures import (
    ClipTargets,
    FrameMasks,
    FrameOutput,
    FramePrediction,
    VideoRecord,
    VideoResult,
)

SIZE = (16, 24)
IDS = (5, 2, 9)


@pytest.fixture
def accumulator() -> ClipLossAccumulator:
    config = {'type': 'ClipLossAccumulator', 'loss': Settings().config()}
    built: ClipLossAccumulator = TASK_UTILS.build(config)
    return built


@pytest.fixture
def truth() -> FrameMasks:
    """Three objects, in another order than they are tracked in."""
    masks = np.random.default_rng(0).random((3, *SIZE)) > 0.6
    return FrameMasks(object_ids=(2, 5, 9), masks=masks)


def make_outputs(*sizes: int) -> tuple[FrameOutput, ...]:
    """Groups of so many objects, decoded at a quarter of the size."""
    generator = torch.Generator().manual_seed(sum(sizes))
    return tuple(
        make_output(0, [random_step(3, generator, num_objects=size)]) for size in sizes
    )


def predict(
    truth: FrameMasks | None, *, sizes: tuple[int, ...] = (2, 1), frame_index: int = 0
) -> FramePrediction:
    """A prediction of the first objects of ``IDS``, in groups."""
    num_objects = sum(sizes)
    return FramePrediction(
        frame_index=frame_index,
        object_ids=IDS[:num_objects],
        masks=np.zeros((num_objects, *SIZE), dtype=bool),
        truth=truth,
        outputs=make_outputs(*sizes),
    )


def run(accumulator: ClipLossAccumulator, *predictions: FramePrediction) -> VideoLosses:
    """Losses of a video of such predictions."""
    accumulator.begin(VideoRecord())
    for prediction in predictions:
        accumulator.add(prediction)
    result = VideoResult(metainfo={'sample_index': 0, 'video_name': 'clip'})
    accumulator.finish(result)
    losses: VideoLosses = result.losses
    return losses


def expected_sums(truth: FrameMasks, sizes: tuple[int, ...]) -> dict[str, float]:
    """Sums over objects by the plain loss, each group on its own."""
    by_id = dict(zip(truth.object_ids, truth.masks, strict=True))
    sums = dict.fromkeys(NAMES, 0.0)
    first = 0
    for output, size in zip(make_outputs(*sizes), sizes, strict=True):
        masks = np.stack([by_id[i] for i in IDS[first : first + size]])
        void = None
        if truth.void is not None:
            void = torch.from_numpy(truth.void)[None, None].expand(1, size, -1, -1)
        targets = ClipTargets(
            masks=torch.from_numpy(masks)[None],
            void=void,
            annotated=torch.ones(1, size, dtype=torch.bool),
        )
        losses = plain_losses([output], targets, Settings())
        for name in NAMES:
            sums[name] += losses[name].item() * size
        first += size
    return sums


def video(sample_index: int, num_masks: int, total: float) -> dict[str, Any]:
    """What is left of a video with two terms, as the evaluator hands it on."""
    losses = VideoLosses(
        num_objects=1,
        num_frames=num_masks,
        num_masks=num_masks,
        sums={'loss_mask': total, 'loss_dice': 0.1 * total},
    )
    name = f'clip {sample_index}'
    return {'sample_index': sample_index, 'video_name': name, 'losses': losses}


def report(*videos: dict[str, Any]) -> dict[str, float]:
    """What the metric says in one process."""
    metric = METRICS.build({'type': 'ClipLossMetric'})
    metric.process(None, videos)
    reported: dict[str, float] = metric.evaluate(len(videos))
    return reported


@pytest.mark.parametrize('with_void', [False, True], ids=['no void', 'void'])
def test_groups_are_scored_against_the_masks_of_their_ids(
    accumulator: ClipLossAccumulator, truth: FrameMasks, *, with_void: bool
) -> None:
    if with_void:
        void = np.zeros(SIZE, dtype=bool)
        void[:, 15:] = True
        truth = replace(truth, masks=truth.masks & ~void, void=void)
    sums = run(accumulator, predict(truth)).sums
    expected = expected_sums(truth, (2, 1))
    assert dict(sums) == pytest.approx(expected, rel=1e-5)


def test_truth_is_resized_to_the_frame_that_the_model_sees(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    double = truth.masks.repeat(3, axis=1).repeat(3, axis=2)
    void = np.zeros(double.shape[1:], dtype=bool)
    larger = replace(truth, masks=double, void=void)
    sums = run(accumulator, predict(larger)).sums
    assert dict(sums) == pytest.approx(expected_sums(truth, (2, 1)), rel=1e-5)


def test_frames_without_annotation_do_not_count(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    alone = run(accumulator, predict(truth))
    sparse = run(accumulator, predict(truth), predict(None, frame_index=1))
    assert sparse == alone
    assert (alone.num_objects, alone.num_frames, alone.num_masks) == (3, 1, 3)


def test_object_missing_from_the_truth_is_absent(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    without = FrameMasks(object_ids=(2, 9), masks=truth.masks[[0, 2]])
    empty = truth.masks.copy()
    empty[1] = False
    explicit = replace(truth, masks=empty)
    assert run(accumulator, predict(without)) == run(accumulator, predict(explicit))


def test_objects_count_on_each_frame_from_their_first(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    losses = run(
        accumulator,
        predict(truth, sizes=(2,)),
        predict(truth, sizes=(2, 1), frame_index=1),
    )
    assert (losses.num_objects, losses.num_frames, losses.num_masks) == (3, 2, 5)
    parts = [expected_sums(truth, sizes) for sizes in ((2,), (2, 1))]
    for name in NAMES:
        total = sum(part[name] for part in parts)
        assert losses.sums[name] == pytest.approx(total, rel=1e-5)


def test_a_video_leaves_nothing_for_the_next(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    first = run(accumulator, predict(truth))
    assert run(accumulator, predict(truth)) == first
    nothing = run(accumulator)
    assert nothing == VideoLosses(num_objects=0, num_frames=0, num_masks=0, sums={})


def test_outputs_of_other_objects_are_refused(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    wrong = replace(predict(truth), outputs=make_outputs(2))
    with pytest.raises(ValueError, match=r'outputs of 3 objects.*\[2\]'):
        accumulator.add(wrong)


def test_long_videos_weigh_more_than_short_ones() -> None:
    reported = report(video(0, 1, 10.0), video(1, 4, 5.0))
    assert reported == pytest.approx(
        {'val_loss': 3.3, 'val_loss_mask': 3.0, 'val_loss_dice': 0.3}
    )


def test_doubles_count_once_and_order_does_not_matter() -> None:
    videos = [video(index, 1 + index, 0.1 + index / 3) for index in range(5)]
    assert report(*videos[::-1], videos[2]) == report(*videos)


def test_two_processes_report_the_same_as_one(tmp_path: Path) -> None:
    videos = [video(index, 2 + index, math.sqrt(index + 1)) for index in range(5)]
    # A sampler that rounds up would hand the first video to both.
    shares = [videos[::2], [*videos[1::2], videos[0]]]
    reported = in_processes(gathered_losses, 2, tmp_path, shares, 6)
    assert reported == [report(*videos)] * 2


def test_without_any_annotated_frame_the_loss_is_unknown() -> None:
    assert math.isnan(report(video(0, 0, 0.0))['val_loss'])


def test_losses_are_gathered_without_a_shared_folder_or_a_complaint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ClipLossMetric().collect_device == 'gpu'
    assert 'prefix' not in ''.join(capsys.readouterr())


def test_results_pass_through_the_evaluator_of_mmengine(
    accumulator: ClipLossAccumulator, truth: FrameMasks
) -> None:
    accumulator.begin(VideoRecord())
    accumulator.add(predict(truth))
    result = VideoResult(metainfo={'sample_index': 0, 'video_name': 'clip'})
    accumulator.finish(result)
    evaluator = Evaluator({'type': 'ClipLossMetric'})
    evaluator.process([result])
    reported = evaluator.evaluate(1)
    total = sum(expected_sums(truth, (2, 1)).values())
    assert reported['val_loss'] == pytest.approx(total / 3, rel=1e-5)
    assert set(reported) == {'val_loss', *(f'val_{name}' for name in NAMES)}
