"""Detect and track: association, the life of a track, and SAM 2's session."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from projects.sam2.apis import SAM2Stream, SAM2VideoPredictor, build_sam2
from projects.sam2.bridges.detection.detections import Detections
from projects.sam2.bridges.tracking.association import (
    Track,
    TrackRules,
    associate,
    find_intruders,
    has_ended,
    make_room,
    match,
    overlap_of,
)
from projects.sam2.bridges.tracking.detect_and_track import DetectAndTrack
from projects.sam2.datasets.sources.shapes import Role, ShapesClip, draw_shapes
from projects.sam2.installation import WEIGHTS
from projects.sam2.models import SAM2
from tracking_toys import (
    truth_detector,
    truth_ids,
    truth_masks,
    truth_tracker,
)

SIZE = (64, 96)
NAMES = ('cat', 'dog')
COLOURS = ((230, 120, 60), (80, 200, 230))
BOXES = ((8.0, 8.0, 40.0, 40.0), (50.0, 20.0, 90.0, 60.0))


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model of the examples, which segments boxes and tracks."""
    return build_sam2(
        WEIGHTS / 'sam2_mini_cells.py', WEIGHTS / 'sam2_mini.pth', device='cpu'
    )


@pytest.fixture(scope='module')
def frames() -> NDArray[np.uint8]:
    """A bright ellipse in each of the boxes, which move a little."""
    frames = np.full((20, *SIZE, 3), 60, np.uint8)
    for index, frame in enumerate(frames):
        for (left, top, right, bottom), colour in zip(BOXES, COLOURS, strict=True):
            middle = int(left + right) // 2 + index // 4, int(top + bottom) // 2
            axes = int(right - left) // 2, int(bottom - top) // 2
            cv2.ellipse(frame, middle, axes, 0, 0, 360, colour, cv2.FILLED)
    return frames


def boxes_of(*boxes: tuple[float, ...], score: float = 0.9) -> Detections:
    """Detections of class 0, with scores that fall slightly."""
    return Detections(
        boxes=torch.tensor(boxes).reshape(-1, 4),
        scores=score - torch.arange(len(boxes)) * 1e-4,
        labels=torch.zeros(len(boxes), dtype=torch.int64),
        class_names=NAMES,
    )


