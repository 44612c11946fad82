"""The progress bar of the tools."""

import io
import threading

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
