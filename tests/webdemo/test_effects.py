"""The effects of the demo against their formulas, pixel by pixel."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined]

from projects.sam2.webdemo.effects import (
    EffectOptions,
    ShownMask,
    Target,
    apply_effect,
    parse_color,
)
from projects.sam2.webdemo.server.protocol import read_effect

RED, BLUE = (255, 0, 0), (0, 0, 255)
GREY = (0.299, 0.587, 0.114)


def random_frame(height: int = 24, width: int = 37) -> NDArray[np.uint8]:
    rng = np.random.default_rng(height * width)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def two_masks(height: int = 24, width: int = 37) -> list[ShownMask]:
    """Two overlapping rectangles; the second one touches the border of the frame."""
    first, second = np.zeros((2, height, width), bool)
    first[3:15, 4:20] = True
    second[10:, 12:30] = True
    return [ShownMask(first, RED), ShownMask(second, BLUE)]


def literal_outline(
    masks: list[ShownMask], width: int
) -> dict[tuple[int, int], tuple[int, int, int]]:
    """Colour of each pixel of a line, found by comparing all pairs of pixels."""
    height, num_columns = masks[0].mask.shape
    owner = {
        (y, x): next(
            (i for i in reversed(range(len(masks))) if masks[i].mask[y, x]), None
        )
        for y in range(height)
        for x in range(num_columns)
    }
    return {
        (y, x): masks[own].color
        for (y, x), own in owner.items()
        if own is not None
        and any(
            other != own and (y - v) ** 2 + (x - u) ** 2 <= width**2
            for (v, u), other in owner.items()
        )
    }


def expected(
    frame: NDArray[np.uint8], masks: list[ShownMask], options: EffectOptions
) -> NDArray[Any]:
    """Effects of one pixel at a time, without blur, pixelate and outlines."""
    strength, shown = options.strength, frame.astype(float)
    for y, x in np.ndindex(*frame.shape[:2]):
        owners = [each for each in masks if each.mask[y, x]]
        if options.name == 'overlay':
            is_target = bool(owners)
        else:
            is_target = bool(owners) == (options.target == 'objects')
        if not is_target:
            continue
        pixel = shown[y, x]
        other = {
            'overlay': np.array(owners[-1].color if owners else (0, 0, 0)),
            'spotlight': 0.1 * pixel,
            'desaturate': np.full(3, pixel @ GREY),
            'replace': np.array(parse_color(options.color)),
            'cutout': np.zeros(3),
        }[options.name]
        strength = 1.0 if options.name == 'cutout' else options.strength
        shown[y, x] = pixel + strength * (other - pixel)
    return shown


@pytest.mark.parametrize('target', ['background', 'objects'])
@pytest.mark.parametrize('strength', [0.0, 0.35, 1.0])
@pytest.mark.parametrize(
    'name', ['overlay', 'spotlight', 'desaturate', 'replace', 'cutout']
)
def test_each_pixel_follows_the_formula(
    name: Any, strength: float, target: Any
) -> None:
    options = EffectOptions(
        name=name, strength=strength, target=target, color='#20c040', outline=False
    )
    frame, masks = random_frame(), two_masks()
    before = frame.copy()
    shown = apply_effect(frame, masks, options)
    np.testing.assert_array_equal(frame, before)
    # A grey of 8 bits lies between.
    atol = 1 if name == 'desaturate' else 0.51
    np.testing.assert_allclose(
        shown[:, :, :3], expected(frame, masks, options), atol=atol
    )
    assert shown.shape[2] == (4 if name == 'cutout' else 3)


def test_a_cutout_is_transparent_outside_of_the_objects_and_inside_of_holes() -> None:
    frame, masks = random_frame(), two_masks()
    union = masks[0].mask | masks[1].mask
    cases: dict[Target, Any] = {'background': union, 'objects': ~union}
    for target, opaque in cases.items():
        options = EffectOptions(name='cutout', target=target, outline=False)
        alpha = apply_effect(frame, masks, options)[:, :, 3]
        np.testing.assert_array_equal(alpha, np.where(opaque, 255, 0))
        # Nothing of what was cut out can be read from below the transparency.
        assert not apply_effect(frame, masks, options)[~opaque].any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_outlines_are_the_pixels_near_another_owner(seed: int, num: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(5, 14, 2))
    frame = random_frame(height, width)
    colors = [RED, BLUE, (0, 255, 0)]
    masks = [
        ShownMask(rng.random((height, width)) < rng.random() * 1.2, colors[i])
        for i in range(num)
    ]
    # So small a frame has thin lines: wide ones are reached by the strength alone.
    for options, line_width in (
        (EffectOptions(name='outline', strength=0.0), 1),
        (EffectOptions(name='spotlight', strength=0.0), 1),
    ):
        wanted = frame.copy()
        for place, color in literal_outline(masks, line_width).items():
            wanted[place] = color
        np.testing.assert_array_equal(apply_effect(frame, masks, options), wanted)


def test_outlines_grow_with_the_frame_and_the_strength() -> None:
    frame = np.full((150, 130, 3), 90, np.uint8)
    mask = np.zeros((150, 130), bool)
    mask[40:80, 30:] = True  # up to the border of the frame
    masks = [ShownMask(mask, RED)]
    options = EffectOptions(name='outline', strength=1.0)
    wanted = frame.copy()
    for place, color in literal_outline_of_box(40, 80, 30, 130, width=2):
        wanted[place] = color
    np.testing.assert_array_equal(apply_effect(frame, masks, options), wanted)


def literal_outline_of_box(
    top: int, bottom: int, left: int, right: int, *, width: int
) -> list[tuple[tuple[int, int], tuple[int, int, int]]]:
    """Line of a box that touches the right border, where there is no edge."""
    return [
        ((y, x), RED)
        for y in range(top, bottom)
        for x in range(left, right)
        if min(y - top, bottom - 1 - y, x - left) < width
    ]


@pytest.mark.parametrize('strength', [0.02, 0.3, 1.0])
def test_pixelate_shows_the_mean_of_each_block(strength: float) -> None:
    frame, masks = random_frame(110, 73), two_masks(110, 73)
    options = EffectOptions(
        name='pixelate', strength=strength, target='objects', outline=False
    )
    shown = apply_effect(frame, masks, options)
    side = max(2, round(0.1 * strength * 73))
    covered = masks[0].mask | masks[1].mask
    for y, x in zip(*np.nonzero(covered), strict=True):
        rows = slice(y // side * side, y // side * side + side)
        columns = slice(x // side * side, x // side * side + side)
        mean = frame[rows, columns].reshape(-1, 3).mean(axis=0)
        np.testing.assert_allclose(shown[y, x], mean, atol=0.51)
    np.testing.assert_array_equal(shown[~covered], frame[~covered])


@pytest.mark.parametrize('strength', [0.0, 0.1, 1.0])
def test_blur_is_a_gaussian_of_the_target(strength: float) -> None:
    rng = np.random.default_rng(0)
    size = (420, 500)  # wide enough that the strongest blur is taken from less
    small = rng.integers(0, 256, (21, 25, 3), np.uint8)
    frame = small.repeat(20, axis=0).repeat(20, axis=1)
    masks = two_masks(*size)
    options = EffectOptions(name='blur', strength=strength, outline=False)
    shown = apply_effect(frame, masks, options).astype(float)
    covered = masks[0].mask | masks[1].mask
    np.testing.assert_array_equal(shown[covered], frame[covered])
    sigma = 0.05 * strength * 420
    wanted = gaussian_filter(frame.astype(float), (sigma, sigma, 0), mode='reflect')
    difference = np.abs(shown - wanted)[~covered]
    assert difference.mean() < 1.0
    assert difference.max() < 6.0


def test_no_object_and_tiny_frames_pass_through_every_effect() -> None:
    for name in ('overlay', 'outline', 'cutout', 'blur', 'pixelate', 'desaturate'):
        for size in ((1, 1), (1, 7), (3, 2)):
            for masks in ([], [ShownMask(np.ones(size, bool), RED)]):
                shown = apply_effect(
                    random_frame(*size), masks, EffectOptions(name=name)
                )
                assert shown.shape[:2] == size


def test_a_mask_of_another_size_is_refused() -> None:
    mask = ShownMask(np.ones((4, 5), bool), RED)
    with pytest.raises(ValueError, match=r'\(4, 5\) is on a frame of \(24, 37\)'):
        apply_effect(random_frame(), [mask], EffectOptions())


def test_an_effect_of_the_page_is_read() -> None:
    value = {
        'name': 'replace',
        'strength': 1,
        'target': 'objects',
        'color': '#0A0b0c',
        'outline': False,
        'objects': [3, 1],
    }
    options = read_effect(value, 'effect')
    assert options == EffectOptions(
        name='replace',
        strength=1.0,
        target='objects',
        color='#0a0b0c',
        outline=False,
        objects=(3, 1),
    )
    assert parse_color(options.color) == (10, 11, 12)


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (None, 'effect is null; give an object with entries of name, strength'),
        ({'name': 'glow'}, 'name is "glow"; give one of overlay, outline'),
        ({'name': ['blur']}, r'name is \["blur"\]; give one of'),
        ({'strength': 1.5}, 'strength is 1.5; give a number 0 to 1'),
        ({'strength': float('nan')}, 'strength is NaN'),
        ({'strength': True}, 'strength is true'),
        ({'target': 'sky'}, 'target is "sky"; give one of background, objects'),
        ({'color': 'red'}, 'color is "red"; give a colour like #1f77b4'),
        ({'color': '#12345 '}, 'a colour like'),
        ({'outline': 1}, 'outline is 1; give true or false'),
        ({'objects': 3}, 'objects is 3; give a list'),
        ({'objects': [True]}, r'objects\[0\] is true'),
        ({'sigma': 2}, 'effect has no entry "sigma"'),
    ],
)
def test_what_is_wrong_with_an_effect_is_named(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_effect(value, 'effect')
