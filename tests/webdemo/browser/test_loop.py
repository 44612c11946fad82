"""Annotate, train on it, and annotate better: all by clicks."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from demo_page import DemoPage, Mask, OpenPage, Position, browser_test
from demo_process import CellClip, DemoServer
from tool_modules import ROOT

pytestmark = [browser_test, pytest.mark.slow, pytest.mark.timeout(1800)]

EPOCHS = 3
FILE_LIST = 'ImageSets/train.txt'
DRAWN_FRAMES = range(0, 16, 2)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[DemoServer]:
    """A server of its own, since the test changes the model."""
    running = DemoServer(tmp_path)
    running.start()
    yield running
    running.stop()


def draw_cells(page: DemoPage, clip: CellClip, frames: Iterable[int]) -> None:
    """Draw each cell with the lasso on some frames."""
    cells = range(1, int(clip.labels[0].max()) + 1)
    page.press('l')
    page.press('q')
    for frame in frames:
        page.seek(frame)
        for cell in cells:
            outline = outline_of(clip.mask(cell, frame))
            if not outline:
                continue
            if cell in page.objects:
                page.select(cell)
            page.drag([*outline, outline[0]])
            page.press('q')


def outline_of(mask: Mask) -> list[Position]:
    """The corners of a polygon around the largest part of a mask."""
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    if not outlines:
        return []
    largest = cv2.approxPolyDP(max(outlines, key=cv2.contourArea), 0.7, closed=True)
    return [(float(x), float(y)) for x, y in largest[:, 0]]


def tracked_iou(page: DemoPage, clip: CellClip) -> float:
    """Track all from the first frame; mean IoU with what the clip was drawn from."""
    page.press('t')
    assert page.wait_pass() == 'done'
    ious = []
    for frame in range(1, len(clip.frames)):
        for cell, mask in page.masks_at(frame).items():
            true = clip.mask(cell, frame)
            ious.append((mask & true).sum() / max(1, (mask | true).sum()))
    return float(np.mean(ious))


def test_training_on_two_clips_tracks_the_third_better(
    own_server: DemoServer, open_page: OpenPage, tmp_path: Path
) -> None:
    # Dark cells on a bright ground, which the small model has not seen.
    clips = [CellClip(side=128, seed=seed, bright_field=True) for seed in range(3)]
    names = ['first', 'second', 'third']
    page = open_page(own_server)
    sessions = []
    for name, clip in zip(names, clips, strict=True):
        source = clip.write(own_server.folder / name)
        session = own_server.create_session(source, kind='video', name=name)
        sessions.append(session)
        page.open(session)
        page.page.reload()
        page.wait_idle()
        draw_cells(page, clip, DRAWN_FRAMES if name != 'third' else [0])
    before = tracked_iou(page, clips[2])

    page.control('open-train').click()
    for session, name in zip(sessions, names, strict=True):
        box = page.page.locator(
            f'[data-testid="train-session"][data-session="{session}"]'
        )
        box.set_checked(name != 'third')
    page.control('train-epochs').fill(str(EPOCHS))
    page.control('train-name').fill('bright cells')
    page.control('train-start').click()
    run = page.control('training-run').first
    ended = {'done', 'failed', 'stopped'}
    page.wait_for(
        lambda: run.count() > 0 and run.get_attribute('data-state') in ended,
        'the training does not end',
        seconds=1500,
    )
    assert run.get_attribute('data-state') == 'done', run.inner_text()
    assert page.page.locator('.curves svg').count() >= 2
    page.control('use-best').click()
    page.wait_for(
        lambda: 'bright' in own_server.request('GET', 'models')['current']['name'],
        'the model is not changed',
    )
    page.press('Escape')

    source = own_server.folder / 'third'
    page.open(own_server.create_session(source, kind='video', name='again'))
    page.page.reload()
    page.wait_idle()
    draw_cells(page, clips[2], [0])
    after = tracked_iou(page, clips[2])
    print(f'IoU on the third clip: {before:.3f} before, {after:.3f} after')  # noqa: T201
    assert after > before

    # What is exported passes the checks of the training.
    page.open(sessions[0])
    page.page.reload()
    page.wait_idle()
    page.control('open-export').click()
    page.control('export-format-davis').check()
    page.control('export-start').click()
    link = page.control('export-jobs').get_by_test_id('job-download')
    with zipfile.ZipFile(page.download(link.click, tmp_path)) as archive:
        archive.extractall(tmp_path / 'export')
    config = tmp_path / 'exported.py'
    options = {'data_root': str(tmp_path / 'export'), 'file_list': FILE_LIST}
    dataset = {'type': 'ClipPaletteDataset', **options}
    config.write_text(f'dataset = {dataset!r}\n', 'utf-8')
    checked = subprocess.run(
        [sys.executable, 'tools/check_dataset.py', str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
