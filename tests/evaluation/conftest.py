"""Masks of the golden and the published scores."""

import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from golden_cases import golden_dir, unpack_masks
from score_files import MaskPair

NUM_PAIRS = 8


@pytest.fixture(params=range(NUM_PAIRS))
def golden_pair(request: pytest.FixtureRequest) -> MaskPair:
    path = golden_dir() / 'jf_pairs.npz'
    if not path.is_file():
        pytest.skip(f'no {path}; set SAM2_GOLDEN_DIR')
    arrays: Mapping[str, NDArray[Any]] = np.load(path)
    prefix = f'pair{request.param}'
    shape = tuple(int(side) for side in arrays[f'{prefix}/hw'])
    truth, pred, contour = (
        unpack_masks(arrays[f'{prefix}/{name}_bits'], shape).numpy()
        for name in ('gt', 'pred', 'gt_bmap')
    )
    return MaskPair(
        truth=truth,
        pred=pred,
        contour=contour,
        radius=int(arrays[f'{prefix}/bound_pix']),
        j=float(arrays[f'{prefix}/JF'][0]),
        f=float(arrays[f'{prefix}/JF'][1]),
    )


@pytest.fixture(scope='session')
def golden_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``jf`` of the golden predictions."""
    archive = golden_dir() / 'jf_data.tar.gz'
    if not archive.is_file():
        pytest.skip(f'no {archive}; set SAM2_GOLDEN_DIR')
    folder = tmp_path_factory.mktemp('jf')
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter='data')
    return folder / 'jf'


@pytest.fixture(scope='session')
def golden_results() -> dict[str, Any]:
    """Published evaluator's results by case."""
    path = golden_dir() / 'jf_results.json'
    if not path.is_file():
        pytest.skip(f'no {path}; set SAM2_GOLDEN_DIR')
    results: dict[str, Any] = json.loads(path.read_text())['results']
    return results


@pytest.fixture
def published(data_dir: Path) -> Path:
    """The folder of published predictions with published scores."""
    folder = data_dir / 'jf_published'
    if not folder.is_dir():
        pytest.skip(f'no {folder}: no published scores to compare with')
    return folder
