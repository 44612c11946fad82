"""SA-1B."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import object_masks, write_json, write_sa1b
from projects.sam2.datasets import ClipDataError, ClipSA1BDataset
from projects.sam2.datasets.io.errors import ReadLimits
from projects.sam2.datasets.io.json_files import read_json
from projects.sam2.datasets.sources import sa1b


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """One image with two masks."""
    write_sa1b(tmp_path)
    return tmp_path


def test_image_is_a_clip_of_one_frame_with_all_masks(data_root: Path) -> None:
    dataset = ClipSA1BDataset(data_root=str(data_root))
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    assert (video.num_frames, video.annotated_frames()) == (1, (0,))
    assert video.object_ids() == (0, 1)
    masks = video.read_masks(0)
    assert masks is not None
    np.testing.assert_array_equal(masks.masks, object_masks(0))


def test_masks_are_filtered_by_scores_and_area(data_root: Path) -> None:
    content = json.loads((data_root / 'ant.json').read_text())
    first, second = content['annotations']
    first['stability_score'] = 0.5
    del second['predicted_iou']
    write_json(data_root / 'ant.json', content)
    scores = {'stability_score': 0.9, 'predicted_iou': 0.95}
    dataset = ClipSA1BDataset(data_root=str(data_root), min_scores=scores)
    masks = dataset.open_video('ant').read_masks(0)
    assert masks is not None
    # What lacks a score is kept; ids count what is kept.
    assert masks.object_ids == (0,)
    np.testing.assert_array_equal(masks.masks[0], object_masks(0)[1])
    small = ClipSA1BDataset(data_root=str(data_root), max_area_share=90 / 768)
    assert small.open_video('ant').object_ids() == (0,)
    exact = ClipSA1BDataset(
        data_root=str(data_root), min_scores={'stability_score': 0.5}
    )
    assert exact.open_video('ant').object_ids() == (0, 1)
    first['segmentation'] = {'size': [24, 32], 'counts': [24 * 32]}  # empty
    write_json(data_root / 'ant.json', content)
    assert exact.open_video('ant').object_ids() == (0,)


def test_file_of_an_image_is_read_once_per_item(
    data_root: Path,
    pipeline: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[Path] = []

    def counted(path: Path, limits: ReadLimits) -> Any:
        read.append(path)
        return read_json(path, limits)

    monkeypatch.setattr(sa1b, 'read_json', counted)
    pipeline[0]['num_frames'] = 1
    dataset = ClipSA1BDataset(data_root=str(data_root), pipeline=pipeline)
    assert dataset[0].masklets.any()
    assert read == [data_root / 'ant.json']
    dataset[0]
    assert len(read) == 2  # nothing is kept longer than the item


def test_shards_lists_and_folders_are_options(data_root: Path) -> None:
    shard = data_root / 'images' / 'sa_000020'
    shard.mkdir(parents=True)
    for path in data_root.glob('ant.*'):
        path.rename(shard / path.name)
    (shard / 'other.json').touch()
    (data_root / 'not.txt').write_text('sa_000020/other.JPG\n')
    dataset = ClipSA1BDataset(
        data_root=str(data_root), image_folder='images', exclude_list='not.txt'
    )
    assert dataset.list_videos() == ['sa_000020/ant']
    assert dataset.open_video('sa_000020/ant').object_ids() == (0, 1)
    (data_root / 'list.txt').write_text('sa_000020/ant.jpg\n')
    listed = ClipSA1BDataset(
        data_root=str(data_root),
        image_folder='images',
        file_list='list.txt',
        max_bad_share=0.0,
    )
    assert listed.list_videos() == ['sa_000020/ant']


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ([], 'a list of 0'),
        ({'annotations': 3}, 'annotations is 3'),
        ({'annotations': [3]}, '3 in place of an object'),
        ({'annotations': [{}]}, 'segmentation is missing'),
        ({'annotations': [{'segmentation': {'size': [9, 9]}}]}, r'\(9, 9\)'),
    ],
)
def test_malformed_file_is_refused(
    data_root: Path, content: object, reason: str
) -> None:
    write_json(data_root / 'ant.json', content)
    video = ClipSA1BDataset(data_root=str(data_root)).open_video('ant')
    with pytest.raises(ClipDataError, match=rf'ant\.json.*{reason}'):
        video.read_masks(0)


def test_invalid_score_and_missing_image_are_refused(data_root: Path) -> None:
    content = json.loads((data_root / 'ant.json').read_text())
    content['annotations'][0]['stability_score'] = 'high'
    write_json(data_root / 'ant.json', content)
    dataset = ClipSA1BDataset(
        data_root=str(data_root),
        min_scores={'stability_score': 0.5},
        limits={'max_pixels': 10**6},
    )
    with pytest.raises(ClipDataError, match="stability_score is 'high'"):
        dataset.open_video('ant').read_masks(0)
    (data_root / 'ant.jpg').unlink()
    with pytest.raises(ClipDataError, match=r'ant: is missing \(as \.jpg'):
        dataset.open_video('ant')


def test_real_images_load_with_all_their_masks(data_dir: Path) -> None:
    dataset = ClipSA1BDataset(data_root=str(data_dir / 'sa1b_style_cells'))
    names = dataset.list_videos()
    assert len(names) == 11
    total = 0
    for name in names:
        video = dataset.open_video(name)
        masks = video.read_masks(0)
        assert masks is not None
        assert video.read_frame(0).shape[:2] == masks.masks.shape[1:]
        total += len(masks.object_ids)
    assert total == 228
