"""Batches of clips, against the released collation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from golden_cases import GoldenCase, discover, unpack_masks
from projects.sam2.datasets import ClipPack
from projects.sam2.datasets.transforms.exact import apply_operations
from projects.sam2.datasets.transforms.resizing import Resize
from projects.sam2.models import ClipDataPreprocessor
from released_draws import golden_clip, unpack


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('data_golden'))
def test_batch_holds_the_released_frames_masks_and_owners(
    case: GoldenCase, tmp_path: Path
) -> None:
    data = unpack(case, tmp_path)
    samples = [
        ClipPack()(
            apply_operations(golden_clip(case, name, data), [Resize(size=(64, 64))])
        )
        for name in ('dp_col0', 'dp_col1')
    ]
    batch = ClipDataPreprocessor(image_size=(64, 64)).collate(samples)
    expected = {
        name: case.arrays[f'collate/{name}']
        for name in ('img_batch', 'masks', 'masks_shape', 'ids', 'flat_obj_to_img_idx')
    }
    frames = batch.frames.view(2, 3, 3, 64, 64).transpose(
        0, 1
    )  # (B, T, …) -> (T, B, …)
    # One 255th, in units of the smallest standard deviation.
    assert np.abs(frames.numpy() - expected['img_batch']).max() <= 1 / 255 / 0.224
    masks = unpack_masks(expected['masks'], expected['masks_shape'].tolist())
    assert torch.equal(batch.targets.masks, masks)
    assert batch.video_of_object.tolist() == expected['ids'][0, :, 0].tolist()
    ids = [*samples[0].object_ids.tolist(), *samples[1].object_ids.tolist()]
    assert ids == expected['ids'][0, :, 1].tolist()
    for time in range(3):
        places = expected['flat_obj_to_img_idx'][time].tolist()
        assert batch.frame_of_object(time).tolist() == places
