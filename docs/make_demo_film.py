"""Film the demo, and take its pictures: a browser is driven as a person would.

    python docs/make_demo_film.py

writes ``docs/_static/demo.mp4`` and ``docs/images/demo_*.webp``. It needs Chromium, and
shows generated clips of cells and the small model that comes with the package.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Locator, sync_playwright

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / 'tests' / 'support')]

from demo_page import BROWSER_OPTIONS, DemoPage, Position, find_browser
from demo_process import CellClip, DemoServer
from projects.sam2.ops import write_atomically
from projects.sam2.visualization.drawing import Picture
from projects.sam2.visualization.video_file import VideoFile

FRAMES_PER_SECOND = 10.0
SIZE = {'width': 1088, 'height': 612}  # of the window that is filmed
SEED, SIDE, NUM_FRAMES = 1023, 512, 72  # of the clip; the model has not seen it
QUALITY = 82  # of the pictures
BAR = 44  # pixels, of the caption below the page
BAR_COLOR, TEXT_COLOR = (28, 32, 40), (240, 242, 245)
POINTER = np.array(
    [(0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (13, 12)], np.int32
)


class Film:
    """Records a page: each screenshot is a frame, with the pointer and a caption.

    Args:
        page: The page.
        video: Takes the frames.
    """

    def __init__(self, page: DemoPage, video: VideoFile) -> None:
        self._page = page
        self._video = video
        self._pointer: Position = (544.0, 600.0)
        self._caption = ''
        self.num_frames = 0

    def say(self, caption: str, seconds: float = 1.0) -> None:
        """Change the caption and show it for a while."""
        self._caption = caption
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Show the page for a while."""
        for _ in range(round(seconds * FRAMES_PER_SECOND)):
            self._add()

    def move(self, target: Position, seconds: float = 0.5) -> None:
        """Move the pointer to a position in the window."""
        start, steps = self._pointer, max(2, round(seconds * FRAMES_PER_SECOND))
        for step in range(1, steps + 1):
            share = step / steps
            share = share * share * (3 - 2 * share)  # starts and ends slowly
            x, y = (a + share * (b - a) for a, b in zip(start, target, strict=True))
            self._page.page.mouse.move(x, y)
            self._pointer = (x, y)
            self._add()

    def click(self, target: Position, *, button: str = 'left') -> None:
        """Move the pointer and click."""
        self.move(target)
        self._page.page.mouse.click(*target, button=button)  # type: ignore[arg-type]
        self.wait(0.4)

    def press(self, control: Locator) -> None:
        """Move the pointer to a control and click on it."""
        control.scroll_into_view_if_needed()
        left, top, width, height = box_of(control)
        self.click((left + width / 2, top + height / 2))

    def drag(self, targets: Sequence[Position], seconds: float = 0.5) -> None:
        """Move the pointer to the first position and drag it through the others."""
        self.move(targets[0])
        self._page.page.mouse.down()
        for target in targets[1:]:
            self.move(target, seconds)
        self._page.page.mouse.up()
        self.wait(0.4)

    def type(self, control: Locator, text: str) -> None:
        """Click into a field, at its start, and type."""
        left, top, _, height = box_of(control)
        self.click((left + 12, top + height / 2))
        control.press('Control+a')
        for letter in text:
            self._page.page.keyboard.type(letter)
            self._add()
        control.press('Enter')
        self.wait(0.3)

    def _add(self) -> None:
        png = self._page.page.screenshot()
        picture = np.array(Image.open(io.BytesIO(png)).convert('RGB'))
        tip = np.array(self._pointer, np.int32)
        cv2.fillPoly(picture, [POINTER + tip], (0, 0, 0), cv2.LINE_AA)
        cv2.polylines(picture, [POINTER + tip], True, (255, 255, 255), 1, cv2.LINE_AA)
        bar = np.full((BAR, picture.shape[1], 3), BAR_COLOR, np.uint8)
        place, font = (20, BAR - 16), cv2.FONT_HERSHEY_DUPLEX
        cv2.putText(bar, self._caption, place, font, 0.7, TEXT_COLOR, 1, cv2.LINE_AA)
        self._video.add(np.concatenate((picture, bar)))
        self.num_frames += 1


def box_of(control: Locator) -> tuple[float, float, float, float]:
    """Left, top, width and height of a control in the window."""
    box = control.bounding_box()
    if box is None:
        msg = f'{control} is not on the page'
        raise ValueError(msg)
    return box['x'], box['y'], box['width'], box['height']


