"""The start page: where sessions come from and where they are found again."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from demo_page import DemoPage, OpenPage, browser_test
from demo_process import CellClip, DemoServer

pytestmark = browser_test


@pytest.fixture
def start(open_page: OpenPage) -> DemoPage:
    """A tab with the start page."""
    page = open_page()
    page.open()
    return page


def test_an_example_is_opened_with_a_click(start: DemoPage) -> None:
    start.page.locator('[data-testid^="example-"]').first.click()
    start.control('workspace').wait_for()
    start.wait_idle()
    assert start.picture().std() > 5


def test_a_file_is_found_in_the_root(
    start: DemoPage, video: Path, clip: CellClip
) -> None:
    entries = start.control('browser-entry')
    entries.first.wait_for()
    if video.name not in ' '.join(entries.all_inner_texts()):
        entries.first.click()
    start.control('browser-filter').fill(video.stem)
    entries.filter(has_text=video.name).click()
    start.wait_idle()
    expect(start.control('frame-count')).to_contain_text(str(len(clip.frames)))


def test_a_video_is_uploaded(start: DemoPage, clip: CellClip, tmp_path: Path) -> None:
    path = clip.write(tmp_path / 'Täst & <b>.mp4')
    start.control('upload-files').set_input_files(path)
    start.control('workspace').wait_for()
    start.wait_idle()
    assert start.control('session-name').input_value().startswith('Täst')


def test_stills_are_uploaded(start: DemoPage, clip: CellClip, tmp_path: Path) -> None:
    folder = clip.write(tmp_path / 'stills')
    start.control('new-kind-images').click()
    start.control('upload-files').set_input_files(sorted(folder.iterdir())[:3])
    start.control('workspace').wait_for()
    start.wait_idle()
    expect(start.control('frame-count')).to_contain_text('3')


def test_a_file_that_is_no_video_is_refused_in_words(
    start: DemoPage, tmp_path: Path
) -> None:
    start.expect_errors('4[0-9][0-9]')
    path = tmp_path / 'clip.mp4'
    path.write_text('<script>alert(1)</script>', 'utf-8')
    start.control('upload-files').set_input_files(path)
    assert 'clip.mp4' in start.notices()


def test_a_session_is_renamed_opened_again_and_deleted(
    start: DemoPage, server: DemoServer, video: Path, clip: CellClip
) -> None:
    session = server.create_session(video, name='first')
    start.control('refresh-sessions').click()
    card = start.page.locator(f'[data-session="{session}"]')
    card.get_by_test_id('session-open').click()
    start.wait_idle()
    start.mark(clip, 1)
    start.control('session-name').fill('Second name')
    start.control('session-name').press('Enter')
    start.control('go-home').click()
    expect(card).to_contain_text('Second name')
    expect(card).to_contain_text('1 object')
    card.get_by_test_id('session-open').click()
    start.wait_idle()
    assert set(start.visible_masks()) == {1}
    start.control('go-home').click()
    card.get_by_test_id('session-delete').click()
    start.control('delete-confirm').click()
    expect(card).to_have_count(0)
    assert video.is_file()


def test_every_control_has_a_name(start: DemoPage, video: Path) -> None:
    nameless = """() => [...document.querySelectorAll(
        'button, input, select, a, [role=button], [role=slider], [tabindex]')]
        .filter((e) => e.checkVisibility())
        .filter((e) => !(e.getAttribute('aria-label') || e.innerText.trim() ||
            e.title || e.closest('label')?.innerText.trim() ||
            document.getElementById(e.getAttribute('aria-labelledby'))))
        .map((e) => e.outerHTML)"""
    assert start.page.evaluate(nameless) == []
    start.open(start.server.create_session(video))
    assert start.page.evaluate(nameless) == []
    for tab in ('proposals', 'effects'):
        start.control(f'tab-{tab}').click()
        assert start.page.evaluate(nameless) == []
    for name in ('export', 'import', 'train', 'models', 'help'):
        start.control(f'open-{name}').click()
        start.page.get_by_role('dialog').wait_for()
        assert start.page.evaluate(nameless) == []
        start.press('Escape')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('size', [(1280, 720), (1024, 768)])
def test_nothing_is_cut_off(
    open_page: OpenPage,
    server: DemoServer,
    video: Path,
    scheme: str,
    size: tuple[int, int],
) -> None:
    width, height = size
    page = open_page(viewport={'width': width, 'height': height}, color_scheme=scheme)
    page.open(server.create_session(video))
    assert page.page.evaluate(
        'document.documentElement.scrollWidth <= innerWidth &&'
        'document.documentElement.scrollHeight <= innerHeight'
    )
    outside = """() => [...document.querySelectorAll('button, input, select')]
        .filter((e) => e.checkVisibility({visibilityProperty: true}))
        .map((e) => [e, e.getBoundingClientRect()])
        .filter(([e, r]) => r.width && (r.right > innerWidth + 1 || r.left < -1))
        .map(([e]) => e.outerHTML.slice(0, 200))"""
    assert page.page.evaluate(outside) == []
    color = page.page.evaluate('getComputedStyle(document.body).backgroundColor')
    brightness = sum(map(int, re.findall(r'\d+', color)[:3])) / 3
    assert (brightness > 128) == (scheme == 'light')
