"""Files of the inferencer: overlays, label maps, run lengths and arrays."""

import json
import re
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from PIL import Image

from projects.sam2.apis.inference_results import InferenceResult, InferredFrame
from projects.sam2.datasets.synthetic import davis_palette
from projects.sam2.ops import write_whole
from projects.sam2.visualization import VideoFile
from projects.sam2.visualization.clip_visualizer import write_png
from projects.sam2.visualization.text import Picture

__all__ = ['FORMATS', 'ResultFiles', 'check_ids']

FORMATS = ('png', 'json', 'npz')
MAX_PALETTE_ID = 255
# Largest id that a format holds: 16 bits of a PNG, 64 of an array.
MAX_IDS = {'png': 2**16 - 1, 'npz': 2**63 - 1}
VIS_FOLDER, PRED_FOLDER = 'vis', 'pred'
FRAME_FILE = re.compile(r'\d{5,}\.(png|npz)')


@dataclass(slots=True, kw_only=True)
class ResultFiles:
    """Where the masks and pictures of one input go, written as they come.

    ``vis/<name>.png`` or ``.mp4`` shows the masks over the input. ``pred/`` holds
    ``<name>.png`` or, of a video, ``<name>/<frame>.png``, ids as a palette PNG (of 16
    bits without palette beyond id 255; of overlapping objects the smallest);
    ``<name>.json``, COCO's run lengths; and ``.npz`` beside the PNG with ``masks``,
    ``object_ids`` and ``ious``.

    Masks that an earlier run wrote for an input of this name are removed before the
    first one is written: they may be of frames or formats that this run has not.

    Attributes:
        folder: Made where it is missing.
        name: Of the input.
        formats: Some of ``FORMATS``.
        frames_per_second: Of a video; None for an image.
        written: Files so far.
    """

    folder: Path
    name: str
    formats: Collection[str]
    frames_per_second: float | None = None
    written: list[Path] = field(default_factory=list)
    _open_files: ExitStack = field(default_factory=ExitStack)
    _video: VideoFile | None = None
    _has_masks: bool = False

    def __post_init__(self) -> None:
        """Check the formats."""
        unknown = sorted(set(self.formats) - set(FORMATS))
        if unknown:
            msg = f'Unknown format {unknown[0]!r}; give some of {", ".join(FORMATS)}'
            raise ValueError(msg)

    def __enter__(self) -> 'ResultFiles':
        """Begin; files are made when there is something to write."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Finish the video, or leave nothing of it after a failure."""
        self._open_files.__exit__(*failure)  # type: ignore[arg-type]  # handed on

    def add_picture(self, picture: Picture) -> None:
        """Write an overlay, or append it to the video.

        Args:
            picture: RGB, (height, width, 3), both sides even.
        """
        stem = self.folder / VIS_FOLDER / self.name
        if self.frames_per_second is None:
            path = _with_ending(stem, '.png')
            write_png(path, picture)
            self.written.append(path)
            return
        if self._video is None:
            path = _with_ending(stem, '.mp4')
            opened = VideoFile(path, frames_per_second=self.frames_per_second)
            self._video = self._open_files.enter_context(opened)
            self.written.append(path)
        self._video.add(picture)

    def add_masks(self, frame: InferredFrame) -> None:
        """Write the masks of a frame.

        Args:
            frame: The frame.
        """
        if not self._has_masks:
            self._remove_earlier_masks()
            self._has_masks = True
        stem = self.folder / PRED_FOLDER / self.name
        if self.frames_per_second is not None:
            stem /= f'{frame.frame_index:05d}'
        if 'png' in self.formats:
            self._write_labels(_with_ending(stem, '.png'), frame)
        if 'npz' in self.formats:
            path = _with_ending(stem, '.npz')
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(
                path,
                masks=frame.masks,
                object_ids=np.array(frame.object_ids, dtype=np.int64),
                ious=np.array(frame.ious, dtype=np.float32),
            )
            self.written.append(path)

    def finish(self, result: InferenceResult) -> None:
        """Write what is known at the end alone.

        Args:
            result: Of the whole input.
        """
        if 'json' in self.formats:
            path = _with_ending(self.folder / PRED_FOLDER / self.name, '.json')
            write_whole(path, json.dumps(result.as_json()))
            self.written.append(path)

    def _remove_earlier_masks(self) -> None:
        """Remove the masks of an earlier run for an input of this name."""
        stem = self.folder / PRED_FOLDER / self.name
        if self.frames_per_second is None:
            files = [_with_ending(stem, f'.{ending}') for ending in FORMATS]
        else:
            frames = stem.iterdir() if stem.is_dir() else ()
            files = [path for path in frames if FRAME_FILE.fullmatch(path.name)]
            files.append(_with_ending(stem, '.json'))
        files = [path for path in files if path.is_file()]
        for path in files:
            path.unlink()
        if files:
            msg = f'{self.name}: removed {len(files)} files of masks of an earlier run'
            print_log(f'{msg} from {stem.parent}', logger='current')

    def _write_labels(self, path: Path, frame: InferredFrame) -> None:
        """Write ids as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = frame.label_map()
        if labels.max(initial=0) > MAX_PALETTE_ID:
            image = Image.fromarray(labels)
        else:
            image = Image.fromarray(labels.astype(np.uint8)).convert('P')
            image.putpalette(davis_palette())
        image.save(path, compress_level=1)
        self.written.append(path)


def check_not_in_input(path: str | Path, folder: Path, name: str) -> None:
    """Check that the masks of an input do not replace the input itself.

    Args:
        path: Of the input.
        folder: That the results are written to.
        name: Of the files of the input.

    Raises:
        ValueError: If the input is a folder that its masks would be written to.
    """
    masks = folder / PRED_FOLDER / name
    if Path(path).expanduser().resolve() == masks.resolve():
        msg = f'The masks of {path} would replace its frames; give another out_dir'
        raise ValueError(msg)


def check_ids(object_ids: Iterable[int], formats: Collection[str]) -> None:
    """Check that files can hold the ids of objects, before there are masks.

    Args:
        object_ids: Ids that users gave.
        formats: Some of ``FORMATS``.

    Raises:
        ValueError: If an id is too large for one of the formats.
    """
    largest = max(object_ids, default=0)
    small = [name for name in formats if largest > MAX_IDS.get(name, largest)]
    if small:
        fitting = [name for name in FORMATS if largest <= MAX_IDS.get(name, largest)]
        msg = (
            f'Object {largest} does not fit into {small[0]}, whose ids end at '
            f'{MAX_IDS[small[0]]}; write {" or ".join(fitting)}, or give smaller ids'
        )
        raise ValueError(msg)


def _with_ending(stem: Path, ending: str) -> Path:
    """Append an ending to a name that may hold dots itself."""
    return stem.with_name(stem.name + ending)
