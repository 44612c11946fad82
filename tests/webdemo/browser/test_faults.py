"""What goes wrong around the page, and what the page does about it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo_page import DemoPage, OpenPage, browser_test
from demo_process import CellClip, DemoServer
from demo_truth import PredictorTruth, assert_same_masks

pytestmark = browser_test

LOST = r'ERR_|WebSocket|Failed to load resource|NetworkError'


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[DemoServer]:
    """A server that the test may kill."""
    running = DemoServer(tmp_path)
    running.start()
    yield running
    running.stop()


def test_after_a_kill_everything_but_the_running_frame_is_there(
    own_server: DemoServer, open_page: OpenPage
) -> None:
    clip = CellClip(num_frames=240)
    video = clip.write(own_server.folder / 'long.mp4')
    page = open_page(own_server)
    page.expect_errors(LOST)
    page.open(own_server.create_session(video))
    page.mark(clip, 1)
    page.press('t')
    page.wait_for(lambda: len(page.frames_with_masks(1)) >= 40, 'nothing is tracked')
    seen = page.frames_with_masks(1)
    own_server.kill()
    page.control('banner-connection').wait_for()
    own_server.start()
    page.control('banner-recovered').wait_for()
    page.wait_idle()
    frames = page.frames_with_masks(1)
    assert frames == list(range(len(frames)))
    assert len(frames) >= len(seen)
    truth = PredictorTruth(video)
    truth.prompt(page.objects[1], 0)
    tracked = truth.propagate(stop=frames[-1])
    for frame in (0, frames[-1] // 2, frames[-1]):
        assert_same_masks(page.masks_at(frame), tracked[frame])
    page.press('Control+z')
    page.wait_idle()
    assert page.frames_with_masks(1) == [0]


def test_a_pass_goes_on_without_the_page(page: DemoPage, clip: CellClip) -> None:
    page.expect_errors(LOST)
    page.mark(clip, 1, 2)
    page.press('t')
    page.hook('cut()')
    page.wait_for(lambda: page.hook('connected()'), 'the page stays offline')
    page.wait_pass()
    assert page.frames_with_masks(2) == list(range(len(clip.frames)))


def test_a_full_disk_is_named_and_the_session_stays_whole(
    own_server: DemoServer, open_page: OpenPage, clip: CellClip
) -> None:
    page = open_page(own_server)
    video = clip.write(own_server.folder / 'cells.mp4')
    page.open(own_server.create_session(video))
    page.mark(clip, 1)
    before = page.masks()[1]
    log = max(own_server.sessions.rglob('masks.bin'))
    own_server.limit_files(log.stat().st_size + 4)
    page.press('t')
    banner = page.control('banner-notice')
    banner.wait_for()
    assert 'disk' in banner.inner_text().lower() or 'space' in banner.inner_text()
    page.wait_idle()
    np.testing.assert_array_equal(page.masks_at(0)[1], before)
    own_server.limit_files(-1)
    page.press('t')
    assert page.wait_pass() == 'done'
    assert page.frames_with_masks(1) == list(range(len(clip.frames)))


def test_a_broken_frame_is_named_and_tracking_passes_it(
    server: DemoServer, open_page: OpenPage, clip: CellClip
) -> None:
    folder = clip.write(server.folder / 'broken_frames')
    path = folder / '00005.png'
    path.write_bytes(path.read_bytes()[:300])
    page = open_page()
    page.expect_errors('422')
    page.open(server.create_session(folder, kind='video'))
    page.mark(clip, 1)
    page.press('t')
    assert page.wait_pass() == 'done'
    page.press('End')
    page.wait_frame(len(clip.frames) - 1)
    frames = page.frames_with_masks(1)
    assert frames == [n for n in range(len(clip.frames)) if n != 5]
    page.control('frame-number').fill('5')
    page.control('frame-number').press('Enter')
    banner = page.control('banner-broken-frame')
    banner.wait_for()
    assert '5' in banner.inner_text()


def test_two_tabs_show_the_same(
    server: DemoServer, open_page: OpenPage, clip: CellClip, video: Path
) -> None:
    session = server.create_session(video)
    first, second = open_page(), open_page()
    first.open(session)
    second.open(session)
    first.mark(clip, 1)
    second.wait_for(lambda: set(second.objects) == {1}, 'the tab hears nothing')
    second.wait_idle()
    np.testing.assert_array_equal(second.masks()[1], first.masks()[1])
