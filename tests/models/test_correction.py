"""Clicks go where a mask is wrong, and never on void pixels."""

import torch

from projects.sam2.models import SAM2PromptSimulator
from projects.sam2.models.prompt_simulator import ClickGenerators, click_on_errors


def _click(*, void: bool) -> tuple[list[float], int]:
    """The click on a missing object, where a larger far corner is predicted."""
    simulator = SAM2PromptSimulator(click_method='center')
    truth = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    truth[..., 4:9, 4:9] = True
    logits = torch.full((1, 1, 32, 32), -5.0)
    logits[..., 20:31, 20:31] = 5.0
    ignored = logits > 0 if void else None
    clicks = ClickGenerators.seeded((0,), torch.zeros(1, dtype=torch.int64))
    point = click_on_errors(simulator, clicks, truth, ignored, logits)
    return point.coords[0, 0].tolist(), int(point.labels[0, 0])


def test_wrong_area_gets_a_negative_click_in_its_middle() -> None:
    (x, y), label = _click(void=False)
    assert label == 0
    assert 20 <= x <= 31
    assert 20 <= y <= 31


def test_predicted_void_is_no_error() -> None:
    (x, y), label = _click(void=True)
    assert label == 1
    assert 4 <= x <= 9
    assert 4 <= y <= 9
