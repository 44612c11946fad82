"""Generated clips, made once."""

from pathlib import Path

import pytest

from end_to_end_runs import write_clips


@pytest.fixture(scope='session')
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips to train on and three to validate on; not to be changed."""
    return write_clips(tmp_path_factory.mktemp('clips'), train=6, val=3)
