"""What all simulated users of validation have in common."""

import pytest

from projects.sam2.models import SAM2ImageRounds, SAM2OfflineRounds, SAM2OnlineRounds
from projects.sam2.models.prompt_simulator import PromptKind
from projects.sam2.models.tracking.interactive import count_name


def test_rounds_are_named_by_their_number() -> None:
    assert count_name(1, 'click') == '1_click'
    assert count_name(3, 'frame') == '3_frames'


@pytest.mark.parametrize(
    'user',
    [
        SAM2ImageRounds(click_counts=(2, 4)),
        SAM2OfflineRounds(num_frames=2, num_clicks=4),
        SAM2OnlineRounds(num_frames=2, num_clicks=4, min_iou=0.5),
    ],
)
def test_clips_are_prompted_by_clicks_in_the_centre(user: SAM2ImageRounds) -> None:
    plan = user.plan(5, step=3)
    assert plan.prompts == {0: PromptKind.POINT}
    assert plan.correction_frames == {0}
    assert user.num_corrections == 3
    assert user.click_method == 'center'


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match='num_clicks is 0'):
        SAM2OfflineRounds(num_frames=1, num_clicks=0)
    with pytest.raises(ValueError, match='num_frames is 0'):
        SAM2OfflineRounds(num_frames=0, num_clicks=1)
    with pytest.raises(ValueError, match='min_iou is 75'):
        SAM2OnlineRounds(num_frames=1, num_clicks=1, min_iou=75)
