"""Whole data sets converted to DAVIS layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_folders import write_image, write_json, write_labelme
from projects.sam2.datasets import ClipPaletteDataset
from projects.sam2.datasets.processing.davis_export import (
    Conversion,
    DavisFolder,
    convert_to_davis,
)

Convert = Callable[..., Conversion | None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images with shapes, and one whose file is damaged."""
    root = tmp_path / 'labelme'
    write_labelme(root)
    content = json.loads((root / 'ant.json').read_text())
    for name in ('sub/bee', 'zoo'):
        write_image(root / f'{name}.jpg')
        write_json(root / f'{name}.json', content)
    (root / 'zoo.jpg').write_bytes(b'no picture')
    return root


@pytest.fixture
def convert(source: Path, tmp_path: Path) -> Convert:
    def run(*, split_objects: bool = False, **changes: Any) -> Conversion | None:
        config = {'type': 'ClipLabelMeDataset', 'data_root': str(source)}
        return convert_to_davis(
            config | changes,
            DavisFolder(root=tmp_path / 'davis', split_objects=split_objects),
            split='val',
            num_workers=2,
            advance=lambda done, total: None,
        )

    return run


def test_good_clips_are_listed_and_bad_ones_told(
    convert: Convert, tmp_path: Path
) -> None:
    found = convert()
    assert found is not None
    assert [clip.name for clip in found.clips] == ['ant', 'sub__bee']
    (problem,) = found.problems
    assert problem.clip == 'zoo'
    assert 'zoo.jpg' in problem.problem
    root = tmp_path / 'davis'
    assert sorted(path.name for path in root.iterdir()) == [
        'Annotations',
        'ImageSets',
        'JPEGImages',
        'meta.json',
    ]
    dataset = ClipPaletteDataset(data_root=str(root), file_list='ImageSets/val.txt')
    assert dataset.list_videos() == ['ant', 'sub__bee']
    assert dataset.open_video('ant').object_ids() == (1, 2)
    videos = json.loads((root / 'meta.json').read_text())['videos']
    assert videos['ant']['objects'] == {'1': {'source_id': 1}, '2': {'source_id': 2}}


def test_second_time_nothing_is_written(convert: Convert, tmp_path: Path) -> None:
    convert()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')}
    assert convert() is None
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*')} == before


def test_folder_of_another_conversion_is_not_touched(convert: Convert) -> None:
    convert()
    with pytest.raises(FileExistsError, match='made with other settings'):
        convert(exclude_list='none.txt')


def test_conversion_goes_on_after_an_interruption(
    convert: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = 'projects.sam2.datasets.processing.davis_export.write_list'

    def interrupt(path: Path, names: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert()
    image = tmp_path / 'davis/JPEGImages/ant/00000.jpg'
    before = image.stat().st_mtime_ns
    found = convert()
    assert found is not None
    assert len(found.clips) == 2
    assert image.stat().st_mtime_ns == before


def test_clips_that_would_share_a_folder_are_refused(
    convert: Convert, source: Path
) -> None:
    write_json(source / 'sub__bee.json', {})
    with pytest.raises(ValueError, match='both be written as sub__bee'):
        convert()


def test_part_of_a_clip_never_takes_the_place_of_another(
    convert: Convert, source: Path
) -> None:
    for ending in ('jpg', 'json'):
        (source / f'zoo.{ending}').rename(source / f'sub__bee_part0.{ending}')
    with pytest.raises(ValueError, match='sub__bee_part0, which may become a part of'):
        convert(split_objects=True)
    assert convert(split_objects=False) is not None


def test_nothing_that_can_be_converted_is_an_error(
    convert: Convert, source: Path
) -> None:
    for name in ('ant', 'sub/bee'):
        (source / f'{name}.jpg').unlink()
    with pytest.raises(ValueError, match='None of 3 clips can be converted'):
        convert()
