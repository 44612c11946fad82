"""Clicks, draws and types in the annotation demo as a person does, in Chromium."""

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Download, Locator, Page

from demo_process import CellClip, DemoServer
from projects.sam2.ops import decode_masks

Mask = NDArray[np.bool_]
Position = tuple[float, float]  # x, y in pixels of the frame
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
# As root, as in a container, Chromium starts without its sandbox only.
BROWSER_OPTIONS = ['--no-sandbox']
LAPTOP = {'width': 1280, 'height': 720}
SECONDS = 1000.0  # playwright counts milliseconds
NO_SCORE = 255  # of a frame without a mask

# Most tests of the page take seconds each; those of test_page.py always run.
browser_test = pytest.mark.skipif(
    os.environ.get('SAM2_BROWSER_TESTS') != 'all',
    reason='SAM2_BROWSER_TESTS=all runs the long tests of the page in a browser',
)
OpenPage = Callable[..., 'DemoPage']


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome."""
    paths = (shutil.which(name) for name in BROWSERS)
    return next((path for path in paths if path), None)


class DemoPage:
    """A tab with the demo.

    Errors on the console, exceptions and violations of the content security policy
    are collected; :meth:`check` raises them.

    Attributes:
        page: The page of playwright.
        errors: What went wrong so far.
    """

    def __init__(self, browser: Browser, server: DemoServer, **settings: Any) -> None:
        self.server = server
        options: dict[str, Any] = {'viewport': LAPTOP, 'accept_downloads': True}
        self.context = browser.new_context(**options | settings)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(20 * SECONDS)
        self.errors: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self.page.on('console', self._hear)
        self.page.on('pageerror', lambda error: self.errors.append(str(error)))
        self.page.on('crash', lambda page: self.errors.append('the tab crashed'))

    def _hear(self, message: Any) -> None:
        if message.type == 'error':
            self.errors.append(f'{message.text} ({message.location.get("url", "")})')

    # Start and end --------------------------------------------------------------------

    def open(self, session: str | None = None, **parameters: str) -> None:
        """Open the start page or a session, with the hook for tests."""
        words = '&'.join(f'{k}={v}' for k, v in {'debug': '1', **parameters}.items())
        part = f'#/sessions/{session}' if session else ''
        self.page.goto(f'{self.server.url}/?{words}{part}')
        if session:
            self.wait_idle()

    def expect_errors(self, pattern: str) -> None:
        """Accept errors that match a pattern, because the test causes them."""
        self._expected.append(re.compile(pattern))

    def check(self) -> None:
        """Check that no unexpected error was collected.

        Raises:
            AssertionError: With the errors.
        """
        errors = [
            error
            for error in self.errors
            if not any(pattern.search(error) for pattern in self._expected)
        ]
        assert not errors, '\n'.join(errors)

    def close(self) -> None:
        """Close the tab."""
        self.context.close()

    # What the page shows --------------------------------------------------------------

    def hook(self, call: str) -> Any:
        """Evaluate an expression of the hook for tests, such as ``frame()``."""
        return self.page.evaluate(f'window.mmsam2.{call}')

    def wait_idle(self) -> None:
        """Wait until the frame and its latest masks are drawn."""
        idle = '!!window.mmsam2 && window.mmsam2.idle()'
        self.wait_for(lambda: bool(self.page.evaluate(idle)), 'the page is not idle')

    def wait_for(
        self, condition: Callable[[], bool], what: str, seconds: float = 20
    ) -> None:
        """Wait until a condition holds.

        Playwright's own ``wait_for_function`` evaluates text in the page, which the
        content security policy forbids.

        Raises:
            AssertionError: If it does not hold in time.
        """
        for _ in range(round(seconds / 0.03)):
            if condition():
                return
            self.page.wait_for_timeout(30)
        raise AssertionError(what)

    def wait_pass(self) -> str:
        """Wait until no pass runs; return how the last one ended."""
        running = 'running'
        while running == 'running':
            # Between a command and its pass the page is busy, but nothing runs.
            self.wait_idle()
            self.wait_for(
                lambda: (self.hook('pass()') or {}).get('state') != 'running',
                'the pass does not end',
                seconds=60,
            )
            self.wait_idle()
            running = str((self.hook('pass()') or {}).get('state'))
        return running

    @property
    def objects(self) -> dict[int, dict[str, Any]]:
        """Properties and prompts of the objects, by id."""
        return {int(obj['id']): obj for obj in self.hook('objects()')}

    @property
    def frame(self) -> int:
        """Index of the frame that is drawn."""
        return int(self.hook('frame()'))

    def masks(self, frame_index: int | None = None) -> dict[int, Mask]:
        """Masks that the page has of a frame, by object; those of the current one."""
        number = self.frame if frame_index is None else frame_index
        existing = self.objects  # masks of deleted objects may still be in the cache
        entries = self.hook(f'masks({number})') or []
        entries = [entry for entry in entries if entry['object'] in existing]
        codes = [{'size': e['size'], 'counts': e['counts']} for e in entries]
        decoded = decode_masks(codes) if codes else ()
        return {
            int(entry['object']): mask
            for entry, mask in zip(entries, decoded, strict=True)
        }

    def visible_masks(self) -> dict[int, Mask]:
        """Masks of the current frame that have a pixel."""
        return {key: mask for key, mask in self.masks().items() if mask.any()}

    def masks_at(self, frame_index: int) -> dict[int, Mask]:
        """Go to a frame and return its masks."""
        self.seek(frame_index)
        return self.masks(frame_index)

    def labels(self, height: int, width: int) -> NDArray[np.int64]:
        """Ids of the objects that the canvas shows, (height, width); 0 for none."""
        flat = self.page.evaluate(
            """([height, width]) => Array.from({length: height * width}, (_, i) =>
                window.mmsam2.labelAt(i % width, Math.floor(i / width)) || 0)""",
            [height, width],
        )
        return np.array(flat, np.int64).reshape(height, width)

    def scores(self, object_id: int) -> list[int]:
        """Presence of an object on each frame, in percent; 255 without a mask."""
        return [int(score) for score in self.hook(f'scores({object_id})')]

    def frames_with_masks(self, object_id: int) -> list[int]:
        """Frames on which an object has a mask."""
        scores = self.scores(object_id)
        return [frame for frame, score in enumerate(scores) if score != NO_SCORE]

    @property
    def selected(self) -> list[int]:
        """Ids of the selected objects."""
        return [int(number) for number in self.hook('selection()')]

    def notices(self) -> str:
        """The text of all notices, once there is one."""
        box = self.page.locator('[data-testid^="notice-"]')
        box.first.wait_for()
        return ' '.join(box.all_inner_texts())

    def picture(self) -> NDArray[np.uint8]:
        """What the canvas looks like, (height, width, 3)."""
        png = self.control('viewer-canvas').screenshot()
        return np.asarray(Image.open(io.BytesIO(png)).convert('RGB'))

    # Controls -------------------------------------------------------------------------

    def control(self, name: str) -> Locator:
        """A control by its ``data-testid``."""
        return self.page.get_by_test_id(name)

    def press(self, keys: str) -> None:
        """Press keys with the focus on nothing that takes text."""
        self.page.keyboard.press(keys)

    def seek(self, frame_index: int) -> None:
        """Type the number of a frame, and wait until it is drawn."""
        field = self.control('frame-number')
        field.fill(str(frame_index))
        field.press('Enter')
        self.control('viewer-canvas').focus()
        self.wait_frame(frame_index)
        self.wait_idle()

    def wait_frame(self, frame_index: int) -> None:
        """Wait until a frame is drawn."""
        what = f'frame {frame_index} is not drawn'
        self.wait_for(lambda: self.hook('frame()') == frame_index, what)

    def row(self, object_id: int) -> Locator:
        """An object's row in the list."""
        return self.page.locator(
            f'[data-testid="object-row"][data-object="{object_id}"]'
        )

    def select(self, object_id: int) -> None:
        """Select an object on the time line."""
        self.page.locator(
            f'[data-testid="track-head"][data-object="{object_id}"]'
        ).click()

    def set_slider(self, name: str, value: float) -> None:
        """Move a slider."""
        self.control(name).fill(str(value))

    def choose_range(self, start: int, stop: int) -> None:
        """Drag over frames on the time line with Shift, the last one excluded."""
        box = self.control('timeline-tracks').bounding_box()
        assert box is not None
        last = self.control('frame-number').get_attribute('max')
        step = box['width'] / (int(last or 0) + 1)
        y = box['y'] + 4
        self.page.keyboard.down('Shift')
        self.page.mouse.move(box['x'] + (start + 0.5) * step, y)
        self.page.mouse.down()
        self.page.mouse.move(box['x'] + (stop - 0.5) * step, y, steps=4)
        self.page.mouse.up()
        self.page.keyboard.up('Shift')

    # The canvas -----------------------------------------------------------------------

    def on_page(self, position: Position) -> Position:
        """Convert a position in the frame to one in the window."""
        x, y = self.hook(f'toPage({position[0]}, {position[1]})')
        return float(x), float(y)

    def click(
        self, position: Position, *, button: str = 'left', keys: Sequence[str] = ()
    ) -> None:
        """Click on a position of the frame, and wait for the mask."""
        with self._held(keys):
            x, y = self.on_page(position)
            self.page.mouse.click(x, y, button=button)  # type: ignore[arg-type]
        self.wait_idle()

    def drag(self, positions: Sequence[Position], *, keys: Sequence[str] = ()) -> None:
        """Drag through positions of the frame, and wait for the mask."""
        first, *others = [self.on_page(position) for position in positions]
        with self._held(keys):
            self.page.mouse.move(*first)
            self.page.mouse.down()
            for position in others:
                self.page.mouse.move(*position, steps=4)
            self.page.mouse.up()
        self.wait_idle()

    def mark(self, clip: CellClip, *cells: int) -> None:
        """Make an object of each cell by a click on the current frame."""
        frame = self.frame
        self.press('p')
        for cell in cells:
            self.press('q')
            self.click(clip.center(cell, frame))

    @contextmanager
    def _held(self, keys: Sequence[str]) -> Iterator[None]:
        for key in keys:
            self.page.keyboard.down(key)
        yield
        for key in keys:
            self.page.keyboard.up(key)

    def download(self, action: Callable[[], None], path: Path) -> Path:
        """Do what starts a download and save it."""
        with self.page.expect_download(timeout=60 * SECONDS) as waiting:
            action()
        download: Download = waiting.value
        assert download.failure() is None
        target = path / download.suggested_filename
        download.save_as(target)
        return target
