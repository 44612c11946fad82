"""The published mixture of images and videos."""

from collections import Counter
from pathlib import Path

import pytest
from mmengine.runner import Runner

from data_folders import write_sa1b, write_sav
from projects.sam2.engine.config import load_config
from projects.sam2.structures import ClipSample

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'sam2_bplus_sa1b_sav.py'


def test_recipe_loads_images_and_clips_from_one_data_root(tmp_path: Path) -> None:
    write_sa1b(tmp_path / 'SA-1B')
    write_sav(tmp_path / 'sav' / 'sav_train', every=1)
    cfg = load_config(str(CONFIG), {'data_root': str(tmp_path)})
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    for part in loader.dataset.datasets:
        for step in part.pipeline:
            if step.type == 'ClipResize':
                step.size = (64, 64)
    loader.batch_sampler.num_phases = 1
    loader.batch_sampler.repeats = (8, 2)
    batches: list[list[ClipSample]] = list(Runner.build_dataloader(loader, seed=0))
    shapes = Counter((len(batch), batch[0].frames.shape[0]) for batch in batches)
    assert shapes == {(8, 1): 1, (1, 8): 2}
    clip = next(batch[0] for batch in batches if len(batch) == 1)
    assert clip.frames.shape[2:] == (64, 64)
    assert 1 <= clip.masklets.shape[1] <= 3


@pytest.mark.parametrize('loader', ['val_dataloader', 'test_dataloader'])
def test_validation_videos_are_below_the_same_root(loader: str) -> None:
    cfg = load_config(str(CONFIG), {'data_root': 'elsewhere'})
    source = cfg[loader].dataset.dataset
    assert source.data_root == 'elsewhere'
    assert source.file_list.startswith('sav/sav_val/')


def test_clips_have_manual_masklets_and_images_smaller_masks() -> None:
    images, videos = load_config(str(CONFIG)).train_dataloader.dataset.datasets
    assert tuple(videos.kinds) == ('manual',)
    assert images.max_area_share == 0.9


def test_parts_come_in_the_papers_proportion_of_batches() -> None:
    cfg = load_config(str(CONFIG))
    mixed = cfg.train_dataloader.batch_sampler
    num_clips = (11_185_362, 50_453)
    batches = [
        clips * repeat / size
        for clips, repeat, size in zip(
            num_clips, mixed.repeats, mixed.batch_sizes, strict=True
        )
    ]
    share = batches[0] / sum(batches)
    assert share == pytest.approx(15.2 / (15.2 + 70), abs=0.01)
    steps = sum(batches) / 256 / mixed.num_phases
    assert 900 < steps < 1100
