"""The list of objects: names, classes, colours and what is done with several."""

from pathlib import Path

import numpy as np
import pytest

from demo_page import DemoPage, OpenPage, browser_test
from demo_process import SIDE, CellClip, DemoServer
from text_detectors import (
    write_detector_weights,
    write_grounding_dino,
    write_language_model,
)

pytestmark = browser_test


@pytest.fixture
def two_objects(page: DemoPage, clip: CellClip) -> DemoPage:
    """A page with two tracked objects."""
    page.mark(clip, 1, 2)
    page.press('Escape')
    page.press('t')
    page.wait_pass()
    return page


def test_names_classes_and_colours_are_kept(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1, 2)
    row = page.row(1)
    row.get_by_test_id('object-name').fill('Größe <b>"1"</b>')
    row.get_by_test_id('object-name').press('Enter')
    row.get_by_test_id('object-category').fill('cell')
    row.get_by_test_id('object-category').press('Enter')
    row.get_by_test_id('object-color').click()
    choice = page.page.get_by_test_id('color-choice').nth(4)
    color = choice.get_attribute('aria-label')
    choice.click()
    page.wait_idle()
    page.page.reload()
    page.wait_idle()
    kept = page.objects[1]
    assert kept['name'] == 'Größe <b>"1"</b>'
    assert (kept['category'], kept['color']) == ('cell', color)
    assert page.row(1).get_by_test_id('object-name').input_value() == kept['name']
    # The class is offered for the next object.
    assert page.page.locator('datalist option[value="cell"]').count() == 1


def test_a_click_on_a_name_selects_and_two_edit(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1, 2)
    field = page.row(1).get_by_test_id('object-category')
    field.click()
    assert page.row(1).get_attribute('aria-selected') == 'true'
    page.press('r')  # a tool, not the name of a class
    assert not page.objects[1]['category']
    field.dblclick()
    field.press_sequentially('cell')
    field.press('Enter')
    page.wait_idle()
    assert page.objects[1]['category'] == 'cell'


def test_a_script_in_a_name_stays_text(page: DemoPage, clip: CellClip) -> None:
    page.mark(clip, 1)
    name = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    field = page.row(1).get_by_test_id('object-name')
    field.fill(name)
    field.press('Enter')
    page.wait_idle()
    assert page.objects[1]['name'] == name
    assert page.page.locator('img[src="x"]').count() == 0
    assert page.page.title() not in {'1', '2'}


def test_hidden_and_soloed_objects_are_not_drawn(two_objects: DemoPage) -> None:
    page = two_objects
    page.seek(0)
    both = page.labels(SIDE, SIDE)
    assert set(np.unique(both)) == {0, 1, 2}
    page.row(1).get_by_test_id('object-hide').click()
    page.wait_idle()
    assert set(np.unique(page.labels(SIDE, SIDE))) == {0, 2}
    page.row(1).get_by_test_id('object-hide').click()
    page.wait_idle()
    page.row(1).get_by_test_id('object-solo').click()
    page.wait_idle()
    assert set(np.unique(page.labels(SIDE, SIDE))) == {0, 1}
    page.row(1).get_by_test_id('object-solo').click()
    page.wait_idle()
    np.testing.assert_array_equal(page.labels(SIDE, SIDE), both)


def test_a_locked_object_refuses_prompts_and_is_not_tracked(
    two_objects: DemoPage, clip: CellClip
) -> None:
    page = two_objects
    page.row(1).get_by_test_id('object-lock').click()
    page.wait_idle()
    page.select(1)
    page.seek(3)
    before = page.masks(3)[1]
    page.press('p')
    page.click((5, 5))
    assert 'locked' in page.notices()
    assert '3' not in page.objects[1]['prompts']
    page.select(2)
    page.click(clip.center(2, 3))
    page.press('Escape')
    page.press('t')
    page.wait_pass()
    page.seek(3)
    np.testing.assert_array_equal(page.masks(3)[1], before)


