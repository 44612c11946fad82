"""Measure everything on a GPU in one run of eight minutes: training, video, images.

    python tools/benchmarks/gpu_suite.py --out work_dirs/gpu_suite
    python tools/benchmarks/gpu_suite.py --only training video --minutes 20
    python tools/benchmarks/gpu_suite.py --also operators tests

OUT gets results.json, complete after each row, tables.md for docs/benchmarks.md, and
log.txt. Each section runs in a process of its own: where one fails, or is out of memory
or time, the others go on. A short time means fewer rounds, not fewer rows.

Without a GPU, or with --toy, everything is measured on tiny sizes, to see that the
suite runs. The exit code is 1 if a row or a section failed, but not for want of memory.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from gpu_tables import (  # type: ignore[import-not-found]
    LEFT_OUT,
    NOTE,
    OUT_OF_MEMORY,
    SECTIONS,
    Section,
    cell,
    tables,
)

from projects.sam2.engine.command_line import call_tool

Results = dict[str, Any]
MARK = '@gpu_suite '  # begins the lines of a section's process that the suite reads
SECONDS_TO_END = 20  # kept for each later section when one does not end


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    optional = [name for name, section in SECTIONS.items() if section.is_optional]
    usual = [name for name in SECTIONS if name not in optional]
    add('--out', type=Path, default=Path('work_dirs/gpu_suite'), help='folder')
    add('--minutes', type=float, default=8.0, help='for all sections (default 8)')
    add('--only', nargs='+', choices=list(SECTIONS), help=f'default: {" ".join(usual)}')
    add('--also', nargs='+', choices=optional, default=[], help='optional sections')
    add('--toy', action='store_true', help='tiny sizes on the CPU')
    add(
        '--one-process',
        action='store_true',
        help='run the sections in this process, for a debugger',
    )
    add('--section', choices=list(SECTIONS), help=argparse.SUPPRESS)
    add('--seconds', type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.minutes < float('inf'):
        parser.error(f'--minutes is {options.minutes:g}; give more than 0')
    options.names = options.only or [*usual, *options.also]
    return options


def measure_section(
    name: str, options: argparse.Namespace, seconds: float, tell: Callable[..., None]
) -> None:
    """Measure a section in this process.

    Args:
        tell: Receives ``machine=...`` once, then ``row=...`` for each row.
    """
    import torch
    from gpu_device import (  # type: ignore[import-not-found]
        HostDevice,
        find_device,
    )
    from gpu_measurement import (  # type: ignore[import-not-found]
        FULL,
        TOY,
        SectionRun,
    )
    from gpu_sections import run_section  # type: ignore[import-not-found]

    device = HostDevice() if options.toy else find_device()
    is_toy = device.name == 'cpu'
    if is_toy:
        torch.set_num_threads(1)  # more would wait for each other on such sizes
    tell(machine=device.describe(), is_toy=is_toy)
    run = SectionRun(
        device,
        TOY if is_toy else FULL,
        seconds=seconds,
        emit=lambda row: tell(row=row),
    )
    run_section(name, run)


class Suite:
    """Runs sections and writes what they measure.

    Args:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.results: Results = {
            'date': datetime.now(timezone.utc).strftime('%Y-%m-%d'),
            'command': sys.argv[1:],
            'sections': {},
        }
        self._end = time.monotonic() + 60 * options.minutes
        options.out.mkdir(parents=True, exist_ok=True)

    @property
    def has_failed(self) -> bool:
        """Whether a row or a section has failed."""
        sections = self.results['sections'].values()
        notes = [row.get(NOTE) for entry in sections for row in entry['rows']]
        return any('failure' in entry for entry in sections) or any(
            note not in {None, OUT_OF_MEMORY} for note in notes
        )

    def run(self) -> None:
        """Run all sections."""
        names = self.options.names
        with (self.options.out / 'log.txt').open('w', encoding='utf-8') as log:
            for index, name in enumerate(names):
                shares = [SECTIONS[later].share for later in names[index:]]
                left = max(self._end - time.monotonic(), 0)
                limit = max(left - SECONDS_TO_END * (len(shares) - 1), SECONDS_TO_END)
                self._run_section(name, left * shares[0] / sum(shares), limit, log)

    def _run_section(
        self, name: str, seconds: float, limit: float, log: TextIO
    ) -> None:
        section = SECTIONS[name]
        print(f'\n{section.title}', flush=True)
        entry: dict[str, Any] = {'rows': []}
        self.results['sections'][name] = entry
        start = time.monotonic()

        def tell(**news: Any) -> None:
            if 'machine' in news:
                entry['state'] = news['machine'].pop('state', None)
                self.results.setdefault('machine', news['machine'])
                self.results['is_toy'] = news['is_toy']
            elif LEFT_OUT in news['row']:
                entry.update(news['row'])
                print(f'  Left out: {entry[LEFT_OUT]}', flush=True)
            else:
                entry['rows'].append(news['row'])
                show(section, news['row'])
            self.write()

        if self.options.one_process:
            try:
                measure_section(name, self.options, seconds, tell)
            except Exception as error:  # noqa: BLE001  the other sections go on
                traceback.print_exc()
                entry['failure'] = f'The section failed: {error}'
        else:
            for news in self._child(name, seconds, limit, log, entry):
                tell(**news)
        entry['seconds'] = round(time.monotonic() - start, 1)
        if 'failure' in entry:
            print(f'  {entry["failure"]}', flush=True)
        self.write()

    def _child(
        self,
        name: str,
        seconds: float,
        limit: float,
        log: TextIO,
        entry: dict[str, Any],
    ) -> Iterator[dict[str, Any]]:
        """Run a section in a process of its own, and yield what it tells."""
        command = [sys.executable, __file__, '--section', name, f'--seconds={seconds}']
        command += ['--toy'] * self.options.toy
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            start_new_session=True,  # ends with the compiler's processes
        ) as process:
            too_late = threading.Event()

            def give_up() -> None:
                too_late.set()
                kill(process)

            timer = threading.Timer(limit, give_up)
            timer.start()
            last = ''
            try:
                for line in process.stdout or ():
                    if line.startswith(MARK):
                        yield json.loads(line.removeprefix(MARK))
                    else:
                        log.write(line)
                        log.flush()
                        last = line.strip() or last
                code = process.wait()
            finally:
                timer.cancel()
                kill(process)
        if too_late.is_set():
            entry['failure'] = f'The section did not end within {limit:.0f} s'
        elif code:
            entry['failure'] = f'The section ended with code {code}: {last}'

    def write(self) -> None:
        """Write the results so far, and their tables."""
        out = self.options.out
        text = json.dumps(self.results, indent=2, ensure_ascii=False)
        (out / 'results.json').write_text(text + '\n', encoding='utf-8')
        (out / 'tables.md').write_text(tables(self.results), encoding='utf-8')


def stop(number: int, _: object) -> None:
    """End this process as an error does, so that its section ends too."""
    sys.exit(128 + number)


def kill(process: 'subprocess.Popen[str]') -> None:
    """End a process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def show(section: Section, row: dict[str, Any]) -> None:
    """Print a row."""
    columns = {**section.columns, NOTE: NOTE}
    cells = [
        f'{heading} {cell(row[key])}'.strip()
        for key, heading in columns.items()
        if key in row
    ]
    print(f'  {"; ".join(cells)}', flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite, or one of its sections for the process that started this one."""
    options = parse_arguments(arguments)
    if options.section is not None:

        def tell(**news: Any) -> None:
            print(f'{MARK}{json.dumps(news)}', flush=True)

        measure_section(options.section, options, options.seconds, tell)
        return 0
    suite = Suite(options)
    before = signal.signal(signal.SIGTERM, stop)  # a section would go on alone
    try:
        suite.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f'\nWritten to {options.out}: results.json, tables.md, log.txt')
    return int(suite.has_failed)


if __name__ == '__main__':
    call_tool(main, exit_code=2)