def play(film: Film, page: DemoPage, clip: CellClip) -> None:
    """Annotate the clip."""

    def at(cell: int, frame: int = 0, dx: float = 0, dy: float = 0) -> Position:
        x, y = clip.center(cell, frame)
        return page.on_page((x + dx, y + dy))

    page.open()
    film.say('mmsam2 demo: annotate videos in the browser, on your own machine', 2)
    film.press(page.control('browser-entry').filter(has_text='cells.mp4'))
    page.wait_idle()
    film.say('A click marks an object', 0.6)
    film.click(at(1))
    film.wait(0.6)
    film.say('A box is as good; Q starts another object', 0.3)
    page.press('q')
    film.press(page.control('tool-box'))
    left, top, right, bottom = clip.box(2)
    corners = [(left - 3, top - 3), (right + 3, bottom + 3)]
    film.drag([page.on_page(corner) for corner in corners])
    page.press('q')
    left, top, right, bottom = clip.box(3)
    corners = [(left - 3, top - 3), (right + 3, bottom + 3)]
    film.drag([page.on_page(corner) for corner in corners])
    film.say('Objects have names, classes and colours', 0.4)
    film.type(page.row(1).get_by_test_id('object-name'), 'First cell')
    film.type(page.row(1).get_by_test_id('object-category'), 'cell')
    film.say('Track: the masks and a curve of presence appear as it goes', 0.6)
    page.press('Escape')
    film.press(page.control('track-forward'))
    while (page.hook('pass()') or {}).get('state') == 'running':
        film.wait(0.25)
    page.wait_idle()
    film.say('Scrub, step or play: frames are those of your own file', 0.3)
    left, top, width, _ = box_of(page.control('timeline-tracks'))
    y = top - 25  # on the filmstrip
    film.drag([(left + share * width, y) for share in (0.02, 0.9, 0.45)], 2.5)
    film.say('Correct any frame: add what is missing, or take away (Alt)', 0.5)
    film.press(page.control('track-head').first)
    film.press(page.control('tool-brush'))
    frame = page.frame
    film.drag([at(1, frame, -30, 34), at(1, frame, 0, 44), at(1, frame, 30, 30)])
    film.say('Undo and redo reach everything', 0.4)
    film.press(page.control('undo'))
    page.wait_idle()
    film.wait(0.5)
    film.say('Lock what is right: locked frames are barriers', 0.5)
    page.choose_range(0, 24)
    film.wait(0.4)
    film.press(page.control('range-lock'))
    film.press(page.control('range-clear'))
    page.seek(48)
    film.press(page.control('tool-point'))
    film.click(at(1, 48))
    film.say('Refine: only what changed is tracked again, up to the locks', 0.4)
    film.press(page.control('refine'))
    while (page.hook('pass()') or {}).get('state') == 'running':
        film.wait(0.25)
    page.wait_idle()
    film.say('Effects, for films and stills', 0.3)
    page.press('Escape')
    film.press(page.control('tab-effects'))
    for name in ('outline', 'spotlight', 'replace'):
        film.press(page.control(f'effect-{name}').first)
        page.set_slider('effect-strength', 1)
        film.wait(0.7)
    film.press(page.control('effect-pixelate'))
    film.press(page.control('effect-target-objects'))
    film.wait(0.7)
    film.press(page.control('effect-reset'))
    film.say('Export: DAVIS, COCO, YouTube-VIS, LabelMe, SA-V, CVAT, mp4, PNG', 0.3)
    film.press(page.control('open-export'))
    film.wait(1.8)
    page.press('Escape')
    film.say('Train on this, and go on with the better model', 0.3)
    film.press(page.control('open-train'))
    film.wait(1.8)
    page.press('Escape')
    film.say('Light and dark, keyboard first', 0.2)
    page.page.emulate_media(color_scheme='dark')
    film.wait(1)
    page.press('?')
    film.wait(1.8)
    page.press('Escape')
    film.say('mmsam2 demo', 1.5)


def annotate(page: DemoPage, clip: CellClip) -> None:
    """Mark and track the cells, without a film."""
    for cell in np.unique(clip.labels[0])[1:]:
        left, top, right, bottom = clip.box(int(cell))
        page.press('q')
        page.press('r')
        page.drag([(left - 3, top - 3), (right + 3, bottom + 3)])
    page.press('Escape')
    page.press('t')
    page.wait_pass()


