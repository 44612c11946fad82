"""What the canvas shows while one scrubs, draws quickly, or uses two fingers."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from demo_page import DemoPage, OpenPage, browser_test
from demo_process import CellClip, DemoServer

pytestmark = browser_test
NUM_SHADES = 60
SHADE = 4  # difference between two frames


def test_a_scrub_shows_each_picture_under_its_own_number(
    open_page: OpenPage, server: DemoServer
) -> None:
    folder = server.folder / 'shades'
    folder.mkdir()
    for index in range(NUM_SHADES):
        frame = np.full((48, 64, 3), SHADE * index, np.uint8)
        cv2.imwrite(str(folder / f'{index:05d}.png'), frame)
    page = open_page()
    page.open(server.create_session(folder), renderer='canvas')
    # Two animation frames after a move, what is drawn and its number are read together.
    shown = page.page.evaluate(
        """async (count) => {
            const canvas = document.querySelector('.viewer-picture canvas');
            const context = canvas.getContext('2d');
            const next = () => new Promise(requestAnimationFrame);
            const pairs = [];
            for (let i = 0; i < 200; i += 1) {
                window.mmsam2.seek((i * 7) % count);
                await next();
                const before = window.mmsam2.frame();
                await next();
                const [x, y] = [canvas.width / 2, canvas.height / 2];
                const [red] = context.getImageData(x, y, 1, 1).data;
                if (window.mmsam2.frame() === before) pairs.push([before, red]);
            }
            return pairs;
        }""",
        NUM_SHADES,
    )
    frames, shades = np.array(shown).T
    assert len(set(frames.tolist())) > 5  # some were shown on the way
    np.testing.assert_allclose(shades, SHADE * frames, atol=1)
    page.wait_idle()
    assert page.frame == (199 * 7) % NUM_SHADES


def test_a_stroke_goes_on_with_the_one_before_that_is_not_answered(
    page: DemoPage, clip: CellClip
) -> None:
    page.press('d')
    for y in (60, 120, 180):
        start, end = page.on_page((40, y)), page.on_page((200, y))
        page.page.mouse.move(*start)
        page.page.mouse.down()
        page.page.mouse.move(*end, steps=3)
        page.page.mouse.up()
    page.wait_idle()
    assert list(page.objects) == [1]
    (mask,) = page.masks().values()
    assert mask[[60, 120, 180], 40:201].all()
    assert not mask[[90, 150]].any()


def test_a_second_click_selects_the_object_below(
    page: DemoPage, clip: CellClip
) -> None:
    page.press('d')
    for _ in range(2):
        page.press('q')
        page.drag([(100, 100), (150, 100)])
    page.press('q')
    page.press('v')
    selected = []
    for _ in range(3):
        page.click((120, 100))
        selected += page.selected
    assert sorted(selected[:2]) == [1, 2]
    assert selected[2] == selected[0]


def test_two_fingers_zoom_and_draw_nothing(
    open_page: OpenPage, server: DemoServer, video: Path
) -> None:
    size = {'width': 1024, 'height': 768}
    page = open_page(has_touch=True, viewport=size)
    page.open(server.create_session(video))
    page.press('d')
    zoom = page.hook('zoom()')
    x, y = page.on_page((128, 128))
    session = page.context.new_cdp_session(page.page)

    def touch(kind: str, *xs: float) -> None:
        points: list[Any] = [{'x': at, 'y': y, 'id': i} for i, at in enumerate(xs)]
        session.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': points})

    touch('touchStart', x - 50)
    touch('touchStart', x - 50, x + 50)
    for step in range(1, 11):
        touch('touchMove', x - 50 - 5 * step, x + 50 + 5 * step)
    touch('touchEnd')
    page.wait_idle()
    np.testing.assert_allclose(page.hook('zoom()') / zoom, 2, rtol=0.02)
    np.testing.assert_allclose(page.on_page((128, 128)), (x, y), atol=2)
    assert not page.objects
    # One finger draws.
    touch('touchStart', x)
    touch('touchEnd')
    page.wait_idle()
    assert list(page.objects) == [1]
