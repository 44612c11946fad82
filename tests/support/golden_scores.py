"""Golden scores of single masks and of videos, as many as the files hold."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from golden_cases import (
    GoldenCase,
    discover,
    golden_dir,
    unpack_archive,
    unpack_masks,
)
from score_files import MaskPair

PARTS = ('hw', 'gt_bits', 'pred_bits', 'gt_bmap_bits', 'bound_pix', 'JF')


def skipped(what: str) -> list[Any]:
    """One parameter that skips and says what is missing."""
    reason = f'no {what} in {golden_dir()}; set SAM2_GOLDEN_DIR'
    return [pytest.param(None, id=what, marks=pytest.mark.skip(reason=reason))]


def discover_pairs() -> list[Any]:
    """Parameters: file and name of each pair of masks."""
    found = [
        pytest.param((path, name), id=f'{name}-{path.stem}')
        for path in sorted(golden_dir().glob('jf_pairs*.npz'))
        for name in sorted({key.partition('/')[0] for key in np.load(path)})
    ]
    return found or skipped('jf_pairs*.npz')


def read_pair(path: Path, name: str) -> MaskPair:
    """Two masks and their scores; the test skips where a part of them is absent."""
    arrays: Mapping[str, NDArray[Any]] = np.load(path)
    absent = [part for part in PARTS if f'{name}/{part}' not in arrays]
    if absent:
        pytest.skip(f'{path.name} holds no {absent} of {name}')
    shape = tuple(int(side) for side in arrays[f'{name}/hw'])
    truth, pred, contour = (
        unpack_masks(arrays[f'{name}/{part}_bits'], shape).numpy()
        for part in ('gt', 'pred', 'gt_bmap')
    )
    return MaskPair(
        truth=truth,
        pred=pred,
        contour=contour,
        radius=int(arrays[f'{name}/bound_pix']),
        j=float(arrays[f'{name}/JF'][0]),
        f=float(arrays[f'{name}/JF'][1]),
    )


class GoldenScores:
    """Scores of the released evaluator on one set of videos.

    Args:
        case: A file of results.
        name: Of the set and of how its ends count, ``pal_skip`` or ``pal_noskip``.
    """

    def __init__(self, case: GoldenCase, name: str) -> None:
        self.case = case
        self.kind, _, self.ends = name.rpartition('_')
        self.videos: dict[str, dict[str, dict[str, float]]] = case.spec['results'][
            name
        ].get('objects', {})

    @cached_property
    def skip_ends(self) -> bool:
        """Whether the first and the last frame do not count."""
        if self.ends not in {'skip', 'noskip'}:
            pytest.skip(f'{self.case.name}: are ends skipped in {self.ends!r}?')
        return self.ends == 'skip'

    def unpack(self, folder: Path) -> tuple[Path, Path]:
        """Unpack the synthetic masks; the test skips where they are absent."""
        suffix = self.case.name.removeprefix('jf_results')
        archives = [golden_dir() / f'jf_data{end}.tar.gz' for end in (suffix, '')]
        present = [archive for archive in archives if archive.is_file()]
        if not present:
            pytest.skip(f'no {archives[0]}; set SAM2_GOLDEN_DIR')
        unpack_archive(present[0], folder)
        found = [next(folder.rglob(f'{self.kind}_{k}'), None) for k in ('gt', 'pred')]
        if found[0] is None or found[1] is None:
            pytest.skip(f'{present[0].name} has no {self.kind}_gt and {self.kind}_pred')
        return found[0], found[1]


def discover_scores() -> list[Any]:
    """Parameters: the sets of videos with released scores."""
    cases = [parameter.values[0] for parameter in discover('jf_results*')]
    found = [
        pytest.param(GoldenScores(case, name), id=f'{name}-{case.name}')
        for case in cases
        if case is not None
        for name in case.spec['results']
    ]
    return found or skipped('jf_results*.json')
