"""A session: masks of the predictor, barriers, undo of everything, restarts."""

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from annotated_clips import (
    SIZE,
    all_masks,
    exact_predictor,
    moving_squares,
    new_session,
    pixels,
    small_predictor,
    square,
    track_all,
    write_clip,
)
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.ops import EncodedMask, decode_masks, encode_masks
from projects.sam2.webdemo.session.annotator import Annotator, Change
from projects.sam2.webdemo.session.video import AnnotatedVideo

NUM_FRAMES = 7
FIRST, SECOND = (19.0, 20.0, 1), (70.0, 45.0, 1)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Annotator]:
    annotator = new_session(tmp_path)
    yield annotator
    annotator.close()


# Against the predictor ----------------------------------------------------------------

point = st.tuples(st.integers(2, 93), st.integers(2, 61), st.integers(0, 1))
command = st.one_of(
    st.tuples(
        st.just('prompt'),
        st.integers(0, NUM_FRAMES - 1),
        st.integers(1, 3),
        st.lists(point, min_size=1, max_size=3),
    ),
    st.tuples(
        st.just('track'), st.integers(0, NUM_FRAMES - 1), st.integers(1, NUM_FRAMES)
    ),
    st.tuples(
        st.just('reverse'), st.integers(1, NUM_FRAMES - 1), st.integers(1, NUM_FRAMES)
    ),
    st.tuples(st.just('clear'), st.integers(0, NUM_FRAMES - 1), st.integers(1, 3)),
    st.tuples(st.just('delete'), st.integers(1, 3)),
    st.tuples(st.just('undo')),
    st.tuples(st.just('redo')),
)


class Reference:
    """What a session does, with the predictor alone: undo is a copy of its state."""

    def __init__(self) -> None:
        self.predictor = exact_predictor()
        self.states = [self.predictor.init_state(moving_squares(NUM_FRAMES))]
        self.undone: list[VideoState] = []

    @property
    def state(self) -> VideoState:
        """The current state."""
        return self.states[-1]

    def begin(self) -> VideoState:
        """Copy the state for the next change."""
        self.states.append(copy.deepcopy(self.state))
        self.undone.clear()
        return self.state

    def masks(self, frame: int) -> dict[int, EncodedMask]:
        """Masks of the objects that have one, from logits at the size of the video."""
        result = self.state.show(frame)
        binary = (result.mask_logits[:, 0] > 0).numpy()
        codes = encode_masks(binary) if len(binary) else []
        return {
            key: code
            for (key, obj), code in zip(self.state.objects.items(), codes, strict=True)
            if obj.output(frame) is not None
        }


def run_both(annotator: Annotator, reference: Reference, step: Any) -> None:
    """One command, if it makes sense, in the session and with the predictor."""
    predictor, document = reference.predictor, annotator.document
    match step:
        case ('prompt', frame, key, points):
            known = key in document.objects
            change = annotator.prompt(frame, key if known else None, points, None)
            predictor.add_new_points_or_box(
                reference.begin(),
                frame_idx=frame,
                obj_id=change.created[0],
                points=[[x, y] for x, y, _ in points],
                labels=[label for *_, label in points],
            )
        case ('track' | 'reverse' as word, start, count) if reference.state.objects:
            reverse = word == 'reverse'
            stop = start - count if reverse else start + count
            way = 'backward' if reverse else 'forward'
            ran = list(annotator.propagate(None, start, max(stop, -1), way))
            shown = list(
                predictor.propagate_in_video(
                    reference.begin(), start, count - 1, reverse=reverse
                )
            )
            assert [change.frame for change in ran] == [r.frame_index for r in shown]
        # Without any prompt an object starts anew; the predictor keeps its memories.
        case ('clear', frame, key) if {frame} < prompts_of(annotator, key):
            annotator.clear_prompts(frame, key)
            predictor.clear_all_prompts_in_frame(reference.begin(), frame, key)
        case ('delete', key) if key in document.objects:
            annotator.delete_objects([key])
            predictor.remove_object(reference.begin(), key)
        case ('undo',) if len(reference.states) > 1:
            assert annotator.can_undo is not None
            annotator.undo()
            reference.undone.append(reference.states.pop())
        case ('redo',) if reference.undone:
            annotator.redo()
            reference.states.append(reference.undone.pop())
        case ('redo',):
            assert annotator.can_redo is None


