"""Which pixels of a label image are an object: an instance, a class, a region."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.reading import VOID_LABEL

# Of the id of a region: class times this, plus its number. No image has more pixels.
CLASS_FACTOR = 2**32
BOTH = (np.minimum, np.maximum)
MAX_REGIONS = 2**16 - 1  # of an image; more are noise
MAX_VISITS = 256  # of a pixel: as many as a noisy image of 8 bits may need
FEWER_REGIONS = (
    "raise min_pixels, or leave regions out of the dataset's rule where the labels are "
    'instances'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """How labels become objects.

    Attributes:
        background: Labels that are no object.
        void: Labels of pixels to be ignored; None for 255 in files of 8 bits and
            nothing in files of 16.
        regions: Makes an object of each connected region of a label, in place of all
            pixels of the label.
        min_pixels: Objects with fewer pixels are left out.
        renamed: Pairs of a label of the file and what it is read as, before all else;
            labels of one new name are one.
    """

    background: tuple[int, ...] = (0,)
    void: tuple[int, ...] | None = None
    regions: bool = False
    min_pixels: int = 1
    renamed: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None) -> 'LabelRule':
        """Read the rule of a config.

        Args:
            settings: Values by name; None for those above.

        Returns:
            The rule.

        Raises:
            ValueError: If a name is unknown.
        """
        settings = dict(settings or {})
        unknown = sorted(set(settings) - set(cls.__dataclass_fields__))
        if unknown:
            msg = f'{unknown} in {settings}: give {", ".join(cls.__dataclass_fields__)}'
            raise ValueError(msg)
        sequences = {k: v for k, v in settings.items() if isinstance(v, Sequence)}
        return cls(**(settings | {k: tuple(v) for k, v in sequences.items()}))

    def rename(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Put new labels in the place of those in a file.

        Args:
            labels: (height, width), uint8 or uint16, as stored.

        Returns:
            The same with the new ones, which all else is said of.
        """
        if not self.renamed:
            return labels
        table = np.arange(np.iinfo(labels.dtype).max + 1, dtype=labels.dtype)
        for old, new in self.renamed:
            table[old] = new
        renamed: NDArray[Any] = table[labels]
        return renamed

    def void_labels(self, labels: NDArray[Any]) -> tuple[int, ...]:
        """Labels of pixels to be ignored.

        Args:
            labels: (height, width), uint8 or uint16.

        Returns:
            The labels.
        """
        if self.void is not None:
            return self.void
        return (VOID_LABEL,) if labels.dtype == np.uint8 else ()

    def object_map(self, labels: NDArray[Any], where: Path | str) -> NDArray[Any]:
        """Give each object a number of its own.

        Args:
            labels: (height, width), uint8 or uint16.
            where: File, for the error.

        Returns:
            (height, width), 0 where no object is. Numbers are labels (label + 1, where
            0 is one of an object), or those of the regions (int64).

        Raises:
            ClipDataError: If there are far more regions than an image has objects.
        """
        skipped = {*self.background, *self.void_labels(labels)}
        shift = 0 if 0 in skipped else 1
        if self.regions:
            return self._regions(labels, skipped, shift, where)
        kept = ~np.isin(labels, list(skipped))
        objects = np.where(kept, labels.astype(np.int32) + shift, 0)
        counts = np.bincount(objects.reshape(-1))
        objects[counts[objects] < self.min_pixels] = 0
        return objects

    def _regions(
        self, labels: NDArray[Any], skipped: set[int], shift: int, where: Path | str
    ) -> NDArray[np.int64]:
        objects = np.zeros(labels.shape, np.int64)
        places = label_places(labels, skipped)
        visits = sum(labels[place].size for place in places.values())
        if visits > MAX_VISITS * labels.size:
            problem = f'has {len(places)} labels, each all over the image'
            raise ClipDataError.at(where, problem, FEWER_REGIONS)
        total = 0
        for label, place in places.items():
            _, numbers, stats, _ = cv2.connectedComponentsWithStats(
                (labels[place] == label).astype(np.uint8), connectivity=8
            )
            kept = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= self.min_pixels) + 1
            total += len(kept)
            if total > MAX_REGIONS:
                problem = f'has more than {MAX_REGIONS} connected regions'
                raise ClipDataError.at(where, problem, FEWER_REGIONS)
            id_of = np.zeros(len(stats), np.int64)
            id_of[kept] = (label + shift) * CLASS_FACTOR + kept
            objects[place] += id_of[numbers]
        return objects


def label_places(
    labels: NDArray[Any], skipped: Collection[int]
) -> dict[int, tuple[slice, slice]]:
    """Find where each label is, all at once.

    Args:
        labels: (height, width), uint8 or uint16.
        skipped: Labels that do not count.

    Returns:
        Rows and columns of the smallest box around each of the others, by the label.
    """
    flat = labels.reshape(-1)
    order = np.argsort(flat, kind='stable')  # counts 8 and 16 bits, compares nothing
    found, first = np.unique(flat[order], return_index=True)
    rows, columns = np.divmod(order, labels.shape[1])
    boxes = zip(
        *(
            extreme.reduceat(axis, first)
            for axis in (rows, columns)
            for extreme in BOTH
        ),
        strict=True,
    )
    return {
        label: (slice(top, bottom + 1), slice(left, right + 1))
        for label, (top, bottom, left, right) in zip(found.tolist(), boxes, strict=True)
        if label not in skipped
    }
