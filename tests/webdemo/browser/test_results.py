"""Effects, films, stills, exports and imports, by clicks, as files on the disk."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence
from pycocotools.coco import COCO

from demo_page import DemoPage, OpenPage, browser_test
from demo_process import CellClip, DemoServer

pytestmark = browser_test

EXACT = ['davis', 'masks', 'coco', 'youtube_vis', 'sav', 'cvat', 'labelme']
EFFECTS = [
    *('overlay', 'outline', 'cutout', 'blur', 'pixelate', 'spotlight', 'desaturate'),
    'replace',
]


@pytest.fixture
def tracked(page: DemoPage, clip: CellClip) -> DemoPage:
    """A page with two tracked objects of two classes."""
    page.mark(clip, 1, 2)
    page.press('Escape')
    page.press('t')
    page.wait_pass()
    return page


def export(page: DemoPage, name: str, folder: Path) -> Path:
    """Export annotations by clicks and unpack them."""
    page.control('open-export').click()
    page.control(f'export-format-{name}').check()
    page.control('export-start').click()
    link = page.control('export-jobs').get_by_test_id('job-download')
    archive = page.download(link.click, folder)
    page.press('Escape')
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder / name)
    return archive


@pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')
def test_coco_is_read_by_pycocotools(tracked: DemoPage, tmp_path: Path) -> None:
    export(tracked, 'coco', tmp_path)
    (path,) = (tmp_path / 'coco').rglob('*.json')
    coco: Any = COCO(str(path))  # type: ignore[no-untyped-call]
    for image in coco.dataset['images']:
        frame = int(image['frame_index'])
        masks = tracked.masks_at(frame)
        entries = coco.loadAnns(coco.getAnnIds(imgIds=image['id']))
        decoded = [coco.annToMask(entry).astype(bool) for entry in entries]
        visible = [mask for mask in masks.values() if mask.any()]
        assert len(decoded) == len(visible)
        for mask in visible:
            assert any((mask == other).all() for other in decoded)
        for entry, mask in zip(entries, decoded, strict=True):
            rows, columns = np.nonzero(mask)
            left, top, width, height = entry['bbox']
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)


def test_davis_has_the_objects_as_palette_indices(
    tracked: DemoPage, tmp_path: Path
) -> None:
    export(tracked, 'davis', tmp_path)
    paths = sorted((tmp_path / 'davis').rglob('Annotations/*/*.png'))
    for path in paths:
        masks = tracked.masks_at(int(path.stem))
        expected = np.zeros(masks[1].shape, np.uint8)
        for object_id, mask in masks.items():
            expected[mask] = object_id
        image = Image.open(path)
        assert image.mode == 'P'
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert len(paths) == 16


@pytest.mark.parametrize('name', [*EXACT, 'coco_polygons'])
def test_an_export_is_a_start_elsewhere(
    tracked: DemoPage,
    open_page: OpenPage,
    server: DemoServer,
    video: Path,
    tmp_path: Path,
    name: str,
) -> None:
    archive = export(tracked, name, tmp_path)
    other = open_page()
    other.open(server.create_session(video))
    other.control('open-import').click()
    other.control('import-files').set_input_files(archive)
    other.control('import-dialog').wait_for(state='detached')
    other.wait_idle()
    for frame in (0, 7, 15):
        before = [m for m in tracked.masks_at(frame).values() if m.any()]
        if name == 'davis':  # label images: the later object lies on top
            before[0] &= ~before[1]
        after = [m for m in other.masks_at(frame).values() if m.any()]
        assert len(before) == len(after)
        for mask, again in zip(before, after, strict=True):
            iou = (mask & again).sum() / (mask | again).sum()
            assert iou > 0.95 if name == 'coco_polygons' else iou == 1
    other.press('Control+z')
    other.wait_idle()
    assert not other.objects


@pytest.mark.parametrize('kind', ['mp4', 'gif'])
def test_a_film_has_every_frame_and_the_effect(
    tracked: DemoPage, clip: CellClip, tmp_path: Path, kind: str
) -> None:
    tracked.control('tab-effects').click()
    tracked.control('effect-spotlight').click()
    tracked.set_slider('effect-strength', 1)
    tracked.control('effects-export').click()
    tracked.control('export-what-film').click()
    tracked.control(f'film-kind-{kind}').click()
    tracked.control('film-start-render').click()
    link = tracked.control('export-jobs').get_by_test_id('job-download')
    path = tracked.download(link.click, tmp_path)
    tracked.press('Escape')
    if kind == 'mp4':
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == 'h264'
            frames = [f.to_ndarray(format='rgb24') for f in container.decode(video=0)]
    else:
        with Image.open(path) as image:
            frames = [
                np.asarray(f.convert('RGB')) for f in ImageSequence.Iterator(image)
            ]
    assert len(frames) == len(clip.frames)
    assert frames[0].shape == clip.frames[0].shape
    masks = tracked.masks_at(8)
    objects = np.any(list(masks.values()), axis=0)
    background = ~objects & (clip.frames[8].max(axis=2) > 60)
    assert frames[8][background].mean() < 0.5 * clip.frames[8][background].mean()
    assert frames[8][objects].mean() > 0.8 * clip.frames[8][objects].mean()


def test_a_still_of_a_cutout_has_alpha(
    tracked: DemoPage, clip: CellClip, tmp_path: Path
) -> None:
    tracked.control('tab-effects').click()
    tracked.control('effect-cutout').click()
    tracked.control('effect-outlines').uncheck()
    path = tracked.download(tracked.control('save-still').click, tmp_path)
    image = np.asarray(Image.open(path))
    masks = tracked.masks()
    objects = np.any(list(masks.values()), axis=0)
    np.testing.assert_array_equal(image[..., 3] > 0, objects)
    # The server decodes the frames of the file, which H.264 has changed a little.
    difference = image[..., :3].astype(int) - clip.frames[tracked.frame]
    assert np.abs(difference[objects]).mean() < 12


@pytest.mark.parametrize('renderer', ['webgl', 'canvas'])
def test_the_preview_of_an_effect_is_what_the_server_renders(
    tracked: DemoPage, server: DemoServer, renderer: str
) -> None:
    session = tracked.page.url.rpartition('/')[2]
    tracked.open(session, renderer=renderer)
    tracked.page.reload()
    tracked.wait_idle()
    assert tracked.hook('renderer').startswith(renderer)
    tracked.seek(1)  # without prompts
    tracked.press('Escape')
    tracked.press('1')  # one pixel of the frame is one of the screen
    tracked.control('tab-effects').click()
    for name in EFFECTS:
        tracked.control(f'effect-{name}').click()
        tracked.page.wait_for_timeout(200)
        still = tracked.page.request.post(
            f'{server.url}/api/sessions/{session}/stills',
            data={'frame': 1, 'effect': {'name': name, 'color': '#00b140'}},
        )
        rendered = np.asarray(Image.open(io.BytesIO(still.body())).convert('RGB'))
        left, top = (round(side) for side in tracked.on_page((-0.5, -0.5)))
        size = {'width': 256, 'height': 256}
        png = tracked.page.screenshot(clip={'x': left, 'y': top, **size})  # type: ignore[arg-type]
        shown = np.asarray(Image.open(io.BytesIO(png)).convert('RGB'))
        difference = np.abs(shown.astype(int) - rendered)
        if name == 'cutout':  # the page shows a chequered ground
            difference[~rendered.any(axis=2)] = 0
        assert difference[2:-2, 2:-2].mean() < 4, name


def test_cancelling_a_film_leaves_nothing(tracked: DemoPage) -> None:
    tracked.control('open-export').click()
    tracked.control('export-what-film').click()
    tracked.control('film-start-render').click()
    job = tracked.control('export-jobs').get_by_test_id('job').first
    cancel = job.get_by_test_id('job-cancel')
    if cancel.is_visible():  # else it was faster
        cancel.click()
    tracked.wait_for(
        lambda: job.get_attribute('data-state') in {'cancelled', 'done'}, 'it runs on'
    )


def test_a_file_that_is_no_annotation_is_refused_in_words(
    page: DemoPage, tmp_path: Path
) -> None:
    page.expect_errors('400|422|415')
    path = tmp_path / 'notes.json'
    path.write_text(json.dumps({'hello': 1}), 'utf-8')
    page.control('open-import').click()
    page.control('import-files').set_input_files(path)
    assert 'notes' in page.notices() or 'format' in page.notices()
    assert not page.objects
