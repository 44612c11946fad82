"""Keeps the largest error of each golden group, for the table that ends a run.

With several test processes each keeps its own; the controller joins them.
"""

import os
import re
from collections.abc import Mapping

Worst = dict[str, tuple[float, float]]

WORST: Worst = {}


def note_error(error: float, tolerance: float) -> None:
    """Remember an error of the running test, if it is the largest of its group.

    Groups are told apart by tolerance, so that none hides behind a looser one.

    Args:
        tolerance: What is allowed; 0 where all has to be equal.
    """
    case = re.search(r'\[(.+)\]', os.environ.get('PYTEST_CURRENT_TEST', ''))
    if case is None:
        return
    name = case.group(1).rpartition('-')[2]
    group = name.rpartition('_')[0] or name
    allowed = f'at most {tolerance:.0e}' if tolerance else 'exact'
    join_errors({f'{group} ({allowed})': (error, tolerance)})


def join_errors(others: Mapping[str, tuple[float, float]]) -> None:
    """Take the larger error of each group."""
    for group, (error, tolerance) in others.items():
        if error >= WORST.get(group, (-1.0, 0.0))[0]:
            WORST[group] = error, tolerance


def error_table() -> list[str]:
    """One line for each group, by name."""
    return [f'{group:44s} {error:.1e}' for group, (error, _) in sorted(WORST.items())]
