"""Strips and videos of clips: layout, recorded masks, training clips."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from memory_videos import MemoryVideo, true_masklets
from projects.sam2.structures import (
    FrameMasklets,
    FramePrompt,
    Masklets,
    PointLabel,
    PointPrompt,
)
from projects.sam2.visualization import draw_strip, draw_video, object_color
from projects.sam2.visualization.drawing import NEGATIVE, POSITIVE, WHITE, Picture
from projects.sam2.visualization.strips import (
    TrainingClip,
    choose_frames,
    compose_strip,
    draw_training_clip,
    not_annotated,
    prediction_overlay,
    prompt_kind,
    side_by_side,
    stack,
)

SIDE = 64


def plain(value: int, size: tuple[int, int] = (40, 60)) -> Picture:
    """A cell of a colour that no text has."""
    return np.full((*size, 3), (value, 0, value), dtype=np.uint8)


def contains(image: Picture, cell: Picture) -> tuple[int, int]:
    """Row and column where a plain cell lies, whole."""
    rows, columns = np.nonzero((image == cell[0, 0]).all(axis=2))
    height, width = cell.shape[:2]
    assert len(rows) == height * width
    top, left = int(rows.min()), int(columns.min())
    region = image[top : top + height, left : left + width]
    assert np.array_equal(region, cell)
    return top, left


def test_cells_lie_by_frame_and_by_row() -> None:
    cells = [[plain(200 + 10 * row + column) for row in range(3)] for column in (0, 1)]
    columns = [
        (f'frame {index}', column_cells) for index, column_cells in enumerate(cells)
    ]
    image = compose_strip(columns, ('Frame', 'Ground truth', 'Prediction'), 'clip')
    at = [[contains(image, cell) for cell in column] for column in cells]
    tops = [[top for top, _ in column] for column in at]
    lefts = [[left for _, left in column] for column in at]
    assert tops[0] == tops[1] == sorted(tops[0])
    assert len(set(lefts[0])) == 1
    assert lefts[0][0] + 60 < lefts[1][0]


def test_text_is_above_and_beside_the_cells() -> None:
    column = ('frame 3', (plain(222),))
    image = compose_strip([column], ('Frame',), 'title')
    top, left = contains(image, plain(222))
    ground = image[-1, -1]
    written = (image != ground).any(axis=2)
    assert written[: top // 2].any()  # title
    assert written[top // 2 : top, left:].any()  # caption
    assert written[top : top + 40, :left].any()  # name of the row


def test_long_title_widens_the_strip() -> None:
    column = ('0', (plain(222),))
    short = compose_strip([column], ('Frame',), 'a')
    assert compose_strip([column], ('Frame',), 'a' * 60).shape[1] > short.shape[1]


@pytest.mark.parametrize('num_cells', [0, 2])
def test_ragged_strip_is_refused(num_cells: int) -> None:
    columns = [('', (plain(1),) * num_cells)]
    with pytest.raises(ValueError, match=rf'columns of 1 cells.*\[{num_cells}\]'):
        compose_strip(columns, ('Frame',), '')
    with pytest.raises(ValueError, match='columns of 1 cells'):
        compose_strip([], ('Frame',), '')


@pytest.mark.parametrize('size', [(40, 60), (41, 61)])
def test_panels_lie_beside_each_other_in_an_even_picture(
    size: tuple[int, int],
) -> None:
    panels = [plain(210, size), plain(220, size)]
    image = side_by_side(panels, ('left', 'right'), 'frame 0')
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0
    (top, left), (other_top, right) = (contains(image, panel) for panel in panels)
    assert top == other_top
    assert left + size[1] < right
    assert side_by_side(panels, ('left', 'right'), 'frame 1000').shape == image.shape


def test_frame_without_annotation_is_dimmed_and_labelled() -> None:
    frame = plain(240, (100, 240))
    image = not_annotated(frame)
    assert image.shape == frame.shape
    assert np.median(image[..., 0]) == 80
    assert image[..., 1].max() > 200
    assert frame[..., 0].min() == 240


def test_strips_of_several_widths_lie_below_each_other() -> None:
    first, second = plain(200), plain(210, (30, 80))
    image = stack([first, second])
    assert image.shape[1] == 80
    top, left = contains(image, second)
    assert contains(image, first) == (0, 0)
    assert (top > 40, left) == (True, 0)


@pytest.fixture
def video() -> MemoryVideo:
    return MemoryVideo(first_frames=(0, 0))


def indices(frames: tuple[FrameMasklets, ...]) -> list[int]:
    return [frame.frame_index for frame in frames]


@pytest.mark.parametrize(
    ('annotated', 'number', 'expected'),
    [
        (range(11), 3, [0, 5, 10]),
        (range(11), 20, list(range(11))),
        ((1, 4, 9), 6, [1, 4, 9]),
        ((0, 4), 3, [0, 5, 10]),
        ((), 2, [0, 10]),
    ],
)
def test_frames_are_spread_over_those_with_ground_truth(
    annotated: tuple[int, ...], number: int, expected: list[int]
) -> None:
    masklets = true_masklets(MemoryVideo(length=11), range(11))
    assert indices(choose_frames(masklets, annotated, number)) == expected


def test_packed_masks_are_drawn_as_they_were(video: MemoryVideo) -> None:
    frame = true_masklets(video).frames[2]
    overlay = prediction_overlay(frame, video.size)
    assert np.array_equal(overlay.masks, video.masks(2))
    nothing = replace(frame, object_ids=(), encoded=())
    assert prediction_overlay(nothing, video.size).masks.shape == (0, *video.size)


def test_right_prediction_looks_like_the_ground_truth(video: MemoryVideo) -> None:
    picture = next(draw_video(video, true_masklets(video, (1,)), title=''))
    left, right = np.split(picture[60:-8], 2, axis=1)
    assert np.array_equal(left[:, 6:280], right[:, 3:277])


def test_wrong_prediction_does_not(video: MemoryVideo) -> None:
    wrong = Masklets(frames=true_masklets(video, (0,)).frames)
    wrong = Masklets(frames=(replace(wrong.frames[0], frame_index=3),))
    picture = next(draw_video(video, wrong, title=''))
    left, right = np.split(picture[60:-8], 2, axis=1)
    assert not np.array_equal(left[:, 6:280], right[:, 3:277])


def test_every_kept_frame_is_shown_in_one_size(video: MemoryVideo) -> None:
    pictures = list(draw_video(video, true_masklets(video, (0, 2, 4)), title='squares'))
    assert len(pictures) == 3
    assert len({picture.shape for picture in pictures}) == 1
    assert video.reads == [0, 2, 4]


def test_frame_without_ground_truth_is_labelled() -> None:
    video = MemoryVideo(annotated=(0,))
    with_truth, without = draw_video(video, true_masklets(video, (0, 1)), title='')
    half = with_truth.shape[1] // 2
    assert without[70:-10, :half].mean() < 0.6 * with_truth[70:-10, :half].mean()


def test_strip_reads_no_more_frames_than_it_shows(video: MemoryVideo) -> None:
    strip = draw_strip(video, true_masklets(video), title='squares', num_columns=3)
    assert video.reads == [0, 2, 5]
    assert strip.dtype == np.uint8
    assert strip.shape[0] > 3 * 180
    assert strip.shape[1] > 3 * 300


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
