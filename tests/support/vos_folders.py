"""A small data set on disk for the segmentation of its videos, and a small model."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bridge_models import config_file, small_config, small_model, write_small
from memory_videos import MemoryVideo
from projects.sam2.checkpoints import CheckpointKind
from projects.sam2.datasets.processing.davis_export import write_mask

SIDE = 64  # pixels that the small model sees
# First frames of the objects of each video, and its length.
VIDEOS = {'long': ((0, 0), 4), 'late': ((0, 2), 3), 'short': ((0,), 2)}


def video(name: str) -> MemoryVideo:
    """One of the videos."""
    first_frames, length = VIDEOS[name]
    return MemoryVideo(first_frames=first_frames, length=length, name=name)


def write_vos_data(root: Path, *, per_object: bool = False) -> None:
    """Write frames and masks of all videos below ``frames`` and ``masks``."""
    for source in map(video, VIDEOS):
        for index in range(source.num_frames):
            file = f'{source.frame_name(index)}.jpg'
            _write_frame(root / 'frames' / source.name / file, source, index)
            maps = _maps_of(source.masks(index), per_object=per_object)
            for folder, labels in maps.items():
                path = root / 'masks' / source.name / folder / file
                _write_mask(path.with_suffix('.png'), labels)


def write_vos_model(root: Path) -> tuple[str, str]:
    """Write config and checkpoint of the small model, all objects present."""
    settings = small_config()
    settings['data_preprocessor'] = {
        'type': 'ClipDataPreprocessor',
        'image_size': (SIDE, SIDE),
    }
    checkpoint = root / 'small.pt'
    model = small_model(object_score=10.0)
    write_small(checkpoint, CheckpointKind.RELEASED.value, model)
    return config_file(root, settings), str(checkpoint)


def read_png(path: Path) -> NDArray[np.uint8]:
    """Values of a PNG."""
    with Image.open(path) as image:
        return np.asarray(image)


def files_below(root: Path) -> dict[str, bytes]:
    """Content of every PNG below a folder, by its path."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob('*.png'))
    }


def _write_frame(path: Path, source: MemoryVideo, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(source.read_frame(index)).save(path, quality=95)


def _write_mask(path: Path, labels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, labels)


def _maps_of(
    masks: NDArray[np.bool_], *, per_object: bool
) -> dict[str, NDArray[np.uint8]]:
    """The masks of a frame as files: their folders and values."""
    if per_object:
        return {f'{n:03d}': mask.astype(np.uint8) for n, mask in enumerate(masks)}
    labels = masks * np.arange(1, len(masks) + 1)[:, None, None]
    return {'.': labels.max(axis=0).astype(np.uint8)}
