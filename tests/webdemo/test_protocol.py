"""Tests of the messages: every command, every refusal, and the binary form."""

import contextlib
import json
import math
import struct
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from projects.sam2.ops import encode_masks
from projects.sam2.webdemo.server import protocol
from projects.sam2.webdemo.server.protocol import (
    PackedMask,
    ProtocolError,
    parse_command,
)

CLIENT = str(uuid.UUID(int=7))
SQUARE = encode_masks(np.eye(4, dtype=bool)[None])[0]
# Of each command an example with all its entries.
EXAMPLES: dict[str, dict[str, Any]] = {
    'hello': {'client': CLIENT},
    'prompt': {
        'frame': 3,
        'object': None,
        'points': [[1.5, 2, 1], [7, -3.25, 0]],
        'box': [0, 0, 8, 9.5],
    },
    'draw': {'frame': 0, 'object': 2, 'mask': dict(SQUARE)},
    'clear_prompts': {'frame': 1, 'object': 2},
    'add_object': {'name': 'Ä tree', 'category': 'plant'},
    'update_object': {
        'object': 1,
        'name': 'x',
        'category': 'y',
        'color': '#A0b1C2',
        'hidden': True,
        'locked': False,
    },
    'delete_objects': {'objects': [1, 2]},
    'merge_objects': {'objects': [1, 2], 'into': 1},
    'split_object': {'object': 1, 'frame': 5},
    'delete_masks': {'object': 1, 'start': 0, 'stop': 9},
    'lock_frames': {'object': 1, 'start': 0, 'stop': 9, 'locked': True},
    'propagate': {'objects': None, 'start': 4, 'stop': None, 'direction': 'both'},
    'refine': {'objects': [3], 'frame': 2},
    'cancel': {},
    'propose': {'frame': 0, 'settings': {'points_per_side': 8}},
    'propose_text': {'frame': 0, 'text': 'a dog', 'threshold': 0.25},
    'accept_proposals': {
        'frame': 0,
        'indices': [0, 2],
        'names': ['a', 'b'],
        'category': 'c',
    },
    'undo': {},
    'redo': {},
    'masks': {'frames': [0, 1]},
    'scores': {'objects': None},
    'ping': {},
}


def message(kind: str, request: Any = 1, **changes: Any) -> str:
    """A command, with some entries changed."""
    return json.dumps({'request': request, 'type': kind, **EXAMPLES[kind], **changes})


def test_every_command_has_an_example_that_is_read_as_it_was_sent() -> None:
    assert EXAMPLES.keys() == protocol.COMMANDS.keys()
    for number, kind in enumerate(EXAMPLES):
        request, command = parse_command(message(kind, number))
        assert request == number
        assert type(command) is protocol.COMMANDS[kind]
        for name, value in EXAMPLES[kind].items():
            read = getattr(command, name)
            if name == 'color':
                assert read == value.lower()
            elif isinstance(value, list):
                assert json.loads(json.dumps(read)) == value
            else:
                assert read == value


def test_optional_entries_have_the_defaults_of_the_contract() -> None:
    _, command = parse_command('{"request": 0, "type": "propagate", "start": 2}')
    assert command == protocol.Propagate(
        objects=None, start=2, stop=None, direction='forward'
    )
    _, update = parse_command('{"request": 0, "type": "update_object", "object": 2}')
    assert update == protocol.UpdateObject(object=2)


