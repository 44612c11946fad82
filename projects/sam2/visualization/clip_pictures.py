"""Pictures of a video with its masklets, frame by frame and as a strip."""

from collections.abc import Iterator, Sequence

import numpy as np

from projects.sam2.ops import decode_masks
from projects.sam2.structures import FrameMasklets, FrameMasks, Masklets, VideoSource
from projects.sam2.visualization.drawing import (
    Overlay,
    draw_overlay,
    fitted_size,
    resize,
)
from projects.sam2.visualization.layout import (
    StripColumn,
    compose_strip,
    placeholder,
    side_by_side,
)
from projects.sam2.visualization.text import Picture

STRIP_COLUMNS = 6
STRIP_LONG_SIDE = 300
VIDEO_LONG_SIDE = 560
ROW_NAMES = ('Frame', 'Ground truth', 'Prediction')
NOT_ANNOTATED = 'not annotated'


def choose_frames(
    masklets: Masklets, annotated: Sequence[int], number: int
) -> tuple[FrameMasklets, ...]:
    """Choose evenly spaced frames, the first and the last among them.

    Args:
        masklets: Frames to choose from.
        annotated: Frames with ground truth; where at least ``number`` of them, or all
            of a sparsely annotated video's, can be shown, only those are chosen.
        number: At most so many frames.

    Returns:
        The chosen ones, ascending.
    """
    frames = masklets.frames
    true_frames = set(annotated)
    with_truth = tuple(frame for frame in frames if frame.frame_index in true_frames)
    if len(with_truth) >= min(number, 3):
        frames = with_truth
    if len(frames) <= number:
        return frames
    chosen = np.linspace(0, len(frames) - 1, number).round().astype(int)
    return tuple(frames[index] for index in chosen)


def prediction_overlay(frame: FrameMasklets, size: tuple[int, int]) -> Overlay:
    """Predicted masks of a frame, with its prompts.

    Args:
        frame: The packed masks.
        size: Height and width of the frame's file.

    Returns:
        What to draw.
    """
    empty = np.zeros((0, *size), dtype=bool)
    encoded = [dict(code) for code in frame.encoded]
    return Overlay(
        object_ids=frame.object_ids,
        masks=decode_masks(encoded) if encoded else empty,
        prompted_ids=frame.prompted_ids,
        marks=frame.marks,
    )


def truth_overlay(truth: FrameMasks) -> Overlay:
    """Ground truth of a frame.

    Args:
        truth: The masks.

    Returns:
        What to draw.
    """
    return Overlay(object_ids=truth.object_ids, masks=truth.masks, void=truth.void)


def draw_strip(
    source: VideoSource,
    masklets: Masklets,
    *,
    title: str,
    num_columns: int = STRIP_COLUMNS,
) -> Picture:
    """Draw a few frames of a video: as it is, ground truth, prediction.

    Args:
        source: The video.
        masklets: Its predicted masks, at least one frame.
        title: Written above.
        num_columns: At most so many frames.

    Returns:
        (height, width, 3), RGB.
    """
    chosen = choose_frames(masklets, source.annotated_frames(), num_columns)
    columns = [
        StripColumn(caption=_caption(frame), cells=_cells(source, frame))
        for frame in chosen
    ]
    return compose_strip(columns, ROW_NAMES, title)


def draw_video(
    source: VideoSource, masklets: Masklets, *, title: str
) -> Iterator[Picture]:
    """Draw ground truth beside prediction for each frame that was kept.

    Args:
        source: The video.
        masklets: Its predicted masks.
        title: Written above.

    Yields:
        Pictures of one size, both sides even.
    """
    for frame in masklets.frames:
        cells = _cells(source, frame, long_side=VIDEO_LONG_SIDE)
        yield side_by_side(cells[1:], ROW_NAMES[1:], f'{title}   {_caption(frame)}')


def _caption(frame: FrameMasklets) -> str:
    """What stands above a frame."""
    return f'frame {frame.frame_index}' + (' · prompt' if frame.prompted_ids else '')


def _cells(
    source: VideoSource, frame: FrameMasklets, *, long_side: int = STRIP_LONG_SIDE
) -> tuple[Picture, ...]:
    """The frame, its ground truth and its prediction, in one size."""
    pixels = source.read_frame(frame.frame_index)
    truth = source.read_masks(frame.frame_index)
    size = (pixels.shape[0], pixels.shape[1])
    plain = resize(pixels, fitted_size(size, long_side))
    true = (
        placeholder(plain, NOT_ANNOTATED)
        if truth is None
        else draw_overlay(plain, truth_overlay(truth), long_side=long_side)
    )
    predicted = draw_overlay(
        plain, prediction_overlay(frame, size), long_side=long_side
    )
    return plain, true, predicted
