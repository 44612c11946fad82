"""Measure whether a long video takes more memory than a short one, and its disk space.

A small model tracks two objects through JPEG files and through an mp4. From frame 200
on, the memory of the process and the number of entries in the video's state are
recorded. The size of the archive file is divided by the number of archived objects and
frames; it depends on the size of the model's input only: at 1024 pixels it is 64 times
that at 128.

    python tools/benchmarks/video_memory.py --json work_dirs/video_memory.json
"""

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from resident_memory import resident_mb  # type: ignore[import-not-found]

from projects.sam2.apis import SAM2VideoPredictor, build_sam2_video_predictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.visualization.video_file import write_video

SIZE = (96, 128)
POINTS = ((30.0, 40.0), (90.0, 60.0))  # one on each object
TARGET_MB = 50.0  # largest change between the mark and the end, up or down


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Memory of a pass, in megabytes.

    Attributes:
        kind: How the frames are stored.
        num_frames: Frames of the video.
        at_mark_mb: Memory after the marked frame; from then on it should not grow.
        most_mb: Maximum from then on.
        least_mb: Minimum from then on.
        kept_at_mark: Memories and embeddings in RAM after the marked frame.
        kept_at_end: The same after the last frame.
        archived_mb: Size of the archive file at the end.
        archived_kb_each: Kilobytes for each archived object and frame.
        open_files: Files that were opened and are still open at the end.
    """

    kind: str
    num_frames: int
    at_mark_mb: float
    most_mb: float
    least_mb: float
    kept_at_mark: int
    kept_at_end: int
    archived_mb: float
    archived_kb_each: float
    open_files: int

    @property
    def change_mb(self) -> float:
        """Largest change since the mark."""
        return max(self.most_mb - self.at_mark_mb, self.at_mark_mb - self.least_mb)


def frames(count: int) -> Iterator[NDArray[np.uint8]]:
    """Generate frames of a moving pattern.

    Yields:
        (height, width, 3), RGB.
    """
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for index in range(count):
        shades = [np.sin((x + index * speed) / 9 + y / 7) for speed in (1, 2, 3)]
        yield (127 * (1 + np.stack(shades, axis=-1))).astype(np.uint8)


def write_frames(folder: Path, count: int) -> dict[str, Path]:
    """Write the video as JPEG files and as an mp4; return the paths."""
    paths = {'jpeg': folder / 'frames', 'mp4': folder / 'video.mp4'}
    paths['jpeg'].mkdir()
    for index, frame in enumerate(frames(count)):
        Image.fromarray(frame).save(paths['jpeg'] / f'{index:05d}.jpg')
    write_video(paths['mp4'], frames(count))
    return paths


def kept(state: VideoState) -> int:
    """Count the memories and embeddings that a video's state holds in RAM."""
    stores = [obj.store for obj in state.objects.values()]
    memories = sum(len(store.tracked) + len(store.conditioning) for store in stores)
    embeddings = sum(index in state.embeddings for index in range(state.num_frames))
    return memories + embeddings


def open_files() -> int:
    """Count the open files of this process."""
    return len(list(Path('/proc/self/fd').iterdir()))


def measure(
    predictor: SAM2VideoPredictor, kind: str, path: Path, *, mark: int
) -> Growth:
    """Track the objects through the whole video."""
    gc.collect()  # or files of earlier videos may be closed meanwhile
    files_before = open_files()
    state = predictor.init_state(path)
    for number, point in enumerate(POINTS, start=1):
        predictor.add_new_points_or_box(state, 0, number, [point], [1])
    held: list[float] = []
    kept_at_mark = 0
    for shown in predictor.propagate_in_video(state):
        if shown.frame_index == mark:
            kept_at_mark = kept(state)
        if shown.frame_index >= mark:
            held.append(resident_mb())
    file = state.offload_file
    num_bytes = 0 if file is None else file.used_bytes
    num_archived = len(POINTS) * state.num_frames - sum(
        len(obj.store.tracked) + len(obj.store.conditioning)
        for obj in state.objects.values()
    )
    return Growth(
        kind=kind,
        num_frames=state.num_frames,
        at_mark_mb=held[0],
        most_mb=max(held),
        least_mb=min(held),
        kept_at_mark=kept_at_mark,
        kept_at_end=kept(state),
        archived_mb=num_bytes / 1e6,
        archived_kb_each=num_bytes / 1e3 / max(num_archived, 1),
        open_files=open_files() - files_before,
    )


def main(arguments: Sequence[str] | None = None) -> list[Growth]:
    """Measure, print a table and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--config', default='_base_/models/sam2_1_mini.py', help='config or name')
    add('--frames', type=int, default=2000, help='of the video (default 2000)')
    add('--mark', type=int, default=200, help='first frame that counts (default 200)')
    add('--json', type=Path, metavar='FILE', help='write the table')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    predictor = build_sam2_video_predictor(options.config, device='cpu')
    rows = []
    print(
        f'frames   MB at {options.mark}   most   least   kept at {options.mark}   end'
        f'   disk MB   kB each   files'
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in write_frames(Path(folder), options.frames).items():
            row = measure(predictor, kind, path, mark=options.mark)
            held = f'{row.at_mark_mb:10.1f} {row.most_mb:6.1f} {row.least_mb:7.1f}'
            text = f'{kind:6} {held} {row.kept_at_mark:13} {row.kept_at_end:5}'
            disk = f'{row.archived_mb:9.1f} {row.archived_kb_each:9.3f}'
            print(f'{text} {disk} {row.open_files:7}', flush=True)
            rows.append(row)
    print(f'target: a change of at most {TARGET_MB:g} MB')
    if options.json is not None:
        report = {row.kind: asdict(row) | {'change_mb': row.change_mb} for row in rows}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2), encoding='utf-8')
    return rows


if __name__ == '__main__':
    main()
