"""Which objects count on which frames, and what is missing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from mmengine.registry import TASK_UTILS

from projects.sam2.evaluation import (
    PROTOCOLS,
    JFAppearanceProtocol,
    JFDavisProtocol,
    JFProtocol,
    JFSAVProtocol,
    VideoScorer,
    VideoScores,
)
from projects.sam2.structures import FrameMasks

# Object 2 appears on the third annotated frame, object 1 is gone on the fourth;
# object 9 is seen by the model alone.
TRUTH: Mapping[int, set[int]] = {2: {1}, 4: {1}, 6: {1, 2}, 8: {2}, 9: {1, 2}}
PREDICTED: Mapping[int, set[int]] = {2: set(), 4: {1, 9}, 6: {1}, 8: {1}, 9: {2}}


def counted(protocol: JFProtocol) -> dict[int, tuple[int, ...]]:
    protocol.begin(sorted(TRUTH))
    return {
        frame: protocol.objects(frame, TRUTH[frame], PREDICTED[frame])
        for frame in sorted(TRUTH)
    }


def test_davis_counts_objects_of_the_first_frame_between_first_and_last() -> None:
    protocol = JFDavisProtocol()
    assert counted(protocol) == {2: (), 4: (1,), 6: (1,), 8: (1,), 9: ()}
    assert protocol.reported() == {1}


def test_davis_starts_where_an_object_is_seen() -> None:
    protocol = JFDavisProtocol()
    protocol.begin((0, 1, 2, 3))
    chosen = [protocol.objects(i, {4} if i else set(), {4}) for i in range(4)]
    assert chosen == [(), (), (4,), ()]


def test_appearance_counts_each_object_after_its_first_frame() -> None:
    protocol = JFAppearanceProtocol()
    assert counted(protocol) == {2: (), 4: (1,), 6: (1,), 8: (1, 2), 9: (1, 2)}
    assert protocol.reported() == {1, 2}


@pytest.mark.parametrize(
    ('skip_ends', 'expected'),
    [
        (True, {2: (), 4: (1, 9), 6: (1, 2, 9), 8: (1, 2, 9), 9: ()}),
        (False, {2: (1,), 4: (1, 9), 6: (1, 2, 9), 8: (1, 2, 9), 9: (1, 2, 9)}),
    ],
)
def test_sav_counts_from_truth_or_prediction_and_reports_truth(
    skip_ends: bool,
    expected: dict[int, tuple[int, ...]],
) -> None:
    protocol = JFSAVProtocol(skip_ends=skip_ends)
    assert counted(protocol) == expected
    assert protocol.reported() == {1, 2}


@pytest.mark.parametrize(
    'name', ['JFDavisProtocol', 'JFAppearanceProtocol', 'JFSAVProtocol']
)
def test_next_video_starts_afresh(name: str) -> None:
    protocol = TASK_UTILS.build({'type': name})
    first = counted(protocol)
    assert counted(protocol) == first
    protocol.begin(())
    assert protocol.reported() == frozenset()


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        (PROTOCOLS['davis-all-frames'], {2: (1,), 4: (1,), 6: (1,), 8: (1,), 9: (1,)}),
        (
            PROTOCOLS['appearance-all-frames'],
            {2: (1,), 4: (1,), 6: (1, 2), 8: (1, 2), 9: (1, 2)},
        ),
        (
            {'type': 'JFDavisProtocol', 'skip_first': False},
            {2: (1,), 4: (1,), 6: (1,), 8: (1,), 9: ()},
        ),
        (
            {'type': 'JFAppearanceProtocol', 'skip_first': False, 'skip_last': True},
            {2: (1,), 4: (1,), 6: (1, 2), 8: (1, 2), 9: ()},
        ),
    ],
)
def test_each_end_is_left_out_by_itself(
    config: Mapping[str, Any], expected: dict[int, tuple[int, ...]]
) -> None:
    assert counted(TASK_UTILS.build(dict(config))) == expected


@pytest.mark.parametrize('name', PROTOCOLS)
def test_protocol_describes_itself(name: str) -> None:
    config = dict(PROTOCOLS[name])
    text = str(TASK_UTILS.build(config))
    assert text.startswith(f'{config["type"]}(skip_')
    for key in config.keys() - {'type'}:
        assert f'{key}={config[key]}' in text


FRAMES = [{1, 2}, {1}, {1, 2}, {2, 3}, {1}]  # objects that the ground truth shows


def run(
    protocol: JFProtocol,
    predicted: list[set[int] | None],
    *,
    as_labels: bool = False,
    by_object: bool = False,
) -> VideoScores:
    """Score a video in which object k is pixel k, and is predicted there or nowhere."""
    scorer = VideoScorer(protocol)
    scorer.begin(range(len(FRAMES)))
    pixel = np.eye(9, dtype=bool)[:, None]  # (objects, 1, 9)
    for index, (truth, pred) in enumerate(zip(FRAMES, predicted, strict=True)):
        name = f'{10 * index}'
        if as_labels:
            labels = np.arange(9, dtype=np.uint8)[None]
            true_map = labels * np.isin(labels, list(truth))
            pred_map = None if pred is None else labels * np.isin(labels, list(pred))
            scorer.add_labels(index, name, truth=true_map, pred=pred_map)
        else:
            scorer.add_masks(
                index,
                name,
                truth=FrameMasks(object_ids=tuple(truth), masks=pixel[list(truth)]),
                pred=None if pred is None else {i: pixel[i] for i in pred},
                by_object=by_object,
            )
    return scorer.finish('clip')


@pytest.mark.parametrize('as_labels', [False, True])
def test_scores_of_objects_that_count_are_kept(*, as_labels: bool) -> None:
    predicted: list[set[int] | None] = [{1, 2}, {1, 2}, None, {2}, {1}]
    scores = run(JFAppearanceProtocol(), predicted, as_labels=as_labels)
    assert [(obj.object_id, obj.frames, obj.frame_j) for obj in scores.objects] == [
        (1, (1, 2, 3, 4), (1.0, 0.0, 1.0, 1.0)),
        (2, (1, 2, 3, 4), (0.0, 0.0, 1.0, 1.0)),
        (3, (4,), (1.0,)),
    ]
    assert scores.video_name == 'clip'
    assert scores.protocol.startswith('JFAppearanceProtocol')
    assert scores.gaps.missing_frames == ('20',)
    assert scores.gaps.missing_objects == (3,)


@pytest.mark.parametrize('as_labels', [False, True])
def test_frames_that_count_and_lack_a_prediction_are_named(*, as_labels: bool) -> None:
    # Nothing counts on the first frame and on the last.
    predicted: list[set[int] | None] = [None, {1, 2}, None, {1}, None]
    gaps = run(JFDavisProtocol(), predicted, as_labels=as_labels).gaps
    assert gaps.missing_frames == ('20',)
    assert gaps
    late = run(JFAppearanceProtocol(), predicted, as_labels=as_labels).gaps
    assert late.missing_frames == ('20', '40')
    assert not run(JFDavisProtocol(), [{1, 2}] * 5, as_labels=as_labels).gaps


def test_objects_that_only_predictions_show_are_named() -> None:
    assert run(JFDavisProtocol(), [{1, 2, 3, 7}] * 5).gaps.extra_objects == (7,)
    scores = run(JFSAVProtocol(), [{1, 2, 3, 7}] * 5)
    assert scores.object_ids == (1, 2, 3)


def test_frames_of_single_objects_are_named_where_each_has_its_own() -> None:
    predicted: list[set[int] | None] = [{1, 2}, {1}, {1, 2}, {1, 2}, set()]
    assert run(JFDavisProtocol(), predicted).gaps.missing_frames == ()
    alone = run(JFDavisProtocol(), predicted, by_object=True)
    assert alone.gaps.missing_frames == ('10 of 2',)


def test_next_video_starts_without_scores_and_gaps() -> None:
    scorer = VideoScorer(JFDavisProtocol())
    labels = np.ones((2, 3), np.uint8)
    for _ in range(2):
        scorer.begin([0])
        scorer.add_labels(0, '0', truth=labels, pred=5 * labels)
        scores = scorer.finish('clip')
        assert (scores.objects, scores.gaps.extra_objects) == ((), (5,))
