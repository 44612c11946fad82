"""Folders of masks as PNG files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_png(path: Path, labels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write a grey PNG, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def write_maps(folder: Path, frames: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write label images by the stem of the frame."""
    for stem, labels in frames.items():
        write_png(folder / f'{stem}.png', labels)


def write_objects(folder: Path, frames: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write the same masks with a folder for each object."""
    for stem, labels in frames.items():
        for label in np.unique(labels[labels > 0]).tolist():
            mask = np.where(labels == label, np.uint8(255), np.uint8(0))
            write_png(folder / f'{label:03}' / f'{stem}.png', mask)


def square_maps(number: int = 5, objects: int = 2) -> dict[str, NDArray[np.uint8]]:
    """Frames on which squares move to the right."""
    frames = {}
    for index in range(number):
        labels = np.zeros((48, 64), np.uint8)
        for label in range(1, objects + 1):
            top, left = 14 * label - 10, 5 + 6 * index
            labels[top : top + 10, left : left + 12] = label
        frames[f'{index:05}'] = labels
    return frames
