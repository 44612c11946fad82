"""The progress bar of the tools."""

import io
import threading

import pytest
from rich.console import Console

from tool_modules import load_tool


def test_bar_counts_up_to_the_end_without_a_thread() -> None:
    tool = load_tool('progress_bar')
    drawn = io.StringIO()
    before = threading.active_count()
    console = Console(file=drawn, force_terminal=True, width=100)
    with tool.progress_bar('Clips', console) as advance:
        for done in range(1, 8):
            advance(done, 7)
        assert threading.active_count() == before
        assert '7/7' in drawn.getvalue()
    assert 'Clips' in drawn.getvalue()
    assert '100%' in drawn.getvalue()


def test_without_a_terminal_a_line_is_printed_every_30_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = load_tool('progress_bar')
    now = 100.0
    monkeypatch.setattr(tool.time, 'monotonic', lambda: now)
    written = io.StringIO()
    with tool.progress_bar('Clips', Console(file=written)) as advance:
        for done in range(1, 71):
            now += 1
            advance(done, 70)
    assert written.getvalue().splitlines() == [
        'Clips: 31 of 70 after 31 s',
        'Clips: 62 of 70 after 62 s',
        'Clips: 70 of 70 after 70 s',
    ]


def test_bytes_are_shown_as_such() -> None:
    tool = load_tool('progress_bar')
    for console in (
        Console(file=io.StringIO(), force_terminal=True, width=100),
        Console(file=io.StringIO()),
    ):
        with tool.progress_bar('a.pt', console, in_bytes=True) as advance:
            advance(1_000_000, None)
            advance(2_500_000, 2_500_000)
        assert '2.5 MB' in console.file.getvalue()  # type: ignore[attr-defined]
