"""Arranges pictures of frames: the strip, and ground truth beside prediction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ops import decode_masks
from ..structures import (
    FrameMasklets,
    FrameMasks,
    FramePrompt,
    Masklets,
    PointLabel,
    PromptMark,
    VideoSource,
    marks_of_points,
)
from .drawing import (
    FAINT,
    GROUND,
    TEXT,
    Overlay,
    Picture,
    draw_overlay,
    draw_text,
    fitted_size,
    resize,
    text_size,
)

GAP = 6
LETTERS = 15
TITLE_LETTERS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class StripColumn:
    """One frame of a strip.

    Attributes:
        caption: Written above, such as ``frame 12``.
        cells: Pictures of one size, from top to bottom, one for each row.
    """

    caption: str
    cells: tuple[Picture, ...]


def compose_strip(
    columns: Sequence[StripColumn], row_names: Sequence[str], title: str
) -> Picture:
    """Set pictures in a grid: a column for each frame, a row for each kind.

    Returns:
        (height, width, 3), RGB.

    Raises:
        ValueError: If there is no column, or one has another number of cells than
            there are rows.
    """
    if not columns or {len(column.cells) for column in columns} != {len(row_names)}:
        msg = (
            f'Expected columns of {len(row_names)} cells, but got '
            f'{[len(column.cells) for column in columns]}'
        )
        raise ValueError(msg)
    cell_height, cell_width = columns[0].cells[0].shape[:2]
    legend = max(text_size(name, LETTERS)[1] for name in row_names) + 3 * GAP
    top = text_size(title, TITLE_LETTERS)[0] + text_size('0', LETTERS)[0] + 3 * GAP
    width = legend + len(columns) * (cell_width + GAP)
    width = max(width, text_size(title, TITLE_LETTERS)[1] + 2 * GAP)
    image = _ground(top + len(row_names) * (cell_height + GAP), width)
    draw_text(image, title, (GAP, GAP), height=TITLE_LETTERS)
    caption_top = top - text_size('0', LETTERS)[0] - GAP // 2
    for row, name in enumerate(row_names):
        middle = top + row * (cell_height + GAP) + cell_height // 2
        draw_text(image, name, (GAP, middle - LETTERS // 2), height=LETTERS)
    for index, column in enumerate(columns):
        left = legend + index * (cell_width + GAP)
        at = (left, caption_top)
        draw_text(image, column.caption, at, height=LETTERS, color=FAINT)
        for row, cell in enumerate(column.cells):
            put_at = top + row * (cell_height + GAP)
            image[put_at : put_at + cell_height, left : left + cell_width] = cell
    return image


def stack(pictures: Sequence[Picture]) -> Picture:
    """Set pictures below each other, such as strips of several clips.

    Returns:
        (height, width, 3), RGB, as wide as the widest.
    """
    width = max(picture.shape[1] for picture in pictures)
    height = sum(picture.shape[0] + GAP for picture in pictures)
    image = _ground(height, width)
    top = 0
    for picture in pictures:
        image[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + GAP
    return image


def side_by_side(
    panels: Sequence[Picture], names: Sequence[str], caption: str
) -> Picture:
    """Set pictures beside each other, each with its name above.

    Args:
        panels: Pictures of one size, (height, width, 3).

    Returns:
        (height, width, 3), RGB, both sides even, the same for all captions.
    """
    height, width = panels[0].shape[:2]
    line = text_size('0', LETTERS)[0] + GAP
    top = 2 * line + GAP
    image = _ground(_even(top + height + GAP), _even(GAP + len(panels) * (width + GAP)))
    draw_text(image, caption, (GAP, GAP), height=LETTERS, color=FAINT)
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        left = GAP + index * (width + GAP)
        draw_text(image, name, (left, line + GAP // 2), height=LETTERS, color=TEXT)
        image[top : top + height, left : left + width] = panel
    return image


def placeholder(frame: Picture, text: str) -> Picture:
    """A dimmed picture that says why nothing is drawn over it.

    Args:
        frame: (height, width, 3).
    """
    image = (frame // 3).astype(np.uint8)
    line_height, width = text_size(text, LETTERS)
    at = ((frame.shape[1] - width) // 2, (frame.shape[0] - line_height) // 2)
    draw_text(image, text, at, height=LETTERS)
    return image


def _ground(height: int, width: int) -> Picture:
    """An empty picture."""
    return np.full((height, width, 3), GROUND, dtype=np.uint8)


def _even(length: int) -> int:
    """The next even number."""
    return length + length % 2


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
        annotated: Frames with ground truth; where at least ``number`` of them, or all
            of a sparsely annotated video's, can be shown, only those are chosen.
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
        size: Height and width of the frame's file.
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
    """Ground truth of a frame."""
    return Overlay(object_ids=truth.object_ids, masks=truth.masks, void=truth.void)


def draw_strip(
    source: VideoSource,
    masklets: Masklets,
    *,
    title: str,
    num_columns: int = STRIP_COLUMNS,
) -> Picture:
    """Draw a few frames of a video: as it is, ground truth, prediction.

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
    """Draw ground truth beside prediction for each frame that was kept."""
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