def save(path: Path, picture: Picture) -> None:
    """Write a picture as WebP."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, format='WEBP', quality=QUALITY, method=6)
    write_atomically(path, encoded.getvalue())


def shoot(page: DemoPage) -> Picture:
    """Take a picture of the page once its thumbnails are there."""
    page.page.wait_for_load_state('networkidle')
    page.page.wait_for_timeout(300)
    return np.array(Image.open(io.BytesIO(page.page.screenshot())).convert('RGB'))


def take_pictures(
    browser: Browser, server: DemoServer, clip: CellClip, out_dir: Path
) -> None:
    """Write the pictures of the page of the documentation."""
    session = server.create_session(server.folder / 'cells.mp4', name='cells')

    @contextmanager
    def tab(width: int, height: int, scheme: str) -> Iterator[DemoPage]:
        size = {'width': width, 'height': height}
        page = DemoPage(browser, server, viewport=size, color_scheme=scheme)
        try:
            page.open(session)
            yield page
        finally:
            page.close()

    with tab(1280, 720, 'light') as page:
        annotate(page, clip)
        page.seek(20)
        page.select(1)
        save(out_dir / 'demo_light.webp', shoot(page))
        page.press('Escape')
        page.control('tab-effects').click()
        panels = []
        for name in ('outline', 'replace', 'spotlight', 'pixelate'):
            page.control(f'effect-{name}').first.click()
            page.set_slider('effect-strength', 1 if name != 'pixelate' else 0.5)
            if name == 'pixelate':
                page.control('effect-target-objects').click()
            page.page.wait_for_timeout(300)
            panels.append(page.picture())
        height, width = panels[0].shape[:2]
        square = slice((width - height) // 2, (width + height) // 2)
        strip = np.concatenate([panel[:, square] for panel in panels], axis=1)
        small = cv2.resize(strip, None, fx=0.6, fy=0.6)
        save(out_dir / 'demo_effects.webp', np.asarray(small, np.uint8))
        page.control('effect-reset').click()
        page.control('open-export').click()
        save(out_dir / 'demo_export.webp', shoot(page))
        page.press('Escape')
        page.open()
        save(out_dir / 'demo_start.webp', shoot(page))
    with tab(1280, 720, 'dark') as page:
        page.seek(20)
        page.select(2)
        save(out_dir / 'demo_dark.webp', shoot(page))
    with tab(1024, 768, 'light') as page:
        page.seek(40)
        save(out_dir / 'demo_tablet.webp', shoot(page))


def many_objects(browser: Browser, server: DemoServer, out_dir: Path) -> None:
    """Write the picture of fifty objects, which are drawn and not tracked."""
    clip = CellClip(num_frames=16, side=SIDE, seed=SEED)
    video = clip.write(server.folder / 'fifty.mp4')
    page = DemoPage(browser, server)
    try:
        page.open(server.create_session(video, name='fifty objects'))
        page.press('d')
        for number in range(50):
            row, column = divmod(number, 10)
            page.press('q')
            x, y = 40 + 48 * column, 60 + 95 * row
            page.drag([(x - 8, y), (x + 8, y + 20 * (number % 3 - 1))])
        page.press('Escape')
        save(out_dir / 'demo_fifty.webp', shoot(page))
    finally:
        page.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the film and the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--only', choices=('film', 'pictures'), help='the other is left as it is'
    )
    parser.add_argument('--out', type=Path, default=DOCS, help='folder (docs)')
    options = parser.parse_args(arguments)
    clip = CellClip(NUM_FRAMES, side=SIDE, seed=SEED)
    launch: dict[str, Any] = {
        'executable_path': find_browser(),
        'args': BROWSER_OPTIONS,
    }
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        server = DemoServer(Path(name))
        clip.write(server.folder / 'cells.mp4')
        server.start()
        browser = playwright.chromium.launch(**launch)
        try:
            if options.only != 'pictures':
                page = DemoPage(browser, server, viewport=SIZE)
                path = options.out / '_static' / 'demo.mp4'
                with VideoFile(path, frames_per_second=FRAMES_PER_SECOND) as video:
                    film = Film(page, video)
                    play(film, page, clip)
                page.close()
                page.check()
                seconds = film.num_frames / FRAMES_PER_SECOND
                print(f'{path}: {seconds:.0f} s, {path.stat().st_size / 2**20:.1f} MB')
            if options.only != 'film':
                take_pictures(browser, server, clip, options.out / 'images')
                many_objects(browser, server, options.out / 'images')
        finally:
            browser.close()
            server.stop()


if __name__ == '__main__':
    main()
