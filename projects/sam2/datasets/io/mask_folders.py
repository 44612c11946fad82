"""Folders of masks without frames: predictions, and the ground truth of benchmarks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...structures import VOID_LABEL, FrameMasks
from .errors import ClipDataError
from .images import read_label_map, split_labels
from .listing import (
    MASK_SUFFIXES,
    check_known,
    find_folders,
    is_object_number,
    list_files,
    match_names,
    names_near,
    order_frames,
    read_list,
    scan_folder,
    stem_of,
)


def list_mask_videos(root: Path, file_list: Path | None = None) -> list[str]:
    """List the videos of a folder of masks.

    Args:
        file_list: List of videos; None for all.

    Raises:
        FileNotFoundError: If the list is missing.
        ClipDataError: If the folder is missing or empty, or the list has an unknown
            name.
    """
    remedy = 'give the folder that has a folder of PNG masks for each video'
    if not root.is_dir():
        raise ClipDataError.at(root, 'is not a folder', remedy)
    names = find_folders(root)
    if not names:
        raise ClipDataError.at(root, 'holds no folder', remedy)
    if file_list is None:
        return sorted(names)
    entries = read_list(file_list)
    names |= names_near(entries, root, find_folders)
    pairs = match_names(entries, names)
    unknown = [entry for entry, name in pairs if name is None]
    check_known(unknown, names, file_list, root)
    return [name for _, name in pairs if name is not None]


def open_mask_video(folder: Path, *, binary: bool = False) -> 'MaskVideo':
    """List the masks of a video, without decoding any.

    Args:
        binary: See :class:`MaskVideo`.

    Raises:
        ClipDataError: If it holds neither label images nor folders of objects, or both,
            or the name of a folder is not a number.
    """
    names = find_folders(folder) if folder.is_dir() else set()
    if not names:
        files = {stem_of(name): name for name in list_files(folder, MASK_SUFFIXES)}
        return MaskVideo(
            folder=folder,
            stems=tuple(files),
            files=files,
            object_files=None,
            binary=binary,
        )
    loose = sorted(
        entry.name
        for entry in scan_folder(folder)
        if entry.name.lower().endswith(MASK_SUFFIXES)
    )
    invalid = [name for name in names if not is_object_number(name)]
    if loose or invalid:
        problem = f'has folders, but also {(loose or invalid)[0]!r}'
        remedy = 'give it label images, or a folder for each object and nothing else'
        raise ClipDataError.at(folder, problem, remedy)
    object_files = {
        int(name): {
            stem_of(file): f'{name}/{file}'
            for file in list_files(folder / name, MASK_SUFFIXES)
        }
        for name in sorted(names, key=int)
    }
    stems = {stem for files in object_files.values() for stem in files}
    ordered = order_frames([f'{stem}.png' for stem in stems], folder)
    return MaskVideo(
        folder=folder,
        stems=tuple(map(stem_of, ordered)),
        files={},
        object_files=object_files,
        binary=binary,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskVideo:
    """Masks of one video: a label image per frame, or a folder per object.

    Attributes:
        folder: Where they are.
        stems: Names of the frames without suffix, in order.
        files: Label image of each frame by its stem; empty if objects have folders.
        object_files: Files of each object by its number, relative to the folder, by the
            stem of the frame; None for label images.
        binary: Whether every value but 0 is object 1 in label images, also 255 (DAVIS
            2016).
    """

    folder: Path
    stems: tuple[str, ...]
    files: Mapping[str, str]
    object_files: Mapping[int, Mapping[str, str]] | None
    binary: bool

    def all_files(self) -> Iterator[str]:
        """Files relative to the folder, object by object and frame by frame."""
        yield from self.files.values()
        for files in (self.object_files or {}).values():
            yield from files.values()

    def read_labels(self, stem: str) -> NDArray[Any]:
        """Decode a label image: (height, width), uint8 or uint16.

        Raises:
            ClipDataError: If the file is damaged or of another kind.
        """
        labels = read_label_map(self.folder / self.files[stem])
        return (labels > 0).astype(np.uint8) if self.binary else labels

    def read_masks(self, stem: str) -> FrameMasks:
        """Decode the masks of a frame.

        Raises:
            ClipDataError: If a file is damaged, or they differ in size.
        """
        if self.object_files is None:
            labels = self.read_labels(stem)
            is_8_bits = labels.dtype == np.uint8
            return split_labels(labels, (VOID_LABEL,) if is_8_bits else ())
        masks: dict[int, NDArray[np.bool_]] = {}
        size: tuple[int, ...] | None = None
        for object_id, files in self.object_files.items():
            if stem not in files:
                continue
            path = self.folder / files[stem]
            masks[object_id] = read_label_map(path) > 0
            size = size or masks[object_id].shape
            if masks[object_id].shape != size:
                problem = f'is {masks[object_id].shape}, another object {size}'
                remedy = 'write all masks of a frame at one size'
                raise ClipDataError.at(path, problem, remedy)
        return FrameMasks(object_ids=tuple(masks), masks=np.stack([*masks.values()]))

    def check_void(self) -> None:
        """Refuse masks of 0 and 255, which show no object since 255 is void."""
        has_void = False
        for stem in self.files:
            labels = self.read_labels(stem)
            is_object = (labels > 0) & (labels != VOID_LABEL)
            if labels.dtype != np.uint8 or is_object.any():
                return
            has_void = has_void or bool(labels.any())
        if has_void:
            problem = f'all labelled pixels are {VOID_LABEL}, which is void'
            remedy = (
                'give --binary if they are the object (in a dataset void_label=None)'
            )
            raise ClipDataError.at(self.folder, problem, remedy)
