"""Writes the masks of videos as PNG files, each video whole or not at all."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from projects.sam2.datasets.file_endings import scan_folder
from projects.sam2.datasets.listing import child
from projects.sam2.datasets.reading import VOID_LABEL
from projects.sam2.datasets.synthetic.writing import write_mask
from projects.sam2.ops import write_whole, written_aside
from projects.sam2.structures import FrameMasks

__all__ = ['MaskFolder', 'claim_folder']

SETTINGS_FILE = '.vos_inference.json'


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFolder:
    """Where the masks of a data set are written.

    ``<root>/<video>/<frame>.png`` with values that are object ids; or
    ``<root>/<video>/<object>/<frame>.png``, whose masks may overlap.

    Attributes:
        root: The folder.
        per_object: A folder for each object.
    """

    root: Path
    per_object: bool

    def has(self, name: str) -> bool:
        """Is a video done?

        Args:
            name: Of the video.

        Returns:
            True where all of its masks are there.
        """
        return child(self.root, name).is_dir()

    def check_ids(self, object_ids: Iterable[int]) -> None:
        """Check that objects can be written, before they are tracked.

        Args:
            object_ids: Of a video.

        Raises:
            ValueError: If an id does not fit into a palette PNG.
        """
        if not self.per_object:
            for object_id in object_ids:
                _check_label(object_id)

    def write(
        self,
        name: str,
        frames: Iterable[tuple[str, FrameMasks]],
        folder_of: Mapping[int, str],
    ) -> int:
        """Write the masks of a video; it gets its name when the last one is there.

        Args:
            name: Of the video.
            frames: Name of each frame, and its masks.
            folder_of: How the folders of objects are called, by their ids; others by
                their three-digit ids. Read where each object has a folder.

        Returns:
            Number of frames.

        Raises:
            ValueError: If an id does not fit into a palette PNG.
        """
        with written_aside(child(self.root, name)) as aside:
            aside.mkdir()
            writer = _ObjectWriter(folder=aside, folder_of=folder_of)
            done = 0
            for frame, masks in frames:
                if self.per_object:
                    writer.write(frame, masks)
                else:
                    _write_labels(aside / f'{frame}.png', masks)
                done += 1
        return done


def claim_folder(root: Path, settings: Mapping[str, Any], *, write: bool) -> None:
    """Make sure that a folder holds masks of these settings alone.

    A run that wrote no mask, for a misspelt path perhaps, leaves nothing to respect.

    Args:
        root: The folder; made where it is missing.
        settings: What the masks are made with.
        write: Note the settings there; one of several processes does.

    Raises:
        FileExistsError: If it holds masks made otherwise.
    """
    path = root / SETTINGS_FILE
    wanted = {name: str(value) for name, value in settings.items()}
    if path.is_file() and _holds_masks(root):
        found = json.loads(path.read_text(encoding='utf-8'))
        if found == wanted:
            return
        names = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
        told = ', '.join(f'{n} {found.get(n)}, not {wanted.get(n)}' for n in names)
        msg = (
            f'{root} holds masks made with other settings ({told}); remove it or '
            f'choose another'
        )
        raise FileExistsError(msg)
    if write:
        write_whole(path, json.dumps(wanted, indent=1))


def _holds_masks(root: Path) -> bool:
    """Is anything there beside settings and what a killed process left?"""
    return bool(scan_folder(root))


def _write_labels(path: Path, masks: FrameMasks) -> None:
    """Write a frame as a map of ids; where masks overlap, the lowest id counts."""
    labels = np.zeros(masks.masks.shape[1:], np.uint8)
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    for object_id, mask in sorted(pairs, key=lambda pair: -pair[0]):
        _check_label(object_id)
        labels[mask] = object_id
    write_mask(path, labels)


def _check_label(object_id: int) -> None:
    """Raise where an id is no label of a palette PNG."""
    if not 0 < object_id < VOID_LABEL:
        msg = (
            f'Object {object_id} does not fit into a palette PNG, which holds 1 to '
            f'{VOID_LABEL - 1}; write a folder for each object (--per-object-png)'
        )
        raise ValueError(msg)


@dataclass(slots=True, kw_only=True)
class _ObjectWriter:
    """Writes a folder for each object of a video.

    An object that appears late gets empty masks for the frames before.

    Attributes:
        folder: Of the video.
        folder_of: Names of the objects' folders.
        earlier: Frames that were written.
    """

    folder: Path
    folder_of: Mapping[int, str]
    earlier: list[str] = field(default_factory=list)

    def write(self, frame: str, masks: FrameMasks) -> None:
        """Write a frame.

        Args:
            frame: Its name.
            masks: Of the objects known by now.
        """
        nothing = np.zeros(masks.masks.shape[1:], np.uint8)
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
            folder = self.folder / self.folder_of.get(object_id, f'{object_id:03d}')
            if not folder.is_dir():
                folder.mkdir()
                for name in self.earlier:
                    write_mask(folder / f'{name}.png', nothing)
            write_mask(folder / f'{frame}.png', mask.astype(np.uint8))
        self.earlier.append(frame)
