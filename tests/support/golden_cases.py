"""Golden numbers of the released SAM 2: cases, comparison, and the largest errors."""

import importlib.util
import json
import math
import os
import re
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Worst = dict[str, tuple[float, float]]

WORST: Worst = {}


def note_error(error: float, tolerance: float) -> None:
    """Remember an error of the running test, if it is the largest of its group.

    Each tolerance has its own group, so that no error hides behind a looser tolerance.

    Args:
        tolerance: What is allowed; 0 where all has to be equal.
    """
    case = re.search(r'\[(.+)\]', os.environ.get('PYTEST_CURRENT_TEST', ''))
    if case is None:
        return
    name = case.group(1).rpartition('-')[2]
    group = name.rpartition('_')[0] or name
    allowed = f'at most {tolerance:.0e}' if tolerance else 'exact'
    join_errors({f'{group} ({allowed})': (error, tolerance)})


def join_errors(others: Mapping[str, tuple[float, float]]) -> None:
    """Take the larger error of each group."""
    for group, (error, tolerance) in others.items():
        if error >= WORST.get(group, (-1.0, 0.0))[0]:
            WORST[group] = error, tolerance


def error_table() -> list[str]:
    """One line for each group, by name."""
    return [f'{group:44s} {error:.1e}' for group, (error, _) in sorted(WORST.items())]


COMMITTED = Path(__file__).resolve().parents[1] / 'golden'
COMMITTED_VARIANTS = COMMITTED.with_name('golden_variants')


def golden_dir() -> Path:
    """Folder of the golden data: ``SAM2_GOLDEN_DIR``, else the committed set."""
    return Path(os.environ.get('SAM2_GOLDEN_DIR', COMMITTED))


def variants_dir() -> Path:
    """Folder of the golden data of the family, else the committed set."""
    return Path(os.environ.get('SAM2_GOLDEN_VARIANTS_DIR', COMMITTED_VARIANTS))


@lru_cache(maxsize=1)
def golden_weights() -> ModuleType:
    """The generator of weights and inputs that the golden data was made with."""
    return _load_generator(COMMITTED / 'golden_weights.py')


@lru_cache(maxsize=1)
def variant_weights() -> ModuleType:
    """The generator for EdgeTAM and EfficientTAM; for SAM 2's keys the same values."""
    sys.modules.setdefault('golden_weights', golden_weights())  # which it imports
    return _load_generator(COMMITTED_VARIANTS / 'golden_weights_variants.py')


@lru_cache(maxsize=4)
def variants_module(name: str) -> ModuleType:
    """A module that generates weights, beside the golden data of the family."""
    return _load_generator(COMMITTED_VARIANTS / f'{name}.py')


