"""Moving in time, tracking, and locked frames."""

import numpy as np
import pytest

from demo_page import DemoPage, OpenPage, browser_test
from demo_process import CellClip, DemoServer

pytestmark = browser_test


def test_keys_step_and_jump(page: DemoPage, clip: CellClip) -> None:
    last = len(clip.frames) - 1
    steps = [
        ('ArrowRight', 1),
        ('ArrowRight', 2),
        ('ArrowLeft', 1),
        ('Shift+ArrowRight', 11),
        ('End', last),
        ('ArrowRight', last),
        ('Home', 0),
    ]
    for keys, frame in steps:
        page.press(keys)
        page.wait_frame(frame)


def test_it_plays_at_the_chosen_speed(page: DemoPage, clip: CellClip) -> None:
    page.control('speed').select_option('4')
    page.control('viewer-canvas').focus()
    page.press('Space')
    page.wait_frame(len(clip.frames) - 1)
    page.wait_idle()


def test_the_time_line_jumps_to_prompts(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1)
    page.seek(9)
    page.click(clip.center(1, 9))
    page.press('Home')
    page.press('.')
    page.wait_frame(9)
    page.press(',')
    page.wait_frame(0)


def test_low_scores_are_jumped_to(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1)
    page.press('t')
    page.wait_pass()
    page.control('low-score').select_option('95')
    page.seek(0)
    scores = page.scores(1)
    low = [n for n, score in enumerate(scores) if score < 95]
    page.press('n')
    if low:
        page.wait_frame(low[0])
    else:
        assert 'low score' in page.notices()


def test_it_tracks_backwards_and_a_range(page: DemoPage, clip: CellClip) -> None:
    page.seek(8)
    page.press('p')
    page.click(clip.center(1, 8))
    page.press('Shift+t')
    assert page.wait_pass() == 'done'
    assert page.frames_with_masks(1) == list(range(9))
    page.choose_range(8, 12)
    page.control('range-track').click()
    assert page.wait_pass() == 'done'
    assert page.frames_with_masks(1) == list(range(12))
    page.choose_range(2, 5)
    page.control('range-delete').click()
    page.wait_idle()
    assert page.frames_with_masks(1) == [0, 1, *range(5, 12)]
    page.press('Control+z')
    page.wait_idle()
    assert page.frames_with_masks(1) == list(range(12))


def test_one_object_is_tracked_alone(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1, 2)
    page.select(2)
    page.press('t')
    page.wait_pass()
    assert page.frames_with_masks(1) == [0]
    assert page.frames_with_masks(2) == list(range(len(clip.frames)))


def test_tracking_is_cancelled_and_undone_as_one(
    page: DemoPage, clip: CellClip, server: DemoServer
) -> None:
    page.mark(clip, 1)
    page.press('t')
    page.press('Escape')
    assert page.wait_pass() in {'cancelled', 'done'}
    page.press('Control+z')
    page.wait_idle()
    assert page.frames_with_masks(1) == [0]


def test_locked_frames_are_barriers(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1)
    page.press('t')
    page.wait_pass()
    before = {frame: page.masks_at(frame)[1] for frame in range(len(clip.frames))}
    page.select(1)
    page.choose_range(6, 8)
    page.control('range-lock').click()
    page.wait_idle()
    page.seek(6)
    page.press('p')
    page.click((5, 5))
    assert 'locked' in page.notices()
    # A large drawing that changes every frame that is tracked again.
    page.seek(2)
    page.press('d')
    page.drag([(20, 20), (200, 200)])
    page.press('g')
    assert page.wait_pass() == 'done'
    after = {frame: page.masks_at(frame)[1] for frame in range(len(clip.frames))}
    changed = [n for n in before if (before[n] != after[n]).any()]
    assert changed in ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5])


def test_before_and_after_flicker(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1)
    first = page.hook('hash()')
    page.click(clip.center(2), keys=['Alt'])
    page.click(clip.center(3))
    second = page.hook('hash()')
    assert first != second
    page.page.keyboard.down('z')
    page.wait_for(lambda: page.hook('hash()') != second, 'the key z changes nothing')
    page.page.keyboard.up('z')
    page.wait_for(lambda: page.hook('hash()') == second, 'z stays')


def test_brightness_changes_the_picture_only(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1)
    dark = page.picture()
    masks = page.hook('hash()')
    page.control('display-settings').click()
    page.set_slider('brightness', 0.4)
    page.page.wait_for_timeout(200)
    assert page.picture().mean() > dark.mean() + 30
    assert page.hook('hash()') == masks
    page.control('reset-display').click()
    page.press('Escape')  # closes the panel, which covers a part
    page.page.wait_for_timeout(200)
    np.testing.assert_allclose(page.picture().mean(), dark.mean(), atol=1)


def test_the_help_sheet_names_the_keys(page: DemoPage) -> None:
    page.press('?')
    dialog = page.page.get_by_role('dialog')
    for text in ('Track forwards', 'Undo', 'Next low score', 'Lasso'):
        assert dialog.get_by_text(text).first.is_visible()
    page.press('Escape')
    dialog.wait_for(state='hidden')


@pytest.mark.parametrize('kind', ['images'])
def test_stills_are_annotated_one_by_one(
    open_page: OpenPage, server: DemoServer, clip: CellClip, kind: str
) -> None:
    folder = server.folder / 'stills'
    if not folder.exists():
        clip.write(folder)
    page = open_page()
    page.open(server.create_session(folder, kind=kind))
    page.mark(clip, 1)
    page.press('ArrowRight')
    page.wait_frame(1)
    assert not page.visible_masks()
    page.press('q')
    page.click(clip.center(2, 1))
    assert set(page.objects) == {1, 2}
    assert page.control('track-forward').count() == 0