def test_deleting_is_undone_and_redone(two_objects: DemoPage) -> None:
    page = two_objects
    page.seek(4)
    before = page.masks()
    page.row(1).get_by_test_id('object-delete').click()
    page.wait_idle()
    assert set(page.objects) == {2}
    assert set(page.masks()) == {2}
    page.press('Control+z')
    page.wait_idle()
    assert set(page.objects) == {1, 2}
    np.testing.assert_array_equal(page.masks()[1], before[1])
    page.press('Control+Shift+z')
    page.wait_idle()
    assert set(page.objects) == {2}


def test_merged_objects_have_the_masks_of_both(two_objects: DemoPage) -> None:
    page = two_objects
    page.seek(4)
    before = page.masks()
    page.select(1)
    page.row(2).get_by_test_id('object-select').click()
    page.control('merge').click()
    page.wait_idle()
    ((_, merged),) = page.masks().items()
    np.testing.assert_array_equal(merged, before[1] | before[2])
    page.press('Control+z')
    page.wait_idle()
    assert set(page.masks()) == {1, 2}
    np.testing.assert_array_equal(page.masks()[2], before[2])


def test_a_split_object_goes_on_as_another(two_objects: DemoPage) -> None:
    page = two_objects
    page.seek(6)
    before = page.masks()[1]
    page.select(1)
    page.control('split').click()
    page.wait_idle()
    assert set(page.objects) == {1, 2, 3}
    assert 1 not in page.visible_masks()
    np.testing.assert_array_equal(page.masks()[3], before)
    page.seek(5)
    assert 3 not in page.visible_masks()
    assert 1 in page.visible_masks()


def test_proposals_are_shown_and_accepted(page: DemoPage, clip: CellClip) -> None:
    page.control('tab-proposals').click()
    page.set_slider('propose-quality', 0.3)
    page.set_slider('propose-stability', 0.5)
    page.control('propose').click()
    page.control('proposal-list').wait_for()
    proposals = page.control('proposal')
    number = proposals.count()
    assert number >= 2
    proposals.first.locator('input').check()
    page.control('accept-selected').click()
    page.wait_idle()
    assert len(page.objects) == 1
    assert page.objects[1]['prompts']['0']['mask']
    assert page.masks()[1].any()
    page.press('Control+z')
    page.wait_idle()
    assert not page.objects


def test_what_a_text_names_is_shown_and_accepted(
    open_page: OpenPage, clip: CellClip, tmp_path: Path
) -> None:
    detector = write_grounding_dino(tmp_path, write_language_model(tmp_path / 'bert'))
    weights = write_detector_weights(detector, tmp_path / 'weights.pth')
    options = ['--detector', detector, '--detector-checkpoint', weights]
    server = DemoServer(tmp_path, options=options)
    server.start()
    page = open_page(server)
    page.open(server.create_session(clip.write(tmp_path / 'cells.mp4')))
    page.control('tab-proposals').click()
    page.control('propose-text').fill('a red disk. star')
    page.control('propose-text').press('Enter')
    page.control('proposal-list').wait_for()
    labels = page.control('proposal').all_inner_texts()
    assert {label.splitlines()[0] for label in labels} == {'a red disk', 'star'}
    page.control('accept-all').click()
    page.wait_idle()
    categories = [obj['category'] for obj in page.objects.values()]
    assert categories == [label.splitlines()[0] for label in labels]
    page.expect_errors('ERR_CONNECTION|WebSocket')
    server.stop()


def test_clearing_prompts_removes_the_mask_of_the_frame(
    page: DemoPage, clip: CellClip
) -> None:
    page.mark(clip, 1)
    page.control('clear-prompts').click()
    page.wait_idle()
    assert not page.visible_masks()
    page.press('Control+z')
    page.wait_idle()
    assert set(page.visible_masks()) == {1}
