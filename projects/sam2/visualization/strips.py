"""Pictures of whole clips: strips of frames, and ground truth beside prediction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ops import decode_masks
from ..structures import (
    FrameMasklets,
    FramePrompt,
    Masklets,
    PointLabel,
    VideoSource,
    marks_of_points,
)
from .drawing import (
    BACKGROUND,
    FAINT,
    Overlay,
    Picture,
    draw_overlay,
    draw_text,
    fitted_size,
    resize,
    text_size,
)

STRIP_COLUMNS = 6
STRIP_LONG_SIDE = 300
VIDEO_LONG_SIDE = 560
GAP = 6
LETTERS = 15
TITLE_LETTERS = 18
ROW_NAMES = ('Frame', 'Ground truth', 'Prediction')

# Caption and cells, from top to bottom.
StripColumn = tuple[str, Sequence[Picture]]


def draw_strip(
    source: VideoSource,
    masklets: Masklets,
    *,
    title: str,
    num_columns: int = STRIP_COLUMNS,
) -> Picture:
    """Draw a few frames of a video: as they are, ground truth, prediction."""
    frames = choose_frames(masklets, source.annotated_frames(), num_columns)
    columns = [
        (_caption(frame), _draw_cells(source, frame, STRIP_LONG_SIDE))
        for frame in frames
    ]
    return compose_strip(columns, ROW_NAMES, title)


def draw_video(
    source: VideoSource, masklets: Masklets, *, title: str
) -> Iterator[Picture]:
    """Draw ground truth beside prediction for each recorded frame."""
    for frame in masklets.frames:
        cells = _draw_cells(source, frame, VIDEO_LONG_SIDE)
        yield side_by_side(cells[1:], ROW_NAMES[1:], f'{title}   {_caption(frame)}')


def choose_frames(
    masklets: Masklets, annotated: Sequence[int], num_frames: int
) -> tuple[FrameMasklets, ...]:
    """Choose evenly spaced frames, including the first and the last.

    Args:
        annotated: Frames with ground truth. Only they are chosen where enough of them
            were recorded: ``num_frames``, or three of a sparsely annotated video.
    """
    has_truth = set(annotated)
    with_truth = tuple(f for f in masklets.frames if f.frame_index in has_truth)
    is_enough = len(with_truth) >= min(num_frames, 3)
    frames = with_truth if is_enough else masklets.frames
    if len(frames) <= num_frames:
        return frames
    indices = np.linspace(0, len(frames) - 1, num_frames).round().astype(int)
    return tuple(frames[index] for index in indices)


def _caption(frame: FrameMasklets) -> str:
    return f'frame {frame.frame_index}' + (' · prompt' if frame.prompted_ids else '')


def _draw_cells(
    source: VideoSource, frame: FrameMasklets, long_side: int
) -> tuple[Picture, Picture, Picture]:
    """Draw a frame as it is, its ground truth and its prediction."""
    pixels = source.read_frame(frame.frame_index)
    truth = source.read_masks(frame.frame_index)
    size = (pixels.shape[0], pixels.shape[1])
    plain = resize(pixels, fitted_size(size, long_side))
    if truth is None:
        true = not_annotated(plain)
    else:
        overlay = Overlay(
            object_ids=truth.object_ids, masks=truth.masks, void=truth.void
        )
        true = draw_overlay(plain, overlay, long_side=long_side)
    predicted = prediction_overlay(frame, size)
    return plain, true, draw_overlay(plain, predicted, long_side=long_side)


def prediction_overlay(frame: FrameMasklets, size: tuple[int, int]) -> Overlay:
    """Collect the predicted masks of a frame and its prompts.

    Args:
        size: Height and width of the frame's file.
    """
    encoded = [dict(code) for code in frame.encoded]
    masks = decode_masks(encoded) if encoded else np.zeros((0, *size), dtype=bool)
    return Overlay(
        object_ids=frame.object_ids,
        masks=masks,
        prompted_ids=frame.prompted_ids,
        marks=frame.marks,
    )


# -------------------------------------------------------------------- Training clips


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingClip:
    """A clip as the model sees it.

    Attributes:
        title: Written above.
        frames: (T, H, W, 3), RGB.
        masks: (T, O, H, W), bool.
        void: (T, H, W), bool, pixels to be ignored.
        annotated: (T,), bool.
        object_ids: One for each object.
        frame_indices: Positions in the video.
        prompts: First prompts of all objects, by the frame of the clip.
        corrections: Number of correction clicks, by the frame of the clip.
        clicks: If a model predicted masks, the points of each corrected frame: its
            first prompt and the clicks on errors of the masks.
    """

    title: str
    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_]
    annotated: NDArray[np.bool_]
    object_ids: tuple[int, ...]
    frame_indices: tuple[int, ...]
    prompts: Mapping[int, FramePrompt]
    corrections: Mapping[int, int]
    clicks: Mapping[int, FramePrompt] = field(default_factory=dict)


def draw_training_clip(
    clip: TrainingClip, *, long_side: int, with_frames: bool
) -> Picture:
    """Draw a clip: a column for each frame.

    Args:
        long_side: Length of a frame's longer side in pixels.
        with_frames: Add a row of frames without masks.
    """
    columns = []
    for time, (frame, frame_index) in enumerate(
        zip(clip.frames, clip.frame_indices, strict=True)
    ):
        words = [f'{frame_index}']
        if time in clip.prompts:
            words.append(prompt_kind(clip.prompts[time]))
        if clip.corrections.get(time):
            words.append(f'+{clip.corrections[time]} clicks')
        size = fitted_size((frame.shape[0], frame.shape[1]), long_side)
        plain = resize(frame, size)
        if clip.annotated[time]:
            overlay = _training_overlay(clip, time)
            prompts = draw_overlay(frame, overlay, long_side=long_side)
        else:
            prompts = not_annotated(plain)
        cells = (plain, prompts) if with_frames else (prompts,)
        columns.append((' · '.join(words), cells))
    names = ('Frame', 'Prompts') if with_frames else ('',)
    return compose_strip(columns, names, clip.title)


def _training_overlay(clip: TrainingClip, time: int) -> Overlay:
    prompt = clip.prompts.get(time)
    shown = clip.clicks.get(time, prompt)
    points = None if shown is None else shown.points
    return Overlay(
        object_ids=clip.object_ids,
        masks=clip.masks[time],
        prompted_ids=() if prompt is None else clip.object_ids,
        marks=() if points is None else tuple(marks_of_points(points, clip.object_ids)),
        void=clip.void[time],
    )


def prompt_kind(prompt: FramePrompt) -> str:
    """Name the kind of a prompt: ``mask``, ``box`` or ``click``."""
    if prompt.points is None:
        return 'mask'
    is_box = bool((prompt.points.labels == PointLabel.BOX_TOP_LEFT).any())
    return 'box' if is_box else 'click'


# ---------------------------------------------------------------------------- Layout


def compose_strip(
    columns: Sequence[StripColumn], row_names: Sequence[str], title: str
) -> Picture:
    """Arrange pictures in a grid: a column for each frame, a row for each kind.

    Raises:
        ValueError: If there is no column, or one does not have a cell for each row.
    """
    num_cells = [len(cells) for _, cells in columns]
    if set(num_cells) != {len(row_names)}:
        msg = f'Expected columns of {len(row_names)} cells, but got {num_cells}'
        raise ValueError(msg)
    cell_height, cell_width = columns[0][1][0].shape[:2]
    row_height, column_width = cell_height + GAP, cell_width + GAP
    title_height, title_width = text_size(title, TITLE_LETTERS)
    caption_height = text_size('0', LETTERS)[0]
    left = max(text_size(name, LETTERS)[1] for name in row_names) + 3 * GAP
    top = title_height + caption_height + 3 * GAP
    width = max(left + len(columns) * column_width, title_width + 2 * GAP)
    image = _blank(top + len(row_names) * row_height, width)
    draw_text(image, title, (GAP, GAP), letter_height=TITLE_LETTERS)
    for row, name in enumerate(row_names):
        y = top + row * row_height + cell_height // 2 - LETTERS // 2
        draw_text(image, name, (GAP, y), letter_height=LETTERS)
    for index, (caption, cells) in enumerate(columns):
        x = left + index * column_width
        at = (x, top - caption_height - GAP // 2)
        draw_text(image, caption, at, letter_height=LETTERS, color=FAINT)
        for row, cell in enumerate(cells):
            y = top + row * row_height
            image[y : y + cell_height, x : x + cell_width] = cell
    return image


def stack(pictures: Sequence[Picture]) -> Picture:
    """Arrange pictures below each other, such as strips of several clips."""
    width = max(picture.shape[1] for picture in pictures)
    image = _blank(sum(picture.shape[0] + GAP for picture in pictures), width)
    top = 0
    for picture in pictures:
        image[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + GAP
    return image


def side_by_side(
    panels: Sequence[Picture], names: Sequence[str], caption: str
) -> Picture:
    """Arrange pictures of one size beside each other, each with its name above.

    Returns:
        (height, width, 3), both sides even, the same for all captions.
    """
    height, width = panels[0].shape[:2]
    line = text_size('0', LETTERS)[0] + GAP
    top = 2 * line + GAP
    total_height, total_width = top + height + GAP, GAP + len(panels) * (width + GAP)
    image = _blank(total_height + total_height % 2, total_width + total_width % 2)
    draw_text(image, caption, (GAP, GAP), letter_height=LETTERS, color=FAINT)
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        left = GAP + index * (width + GAP)
        draw_text(image, name, (left, line + GAP // 2), letter_height=LETTERS)
        image[top : top + height, left : left + width] = panel
    return image


def not_annotated(frame: Picture) -> Picture:
    """Dim a frame and say that it is not annotated."""
    text = 'not annotated'
    image = (frame // 3).astype(np.uint8)
    height, width = text_size(text, LETTERS)
    at = ((frame.shape[1] - width) // 2, (frame.shape[0] - height) // 2)
    draw_text(image, text, at, letter_height=LETTERS)
    return image


def _blank(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
