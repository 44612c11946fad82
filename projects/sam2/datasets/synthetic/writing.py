"""Writes generated clips in DAVIS layout."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.datasets.listing import write_list
from projects.sam2.datasets.synthetic.clips import ClipPlan, copy_iou, make_clip
from projects.sam2.ops import write_whole

META_FILE = 'meta.json'
UNFINISHED_FILE = 'unfinished.json'  # there as long as clips are being written
JPEG_QUALITY = 90
CHUNK = 4  # clips that a worker is given at a time


def davis_palette() -> list[int]:
    """Colours of the label values 0 to 255, as in DAVIS: r, g, b, r and so on."""
    values = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            on = (values >> (3 * bit + channel)) & 1
            palette[:, channel] |= (on << (7 - bit)).astype(np.uint8)
    return [int(value) for value in palette.reshape(-1)]


def write_mask(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write a palette PNG.

    Args:
        path: Where to.
        labels: (height, width), object ids.
    """
    image = Image.fromarray(labels).convert('P')
    image.putpalette(davis_palette())
    image.save(path, compress_level=1)


def write_clip(plan: ClipPlan, root: Path) -> dict[str, Any]:
    """Generate a clip and write it.

    Args:
        plan: What to generate.
        root: Folder of the data set.

    Returns:
        Its entry of ``meta.json``.

    Raises:
        OSError: If a frame cannot be written.
    """
    clip = make_clip(plan)
    frame_folder = root / 'JPEGImages' / plan.name
    mask_folder = root / 'Annotations' / plan.name
    for folder in (frame_folder, mask_folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for index, (frame, labels) in enumerate(zip(clip.frames, clip.labels, strict=True)):
        done, encoded = cv2.imencode(
            '.jpg', frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not done:
            msg = f'{frame_folder}: frame {index} cannot be encoded'
            raise OSError(msg)
        (frame_folder / f'{index:05d}.jpg').write_bytes(encoded.tobytes())
        write_mask(mask_folder / f'{index:05d}.png', labels)
    return {
        'name': plan.name,
        'kind': plan.kind.value,
        'height': plan.size[0],
        'width': plan.size[1],
        'num_frames': plan.num_frames,
        'num_objects': clip.num_objects,
        'like_texture': clip.like_texture,
        'returning_ids': list(clip.returning_ids),
        'copy_iou': round(copy_iou(clip.labels, clip.num_objects), 4),
    }


def check_folder(root: Path, settings: Mapping[str, Any]) -> bool:
    """Is the data set already there?

    Args:
        root: Folder of the data set.
        settings: What it is to be made with.

    Returns:
        True if it is there, made with the same settings. False if it is to be made:
        nothing is there, or what an interrupted call with these settings left.

    Raises:
        FileExistsError: If the folder holds something else, which must not be
            overwritten.
    """
    meta_file = root / META_FILE
    if meta_file.is_file():
        if json.loads(meta_file.read_text(encoding='utf-8'))['settings'] == settings:
            return True
        found = 'clips made with other settings'
    elif _is_unfinished(root, settings):
        return False
    elif root.is_dir() and any(root.iterdir()):
        found = 'files that are not a complete set of generated clips'
    else:
        return False
    msg = f'{root} holds {found}; remove the folder or choose another'
    raise FileExistsError(msg)


def _is_unfinished(root: Path, settings: Mapping[str, Any]) -> bool:
    """Did an interrupted call with the same settings leave what is there?"""
    marker = root / UNFINISHED_FILE
    return marker.is_file() and marker.read_text('utf-8') == json.dumps(dict(settings))


def write_dataset(
    root: Path,
    splits: Mapping[str, Sequence[ClipPlan]],
    settings: Mapping[str, Any],
    workers: int,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write all clips, then the lists, then ``meta.json``, which marks the end.

    Args:
        root: Folder of the data set.
        splits: Plans of the clips of each split.
        settings: Kept in ``meta.json``.
        workers: Processes; 1 for none besides this.
        report: Called with the number of clips done and that of all.

    Returns:
        The content of ``meta.json``.
    """
    root.mkdir(parents=True, exist_ok=True)
    marker = root / UNFINISHED_FILE
    marker.write_text(json.dumps(dict(settings)), encoding='utf-8')
    plans = [plan for split in splits.values() for plan in split]
    entries: list[dict[str, Any]] = []
    pool = ProcessPoolExecutor(workers, get_context('spawn')) if workers > 1 else None
    with pool or nullcontext():
        write = partial(write_clip, root=root)
        written: Iterable[dict[str, Any]] = (
            pool.map(write, plans, chunksize=CHUNK) if pool else map(write, plans)
        )
        for entry in written:
            entries.append(entry)
            report(len(entries), len(plans))
    lists = root / 'ImageSets'
    remaining = iter(entries)
    clips = {}
    for split, split_plans in splits.items():
        clips[split] = list(islice(remaining, len(split_plans)))
        names = [entry['name'] for entry in clips[split]]
        write_list(lists / f'{split}.txt', names)
    meta = {'settings': dict(settings), 'clips': clips}
    write_whole(root / META_FILE, json.dumps(meta, indent=1))
    marker.unlink()
    return meta
