"""Batches of clips, against the released collation."""

from pathlib import Path

import numpy as np
import pytest

from exact_transforms import apply_operations
from golden_cases import (
    GoldenCase,
    assert_exact,
    assert_within,
    discover,
    unpack_masks,
)
from projects.sam2.datasets import ClipPack
from projects.sam2.datasets.transforms.augmentation import Resize
from projects.sam2.models import ClipDataPreprocessor
from released_draws import golden_clip, unpack


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('data_golden*'))
def test_batch_holds_the_released_frames_masks_and_owners(
    case: GoldenCase, tmp_path: Path
) -> None:
    if 'collate/img_batch' not in case.arrays:
        pytest.skip(f'{case.name} holds no batch')
    data = unpack(case, tmp_path)
    size: tuple[int, int] = case.arrays['collate/img_batch'].shape[-2:]
    samples = [
        ClipPack()(apply_operations(golden_clip(case, name, data), [Resize(size=size)]))
        for name in sorted(case.spec)
        if name.startswith('dp_col')
    ]
    batch = ClipDataPreprocessor(image_size=size).collate(samples)
    names = ('img_batch', 'masks', 'masks_shape', 'ids', 'flat_obj_to_img_idx')
    expected = {name: case.arrays[f'collate/{name}'] for name in names}
    num_frames = batch.num_frames
    frames = batch.frames.unflatten(0, (-1, num_frames)).transpose(0, 1)  # (T, B, …)
    # One 255th, in units of the smallest standard deviation.
    assert_within(frames, expected['img_batch'], 1 / 255 / 0.224, 'images')
    masks = unpack_masks(expected['masks'], expected['masks_shape'].tolist())
    assert_exact(batch.targets.masks, masks, 'masks')
    assert_exact(batch.video_of_object, expected['ids'][0, :, 0], 'videos')
    ids = np.concatenate([sample.object_ids for sample in samples])
    assert_exact(ids, expected['ids'][0, :, 1], 'objects')
    for time in range(num_frames):
        places = expected['flat_obj_to_img_idx'][time]
        assert_exact(batch.frame_of_object(time), places, 'places')
