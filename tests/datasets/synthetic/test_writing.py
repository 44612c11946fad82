"""Generated data sets on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.sam2.datasets import ClipPaletteDataset
from projects.sam2.datasets.processing.davis_export import (
    check_folder,
    davis_palette,
    write_dataset,
    write_mask,
)
from projects.sam2.datasets.sources.synthetic import make_clip, make_plans

SETTINGS = {'seed': 1}


def write(root: Path, workers: int = 1) -> dict[str, object]:
    """Write two training clips and one held-out one; gives the progress too."""
    progress: list[tuple[int, int]] = []
    splits = {
        split: make_plans(split=split, num_clips=n, num_frames=8, size=64, seed=1)
        for split, n in (('train', 2), ('val', 1))
    }
    meta = write_dataset(
        root, splits, SETTINGS, workers, lambda *done: progress.append(done)
    )
    return {'progress': progress, **meta}


def test_written_clips_are_what_was_generated(tmp_path: Path) -> None:
    write(tmp_path)
    plan = make_plans(split='train', num_clips=2, num_frames=8, size=64, seed=1)[1]
    clip = make_clip(plan)
    dataset = ClipPaletteDataset(
        data_root=str(tmp_path), file_list='ImageSets/train.txt'
    )
    source = dataset.open_video(dataset.video_name(1))
    assert (source.num_frames, source.annotated_frames()) == (8, tuple(range(8)))
    masks = source.read_masks(5)
    assert masks is not None
    for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
        np.testing.assert_array_equal(mask, clip.labels[5] == object_id)
    difference = np.abs(source.read_frame(5).astype(int) - clip.frames[5])
    assert difference.mean() < 8  # JPEG


def test_meta_describes_each_clip(tmp_path: Path) -> None:
    meta = write(tmp_path)
    assert meta['progress'] == [(1, 3), (2, 3), (3, 3)]
    stored = json.loads((tmp_path / 'meta.json').read_text())
    assert stored['clips'] == meta['clips']
    (entry,) = stored['clips']['val']
    assert entry['name'] == 'val_00000'
    assert entry['kind'] == 'like_texture'
    assert entry['like_texture'] is True
    assert 0 < entry['copy_iou'] < 1


def test_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / 'one')
    write(tmp_path / 'two', workers=2)
    files = sorted(p.relative_to(tmp_path / 'one') for p in tmp_path.glob('one/**/*.*'))
    assert len(files) == 3 * 8 * 2 + 3
    for file in files:
        one, two = (tmp_path / name / file for name in ('one', 'two'))
        assert one.read_bytes() == two.read_bytes()


def test_complete_folder_is_left_and_others_are_refused(tmp_path: Path) -> None:
    assert not check_folder(tmp_path / 'new', SETTINGS)
    assert not check_folder(tmp_path, SETTINGS)
    (tmp_path / 'JPEGImages').mkdir()
    with pytest.raises(FileExistsError, match='not a complete set'):
        check_folder(tmp_path, SETTINGS)
    (tmp_path / 'meta.json').write_text(json.dumps({'settings': SETTINGS}))
    assert check_folder(tmp_path, SETTINGS)
    with pytest.raises(FileExistsError, match='other settings; remove the folder'):
        check_folder(tmp_path, {'seed': 2})


def test_interrupted_set_is_made_anew_with_the_same_settings_alone(
    tmp_path: Path,
) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    plans = make_plans(split='val', num_clips=2, num_frames=8, size=32, seed=1)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, {'val': plans}, SETTINGS, 1, interrupt)
    assert not check_folder(tmp_path, SETTINGS)
    with pytest.raises(FileExistsError, match='not a complete set'):
        check_folder(tmp_path, {'seed': 2})
    write_dataset(tmp_path, {'val': plans}, SETTINGS, 1, lambda *_: None)
    assert check_folder(tmp_path, SETTINGS)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {'meta.json'}


def test_masks_have_the_palette_of_davis(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / 'mask.png', labels)
    with Image.open(tmp_path / 'mask.png') as image:
        assert image.mode == 'P'
        np.testing.assert_array_equal(np.asarray(image), labels)
        assert image.getpalette() == davis_palette()
    assert davis_palette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert davis_palette()[-3:] == [224, 224, 192]