NOT_ANNOTATED = 'not annotated'
TRAINING_ROW_NAMES = ('Frame', 'Prompts')


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
        prompts: First prompts, (O, …), by the frame of the clip.
        corrections: Number of correction clicks, likewise.
        clicks: Where a model was at hand, all points of a corrected frame, the first
            prompt and the clicks on the errors of its masks, (O, …), likewise.
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

    Returns:
        (height, width, 3), RGB.
    """
    columns = [
        StripColumn(
            caption=_training_caption(clip, time),
            cells=_training_cells(clip, time, long_side)[0 if with_frames else 1 :],
        )
        for time in range(len(clip.frames))
    ]
    names = TRAINING_ROW_NAMES if with_frames else ('',)
    return compose_strip(columns, names, clip.title)


def prompt_kind(prompt: FramePrompt) -> str:
    """Name a prompt.

    Returns:
        ``mask``, ``box`` or ``click``.
    """
    if prompt.points is None:
        return 'mask'
    is_box = bool((prompt.points.labels == PointLabel.BOX_TOP_LEFT).any())
    return 'box' if is_box else 'click'


def prompt_marks(
    prompt: FramePrompt, object_ids: tuple[int, ...]
) -> tuple[PromptMark, ...]:
    """List the points of a prompt."""
    if prompt.points is None:
        return ()
    return tuple(marks_of_points(prompt.points, object_ids))


def _training_caption(clip: TrainingClip, time: int) -> str:
    """What stands above a frame: its number, prompt and correction clicks."""
    words = [f'{clip.frame_indices[time]}']
    if time in clip.prompts:
        words.append(prompt_kind(clip.prompts[time]))
    if clip.corrections.get(time):
        words.append(f'+{clip.corrections[time]} clicks')
    return ' · '.join(words)


def _training_cells(
    clip: TrainingClip, time: int, long_side: int
) -> tuple[Picture, Picture]:
    """The frame as it is, and with masks and prompts."""
    frame = clip.frames[time]
    plain = resize(frame, fitted_size((frame.shape[0], frame.shape[1]), long_side))
    if not clip.annotated[time]:
        return plain, placeholder(plain, NOT_ANNOTATED)
    prompt = clip.prompts.get(time)
    shown = clip.clicks.get(time, prompt)
    overlay = Overlay(
        object_ids=clip.object_ids,
        masks=clip.masks[time],
        prompted_ids=() if prompt is None else clip.object_ids,
        marks=() if shown is None else prompt_marks(shown, clip.object_ids),
        void=clip.void[time],
    )
    return plain, draw_overlay(frame, overlay, long_side=long_side)
