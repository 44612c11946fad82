"""The mask generator against a literal version of its description."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden_models import golden_model
from literal_masks import Settings, literal_masks
from projects.sam2.apis import SAM2AutomaticMaskGenerator
from projects.sam2.apis.automatic_mask_generator import _Counts, _zero_if_empty
from projects.sam2.models import SAM2
from projects.sam2.ops import decode_masks
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
        mask_threshold=how.threshold,
        use_m2m=how.refines,
        multimask_output=how.multimask,
        crop_overlap_ratio=how.overlap,
        crop_nms_thresh=how.crop_nms,
    )


@pytest.mark.parametrize(
    'how',
    [
        Settings(4, 0.3, 0.1, 1.0, 0.9),
        Settings(4, 0.0, 0.0, 0.7, 0.99, layers=1, downscale=2),
        Settings(4, 0.0, 0.1, 0.5, 0.99, min_area=30),
        Settings(4, 0.0, 0.1, 0.5, 0.99, threshold=0.3),
        Settings(4, 0.0, 0.1, 0.5, 0.99, refines=True),
        Settings(4, 0.0, 0.1, 0.5, 0.99, multimask=False),
        Settings(
            4, 0.0, 0.0, 0.7, 0.99, layers=1, downscale=2, overlap=0.6, crop_nms=0.3
        ),
    ],
)
def test_masks_equal_the_literal_ones(
    model: SAM2, image: NDArray[np.uint8], how: Settings
) -> None:
    masks = _generator(model, how).generate(image)
    expected = literal_masks(model, image, how)
    assert len(masks) == len(expected) > 1
    for mine, literal in zip(masks, expected, strict=True):
        assert (np.asarray(mine['segmentation']) != literal['mask']).sum() <= 1
        x, y, width, height = mine['bbox']
        np.testing.assert_allclose(
            [x, y, x + width, y + height], literal['box'], atol=1
        )
        assert mine['area'] == np.asarray(mine['segmentation']).sum()
        assert mine['predicted_iou'] == pytest.approx(literal['iou'], abs=1e-5)
        assert mine['stability_score'] == pytest.approx(literal['stability'], abs=1e-3)
        assert mine['point_coords'][0] == pytest.approx(literal['point'], abs=1e-3)
        left, top, right, bottom = literal['crop']
        assert mine['crop_box'] == [left, top, right - left, bottom - top]


def test_points_per_batch_changes_no_mask(
    model: SAM2, image: NDArray[np.uint8]
) -> None:
    generator = _generator(model, Settings(3, 0.0, 0.0, 0.5, 1.0))
    masks = {}
    for size in (2, 64):
        generator.points_per_batch = size
        masks[size] = generator.generate(image)
    assert len(masks[2]) == len(masks[64]) > 5
    for few, many in zip(masks[2], masks[64], strict=True):
        assert few['point_coords'] == many['point_coords']
        assert few['predicted_iou'] == pytest.approx(many['predicted_iou'])


def test_only_masks_of_a_higher_iou_are_kept(
    model: SAM2, image: NDArray[np.uint8]
) -> None:
    generator = _generator(model, Settings(3, 0.0, 0.0, 0.5, 1.0))
    ious = [mask['predicted_iou'] for mask in generator.generate(image)]
    generator.pred_iou_thresh = float(np.median(ious))
    kept = [mask['predicted_iou'] for mask in generator.generate(image)]
    assert kept == [iou for iou in ious if iou > generator.pred_iou_thresh] != []


def test_empty_mask_has_a_box_of_zeros() -> None:
    boxes = torch.tensor([[80.0, 48, -1, -1], [5, 3, 6, 8]])
    assert _zero_if_empty(boxes).tolist() == [[0, 0, 0, 0], [5, 3, 6, 8]]


def test_reason_for_no_mask_names_the_setting_to_change(
    model: SAM2, image: NDArray[np.uint8]
) -> None:
    generator = SAM2AutomaticMaskGenerator(
        model, points_per_side=2, min_mask_region_area=9
    )
    generator.pred_iou_thresh = 1.0
    assert generator.generate(image) == []
    why = generator.explain_nothing()
    assert why.startswith('0 masks of 12 candidates: the best predicted IoU, ')
    assert why.endswith('does not exceed pred_iou_thresh 1; lower it')
    # Following the advice leads to masks, or to the next reason.
    best = float(why.split(', ')[1])
    generator.pred_iou_thresh = best - 0.01
    generator.stability_score_thresh = 1.0
    generator.stability_score_offset = 50.0
    assert generator.generate(image) == []
    why = generator.explain_nothing()
    assert 'exceed pred_iou_thresh' in why
    assert why.endswith('is below stability_score_thresh 1; lower it')
    generator.stability_score_thresh = 0.0
    assert generator.generate(image)


@pytest.mark.parametrize(
    ('counts', 'reason'),
    [
        (_Counts(num_decoded=3), 'the model predicts NaN; check its weights'),
        (_Counts(3, 0.9, 2, 1.0, 2), 'cut all 2 stable masks; raise crop_overlap_rat'),
    ],
)
def test_rare_reasons_for_no_mask_are_explained(
    counts: _Counts, reason: str, model: SAM2
) -> None:
    generator = SAM2AutomaticMaskGenerator(model, 2)
    generator._counts = counts
    assert reason in generator.explain_nothing()


def test_image_must_be_rgb(model: SAM2, image: NDArray[np.uint8]) -> None:
    generator = _generator(model, Settings(1, 0.0, 0.0, 1.0, 0.7))
    with pytest.raises(ValueError, match='The image has shape'):
        generator.generate(image[..., 0])


def test_output_modes_encode_the_same_masks(
    model: SAM2, image: NDArray[np.uint8]
) -> None:
    arguments = {'points_per_side': 3, 'pred_iou_thresh': 0.0, 'box_nms_thresh': 0.99}
    modes = ('binary_mask', 'uncompressed_rle', 'coco_rle')
    masks = {
        mode: SAM2AutomaticMaskGenerator(
            model,
            stability_score_thresh=0.0,
            output_mode=mode,  # type: ignore[arg-type]  # one of the three
            **arguments,  # type: ignore[arg-type]  # numbers
        ).generate(image)
        for mode in modes
    }
    assert len(masks['binary_mask']) > 1
    for binary, plain, coco in zip(*masks.values(), strict=True):
        mask = np.asarray(binary['segmentation'])
        runs: Any = plain['segmentation']
        assert isinstance(runs['counts'], list)
        # Written out from the definition: false and true runs, column by column.
        values = np.arange(len(runs['counts'])) % 2 == 1
        columns = np.repeat(values, runs['counts']).reshape(mask.shape[::-1])
        assert np.array_equal(columns.T, mask)
        code: Any = coco['segmentation']
        assert isinstance(code['counts'], str)
        assert np.array_equal(decode_masks([code])[0], mask)
        assert binary['area'] == plain['area'] == coco['area'] == mask.sum()


def test_point_grids_replace_the_regular_grid(
    model: SAM2, image: NDArray[np.uint8]
) -> None:
    how: dict[str, Any] = {
        'pred_iou_thresh': 0.0,
        'stability_score_thresh': 0.0,
        'box_nms_thresh': 1.0,
        'crop_n_layers': 1,
    }
    grids = [[[0.5, 0.5]], [[0.25, 0.75], [1.0, 0.0]]]
    generator = SAM2AutomaticMaskGenerator(model, None, point_grids=grids, **how)
    masks = generator.generate(image)
    height, width = image.shape[:2]
    whole = {tuple(m['point_coords'][0]) for m in masks if m['crop_box'][2] == width}
    assert whole == {(width / 2, height / 2)}
    for mask in (m for m in masks if m['crop_box'][2] != width):
        left, top, crop_width, crop_height = mask['crop_box']
        x, y = mask['point_coords'][0]
        share = ((x - left) / crop_width, (y - top) / crop_height)
        assert share in {(0.25, 0.75), (1.0, 0.0)}


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (
            {
                'points_per_side': 4,
                'crop_n_layers': 3,
                'crop_n_points_downscale_factor': 2,
            },
            'keep at least one point',
        ),
        ({'points_per_side': None}, 'give one of the two'),
        ({'point_grids': [[[0.5, 0.5]]]}, 'point_grids are given; give one of the two'),
        ({'point_grids': [], 'points_per_side': None}, 'for each of 1 layers'),
        ({'point_grids': ['x'], 'points_per_side': None}, 'cannot be read as points'),
        ({'point_grids': [[0.5]], 'points_per_side': None}, r'shapes \[\(1,\)\]'),
        ({'point_grids': [[[2, 0.5]]], 'points_per_side': None}, r'outside of \[0, 1'),
        ({'output_mode': 'polygons'}, "output_mode is 'polygons'; give one of"),
        ({'points_per_side': 2.5}, r'points_per_side is 2\.5 \(float\); give a whole'),
        ({'points_per_side': 0}, 'points_per_side is 0; give a number of at least 1'),
        ({'points_per_batch': 0}, 'points_per_batch is 0; give a number of at least 1'),
        ({'pred_iou_thresh': '0.8'}, r"pred_iou_thresh is '0\.8' \(str\); give a"),
        (
            {'stability_score_thresh': 95},
            'score_thresh is 95; give a number of at most',
        ),
        ({'box_nms_thresh': -0.1}, r'box_nms_thresh is -0\.1; give a number from 0'),
        ({'crop_n_layers': True}, r'crop_n_layers is True \(bool\)'),
        ({'crop_overlap_ratio': np.nan}, r'crop_overlap_ratio is nan \(float\)'),
        ({'min_mask_region_area': -1}, 'min_mask_region_area is -1; give'),
        ({'use_m2m': 'no'}, r"use_m2m is 'no' \(str\); give True or False"),
    ],
)
def test_wrong_setting_is_named(
    model: SAM2, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SAM2AutomaticMaskGenerator(model, **wrong)


def test_settings_may_be_changed_later(model: SAM2, image: NDArray[np.uint8]) -> None:
    how: dict[str, Any] = {
        'points_per_side': 3,
        'pred_iou_thresh': 0.0,
        'stability_score_thresh': 0.0,
    }
    changed = SAM2AutomaticMaskGenerator(model, output_mode='coco_rle')
    for name, value in how.items():
        setattr(changed, name, value)
    same = SAM2AutomaticMaskGenerator(model, output_mode='coco_rle', **how)
    assert changed.generate(image) == same.generate(image) != []
    with pytest.raises(ValueError, match='pred_iou_thresh is 80; give'):
        changed.pred_iou_thresh = 80
    assert changed.pred_iou_thresh == 0.0
