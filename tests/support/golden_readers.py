"""The files that the golden readers were run on, and what they found."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.datasets import AnnotatedVideo


@dataclass(frozen=True)
class GoldenVideo:
    """What the released reader found in one video."""

    spec: Mapping[str, Any]
    bits: Mapping[str, NDArray[np.uint8]]

    @property
    def name(self) -> str:
        """Name of the video; SA-1B's are numbers there."""
        return str(self.spec['name'])

    @property
    def frame_names(self) -> list[str]:
        """Stems of the frames, in their order."""
        return [Path(path).stem for path in self.spec['paths']]

    def masks(self, frame: int) -> dict[int, NDArray[np.bool_]]:
        """Masks of a frame by object id, in the order of the released reader."""
        found = {}
        for object_id, entry in self.spec['segments'][str(frame)].items():
            bits = np.unpackbits(self.bits[f'f{frame}/o{object_id}'])
            height, width = entry['shape']
            pixels = bits[: height * width].reshape(height, width)
            found[int(object_id)] = pixels.astype(bool)
        return found


def discover_readers(names: Iterable[str]) -> list[Any]:
    """Parameters: each golden data file with each data set that it may hold."""
    return [
        pytest.param(
            *parameter.values, name, id=f'{name}-{parameter.id}', marks=parameter.marks
        )
        for parameter in discover('data_golden*')
        for name in names
    ]


def golden_videos(case: GoldenCase, dataset: str) -> list[GoldenVideo]:
    """The videos of a golden data set; the test skips where the file holds none."""
    if dataset not in case.spec:
        pytest.skip(f'{case.name} holds no data set {dataset}')
    videos = []
    for video in case.spec[dataset]['videos']:
        prefix = f'{dataset}/{video["name"]}/'
        keys = [key for key in case.arrays if prefix in key]
        bits = {key.removeprefix(prefix): case.arrays[key] for key in keys}
        videos.append(GoldenVideo(video, bits))
    return videos


def assert_same_masks(
    source: AnnotatedVideo, frame_index: int, expected: Mapping[int, NDArray[np.bool_]]
) -> None:
    """Fail unless a frame has the same objects in the same order, pixel for pixel."""
    chosen = source.read_objects(frame_index, tuple(expected))
    seen = source.read_masks(frame_index)
    assert chosen is not None
    assert seen is not None
    for mask, wanted in zip(chosen.masks, expected.values(), strict=True):
        assert_exact(mask, wanted, 'mask')
    shown = tuple(i for i, mask in expected.items() if mask.any())
    assert_exact(seen.object_ids, shown, 'objects')
    for object_id, mask in zip(seen.object_ids, seen.masks, strict=True):
        assert_exact(mask, expected[object_id], f'mask of {object_id}')
