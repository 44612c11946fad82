"""Memory is seen while it is held."""

import mmap
import time
from types import ModuleType

import psutil
import pytest

from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('benchmarks/resident_memory')


def test_resident_memory_is_that_of_the_system(tool: ModuleType) -> None:
    process = psutil.Process()  # type: ignore[no-untyped-call]
    expected = process.memory_info().rss / 2**20
    assert tool.resident_mb() == pytest.approx(expected, rel=0.05)


def test_peak_includes_memory_that_was_freed(tool: ModuleType) -> None:
    before = tool.resident_mb()
    # Pages of its own: the allocator might hand out some that are in memory.
    with tool.PeakMemory() as peak, mmap.mmap(-1, 100 * 2**20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        time.sleep(0.1)
    assert 80 < peak.max_mb - before < 150
