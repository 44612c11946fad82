"""J and F of a frame: golden, published, written out literally, and bad input."""

import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from golden_cases import assert_exact
from projects.sam2.evaluation import (
    boundary_f,
    boundary_map,
    boundary_radius,
    jf,
    region_similarity,
    score_labels,
    score_masks,
)
from projects.sam2.evaluation.jf import (
    ContourPoints,
    find_unmatched,
    packed_frame,
    scan_squares,
)
from published_scores import published_videos
from score_cases import plain_contour, plain_f, plain_j
from score_files import MaskPair

# Small ones, and long ones, in which the radius is large: 11 pixels, and in LARGE 37.
SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 13), (24, 17), (5, 1300), (1300, 3)]
LARGE = (3, 4500)


def patches(
    rng: np.random.Generator, size: tuple[int, int], labels: list[int]
) -> np.ndarray:
    """Rectangles, lines and single pixels, some over the edge of the frame."""
    frame = np.zeros(size, np.uint8)
    for label in rng.permutation(np.repeat(labels, 3)):
        corner = rng.integers(-2, np.array(size) + 1)
        sides = rng.integers(1, 2 + np.array(size) // rng.integers(1, 9, 2))
        first, last = np.maximum(corner, 0), np.maximum(corner + sides, 0)
        frame[first[0] : last[0], first[1] : last[1]] = label
    return frame


def assert_equal(
    literal: ModuleType, pred: np.ndarray, truth: np.ndarray, object_ids: list[int]
) -> None:
    """Both ways give the same numbers, to the last bit."""
    scores = score_labels(pred, truth, object_ids)
    expected = literal.literal_scores(pred, truth, object_ids)
    assert list(zip(scores.j, scores.f, strict=True)) == expected


@pytest.mark.published_scores
def test_published_scores_are_met_to_the_last_bit(published: Path) -> None:
    videos = published_videos(published)
    assert videos
    for video in videos:
        for index, (pred, truth) in enumerate(video.maps()):
            scores = score_labels(pred, truth, list(video.scores))
            for j, f, wanted in zip(
                scores.j, scores.f, video.scores.values(), strict=True
            ):
                values = wanted['J_per_frame'][index], wanted['F_per_frame'][index]
                assert values in {(j, f), (None, None)}, f'{video.name}, frame {index}'


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('labels', [[1], [1, 2, 3, 4, 5], [3, 15], [2, 255]])
def test_labels_score_as_the_literal_way(
    literal: ModuleType, size: tuple[int, int], labels: list[int]
) -> None:
    rng = np.random.default_rng(size[1] + len(labels))
    for _ in range(3):
        truth = patches(rng, size, labels)
        moved = np.roll(truth, rng.integers(-3, 4, 2), axis=(0, 1))
        pred = np.where(rng.random(size) < 0.02, patches(rng, size, labels), moved)
        objects = [label for label in labels if label != 255]
        assert_equal(literal, pred, truth, [*objects, 7])


@settings(max_examples=150, deadline=None)
@given(
    frames=st.tuples(st.integers(1, 7), st.integers(1, 9)).flatmap(
        lambda size: arrays(
            np.uint8, (2, *size), elements=st.sampled_from([0, 1, 2, 9])
        )
    )
)
@example(frames=np.arange(8, dtype=np.uint8).reshape(2, 2, 2))
def test_noise_scores_as_the_literal_way(
    literal: ModuleType, frames: np.ndarray
) -> None:
    assert_equal(literal, frames[0], frames[1], [1, 2, 9])


@pytest.mark.parametrize('seed', range(3))
def test_generated_contours_score_as_the_literal_way(
    literal: ModuleType, seed: int
) -> None:
    scene = literal.make_scene(240, 427, 3 + 6 * seed, seed)
    assert_equal(literal, scene.pred, scene.truth, list(scene.object_ids))


@pytest.mark.parametrize('distance', [0, 1, 25, 26, 36, 37, 38, 63, 64, 200])
@pytest.mark.parametrize('start', [0, 60, 64, 4200])
def test_disks_wider_than_a_word_are_tested_whole(
    literal: ModuleType, distance: int, start: int
) -> None:
    pred, truth = np.zeros((2, *LARGE), np.uint8)
    truth[1, start] = pred[1, start + distance] = 1
    for pair in ((pred, truth), (truth, pred)):
        assert_equal(literal, *pair, [1])


def test_many_objects_are_scored_in_groups(literal: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = [*range(1, 40), 254]
    truth = patches(rng, (60, 90), labels)
    pred = np.where(rng.random(truth.shape) < 0.9, np.roll(truth, 1, 0), 255)
    assert_equal(literal, pred.astype(np.uint8), truth, labels)
    wide = [frame.astype(np.uint16) * 250 for frame in (pred, truth)]
    assert score_labels(wide[0], wide[1], [250 * label for label in labels]) == (
        score_labels(pred.astype(np.uint8), truth, labels)
    )


def test_void_is_ignored_in_truth_alone(literal: ModuleType) -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:15, 5:15] = 1
    truth[:, 12:20] = 255
    pred = np.where(truth == 255, 1, truth).astype(np.uint8)
    scores = score_labels(pred, truth, [1])
    assert (scores.j, scores.f) == ((1.0,), (1.0,))
    # 255 in a prediction is nothing but no object.
    pred[6, 6] = 255
    assert_equal(literal, pred, truth, [1])
    assert score_labels(pred, truth, [1]).j == (69 / 70,)


@pytest.mark.parametrize('num_objects', [1, 2, 4, 5, 9])
@pytest.mark.parametrize('with_void', [False, True])
def test_masks_that_overlap_score_as_the_literal_way(
    literal: ModuleType,
    num_objects: int,
    with_void: bool,
) -> None:
    rng = np.random.default_rng(num_objects)
    for size in SIZES:
        pred, truth = (
            [patches(rng, size, [1]) > 0 for _ in range(num_objects)] for _ in range(2)
        )
        void = rng.random(size) < 0.1 if with_void else None
        scores = score_masks(pred, truth, void)
        pairs = zip(pred, truth, scores.j, scores.f, strict=True)
        for *pair, j, f in pairs:
            assert [j, f] == [
                literal.literal_j(*pair, void),
                literal.literal_f(*pair, void),
            ]


def test_masks_and_labels_have_equal_scores() -> None:
    rng = np.random.default_rng(1)
    pred, truth = (patches(rng, (40, 50), [1, 2, 3]) for _ in range(2))
    stacks = [np.arange(1, 4)[:, None, None] == frame for frame in (pred, truth)]
    assert score_masks(*stacks) == score_labels(pred, truth, [1, 2, 3])


def test_empty_against_empty_is_right_and_against_something_wrong() -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:9, 5:9] = 2
    scores = score_labels(np.zeros_like(truth), truth, [1, 2, 99])
    assert (scores.j, scores.f) == ((1.0, 0.0, 1.0), (1.0, 0.0, 1.0))
    assert score_labels(truth, truth, []).j == ()
    assert score_masks([], []).f == ()