def _load_generator(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class GoldenCase:
    """One ``<name>.json`` with its arrays in ``<name>.npz``."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the case, the stem of its files."""
        return self.path.stem

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Content of the json file."""
        loaded: dict[str, Any] = json.loads(self.path.read_text())
        return loaded

    @cached_property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Arrays of the npz file, read on access."""
        loaded: Mapping[str, NDArray[Any]] = np.load(self.path.with_suffix('.npz'))
        return loaded

    def input(self, tag: str, shape: tuple[int, ...], scale: float = 1.0) -> Tensor:
        """Input tensor ``tag`` of the case (its salt applied)."""
        array = golden_weights().tensor(tag, shape, self.spec['salt'], scale)
        return torch.from_numpy(array)

    def stated_input(self, words: str) -> Tensor:
        """Input that a golden file states as ``tensor('<tag>',(<shape>))``.

        The test is skipped where it is stated otherwise.
        """
        found = re.search(r"tensor\('(\w+)', ?\(([\d, ]+)\)\)", words)
        if found is None:
            return pytest.skip(f'{self.name} does not state its input: {words!r}')
        tag, shape = found.groups()
        return self.input(tag, tuple(int(side) for side in shape.split(',')))


def discover(pattern: str, *, without: tuple[str, ...] = ()) -> list[Any]:
    """Parameters for ``pytest.mark.parametrize``: the cases that match ``pattern``.

    Where none is there, one parameter that skips and says what is missing.
    """
    return _discover_in(golden_dir(), pattern, without, 'SAM2_GOLDEN_DIR')


def discover_variants(pattern: str, *, without: tuple[str, ...] = ()) -> list[Any]:
    """As :func:`discover`, among the golden data of the family.

    The committed set has the cases that ``SAM2_GOLDEN_VARIANTS_DIR`` has none of.
    """
    folder = variants_dir()
    folder = folder if any(folder.glob(f'{pattern}.json')) else COMMITTED_VARIANTS
    return _discover_in(folder, pattern, without, 'SAM2_GOLDEN_VARIANTS_DIR')


def _discover_in(
    folder: Path, pattern: str, without: tuple[str, ...], variable: str
) -> list[Any]:
    paths = [
        path
        for path in sorted(folder.glob(f'{pattern}.json'))
        if not path.name.startswith(without)
    ]
    if paths:
        return [pytest.param(GoldenCase(path), id=path.stem) for path in paths]
    reason = f'no golden case {pattern}.json in {folder}; set {variable}'
    return [pytest.param(None, id=pattern, marks=pytest.mark.skip(reason=reason))]


def discover_arrays(pattern: str, names: str) -> list[Any]:
    """Parameters: the cases that match ``pattern``, each with each array of a kind."""
    parameters = []
    for parameter in discover(pattern):
        case: GoldenCase | None = parameter.values[0]
        if case is None:
            return [pytest.param(None, '', id=pattern, marks=parameter.marks)]
        parameters += [
            pytest.param(case, name, id=f'{name}-{case.name}')
            for name in case.arrays
            if re.fullmatch(names, name)
        ]
    return parameters


def numbers_in(name: str) -> list[int]:
    """Numbers in the name of an array, ``6``, ``4`` and ``32`` in ``6x4_d32``."""
    return [int(number) for number in re.findall(r'\d+', name)]


def fill(
    module: nn.Module,
    salt: str,
    released_key: Mapping[str, str],
    *,
    generator: ModuleType | None = None,
) -> None:
    """Fill a module with golden weights; counters of batches stay as they are.

    Args:
        released_key: For each key of the module's state dict, the released key
            that the weights are a function of.
        generator: :func:`golden_weights` by default, or :func:`variant_weights`.
    """
    generator = generator or golden_weights()
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            made = generator.make(released_key[key], tuple(value.shape), salt)
            value.copy_(torch.from_numpy(made))


def relative_error(actual: Tensor | NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference over the root mean square of the expected array."""
    if isinstance(actual, Tensor):
        actual = actual.detach().float().cpu().numpy()
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    scale = float(np.sqrt(np.mean(np.square(expected.astype(np.float64)))))
    difference = float(np.abs(actual.astype(np.float64) - expected).max())
    return difference / max(scale, 1e-12)


def assert_close(
    actual: Tensor | NDArray[Any], expected: NDArray[Any], tolerance: float, what: str
) -> None:
    """Fail where the relative error exceeds the tolerance of the golden README."""
    error = relative_error(actual, expected)
    note_error(error, tolerance)
    assert error <= tolerance, f'{what}: error {error:.2e} exceeds {tolerance:.0e}'


def assert_near(
    actual: float, expected: float, tolerance: float, what: str, floor: float = 1e-9
) -> None:
    """Fail where a number is off by more than a share of what is expected.

    Args:
        tolerance: Largest share.
        floor: Expected numbers smaller than this are compared as if they had its size.
    """
    error = abs(actual - expected) / max(abs(expected), floor)
    note_error(error, tolerance)
    assert error <= tolerance, f'{what}: {actual} is off {expected} by {error:.1e}'


def assert_exact(actual: object, expected: object, what: str) -> None:
    """Fail where anything differs.

    Args:
        actual: An array, a tensor, or what can be compared with ``==``.
    """
    arrays = isinstance(expected, np.ndarray | Tensor)
    same = np.array_equal(actual, expected) if arrays else actual == expected  # type: ignore[arg-type]
    note_error(0.0 if same else math.inf, 0.0)
    assert same, f'{what}: {actual} is not {expected}'


def assert_within(
    actual: Tensor | NDArray[Any],
    expected: Tensor | NDArray[Any],
    tolerance: float,
    what: str,
) -> None:
    """Fail where a number differs by more than ``tolerance``.

    Args:
        tolerance: Largest difference, in the unit of the arrays.
    """
    found, wanted = (np.asarray(array, np.float64) for array in (actual, expected))
    assert found.shape == wanted.shape, (what, found.shape, wanted.shape)
    error = float(np.abs(found - wanted).max(initial=0.0))
    note_error(error, tolerance)
    assert error <= tolerance, f'{what}: off by {error:.2e}, more than {tolerance:.0e}'


def unpack_archive(archive: Path, folder: Path) -> None:
    """Unpack an archive of the golden data."""
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, 'data_filter'):
            opened.extractall(folder, filter='data')
        else:  # before Python 3.11.4
            opened.extractall(folder)  # noqa: S202  the project's own files


def unpack_masks(bits: NDArray[np.uint8], shape: Iterable[int]) -> Tensor:
    """Bit-packed masks of a golden file as a bool tensor of ``shape``."""
    shape = tuple(shape)
    flat = np.unpackbits(bits)[: int(np.prod(shape))]
    return torch.from_numpy(flat.reshape(shape).astype(bool))
