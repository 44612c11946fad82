"""Counts clips that had to be skipped, and says when there are too many."""

import logging
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from projects.sam2.datasets.errors import ClipDataError, ClipDrawError, abbreviate

NUM_NAMED = 20
MIN_ATTEMPTS = 20
NUM_TOLERATED = 2  # bad clips that may be chance, where the dataset is large enough


class ClipMarks:
    """Distinct clips, a bit each: sets of names would fill the memory of a worker.

    Args:
        num_clips: Clips of the dataset.
    """

    def __init__(self, num_clips: int) -> None:
        self._bits: NDArray[np.uint8] = np.zeros(num_clips // 8 + 1, np.uint8)
        self._count = 0

    def __len__(self) -> int:
        """Clips that are marked."""
        return self._count

    def __contains__(self, index: int) -> bool:
        """Whether a clip is marked."""
        return bool(self._bits[index // 8] & 1 << index % 8)

    def discard(self, index: int) -> None:
        """Take the mark from a clip, if it has one."""
        if index in self:
            self._bits[index // 8] ^= 1 << index % 8
            self._count -= 1

    def add(self, index: int) -> bool:
        """Mark a clip.

        Args:
            index: Its position in the dataset.

        Returns:
            Whether it was not marked before.
        """
        is_new = index not in self
        self._bits[index // 8] |= 1 << index % 8
        self._count += is_new
        return is_new


@dataclass(slots=True, kw_only=True)
class BadClipLedger:
    """Distinct clips that a worker tried and those that it had to skip.

    Attributes:
        num_clips: Clips of the dataset.
        max_share: Largest share of bad ones among the distinct clips tried. It is
            taken of at least 20 clips, and of as many as make it two clips (of all,
            where the dataset has fewer), so that one bad clip among the first does
            not end a long run.
        attempted: The clips tried.
        rejected: Those that were skipped. A clip that only had unlucky draws is taken
            off as soon as a draw of it succeeds.
        used: Clips of which a sample was made.
        lost: Rejected clips that only had unlucky draws.
        reasons: Why a clip was skipped, by its name; of the first 20.
    """

    num_clips: int
    max_share: float
    attempted: ClipMarks = field(init=False)
    rejected: ClipMarks = field(init=False)
    used: ClipMarks = field(init=False)
    lost: ClipMarks = field(init=False)
    reasons: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing was tried yet."""
        self.attempted = ClipMarks(self.num_clips)
        self.rejected = ClipMarks(self.num_clips)
        self.used = ClipMarks(self.num_clips)
        self.lost = ClipMarks(self.num_clips)

    def attempt(self, index: int) -> None:
        """Note that a clip is tried."""
        self.attempted.add(index)

    def accept(self, index: int, name: str) -> None:
        """Note that a clip was used; earlier unlucky draws do not make it bad.

        Args:
            index: Position of the clip in the dataset.
            name: Its name.
        """
        self.used.add(index)
        if index in self.lost:
            self.lost.discard(index)
            self.rejected.discard(index)
            self.reasons.pop(name, None)

    def reject(self, index: int, name: str, error: ClipDataError) -> None:
        """Note and log that a clip is skipped; an unlucky draw of a used clip is not.

        Args:
            index: Position of the clip in the dataset.
            name: Its name.
            error: What is wrong with it.

        Raises:
            ClipDataError: If the share of bad clips is exceeded.
        """
        if isinstance(error, ClipDrawError):
            if index in self.used:
                return
            if index not in self.rejected:
                self.lost.add(index)
        else:
            self.lost.discard(index)
        if self.rejected.add(index):
            if len(self.reasons) < NUM_NAMED:
                self.reasons[name] = str(error)
            count = f'{len(self.rejected)} bad of {len(self.attempted)} clips tried'
            # MMEngine prints nothing less than an error of processes but the first.
            print_log(
                f'Skipped {abbreviate(name)} ({count}): {error}',
                'current',
                logging.ERROR,
            )
        if len(self.rejected) > self._num_allowed():
            raise ClipDataError(self.summary()) from error

    def _num_allowed(self) -> float:
        """Bad clips that the share allows so far."""
        if self.max_share == 0:
            return 0
        floor = max(MIN_ATTEMPTS, ceil(NUM_TOLERATED / self.max_share))
        tried = max(len(self.attempted), min(self.num_clips, floor))
        return self.max_share * tried

    def summary(self) -> str:
        """Say how many clips are bad, which, why, and what to do."""
        named = [f'  {reason}' for reason in self.reasons.values()]
        unnamed = len(self.rejected) - len(named)
        count = (
            f'{len(self.rejected)} of {len(self.attempted)} clips tried cannot be used '
            f'(max_bad_share={self.max_share}); mend them, put them on the exclude '
            f'list, or raise max_bad_share:'
        )
        lines = [count, *named]
        return '\n'.join([*lines, f'  and {unnamed} more'] if unnamed else lines)
