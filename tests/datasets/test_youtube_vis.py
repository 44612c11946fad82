"""YouTube-VIS annotations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_folders import (
    object_masks,
    write_frames,
    write_json,
    write_youtube_vis,
    youtube_vis_content,
)
from projects.sam2.datasets import ClipDataError, ClipYouTubeVISDataset
from projects.sam2.datasets.processing.davis_export import davis_name


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """One video."""
    write_youtube_vis(tmp_path)
    return tmp_path


def test_all_frames_are_annotated_and_null_is_absent(data_root: Path) -> None:
    dataset = ClipYouTubeVISDataset(data_root=str(data_root))
    assert dataset.list_videos() == ['ant']
    video = dataset.open_video('ant')
    assert (video.num_frames, len(video.annotated_frames())) == (12, 12)
    assert video.object_ids() == (5, 6)
    first, third = video.read_masks(0), video.read_masks(3)
    assert first is not None
    assert third is not None
    assert (first.object_ids, third.object_ids) == ((6,), (5, 6))
    np.testing.assert_array_equal(third.masks, object_masks(3))
    assert video.frame_name(3) == '00003'


def test_files_folders_and_lists_are_options(data_root: Path) -> None:
    (data_root / 'train.json').rename(data_root / 'other.json')
    write_frames(data_root / 'frames')
    (data_root / 'list.txt').write_text('ant\nbee\n')
    (data_root / 'not.txt').write_text('bee\n')
    dataset = ClipYouTubeVISDataset(
        data_root=str(data_root),
        annotation_file='other.json',
        frame_folder='frames',
        file_list='list.txt',
        exclude_list='not.txt',
        limits={'max_pixels': 10**6},
        max_bad_share=0.0,
    )
    assert dataset.list_videos() == ['ant']
    assert dataset.open_video('ant').read_frame(0).shape == (24, 32, 3)


def test_videos_without_a_folder_are_named_by_their_ids(
    data_root: Path,
) -> None:
    content = youtube_vis_content()
    (video,) = content['videos']
    video['file_names'] = [name.removeprefix('ant/') for name in video['file_names']]
    write_json(data_root / 'train.json', content)
    dataset = ClipYouTubeVISDataset(
        data_root=str(data_root), frame_folder='JPEGImages/ant'
    )
    assert dataset.list_videos() == ['video_3']
    opened = dataset.open_video('video_3')
    assert opened.read_frame(0).shape == (24, 32, 3)
    assert davis_name(opened.name) == 'video_3'


def test_crowds_are_objects_on_request(data_root: Path) -> None:
    content = youtube_vis_content()
    content['annotations'][0]['iscrowd'] = '1'
    write_json(data_root / 'train.json', content)
    for crowd_as_objects, ids in ((False, (6,)), (True, (5, 6))):
        dataset = ClipYouTubeVISDataset(
            data_root=str(data_root), crowd_as_objects=crowd_as_objects
        )
        assert dataset.open_video('ant').object_ids() == ids


def spoiled(part: str, **changes: Any) -> dict[str, Any]:
    """The content, with other values for the video or the first annotation."""
    content = youtube_vis_content()
    content[part][0].update(changes)
    return content


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ({}, 'videos is missing'),
        ({'videos': youtube_vis_content()['videos'] * 2}, 'two videos of id 3'),
        (spoiled('videos', id=4), r'annotations\[0\] with video_id 3'),
        (
            {
                'videos': youtube_vis_content()['videos'],
                'annotations': [
                    each | {'iscrowd': 1}
                    for each in youtube_vis_content()['annotations']
                ],
            },
            'all 2 annotations are crowds.*set crowd_as_objects=True',
        ),
    ],
)
def test_malformed_file_is_refused_when_built(
    data_root: Path, content: object, reason: str
) -> None:
    write_json(data_root / 'train.json', content)
    with pytest.raises(ClipDataError, match=rf'train\.json: .*{reason}'):
        ClipYouTubeVISDataset(data_root=str(data_root))


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (spoiled('videos', file_names=[]), r'videos\[0\]: video 3 has no frame'),
        (spoiled('videos', file_names=[7]), 'file_names is 7'),
        (spoiled('annotations', iscrowd='x'), "annotation 5 has iscrowd 'x'"),
        (spoiled('annotations', id=6), 'two annotations of id 6'),
        (spoiled('annotations', segmentations=[None]), '1 segmentations for 12'),
        (spoiled('annotations', segmentations=7), 'segmentations is 7'),
        (spoiled('annotations', segmentations=[5] * 12), '5 in place of an object'),
        (spoiled('videos', file_names=['../../x.jpg'] * 12), 'not inside'),
        (spoiled('videos', file_names=['/x/y.jpg'] * 12), 'not inside'),
    ],
)
def test_damaged_annotation_affects_only_its_clip(
    data_root: Path, content: dict[str, Any], reason: str
) -> None:
    write_json(data_root / 'train.json', content)
    dataset = ClipYouTubeVISDataset(data_root=str(data_root))
    with pytest.raises(ClipDataError, match=reason):
        dataset.open_video(dataset.list_videos()[0]).read_masks(0)
