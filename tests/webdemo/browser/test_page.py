"""The way through the page that everybody takes, in a real browser."""

import json
import zipfile
from pathlib import Path

import numpy as np

from demo_page import DemoPage
from demo_process import SIDE, CellClip
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
    # What is drawn is decoded from the same masks; the later object lies on top.
    shown = np.zeros((SIDE, SIDE), np.int64)
    for object_id, mask in tracked[len(clip.frames) - 1].items():
        shown[mask] = object_id
    np.testing.assert_array_equal(page.labels(SIDE, SIDE), shown)


def test_what_is_named_and_tracked_is_undone_exported_and_kept(
    page: DemoPage, clip: CellClip, tmp_path: Path
) -> None:
    page.mark(clip, 1, 2)
    page.row(2).get_by_test_id('object-name').fill('Zelle <2> & "Ü"')
    page.row(2).get_by_test_id('object-name').press('Enter')
    page.press('Escape')
    page.press('t')
    assert page.wait_pass() == 'done'
    every = list(range(len(clip.frames)))
    assert page.frames_with_masks(2) == every
    page.press('Control+z')
    page.wait_idle()
    assert page.frames_with_masks(2) == [0]
    page.press('Control+Shift+z')
    page.wait_idle()
    assert page.frames_with_masks(2) == every

    page.control('open-export').click()
    page.control('export-format-coco').check()
    page.control('export-start').click()
    link = page.control('export-jobs').get_by_test_id('job-download')
    with zipfile.ZipFile(page.download(link.click, tmp_path)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith('.json')]
        coco = json.loads(archive.read(name))
    assert len(coco['images']) == len(every)
    assert len(coco['annotations']) == 2 * len(every)
    page.press('Escape')

    page.page.reload()
    page.wait_idle()
    assert page.objects[2]['name'] == 'Zelle <2> & "Ü"'
    assert page.frames_with_masks(2) == every


def test_a_cut_network_comes_back_and_nothing_is_done_twice(
    page: DemoPage, clip: CellClip
) -> None:
    page.expect_errors('ERR_|WebSocket')
    page.mark(clip, 1)
    page.press('q')
    page.context.set_offline(True)
    page.hook('cut()')
    page.control('banner-connection').wait_for()
    page.page.mouse.click(*page.on_page(clip.center(2)))
    page.context.set_offline(False)
    page.control('banner-connection').wait_for(state='detached')
    page.wait_idle()
    assert set(page.objects) == {1, 2}
    assert set(page.visible_masks()) == {1, 2}
    page.press('Control+z')
    page.wait_idle()
    assert set(page.objects) == {1}
