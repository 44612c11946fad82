"""What every test shares: quiet globals and the real clips, where they are at hand."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from golden_cases import WORST, error_table, join_errors
from plain_config_text import use_plain_config_text

MANAGERS = (MMLogger, MessageHub, Visualizer, DefaultScope)


@pytest.fixture(scope='session', autouse=True)
def _one_thread() -> None:
    """Sums are the same however many workers run side by side."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def _plain_config_text() -> None:
    """Text that nobody reads is not laid out."""
    use_plain_config_text()


@pytest.fixture(scope='session', autouse=True)
def _imported_is_no_garbage() -> None:
    """Spare MMEngine's datasets, which collect garbage each, what modules hold."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_mmengine() -> Iterator[None]:
    """Forget the loggers, hubs and scopes that a test's Runner left behind."""
    yield
    for manager in MANAGERS:
        instances = manager._instance_dict
        for instance in instances.values():
            for handler in getattr(instance, 'handlers', ()):
                handler.close()
        instances.clear()


@pytest.fixture
def data_dir() -> Path:
    """Folder with the real clips; the test is skipped where it is not given."""
    given = os.environ.get('SAM2_DATA_DIR')
    if not given:
        pytest.skip('SAM2_DATA_DIR is not set: no real clips to test on')
    folder = Path(given)
    if not folder.is_dir():
        pytest.skip(f'SAM2_DATA_DIR={folder} is not a folder: no real clips to test on')
    return folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the golden errors of a test process to the controlling one."""
    output = getattr(session.config, 'workeroutput', None)
    if output is not None:
        output['golden_errors'] = WORST


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Join what a test process handed over."""
    join_errors(getattr(node, 'workeroutput', {}).get('golden_errors', {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show how near the golden numbers are, group by group."""
    if WORST:
        terminalreporter.section('largest errors against the golden numbers')
        terminalreporter.write('\n'.join(error_table()) + '\n')