def prompts_of(annotator: Annotator, object_id: int) -> set[int]:
    obj = annotator.document.objects.get(object_id)
    return set() if obj is None else set(obj.prompts)


CLICK = ('prompt', 0, 1, [FIRST])
CORRECTION = ('prompt', 4, 1, [(60, 50, 0), (30, 20, 1)])


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(command, min_size=4, max_size=9))
@example(
    [
        CLICK,
        ('prompt', 0, 2, [SECOND]),
        ('prompt', 0, 2, [SECOND, (5, 5, 0)]),
        ('track', 0, 7),
        CORRECTION,
        ('track', 4, 7),
        ('reverse', 4, 7),
        ('undo',),
        ('undo',),
        ('undo',),
        ('track', 2, 7),
    ]
)
@example(
    [
        ('prompt', 3, 1, [FIRST]),
        ('reverse', 6, 7),
        ('prompt', 5, 1, [SECOND]),
        ('clear', 3, 1),
        ('track', 3, 7),
        ('undo',),
        ('undo',),
        ('redo',),
        ('track', 0, 7),
    ]
)
def test_masks_equal_those_of_the_predictor_bit_for_bit(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        annotator = new_session(Path(folder), NUM_FRAMES)
        reference = Reference()
        try:
            for number, step in enumerate(steps):
                run_both(annotator, reference, step)
                masks = all_masks(annotator)
                for frame in range(NUM_FRAMES):
                    seen = f'after {steps[: number + 1]} on frame {frame}'
                    assert masks[frame] == reference.masks(frame), seen
        finally:
            annotator.close()


def test_drawn_masks_stay_as_drawn_and_are_mask_prompts(session: Annotator) -> None:
    code = square(11, 9)
    session.draw(0, None, code)
    track_all(session)
    assert session.masks(0)[0].code == code
    assert np.isnan(session.masks(0)[0].score)
    predictor = exact_predictor()
    state = predictor.init_state(str(session.video.path))
    predictor.add_new_mask(state, 0, 1, decode_masks([code])[0])
    for result in predictor.propagate_in_video(state):
        if result.frame_index:
            expected = (result.mask_logits[0, 0] > 0).numpy()
            np.testing.assert_array_equal(
                pixels(session, 1, result.frame_index), expected
            )
            score = 100 * result.object_score_logits[0].sigmoid().item()
            shown = session.scores(1)[result.frame_index]
            assert abs(float(shown) - score) <= 0.5
    assert session.scores(1)[0] == 253


def test_a_click_refines_a_drawn_mask(session: Annotator) -> None:
    session.draw(0, None, square(11, 9))
    track_all(session)
    session.prompt(0, 1, [FIRST], None)
    predictor = exact_predictor()
    state = predictor.init_state(str(session.video.path))
    mask = decode_masks([square(11, 9)])[0]
    predictor.add_new_mask(state, 0, 1, mask)
    list(predictor.propagate_in_video(state))
    result = predictor.add_new_points_or_box(
        state, 0, 1, points=[FIRST[:2]], labels=[1]
    )
    expected = (result.mask_logits[0, 0] > 0).numpy()
    np.testing.assert_array_equal(pixels(session, 1, 0), expected)
    prompt = session.document.objects[1].prompts[0]
    assert (prompt.points, prompt.mask) == ((FIRST,), False)


# Passes -------------------------------------------------------------------------------


def changed_frames(
    before: dict[int, dict[int, EncodedMask]],
    after: dict[int, dict[int, EncodedMask]],
    object_id: int,
) -> set[int]:
    return {f for f in before if before[f].get(object_id) != after[f].get(object_id)}


def test_locked_frames_are_barriers_for_their_object_alone(session: Annotator) -> None:
    session.prompt(5, None, [(30.0, 20.0, 1)], None)
    session.prompt(5, None, [(65.0, 45.0, 1)], None)
    session.lock_frames(1, 7, 8, True)
    session.lock_frames(1, 2, 3, True)
    items = list(session.propagate([1, 2], 5, None, 'both'))
    tracked = {
        key: sorted(f for f, masks in all_masks(session).items() if key in masks)
        for key in (1, 2)
    }
    assert tracked == {1: [3, 4, 5, 6], 2: list(range(10))}
    assert [change.frame for change in items] == [5, 6, 7, 8, 9, 4, 3, 2, 1, 0]
    # From a locked frame on, the pass begins behind the lock.
    session.propagate([1], 7, None, 'forward').close()
    assert [c.frame for c in session.propagate([1], 7, None, 'forward')] == [8, 9]


def test_only_what_is_not_locked_is_tracked_again(session: Annotator) -> None:
    session.prompt(0, None, [FIRST], None)
    track_all(session)
    session.lock_frames(1, 0, 4, True)
    before = all_masks(session)
    session.prompt(6, 1, [(21.0, 18.0, 1), (4.0, 60.0, 0)], None)
    frames = [change.frame for change in session.refine([1], 6)]
    assert frames == [6, 7, 8, 9, 5, 4]
    assert changed_frames(before, all_masks(session), 1) <= {4, 5, 6, 7, 8, 9}


def test_what_is_locked_cannot_be_changed(session: Annotator) -> None:
    session.prompt(0, None, [FIRST], None)
    session.draw(0, None, square(30, 50))
    track_all(session)
    session.lock_frames(1, 2, 5, True)
    session.update_object(2, locked=True)
    before, document = all_masks(session), session.document
    refused: list[Callable[[], object]] = [
        lambda: session.prompt(3, 1, [FIRST], None),
        lambda: session.draw(4, 1, square(0, 0)),
        lambda: session.delete_masks(1, 4, 9),
        lambda: session.clear_prompts(0, 2),
        lambda: session.prompt(0, 2, [SECOND], None),
        lambda: session.delete_objects([2]),
        lambda: session.merge_objects([1], 2),
        lambda: session.split_object(2, 4),
        lambda: session.update_object(2, name='other'),
        lambda: session.propagate([2], 0, None, 'forward'),
    ]
    for command in refused:
        with pytest.raises(ValueError, match='is locked'):
            command()
    assert session.document == document
    track_all(session)
    assert changed_frames(before, all_masks(session), 2) == set()
    session.update_object(2, locked=False, name='free')
    assert session.document.objects[2].name == 'free'


def test_a_cancelled_pass_keeps_its_frames_and_is_one_undo_entry(
    session: Annotator,
) -> None:
    session.prompt(0, None, [FIRST], None)
    tracking = session.propagate(None, 0, None, 'forward')
    assert (tracking.num_frames, tracking.label) == (10, session_label(session))
    for _ in range(4):
        next(tracking)
    tracking.close()
    assert [len(session.masks(f)) for f in range(10)] == [1] * 4 + [0] * 6
    assert session.can_undo == tracking.label
    session.undo()
    assert [len(session.masks(f)) for f in range(10)] == [1] + [0] * 9


def session_label(session: Annotator) -> str:
    return f'Track {session.document.objects[1].name} from frame 0'


def test_a_click_between_two_frames_of_a_pass_counts_from_the_next_on(
    session: Annotator,
) -> None:
    predictor = exact_predictor()
    state = predictor.init_state(str(session.video.path))
    session.prompt(0, None, [FIRST], None)
    predictor.add_new_points_or_box(state, 0, 1, points=[FIRST[:2]], labels=[1])
    both = zip(
        session.propagate(None, 0, None, 'forward'),
        predictor.propagate_in_video(state),
        strict=True,
    )
    for change, result in both:
        if change.frame == 4:
            session.prompt(2, 1, [(60.0, 50.0, 0), (24.0, 20.0, 1)], None)
            predictor.add_new_points_or_box(
                state, 2, 1, points=[[60, 50], [24, 20]], labels=[0, 1]
            )
        expected = (result.mask_logits[0, 0] > 0).numpy()
        np.testing.assert_array_equal(pixels(session, 1, result.frame_index), expected)
    shown = session.can_undo
    labels = [session.undo().label for _ in range(4)]
    assert labels[0] == labels[2] == shown
    assert labels[1].endswith('on frame 2')
    assert all_masks(session) == {frame: {} for frame in range(10)}


def test_undo_ends_a_running_pass(session: Annotator) -> None:
    session.prompt(0, None, [FIRST], None)
    tracking = session.propagate(None, 0, None, 'forward')
    next(tracking)
    next(tracking)
    session.undo()
    assert list(tracking) == []
    assert [len(session.masks(f)) for f in range(3)] == [1, 0, 0]


def test_an_object_deleted_meanwhile_leaves_the_pass(session: Annotator) -> None:
    session.prompt(0, None, [FIRST], None)
    session.prompt(0, None, [SECOND], None)
    for change in session.propagate(None, 0, None, 'forward'):
        if change.frame == 3:
            session.delete_objects([1])
    assert [len(session.masks(f)) for f in range(10)] == [1] * 10
    assert [len(session.masks(f)) for f in (3, 4)] == [1, 1]
    session.undo()  # the rest of the pass
    session.undo()  # the deletion
    assert [len(session.masks(f)) for f in (3, 4)] == [2, 0]


def test_a_broken_frame_is_skipped_and_named(tmp_path: Path) -> None:
    path = write_clip(tmp_path / 'clip').path
    (path / '00004.png').write_bytes(b'broken')
    video = AnnotatedVideo(path)
    session = Annotator.create(
        tmp_path / 'session', video, small_predictor(), name='broken'
    )
    session.prompt(0, None, [FIRST], None)
    changes = list(session.propagate(None, 0, None, 'forward'))
    assert [change.broken for change in changes if change.broken] == [(4,)]
    assert [len(session.masks(f)) for f in range(10)] == [1] * 4 + [0] + [1] * 5
    assert session.document.broken_frames == (4,)
    with pytest.raises(ValueError, match='Frame 4 of clip cannot be read'):
        session.prompt(4, 1, [FIRST], None)
    assert not any(c.broken for c in session.propagate([1], 5, None, 'forward'))
    session.close()
    again = Annotator.open(tmp_path / 'session', small_predictor())
    assert again.document.broken_frames == (4,)
    assert [c.frame for c in again.propagate([1], 6, 8, 'forward')] == [6, 7]
    again.close()


# Undo ---------------------------------------------------------------------------------


def view(annotator: Annotator) -> Any:
    """All that an annotator sees."""
    document = annotator.document.to_json(with_history=True)
    document.pop('revision')
    document.pop('categories')  # a class stays known when its object is gone
    scores = {key: annotator.scores(key).tolist() for key in annotator.document.objects}
    return document, all_masks(annotator), scores


def edit_everything(session: Annotator) -> Iterator[Change]:
    """Each kind of change, once."""
    yield session.prompt(0, None, [FIRST], None)
    yield session.prompt(0, 1, [FIRST, (4.0, 60.0, 0)], (6.0, 8.0, 32.0, 32.0))
    yield session.add_object('Box', 'thing')
    yield session.draw(0, 2, square(38, 62))
    yield from session.propagate(None, 0, None, 'forward')
    yield session.update_object(1, name='Dog', category='animal')
    yield session.update_object(1, color='#00ff00')
    yield session.update_object(2, hidden=True)
    yield session.draw(5, 1, square(10, 20))
    yield session.split_object(1, 4)
    yield session.merge_objects([3, 2], 1)
    yield session.lock_frames(1, 2, 4, True)
    yield from session.refine([1], 7)
    yield session.delete_masks(1, 8, 10)
    yield session.clear_prompts(0, 1)
    yield session.add_masks(
        [(3, square(0, 0), 'new', 'thing'), (4, square(1, 1), '', '')]
    )
    yield session.delete_objects([4])
    yield session.update_object(5, locked=True)


@pytest.mark.parametrize('restart', [False, True])
def test_everything_can_be_undone_and_repeated(tmp_path: Path, restart: bool) -> None:
    session = new_session(tmp_path)
    views = [view(session)]
    depth = 0
    revision = session.document.revision
    for change in edit_everything(session):
        assert session.document.revision > revision
        revision = session.document.revision
        if len(session._store.entries) == depth:
            views[-1] = view(session)  # the next frame of a pass
        else:
            views.append(view(session))
        depth = len(session._store.entries)
        assert change.label in {'', session.can_undo}
    assert len(views) == depth + 1 == 19
    if restart:
        session.close()
        session = Annotator.open(tmp_path / 'session', small_predictor())
        assert session.document.revision > revision
    for expected in reversed(views[:-1]):
        session.undo()
        assert view(session) == expected
    assert session.can_undo is None
    with pytest.raises(ValueError, match='nothing to undo'):
        session.undo()
    for expected in views[1:]:
        session.redo()
        assert view(session) == expected
    with pytest.raises(ValueError, match='nothing to redo'):
        session.redo()
    session.undo()
    session.update_object(5, name='another way')
    assert session.can_redo is None
    session.close()


def test_ids_of_deleted_objects_are_not_used_again(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    session.add_object('a')
    session.add_object('b')
    session.delete_objects([2])
    session.close()
    session = Annotator.open(tmp_path / 'session', small_predictor())
    assert session.add_object('c').created == (3,)
    session.close()


# Objects ------------------------------------------------------------------------------


def test_merged_masks_are_the_union(session: Annotator) -> None:
    session.draw(0, None, square(0, 0))
    session.draw(0, None, square(8, 8))
    session.draw(1, 2, square(20, 20))
    session.merge_objects([2], 1)
    union = decode_masks([square(0, 0), square(8, 8)]).any(axis=0)
    np.testing.assert_array_equal(pixels(session, 1, 0), union)
    assert session.masks(1)[0].code == square(20, 20)
    prompts = session.document.objects[1].prompts
    assert [(frame, prompt.mask) for frame, prompt in prompts.items()] == [
        (0, True),
        (1, True),
    ]
    track_all(session)  # with the merged masks as prompts
    assert session.masks(0)[0].object_id == 1


def test_parts_of_a_split_object_have_prompts_and_go_on(session: Annotator) -> None:
    session.prompt(0, None, [FIRST], None)
    track_all(session)
    before = {frame: masks[1] for frame, masks in all_masks(session).items()}
    (new,) = session.split_object(1, 6).created
    masks = all_masks(session)
    assert [sorted(masks[frame]) for frame in range(10)] == [[1]] * 6 + [[new]] * 4
    assert all(masks[f][1 if f < 6 else new] == before[f] for f in range(10))
    assert list(session.document.objects[new].prompts) == [6]
    assert len(list(session.propagate([new], 6, None, 'forward'))) == 4
    with pytest.raises(ValueError, match='has no mask from frame 8'):
        session.split_object(1, 8)


class Imported:
    """An object of a file."""

    def __init__(self, masks: dict[int, EncodedMask]) -> None:
        self.name, self.category, self.color = 'imported', 'cell', '#123456'
        self.masks = masks


def test_imported_tracks_keep_all_masks_and_few_prompts(session: Annotator) -> None:
    masks = {frame: square(frame, 2 * frame) for frame in range(10)}
    (key,) = session.import_objects([Imported(masks)]).created
    assert {f: all_masks(session)[f][key] for f in masks} == masks
    obj = session.document.objects[key]
    assert (obj.name, obj.category, obj.color) == ('imported', 'cell', '#123456')
    assert len(obj.prompts) == 8
    assert {0, 9} <= set(obj.prompts)
    session.undo()
    assert not session.document.objects
    session.redo()
    # A correction in the middle of an imported track goes on from its masks.
    session.prompt(4, key, [(20.0, 12.0, 1)], None)


@pytest.mark.parametrize(
    ('command', 'match'),
    [
        (lambda s: s.prompt(99, None, [FIRST], None), 'Frame 99 is not in 0 to 9'),
        (lambda s: s.prompt(0, 7, [FIRST], None), 'There is no object 7'),
        (lambda s: s.prompt(0, None, [(500, 5, 1)], None), 'outside of the image'),
        (lambda s: s.prompt(0, None, [(5, 5, 9)], None), 'Unknown label 9'),
        (lambda s: s.prompt(0, None, [], (9, 9, 5, 5)), 'inside out'),
        (lambda s: s.prompt(0, None, [], None), 'Neither points nor a box'),
        (lambda s: s.draw(0, None, {'size': [4, 4], 'counts': '@'}), 'of the size'),
        (
            lambda s: s.draw(0, None, {'size': list(SIZE), 'counts': 'é'}),
            'run-length|damaged',
        ),
        (lambda s: s.draw(0, None, {'size': list(SIZE), 'counts': '33'}), 'damaged'),
        (lambda s: s.update_object(1, name='  '), 'A name has 1 to 200'),
        (lambda s: s.update_object(1, color='red'), 'give #rrggbb'),
        (lambda s: s.merge_objects([1], 1), 'needs another object'),
        (lambda s: s.lock_frames(1, 3, 3, True), 'no range of frames'),
        (lambda s: s.propagate([1], 0, None, 'forward'), 'has no prompt'),
        (lambda s: s.propagate(None, 0, None, 'forward'), 'no object to track'),
        (lambda s: s.propagate(None, 0, None, 'sideways'), 'give forward, backward'),
    ],
)
def test_wrong_input_is_refused_and_changes_nothing(
    session: Annotator, command: Any, match: str
) -> None:
    session.add_object('one')
    before, label, sizes = view(session), session.can_undo, files_of(session)
    with pytest.raises(ValueError, match=match):
        command(session)
    assert view(session) == before
    assert (session.can_undo, files_of(session)) == (label, sizes)


def files_of(session: Annotator) -> tuple[int, int]:
    return session._files.masks.size, session._files.journal.size


# Restart ------------------------------------------------------------------------------


def test_a_session_goes_on_exactly_within_reach_of_its_prompts(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    session.prompt(0, None, [FIRST], None)
    session.prompt(0, 1, [FIRST, (5.0, 60.0, 0)], None)
    session.draw(0, None, square(38, 62))
    session.draw(0, 2, square(36, 61))
    session.prompt(0, 2, [(70.0, 45.0, 1)], None)
    for _ in session.propagate(None, 0, 5, 'forward'):
        pass
    session.close()
    session = Annotator.open(tmp_path / 'session', small_predictor())
    track_all(session, 5)
    resumed = all_masks(session)
    session.undo()
    session.undo()
    session.use_predictor(small_predictor())
    track_all(session)
    assert all_masks(session) == resumed
    session.close()


def test_a_correction_after_a_restart_sees_the_track(tmp_path: Path) -> None:
    """A negative click alone would find nothing: it needs the mask it corrects."""
    session = new_session(tmp_path)
    session.prompt(0, None, [FIRST], None)
    track_all(session)
    session.close()
    expected, resumed = [], Annotator.open(tmp_path / 'session', small_predictor())
    resumed.prompt(5, 1, [(80.0, 60.0, 0)], None)
    found = pixels(resumed, 1, 5)
    resumed.close()
    predictor = exact_predictor()
    state = predictor.init_state(str(tmp_path / 'clip'))
    predictor.add_new_points_or_box(state, 0, 1, points=[FIRST[:2]], labels=[1])
    expected = list(predictor.propagate_in_video(state))
    result = predictor.add_new_points_or_box(state, 5, 1, points=[[80, 60]], labels=[0])
    expected_mask = (result.mask_logits[0, 0] > 0).numpy()
    assert len(expected) == 10
    np.testing.assert_array_equal(found, expected_mask)


def test_far_from_a_prompt_a_track_goes_on_from_saved_masks(tmp_path: Path) -> None:
    session = new_session(tmp_path, 30)
    session.prompt(0, None, [FIRST], None)
    for _ in session.propagate(None, 0, 26, 'forward'):
        pass
    before = all_masks(session)
    session.close()
    session = Annotator.open(tmp_path / 'session', small_predictor())
    for _ in session.propagate(None, 26, None, 'forward'):
        pass
    after = all_masks(session)
    assert {f: after[f] for f in range(26)} == {f: before[f] for f in range(26)}
    session.undo()
    session.undo()
    session.use_predictor(small_predictor())
    track_all(session)
    exact = all_masks(session)
    for frame in range(26, 30):
        masks = decode_masks([after[frame][1], exact[frame][1]])
        union = masks.any(axis=0).sum()
        assert masks.all(axis=0).sum() >= 0.8 * union
    session.close()


def test_another_model_goes_on_with_the_masks_that_are_there(
    session: Annotator,
) -> None:
    session.prompt(0, None, [FIRST], None)
    track_all(session)
    before = all_masks(session)
    other = SAM2VideoPredictor(small_predictor().model, fill_hole_area=0)
    session.use_predictor(other)
    assert all_masks(session) == before
    list(session.propagate([1], 5, 7, 'forward'))
    assert changed_frames(before, all_masks(session), 1) <= {5, 6}


# Images -------------------------------------------------------------------------------


def test_stills_of_any_size_have_objects_of_their_own(tmp_path: Path) -> None:
    (tmp_path / 'photos').mkdir()
    for number, size in enumerate([(64, 96), (40, 60), *[(64, 96)] * 10]):
        frame = moving_squares(1)[0][: size[0], : size[1]]
        cv2.imwrite(str(tmp_path / 'photos' / f'{number}.png'), frame[..., ::-1])
    video = AnnotatedVideo(tmp_path / 'photos', kind='images')
    predictor = small_predictor()
    session = Annotator.create(tmp_path / 'session', video, predictor, name='photos')
    for number in range(12):
        change = session.prompt(number, None, [FIRST], None)
        assert change.created == (number + 1,)
    assert [m.code['size'] for m in session.masks(1)] == [[40, 60]]
    assert [len(session.masks(frame)) for frame in range(12)] == [1] * 12
    with pytest.raises(ValueError, match='is on image 0'):
        session.prompt(3, 1, [FIRST], None)
    with pytest.raises(ValueError, match='are not tracked'):
        session.propagate(None, 0, None, 'forward')
    state = exact_predictor().init_state([video.read(1)])
    result = exact_predictor().add_new_points_or_box(
        state, 0, 1, points=[FIRST[:2]], labels=[1]
    )
    first = (result.mask_logits[0, 0] > 0).numpy()
    np.testing.assert_array_equal(pixels(session, 2, 1), first)
    # Image 1 left the cache of states; its prompts are given again.
    session.prompt(1, 2, [FIRST, (50.0, 35.0, 0)], None)
    result = exact_predictor().add_new_points_or_box(
        state, 0, 1, points=[FIRST[:2], [50, 35]], labels=[1, 0]
    )
    second = (result.mask_logits[0, 0] > 0).numpy()
    np.testing.assert_array_equal(pixels(session, 2, 1), second)
    while session.can_undo:
        session.undo()
    while session.can_redo:
        session.redo()
    np.testing.assert_array_equal(pixels(session, 2, 1), second)
    session.close()
