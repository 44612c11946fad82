"""Common options of all sources of files: lists, limits, pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from projects.sam2.datasets.annotated_video import AnnotatedVideo
from projects.sam2.datasets.clip_dataset import ListedDataset
from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from reader_fuzz import SOURCES


@dataclass(kw_only=True, eq=False, repr=False)
class Folders(ListedDataset):
    """Lists folders and opens none."""

    folder: str = 'clips'

    def list_videos(self) -> list[str]:
        """List the folders."""
        return self.names_in(self.folder)

    def open_video(self, name: str) -> AnnotatedVideo:
        """Fail."""
        raise ClipDataError.at(self.root / name, 'is empty', 'fill it')


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Three clips and two lists."""
    for name in ('b', 'a', 'c'):
        (tmp_path / 'clips' / name).mkdir(parents=True)
    (tmp_path / 'some.txt').write_text('c\na\n')
    (tmp_path / 'not.txt').write_text('a\n')
    return str(tmp_path)


@pytest.mark.parametrize(
    ('lists', 'names'),
    [
        ({}, ['a', 'b', 'c']),
        ({'file_list': 'some.txt'}, ['c', 'a']),
        ({'exclude_list': 'not.txt'}, ['b', 'c']),
        ({'file_list': 'some.txt', 'exclude_list': 'not.txt'}, ['c']),
    ],
)
def test_lists_select_the_clips(
    root: str, lists: dict[str, Any], names: Sequence[str]
) -> None:
    dataset = Folders(data_root=root, **lists)
    assert [dataset.video_name(i) for i in range(len(dataset))] == names


def test_options_are_keyword_only(root: str) -> None:
    with pytest.raises(TypeError, match='positional'):
        Folders(root)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match='data_rot'):
        Folders(data_rot=root)  # type: ignore[call-arg]
    with pytest.raises(FileNotFoundError, match='films is missing'):
        Folders(data_root=root, folder='films')


@pytest.mark.parametrize('kind', SOURCES)
def test_every_source_scales_images_of_16_bits_by_its_range(
    kind: str, tmp_path: Path
) -> None:
    write, settings = SOURCES[kind]
    write(tmp_path)
    frames = sorted(tmp_path.rglob('*.jpg'))
    if not frames:
        pytest.skip('its frames are a video')
    for path in frames:  # known by its first bytes, whatever its name says
        with Image.open(path) as stored:
            width, height = stored.size
        picture = np.full((height, width, 3), 2000, np.uint16)
        path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
    config = {'type': kind, 'data_root': str(tmp_path), **settings}
    with pytest.raises(ClipDataError, match=r'set intensity_range=\(low, high\)'):
        DATASETS.build(config).open_video('ant').read_frame(0)
    video = DATASETS.build({**config, 'intensity_range': (1000, 3000)})
    assert (video.open_video('ant').read_frame(0) == 128).all()
    with pytest.raises(ValueError, match='intensity_range is'):
        DATASETS.build({**config, 'intensity_range': (3, 1)})


def test_limits_are_checked_before_a_clip_is_listed(root: str) -> None:
    dataset = Folders(data_root=root, limits={'max_pixels': 7})
    assert dataset.read_limits == ReadLimits(max_pixels=7)
    with pytest.raises(ValueError, match='max_pixel'):
        Folders(data_root=root, folder='films', limits={'max_pixel': 7})


def test_pipeline_and_max_bad_share_reach_the_base(root: str) -> None:
    seen: list[Any] = []
    dataset = Folders(data_root=root, pipeline=[seen.append], max_bad_share=0.0)  # type: ignore[list-item]
    assert dataset.pipeline.transforms == [seen.append]
    with pytest.raises(ClipDataError, match='is empty'):
        dataset[0]
