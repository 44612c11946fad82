"""A simulated user at work on one frame."""

import numpy as np
import pytest
import torch

from memory_videos import MemoryVideo
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.interactive import FrameTruth, PromptedModel
from projects.sam2.structures import FrameMasks, PointLabel, PointPrompt, TrackingMode
from toy_videos import SIDE, SIZE, toy_model

QUERY = MemoryQuery(frame_index=0, num_video_frames=4, mode=TrackingMode.EVALUATION)


@pytest.fixture(scope='module')
def user() -> PromptedModel:
    """With a model of random weights."""
    model = toy_model()
    return PromptedModel(
        heads=model.heads, preprocessor=model.data_preprocessor, encode=model.encode
    )


def truth_of(masks: np.ndarray, void: np.ndarray | None = None) -> FrameTruth:
    """What the user knows."""
    ids = tuple(range(1, len(masks) + 1))
    return FrameTruth.of(
        FrameMasks(object_ids=ids, masks=masks, void=void), torch.device('cpu')
    )


def test_points_of_the_file_are_shares_of_its_sides(user: PromptedModel) -> None:
    size = (10, 40)
    given = PointPrompt(
        coords=torch.tensor([[[20.0, 5.0], [40.0, 10.0]]]),
        labels=torch.ones(1, 2, dtype=torch.int32),
    )
    seen = user.points(given, size).coords
    assert torch.equal(seen, torch.tensor([[[SIDE / 2, SIDE / 2], [SIDE, SIDE]]]))


def test_every_click_is_a_step_that_knows_all_clicks(user: PromptedModel) -> None:
    video = MemoryVideo(first_frames=(0,), size=SIZE)
    with torch.no_grad():
        output = user.annotate(
            user.features(video.read_frame(0)),
            MemoryStore(),
            QUERY,
            truth_of(video.masks(0)),
            num_clicks=3,
        )
    points = [step.points for step in output.steps]
    assert [one.num_points for one in points if one is not None] == [1, 2, 3]


def test_mask_without_error_gets_no_further_click(
    user: PromptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = MemoryVideo(first_frames=(0,), size=SIZE)
    truth = truth_of(video.masks(0))
    monkeypatch.setattr(
        'projects.sam2.models.tracking.interactive.enlarge',
        lambda logits, size: truth.masks,
    )
    features = user.features(video.read_frame(0))
    with torch.no_grad():
        output = user.annotate(features, MemoryStore(), QUERY, truth, num_clicks=3)
    assert len(output.steps) == 1


def test_void_pixels_are_neither_clicked_on_nor_scored() -> None:
    mask = np.zeros((1, 6, 9), dtype=bool)
    mask[0, :, :6] = True
    void = np.zeros((6, 9), dtype=bool)
    void[:, :3] = True
    known = truth_of(mask, void)
    assert known.ious(torch.zeros(1, 1, 6, 9, dtype=torch.bool)).item() == 0
    half = torch.from_numpy(mask)[:, None].clone()
    half[..., :3] = False
    assert known.ious(half).item() == 1
    click = known.click(None)
    assert click.coords[0, 0, 0] >= 3
    assert click.labels.item() == PointLabel.POSITIVE
