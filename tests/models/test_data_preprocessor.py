"""Clips become batches; frames and masks of videos get the model's size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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
from projects.sam2.structures import ClipBatch, ClipSample, FrameMasks
from released_draws import golden_clip, unpack


def _sample(seed: int, num_objects: int, side: int = 32, *, void: bool) -> ClipSample:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    masks = rng.random((2, num_objects, side, side)) > 0.5
    sample = ClipSample(
        metainfo={'video_name': f'clip{seed}', 'seed': seed, 'sample_index': seed}
    )
    sample.frames = torch.from_numpy(frames)
    sample.masklets = torch.from_numpy(masks)
    sample.void = torch.full((2, side, side), void)
    sample.annotated = torch.tensor([True, seed > 0])
    sample.object_ids = torch.arange(num_objects)
    return sample


@pytest.fixture
def preprocessor() -> ClipDataPreprocessor:
    """One for 64 x 96 frames."""
    return ClipDataPreprocessor(image_size=(64, 96))


@pytest.fixture
def small_preprocessor() -> ClipDataPreprocessor:
    """One for frames of the size of the clips here."""
    return ClipDataPreprocessor(image_size=(32, 32))


def test_objects_of_all_clips_stand_one_after_another(
    small_preprocessor: ClipDataPreprocessor,
) -> None:
    samples = [_sample(0, 2, void=False), _sample(1, 3, void=True)]
    batch = small_preprocessor(samples, training=True)['inputs']
    assert isinstance(batch, ClipBatch)
    assert batch.video_of_object.tolist() == [0, 0, 1, 1, 1]
    assert batch.seeds == (0, 1)
    assert torch.equal(batch.targets.masks[1, 3], samples[1].masklets[1, 1])
    assert batch.targets.annotated[1].tolist() == [False, False, True, True, True]
    assert batch.targets.void is not None
    assert batch.targets.void[0].flatten(1).all(dim=1).tolist() == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_batch_without_an_object_names_its_clips(
    small_preprocessor: ClipDataPreprocessor,
) -> None:
    samples = [_sample(seed, 0, void=False) for seed in (3, 4)]
    with pytest.raises(ValueError, match=r'No clip .* an object \(clip3, clip4\)'):
        small_preprocessor(samples, training=True)
    samples.append(_sample(5, 1, void=False))
    assert small_preprocessor(samples)['inputs'].video_of_object.tolist() == [2]


def test_frames_are_video_major_and_normalised(
    small_preprocessor: ClipDataPreprocessor,
) -> None:
    samples = [_sample(0, 1, void=False), _sample(1, 1, void=False)]
    batch = small_preprocessor(samples, training=True)['inputs']
    rows = batch.frame_of_object(1)
    assert rows.tolist() == [1, 3]
    pixel = samples[1].frames[1, 0, 5, 7].item()
    actual = batch.frames[rows[1], 0, 5, 7].item()
    assert actual == pytest.approx((pixel - 123.675) / 58.395, rel=1e-6)
    assert batch.targets.void is None


def test_clips_of_two_sizes_are_refused_by_name(
    preprocessor: ClipDataPreprocessor,
) -> None:
    samples = [_sample(0, 1, void=False), _sample(1, 1, side=64, void=False)]
    with pytest.raises(ValueError, match=r'clip0, clip1.*resize them'):
        preprocessor(samples, training=True)


@pytest.mark.parametrize('training', [True, False])
def test_clips_of_another_size_than_the_model_are_refused_with_a_remedy(
    preprocessor: ClipDataPreprocessor,
    training: bool,
) -> None:
    reason = (
        r'clips of 32 x 32 \(clip0\), but the model works at image_size=\(64, 96\): '
        r'give the ClipResize .* the size \(64, 96\), or set '
        r'both with --cfg-options image_size=64,96'
    )
    with pytest.raises(ValueError, match=reason):
        preprocessor([_sample(0, 1, void=False)], training=training)


def test_clips_whose_size_is_drawn_on_purpose_are_taken(
    preprocessor: ClipDataPreprocessor,
) -> None:
    sample = _sample(0, 1, void=False)
    sample.set_metainfo({'is_multi_scale': True})
    assert preprocessor([sample])['inputs'].frames.shape[-2:] == (32, 32)


def test_video_frame_is_resized_like_pil_bicubic(
    preprocessor: ClipDataPreprocessor,
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(frame).resize((96, 64), 3), dtype=np.float32)
    restored = preprocessor.frame(frame)[0] * preprocessor.std + preprocessor.mean
    difference = restored.permute(1, 2, 0).numpy() - expected
    assert np.abs(difference).max() < 1e-3


def test_mask_prompt_keeps_pixels_that_are_half_covered(
    preprocessor: ClipDataPreprocessor,
) -> None:
    mask = np.zeros((2, 128, 192), dtype=bool)
    mask[0, 20:60, 30:90] = True
    prompt = preprocessor.mask_prompt(FrameMasks(object_ids=(4, 9), masks=mask))
    assert prompt.shape == (2, 1, 64, 96)
    expected = torch.zeros(64, 96, dtype=torch.bool)
    expected[10:30, 15:45] = True
    assert torch.equal(prompt[0, 0], expected)
    assert not prompt[1].any()


def test_size_that_the_backbone_cannot_take_is_named() -> None:
    with pytest.raises(ValueError, match=r'\(100, 96\).*multiples of 32'):
        ClipDataPreprocessor(image_size=(100, 96))


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
        rows = expected['flat_obj_to_img_idx'][time]
        assert_exact(batch.frame_of_object(time), rows, 'rows')
