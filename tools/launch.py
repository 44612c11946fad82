"""Runs torchrun so that a run can be stopped with a checkpoint.

``tools/dist_train.sh`` starts it; its arguments are torchrun's. It passes SIGTERM,
SIGUSR1 and Ctrl-C (SIGINT) on to the training processes, which save a checkpoint and
exit, and waits for them. Torchrun itself would die of SIGUSR1; after the other two it
would kill the processes that are still alive 30 seconds later, and exit with 1.

The exit code is 75 if SIGTERM or SIGUSR1 stopped the run and 130 if Ctrl-C did, even if
torchrun has to kill some of the processes. Otherwise it is that of the processes, or 1
if they disagree.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

FORWARDED_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
TORCHRUN_SIGNALS = 'SIGHUP,SIGQUIT'  # those that torchrun itself handles
# As in ClipPreemptionHook, whose import would take seconds.
STOPPED, INTERRUPTED = 75, 130


def child_processes() -> list[int]:
    """Process ids of the processes that this one has started."""
    pids = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == os.getpid():
            pids.append(int(folder.name))
    return pids


def forward_signal(number: int, frame: FrameType | None) -> None:
    """Send a signal to the training processes."""
    pids = child_processes()
    if not pids:
        sys.exit(128 + number)  # none has started: the signal's usual exit code
    for pid in pids:
        os.kill(pid, number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the processes, wait for them and return the exit code."""
    options = get_args_parser().parse_args(arguments)
    if options.nproc_per_node != '1':  # torchrun sets it as well, with a warning
        os.environ.setdefault('OMP_NUM_THREADS', '1')
    # Versions of torch that ignore this save as well, but exit with 1.
    vars(options)['signals_to_handle'] = TORCHRUN_SIGNALS
    for number in FORWARDED_SIGNALS:
        signal.signal(number, forward_signal)
    try:
        run(options)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        details = ', '.join(f'process {rank}: {code}' for rank, code in codes.items())
        first = error.get_first_failure()[1].exitcode
        reasons = {
            STOPPED: 'Stopped by a signal, checkpoint saved',
            INTERRUPTED: 'Interrupted',
        }
        reason = reasons.get(first, 'The run failed')
        print(f'{reason}, with exit codes ({details}); see above', file=sys.stderr)
        # Only the first process tells how the run ended. After a stop, torchrun may
        # kill the others; after a crash, its SIGTERM makes them exit with 75.
        if first in reasons:
            return first
        (code, *others) = set(codes.values())
        return 1 if others or code < 0 else code
    return 0


if __name__ == '__main__':
    sys.exit(main())
