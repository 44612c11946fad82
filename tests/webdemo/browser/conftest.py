"""A running demo and a browser for the tests of the page."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from demo_page import BROWSER_OPTIONS, DemoPage, OpenPage, find_browser
from demo_process import CellClip, DemoServer


# Not for the session: while playwright runs, its event loop is the running one of the
# thread, and other tests could start none.
@pytest.fixture(scope='module')
def browser() -> Iterator[Browser]:
    """Chromium; without it tests are skipped, or fail under SAM2_REQUIRE_BROWSER=1."""
    path = find_browser()
    if path is None:
        reason = 'there is no Chromium: apt-get install chromium'
        if os.environ.get('SAM2_REQUIRE_BROWSER'):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=BROWSER_OPTIONS
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope='session')
def clip() -> CellClip:
    """The clip that most tests annotate."""
    return CellClip()


@pytest.fixture(scope='session')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A server that the tests share; each opens a session of its own."""
    running = DemoServer(tmp_path_factory.mktemp('demo'))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope='session')
def video(server: DemoServer, clip: CellClip) -> Path:
    """The clip as an mp4 in the root of the server."""
    return clip.write(server.folder / 'cells.mp4')


@pytest.fixture
def open_page(browser: Browser, server: DemoServer) -> Iterator[OpenPage]:
    """Opens tabs; errors in them fail the test."""
    pages: list[DemoPage] = []

    def open_(at: DemoServer = server, **settings: Any) -> DemoPage:
        pages.append(DemoPage(browser, at, **settings))
        return pages[-1]

    yield open_
    for page in pages:
        page.close()
    for page in pages:
        page.check()


@pytest.fixture
def page(open_page: OpenPage, server: DemoServer, video: Path) -> DemoPage:
    """A tab with a new session on the clip."""
    tab = open_page()
    tab.open(server.create_session(video))
    return tab
