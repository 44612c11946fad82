"""Sizes of a step are read where a config keeps them, at any depth."""

from types import ModuleType

import pytest
from mmengine.config import Config

from tool_modules import ROOT, load_tool


@pytest.fixture(scope='module')
def sizes() -> ModuleType:
    return load_tool('benchmarks/config_sizes')


def config(*pipelines: list[dict[str, object]]) -> Config:
    """A training loader with a dataset for each pipeline."""
    datasets = [dict(dataset=dict(pipeline=pipeline)) for pipeline in pipelines]
    return Config(dict(train_dataloader=dict(dataset=dict(datasets=datasets))))


def sample(num_frames: int, num_objects: int, **more: object) -> dict[str, object]:
    return dict(
        type='ClipSampleFrames',
        num_frames=num_frames,
        max_num_objects=num_objects,
        **more,
    )


def test_published_recipe_trains_eight_frames_of_1024_px_in_bfloat16(
    sizes: ModuleType,
) -> None:
    published = Config.fromfile(ROOT / 'configs' / 'sam2_bplus_mose.py')
    expected = sizes.Sizes(
        image_size=1024, num_frames=8, num_objects=3, dtype='bfloat16'
    )
    assert sizes.sizes_of(published) == expected


def test_longest_clips_of_mixed_data_count(sizes: ModuleType) -> None:
    resize: dict[str, object] = dict(type='ClipResize', size=(64, 64))
    grows = sample(2, 3, later_num_frames=[(4, 6), (9, 4)])
    mixed = config([sample(1, 32), resize], [grows, resize])
    expected = sizes.Sizes(image_size=64, num_frames=6, num_objects=3, dtype='float32')
    assert sizes.sizes_of(mixed) == expected


@pytest.mark.parametrize(
    'pipelines',
    [
        [[dict(type='ClipResize', size=(64, 64))]],
        [[sample(2, 3)]],
        [[sample(2, 3), dict(type='ClipResize', size=(64, 96))]],
    ],
)
def test_missing_sizes_of_a_config_are_an_error(
    sizes: ModuleType, pipelines: list[list[dict[str, object]]]
) -> None:
    with pytest.raises(ValueError, match='give --image-size'):
        sizes.sizes_of(config(*pipelines))
