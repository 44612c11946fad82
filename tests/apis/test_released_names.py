"""Names, order and defaults of arguments are those of SAM 2's release."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from projects.sam2 import apis
from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
)

REQUIRED = inspect.Parameter.empty
BUILDER = {
    'config_file': REQUIRED,
    'ckpt_path': None,
    'device': None,  # 'cuda' in the release; here where there is one
    'mode': 'eval',
    'hydra_overrides_extra': (),
    'apply_postprocessing': True,
}
PREDICTION = {
    'multimask_output': True,
    'return_logits': False,
    'normalize_coords': True,
}
OBJECT = {'inference_state': REQUIRED, 'frame_idx': REQUIRED, 'obj_id': REQUIRED}
POINTS = OBJECT | {
    'points': None,
    'labels': None,
    'clear_old_points': True,
    'normalize_coords': True,
    'box': None,
}
RELEASED: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (apis.build_sam2, BUILDER),
    (apis.build_sam2_video_predictor, BUILDER | {'vos_optimized': False}),
    (apis.build_sam2_hf, {'model_id': REQUIRED}),
    (apis.build_sam2_video_predictor_hf, {'model_id': REQUIRED}),
    (
        SAM2ImagePredictor,
        {
            'sam_model': REQUIRED,
            'mask_threshold': 0.0,
            'max_hole_area': 0.0,
            'max_sprinkle_area': 0.0,
        },
    ),
    (SAM2ImagePredictor.from_pretrained, {'model_id': REQUIRED}),
    (SAM2ImagePredictor.set_image, {'image': REQUIRED}),
    (SAM2ImagePredictor.set_image_batch, {'image_list': REQUIRED}),
    (
        SAM2ImagePredictor.predict,
        dict.fromkeys(('point_coords', 'point_labels', 'box', 'mask_input'))
        | PREDICTION,
    ),
    (
        SAM2ImagePredictor.predict_batch,
        dict.fromkeys(
            (
                'point_coords_batch',
                'point_labels_batch',
                'box_batch',
                'mask_input_batch',
            )
        )
        | PREDICTION,
    ),
    (SAM2ImagePredictor.get_image_embedding, {}),
    (SAM2ImagePredictor.reset_predictor, {}),
    (SAM2VideoPredictor.from_pretrained, {'model_id': REQUIRED}),
    (
        SAM2VideoPredictor.init_state,
        {
            'video_path': REQUIRED,
            'offload_video_to_cpu': False,
            'offload_state_to_cpu': False,
            'async_loading_frames': False,
        },
    ),
    (SAM2VideoPredictor.add_new_points_or_box, POINTS),
    (SAM2VideoPredictor.add_new_points, POINTS),
    (SAM2VideoPredictor.add_new_mask, OBJECT | {'mask': REQUIRED}),
    (SAM2VideoPredictor.propagate_in_video_preflight, {'inference_state': REQUIRED}),
    (
        SAM2VideoPredictor.propagate_in_video,
        {
            'inference_state': REQUIRED,
            'start_frame_idx': None,
            'max_frame_num_to_track': None,
            'reverse': False,
        },
    ),
    (SAM2VideoPredictor.clear_all_prompts_in_frame, OBJECT | {'need_output': True}),
    (
        SAM2VideoPredictor.remove_object,
        {
            'inference_state': REQUIRED,
            'obj_id': REQUIRED,
            'strict': False,
            'need_output': True,
        },
    ),
    (SAM2VideoPredictor.reset_state, {'inference_state': REQUIRED}),
    (
        SAM2AutomaticMaskGenerator,
        {
            'model': REQUIRED,
            'points_per_side': 32,
            'points_per_batch': 64,
            'pred_iou_thresh': 0.8,
            'stability_score_thresh': 0.95,
            'stability_score_offset': 1.0,
            'mask_threshold': 0.0,
            'box_nms_thresh': 0.7,
            'crop_n_layers': 0,
            'crop_nms_thresh': 0.7,
            'crop_overlap_ratio': 512 / 1500,
            'crop_n_points_downscale_factor': 1,
            'point_grids': None,
            'min_mask_region_area': 0,
            'output_mode': 'binary_mask',
            'use_m2m': False,
            'multimask_output': True,
        },
    ),
    (SAM2AutomaticMaskGenerator.from_pretrained, {'model_id': REQUIRED}),
    (SAM2AutomaticMaskGenerator.generate, {'image': REQUIRED}),
]


@pytest.mark.parametrize(
    ('function', 'released'),
    [pytest.param(*row, id=row[0].__qualname__) for row in RELEASED],
)
def test_positional_arguments_are_those_of_the_release(
    function: Callable[..., Any], released: dict[str, Any]
) -> None:
    parameters = inspect.signature(function).parameters.values()
    positional = {
        one.name: one.default
        for one in parameters
        if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and one.name != 'self'
    }
    assert list(positional.items()) == list(released.items())
