"""Pictures of training clips: augmented frames, masks and prompts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from projects.sam2.structures import (
    FramePrompt,
    PointLabel,
    PromptMark,
    marks_of_points,
)
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
)
from projects.sam2.visualization.text import Picture

NOT_ANNOTATED = 'not annotated'
ROW_NAMES = ('Frame', 'Prompts')


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
        clip: What to draw.
        long_side: Length of a frame's longer side in pixels.
        with_frames: A row of the frames as they are, above that of the prompts.

    Returns:
        (height, width, 3), RGB.
    """
    columns = [
        StripColumn(
            caption=_caption(clip, time),
            cells=_cells(clip, time, long_side)[0 if with_frames else 1 :],
        )
        for time in range(len(clip.frames))
    ]
    names = ROW_NAMES if with_frames else ('',)
    return compose_strip(columns, names, clip.title)


def prompt_kind(prompt: FramePrompt) -> str:
    """Name a prompt.

    Args:
        prompt: A mask, a box or clicks.

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
    """List the points of a prompt.

    Args:
        prompt: Of the objects.
        object_ids: Their ids.

    Returns:
        The marks, those of an object one after another; none for a mask.
    """
    if prompt.points is None:
        return ()
    return tuple(marks_of_points(prompt.points, object_ids))


def _caption(clip: TrainingClip, time: int) -> str:
    """What stands above a frame: its number, prompt and correction clicks."""
    words = [f'{clip.frame_indices[time]}']
    if time in clip.prompts:
        words.append(prompt_kind(clip.prompts[time]))
    if clip.corrections.get(time):
        words.append(f'+{clip.corrections[time]} clicks')
    return ' · '.join(words)


def _cells(clip: TrainingClip, time: int, long_side: int) -> tuple[Picture, Picture]:
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