def test_inputs_may_be_views_and_are_left_alone() -> None:
    rng = np.random.default_rng(2)
    both = np.stack([patches(rng, (40, 50), [1, 2, 255]) for _ in range(2)], axis=-1)
    before = both.copy()
    pred, truth = both[..., 0], both[..., 1]
    scores = score_labels(pred, truth, [1, 2])
    assert score_labels(pred.copy(), truth.copy(), [1, 2]) == scores
    np.testing.assert_array_equal(both, before)


def test_frame_leaves_nothing_to_the_next_of_another_shape(literal: ModuleType) -> None:
    rng = np.random.default_rng(3)
    for size in ((6, 35), (35, 6), (5, 42), (42, 5), (6, 35)):
        pred, truth = (patches(rng, size, [1, 2]) for _ in range(2))
        assert_equal(literal, pred, truth, [1, 2])


@pytest.mark.parametrize('object_ids', [[0], [255], [1, 300]])
def test_label_that_is_not_an_object_is_refused(object_ids: list[int]) -> None:
    frame = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match='from 1 to 254'):
        score_labels(frame, frame, object_ids)


def test_frames_of_other_sizes_are_refused() -> None:
    frame = np.zeros((4, 5), np.uint8)
    for pred, truth in ((frame[1:], frame), (frame[None], frame[None])):
        with pytest.raises(ValueError, match=r'one size.*resize the prediction'):
            score_labels(pred, truth, [1])
    with pytest.raises(ValueError, match='one size'):
        score_labels(frame[:0], frame[:0], [1])
    for score in (region_similarity, boundary_f):
        with pytest.raises(ValueError, match=r'one size.*resize the prediction'):
            score(frame[1:] > 0, frame > 0)
    with pytest.raises(ValueError, match='but got 2 and 1'):
        score_masks([frame > 0] * 2, [frame > 0])


