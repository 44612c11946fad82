"""Counts clips that had to be skipped, and says when there are too many."""

import logging
from dataclasses import dataclass, field
from math import ceil

from mmengine.logging import print_log

from projects.sam2.datasets.errors import ClipDataError

NUM_NAMED = 20
MIN_ATTEMPTS = 20
NUM_TOLERATED = 2  # bad clips that may be chance, where the dataset is large enough


@dataclass(slots=True, kw_only=True)
class BadClipLedger:
    """Distinct clips that a worker tried and those that it had to skip.

    Attributes:
        num_clips: Clips of the dataset.
        max_share: Largest share of bad ones among the distinct clips tried. It is
            taken of at least 20 clips, and of as many as make it two clips (of all,
            where the dataset has fewer), so that one bad clip among the first does
            not end a long run.
        attempted: Names of the clips tried.
        reasons: Why a clip was skipped, by its name.
    """

    num_clips: int
    max_share: float
    attempted: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str) -> None:
        """Note that a clip is tried."""
        self.attempted.add(name)

    def reject(self, name: str, error: ClipDataError) -> None:
        """Note and log that a clip is skipped.

        Args:
            name: The clip.
            error: What is wrong with it.

        Raises:
            ClipDataError: If the share of bad clips is exceeded.
        """
        if name not in self.reasons:
            self.reasons[name] = str(error)
            count = f'{len(self.reasons)} bad of {len(self.attempted)} clips tried'
            # MMEngine prints nothing less than an error of processes but the first.
            print_log(f'Skipped {name} ({count}): {error}', 'current', logging.ERROR)
        if len(self.reasons) > self._num_allowed():
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
        named = [f'  {reason}' for reason in self.reasons.values()][:NUM_NAMED]
        unnamed = len(self.reasons) - len(named)
        count = (
            f'{len(self.reasons)} of {len(self.attempted)} clips tried cannot be used '
            f'(max_bad_share={self.max_share}); mend them, put them on the exclude '
            f'list, or raise max_bad_share:'
        )
        lines = [count, *named]
        return '\n'.join([*lines, f'  and {unnamed} more'] if unnamed else lines)
