"""The mask generator against its description, word for word."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from golden_models import golden_model
from literal_masks import Settings, literal_masks
from projects.sam2.apis import SAM2AutomaticMaskGenerator
from projects.sam2.models import SAM2
from toy_videos import toy_frames


@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model."""
    return golden_model('c:', data_preprocessor={'image_size': (64, 64)})


@pytest.fixture(scope='module')
def image() -> NDArray[np.uint8]:
    """A picture larger than the crops' tolerance."""
    return np.kron(toy_frames(1)[0], np.ones((2, 2, 1), np.uint8))


def _generator(model: SAM2, how: Settings) -> SAM2AutomaticMaskGenerator:
    return SAM2AutomaticMaskGenerator(
        model,
        points_per_side=how.per_side,
        points_per_batch=5,
        pred_iou_thresh=how.min_iou,
        stability_score_thresh=how.min_stability,
        stability_score_offset=how.offset,
        box_nms_thresh=how.nms,
        crop_n_layers=how.layers,
        crop_n_points_downscale_factor=how.downscale,
        min_mask_region_area=how.min_area,
    )


@pytest.mark.parametrize(
    'how',
    [
        Settings(4, 0.3, 0.1, 1.0, 0.9),
        Settings(4, 0.0, 0.0, 0.7, 0.99, layers=1, downscale=2),
        Settings(4, 0.0, 0.1, 0.5, 0.99, min_area=30),
    ],
)
def test_masks_are_those_of_the_description(
    model: SAM2, image: NDArray[np.uint8], how: Settings
) -> None:
    found = _generator(model, how).generate(image)
    expected = literal_masks(model, image, how)
    assert len(found) == len(expected) > 1
    for mine, literal in zip(found, expected, strict=True):
        assert (mine['segmentation'] != literal['mask']).sum() <= 1
        x, y, width, height = mine['bbox']
        np.testing.assert_allclose(
            [x, y, x + width, y + height], literal['box'], atol=1
        )
        assert mine['area'] == mine['segmentation'].sum()
        assert mine['predicted_iou'] == pytest.approx(literal['iou'], abs=1e-5)
        assert mine['stability_score'] == pytest.approx(literal['stability'], abs=1e-3)
        assert mine['point_coords'][0] == pytest.approx(literal['point'], abs=1e-3)
        left, top, right, bottom = literal['crop']
        assert mine['crop_box'] == [left, top, right - left, bottom - top]


def test_nothing_good_enough_gives_no_mask(
    model: SAM2, image: NDArray[np.uint8]
) -> None:
    how = Settings(2, 1.0, 0.9, 1.0, 0.7, layers=1, min_area=9)
    assert _generator(model, how).generate(image) == []


@pytest.mark.parametrize(
    'wrong', [{'points_per_side': 0}, {'points_per_batch': 0}, {'crop_n_layers': 3}]
)
def test_grid_without_points_is_refused(model: SAM2, wrong: dict[str, Any]) -> None:
    arguments = {'points_per_side': 4, 'crop_n_points_downscale_factor': 2} | wrong
    with pytest.raises(ValueError, match='keep at least one point'):
        SAM2AutomaticMaskGenerator(model, **arguments)


def test_image_other_than_rgb_is_refused(model: SAM2, image: NDArray[np.uint8]) -> None:
    generator = _generator(model, Settings(1, 0.0, 0.0, 1.0, 0.7))
    with pytest.raises(ValueError, match='The image has shape'):
        generator.generate(image[..., 0])
