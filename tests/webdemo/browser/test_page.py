"""The way through the page that everybody takes, in a real browser."""

from pathlib import Path

from demo_page import DemoPage
from demo_process import CellClip
from demo_truth import PredictorTruth, assert_same_masks


def test_clicks_boxes_and_tracking_equal_the_predictor_bit_for_bit(
    page: DemoPage, clip: CellClip, video: Path
) -> None:
    truth = PredictorTruth(video)
    page.press('p')
    page.click(clip.center(1))
    first = page.objects[1]
    assert_same_masks(page.masks(), truth.prompt(first, 0))
    left, top, right, bottom = clip.box(1)
    page.click((right + 10, bottom + 10), keys=['Alt'])
    corrected = page.objects[1]
    assert [label for *_, label in corrected['prompts']['0']['points']] == [1, 0]
    assert_same_masks(page.masks(), truth.prompt(corrected, 0))

    page.press('q')  # another object
    page.press('r')
    left, top, right, bottom = clip.box(2)
    page.drag([(left, top), (right, bottom)])
    assert page.objects[2]['prompts']['0']['box']
    assert_same_masks(page.masks(), truth.prompt(page.objects[2], 0))

    page.press('Escape')  # no object is selected: all are tracked
    page.press('t')
    assert page.wait_pass() == 'done'
    tracked = truth.propagate()
    assert tracked.keys() == set(range(len(clip.frames)))
    for frame, masks in tracked.items():
        page.seek(frame)
        assert_same_masks(page.masks(frame), masks)
