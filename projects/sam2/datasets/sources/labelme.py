"""Images annotated with LabelMe, as clips of one frame."""

import base64
import binascii
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from ...structures import FrameMasks
from ..annotated_video import (
    AnnotatedVideo,
    FrameSize,
    MaskReader,
    ObjectIds,
    check_size,
    without_empty,
)
from ..clip_dataset import ListedDataset
from ..io.errors import (
    DEFAULT_LIMITS,
    ClipDataError,
    ReadLimits,
    check_file,
    reports_clip_errors,
    shorten,
)
from ..io.frames import ImageFrames, open_image
from ..io.images import decode_label_map, read_orientation
from ..io.json_files import FIX_FILE, check_type, describe, get_field, read_json
from ..io.listing import IMAGE_SUFFIXES, find_file, find_stems, safe_join
from .segmentations import check_edges, checked_corners, fill_polygons

CIRCLE_CORNERS = 64
# Types of shapes; the polygons of four corners are X-AnyLabeling's.
POLYGONS = ('polygon', 'rotation', 'quadrilateral', 'oriented_rectangle')
AREAS = (*POLYGONS, 'rectangle', 'circle', 'mask')
WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')
# Exif orientations
TRANSPOSED = (5, 6, 7, 8)
FLIPPED_VERTICALLY = (3, 4, 7, 8)
FLIPPED_HORIZONTALLY = (2, 3, 6, 7)


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipLabelMeDataset(ListedDataset):
    """Images annotated with LabelMe, as clips of one frame.

    ``<data_root>/<annotation_folder>/<name>.json`` and the image of the same name in
    ``<image_folder>``; the path and the image inside the JSON file are not used. An
    image is rotated by its Exif orientation, as LabelMe does before it is annotated.

    Polygons, rectangles (of two corners or four), circles and masks are objects; those
    with the same label and ``group_id`` are one. A shape without a type is a polygon.
    Points and lines have no area: they are skipped with a warning.

    Beside the options of :class:`ListedDataset`:

    Attributes:
        image_folder: Folder of the images, relative to ``data_root``.
        annotation_folder: Folder of the JSON files, likewise.
    """

    image_folder: str = '.'
    annotation_folder: str = '.'

    def list_videos(self) -> list[str]:
        """Names of the images, see :meth:`ClipDataset.list_videos`."""
        find = partial(find_stems, suffixes=('.json',))
        find_images = partial(find_stems, suffixes=IMAGE_SUFFIXES)
        beside = [(self.image_folder, find_images)]
        return self.names_in(self.annotation_folder, find, beside)

    @reports_clip_errors
    def open_video(self, name: str) -> AnnotatedVideo:
        """Find an image and its shapes, without drawing any.

        Raises:
            ClipDataError: If a file is missing.
        """
        stem = safe_join(self.root / self.annotation_folder, name)
        path = find_file(stem, ('.json',))
        check_file(path)
        stored = open_image(
            self.root / self.image_folder, name, self.read_limits, self.read_range
        )
        return AnnotatedVideo(
            name=name,
            frames=UprightImage(stored=stored),
            masks=LabelMeMasks(path=path, limits=self.read_limits),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UprightImage:
    """An image rotated by its Exif orientation.

    Attributes:
        stored: The image as it is in its file.
    """

    stored: ImageFrames

    @property
    def num_frames(self) -> int:
        """One."""
        return self.stored.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Stem of the image's file."""
        return self.stored.frame_name(frame_index)

    def size(self, frame_index: int) -> FrameSize:
        """Height and width after the rotation, from the header."""
        height, width = self.stored.size(frame_index)
        is_transposed = self._orientation(frame_index) in TRANSPOSED
        return (width, height) if is_transposed else (height, width)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode and rotate the image: (height, width, 3), RGB."""
        image = self.stored.read(frame_index)
        orientation = self._orientation(frame_index)
        if orientation in TRANSPOSED:
            image = image.swapaxes(0, 1)
        if orientation in FLIPPED_VERTICALLY:
            image = image[::-1]
        if orientation in FLIPPED_HORIZONTALLY:
            image = image[:, ::-1]
        return np.ascontiguousarray(image)

    def _orientation(self, frame_index: int) -> int:
        path = self.stored.path(frame_index)
        with path.open('rb') as file:
            return read_orientation(file, path)


@dataclass(frozen=True, kw_only=True)
class LabelMeMasks(MaskReader):
    """Reads the shapes of an image.

    Attributes:
        path: The JSON file.
        limits: Checked before decoding.
    """

    path: Path
    limits: ReadLimits = DEFAULT_LIMITS

    def object_ids(self) -> ObjectIds:
        """Positions from 1 of the shapes, or groups of shapes, in the file."""
        return tuple(self.shapes())

    def read(
        self, frame_index: int, size: FrameSize, object_ids: ObjectIds | None = None
    ) -> FrameMasks:
        """Draw masks of the image, see :class:`MaskReader`."""
        content = read_json(self.path, self.limits)
        objects = self._group(content)
        sides = ('imageHeight', 'imageWidth')
        if any(content.get(side) is not None for side in sides):  # not in old files
            mask_size = [get_field(content, side, int, self.path) for side in sides]
            check_size(self.path, mask_size, size)
        ids = tuple(objects) if object_ids is None else object_ids
        self.limits.check_masks(self.path, len(ids), size)
        check_edges(
            (
                checked_corners(shape.corners(), size, shape.where)
                for object_id in ids
                for shape in objects.get(object_id, ())
                if shape.kind != 'mask'
            ),
            self.path,
        )
        masks = FrameMasks(object_ids=ids, masks=np.zeros((len(ids), *size), bool))
        for mask, object_id in zip(masks.masks, ids, strict=True):
            for shape in objects.get(object_id, ()):
                np.logical_or(mask, shape.draw(size, self.limits), out=mask)
        return without_empty(masks) if object_ids is None else masks

    def shapes(self) -> dict[int, list['Shape']]:
        """Shapes of each object, in the order of the file."""
        return self._group(read_json(self.path, self.limits))

    def _group(self, content: object) -> dict[int, list['Shape']]:
        groups: dict[object, list[Shape]] = {}
        shapes = get_field(content, 'shapes', list, self.path)
        for number, each in enumerate(shapes, start=1):
            shape = Shape.of(each, f'{self.path}: shape {number}')
            if shape.kind in WITHOUT_AREA:
                _warn_once(shape.kind, self.path.parent)
                continue
            group = shape.content.get('group_id')
            key: object = number
            if group is not None:
                group_id = check_type(group, int, 'group_id', shape.where)
                key = (shape.content['label'], group_id)
            groups.setdefault(key, []).append(shape)
        return dict(enumerate(groups.values(), start=1))


@lru_cache
def _warn_once(kind: str, folder: Path) -> None:
    """Warn that a type of shapes is skipped, once per folder (the cache sees to it)."""
    msg = f'{folder}: shapes of type {kind!r} have no area and are skipped'
    print_log(msg, 'current', logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape of a LabelMe file.

    Attributes:
        kind: Its type.
        content: Its JSON object.
        where: File, number and label, for errors.
    """

    kind: str
    content: Mapping[str, object]
    where: str

    @classmethod
    def of(cls, content: object, where: str) -> 'Shape':
        """Read the type of a shape; the oldest files have only polygons, without type.

        Raises:
            ClipDataError: If its type is unknown.
        """
        label = get_field(content, 'label', str, where)
        record = check_type(content, dict, 'a shape', where)
        where = f'{where} ({shorten(label)})'
        kind = 'polygon'
        if record.get('shape_type') is not None:
            kind = get_field(record, 'shape_type', str, where)
        if kind not in {*AREAS, *WITHOUT_AREA}:
            problem = f'has the type {describe(kind)}, expected one of {AREAS}'
            raise ClipDataError.at(where, problem, 'remove or redraw the shape')
        return cls(kind=kind, content=record, where=where)

    def draw(self, size: FrameSize, limits: ReadLimits) -> NDArray[np.bool_]:
        """Draw the shape: (height, width)."""
        if self.kind == 'mask':
            return self._paste_mask(size, limits)
        return fill_polygons([self.corners()], size, self.where)

    def corners(self) -> list[float]:
        """Outline of any type but a mask: ``[x, y, x, y, …]``.

        Raises:
            ClipDataError: If it has too many points, or too few.
        """
        points = self._points()
        expected, fits = '3 or more', len(points) >= 3
        if self.kind == 'circle':
            expected, fits = '2', len(points) == 2
        elif self.kind == 'rectangle':
            expected, fits = '2 or 4', len(points) in {2, 4}
        if not fits:
            problem = f'is a {self.kind} of {len(points)} points, expected {expected}'
            raise ClipDataError.at(self.where, problem, 'remove or redraw the shape')
        if self.kind == 'rectangle' and len(points) == 2:
            (left, top), (right, bottom) = points
            points = np.array(
                [(left, top), (right, top), (right, bottom), (left, bottom)]
            )
        elif self.kind == 'circle':
            center, on_circle = points
            angles = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
            directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            points = center + directions * np.hypot(*(on_circle - center))
        corners: list[float] = points.reshape(-1).tolist()
        return corners

    def _points(self) -> NDArray[np.float64]:
        """Points of the file: (points, 2), x and y."""
        pairs = get_field(self.content, 'points', list, self.where)
        for pair in pairs:
            if len(check_type(pair, list, 'a point', self.where)) != 2:
                problem = f'has a point of {len(pair)} numbers, expected x and y'
                raise ClipDataError.at(self.where, problem, FIX_FILE)
        flat = [
            check_type(value, float, 'x or y', self.where)
            for pair in pairs
            for value in pair
        ]
        return np.array(flat, np.float64).reshape(-1, 2)

    def _paste_mask(self, size: FrameSize, limits: ReadLimits) -> NDArray[np.bool_]:
        """Paste a small mask, a PNG in base64, with its corner at the first point."""
        points = self._points()
        encoded = get_field(self.content, 'mask', str, self.where)
        try:
            png = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            problem = f'has a mask that is not in base64 ({error})'
            raise ClipDataError.at(self.where, problem, FIX_FILE) from error
        small = decode_label_map(png, self.where, limits) != 0
        corner = points[0] if len(points) else np.full(2, -1.0)
        height, width = small.shape
        x, y = (int(value) if 0 <= value < max(size) else -1 for value in corner)
        if min(x, y) < 0 or x + width > size[1] or y + height > size[0]:
            problem = f'has a mask of {small.shape} at {corner} on a frame of {size}'
            raise ClipDataError.at(self.where, problem, FIX_FILE)
        mask = np.zeros(size, bool)
        mask[y : y + height, x : x + width] = small
        return mask
