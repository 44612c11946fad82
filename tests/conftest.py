"""Fixtures of all tests: global state, real clips, and the table of golden errors."""

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

import projects.sam2  # noqa: F401  before a tool creates the module without its parts
from golden_cases import WORST, error_table, join_errors
from plain_config_text import use_plain_config_text

MANAGERS = (MMLogger, MessageHub, Visualizer, DefaultScope)


@pytest.fixture(scope='session', autouse=True)
def _one_thread() -> None:
    """Use one thread, so that sums do not depend on the number of test processes."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def _plain_config_text() -> None:
    """Do not format the text of configs, which takes a quarter of a small run."""
    use_plain_config_text()


@pytest.fixture(scope='module', autouse=True)
def _freeze_imported_objects() -> None:
    """Exclude imported modules from the garbage collection of MMEngine's datasets.

    MMEngine collects whenever it builds a dataset, which takes half a second once the
    tests of the bridges have imported mmdet and mmseg.
    """
    gc.collect()  # what is frozen is never collected
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_mmengine() -> Iterator[None]:
    """Remove the loggers, hubs and scopes of a test's Runner."""
    yield
    for manager in MANAGERS:
        instances = manager._instance_dict
        for instance in instances.values():
            for handler in getattr(instance, 'handlers', ()):
                handler.close()
        instances.clear()


@pytest.fixture
def data_dir() -> Path:
    """Folder with the real clips; the test is skipped without it."""
    path = os.environ.get('SAM2_DATA_DIR')
    if not path:
        pytest.skip('SAM2_DATA_DIR is not set: no real clips to test on')
    folder = Path(path)
    if not folder.is_dir():
        pytest.skip(f'SAM2_DATA_DIR={folder} is not a folder: no real clips to test on')
    return folder


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the golden errors of a test process to the controller."""
    output = getattr(session.config, 'workeroutput', None)
    if output is not None:
        output['golden_errors'] = WORST


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Join the golden errors of a test process."""
    join_errors(getattr(node, 'workeroutput', {}).get('golden_errors', {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the largest golden error of each group."""
    if WORST:
        terminalreporter.section('largest errors against the golden numbers')
        terminalreporter.write('\n'.join(error_table()) + '\n')
