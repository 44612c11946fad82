"""The dataset configs: each loads a clip and opens a video."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'
WriteClip = Callable[..., None]


def parts_of(dataset: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A dataset's config and those inside it."""
    yield dataset
    if 'dataset' in dataset:
        yield from parts_of(dataset['dataset'])


def build(dataset: dict[str, Any], root: Path, write: WriteClip) -> Any:  # noqa: ANN401  any dataset
    """Build a dataset whose clips are made where its config looks for them."""
    source = list(parts_of(dataset))[-1]
    source['data_root'] = str(root)
    write(root, 'ant', num_frames=12)
    for key, usual in (('frame_folder', 'JPEGImages'), ('mask_folder', 'Annotations')):
        folder = root / source.get(key, usual)
        if not (folder / 'ant').exists():
            folder.mkdir(parents=True, exist_ok=True)
            (root / usual / 'ant').rename(folder / 'ant')
    file_list = root / source['file_list']
    file_list.parent.mkdir(parents=True, exist_ok=True)
    file_list.write_text('ant\n')
    return DATASETS.build(dataset)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem)
def test_config_loads_a_clip_and_opens_a_video(
    path: Path, tmp_path: Path, write_davis_clip: WriteClip
) -> None:
    cfg = Config.fromfile(path)
    train = cfg.train_dataloader.dataset.to_dict()
    sample = build(train, tmp_path / 'train', write_davis_clip)[0]
    num_frames = cfg.train_pipeline[0].num_frames
    assert sample.frames.shape == (num_frames, 3, *cfg.clip_size)
    assert sample.masklets.shape == (num_frames, 2, *cfg.clip_size)
    val = cfg.val_dataloader.dataset.to_dict()
    record = build(val, tmp_path / 'val', write_davis_clip)[0]
    assert record.source.num_frames == -(-12 // val.get('frame_stride', 1))
    assert record.source.read_masks(0).object_ids == (2, 1)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem)
def test_one_name_holds_the_data_root_of_all_loaders(path: Path) -> None:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        source = list(parts_of(loader.dataset.to_dict()))[-1]
        assert source['data_root'] == cfg.data_root
