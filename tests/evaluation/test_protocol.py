"""Which objects count on which frames."""

from collections.abc import Mapping

import pytest
from mmengine.registry import TASK_UTILS

from projects.sam2.evaluation import (
    PROTOCOLS,
    JFAppearanceProtocol,
    JFDavisProtocol,
    JFProtocol,
    JFSAVProtocol,
)

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
    ('name', 'expected'),
    [
        ('davis-all-frames', {2: (1,), 4: (1,), 6: (1,), 8: (1,), 9: (1,)}),
        (
            'appearance-all-frames',
            {2: (1,), 4: (1,), 6: (1, 2), 8: (1, 2), 9: (1, 2)},
        ),
    ],
)
def test_frames_at_the_ends_may_count(
    name: str, expected: dict[int, tuple[int, ...]]
) -> None:
    assert counted(TASK_UTILS.build(dict(PROTOCOLS[name]))) == expected


@pytest.mark.parametrize('kind', [JFDavisProtocol, JFAppearanceProtocol])
def test_each_end_is_left_out_by_itself(
    kind: type[JFDavisProtocol | JFAppearanceProtocol],
) -> None:
    last = counted(kind(skip_first=False, skip_last=True))
    assert (last[2], last[9]) == ((1,), ())
    first = counted(kind(skip_first=True, skip_last=False))
    assert first[2] == ()
    assert 1 in first[9]


@pytest.mark.parametrize('name', PROTOCOLS)
def test_protocol_says_what_it_is(name: str) -> None:
    config = dict(PROTOCOLS[name])
    text = str(TASK_UTILS.build(config))
    assert text.startswith(f'{config["type"]}(skip_')
    for key in config.keys() - {'type'}:
        assert f'{key}={config[key]}' in text
