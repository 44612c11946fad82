"""The messages of a session's WebSocket: commands of the page, and what it is told.

A command is a JSON object ``{"request": n, "type": "prompt", …}``.
:func:`parse_command` checks every entry, so that the server handles records whose
values are in range. Masks and scores go to the page as binary messages, with a header
of 24 bytes.
"""

import json
import math
import re
import struct
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ...bridges.detection.detector import DEFAULT_THRESHOLD
from ...ops import EncodedMask, count_encoded_pixels
from ..effects import EffectName, EffectOptions, Target
from ..proposals import MAX_PROPOSALS

VERSION = 1  # of the binary messages
HEADER = struct.Struct('<BBHIIIII')
MASK_ENTRY = struct.Struct('<IfII')
MASKS, PROPOSALS, SCORES = 1, 2, 3  # kinds of binary messages
PROMPTED, LOCKED = 1, 2  # flags of a mask

MAX_MESSAGE = 64 * 1024  # bytes of a command
MAX_DRAWING = 1024 * 1024  # bytes of a command that carries a mask
MAX_NAME = 200  # characters of a name
MAX_POINTS = 1000  # of an object on a frame
MAX_COORDINATE = 1e6  # pixels
MAX_ID = 2**31 - 1
MAX_FRAME = 2**31 - 1
MAX_REQUEST = 2**53 - 1  # the largest whole number that a page counts to
MAX_SIDE = 65_535  # pixels
MAX_PIXELS = 2**27
MAX_OBJECTS = 10_000  # in one command
MAX_FRAMES = 64  # whose masks one command asks for
MAX_SHOWN = 40  # characters of a wrong value in an error
Direction = Literal['forward', 'backward', 'both']
DIRECTIONS: tuple[str, ...] = get_args(Direction)
COLOR = re.compile('#[0-9a-fA-F]{6}')
RUN_LENGTHS = re.compile('[0-o]*')  # characters of COCO's compressed runs
# Characters that no name holds: control characters, lone surrogates, and those that
# turn the direction of text around.
UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]')

Reader = Callable[[Any, str], Any]  # of a value and the name of its entry


class ProtocolError(ValueError):
    """A message that is not a command.

    Attributes:
        request: Number of the request, None if the message has none.
    """

    def __init__(self, message: str, request: int | None = None) -> None:
        super().__init__(message)
        self.request = request


# Values ------------------------------------------------------------------------------


def show_value(value: object) -> str:
    """Show a wrong value in an error, cut to a length that can be read."""
    text = json.dumps(value, ensure_ascii=True, default=repr)
    return text if len(text) <= MAX_SHOWN else f'{text[: MAX_SHOWN - 1]}…'


def whole(least: int, most: int) -> Reader:
    """Read a whole number in a range."""

    def read(value: Any, name: str) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not least <= value <= most:
            msg = (
                f'{name} is {show_value(value)}; give a whole number {least} to {most}'
            )
            raise ValueError(msg)
        return int(value)

    return read


def number(least: float, most: float) -> Reader:
    """Read a finite number in a range."""

    def read(value: Any, name: str) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:  # NaN is in no range
            msg = f'{name} is {show_value(value)}; give a number {least:g} to {most:g}'
            raise ValueError(msg)
        return float(value)

    return read


def one_line(most: int = MAX_NAME) -> Reader:
    """Read one line of text; spaces around it are removed."""

    def read(value: Any, name: str) -> str:
        if not isinstance(value, str) or len(value) > most or UNPRINTABLE.search(value):
            msg = (
                f'{name} is {show_value(value)}; give one line of at most {most} '
                f'characters, without control characters'
            )
            raise ValueError(msg)
        return value.strip()

    return read


def read_flag(value: Any, name: str) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        msg = f'{name} is {show_value(value)}; give true or false'
        raise ValueError(msg)
    return value


def choice(choices: Collection[str]) -> Reader:
    """Read one of a few words."""

    def read(value: Any, name: str) -> str:
        if not isinstance(value, str) or value not in choices:
            msg = f'{name} is {show_value(value)}; give one of {", ".join(choices)}'
            raise ValueError(msg)
        return value

    return read


def read_color(value: Any, name: str) -> str:
    """Read a colour, #rrggbb."""
    if not isinstance(value, str) or not COLOR.fullmatch(value):
        msg = f'{name} is {show_value(value)}; give a colour like #1f77b4'
        raise ValueError(msg)
    return value.lower()


def optional(reader: Reader) -> Reader:
    """Read null as None, anything else by another reader."""

    def read(value: Any, name: str) -> Any:
        return None if value is None else reader(value, name)

    return read


