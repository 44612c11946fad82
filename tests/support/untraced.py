"""Code that runs without the measurement of coverage."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def untraced() -> Iterator[None]:
    """Pause the measurement of coverage in this thread.

    Compiling and exporting call millions of short functions of torch, which take twice
    as long while each call is looked at.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
