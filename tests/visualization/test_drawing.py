"""Masks, prompts, labels and text in pictures, and the colours of objects."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from projects.sam2.structures import PointLabel, PromptMark
from projects.sam2.visualization import Overlay, draw_overlay, object_color
from projects.sam2.visualization.drawing import (
    BLACK,
    NEGATIVE,
    POSITIVE,
    WHITE,
    Picture,
    draw_labels,
    draw_marks,
    draw_text,
    fitted_size,
    resize,
    text_size,
)

SIZE = (90, 160)


@pytest.fixture
def frame() -> Picture:
    return np.random.default_rng(0).integers(60, 120, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[30:80, 40:110] = True
    return mask


def mark(x: float, y: float, label: PointLabel, object_id: int = 1) -> PromptMark:
    return PromptMark(object_id=object_id, x=x, y=y, label=label)


def one_object(mask: np.ndarray, **more: object) -> Overlay:
    return Overlay(object_ids=(2,), masks=mask[None], **more)  # type: ignore[arg-type]


def pixel(image: Picture, row: int, column: int) -> tuple[int, ...]:
    return tuple(int(value) for value in image[row, column])


@pytest.mark.parametrize(
    ('size', 'long_side', 'shown'),
    [
        ((480, 854), 854, (480, 854)),
        ((853, 480), 300, (300, 168)),
        ((32, 64), 300, (150, 300)),
        ((1, 400), 101, (2, 100)),
    ],
)
def test_shown_size_keeps_the_shape_and_is_even(
    size: tuple[int, int], long_side: int, shown: tuple[int, int]
) -> None:
    assert fitted_size(size, long_side) == shown


def test_inside_of_a_mask_takes_its_colour_half(
    frame: Picture, mask: np.ndarray
) -> None:
    image = draw_overlay(frame, one_object(mask), long_side=160)
    expected = (frame[75, 100].astype(int) + object_color(2)) / 2
    assert np.abs(image[75, 100] - expected).max() <= 1


def test_line_lies_about_the_mask_and_no_further(
    frame: Picture, mask: np.ndarray
) -> None:
    image = draw_overlay(frame, one_object(mask), long_side=160)
    assert pixel(image, 50, 39) == object_color(2)
    assert (image[50, 38] < frame[50, 38]).all()  # the dark rim
    assert np.array_equal(image[:27], frame[:27])
    assert np.array_equal(image[:, :37], frame[:, :37])


def test_prompted_object_has_a_white_rim(frame: Picture, mask: np.ndarray) -> None:
    overlay = one_object(mask, prompted_ids=(2,))
    assert pixel(draw_overlay(frame, overlay, long_side=160), 50, 37) == WHITE


def test_frame_is_left_alone(frame: Picture, mask: np.ndarray) -> None:
    before = frame.copy()
    overlay = one_object(mask, void=mask, marks=(mark(5, 5, PointLabel.POSITIVE),))
    draw_overlay(frame, overlay, long_side=160)
    assert np.array_equal(frame, before)


def test_small_frame_is_enlarged_with_its_masks(
    frame: Picture, mask: np.ndarray
) -> None:
    image = draw_overlay(frame, one_object(mask), long_side=640)
    assert image.shape == (360, 640, 3)
    assert pixel(image, 200, 159) == object_color(2)


def test_void_loses_its_colour(frame: Picture, mask: np.ndarray) -> None:
    nothing = Overlay(object_ids=(), masks=np.zeros((0, *SIZE), dtype=bool), void=mask)
    image = draw_overlay(frame, nothing, long_side=160)
    assert np.ptp(image[mask], axis=1).max() == 0
    assert np.array_equal(image[~mask], frame[~mask])


def test_empty_masks_draw_nothing(frame: Picture) -> None:
    empty = one_object(np.zeros(SIZE, dtype=bool))
    assert np.array_equal(draw_overlay(frame, empty, long_side=160), frame)


@pytest.mark.parametrize(
    ('label', 'color'),
    [(PointLabel.POSITIVE, POSITIVE), (PointLabel.NEGATIVE, NEGATIVE)],
)
def test_click_lies_where_it_was_given(
    frame: Picture, label: PointLabel, color: tuple[int, ...]
) -> None:
    image = resize(frame, (180, 320))
    before = image.copy()
    draw_marks(image, [mark(50, 20, label)], 2.0)
    # The centre of pixel 50 of the file is at 100.5 of the picture.
    rows, columns = np.nonzero((image != before).any(axis=2))
    assert abs((columns.min() + columns.max()) / 2 - 100.5) <= 1
    assert abs((rows.min() + rows.max()) / 2 - 40.5) <= 1
    assert color in {tuple(value) for value in image.reshape(-1, 3).tolist()}


def test_box_joins_its_two_corners(frame: Picture) -> None:
    corners = [
        mark(20, 10, PointLabel.BOX_TOP_LEFT, 3),
        mark(90, 70, PointLabel.BOX_BOTTOM_RIGHT, 3),
    ]
    draw_marks(frame, corners, 1.0)
    for row, column in ((10, 50), (70, 50), (40, 20), (40, 90)):
        assert pixel(frame, row, column) == object_color(3)


def test_frame_may_be_shown_at_another_size_than_its_masks(
    frame: Picture, mask: np.ndarray
) -> None:
    click = mark(50, 20, PointLabel.POSITIVE)
    overlay = one_object(mask, marks=(click,))
    shown = resize(frame, (180, 320))
    assert np.array_equal(
        draw_overlay(shown, overlay, long_side=320),
        draw_overlay(frame, overlay, long_side=320),
    )


def test_object_within_another_one_is_not_hidden(
    frame: Picture, mask: np.ndarray
) -> None:
    small = np.zeros(SIZE, dtype=bool)
    small[60:76, 44:60] = True
    for ids, masks in (((1, 2), (mask, small)), ((2, 1), (small, mask))):
        overlay = Overlay(object_ids=ids, masks=np.stack(masks))
        image = draw_overlay(frame, overlay, long_side=160)
        # Neither is its colour mixed with that of the other one.
        expected = (frame[68, 58].astype(int) + object_color(2)) / 2
        assert np.abs(image[68, 58] - expected).max() <= 1
        expected = (frame[75, 100].astype(int) + object_color(1)) / 2
        assert np.abs(image[75, 100] - expected).max() <= 1


def test_ring_of_a_click_tells_its_object(frame: Picture) -> None:
    image = resize(frame, (180, 320))
    draw_marks(image, [mark(50, 20, PointLabel.NEGATIVE, 3)], 2.0)
    colors = {tuple(value) for value in image.reshape(-1, 3).tolist()}
    assert {object_color(3), NEGATIVE} <= colors


def test_id_of_an_object_does_not_cover_a_click(
    frame: Picture, mask: np.ndarray
) -> None:
    middle = mark(64, 54, PointLabel.POSITIVE, 2)
    image = draw_overlay(frame, one_object(mask, marks=(middle,)), long_side=640)
    # The disk about the centre is green and white, a plate black.
    disk = image[4 * 54 - 4 : 4 * 54 + 8, 4 * 64 - 4 : 4 * 64 + 8]
    assert disk[..., 1].min() >= POSITIVE[1]


def disk(size: tuple[int, int], x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def grey_frame(size: tuple[int, int]) -> Picture:
    return np.full((*size, 3), 90, np.uint8)


def share_hidden(
    size: tuple[int, int], objects: Sequence[np.ndarray], marks: Sequence[PromptMark]
) -> list[float]:
    """Share of the pixels of each object that marks and labels change."""
    ids = tuple(range(1, len(objects) + 1))
    overlay = Overlay(object_ids=ids, masks=np.stack(objects), marks=tuple(marks))
    marked = draw_overlay(grey_frame(size), overlay, long_side=max(size))
    tinted = grey_frame(size)
    for number, mask in zip(ids, objects, strict=True):
        tinted[mask] = np.rint((90 + np.array(object_color(number))) / 2)
    return [
        float((np.abs(marked[mask] - tinted[mask].astype(int)) > 2).any(axis=1).mean())
        for mask in objects
    ]


@pytest.mark.parametrize('size', [(128, 128), (768, 1024), (2160, 3840)])
@pytest.mark.parametrize('radius', [3, 5, 10, 20])
def test_small_object_stays_visible_under_its_click(
    size: tuple[int, int], radius: int
) -> None:
    x, y = size[1] // 2, size[0] // 2
    click = mark(x, y, PointLabel.POSITIVE, 1)
    (hidden,) = share_hidden(size, [disk(size, x, y, radius)], [click])
    assert hidden <= 0.3


def test_small_object_stays_visible_under_many_clicks_and_in_its_box() -> None:
    size, x, y = (768, 1024), 300, 200
    clicks = [
        mark(x + dx, y + dy, PointLabel.POSITIVE, 1)
        for dx, dy in ((0, 0), (12, 0), (-12, 0), (0, 12), (0, -12))
    ]
    assert share_hidden(size, [disk(size, x, y, 20)], clicks)[0] <= 0.3
    corners = [
        mark(x - 10, y - 10, PointLabel.BOX_TOP_LEFT, 1),
        mark(x + 10, y + 10, PointLabel.BOX_BOTTOM_RIGHT, 1),
    ]
    assert share_hidden(size, [disk(size, x, y, 10)], corners)[0] <= 0.3


def test_negative_click_and_labels_do_not_hide_a_small_neighbour() -> None:
    size = (768, 1024)
    objects = [disk(size, 300, 200, 60), disk(size, 400, 200, 8)]
    objects += [disk(size, 640, 200 + 25 * step, 8) for step in range(6)]
    negative = mark(400, 200, PointLabel.NEGATIVE, 1)
    assert max(share_hidden(size, objects, [negative])[1:]) <= 0.3


def test_click_that_its_mask_misses_keeps_its_size() -> None:
    size = (480, 640)
    click = mark(320, 240, PointLabel.POSITIVE, 1)
    speck = disk(size, 500, 100, 3)
    overlay = Overlay(object_ids=(1,), masks=speck[None], marks=(click,))
    image = draw_overlay(grey_frame(size), overlay, long_side=640)
    drawn = (image[200:280, 280:360] != 90).any(axis=2)
    assert drawn.any(axis=0).sum() >= 20


@pytest.mark.parametrize('radius', [3, 10, 60])
def test_click_can_be_found_whatever_the_size_of_its_object(radius: int) -> None:
    size = (768, 1024)
    click = mark(512, 384, PointLabel.POSITIVE, 1)
    overlay = Overlay(
        object_ids=(1,), masks=disk(size, 512, 384, radius)[None], marks=(click,)
    )
    image = draw_overlay(grey_frame(size), overlay, long_side=1024)
    rows, columns = np.nonzero((image == POSITIVE).all(axis=2))
    assert len(rows) >= 12
    # Dots, disks and reticles are symmetric about the click.
    assert abs(rows.mean() - 384) <= 1
    assert abs(columns.mean() - 512) <= 1


@pytest.mark.parametrize('size', [(96, 128), (480, 640), (1080, 1920), (2160, 3840)])
def test_labels_and_lines_grow_with_the_picture(size: tuple[int, int]) -> None:
    height, width = size
    mask = disk(size, width // 2, height // 2, height // 3)
    overlay = Overlay(object_ids=(3,), masks=mask[None])
    image = draw_overlay(grey_frame(size), overlay, long_side=width)
    in_middle = image[height // 3 : -height // 3, width // 3 : -width // 3]
    label_rows = (in_middle == BLACK).all(axis=2).any(axis=1).sum()
    assert height / 40 <= label_rows <= max(height / 15, 14)
    row = image[height // 2, : width // 2 - height // 6]
    line_width = (row == object_color(3)).all(axis=1).sum()
    assert line_width == max(1, round(height / 400))


@pytest.fixture
def canvas() -> Picture:
    return np.full((120, 200, 3), 90, dtype=np.uint8)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((120, 200), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def changed(canvas: Picture) -> np.ndarray:
    return np.asarray((canvas != 90).any(axis=2))


def test_text_stays_in_the_space_it_asks_for(canvas: Picture) -> None:
    draw_text(canvas, 'frame 12', (20, 30), letter_height=15, color=WHITE)
    height, width = text_size('frame 12', 15)
    rows, columns = np.nonzero(changed(canvas))
    assert rows.min() >= 30
    assert rows.max() < 30 + height
    assert columns.min() >= 20
    assert columns.max() < 20 + width + 2


def test_longer_text_is_wider_and_larger_letters_are_higher() -> None:
    assert text_size('12', 15)[1] < text_size('123', 15)[1]
    assert text_size('12', 15)[0] < text_size('12', 20)[0]


def test_text_at_the_edge_is_cut_off(canvas: Picture) -> None:
    draw_text(canvas, 'a long line of text', (180, 110), letter_height=15)
    assert changed(canvas).any()


def test_plate_lies_in_a_large_mask(canvas: Picture) -> None:
    mask = box(30, 60, 60, 90)
    draw_labels(canvas, [mask], [3])
    assert changed(canvas).any()
    assert not (changed(canvas) & ~mask).any()
    present = {tuple(pixel) for pixel in canvas.reshape(-1, 3)}
    assert {BLACK, object_color(3)} <= present


def test_plate_leaves_a_small_mask_visible(canvas: Picture) -> None:
    mask = box(60, 100, 4, 4)
    draw_labels(canvas, [mask], [3])
    assert changed(canvas).any()
    assert not (changed(canvas) & mask).any()


@pytest.mark.parametrize('corner', [(0, 0), (0, 197), (117, 0), (117, 197)])
def test_plate_of_a_mask_in_a_corner_is_whole(
    canvas: Picture, corner: tuple[int, int]
) -> None:
    middle = canvas.copy()
    draw_labels(middle, [box(60, 100, 3, 3)], [8])
    draw_labels(canvas, [box(*corner, 3, 3)], [8])
    assert changed(canvas).sum() == changed(middle).sum()


def test_plates_make_way_for_each_other(canvas: Picture) -> None:
    alone = canvas.copy()
    same = box(50, 80, 30, 40)
    draw_labels(alone, [same], [1])
    draw_labels(canvas, [same, same], [1, 2])
    assert changed(canvas).sum() == 2 * changed(alone).sum()


def test_name_stands_after_the_id(canvas: Picture) -> None:
    named, unnamed, plain = canvas.copy(), canvas.copy(), canvas.copy()
    mask = box(30, 60, 60, 90)
    draw_labels(plain, [mask], [3])
    draw_labels(unnamed, [mask], [3], names=[''])
    assert np.array_equal(unnamed, plain)
    draw_labels(named, [mask], [3], names=['dog'])
    widths = [np.ptp(np.nonzero(changed(image))[1]) for image in (plain, named)]
    letters = text_size('3 dog', 9)[1] - text_size('3', 9)[1]
    assert widths[1] - widths[0] == pytest.approx(letters, abs=2)
    # A name that is longer than the picture is cut off.
    draw_labels(canvas, [mask], [3], names=['a very long name ' * 20])
    assert changed(canvas).any(axis=0).all()


def test_empty_mask_has_no_plate(canvas: Picture) -> None:
    draw_labels(canvas, [box(0, 0, 0, 0)], [1])
    assert not changed(canvas).any()


def test_sixty_objects_have_sixty_colours() -> None:
    colors = {object_color(object_id) for object_id in range(1, 61)}
    assert len(colors) == 60


def test_neighbouring_ids_look_different() -> None:
    for object_id, next_id in itertools.pairwise(range(1, 256)):
        assert math.dist(object_color(object_id), object_color(next_id)) > 60


def test_the_first_dozen_are_far_apart() -> None:
    for object_id, next_id in itertools.combinations(range(1, 13), 2):
        assert math.dist(object_color(object_id), object_color(next_id)) > 60


@pytest.mark.parametrize('object_id', [0, 1, 12, 13, 255, 100_000])
def test_colours_are_bright_enough_for_dark_frames(object_id: int) -> None:
    color = object_color(object_id)
    assert max(color) >= 120
    assert all(0 <= channel <= 255 for channel in color)
