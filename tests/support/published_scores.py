"""Published predictions with the scores of the DAVIS toolkit, as many as there are."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.io.images import read_labels


@dataclass(frozen=True)
class PublishedVideo:
    """Masks of a video and its scores.

    Attributes:
        name: Of the video.
        year: Of DAVIS; that of 2016 writes its one object as 255.
        files: Prediction and ground truth of each frame.
        scores: What was published of each object, by the names of the toolkit.
    """

    name: str
    year: str
    files: list[tuple[Path, Path]]
    scores: dict[int, dict[str, Any]]

    def maps(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """Labels of each frame, predicted and true."""
        for pred, truth in self.files:
            labels = read_labels(truth)
            yield (
                read_labels(pred),
                np.minimum(labels, 1) if self.year == '2016' else labels,
            )


def published_videos(folder: Path) -> list[PublishedVideo]:
    """Read the list of a folder.

    Args:
        folder: Holds ``expected.json``, and masks in ``gt_<year>`` and ``…_<yy>val``.
    """
    expected = json.loads((folder / 'expected.json').read_text(encoding='utf-8'))
    videos = []
    for key, scores in expected.items():
        if key == 'davis2016_val':
            videos += [('2016', name, {1: value}) for name, value in scores.items()]
        elif key.startswith('davis2017_'):
            by_object = {int(number): value for number, value in scores.items()}
            videos.append(('2017', key.removeprefix('davis2017_'), by_object))
    return [
        PublishedVideo(name, year, _files(folder, year, name), by_object)
        for year, name, by_object in videos
    ]


def _files(folder: Path, year: str, name: str) -> list[tuple[Path, Path]]:
    (pred,) = folder.glob(f'*_{year[2:]}val')
    truth = sorted((folder / f'gt_{year}' / name).glob('*.png'))
    return [(pred / name / path.name, path) for path in truth]
