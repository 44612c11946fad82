"""What every test shares: quiet globals and the real clips, where they are at hand."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

MANAGERS = (MMLogger, MessageHub, Visualizer, DefaultScope)


@pytest.fixture(scope='session', autouse=True)
def _one_thread() -> None:
    """Sums are the same however many workers run side by side."""
    torch.set_num_threads(1)


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
