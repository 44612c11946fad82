"""A progress bar for tools whose work is done in other processes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

REFRESH_EVERY = 0.2  # seconds
LINE_EVERY = 30.0  # seconds; where there is no terminal, as in the log of a job


@contextmanager
def progress_bar(
    description: str, console: Console | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Show how far some work is, on standard error.

    It draws when it is told of progress and never by itself: processes are started
    meanwhile, which must not inherit a thread's locks. Where standard error is no
    terminal, it writes a line now and then.

    Args:
        console: Where to draw; None for standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(description, console)
        return
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    last = 0.0
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        bar = progress.add_task(description, total=None)

        def advance(done: int, total: int) -> None:
            nonlocal last
            progress.update(bar, completed=done, total=total)
            if done == total or time.monotonic() - last > REFRESH_EVERY:
                last = time.monotonic()
                progress.refresh()

        yield advance


def _lines(description: str, console: Console) -> Callable[[int, int], None]:
    """Writes a line now and then, and one when all is done."""
    begun = last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last > LINE_EVERY:
            last = now
            console.print(
                f'{description}: {done} of {total} after {now - begun:.0f} s',
                highlight=False,
                soft_wrap=True,
            )

    return advance
