"""The scan of truth and prediction together."""

import threading

import numpy as np
import pytest

from projects.sam2.evaluation.jf import JointFrame, JointSquares

SIZES = [(1, 1), (1, 6), (6, 1), (5, 8), (13, 11)]


def scan(truth: np.ndarray, pred: np.ndarray) -> JointSquares:
    frame = JointFrame()
    frame.begin((truth.shape[0], truth.shape[1]))[:] = 16 * truth + pred
    return frame.scan()


def random_pair(size: tuple[int, int], share: float) -> tuple[np.ndarray, np.ndarray]:
    """Values that are mostly zero, so that some squares are of one value."""
    rng = np.random.default_rng(size[1])
    values = rng.integers(0, 16, (2, *size)) * (rng.random((2, *size)) < share)
    return values[0].astype(np.uint8), values[1].astype(np.uint8)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('share', [0.0, 0.1, 1.0])
def test_squares_of_several_values_are_found(
    size: tuple[int, int], share: float
) -> None:
    pair = random_pair(size, share)
    squares = scan(*pair)
    found = dict(zip(squares.positions.tolist(), squares.corners.T, strict=True))
    assert list(found) == sorted(found)
    for y in range(size[0]):
        for x in range(size[1]):
            below, right = min(y + 1, size[0] - 1), min(x + 1, size[1] - 1)
            places = [(y, x), (y, right), (below, x), (below, right)]
            corners = np.array([[frame[place] for place in places] for frame in pair])
            position = y * size[1] + x
            if position in found:
                np.testing.assert_array_equal(found[position], corners)
            else:
                assert (corners == corners[:, :1]).all()


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('share', [0.0, 0.1, 1.0])
def test_areas_count_each_pixel_once(size: tuple[int, int], share: float) -> None:
    truth, pred = random_pair(size, share)
    expected = np.zeros((16, 16))
    np.add.at(expected, (truth, pred), 1)
    np.testing.assert_array_equal(scan(truth, pred).areas, expected)


def test_uniform_squares_are_passed_over() -> None:
    truth = np.zeros((40, 50), np.uint8)
    truth[10:20, 10:20] = 3
    assert len(scan(truth, truth).positions) == 41  # 40 about the edge, and the last


def test_threads_fill_frames_of_their_own() -> None:
    truth, pred = random_pair((13, 11), 0.5)
    frame = JointFrame()
    frame.begin((13, 11))[:] = 16 * truth + pred

    def fill_another() -> None:
        frame.begin((13, 11))[:] = 0
        frame.scan()

    thread = threading.Thread(target=fill_another)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(frame.scan().areas, scan(truth, pred).areas)
