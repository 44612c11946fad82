"""Measures what an index of many videos costs; run as a process of its own.

``python index_memory.py FOLDER NUM_VIDEOS KIND`` prints a line of JSON, in megabytes:
what building the dataset added to this process, and the unique set sizes that forked
workers gained while they went through all names.
"""

import gc
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import psutil
from mmengine.registry import DATASETS

import projects.sam2  # noqa: F401  registers the sources

MEGABYTE = 2**20
NUM_WORKERS = 4
NUM_FRAMES = 20


def write_palette(root: Path, names: list[str]) -> dict[str, Any]:
    """A list of videos, and an empty folder for each."""
    folder = root / 'JPEGImages'
    folder.mkdir()
    for name in names:
        os.mkdir(f'{folder}/{name}')  # noqa: PTH102  there are fifty thousand
    (root / 'list.txt').write_text('\n'.join(names))
    return {'type': 'ClipPaletteDataset', 'file_list': 'list.txt'}


def write_youtube_vis(root: Path, names: list[str]) -> dict[str, Any]:
    """An annotation file with all videos."""
    videos, annotations = [], []
    for number, name in enumerate(names):
        files = [f'{name}/{time:05d}.jpg' for time in range(NUM_FRAMES)]
        videos.append({'id': number, 'file_names': files})
        annotations.append(
            {
                'id': number,
                'video_id': number,
                'segmentations': [{'size': [720, 1280], 'counts': 'x' * 40}] * 20,
            }
        )
    content = {'videos': videos, 'annotations': annotations}
    (root / 'train.json').write_text(json.dumps(content))
    return {'type': 'ClipYouTubeVISDataset'}


WRITERS = {'palette': write_palette, 'youtube_vis': write_youtube_vis}


def own_bytes() -> int:
    """Memory that this process shares with no other."""
    process = psutil.Process()  # type: ignore[no-untyped-call]
    return int(process.memory_full_info().uss)  # type: ignore[no-untyped-call]


def go_through(dataset: Any, gained: Any) -> None:
    """Read every entry of the index."""
    before = own_bytes()
    for index in range(len(dataset)):
        dataset.video_name(index)
    gained.put(own_bytes() - before)


def main() -> None:
    """Build, fork, measure."""
    root = Path(sys.argv[1])
    names = [f'sav_{number:06d}' for number in range(int(sys.argv[2]))]
    config = WRITERS[sys.argv[3]](root, names)
    del names
    gc.collect()
    before = own_bytes()
    dataset = DATASETS.build({**config, 'data_root': str(root)})
    gc.collect()
    added = own_bytes() - before
    context = multiprocessing.get_context('fork')
    gained: Any = context.Queue()
    workers = [
        context.Process(target=go_through, args=(dataset, gained))
        for _ in range(NUM_WORKERS)
    ]
    for worker in workers:
        worker.start()
    growth = [gained.get(timeout=120) / MEGABYTE for _ in workers]
    for worker in workers:
        worker.join()
    sys.stdout.write(json.dumps({'added': added / MEGABYTE, 'workers': growth}) + '\n')


if __name__ == '__main__':
    main()
