"""Test-time augmentation: mirrored and rescaled views are averaged."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray

from inference_cases import present_model
from memory_videos import MemoryVideo
from projects.sam2.evaluation import ClipPromptIoUAccumulator
from projects.sam2.models import SAM2, SAM2TTAModel
from projects.sam2.models.test_time_augmentation import MirroredVideo, merge_views
from projects.sam2.models.tracking.rounds import (
    ImageView,
    mirror_points,
    track_video,
)
from projects.sam2.ops import boxes_to_points, masks_to_boxes
from projects.sam2.structures import FramePrediction, VideoRecord, VideoSource

SIDE = 64
VIDEO = MemoryVideo(first_frames=(0, 2), length=4, size=(SIDE, SIDE))
MASKS: dict[str, object] = {'type': 'SAM2PromptSimulator', 'point_probability': 0.0}
IMAGES: dict[str, object] = {'type': 'SAM2ImageRounds', 'click_counts': (1, 3)}


def _model(simulator: Mapping[str, object]) -> SAM2:
    return present_model(
        data_preprocessor={'image_size': (SIDE, SIDE)},
        val_prompt_simulator=simulator,
    )


@pytest.fixture(scope='module')
def model() -> SAM2:
    return _model(MASKS)


def _predict(model: SAM2TTAModel, source: VideoSource) -> list[FramePrediction]:
    with torch.no_grad():
        return list(model._predictions(source))


def _masks(predictions: list[FramePrediction]) -> NDArray[np.bool_]:
    return np.concatenate([prediction.masks for prediction in predictions])


def test_one_plain_view_equals_the_model(model: SAM2) -> None:
    alone = SAM2TTAModel(module=model, flips=(False,))
    with torch.no_grad():
        expected = list(track_video(model, model.val_prompt_simulator, VIDEO))
    actual = _predict(alone, VIDEO)
    assert [p.object_ids for p in actual] == [p.object_ids for p in expected]
    assert [p.prompted_ids for p in actual] == [p.prompted_ids for p in expected]
    np.testing.assert_array_equal(_masks(actual), _masks(expected))


def test_mirrored_video_gets_the_mirrored_masks(model: SAM2) -> None:
    def difference(flips: tuple[bool, ...]) -> float:
        augmented = SAM2TTAModel(module=model, flips=flips)
        plain = _masks(_predict(augmented, VIDEO))
        mirrored = _masks(_predict(augmented, MirroredVideo(source=VIDEO)))
        return float((plain != mirrored[..., ::-1]).mean())

    assert difference((False, True)) == 0.0
    assert difference((False,)) > 0.01


def test_probabilities_of_the_views_are_averaged(model: SAM2) -> None:
    with torch.no_grad():
        plain = next(track_video(model, model.val_prompt_simulator, VIDEO))
    (output,) = plain.outputs
    certain = output.final.mask_logits.abs() + 3  # everything, with certainty

    def with_logits(logits: torch.Tensor) -> FramePrediction:
        step = replace(output.final, mask_logits=logits)
        return replace(plain, outputs=(replace(output, steps=(step,)),))

    views = [with_logits(certain), with_logits(-0.5 * certain), with_logits(-certain)]
    # The mean of the logits would be negative everywhere for the first pair as well.
    assert merge_views([(views[0], False), (views[1], True)]).masks.all()
    assert not merge_views([(views[1], False), (views[2], False)]).masks.any()


def test_view_that_starts_later_is_merged_from_there_on(
    model: SAM2, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        frames = [*track_video(model, model.val_prompt_simulator, VIDEO)]
    starts = iter([0, 2])  # of the plain view, and of the mirrored one

    def track(*_: object) -> Iterator[FramePrediction]:
        yield from frames[next(starts) :]

    module = 'projects.sam2.models.test_time_augmentation'
    monkeypatch.setattr(f'{module}.track_video', track)
    actual = _predict(SAM2TTAModel(module=model), VIDEO)
    assert [p.frame_index for p in actual] == [0, 1, 2, 3]
    for index, prediction in enumerate(actual):
        views = [(frames[index], False), (frames[index], True)]
        expected = merge_views(views if index >= 2 else views[:1])
        np.testing.assert_array_equal(prediction.masks, expected.masks)


def test_scaled_view_shares_the_weights_and_sees_another_size(model: SAM2) -> None:
    augmented = SAM2TTAModel(module=model, flips=(False,), scales=(1.0, 1.5))
    plain, scaled = (view.model for view in augmented._views())
    assert plain is model
    assert isinstance(scaled, SAM2)
    assert scaled.data_preprocessor.image_size == (96, 96)
    assert model.data_preprocessor.image_size == (SIDE, SIDE)
    assert scaled.image_encoder is model.image_encoder
    predictions = _predict(augmented, VIDEO)
    assert [p.frame_index for p in predictions] == [0, 1, 2, 3]
    assert _masks(predictions).shape[1:] == (SIDE, SIDE)


def test_user_of_images_clicks_alike_in_all_views() -> None:
    model = _model(IMAGES)
    model.accumulators = [ClipPromptIoUAccumulator()]

    def ious(flips: tuple[bool, ...], source: VideoSource) -> dict[str, list[float]]:
        augmented = SAM2TTAModel(module=model, flips=flips)
        record = VideoRecord(metainfo={'source': source, 'sample_index': 0})
        (result,) = augmented.test_step([record])
        return {name: list(values) for name, values in result.rounds.items()}

    image = MemoryVideo(first_frames=(0, 0), length=1, size=(SIDE, SIDE))
    mirrored = MirroredVideo(source=image)
    expected = ious((False,), image)
    record = VideoRecord(metainfo={'source': image, 'sample_index': 0})
    assert expected == {k: list(v) for k, v in model.predict(record).rounds.items()}
    both = ious((False, True), image)
    assert both.keys() == expected.keys()
    assert both['box'] == pytest.approx(ious((False, True), mirrored)['box'])
    assert expected['box'] != pytest.approx(ious((False,), mirrored)['box'])


def test_mirrored_view_decodes_the_same_prompt(model: SAM2) -> None:
    masks = torch.from_numpy(VIDEO.masks(0))[:, None]
    box = boxes_to_points(masks_to_boxes(masks))
    expected = boxes_to_points(masks_to_boxes(masks.flip(-1)))
    assert torch.equal(mirror_points(box, SIDE).coords[:1], expected.coords[:1])
    pixels = VIDEO.read_frame(0)
    mirrored_pixels = np.ascontiguousarray(pixels[:, ::-1])
    plain, mirror = ImageView(model=model), ImageView(model=model, mirrored=True)
    with torch.no_grad():
        features = mirror.encode(pixels).repeated(2)
        size = (SIDE, SIDE)
        seen = mirror.decode(features, box, size)
        same = plain.encode(mirrored_pixels).repeated(2)
        assert torch.equal(seen, plain.decode(same, mirror_points(box, SIDE), size))


@pytest.mark.parametrize(
    'simulator',
    [
        {'type': 'SAM2PromptSimulator', 'point_probability': 1.0},
        {'type': 'SAM2OnlineRounds', 'num_frames': 2, 'num_clicks': 1, 'min_iou': 0.5},
    ],
)
def test_prompts_that_differ_by_view_are_refused(
    simulator: Mapping[str, object],
) -> None:
    augmented = SAM2TTAModel(module=_model(simulator))
    with pytest.raises(ValueError, match='--tta cannot augment'):
        _predict(augmented, VIDEO)


def test_wrong_views_and_models_are_refused(model: SAM2) -> None:
    for options in (
        {'flips': ()},
        {'flips': True},
        {'flips': ('no',)},
        {'scales': ()},
        {'scales': 1.0},
        {'scales': (0.0,)},
        {'scales': (float('nan'),)},
        {'scales': (1e9,)},
        {'scales': ('a',)},
    ):
        with pytest.raises(ValueError, match='make no view'):
            SAM2TTAModel(module=model, **options)
    other = MODELS.build({'type': 'ClipDataPreprocessor'})
    other.test_step = None
    with pytest.raises(ValueError, match='got a ClipDataPreprocessor'):
        SAM2TTAModel(module=other)
