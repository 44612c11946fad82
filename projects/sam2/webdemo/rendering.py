"""Films and stills of an annotated video with an effect, frame by frame."""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..ops import atomic_write, decode_masks
from ..visualization.drawing import Picture
from ..visualization.video_file import FRAMES_PER_SECOND, MAX_RATE, VideoFile
from .effects import EffectOptions, ShownMask, apply_effect, parse_color
from .formats.exports import AnnotatedView, Progress

Format = Literal['mp4', 'gif']
# Pillow holds the frames of a GIF until it is written, and browsers decode all of them.
MAX_GIF_FRAMES = 600
MAX_GIF_SIDE = 640  # pixels of the longer side; larger frames are reduced
MAX_GIF_RATE = 15.0  # frames per second; of faster videos every n-th frame is shown


def render_video(
    view: AnnotatedView,
    target: Path,
    format_name: Format,
    options: EffectOptions,
    start: int,
    stop: int,
    progress: Progress,
) -> None:
    """Write a film of some frames with an effect.

    An mp4 has the frame rate of the video and all of its frames; a broken frame shows
    the one before it. A GIF is smaller: see the limits above. The transparent part of a
    cut-out is black.

    Args:
        view: The session.
        target: The file; it is written atomically.
        format_name: ``'mp4'`` or ``'gif'``.
        options: The effect.
        start: First frame.
        stop: The frame after the last.
        progress: Called after each frame; what it raises cancels.

    Raises:
        ValueError: If the range or the format is invalid, the frames are independent
            images, the GIF would be too long, or the effect names an object that does
            not exist.
        OSError: If the file cannot be written.
    """
    video = view.video
    if format_name not in get_args(Format):
        msg = f'a film is mp4 or gif, not {format_name!r}'
        raise ValueError(msg)
    if video.kind == 'images':
        msg = f'{video.name} holds single images, which make no film; save stills'
        raise ValueError(msg)
    if not 0 <= start < stop <= video.num_frames:
        msg = (
            f'frames {start} to {stop} cannot be rendered; {video.name} has frames 0 '
            f'to {video.num_frames}, the end is exclusive'
        )
        raise ValueError(msg)
    _check_objects(view, options)
    rate = min(video.frames_per_second or FRAMES_PER_SECOND, MAX_RATE)
    if format_name == 'mp4':
        with VideoFile(target, frames_per_second=rate) as file:
            for picture in _pictures(view, options, range(start, stop), progress):
                file.add(picture)
        return
    step = max(1, math.ceil(rate / MAX_GIF_RATE))
    frames = range(start, stop, step)
    if len(frames) > MAX_GIF_FRAMES:
        seconds = MAX_GIF_FRAMES * step / rate
        msg = (
            f'a GIF of {len(frames)} frames is too long; choose a range of at most '
            f'{seconds:.0f} seconds ({MAX_GIF_FRAMES * step} frames), or mp4'
        )
        raise ValueError(msg)
    pictures = _pictures(view, options, frames, progress)
    _write_gif(target, pictures, num_frames=len(frames), seconds=step / rate)


def render_still(
    view: AnnotatedView, frame_index: int, options: EffectOptions
) -> bytes:
    """Render one frame with an effect.

    Returns:
        A PNG, RGB; of a cut-out with alpha.

    Raises:
        ValueError: If there is no such frame, it is broken, or the effect names an
            object that does not exist.
    """
    if not 0 <= frame_index < view.video.num_frames:
        msg = f'frame {frame_index} is not in 0 to {view.video.num_frames - 1}'
        raise ValueError(msg)
    _check_objects(view, options)
    picture = _render(view, view.video.read(frame_index), frame_index, options)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, 'png', compress_level=4)
    return buffer.getvalue()


def shown_masks(
    view: AnnotatedView, frame_index: int, options: EffectOptions
) -> list[ShownMask]:
    """The masks that count for an effect, in the order of creation of the objects."""
    masks = {mask.object_id: mask for mask in view.masks(frame_index)}
    shown = []
    for object_id, obj in view.document.objects.items():
        named = options.objects is not None and object_id in options.objects
        counts = named or (options.objects is None and not obj.hidden)
        if counts and object_id in masks:
            pixels = decode_masks([masks[object_id].code])[0]
            shown.append(ShownMask(pixels, parse_color(obj.color)))
    return shown


def _check_objects(view: AnnotatedView, options: EffectOptions) -> None:
    for object_id in options.objects or ():
        if object_id not in view.document.objects:
            msg = f'the effect names object {object_id}, which does not exist'
            raise ValueError(msg)


def _render(
    view: AnnotatedView, frame: Picture, frame_index: int, options: EffectOptions
) -> NDArray[np.uint8]:
    return apply_effect(frame, shown_masks(view, frame_index, options), options)


def _pictures(
    view: AnnotatedView, options: EffectOptions, frames: range, progress: Progress
) -> Iterator[Picture]:
    before: Picture | None = None
    for done, frame_index in enumerate(frames, start=1):
        try:
            frame = view.video.read(frame_index)
        except ValueError:  # broken
            height, width = view.video.size(frame_index)
            black = np.zeros((height, width, 3), np.uint8)
            picture = black if before is None else before
        else:
            picture = _render(view, frame, frame_index, options)[:, :, :3]
        before = picture
        yield picture
        progress(done / len(frames))


def _write_gif(
    target: Path, pictures: Iterator[Picture], *, num_frames: int, seconds: float
) -> None:
    # A GIF counts in hundredths of a second: what is rounded must not add up.
    ends = np.rint(100 * seconds * np.arange(1, num_frames + 1)).astype(int)
    durations = [10 * int(each) for each in np.diff(ends, prepend=0)]
    images = map(_indexed, pictures)
    first = next(images)
    with atomic_write(target) as partial:
        first.save(
            partial,
            format='gif',
            save_all=True,
            append_images=images,
            duration=durations if num_frames > 1 else durations[0],
            loop=0,
        )


def _indexed(picture: Picture) -> Image.Image:
    """A picture of at most 256 colours, reduced in size."""
    scale = MAX_GIF_SIDE / max(picture.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        picture = np.asarray(small, np.uint8)
    return Image.fromarray(picture).quantize(
        256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )
