"""The error of unusable clips."""

import pickle

from projects.sam2.datasets import ClipDataError


def test_it_names_place_problem_and_remedy() -> None:
    error = ClipDataError.at('clip/00001.png', 'is empty', 'write it again')
    assert str(error) == 'clip/00001.png: is empty; write it again'
    assert isinstance(error, ValueError)


def test_a_worker_can_hand_it_to_the_main_process() -> None:
    error = ClipDataError.at('clip', 'is bad', 'mend it')
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301  made here
    assert type(copied) is ClipDataError
    assert str(copied) == str(error)
    assert str(ClipDataError(str(error))) == str(error)  # as torch builds it again
