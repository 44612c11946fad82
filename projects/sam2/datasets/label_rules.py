"""Which pixels of a label image are an object: an instance, a class, a region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.reading import VOID_LABEL, present_labels

CLASS_FACTOR = 2**16  # of the id of a region: class times this, plus its number


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
    """

    background: tuple[int, ...] = (0,)
    void: tuple[int, ...] | None = None
    regions: bool = False
    min_pixels: int = 1

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

    def object_map(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Give each object a number of its own.

        Args:
            labels: (height, width), uint8 or uint16.

        Returns:
            (height, width), 0 where no object is. Numbers are labels (label + 1, where
            0 is one of an object), or those of the regions (uint32).
        """
        skipped = {*self.background, *self.void_labels(labels)}
        shift = 0 if 0 in skipped else 1
        if self.regions:
            return self._regions(labels, skipped, shift)
        kept = ~np.isin(labels, list(skipped))
        objects = np.where(kept, labels.astype(np.int32) + shift, 0)
        counts = np.bincount(objects.reshape(-1))
        objects[counts[objects] < self.min_pixels] = 0
        return objects

    def _regions(
        self, labels: NDArray[Any], skipped: set[int], shift: int
    ) -> NDArray[np.int64]:
        objects = np.zeros(labels.shape, np.int64)
        for label in present_labels(labels, skipped):
            found, numbers, stats, _ = cv2.connectedComponentsWithStats(
                (labels == label).astype(np.uint8), connectivity=8
            )
            for number in range(1, found):
                if stats[number, cv2.CC_STAT_AREA] >= self.min_pixels:
                    object_id = (label + shift) * CLASS_FACTOR + number
                    objects[numbers == number] = object_id
        return objects
