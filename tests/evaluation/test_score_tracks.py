"""Scores of a video as they come in, and what its predictions lack."""

import pytest

from projects.sam2.evaluation import (
    FrameObjects,
    FrameScores,
    JFAppearanceProtocol,
    JFDavisProtocol,
    JFProtocol,
    ScoreTracks,
    VideoScores,
)

TRUTH = [{1, 2}, {1}, {1, 2}, {2, 3}, {1}]


def run(
    protocol: JFProtocol, predicted: list[set[int] | None], *, by_object: bool = False
) -> VideoScores:
    """Score a video of which each J is 1 and each F one half."""
    tracks = ScoreTracks(protocol)
    tracks.begin(range(len(TRUTH)))
    for index, (truth, ids) in enumerate(zip(TRUTH, predicted, strict=True)):
        frame = FrameObjects(
            frame_index=index,
            frame_name=f'{10 * index}',
            truth=truth,
            shown=ids or set(),
            predicted=ids,
            by_object=by_object,
        )
        chosen = tracks.choose(frame)
        number = len(chosen)
        tracks.add(index, chosen, FrameScores(j=(1.0,) * number, f=(0.5,) * number))
    return tracks.finish('clip')


def test_scores_of_objects_that_count_are_kept() -> None:
    scores = run(JFDavisProtocol(), [{1, 2}] * 5)
    assert [(s.object_id, s.frames) for s in scores.objects] == [
        (1, (1, 2, 3)),
        (2, (1, 2, 3)),
    ]
    assert (scores.j, scores.f) == ((1.0, 1.0), (0.5, 0.5))
    assert scores.video_name == 'clip'
    assert scores.protocol.startswith('JFDavisProtocol')
    assert not scores.gaps


def test_frames_that_count_and_lack_a_prediction_are_named() -> None:
    # Nothing counts on the first frame and on the last.
    gaps = run(JFDavisProtocol(), [None, {1, 2}, None, {1}, None]).gaps
    assert gaps.missing_frames == ('20',)
    assert gaps
    late = run(JFAppearanceProtocol(), [None, {1, 2}, None, {1}, None]).gaps
    assert late.missing_frames == ('20', '40')


def test_objects_that_were_never_predicted_are_named() -> None:
    gaps = run(JFAppearanceProtocol(), [{1}, {1}, {1}, {1}, {1}]).gaps
    assert gaps.missing_objects == (2, 3)
    # Object 3 counts on no frame under this protocol.
    assert run(JFDavisProtocol(), [{1, 2}] * 5).gaps.missing_objects == ()


def test_objects_that_the_truth_never_shows_are_named() -> None:
    assert run(JFDavisProtocol(), [{1, 2, 3, 7}] * 5).gaps.extra_objects == (7,)


def test_frames_of_single_objects_are_named_where_each_has_its_own() -> None:
    predicted: list[set[int] | None] = [{1, 2}, {1}, {1, 2}, {1, 2}, set()]
    assert run(JFDavisProtocol(), predicted).gaps.missing_frames == ()
    alone = run(JFDavisProtocol(), predicted, by_object=True)
    assert alone.gaps.missing_frames == ('10 of 2',)


def test_next_video_starts_afresh() -> None:
    tracks = ScoreTracks(JFDavisProtocol())
    for _ in range(2):
        tracks.begin([0])
        frame = FrameObjects(
            frame_index=0, frame_name='0', truth={1}, shown={5}, predicted={5}
        )
        assert tracks.choose(frame) == ()
        scores = tracks.finish('clip')
        assert (scores.objects, scores.gaps.extra_objects) == ((), (5,))


def test_one_score_an_object_is_asked_for() -> None:
    tracks = ScoreTracks(JFDavisProtocol())
    with pytest.raises(ValueError, match='zip'):
        tracks.add(0, (1, 2), FrameScores(j=(1.0,), f=(1.0,)))
