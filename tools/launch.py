"""torchrun, made fit for clusters: what ``tools/dist_train.sh`` starts.

SIGTERM, SIGUSR1 and Ctrl-C (SIGINT) are handed on to the processes that train, which
save and end: the second one would end torchrun alone, after the others torchrun would
kill what has not ended within 30 seconds, and its exit code is 1 whatever the processes
do. The exit code is 75 for a run that SIGTERM or SIGUSR1 stopped and 130 for one that
Ctrl-C stopped, even if torchrun has to end the rest of it; else that of the processes
where they agree. Arguments are torchrun's.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

HANDED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
OWN = 'SIGHUP,SIGQUIT'
# ClipPreemptionHook's; to import that takes seconds that a launcher does not need.
STOPPED, INTERRUPTED = 75, 130


def children() -> list[int]:
    """Processes that this one has started."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        try:
            fields = (folder / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == os.getpid():
            found.append(int(folder.name))
    return found


def hand_on(number: int, frame: FrameType | None) -> None:
    """Send a signal to the processes that train."""
    pids = children()
    if not pids:
        sys.exit(128 + number)  # none has started yet: as if nobody had listened
    for pid in pids:
        os.kill(pid, number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the processes and wait for them.

    Args:
        arguments: torchrun's; None takes those of the process.

    Returns:
        0, or the exit code of the processes that failed.
    """
    options = get_args_parser().parse_args(arguments)
    # Older torch does not ask for it: a run saves there, too, but the code is 1.
    vars(options)['signals_to_handle'] = OWN
    for number in HANDED_ON:
        signal.signal(number, hand_on)
    try:
        run(options)
    except ChildFailedError as error:
        codes = {rank: failed.exitcode for rank, failed in error.failures.items()}
        named = ', '.join(f'process {rank}: {code}' for rank, code in codes.items())
        first = error.get_first_failure()[1].exitcode
        is_stopped = first in {STOPPED, INTERRUPTED}
        what = {STOPPED: 'Stopped by a signal, and saved', INTERRUPTED: 'Interrupted'}
        how = what.get(first, 'Ended early')
        print(f'{how}, with exit codes ({named}); see above', file=sys.stderr)
        # What the others do then no longer matters: all is saved. After a crash,
        # though, torchrun's own SIGTERM may stop them in the same way.
        if is_stopped:
            return first
        (code, *others) = set(codes.values())
        return 1 if others or code < 0 else code
    return 0


if __name__ == '__main__':
    sys.exit(main())