WRONG: list[tuple[str | bytes, str]] = [
    ('', 'not JSON'),
    ('[1, 2]', 'send a JSON object'),
    ('{"request": 1, "type": "ping"', 'not JSON'),
    (b'\xff\xfe\xfd', 'not JSON'),
    ('[' * 100_000, 'nests too deeply'),
    ('{"a":' * 20_000, 'nests too deeply'),
    ('{"request": NaN, "type": "ping"}', 'NaN is no number'),
    ('{"request": ' + '9' * 5000 + ', "type": "ping"}', 'not JSON'),
    ('{"type": "ping"}', 'request is null'),
    ('{"request": true, "type": "ping"}', 'request is true'),
    ('{"request": -1, "type": "ping"}', 'request is -1'),
    ('{"request": 1.0, "type": "ping"}', 'request is 1.0'),
    ('{"request": 1}', 'type is null'),
    ('{"request": 1, "type": "__class__"}', 'type is "__class__"'),
    ('{"request": 1, "type": ["ping"]}', 'type is'),
    (message('ping', extra=1), 'ping has no entry "extra"'),
    ('{"request": 1, "type": "refine"}', 'refine lacks the entry frame'),
    (message('hello', client='x'), 'give a UUID'),
    (message('prompt', frame=-1), 'frame is -1'),
    (message('prompt', frame=2**31), 'frame is 2147483648'),
    (message('prompt', frame='0'), 'frame is "0"'),
    (message('prompt', object=1.5), 'object is 1.5'),
    (message('prompt', points=[[1, 2]]), r'points\[0\] is \[1, 2\]'),
    (message('prompt', points=[[1, 2, 2]]), r'points\[0\]\[2\] is 2'),
    (message('prompt', points=[[1e9, 2, 1]]), r'points\[0\]\[0\] is 1000000000.0'),
    (message('prompt', points=[[1, 2, 1]] * 1001), 'a list|list of 0 to 1000'),
    (message('prompt', points={'0': 1}), 'points is'),
    (message('prompt', box=[0, 0, 0, 5]), 'a box that is not empty'),
    (message('prompt', box=[5, 0, 0, 5]), 'left upper corner first'),
    (message('prompt', box='all'), 'box is "all"'),
    (message('draw', mask=SQUARE | {'size': [4, 5]}), 'do not fill a mask of 4 x 5'),
    (message('draw', mask=SQUARE | {'size': [0, 5]}), r'mask.size\[0\] is 0'),
    (message('draw', mask=SQUARE | {'size': [65535, 65535]}), 'pixels; give at most'),
    (message('draw', mask=SQUARE | {'counts': [1, 2]}), 'compressed run lengths'),
    (message('draw', mask=SQUARE | {'counts': 'é'}), 'compressed run lengths'),
    (message('draw', mask=SQUARE | {'counts': 'o' * 5000}), 'do not fill'),
    (message('draw', mask='all'), 'mask is "all"'),
    (message('add_object', name='a' * 201), 'at most 200 characters'),
    (message('add_object', name='a\nb'), 'one line'),
    (message('add_object', name='a\0b'), 'control characters'),
    ('{"request":1,"type":"add_object","name":"\\ud800"}', 'control characters'),
    (message('add_object', name='a\u202eb'), 'control characters'),
    (message('add_object', name=None), 'name is null'),
    (message('update_object', color='red'), 'a colour like'),
    (message('update_object', color='#12345g'), 'a colour like'),
    (message('update_object', hidden=1), 'give true or false'),
    (message('delete_objects', objects=[]), 'list of 1 to'),
    (message('delete_objects', objects=[True]), r'objects\[0\] is true'),
    (message('propagate', direction='up'), 'one of forward, backward, both'),
    (
        message('propose', settings={'sharpness': 1}),
        'no entry "sharpness"',
    ),
    (message('propose', settings={'points_per_side': 65}), 'a whole number 1 to 64'),
    (message('propose', settings={'pred_iou_thresh': 'a'}), 'pred_iou_thresh is "a"'),
    (message('propose', settings=[1]), 'object with entries of points_per_side'),
    (message('propose_text', threshold=2), 'threshold is 2'),
    (message('masks', frames=list(range(65))), 'list of 1 to 64'),
    (message('add_object', name=['x' * 70_000]), 'send at most 65536'),
    ('x' * (2**20 + 1), 'send at most 1048576'),
]


@pytest.mark.parametrize(('text', 'problem'), WRONG, ids=range(len(WRONG)))
def test_wrong_messages_are_refused_in_words(text: str, problem: str) -> None:
    with pytest.raises(ProtocolError, match=problem) as error:
        parse_command(text)
    assert len(str(error.value)) < 500
    assert error.value.request in {None, 1}


def test_a_drawing_may_have_a_megabyte() -> None:
    noise = np.random.default_rng(0).random((1, 700, 700)) < 0.5
    code = encode_masks(noise)[0]
    assert len(code['counts']) > protocol.MAX_MESSAGE
    command = parse_command(message('draw', mask=code)).command
    assert isinstance(command, protocol.Draw)
    assert command.mask == code


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_any_change_of_a_command_is_read_or_refused(kind: str, data: Any) -> None:
    names = ['request', 'type', *EXAMPLES[kind], 'other']
    changed = data.draw(st.dictionaries(st.sampled_from(names), JSON_VALUES))
    text = json.dumps({'request': 1, 'type': kind, **EXAMPLES[kind], **changed})
    with contextlib.suppress(ProtocolError):
        number, command = parse_command(text)
        assert number >= 0
        assert isinstance(command, tuple(protocol.COMMANDS.values()))


def unpack(packed: bytes) -> tuple[tuple[int, ...], list[tuple[Any, ...]]]:
    """Read a message of masks as its description says, without the package."""
    header = struct.unpack_from('<BBHIIIII', packed)
    position, entries = 24, []
    for _ in range(header[6]):
        number, score, flags, length = struct.unpack_from('<IfII', packed, position)
        position += 16
        counts = packed[position : position + length]
        position += -(-length // 4) * 4
        entries.append((number, score, flags, counts))
    assert position == len(packed)
    return header, entries


@pytest.mark.filterwarnings('ignore:__array__:DeprecationWarning')
def test_packed_masks_are_those_that_pycocotools_decodes() -> None:
    masks = np.random.default_rng(1).random((3, 33, 47)) < 0.2
    entries = [
        PackedMask(5 * i, score, i, code)
        for i, (code, score) in enumerate(
            zip(encode_masks(masks), (0.5, math.nan, 1.0), strict=True)
        )
    ]
    packed = protocol.pack_masks(protocol.MASKS, 2999, (33, 47), entries, 12)
    header, read = unpack(packed)
    assert header == (1, 1, 0, 2999, 33, 47, 3, 12)
    assert len(packed) % 4 == 0
    for (number, score, flags, counts), entry, mask in zip(
        read, entries, masks, strict=True
    ):
        assert (number, flags) == (entry.number, entry.flags)
        assert score == entry.score or (math.isnan(score) and math.isnan(entry.score))
        code = {'size': [33, 47], 'counts': counts}
        decoded = coco_mask.decode(code)  # type: ignore[no-untyped-call]
        assert (decoded == mask).all()


def test_packed_scores_are_padded_bytes() -> None:
    scores = np.arange(7, dtype=np.uint8)
    packed = protocol.pack_scores(9, scores, 3)
    assert struct.unpack_from('<BBHIIIII', packed) == (1, 3, 0, 9, 0, 0, 7, 3)
    assert packed[24:] == scores.tobytes() + b'\0'
