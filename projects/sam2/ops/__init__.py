"""Pure functions on masks, boxes and clicks; files that are written whole, or timed."""

from projects.sam2.ops.aside import put_in_place, write_whole, written_aside
from projects.sam2.ops.boxes import (
    boxes_to_points,
    jitter_boxes,
    masks_to_boxes,
    sample_boxes,
)
from projects.sam2.ops.clicks import (
    center_error_points,
    error_points_from_noise,
    error_points_from_uniform,
    error_regions,
    sample_error_points,
)
from projects.sam2.ops.components import (
    fill_holes,
    remove_specks,
    small_components,
    without_small_regions,
)
from projects.sam2.ops.crops import (
    OVERLAP_RATIO,
    Crop,
    crops_of_image,
    grid_of_points,
)
from projects.sam2.ops.masks import (
    NON_OVERLAPPING_LOGIT,
    count_pixels,
    mask_ious,
    non_overlapping,
)
from projects.sam2.ops.mp4_timing import read_video_timing, seeks_exactly
from projects.sam2.ops.nms import suppress_boxes
from projects.sam2.ops.optional_packages import import_optional
from projects.sam2.ops.resize import (
    at_least_float32,
    downsample_logits,
    match_weights,
    resize_masks,
    upsample_logits,
)
from projects.sam2.ops.rle import (
    EncodedMask,
    PlainRuns,
    count_encoded_pixels,
    decode_masks,
    encode_masks,
    plain_runs,
)

__all__ = [
    'NON_OVERLAPPING_LOGIT',
    'OVERLAP_RATIO',
    'Crop',
    'EncodedMask',
    'PlainRuns',
    'at_least_float32',
    'boxes_to_points',
    'center_error_points',
    'count_encoded_pixels',
    'count_pixels',
    'crops_of_image',
    'decode_masks',
    'downsample_logits',
    'encode_masks',
    'error_points_from_noise',
    'error_points_from_uniform',
    'error_regions',
    'fill_holes',
    'grid_of_points',
    'import_optional',
    'jitter_boxes',
    'mask_ious',
    'masks_to_boxes',
    'match_weights',
    'non_overlapping',
    'plain_runs',
    'put_in_place',
    'read_video_timing',
    'remove_specks',
    'resize_masks',
    'sample_boxes',
    'sample_error_points',
    'seeks_exactly',
    'small_components',
    'suppress_boxes',
    'upsample_logits',
    'without_small_regions',
    'write_whole',
    'written_aside',
]
