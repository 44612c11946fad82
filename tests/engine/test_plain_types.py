"""NumPy's types become Python's own, at any depth."""

from collections import OrderedDict

import numpy as np

from projects.sam2.engine.files import to_plain


def test_plain_types_are_found_at_any_depth() -> None:
    given = OrderedDict(
        score=np.float64(0.5),
        sizes=(np.int64(2), [np.array([1, 2])]),
        rest={'text': 'a', 'none': None},
    )
    plain = to_plain(given)
    assert plain == {
        'score': 0.5,
        'sizes': (2, [[1, 2]]),
        'rest': {'text': 'a', 'none': None},
    }
    assert type(plain) is dict
    assert type(plain['score']) is float
    assert type(plain['sizes'][0]) is int