def sequence(reader: Reader, most: int, least: int = 0) -> Reader:
    """Read a list whose items another reader reads."""

    def read(value: Any, name: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            length = f' of {len(value)} items' if isinstance(value, list) else ''
            msg = (
                f'{name} is {show_value(value)}{length}; give a list of {least} to '
                f'{most} items'
            )
            raise ValueError(msg)
        return tuple(reader(item, f'{name}[{i}]') for i, item in enumerate(value))

    return read


def read_values(readers: Mapping[str, Reader], value: Any, name: str) -> dict[str, Any]:
    """Read the entries of a JSON object, each by its reader; any may be missing.

    Args:
        readers: By the name of the entry.
        value: The object.
        name: What it is called in errors.

    Raises:
        ValueError: If it is no object, or an entry is unknown or wrong.
    """
    known = ', '.join(readers) or 'none'
    if not isinstance(value, dict):
        msg = f'{name} is {show_value(value)}; give an object with entries of {known}'
        raise ValueError(msg)
    for key in value:
        if key not in readers:
            msg = f'{name} has no entry {show_value(key)}; it takes {known}'
            raise ValueError(msg)
    return {key: readers[key](item, key) for key, item in value.items()}


read_frame = whole(0, MAX_FRAME)
read_object = whole(0, MAX_ID)
_coordinate = number(-MAX_COORDINATE, MAX_COORDINATE)


def read_point(value: Any, name: str) -> tuple[float, float, int]:
    """Read a point: x, y and its label, 1 on the object and 0 outside of it."""
    if not isinstance(value, list) or len(value) != 3:
        msg = f'{name} is {show_value(value)}; give [x, y, label]'
        raise ValueError(msg)
    x, y = (_coordinate(side, f'{name}[{i}]') for i, side in enumerate(value[:2]))
    return x, y, whole(0, 1)(value[2], f'{name}[2]')


def read_box(value: Any, name: str) -> tuple[float, float, float, float]:
    """Read a box: left, top, right and bottom."""
    if not isinstance(value, list) or len(value) != 4:
        msg = f'{name} is {show_value(value)}; give [x1, y1, x2, y2]'
        raise ValueError(msg)
    x1, y1, x2, y2 = (_coordinate(side, f'{name}[{i}]') for i, side in enumerate(value))
    if x1 >= x2 or y1 >= y2:
        msg = (
            f'{name} is {show_value(value)}; give the left upper corner first, and a '
            f'box that is not empty'
        )
        raise ValueError(msg)
    return x1, y1, x2, y2


def read_mask(value: Any, name: str) -> EncodedMask:
    """Read a mask as COCO's compressed run lengths, which must fill it."""
    is_mask = isinstance(value, dict) and value.keys() == {'size', 'counts'}
    if not is_mask:
        msg = f'{name} is {show_value(value)}; give {{"size": [h, w], "counts": "…"}}'
        raise ValueError(msg)
    size = sequence(whole(1, MAX_SIDE), 2, 2)(value['size'], f'{name}.size')
    counts = value['counts']
    if not isinstance(counts, str) or not RUN_LENGTHS.fullmatch(counts):
        msg = f"{name}.counts is not text of COCO's compressed run lengths"
        raise ValueError(msg)
    if size[0] * size[1] > MAX_PIXELS:
        msg = f'{name} has {size[0]} x {size[1]} pixels; give at most {MAX_PIXELS}'
        raise ValueError(msg)
    code = EncodedMask(size=list(size), counts=counts)
    count_encoded_pixels(code)  # raises unless the runs fill the mask
    return code


# Options of SAM2AutomaticMaskGenerator that a page may set.
PROPOSAL_SETTINGS: Mapping[str, Reader] = {
    'points_per_side': whole(1, 64),
    'pred_iou_thresh': number(0, 1),
    'stability_score_thresh': number(0, 1),
    'box_nms_thresh': number(0, 1),
    'min_mask_region_area': whole(0, MAX_PIXELS),
}


def read_settings(value: Any, name: str) -> dict[str, float]:
    """Read the settings of proposals."""
    return read_values(PROPOSAL_SETTINGS, value, name)


EFFECT_READERS: Mapping[str, Reader] = {
    'name': choice(get_args(EffectName)),
    'strength': number(0, 1),
    'target': choice(get_args(Target)),
    'color': read_color,
    'outline': read_flag,
    'objects': optional(sequence(read_object, MAX_OBJECTS)),
}


def read_effect(value: Any, name: str) -> EffectOptions:
    """Read an effect; what is not given has its default."""
    return EffectOptions(**read_values(EFFECT_READERS, value, name))


def read_client(value: Any, name: str) -> str:
    """Read the UUID by which a page is known after it connects again."""
    try:
        return str(uuid.UUID(value))
    except (TypeError, ValueError, AttributeError):
        msg = f'{name} is {show_value(value)}; give a UUID'
        raise ValueError(msg) from None


# Commands ----------------------------------------------------------------------------


# Each entry of a command is annotated with its reader.
Frame = Annotated[int, read_frame]
OptionalFrame = Annotated[int | None, optional(read_frame)]
ObjectId = Annotated[int, read_object]
NewOrObject = Annotated[int | None, optional(read_object)]
Objects = Annotated[tuple[int, ...], sequence(read_object, MAX_OBJECTS, 1)]
AllOrObjects = Annotated[
    tuple[int, ...] | None, optional(sequence(read_object, MAX_OBJECTS, 1))
]
Points = Annotated[
    tuple[tuple[float, float, int], ...], sequence(read_point, MAX_POINTS)
]
OptionalBox = Annotated[tuple[float, float, float, float] | None, optional(read_box)]
Line = Annotated[str, one_line()]
Lines = Annotated[tuple[str, ...], sequence(one_line(), MAX_PROPOSALS)]
Indices = Annotated[
    tuple[int, ...], sequence(whole(0, MAX_PROPOSALS - 1), MAX_PROPOSALS, 1)
]
Settings = Annotated[Mapping[str, float] | None, optional(read_settings)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message of a page: who it is."""

    client: Annotated[str, read_client]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """All points and the box of an object on a frame; None makes a new object."""

    frame: Frame
    object: NewOrObject
    points: Points
    box: OptionalBox


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The mask of an object on a frame, drawn by hand."""

    frame: Frame
    object: NewOrObject
    mask: Annotated[EncodedMask, read_mask]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearPrompts:
    """Remove the prompts of an object on a frame."""

    frame: Frame
    object: ObjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class AddObject:
    """A new object without a mask."""

    name: Line = ''
    category: Line = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateObject:
    """Change properties of an object; None leaves them as they are."""

    object: ObjectId
    name: Annotated[str | None, one_line()] = None
    category: Annotated[str | None, one_line()] = None
    color: Annotated[str | None, read_color] = None
    hidden: Annotated[bool | None, read_flag] = None
    locked: Annotated[bool | None, read_flag] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteObjects:
    """Delete objects with their masks."""

    objects: Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeObjects:
    """Make one object of several."""

    objects: Objects
    into: ObjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitObject:
    """Make the frames of an object from one on a new object."""

    object: ObjectId
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteMasks:
    """Delete the masks of an object on frames ``start`` to ``stop - 1``."""

    object: ObjectId
    start: Frame
    stop: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFrames:
    """Lock or unlock the masks of an object on frames ``start`` to ``stop - 1``."""

    object: ObjectId
    start: Frame
    stop: Frame
    locked: Annotated[bool, read_flag]


@dataclass(frozen=True, slots=True, kw_only=True)
class Propagate:
    """Track objects, all if None, through a range of frames."""

    objects: AllOrObjects = None
    start: Frame
    # Backwards, a pass that tracks frame 0 as well stops before -1.
    stop: Annotated[int | None, optional(whole(-1, MAX_FRAME))] = None
    direction: Annotated[Direction, choice(DIRECTIONS)] = 'forward'


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine:
    """Track objects again around a frame that was corrected, up to locked frames."""

    objects: AllOrObjects = None
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop the running pass after its frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Segment everything on a frame."""

    frame: Frame
    settings: Settings = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeText:
    """Segment what a text names on a frame."""

    frame: Frame
    text: Annotated[str, one_line(1000)]
    threshold: Annotated[float, number(0, 1)] = DEFAULT_THRESHOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptProposals:
    """Make objects of the proposals of a frame."""

    frame: Frame
    indices: Indices
    names: Lines = ()
    category: Line = ''


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Undo the latest change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redo:
    """Redo what was undone last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Send the masks of frames."""

    frames: Annotated[tuple[int, ...], sequence(read_frame, MAX_FRAMES, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Send the scores of objects, of all if None."""

    objects: AllOrObjects = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Ask whether the server is there."""


Command = (
    Hello
    | Prompt
    | Draw
    | ClearPrompts
    | AddObject
    | UpdateObject
    | DeleteObjects
    | MergeObjects
    | SplitObject
    | DeleteMasks
    | LockFrames
    | Propagate
    | Refine
    | Cancel
    | Propose
    | ProposeText
    | AcceptProposals
    | Undo
    | Redo
    | Masks
    | Scores
    | Ping
)
COMMANDS: dict[str, type[Command]] = {
    re.sub('(?<!^)(?=[A-Z])', '_', kind.__name__).lower(): kind
    for kind in Command.__args__
}
# Commands that read or that act the same when they come twice; no reply is kept.
REPEATABLE = (Hello, Masks, Scores, Ping, Cancel)


class Request(NamedTuple):
    """A command and the number that its reply carries."""

    number: int
    command: Command


def parse_command(message: str | bytes) -> Request:
    """Read and check a message of a page.

    Raises:
        ProtocolError: If it is not a command, or a value is out of range.
    """
    size = len(
        message if isinstance(message, bytes) else message.encode('utf-8', 'replace')
    )
    if size > MAX_DRAWING:
        msg = f'The message has {size} bytes; send at most {MAX_DRAWING}'
        raise ProtocolError(msg)
    entries = parse_json(message)
    request = entries.pop('request', None)
    try:
        request = whole(0, MAX_REQUEST)(request, 'request')
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    name = entries.pop('type', None)
    if not isinstance(name, str) or name not in COMMANDS:
        msg = f'type is {show_value(name)}; give one of {", ".join(COMMANDS)}'
        raise ProtocolError(msg, request)
    kind = COMMANDS[name]
    if size > MAX_MESSAGE and kind is not Draw:
        msg = f'The command {name} has {size} bytes; send at most {MAX_MESSAGE}'
        raise ProtocolError(msg, request)
    try:
        return Request(request, kind(**read_entries(kind, entries, name)))
    except ValueError as error:
        raise ProtocolError(str(error), request) from error


def parse_json(message: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ProtocolError: If it is not one.
    """
    try:
        entries = json.loads(message, parse_constant=_refuse_constant)
    except RecursionError:
        raise ProtocolError('The message nests too deeply; send a flat one') from None
    except (ValueError, UnicodeDecodeError) as error:
        msg = f'The message is not JSON ({error}); send an object'
        raise ProtocolError(msg) from None
    if not isinstance(entries, dict):
        msg = f'The message is {show_value(entries)}; send a JSON object'
        raise ProtocolError(msg)
    return entries


def _refuse_constant(name: str) -> None:
    msg = f'{name} is no number of JSON'
    raise ValueError(msg)


def read_entries(
    kind: type[Any], entries: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Read the entries of a record.

    Args:
        kind: The record's class, whose entries are annotated with their readers.
        entries: The entries of a JSON object.
        name: What the record is called in errors.

    Raises:
        ValueError: If an entry is missing, unknown or wrong.
    """
    hints = get_type_hints(kind, include_extras=True)
    readers = {item.name: hints[item.name].__metadata__[0] for item in fields(kind)}
    values = read_values(readers, entries, name)
    for item in fields(kind):
        if item.name not in values and item.default is MISSING:
            msg = f'{name} lacks the entry {item.name}; add it'
            raise ValueError(msg)
    return values


# Binary messages ---------------------------------------------------------------------


class PackedMask(NamedTuple):
    """An entry of a message of masks.

    Attributes:
        number: Id of the object, or index of the proposal.
        score: Probability that the object is there; NaN if it is unknown.
        flags: :data:`PROMPTED` and :data:`LOCKED`.
        code: The mask.
    """

    number: int
    score: float
    flags: int
    code: EncodedMask


def pack_masks(
    kind: int,
    frame: int,
    size: tuple[int, int],
    masks: Iterable[PackedMask],
    revision: int,
) -> bytes:
    """Pack the masks of a frame.

    Args:
        kind: :data:`MASKS`, of all objects, or :data:`PROPOSALS`.
        size: Height and width of the frame.
        revision: Of the document; a page drops masks that are older than its own.
    """
    entries: list[bytes] = []
    for entry in masks:
        counts = entry.code['counts'].encode('ascii')
        head = MASK_ENTRY.pack(entry.number, entry.score, entry.flags, len(counts))
        entries += (head, _padded(counts))
    num_masks = len(entries) // 2
    header = HEADER.pack(VERSION, kind, 0, frame, *size, num_masks, revision)
    return b''.join((header, *entries))


def pack_scores(number: int, scores: NDArray[np.uint8], revision: int) -> bytes:
    """Pack the scores of an object on all frames."""
    header = HEADER.pack(VERSION, SCORES, 0, number, 0, 0, len(scores), revision)
    return header + _padded(scores.tobytes())


def _padded(content: bytes) -> bytes:
    return content + b'\0' * (-len(content) % 4)


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None
