"""CVAT's XML, version 1.1: masks and polygons of its two formats, written and read.

CVAT has no tracks of masks: of a track of masks it loads the first one only. It writes
each mask of a video as a track of one frame, and so do we; ``group_id`` holds the masks
of an object together. Tracks of polygons it has; an object of several regions is
several tracks of one group.

CVAT ignores attributes that it does not know: ``object_id``, ``name`` and ``color``
tell :func:`read_cvat` which object a shape belongs to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from ...datasets.io.errors import ClipDataError, ReadLimits, check_file, shorten
from ...datasets.sources.segmentations import fill_polygons
from .polygons import crop_to_mask

FIX_XML = 'correct the file, or export it again from CVAT as "CVAT for video 1.1"'
AREAS = ('mask', 'polygon', 'box', 'ellipse')
ELLIPSE_CORNERS = 64
MAX_CORNERS = 2**20  # of a polygon; more would fill the memory before they are drawn


# Writing -----------------------------------------------------------------------------


@dataclass(slots=True)
class XMLFile:
    """Writes XML element by element, so that it never is in memory as a whole.

    Attributes:
        file: Text file in UTF-8.
        depth: Number of open elements.
    """

    file: TextIO
    depth: int = 0

    def open(self, tag: str, **attributes: object) -> None:
        """Write a start tag."""
        self._line(f'<{tag}{_attributes(attributes)}>')
        self.depth += 1

    def close(self, tag: str) -> None:
        """Write an end tag."""
        self.depth -= 1
        self._line(f'</{tag}>')

    def element(self, tag: str, text: object = '', **attributes: object) -> None:
        """Write an element that holds text only."""
        content = escape(_allowed(str(text)))
        self._line(f'<{tag}{_attributes(attributes)}>{content}</{tag}>')

    def _line(self, text: str) -> None:
        self.file.write(f'{"  " * self.depth}{text}\n')


def _attributes(attributes: Mapping[str, object]) -> str:
    pairs = (f' {k}={quoteattr(_allowed(str(v)))}' for k, v in attributes.items())
    return ''.join(pairs)


def _allowed(text: str) -> str:
    """Replace the characters that XML cannot hold."""
    return ''.join(
        char
        if char in '\t\n\r'
        or ' ' <= char <= '\ud7ff'
        or '\ue000' <= char <= '\ufffd'
        # Beyond the first 65,536 all are allowed.
        or char > '\uffff'
        else '\ufffd'
        for char in text
    )


def encode_cvat_mask(mask: NDArray[np.bool_]) -> dict[str, object]:
    """Encode a mask with a pixel as attributes of ``<mask>``.

    The run lengths go row by row through the bounding box, the first run is of
    background.
    """
    left, top, crop = crop_to_mask(mask)
    flat = crop.reshape(-1)
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    runs = np.diff(ends, prepend=0).tolist()
    return {
        'rle': ', '.join(map(str, [0, *runs] if flat[0] else runs)),
        'left': left,
        'top': top,
        'width': crop.shape[1],
        'height': crop.shape[0],
    }


# Reading -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CvatShape:
    """A shape that covers pixels.

    Attributes:
        frame: Number of the frame; for images the ``id`` of the image.
        image: File name of the image; empty in the format for video.
        track: Number of its track in the file; None in the format for images.
        kind: One of :data:`AREAS`.
        label: Label of the shape or of its track.
        attributes: Those of the element, of its track where it has none of that name.
        where: File, frame and label, for errors.
    """

    frame: int
    image: str
    track: int | None
    kind: str
    label: str
    attributes: Mapping[str, str]
    where: str

    def draw(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Draw the shape: (height, width).

        Raises:
            ClipDataError: If it is damaged or outside of a frame of this size.
        """
        if self.kind == 'mask':
            return self._paste(size)
        return fill_polygons([self._corners()], size, self.where)

    def _paste(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        keys = ('left', 'top', 'width', 'height')
        left, top, width, height = (self._whole_number(key) for key in keys)
        fits = left + width <= size[1] and top + height <= size[0]
        if min(left, top) < 0 or min(width, height) < 1 or not fits:
            problem = (
                f'mask of {height} x {width} at row {top}, column {left} on a frame of '
                f'{size[0]} x {size[1]}'
            )
            raise ClipDataError.at(self.where, problem, FIX_XML)
        text = self.attributes.get('rle', '')
        num_pixels = width * height
        # Checked before the text is split, which takes many times its size in memory.
        if text.count(',') > num_pixels:
            problem = f'has more runs than its box of {height} x {width} has pixels'
            raise ClipDataError.at(self.where, problem, FIX_XML)
        try:
            runs = np.array(text.split(','), dtype=np.int64)
        except (ValueError, OverflowError) as error:
            problem = f'rle {text[:60]!r} is not a list of numbers'
            raise ClipDataError.at(self.where, problem, FIX_XML) from error
        if runs.min() < 0 or runs.max() > num_pixels or runs.sum() != num_pixels:
            problem = f'runs do not fill the box of {height} x {width} pixels'
            raise ClipDataError.at(self.where, problem, FIX_XML)
        values = np.arange(len(runs)) % 2 == 1
        mask = np.zeros(size, bool)
        mask[top : top + height, left : left + width] = np.repeat(values, runs).reshape(
            height, width
        )
        return mask

    def _corners(self) -> list[float]:
        """Outline of any kind but a mask: ``[x, y, x, y, …]``."""
        if self.kind == 'polygon':
            text = self.attributes.get('points', '')
            if text.count(';') >= MAX_CORNERS:
                problem = f'has more than {MAX_CORNERS} points'
                raise ClipDataError.at(self.where, problem, FIX_XML)
            pairs = [pair.split(',') for pair in text.split(';')]
            try:
                return [float(value) for x, y in pairs for value in (x, y)]
            except ValueError as error:
                problem = f'points {text[:60]!r} are not pairs x,y;x,y'
                raise ClipDataError.at(self.where, problem, FIX_XML) from error
        if self.kind == 'box':
            left, top, right, bottom = map(self._number, ('xtl', 'ytl', 'xbr', 'ybr'))
            center = np.array([(left + right) / 2, (top + bottom) / 2])
            half = np.array([(right - left) / 2, (bottom - top) / 2])
            around = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
        else:
            center = np.array([self._number('cx'), self._number('cy')])
            angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
            directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            around = directions * (self._number('rx'), self._number('ry'))
        turned_by = self._number('rotation') if 'rotation' in self.attributes else 0.0
        angle = np.deg2rad(turned_by)
        cos, sin = np.cos(angle), np.sin(angle)
        turned = around @ np.array([(cos, sin), (-sin, cos)]) + center
        corners: list[float] = turned.reshape(-1).tolist()
        return corners

    def _whole_number(self, name: str) -> int:
        return int(self._number(name))

    def _number(self, name: str) -> float:
        text = self.attributes.get(name)
        try:
            value = float(text or 'missing')
        except ValueError:
            value = np.nan
        if not np.isfinite(value) or abs(value) > 2**31:
            problem = f'{name} is {text!r}, expected a number'
            raise ClipDataError.at(self.where, problem, FIX_XML)
        return value


def is_cvat(path: Path) -> bool:
    """Whether an XML file is one of CVAT, or so damaged that reading it says more."""
    reader = _Reader(path)
    try:
        with path.open('rb') as file:
            reader.feed(file.read(65536))
    except (OSError, ClipDataError):
        return True
    return reader.root == 'annotations'


def read_cvat(path: Path, limits: ReadLimits) -> Iterator[CvatShape]:
    """Read the visible shapes of a file that cover pixels, in the order of the file.

    Points, lines, skeletons, cuboids and tags cover none and are left out.

    Args:
        limits: Its ``max_file_size`` counts.

    Raises:
        ClipDataError: If it is not XML of CVAT, or has a document type: entities in it
            could name files or fill the memory.
    """
    check_file(path, limits.max_file_size)
    reader = _Reader(path)
    with path.open('rb') as file:
        yield from reader.parse(file)


@dataclass(slots=True)
class _Reader:
    """Turns the events of the parser into shapes."""

    path: Path
    root: str = ''
    parser: Any = None
    shapes: list[CvatShape] = field(default_factory=list)
    num_tracks: int = 0
    owner: dict[str, str] | None = None  # attributes of the open track or image
    is_track: bool = False

    def __post_init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype

    def parse(self, file: BinaryIO) -> Iterator[CvatShape]:
        for chunk in iter(partial(file.read, 2**20), b''):
            self.feed(chunk)
            yield from self.shapes
            self.shapes.clear()
        self.feed(b'', is_final=True)
        if self.root != 'annotations':
            problem = f'begins with <{shorten(self.root)}>, not <annotations>'
            raise ClipDataError.at(self.path, problem, FIX_XML)

    def feed(self, chunk: bytes, *, is_final: bool = False) -> None:
        try:
            self.parser.Parse(chunk, is_final)
        except expat.ExpatError as error:
            problem = f'is not XML ({error})'
            raise ClipDataError.at(self.path, problem, FIX_XML) from error

    def _refuse_doctype(self, *_: object) -> None:
        problem = 'has a document type (<!DOCTYPE …>), which CVAT does not write'
        raise ClipDataError.at(self.path, problem, FIX_XML)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or tag
        if tag in {'track', 'image'}:
            self.owner, self.is_track = attributes, tag == 'track'
            self.num_tracks += self.is_track
        elif tag in AREAS and self.owner is not None:
            # The `name` of an image is not that of its shapes.
            merged = {**self.owner, **attributes} if self.is_track else attributes
            if merged.get('outside') == '1':
                return
            number = attributes.get('frame') if self.is_track else self.owner.get('id')
            number = number or ''
            label = merged.get('label', '')
            where = f'{self.path}: <{tag}> {shorten(label)!r} of frame {number}'
            if not number.isdecimal() or len(number) > 9:
                problem = f'its frame is {number!r}, expected a number'
                raise ClipDataError.at(where, problem, FIX_XML)
            shape = CvatShape(
                frame=int(number),
                image='' if self.is_track else self.owner.get('name', ''),
                track=self.num_tracks if self.is_track else None,
                kind=tag,
                label=label,
                attributes=merged,
                where=where,
            )
            self.shapes.append(shape)

    def _end(self, tag: str) -> None:
        if tag in {'track', 'image'}:
            self.owner = None