def square(left: int, top: int, side: int = 4) -> torch.Tensor:
    """A square in a frame of 16 x 16."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


# ------------------------------------------------------------------------ association


def test_overlaps_are_those_of_counted_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 9, 7, generator=generator) > 0.5
    others = torch.rand(3, 9, 7, generator=generator) > 0.7
    masks[0] = others[0] = False
    ious = overlap_of(masks, others).ious
    for (row, mask), (column, other) in itertools.product(
        enumerate(masks), enumerate(others)
    ):
        union = int((mask | other).sum())
        expected = int((mask & other).sum()) / union if union else 0.0
        assert ious[row, column] == pytest.approx(expected, abs=1e-12)


def test_matches_have_the_largest_sum_of_all_assignments() -> None:
    rng = np.random.default_rng(0)
    for shape in ((3, 4), (4, 3), (1, 1), (0, 3), (3, 0)):
        weights = rng.random(shape)
        pairs = match(weights, 0.4)
        allowed = np.where(weights >= 0.4, weights, 0)
        rows, columns = sorted(shape)
        wide = allowed if shape[0] <= shape[1] else allowed.T
        best = max(
            sum(wide[row, column] for row, column in enumerate(order))
            for order in itertools.permutations(range(columns), rows)
        )
        assert sum(weights[pair] for pair in pairs) == pytest.approx(best)
        assert all(weights[pair] >= 0.4 for pair in pairs)


def test_a_detection_begins_a_track_only_where_no_track_explains_it() -> None:
    tracks = torch.stack([square(0, 0), square(8, 8)])
    detections = torch.stack(
        [
            square(0, 0),  # matches track 0
            square(1, 0),  # a second detection of the same object
            square(8, 0),  # new
            square(8, 8, 2),  # inside track 1, of its class
            square(8, 8, 2),  # inside track 1, of another class: a part of it
            torch.zeros(16, 16, dtype=torch.bool),  # empty
            square(8, 1),  # as the new one, but weaker, and of another class
            square(0, 10),  # too weak
        ]
    )
    found = associate(
        track_masks=tracks,
        track_labels=[0, 1],
        masks=detections,
        labels=[0, 0, 0, 1, 0, 0, 1, 0],
        scores=[0.9, 0.9, 0.8, 0.9, 0.85, 0.9, 0.7, 0.4],
        rules=TrackRules(match_iou=0.5, start_score=0.5),
    )
    assert found.matches == ((0, 0),)
    assert found.starts == (4, 2)


def test_classes_decide_about_a_match_only_if_the_rules_say_so() -> None:
    arguments: dict[str, Any] = {
        'track_masks': square(0, 0)[None],
        'track_labels': [0],
        'masks': square(0, 0)[None],
        'labels': [1],
        'scores': [0.9],
    }
    assert associate(rules=TrackRules(), **arguments).matches == ((0, 0),)
    by_class = associate(rules=TrackRules(match_classes=True), **arguments)
    assert not by_class.matches
    assert not by_class.starts


def test_a_confident_detection_corrects_a_track_that_has_drifted() -> None:
    rules = TrackRules(match_iou=0.2, correct_iou=0.7, correct_score=0.8)
    arguments: dict[str, Any] = {
        'track_masks': torch.stack([square(0, 0), square(8, 8)]),
        'track_labels': [0, 0],
        'masks': torch.stack([square(2, 0), square(8, 8)]),
        'labels': [0, 0],
        'rules': rules,
    }
    assert associate(scores=[0.9, 0.9], **arguments).corrections == ((0, 0),)
    assert associate(scores=[0.7, 0.9], **arguments).corrections == ()


def test_of_two_tracks_on_one_object_the_one_that_jumped_there_intrudes() -> None:
    masks = torch.stack([square(0, 0), square(1, 0, 4), square(8, 8)])
    before = torch.stack([square(6, 0), square(1, 0), square(8, 8)])
    assert find_intruders(masks, before, 0.5) == [0]
    assert find_intruders(masks, masks, 0.5) == [1]  # the later one
    assert find_intruders(masks, before, 0.7) == []


def test_absent_tracks_make_room_for_new_objects() -> None:
    tracks = {key: Track(object_id=key) for key in (1, 2, 3)}
    for frame_index in range(9):  # 1 returned, 2 has left, 3 left before it
        for key, last_frame in ((1, 9), (2, 3), (3, 0)):
            visible = frame_index < last_frame and frame_index != 5
            tracks[key] = tracks[key].seen(visible=visible)
    rules = TrackRules(max_objects=4)
    assert make_room(tracks, [7], rules) == ([7], [])
    assert make_room(tracks, [7, 8], rules) == ([7, 8], [3])
    assert make_room(tracks, [7, 8, 9, 6], rules) == ([7, 8, 9], [3, 2])


def test_tracks_end_when_they_were_absent_or_missed_for_too_long() -> None:
    rules = TrackRules(max_absent=2, max_missed=1)
    track = Track(object_id=1)
    for _ in range(2):
        track = track.seen(visible=False)
    assert not has_ended(track, rules)
    assert has_ended(track.seen(visible=False), rules)
    assert not has_ended(track.seen(visible=True), rules)
    assert not has_ended(track.missed(), rules)
    assert has_ended(track.missed().missed(), rules)
    assert not has_ended(track.missed().missed(), replace(rules, max_missed=None))


@pytest.mark.parametrize(
    ('option', 'value'),
    [('match_iou', 1.5), ('max_objects', 0), ('max_missed', -1), ('max_absent', 0.5)],
)
def test_rules_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        TrackRules(**{option: value})  # type: ignore[arg-type]  # on purpose


# ------------------------------------------------------------ with the ground truth


def clip_with(role: Role, *, num_frames: int = 16) -> ShapesClip:
    """A generated clip in which an object has a role."""
    clips = (draw_shapes('val', i, num_frames=num_frames, side=64) for i in range(40))
    return next(clip for clip in clips if role in clip.roles)


@pytest.mark.parametrize('role', [Role.LATE, Role.RETURNING])
@pytest.mark.parametrize('every', [1, 4])
def test_true_detections_and_masks_give_one_id_and_class_for_each_object(
    model: SAM2, role: Role, every: int
) -> None:
    clip = clip_with(role)
    tracker = truth_tracker(model, clip, every=every)
    tracks = [tracker.step(frame) for frame in clip.frames]
    ids = truth_ids(clip, tracks)
    for frame_index, by_object in enumerate(ids):
        masks = truth_masks(clip, frame_index).flatten(1)
        visible = set(masks.any(dim=1).nonzero()[:, 0].tolist())
        seen = truth_masks(clip, 0).flatten(1).any(dim=1)
        for detected in range(0, frame_index + 1, every):
            seen |= truth_masks(clip, detected).flatten(1).any(dim=1)
        assert set(by_object) == visible & set(seen.nonzero()[:, 0].tolist())
    assert len({pair for by_object in ids for pair in by_object.items()}) == len(
        {obj for by_object in ids for obj in by_object}
    )
    for frame, by_object in zip(tracks, ids, strict=True):
        label_of = dict(zip(frame.object_ids, frame.labels.tolist(), strict=True))
        assert all(label_of[key] == clip.classes[o] for o, key in by_object.items())


def test_a_track_that_jumps_to_another_object_is_hidden_and_keeps_its_id(
    model: SAM2,
) -> None:
    clip = next(
        clip
        for index in range(40)
        if (clip := draw_shapes('val', index, num_frames=16, side=64)).roles[:2]
        == (Role.STAYING, Role.STAYING)
    )

    def follow(obj: int, frame_index: int) -> int:
        return 1 if obj == 0 and 5 <= frame_index < 9 else obj

    tracker = truth_tracker(model, clip, follow=follow, every=100)
    ids = truth_ids(clip, [tracker.step(frame) for frame in clip.frames])
    first = ids[0][0]
    for frame_index, by_object in enumerate(ids):
        assert by_object.get(0) == (None if 5 <= frame_index < 9 else first)
        assert by_object[1] == ids[0][1]


def test_the_class_of_a_track_is_voted_by_scores(model: SAM2) -> None:
    clip = draw_shapes('val', 0, num_frames=16, side=64)
    truth = truth_detector(clip)
    votes = iter([(1, 0.6), (0, 0.9), (1, 0.6)])

    def detect(frame: NDArray[np.uint8]) -> Detections:
        found = truth(frame)
        label, score = next(votes)
        return replace(
            found,
            labels=torch.full_like(found.labels, label),
            scores=torch.full_like(found.scores, score),
        )

    tracker = truth_tracker(model, clip, detect=detect, every=1)
    tracks = [tracker.step(frame) for frame in clip.frames[:3]]
    assert [int(frame.labels[0]) for frame in tracks] == [1, 0, 1]
    assert float(tracks[2].scores[0]) == pytest.approx(0.7)


# -------------------------------------------------------------------- with SAM 2


def test_a_track_that_ends_leaves_nothing_behind(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    found = iter([boxes_of(*BOXES), boxes_of(BOXES[1])])
    tracker = DetectAndTrack(
        model,
        lambda frame: next(found),
        every=1,
        rules=TrackRules(max_missed=0, match_iou=0.1),
    )
    before, after = (tracker.step(frame) for frame in frames[:2])
    assert before.object_ids == (1, 2)
    assert after.object_ids == (2,)
    assert [*tracker._state.objects] == [2]


def test_tracks_are_those_of_the_predictor_with_the_same_box(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    def detect(frame: NDArray[np.uint8]) -> Detections:
        return boxes_of(BOXES[0])

    tracker = DetectAndTrack(model, detect, every=100)
    predictor = SAM2VideoPredictor(model)
    stream = SAM2Stream(predictor)
    stream.track(frames[0])
    shown = predictor.add_new_points_or_box(stream.state, 0, 1, box=BOXES[0])
    for frame_index, frame in enumerate(frames):
        if frame_index:
            shown = stream.track(frame)
        tracks = tracker.step(frame)
        mask = shown.mask_logits[0, 0] > 0
        assert tracks.object_ids == ((1,) if mask.any() else ())
        assert torch.equal(tracks.masks.any(dim=0), mask)
    assert mask.any()


def test_a_stream_gives_the_tracks_of_the_whole_video_with_bounded_memory(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    answers = [BOXES[:1], (), BOXES, BOXES[1:]] * 2
    found = iter(answers * 2)
    tracker = DetectAndTrack(
        model,
        lambda frame: boxes_of(*next(found)),
        every=3,
        rules=TrackRules(match_iou=0.3, correct_iou=1),
    )
    offline = list(tracker.track(frames))
    assert [frame.object_ids for frame in offline[5:7]] == [(1,), (1, 2)]
    found = iter(answers)
    tracker.reset()
    sizes = []
    for frame, expected in zip(frames, offline, strict=True):
        tracks = tracker.step(frame)
        assert tracks.object_ids == expected.object_ids
        assert torch.equal(tracks.masks, expected.masks)
        stores = [obj.store for obj in tracker._state.objects.values()]
        sizes.append(max(len(s.tracked) + len(s.conditioning) for s in stores))
    # No correction conditions the rest of the video, or memories would pile up.
    assert sizes[-1] == sizes[-2] <= 17
    assert all(len(store.conditioning) == 1 for store in stores)


def failing(
    model: SAM2, detect: Callable[[NDArray[np.uint8]], Any], **options: Any
) -> DetectAndTrack:
    """A tracker that finds a box on frame 0, and then whatever ``detect`` finds."""
    first = [boxes_of(BOXES[0])]
    return DetectAndTrack(
        model, lambda f: first.pop() if first else detect(f), every=1, **options
    )


def labelled(label: int, names: tuple[str, ...] = NAMES) -> Detections:
    """A detection with a label."""
    return replace(boxes_of(BOXES[1]), labels=torch.tensor([label]), class_names=names)


def broken(frame: NDArray[np.uint8]) -> Detections:
    """A detector without memory."""
    msg = 'out of memory'
    raise RuntimeError(msg)


@pytest.mark.parametrize(
    ('detect', 'options', 'message'),
    [
        (broken, {}, r'out of memory \(while detecting objects on frame 1\)'),
        (lambda f: None, {}, 'returned a NoneType; return Detections'),
        (lambda f: labelled(7), {}, 'label 7 and names 2 classes'),
        (lambda f: labelled(0, ('a', 'b')), {}, 'names the classes a, b, but named'),
    ],
)
def test_an_error_of_the_detector_leaves_the_session_as_it_was(
    model: SAM2,
    frames: NDArray[np.uint8],
    detect: Callable[[NDArray[np.uint8]], Any],
    options: dict[str, Any],
    message: str,
) -> None:
    tracker = failing(model, detect, **options)
    tracker.step(frames[0])
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        tracker.step(frames[1])
    tracker.detect = lambda f: boxes_of()
    undisturbed = failing(model, lambda f: boxes_of())
    undisturbed.step(frames[0])
    for frame in frames[1:3]:
        tracks, expected = tracker.step(frame), undisturbed.step(frame)
        assert tracks.frame_index == expected.frame_index
        assert torch.equal(tracks.masks, expected.masks)


def test_frames_without_detections_need_no_names_and_nan_begins_no_track(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    nothing = replace(boxes_of(), class_names=())
    uncertain = replace(boxes_of(BOXES[0]), scores=torch.tensor([float('nan')]))
    detections = iter([nothing, uncertain, boxes_of(BOXES[0]), nothing])
    tracker = DetectAndTrack(model, lambda f: next(detections), every=1)
    tracks = [tracker.step(frame) for frame in frames[:4]]
    assert [each.object_ids for each in tracks[:3]] == [(), (), (1,)]
    assert tracks[3].class_names == NAMES


def test_detections_are_tensors() -> None:
    boxes, labels = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError, match=r'torch.as_tensor\(scores\)'):
        Detections(boxes=boxes, scores=np.ones(2), labels=labels)  # type: ignore[arg-type]


def test_frames_of_another_size_are_refused_until_the_tracker_is_reset(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    tracker = DetectAndTrack(model, lambda f: boxes_of(BOXES[0]), every=1)
    tracker.step(frames[0])
    smaller = frames[1][:48]
    with pytest.raises(ValueError, match='48'):
        tracker.step(smaller)
    assert tracker.step(frames[1]).frame_index == 1
    tracker.reset()
    assert tracker.step(smaller).masks.shape[1:] == smaller.shape[:2]


def test_masks_of_a_detector_must_exist_and_have_the_size_of_the_frame(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    tracker = DetectAndTrack(model, lambda f: boxes_of(BOXES[0]), prompts='masks')
    with pytest.raises(ValueError, match="give prompts='boxes'"):
        tracker.step(frames[0])
    small = replace(boxes_of(BOXES[0]), masks=torch.ones(1, 8, 8, dtype=torch.bool))
    tracker.detect = lambda f: small
    with pytest.raises(ValueError, match=r'masks of \(8, 8\) pixels'):
        tracker.step(frames[0])


def test_boxes_without_an_area_are_dropped_and_500_boxes_are_limited(
    model: SAM2, frames: NDArray[np.uint8]
) -> None:
    nothing = [(10.0, 10.0, 10.0, 30.0), (200.0, 0.0, 300.0, 50.0)]
    nothing += [(float('nan'), 0.0, 5.0, 5.0)]
    tracker = DetectAndTrack(model, lambda f: boxes_of(*nothing), every=1)
    assert len(tracker.step(frames[0])) == 0
    many = [
        (x, y, x + 6.0, y + 6.0)
        for x in np.linspace(0, 90, 25).tolist()
        for y in np.linspace(0, 58, 20).tolist()
    ]
    tracker = DetectAndTrack(
        model,
        lambda f: boxes_of(*many),
        rules=TrackRules(max_objects=5, match_iou=1, max_covered=1),
    )
    assert len(tracker.step(frames[0])) <= 5
    assert 0 < len(tracker._state.objects) <= 5
