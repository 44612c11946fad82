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
    ObjectIds,
    check_size,
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
from ..io.images import (
    IMAGE_SUFFIXES,
    decode_label_map,
    read_orientation,
)
from ..io.json_files import (
    FIX_FILE,
    check_type,
    describe,
    get_field,
    read_json,
)
from ..io.listing import find_file, find_stems, safe_join
from .segmentations import (
    check_edges,
    checked_corners,
    fill_polygons,
)

CIRCLE_CORNERS = 64
SIDES = ('Height', 'Width')
# Types of shapes; the polygons of four corners are X-AnyLabeling's.
POLYGONS = ('polygon', 'rotation', 'quadrilateral', 'oriented_rectangle')
AREAS = (*POLYGONS, 'rectangle', 'circle', 'mask')
WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')
LYING = (5, 6, 7, 8)  # orientations that exchange height and width


@dataclass(frozen=True, slots=True, kw_only=True)
class UprightImage:
    """An image turned as its camera noted: as LabelMe shows it to who draws on it.

    Attributes:
        stored: The image as it is in its file.
    """

    stored: ImageFrames

    @property
    def num_frames(self) -> int:
        """The one."""
        return self.stored.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Stem of the image's file."""
        return self.stored.frame_name(frame_index)

    def size(self, frame_index: int) -> FrameSize:
        """Height and width once it is turned, from its header."""
        height, width = self.stored.size(frame_index)
        lies = self._orientation(frame_index) in LYING
        return (width, height) if lies else (height, width)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode the image and turn it: (height, width, 3), RGB."""
        turned = self.stored.read(frame_index)
        orientation = self._orientation(frame_index)
        if orientation in LYING:
            turned = turned.swapaxes(0, 1)
        if orientation in {3, 4, 7, 8}:
            turned = turned[::-1]
        if orientation in {2, 3, 6, 7}:
            turned = turned[:, ::-1]
        return np.ascontiguousarray(turned)

    def _orientation(self, frame_index: int) -> int:
        path = self.stored.path(frame_index)
        with path.open('rb') as file:
            return read_orientation(file, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape of a LabelMe file.

    Attributes:
        kind: Its type.
        content: What the file holds of it.
        where: File, number and label, for errors.
    """

    kind: str
    content: Mapping[str, object]
    where: str

    @classmethod
    def of(cls, content: object, where: str) -> 'Shape':
        """Read the type of a shape; files older than the types have polygons alone.

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

    def points(self) -> NDArray[np.float64]:
        """Points as they were set: (points, 2), x and y."""
        pairs = get_field(self.content, 'points', list, self.where)
        for pair in pairs:
            if len(check_type(pair, list, 'a point', self.where)) != 2:
                problem = f'has a point of {len(pair)} numbers, expected x and y'
                raise ClipDataError.at(self.where, problem, FIX_FILE)
        flat = [
            check_type(n, float, 'x or y', self.where) for pair in pairs for n in pair
        ]
        return np.array(flat, np.float64).reshape(-1, 2)

    def corners(self) -> list[float]:
        """Outline of any type but a mask: ``[x, y, x, y, …]``.

        Raises:
            ClipDataError: If it has too many points, or too few.
        """
        points = self.points()
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
            angles = np.linspace(0, 2 * np.pi, CIRCLE_CORNERS, endpoint=False)
            radius = np.hypot(*(points[1] - points[0]))
            around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
            points = points[0] + around
        corners: list[float] = points.reshape(-1).tolist()
        return corners


@lru_cache
def _warn_of_no_area(kind: str, path: Path) -> None:
    """Say that a type of shapes is skipped; the cache makes it once for a folder."""
    msg = f'{path}: shapes of type {kind!r} have no area and are skipped'
    print_log(msg, 'current', logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMeMasks:
    """Reads the shapes of an image.

    Attributes:
        path: The JSON file.
        limits: Checked before decoding.
    """

    path: Path
    limits: ReadLimits = DEFAULT_LIMITS

    def annotated_frames(self) -> tuple[int, ...]:
        """The one frame."""
        return (0,)

    def object_ids(self) -> ObjectIds:
        """One for each shape, or group of shapes with a label and a ``group_id``."""
        return tuple(self._objects(read_json(self.path, self.limits)))

    def read(
        self,
        frame_index: int,
        size: FrameSize,
        object_ids: ObjectIds | None = None,
    ) -> FrameMasks:
        """Draw masks of the image, see :class:`MaskReader`."""
        content = read_json(self.path, self.limits)
        objects = self._objects(content)
        self._check_size(content, size)
        ids = tuple(objects) if object_ids is None else object_ids
        self.limits.check_masks(self.path, len(ids), size)
        chosen = [shape for i in ids for shape in objects.get(i, ())]
        check_edges(
            (
                checked_corners(shape.corners(), size, shape.where)
                for shape in chosen
                if shape.kind != 'mask'
            ),
            self.path,
        )
        masks = np.zeros((len(ids), *size), bool)
        for mask, object_id in zip(masks, ids, strict=True):
            for shape in objects.get(object_id, ()):
                np.logical_or(mask, self._draw(shape, size), out=mask)
        if object_ids is None:
            seen = [i for i, mask in enumerate(masks) if mask.any()]
            ids, masks = tuple(ids[i] for i in seen), masks[seen]
        return FrameMasks(object_ids=ids, masks=masks)

    def _check_size(self, content: Mapping[str, object], size: FrameSize) -> None:
        """Compare the size that the file gives its image; old files give none."""
        keys = [f'image{side}' for side in SIDES]
        if any(content.get(key) is not None for key in keys):
            height, width = (get_field(content, key, int, self.path) for key in keys)
            check_size(self.path, (height, width), size)

    def _objects(self, content: object) -> dict[int, list[Shape]]:
        """Shapes of each object; ids count the objects from 1."""
        groups: dict[object, list[Shape]] = {}
        for number, each in enumerate(get_field(content, 'shapes', list, self.path)):
            shape = Shape.of(each, f'{self.path}: shape {number + 1}')
            if shape.kind in WITHOUT_AREA:
                _warn_of_no_area(shape.kind, self.path.parent)
                continue
            group = shape.content.get('group_id')
            key: object = number
            if group is not None:
                label = shape.content['label']
                key = (label, check_type(group, int, 'group_id', shape.where))
            groups.setdefault(key, []).append(shape)
        return dict(enumerate(groups.values(), start=1))

    def _draw(self, shape: Shape, size: FrameSize) -> NDArray[np.bool_]:
        if shape.kind == 'mask':
            return self._paste(shape, size)
        return fill_polygons([shape.corners()], size, shape.where)

    def _paste(self, shape: Shape, size: FrameSize) -> NDArray[np.bool_]:
        """Put a small mask, a PNG in base 64, at its first corner."""
        where, points = shape.where, shape.points()
        encoded = get_field(shape.content, 'mask', str, where)
        try:
            png = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            problem = f'has a mask that is not in base 64 ({error})'
            raise ClipDataError.at(where, problem, FIX_FILE) from error
        small = decode_label_map(png, where, self.limits) != 0
        corner = points[0] if len(points) else np.full(2, -1.0)
        height, width = small.shape
        x, y = (int(value) if 0 <= value < max(size) else -1 for value in corner)
        if min(x, y) < 0 or x + width > size[1] or y + height > size[0]:
            problem = f'has a mask of {small.shape} at {corner} on a frame of {size}'
            raise ClipDataError.at(where, problem, FIX_FILE)
        mask = np.zeros(size, bool)
        mask[y : y + height, x : x + width] = small
        return mask


@DATASETS.register_module()
@dataclass(kw_only=True, eq=False, repr=False)
class ClipLabelMeDataset(ListedDataset):
    """Images annotated with LabelMe, as clips of one frame.

    ``<data_root>/<annotation_folder>/<name>.json`` and the image of the same name in
    ``<image_folder>``; the path and the picture inside the JSON file are not used. An
    image is turned as its camera noted, since LabelMe does so before it is drawn on.
    Polygons, rectangles (of two corners or four), circles and masks are objects; those
    with one label and one ``group_id`` are one. Points and lines have no area: they are
    skipped, and a warning says so once. A shape without a type is a polygon. Where a
    file does not give the size of its image, the image's own counts.

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

        Args:
            name: One of :meth:`list_videos`.

        Raises:
            ClipDataError: If a file is missing.
        """
        stem = safe_join(self.root / self.annotation_folder, name)
        path = find_file(stem, ('.json',))
        check_file(path)
        stored = open_image(
            self.root / self.image_folder, name, self.read_limits, self.read_range
        )
        frames = UprightImage(stored=stored)
        masks = LabelMeMasks(path=path, limits=self.read_limits)
        return AnnotatedVideo(name=name, frames=frames, masks=masks)
