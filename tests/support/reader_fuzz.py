"""Feeds damaged files to every reader; run as a process of its own.

``python reader_fuzz.py FOLDER NUM_INPUTS NUM_PROCESSES`` prints a line of JSON for each
process, of which each reads as many inputs: how many were refused, how many were read
after all, and what went wrong besides.
"""

import gc
import json
import logging
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS

import data_folders as folders
from projects.sam2.datasets import AnnotatedVideo, ClipDataError

GIGABYTE = 2**30
SLOW_SECONDS = 5.0
SECRET = b'SECRET'
LIMITS = {'max_pixels': 2**20, 'max_file_size': 2**20, 'max_mask_bytes': 2**24}
# Values that are put in place of others in JSON files.
HOSTILE: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, 2**70, 1e308, '', 'x',
    '../../secret', '/etc/passwd', 'a\0b', [], {}, [[]], [None], [2**40, 2**40],
    {'size': [2**20, 2**20], 'counts': 'o'}, [[1e9, 1e9, -1e9, 1e9, 0, 0]], 'x' * 5000,
]  # fmt: skip


def write_palette(root: Path) -> None:
    """A clip in DAVIS layout."""
    folders.write_object_folders(root)
    (root / 'JPEGImages_24fps').rename(root / 'JPEGImages')
    (root / 'Annotations').mkdir()
    (root / 'Annotations_6fps' / 'ant' / '000').rename(root / 'Annotations' / 'ant')


Writer = Callable[[Path], None]
SOURCES: dict[str, tuple[Writer, dict[str, Any]]] = {
    'ClipPaletteDataset': (write_palette, {}),
    'ClipObjectFolderDataset': (folders.write_object_folders, {}),
    'ClipSAVDataset': (folders.write_sav, {'kinds': ('manual', 'auto')}),
    'ClipSA1BDataset': (folders.write_sa1b, {'min_scores': {'stability_score': 0.5}}),
    'ClipCocoDataset': (
        folders.write_coco,
        {
            'annotation_file': 'annotations/instances_train2017.json',
            'image_folder': 'train2017',
        },
    ),
    'ClipYouTubeVISDataset': (folders.write_youtube_vis, {}),
    'ClipLabelImageDataset': (folders.write_label_images, {'rule': {'regions': True}}),
    'ClipLabelMeDataset': (folders.write_labelme, {}),
}


def read_everything(kind: str, root: Path, settings: dict[str, Any]) -> None:
    """Build the dataset, open its clips, decode a frame and masks of each."""
    dataset = DATASETS.build(
        {'type': kind, 'data_root': str(root), 'limits': LIMITS, **settings}
    )
    for name in dataset.list_videos():
        video: AnnotatedVideo = dataset.open_video(name)
        for index in video.annotated_frames()[:2]:
            masks = video.read_masks(index)
            if masks is not None and masks.masks.nbytes > LIMITS['max_mask_bytes']:
                raise AssertionError('masks beyond the limit')
        frame = video.read_frame(0)
        if frame.size > 3 * LIMITS['max_pixels']:
            raise AssertionError('a frame beyond the limit')


def damaged_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, repeat, exchange or overwrite bytes; PNG headers claim other sizes."""
    data = bytearray(content)
    if data[1:4] == b'PNG' and rng.random() < 0.3:
        place = rng.randrange(16, 26)  # width, height, bits, colours
        data[place] = rng.randrange(256)
        crc = __import__('zlib').crc32(data[12:29])
        data[29:33] = crc.to_bytes(4, 'big')
        return bytes(data)
    match rng.randrange(4):
        case 0:
            return bytes(data[: rng.randrange(len(data) + 1)])
        case 1:
            place = rng.randrange(len(data) + 1)
            return bytes(data[:place] + data[place // 2 : place] * 3 + data[place:])
        case 2:
            return rng.randbytes(rng.randrange(200))
        case _:
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """Put a hostile value in the place of another, or damage the text."""
    if rng.random() < 0.2:
        return damaged_bytes(content, rng)
    tree = json.loads(content)
    for _ in range(rng.randrange(1, 3)):
        places = list(places_in(tree))
        parent, key = rng.choice(places)
        value = rng.choice([*HOSTILE, parent[key], rng.choice(places)[0]])
        if isinstance(value, dict | list):
            value = json.loads(json.dumps(value))
        if isinstance(parent[key], str) and rng.random() < 0.5:
            value = damaged_bytes(parent[key].encode() or b'0', rng).decode('latin-1')
        parent[key] = value
    return json.dumps(tree).encode()


def places_in(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a tree with each of its keys."""
    keys = node.keys() if isinstance(node, dict) else range(len(node))
    for key in list(keys):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places_in(node[key])


def fuzz(root: Path, num_inputs: int, seed: int) -> dict[str, Any]:
    """Damage one file at a time and read."""
    rng = random.Random(seed)
    report: dict[str, Any] = {'refused': 0, 'read': 0, 'wrong': [], 'slowest': 0.0}
    for kind, (write, _) in SOURCES.items():
        write(root / kind)
    (root / 'secret').write_bytes(SECRET)
    files = {
        kind: [p for p in sorted((root / kind).rglob('*')) if p.is_file()]
        for kind in SOURCES
    }
    for number in range(num_inputs):
        kind = list(SOURCES)[number % len(SOURCES)]
        path = rng.choice(files[kind][:3] + files[kind][-3:])
        content = path.read_bytes()
        damage = damaged_json if path.suffix == '.json' else damaged_bytes
        path.write_bytes(damage(content, rng))
        began = time.monotonic()
        try:
            read_everything(kind, root / kind, SOURCES[kind][1])
            report['read'] += 1
        except ClipDataError as error:
            report['refused'] += 1
            if str(root) not in str(error) or SECRET.decode() in str(error):
                report['wrong'].append(f'{kind} {path.name}: {error}'[:300])
        except ValueError as error:  # the only clip has no object: no clip is left
            report['refused'] += 1
            if 'holds no clip' not in str(error):
                report['wrong'].append(f'{kind} {path.name}: {error!r}'[:300])
        except Exception as error:  # noqa: BLE001  what the test is after
            report['wrong'].append(f'{kind} {path.name}: {error!r}'[:300])
        report['slowest'] = max(report['slowest'], time.monotonic() - began)
        path.write_bytes(content)
    return report


def main() -> None:
    """Run under an address-space limit, in processes that import nothing again."""
    folder, num_inputs, num_processes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # Starting and joining threads takes longer than decoding frames of this size.
    os.environ['OPENCV_FFMPEG_CAPTURE_OPTIONS'] = 'threads;1'
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # FFmpeg and libpng complain at length
    logging.disable()  # MMEngine notes each dataset that is built
    gc.freeze()  # MMEngine collects garbage whenever a dataset is built
    used = int(Path('/proc/self/statm').read_text().split()[0]) * 4096
    limit = used + GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        places = [Path(place) / str(seed) for seed in range(num_processes)]
        context = multiprocessing.get_context('fork')
        with ProcessPoolExecutor(num_processes, mp_context=context) as pool:
            numbers = [num_inputs] * num_processes
            reports = list(pool.map(fuzz, places, numbers, range(num_processes)))
    for report in reports:
        sys.stdout.write(json.dumps(report) + '\n')


if __name__ == '__main__':
    main()
