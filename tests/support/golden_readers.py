"""The files that the golden readers were run on, and what they found."""

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden_cases import golden_dir
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


def golden_videos(dataset: str) -> list[GoldenVideo]:
    """The videos of a golden data set."""
    spec = json.loads((golden_dir() / 'data_golden.json').read_text())
    arrays = np.load(golden_dir() / 'data_golden.npz')
    videos = []
    for video in spec[dataset]['videos']:
        prefix = f'{dataset}/{video["name"]}/'
        bits = {k.removeprefix(prefix): arrays[k] for k in arrays if prefix in k}
        videos.append(GoldenVideo(video, bits))
    return videos


def unpack_golden_data(folder: Path) -> Path:
    """Unpack the files; they are synthetic."""
    with tarfile.open(golden_dir() / 'data.tar.gz') as archive:
        archive.extractall(folder, filter='data')
    return folder / 'data'


def assert_same_masks(
    source: AnnotatedVideo, frame_index: int, expected: Mapping[int, NDArray[np.bool_]]
) -> None:
    """Fail unless a frame has the same objects in the same order, pixel for pixel."""
    chosen = source.read_objects(frame_index, tuple(expected))
    seen = source.read_masks(frame_index)
    assert chosen is not None
    assert seen is not None
    for mask, wanted in zip(chosen.masks, expected.values(), strict=True):
        np.testing.assert_array_equal(mask, wanted)
    assert seen.object_ids == tuple(i for i, mask in expected.items() if mask.any())
    for object_id, mask in zip(seen.object_ids, seen.masks, strict=True):
        np.testing.assert_array_equal(mask, expected[object_id])
