"""The records of a session: JSON there and back, ranges of frames, colors."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from projects.sam2.webdemo.session.document import (
    OBJECT_COLORS,
    AnnotatedObject,
    Document,
    Prompt,
    add_range,
    choose_color,
    overlaps,
    remove_range,
)

number = st.floats(-10, 5000, width=32)
prompts = st.recursive(
    st.builds(
        Prompt,
        points=st.lists(st.tuples(number, number, st.integers(0, 1))).map(tuple),
        box=st.none() | st.tuples(number, number, number, number),
        mask=st.booleans(),
        offset=st.integers(-1, 2**40),
        correction=st.booleans(),
    ),
    lambda inner: st.builds(Prompt, earlier=st.lists(inner, max_size=3).map(tuple)),
    max_leaves=4,
)
objects = st.builds(
    AnnotatedObject,
    object_id=st.integers(1, 9),
    name=st.text(min_size=1),
    category=st.text(),
    color=st.sampled_from(OBJECT_COLORS),
    hidden=st.booleans(),
    locked=st.booleans(),
    prompts=st.dictionaries(st.integers(0, 9999), prompts, max_size=3),
    locked_frames=st.sampled_from([(), ((0, 3), (5, 9))]),
)
edits = st.lists(
    st.tuples(st.booleans(), st.integers(0, 30), st.integers(1, 9)), max_size=12
)


@settings(max_examples=40)
@given(st.lists(objects, max_size=4, unique_by=lambda obj: obj.object_id))
def test_a_document_survives_json(listed: list[AnnotatedObject]) -> None:
    document = Document(broken_frames=(3, 8), revision=12)
    document = document.with_objects({obj.object_id: obj for obj in listed})
    text = json.dumps(document.to_json(with_history=True))
    restored = Document.from_json(json.loads(text))
    assert restored == document
    assert [list(o.prompts) for o in restored.objects.values()] == [
        list(o.prompts) for o in document.objects.values()
    ]


@given(edits)
def test_ranges_are_the_frames_that_were_added_and_not_removed(
    listed: list[tuple[bool, int, int]],
) -> None:
    ranges: tuple[tuple[int, int], ...] = ()
    frames: set[int] = set()
    for is_added, start, length in listed:
        edited = set(range(start, start + length))
        frames = frames | edited if is_added else frames - edited
        edit = add_range if is_added else remove_range
        ranges = edit(ranges, start, start + length)
        assert {f for first, stop in ranges for f in range(first, stop)} == frames
        # Sorted, and neither overlapping nor touching.
        flat = [position for pair in ranges for position in pair]
        assert flat == sorted(set(flat))
        for frame in range(45):
            assert overlaps(ranges, frame, frame + 1) == (frame in frames)


def test_objects_are_kept_in_the_order_of_creation_and_classes_stay_known() -> None:
    def obj(key: int, category: str) -> AnnotatedObject:
        return AnnotatedObject(object_id=key, name=str(key), category=category)

    document = Document().with_objects({2: obj(2, 'dog'), 1: obj(1, 'cat')})
    assert list(document.objects) == [1, 2]
    document = document.with_objects({2: None, 3: obj(3, 'cat')})
    assert list(document.objects) == [1, 3]
    assert document.categories == ('cat', 'dog')


def test_fifty_objects_have_fifty_colors() -> None:
    used: list[str] = []
    for key in range(1, 51):
        used.append(choose_color(key, used))
    assert len(set(used)) == 50
    # A free color is taken before one that is used.
    assert choose_color(51, used[1:]) == used[0]
