"""Masks of the golden and the published scores."""

from pathlib import Path
from types import ModuleType

import pytest

from golden_scores import discover_pairs, read_pair
from score_files import MaskPair
from tool_modules import load_tool


@pytest.fixture(params=discover_pairs())
def golden_pair(request: pytest.FixtureRequest) -> MaskPair:
    """Two masks that the released evaluator scored."""
    return read_pair(*request.param)


@pytest.fixture
def published(data_dir: Path) -> Path:
    """The folder of published predictions with published scores."""
    folder = data_dir / 'jf_published'
    if not folder.is_dir():
        pytest.skip(f'no {folder}: no published scores to compare with')
    return folder


@pytest.fixture(scope='session')
def literal() -> ModuleType:
    """J and F written out plainly, with the disk and maps as large as the frame."""
    return load_tool('benchmarks/plain_jf')
