"""The dataset configs: each loads a clip and opens a video."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS
from PIL import Image

from data_folders import (
    NUM_FRAMES,
    coco_content,
    object_masks,
    write_coco,
    write_frames,
    write_json,
    write_label_images,
    write_labelme,
    write_object_folders,
    write_sa1b,
    write_sav,
    youtube_vis_content,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'
Part = dict[str, Any]


def parts_of(dataset: Part) -> Iterator[Part]:
    """A dataset's config and those inside it."""
    yield dataset
    if 'dataset' in dataset:
        yield from parts_of(dataset['dataset'])


def write_palette(root: Path, source: Part) -> None:
    """Write a clip in DAVIS layout, where its config looks for it."""
    write_frames(root / source.get('frame_folder', 'JPEGImages'))
    folder = root / source.get('mask_folder', 'Annotations') / 'ant'
    folder.mkdir(parents=True)
    for time in range(NUM_FRAMES):
        first, second = object_masks(time).astype(np.uint8)
        Image.fromarray(first + 2 * second).save(folder / f'{time:05d}.png')


def write_folders(root: Path, source: Part) -> None:
    """Write a clip whose objects have folders."""
    write_object_folders(root)
    for key in ('frame_folder', 'mask_folder'):
        folder = root / source[key]
        folder.parent.mkdir(parents=True, exist_ok=True)
        usual = 'JPEGImages_24fps' if key == 'frame_folder' else 'Annotations_6fps'
        (root / usual).rename(folder)


def write_instances(root: Path, source: Part) -> None:
    """Write an image with COCO's annotations."""
    write_coco(root, source['image_folder'])
    write_json(root / source['annotation_file'], coco_content())


def write_vis(root: Path, source: Part) -> None:
    """Write a video with YouTube-VIS annotations."""
    write_frames(root / 'JPEGImages')
    write_json(root / source['annotation_file'], youtube_vis_content())


WRITERS: dict[str, Callable[[Path, Part], None]] = {
    'ClipPaletteDataset': write_palette,
    'ClipObjectFolderDataset': write_folders,
    'ClipSAVDataset': lambda root, source: write_sav(root / source['frame_folder']),
    'ClipSA1BDataset': lambda root, _: write_sa1b(root),
    'ClipCocoDataset': write_instances,
    'ClipYouTubeVISDataset': write_vis,
    'ClipLabelImageDataset': lambda root, _: write_label_images(root),
    'ClipLabelMeDataset': lambda root, _: write_labelme(root),
}


def build(dataset: Part, root: Path) -> Any:
    """Build a dataset whose clips are made where its config looks for them."""
    source = list(parts_of(dataset))[-1]
    source['data_root'] = str(root)
    WRITERS[source['type']](root, source)
    for key, text in (('file_list', 'ant\n'), ('exclude_list', '')):
        if key in source:
            (root / source[key]).parent.mkdir(parents=True, exist_ok=True)
            (root / source[key]).write_text(text)
    return DATASETS.build(dataset)


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem)
def test_config_loads_a_clip_and_opens_a_video(path: Path, tmp_path: Path) -> None:
    (tmp_path / 'train').mkdir()
    (tmp_path / 'val').mkdir()
    cfg = Config.fromfile(path)
    train = cfg.train_dataloader.dataset.to_dict()
    sample = build(train, tmp_path / 'train')[0]
    num_frames = cfg.train_pipeline[0].num_frames
    assert sample.frames.shape == (num_frames, 3, *cfg.clip_size)
    assert sample.masklets.shape[0] == num_frames
    assert sample.masklets.shape[2:] == cfg.clip_size
    assert sample.masklets[0].any()
    val = cfg.val_dataloader.dataset.to_dict()
    record = build(val, tmp_path / 'val')[0]
    total = 1 if num_frames == 1 else NUM_FRAMES
    assert record.source.num_frames == -(-total // val.get('frame_stride', 1))
    assert record.source.read_masks(0).object_ids


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem)
def test_all_loaders_use_the_data_root_of_the_config(path: Path) -> None:
    cfg = Config.fromfile(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        source = list(parts_of(loader.dataset.to_dict()))[-1]
        assert source['data_root'] == cfg.data_root


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')), ids=lambda p: p.stem)
def test_source_uses_the_data_root_of_the_config(path: Path) -> None:
    cfg = Config.fromfile(path)
    source = cfg.get('source', {'data_root': cfg.data_root})
    assert source['data_root'] == cfg.data_root
