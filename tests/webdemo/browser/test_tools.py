"""Every tool on the canvas, used as a person uses it."""

import numpy as np

from demo_page import DemoPage, browser_test
from demo_process import CellClip

pytestmark = browser_test


def test_a_point_is_moved_by_dragging_and_removed_by_a_click(
    page: DemoPage, clip: CellClip
) -> None:
    x, y = clip.center(1)
    page.press('p')
    page.click((x, y))
    page.click((x + 6, y))
    before = page.masks()[1]
    page.drag([(x + 6, y), (x - 60, y + 40)])
    moved = page.objects[1]['prompts']['0']['points']
    np.testing.assert_allclose(moved[1][:2], (x - 60, y + 40), atol=1)
    assert (page.masks()[1] != before).any()
    page.click((x - 60, y + 40), keys=['Alt', 'Shift'])
    (point,) = page.objects[1]['prompts']['0']['points']
    np.testing.assert_allclose(point[:2], (x, y), atol=1)


def test_a_drag_with_the_points_draws_a_box(page: DemoPage, clip: CellClip) -> None:
    left, top, right, bottom = clip.box(1)
    page.press('p')
    page.drag([(left, top), (right, bottom)])
    prompts = page.objects[1]['prompts']['0']
    assert not prompts['points']
    np.testing.assert_allclose(prompts['box'], (left, top, right, bottom), atol=1)


def test_the_right_button_places_a_point_outside(
    page: DemoPage, clip: CellClip
) -> None:
    page.press('p')
    page.click(clip.center(1))
    page.click(clip.center(2), button='right')
    labels = [label for *_, label in page.objects[1]['prompts']['0']['points']]
    assert labels == [1, 0]


def test_a_box_is_changed_by_its_handles(page: DemoPage, clip: CellClip) -> None:
    left, top, right, bottom = clip.box(1)
    page.press('r')
    page.drag([(left, top), (right, bottom)])
    page.drag([(left, top), (left - 20, top - 10)])
    box = page.objects[1]['prompts']['0']['box']
    np.testing.assert_allclose(box, (left - 20, top - 10, right, bottom), atol=1)


def test_the_brush_paints_and_the_eraser_removes(
    page: DemoPage, clip: CellClip
) -> None:
    x, y = clip.center(1)
    page.press('d')
    page.drag([(x - 30, y), (x + 30, y)])
    painted = page.masks()[1]
    assert page.objects[1]['prompts']['0']['mask']
    assert painted[int(y), int(x - 30) : int(x + 31)].all()
    assert not painted[0].any()
    page.press('e')
    page.click((x, y))
    erased = page.masks()[1]
    assert not erased[int(y), int(x)]
    assert erased[int(y), int(x - 30)]
    assert not (erased & ~painted).any()


def test_the_keys_for_brackets_change_the_size_of_the_brush(
    page: DemoPage, clip: CellClip
) -> None:
    page.press('d')
    page.click(clip.center(1))
    small = page.masks()[1].sum()
    page.press('q')
    for _ in range(5):
        page.press(']')
    page.click(clip.center(2))
    assert page.masks()[2].sum() > 2 * small


def test_the_lasso_adds_an_area_and_takes_one_away(
    page: DemoPage, clip: CellClip
) -> None:
    page.press('l')
    page.drag([(40, 40), (120, 40), (120, 120), (40, 120), (40, 41)])
    drawn = page.masks()[1]
    square = np.zeros_like(drawn)
    square[40:121, 40:121] = True
    assert (drawn ^ square).sum() < 400  # the outline is a pixel or so off
    page.drag([(60, 60), (100, 60), (100, 100), (60, 100), (60, 61)], keys=['Alt'])
    hollow = page.masks()[1]
    assert not hollow[80, 80]
    assert hollow[50, 50]


def test_drawing_corrects_what_the_model_found(page: DemoPage, clip: CellClip) -> None:
    page.press('p')
    page.click(clip.center(1))
    found = page.masks()[1]
    page.press('d')
    page.click((30, 200))
    corrected = page.masks()[1]
    assert corrected[200, 30]
    assert (corrected & found).sum() == found.sum()


def test_a_click_with_ctrl_selects_the_object_under_it(
    page: DemoPage, clip: CellClip
) -> None:
    page.press('p')
    page.click(clip.center(1))
    page.press('q')
    page.click(clip.center(2))
    page.click(clip.center(1), keys=['Control'])
    assert page.selected == [1]
    assert len(page.objects) == 2


def test_the_keyboard_alone_places_a_point(page: DemoPage) -> None:
    page.press('p')
    page.press('k')
    for _ in range(3):
        page.press('ArrowRight')
    page.press('Enter')
    page.wait_idle()
    ((x, y, label),) = page.objects[1]['prompts']['0']['points']
    assert (label, y) == (1, 128)
    assert x > 128


def test_wheel_and_keys_zoom_and_the_frame_is_panned(
    page: DemoPage, clip: CellClip
) -> None:
    fitted = page.hook('zoom()')
    position = clip.center(1)
    before = page.on_page(position)
    page.page.mouse.move(*before)
    page.page.mouse.wheel(0, -400)
    page.wait_for(lambda: page.hook('zoom()') > 1.2 * fitted, 'the wheel did not zoom')
    # What is below the pointer stays there.
    np.testing.assert_allclose(page.on_page(position), before, atol=1)
    page.press('h')
    x, y = before
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 50, y + 20, steps=4)
    page.page.mouse.up()
    np.testing.assert_allclose(page.on_page(position), (x + 50, y + 20), atol=1.5)
    page.press('f')
    page.wait_for(lambda: page.hook('zoom()') == fitted, 'the frame was not fitted')
    page.press('p')
    page.press('+')
    page.click(position)
    ((x, y, _),) = page.objects[1]['prompts']['0']['points']
    np.testing.assert_allclose((x, y), position, atol=0.5)
