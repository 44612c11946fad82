"""Masks of chosen objects: decoded alone where a source can, else among all."""

from typing import Any, Protocol, runtime_checkable

import numpy as np

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.structures import FrameMasks, ObjectSource, VideoSource

ObjectIds = tuple[int, ...]
MAX_VOID_FRAMES = 10  # of a video without an object that are looked at


@runtime_checkable
class ObjectNamer(Protocol):
    """A video source that names its objects."""

    def object_ids(self) -> ObjectIds:
        """Objects of the whole video."""


def video_objects(source: VideoSource) -> ObjectIds:
    """Find the objects of a video.

    Args:
        source: The video; where it does not name them, those that its annotated frames
            show, which may all be decoded for it.

    Returns:
        Their ids.
    """
    if isinstance(source, ObjectNamer):
        return source.object_ids()
    frames = source.annotated_frames()
    return tuple(
        sorted({i for frame in frames for i in list_objects(source, frame)[0]})
    )


def list_objects(
    source: VideoSource, frame_index: int
) -> tuple[ObjectIds, FrameMasks | None]:
    """Find the objects that a frame shows.

    Args:
        source: The video.
        frame_index: Position in it.

    Returns:
        Their ids, none where the frame is not annotated, and all masks of the frame
        where these had to be decoded for it.
    """
    if isinstance(source, ObjectSource):
        seen = source.seen_objects(frame_index)
        if seen is not None:
            return seen, None
    masks = source.read_masks(frame_index)
    return visible_objects(masks), masks


def read_objects(
    source: VideoSource, frame_index: int, object_ids: ObjectIds
) -> FrameMasks | None:
    """Decode masks of chosen objects.

    Args:
        source: The video.
        frame_index: Position in it.
        object_ids: The objects.

    Returns:
        A mask for each of them, empty where the frame does not show it; None where
        the frame is not annotated.
    """
    if isinstance(source, ObjectSource):
        return source.read_objects(frame_index, object_ids)
    masks = source.read_masks(frame_index)
    return None if masks is None else pick_objects(masks, object_ids)


def pick_objects(masks: FrameMasks, object_ids: ObjectIds) -> FrameMasks:
    """Take the masks of some objects.

    Args:
        masks: Masks of a frame.
        object_ids: Objects to take.

    Returns:
        One mask for each of ``object_ids``, empty where the frame has none.
    """
    picked = np.zeros((len(object_ids), *masks.masks.shape[1:]), bool)
    for position, object_id in enumerate(object_ids):
        if object_id in masks.object_ids:
            picked[position] = masks.masks[masks.object_ids.index(object_id)]
    return FrameMasks(object_ids=object_ids, masks=picked, void=masks.void)


def visible_objects(masks: FrameMasks | None) -> ObjectIds:
    """Objects with at least one pixel on a frame.

    Args:
        masks: Masks of a frame, or None where it is not annotated.

    Returns:
        Their ids.
    """
    if masks is None:
        return ()
    pairs = zip(masks.object_ids, masks.masks, strict=True)
    return tuple(object_id for object_id, mask in pairs if mask.any())


def void_note(source: VideoSource) -> str:
    """Say whether a video shows no object because all labelled pixels are void.

    This is usual for masks of 0 and 255, since 255 is void in label images.

    Args:
        source: A video of which no mask shows an object.

    Returns:
        A supplement to the description of the problem; empty if nothing is void.
    """
    void = False
    for frame_index in source.annotated_frames()[:MAX_VOID_FRAMES]:
        try:
            masks = source.read_masks(frame_index)
        except ClipDataError:  # reported by the reader of the frame
            continue
        if visible_objects(masks):
            return ''
        void = void or (masks is not None and masks.void is not None)
    inner: Any = source
    while hasattr(inner, 'source'):  # a view
        inner = inner.source
    reader = getattr(inner, 'masks', None)
    meaning = getattr(reader, 'void_meaning', 'void')
    return f': all labelled pixels are {meaning}' if void else ''
