"""Boxes and clicks on images, against the image predictor."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from literal_rounds import image_ious
from memory_videos import MemoryVideo
from projects.sam2.evaluation import ClipPromptIoUAccumulator
from projects.sam2.models import SAM2, SAM2ImageRounds
from projects.sam2.structures import FrameMasks, PointLabel, VideoRecord, VideoResult
from toy_videos import SIDE, toy_model


class _Image(MemoryVideo):
    """Squares in an image of the size that the model sees; one object has no pixel."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Ground truth, an empty mask among it."""
        truth = super().read_masks(frame_index)
        if truth is None:
            return None
        empty = np.zeros((1, *self.size), dtype=bool)
        masks = np.concatenate([truth.masks, empty])
        return replace(truth, object_ids=(*truth.object_ids, 9), masks=masks)


@pytest.fixture(scope='module')
def image() -> _Image:
    """An image of two objects."""
    return _Image(first_frames=(0, 0), length=1, size=(SIDE, SIDE))


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model, validated with boxes and clicks."""
    simulator = {'type': 'SAM2ImageRounds', 'click_counts': (1, 3, 5)}
    return toy_model(
        data_preprocessor={'image_size': (SIDE, SIDE)},
        val_prompt_simulator=simulator,
    )


def rounds_of(model: SAM2, image: MemoryVideo) -> dict[str, tuple[float, ...]]:
    """What the model's own validation finds."""
    model.accumulators = [ClipPromptIoUAccumulator()]
    (result,) = model([VideoRecord(metainfo=_meta(image))], mode='predict')
    assert isinstance(result, VideoResult)
    rounds: dict[str, tuple[float, ...]] = result.rounds
    return rounds


def _meta(image: MemoryVideo) -> dict[str, object]:
    return {'source': image, 'sample_index': 0}


def test_ious_are_those_of_a_plain_user_of_the_image_predictor(
    model: SAM2, image: _Image
) -> None:
    plain = [
        image_ious(model, image.read_frame(0), truth, num_clicks=5)
        for truth in image.masks(0)
    ]
    expected = {
        'box': [ious[0] for ious in plain],
        '1_click': [ious[1] for ious in plain],
        '3_clicks': [ious[3] for ious in plain],
        '5_clicks': [ious[5] for ious in plain],
    }
    assert len({tuple(ious) for ious in expected.values()}) == 4
    found = rounds_of(model, image)
    assert list(found) == list(expected)
    for name, ious in expected.items():
        assert found[name] == pytest.approx(ious, abs=1e-9)


def test_objects_in_several_batches_are_those_of_one(
    model: SAM2, image: _Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = rounds_of(model, image)
    monkeypatch.setattr(
        'projects.sam2.models.tracking.interactive.MAX_BATCH_OBJECTS', 1
    )
    apart = rounds_of(model, image)
    assert apart.keys() == together.keys()
    for name, ious in together.items():
        assert apart[name] == pytest.approx(ious, abs=0.02)


def test_frames_of_a_video_are_prompted_like_images(model: SAM2) -> None:
    video = MemoryVideo(first_frames=(0, 2), length=4, annotated=(1, 3))
    assert [len(ious) for ious in rounds_of(model, video).values()] == [3] * 4


def test_image_without_an_object_has_no_round(model: SAM2) -> None:
    assert rounds_of(model, MemoryVideo(first_frames=(3,), length=1)) == {}


def test_a_perfect_mask_is_not_clicked_on(
    model: SAM2, image: _Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever is asked, the answer is the truth of the first object alone.
    truth = torch.from_numpy(image.masks(0)[:1, None])
    monkeypatch.setattr(
        'projects.sam2.models.tracking.interactive.enlarge',
        lambda logits, size: truth.expand(len(logits), -1, *size),
    )
    simulator = model.val_prompt_simulator
    with torch.no_grad():
        *_, last = model._predictions(image)
    assert isinstance(simulator, SAM2ImageRounds)
    clicks = {
        number: [m for m in last.marks if m.object_id == number] for number in (1, 2)
    }
    assert len(clicks[1]) == 1
    assert len(clicks[2]) == 5
    assert clicks[1][0].label is PointLabel.POSITIVE


@pytest.mark.parametrize('counts', [(), (3, 1), (0, 1), (1, 1)])
def test_click_counts_ascend_from_one(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match='click_counts'):
        SAM2ImageRounds(click_counts=counts)
