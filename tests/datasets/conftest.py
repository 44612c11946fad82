"""Small DAVIS-style folders and clips without files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from golden_cases import GoldenCase
from projects.sam2.datasets import ClipPaletteDataset, ClipState
from projects.sam2.structures import FrameMasks
from released_draws import unpack

SIZE = (24, 32)
NUM_FRAMES = 6
PIPELINE: list[dict[str, Any]] = [
    {'type': 'ClipSampleFrames', 'num_frames': 3, 'max_num_objects': 2},
    {'type': 'ClipLoadFrames'},
    {'type': 'ClipLoadMasklets'},
    {'type': 'ClipRandomFlip'},
    {'type': 'ClipRandomAffine', 'degrees': 20, 'shear': 10},
    {'type': 'ClipResize', 'size': (16, 16)},
    {
        'type': 'ClipColorJitter',
        'brightness': 0.2,
        'contrast': 0.2,
        'saturation': 0.2,
        'consistent': False,
    },
    {'type': 'ClipRandomGrayscale', 'probability': 0.3},
    {'type': 'ClipWarp'},
    {'type': 'ClipPack'},
]


def frame_labels(time: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """Two squares: object 2 above moves right, object 1 below moves left."""
    labels = np.zeros(size, np.uint8)
    shift = time % 9  # stays in the picture
    labels[2:10, 2 + shift : 12 + shift] = 2
    labels[12:22, 20 - shift : 30 - shift] = 1
    return labels


def write_clip(
    root: Path,
    name: str,
    num_frames: int = NUM_FRAMES,
    labels: Callable[[int], NDArray[np.uint8] | None] = frame_labels,
) -> None:
    """Write a clip in DAVIS layout; ``labels`` gives None for no mask."""
    frames, masks = root / 'JPEGImages' / name, root / 'Annotations' / name
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    rng = np.random.default_rng(num_frames)
    for time in range(num_frames):
        coarse = rng.integers(0, 255, (4, 4, 3), np.uint8)
        cv2.imwrite(str(frames / f'{time:05d}.jpg'), cv2.resize(coarse, SIZE[::-1]))
        frame = labels(time)
        if frame is not None:
            image = Image.fromarray(frame)
            image.putpalette([value // 3 for value in range(768)])
            image.save(masks / f'{time:05d}.png')


@pytest.fixture(scope='session')
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[GoldenCase], Path]:
    """Unpacks the synthetic files of a golden case, once."""

    @cache
    def files_at(path: Path) -> Path:
        return unpack(GoldenCase(path), tmp_path_factory.mktemp('golden'))

    return lambda golden: files_at(golden.path)


@pytest.fixture
def golden_files(golden: GoldenCase, unpacked: Callable[[GoldenCase], Path]) -> Path:
    """The synthetic files of the test's golden case."""
    return unpacked(golden)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three good clips."""
    for name in ('ant', 'bee', 'cat'):
        write_clip(tmp_path, name)
    return tmp_path


@pytest.fixture
def write_davis_clip() -> Callable[..., None]:
    """Writes a clip in DAVIS layout."""
    return write_clip


@pytest.fixture
def pipeline() -> list[dict[str, Any]]:
    """A copy of the pipeline above, to be changed."""
    return [dict(step) for step in PIPELINE]


@pytest.fixture
def build() -> Callable[..., ClipPaletteDataset]:
    """Builds a dataset with the pipeline above."""

    def build_dataset(root: Path, **settings: Any) -> ClipPaletteDataset:
        return ClipPaletteDataset(
            **{'data_root': str(root), 'pipeline': PIPELINE, **settings}
        )

    return build_dataset


@dataclass(frozen=True)
class MemorySource:
    """A video without files."""

    frames: tuple[NDArray[np.uint8], ...]
    masks: Mapping[int, FrameMasks]
    name: str = 'memory'

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return len(self.frames)

    def frame_name(self, frame_index: int) -> str:
        """Name of a frame."""
        return f'{frame_index:05d}'

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """A frame."""
        return self.frames[frame_index]

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Masks of a frame."""
        return self.masks.get(frame_index)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth."""
        return tuple(sorted(self.masks))


@pytest.fixture
def make_state() -> Callable[..., ClipState]:
    """Builds a clip: masks are ``{frame: {object id: mask}}``."""

    def make(
        masks: Mapping[int, Mapping[int, NDArray[np.bool_]]],
        num_frames: int = NUM_FRAMES,
        size: tuple[int, int] = SIZE,
        seed: int = 0,
    ) -> ClipState:
        rng = np.random.default_rng(5)
        frames = rng.integers(0, 255, (num_frames, *size, 3), np.uint8)
        source = MemorySource(
            frames=tuple(frames),
            masks={
                index: FrameMasks(
                    object_ids=tuple(of_object),
                    masks=np.array(list(of_object.values()), bool).reshape(-1, *size),
                )
                for index, of_object in masks.items()
            },
        )
        return ClipState(
            source=source, sample_index=4, seed=9, rng=np.random.default_rng(seed)
        )

    return make


@pytest.fixture
def loaded_state(make_state: Callable[..., ClipState]) -> Callable[..., ClipState]:
    """Builds a clip whose frames and masks are loaded, object 1 and 2 in all."""

    def load(seed: int = 0) -> ClipState:
        masks = {
            time: {label: frame_labels(time) == label for label in (2, 1)}
            for time in range(3)
        }
        state = make_state(masks, num_frames=3, seed=seed)
        return replace(
            state,
            frame_indices=(0, 1, 2),
            object_ids=(2, 1),
            frames=tuple(state.source.read_frame(i) for i in range(3)),
            masklets=tuple(state.source.read_masks(i) for i in range(3)),
            original_size=SIZE,
            size=SIZE,
        )

    return load
