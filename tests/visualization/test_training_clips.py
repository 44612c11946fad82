"""Training clips as strips of their frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from projects.sam2.structures import FramePrompt, PointLabel, PointPrompt
from projects.sam2.visualization import object_color
from projects.sam2.visualization.drawing import NEGATIVE, POSITIVE, WHITE, Picture
from projects.sam2.visualization.strips import (
    TrainingClip,
    draw_training_clip,
    prompt_kind,
    prompt_marks,
)

SIDE = 64


def points(*labels: int) -> FramePrompt:
    """The same points for two objects."""
    prompt = PointPrompt(
        coords=torch.arange(4.0 * len(labels)).reshape(2, len(labels), 2),
        labels=torch.tensor([labels, labels], dtype=torch.int32),
    )
    return FramePrompt(points=prompt)


MASK = FramePrompt(mask=torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool))
CLICK = points(PointLabel.POSITIVE)
BOX = points(PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT)


def clip(
    prompts: dict[int, FramePrompt], annotated: tuple[bool, bool] = (True, True)
) -> TrainingClip:
    """Two grey frames with object 3 above and object 5 below."""
    masks = np.zeros((2, 2, SIDE, SIDE), bool)
    masks[:, 0, 8:24, 8:56] = True
    masks[:, 1, 40:56, 8:56] = True
    return TrainingClip(
        title='ant',
        frames=np.full((2, SIDE, SIDE, 3), 90, np.uint8),
        masks=masks,
        void=np.zeros((2, SIDE, SIDE), bool),
        annotated=np.array(annotated),
        object_ids=(3, 5),
        frame_indices=(4, 9),
        prompts=prompts,
        corrections={1: 7},
    )


def shown_colors(image: Picture) -> set[tuple[int, ...]]:
    return {tuple(color) for color in image.reshape(-1, 3).tolist()}


def draw(of: TrainingClip, *, with_frames: bool = False) -> Picture:
    return draw_training_clip(of, long_side=128, with_frames=with_frames)


@pytest.mark.parametrize(
    ('prompt', 'kind'), [(MASK, 'mask'), (CLICK, 'click'), (BOX, 'box')]
)
def test_kind_of_a_prompt_is_named(prompt: FramePrompt, kind: str) -> None:
    assert prompt_kind(prompt) == kind


def test_points_belong_to_their_objects() -> None:
    marks = prompt_marks(points(PointLabel.POSITIVE, PointLabel.PADDING), (3, 5))
    assert [(m.object_id, m.x, m.y, m.label) for m in marks] == [
        (3, 0.0, 1.0, PointLabel.POSITIVE),
        (5, 4.0, 5.0, PointLabel.POSITIVE),
    ]
    assert prompt_marks(MASK, (3, 5)) == ()


def test_objects_have_their_colours() -> None:
    colors = shown_colors(draw(clip({})))
    assert {object_color(3), object_color(5)} <= colors


def test_prompted_objects_have_a_white_rim_where_they_are_prompted() -> None:
    image = draw(clip({1: MASK}))
    white = (image == WHITE).all(axis=2)
    # Letters are white as well; the rims are many more pixels than they.
    left, right = white[:, :150].sum(), white[:, 150:].sum()
    assert right > left + 200


def test_click_is_drawn() -> None:
    assert POSITIVE not in shown_colors(draw(clip({0: MASK})))
    assert POSITIVE in shown_colors(draw(clip({0: CLICK})))


def test_clicks_on_errors_are_drawn_in_place_of_the_first_prompt() -> None:
    both = points(PointLabel.POSITIVE, PointLabel.NEGATIVE)
    first = clip({0: CLICK})
    assert NEGATIVE not in shown_colors(draw(first))
    assert NEGATIVE in shown_colors(draw(replace(first, clicks={0: both})))
    # A frame may be corrected that was not prompted before.
    assert POSITIVE in shown_colors(draw(replace(clip({}), clicks={1: both})))


def test_frame_without_annotation_shows_no_mask() -> None:
    image = draw(clip({}, annotated=(False, False)))
    assert not {object_color(3), object_color(5)} & shown_colors(image)


def test_frames_as_they_are_come_in_a_row_above() -> None:
    plain, both = draw(clip({})), draw(clip({}), with_frames=True)
    assert both.shape[0] - plain.shape[0] == 128 + 6
    assert (both == 90).all(axis=2).sum() >= 2 * 128 * 128


def test_caption_tells_prompt_and_corrections() -> None:
    captions = [draw(clip(prompts)) for prompts in ({}, {0: MASK}, {0: CLICK})]
    tops = [image[22:44] for image in captions]
    assert not np.array_equal(tops[0], tops[1])
    assert not np.array_equal(tops[1], tops[2])