def test_labels_of_other_types_are_refused() -> None:
    frame = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=r'uint8 or uint16.*bool.*score_masks'):
        score_labels(frame > 0, frame, [1])


@pytest.mark.golden
def test_equals_the_released_evaluator(golden_pair: MaskPair) -> None:
    pred, truth = golden_pair.pred, golden_pair.truth
    assert_exact(boundary_radius(truth.shape), golden_pair.radius, 'radius')
    assert_exact(boundary_map(truth), golden_pair.contour, 'contour')
    assert_exact(boundary_f(pred, truth), golden_pair.f, 'F')
    assert_exact(region_similarity(pred, truth), golden_pair.j, 'J')


@settings(max_examples=60, deadline=None)
@given(masks=arrays(bool, (3, 9, 11), elements=st.booleans()), with_void=st.booleans())
@example(masks=np.zeros((3, 9, 11), bool), with_void=False)
@example(masks=np.ones((3, 9, 11), bool), with_void=True)
def test_equals_a_comparison_pixel_by_pixel(
    masks: np.ndarray, *, with_void: bool
) -> None:
    before = masks.copy()
    pred, truth, void = masks[0], masks[1], masks[2] if with_void else None
    assert region_similarity(pred, truth, void) == plain_j(pred, truth, void)
    expected = plain_f(pred, truth, void)
    assert boundary_f(pred, truth, void) == pytest.approx(expected, abs=1e-15)
    contour = np.argwhere(boundary_map(pred)).tolist()
    assert contour == [list(pixel) for pixel in plain_contour(pred)]
    assert np.array_equal(masks, before)


@pytest.mark.parametrize(
    ('size', 'radius'),
    [((480, 854), 8), ((480, 853), 8), ((1080, 1920), 18), ((8, 8), 1)],
)
def test_radius_is_a_share_of_the_diagonal(size: tuple[int, int], radius: int) -> None:
    assert boundary_radius(size) == radius


@pytest.mark.parametrize('radius', [1, 2, 3, 5, 8, 31, 32, 37, 64, 70])
@pytest.mark.parametrize('block', [7, 2048])
def test_unmatched_points_are_those_beyond_the_radius(
    radius: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jf, 'MAX_DISK_POINTS', block)
    rng = np.random.default_rng(radius)
    for num_points in (1, 40, 300):
        # Large enough that some points of each contour are alone.
        width = int(radius * np.sqrt(num_points)) + 2
        size = (int(rng.integers(1, 2 * width)), width)
        points = ContourPoints(
            positions=rng.integers(0, size[0] * size[1], num_points),
            contours=rng.integers(0, 8, num_points),
            pred_bit=4,
            intersections=np.zeros(4),
            unions=np.zeros(4),
        )
        y, x = np.divmod(points.positions, width)
        near = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2 <= radius**2
        partners = points.contours[:, None] == points.contours ^ 4
        expected = np.flatnonzero(~(near & partners).any(axis=1))
        unmatched = find_unmatched(points, size, radius)
        np.testing.assert_array_equal(unmatched, expected)
        assert num_points < 300 or 0 < len(unmatched) < num_points


def test_uniform_squares_are_skipped() -> None:
    frame = packed_frame((40, 50))
    frame.pixels[:] = 0
    frame.pixels[10:20, 10:20] = 0x33
    assert len(scan_squares(frame).positions) == 41  # 40 at the edge, and the last


def test_threads_fill_frames_of_their_own() -> None:
    frames = [packed_frame((13, 11))]
    thread = threading.Thread(target=lambda: frames.append(packed_frame((13, 11))))
    thread.start()
    thread.join()
    assert frames[0] is packed_frame((13, 11))
    assert frames[1] is not frames[0]
