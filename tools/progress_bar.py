"""A progress bar for tools that work in other processes or wait for a network."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TransferSpeedColumn,
)

REFRESH_SECONDS = 0.2
LINE_SECONDS = 30.0  # between the lines of a log file


@contextmanager
def progress_bar(
    description: str, console: Console | None = None, *, in_bytes: bool = False
) -> Iterator[Callable[[int, int | None], None]]:
    """Show progress on standard error, or on another console.

    Yields ``advance(num_done, num_total)``, which draws the bar. There is no refresh
    thread: forked worker processes would inherit its locks. Without a terminal, a line
    is printed every 30 s.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(description, console, in_bytes=in_bytes)
        return
    counts: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if in_bytes:
        counts = (DownloadColumn(), TransferSpeedColumn())
    columns = (*Progress.get_default_columns(), *counts)
    last = 0.0
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        bar = progress.add_task(description, total=None)

        def advance(done: int, total: int | None) -> None:
            nonlocal last
            progress.update(bar, completed=done, total=total)
            if done == total or time.monotonic() - last > REFRESH_SECONDS:
                last = time.monotonic()
                progress.refresh()

        yield advance


def _lines(
    description: str, console: Console, *, in_bytes: bool
) -> Callable[[int, int | None], None]:
    start = last = time.monotonic()

    def count(number: int | None) -> str:
        if number is None:
            return '?'
        return f'{number / 1e6:.1f} MB' if in_bytes else str(number)

    def advance(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last > LINE_SECONDS:
            last = now
            seconds = f'{now - start:.0f} s'
            console.print(
                f'{description}: {count(done)} of {count(total)} after {seconds}',
                highlight=False,
                soft_wrap=True,
            )

    return advance
