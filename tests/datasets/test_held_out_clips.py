"""Held-out clips never train, for every source and spelling of their names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.registry import DATASETS

from data_folders import rle, write_json
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.listing import write_list

# A clip may be called like a file, and have sub-folders.
NAMES = ('cam1', 'cam2.mp4', 'cam3.5', 'cam4')
DEEP_NAMES = (*NAMES, 'sub/cam1', 'sub/cam5.jpg')


def touch(path: Path) -> None:
    """Write an empty file: nothing is read until a clip is opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def write_folders(root: Path) -> None:
    """Folders of frames and of masks."""
    for name in NAMES:
        for kind in ('JPEGImages', 'Annotations', '.ipynb_checkpoints'):
            touch(root / kind / name / '00000.png')
    touch(root / 'JPEGImages' / '.ipynb_checkpoints' / '00000-checkpoint.png')


def write_videos(root: Path) -> None:
    """Video files."""
    for name in NAMES:
        touch(root / 'JPEGImages' / f'{name}.MP4')
        touch(root / 'JPEGImages' / f'._{name}.MP4')


def write_files(root: Path, *endings: str) -> None:
    """Files of each clip."""
    for name in DEEP_NAMES:
        for ending in endings:
            touch(root / f'{name}{ending}')
            touch(root / f'.ipynb_checkpoints/{name}-checkpoint{ending}')


def write_label_images(root: Path) -> None:
    """Images, and labels in another format than the usual one."""
    write_files(root / 'images', '.jpeg')
    write_files(root / 'labels', '.tif')


def write_coco(root: Path) -> None:
    """An annotation file; one more image has no object."""
    images = [
        {'id': i, 'file_name': f'./{name}.jpg', 'height': 24, 'width': 32}
        for i, name in enumerate((*DEEP_NAMES, 'empty'))
    ]
    annotations = [
        {'id': i, 'image_id': i, 'segmentation': rle(0)[0]}
        for i in range(len(DEEP_NAMES))
    ]
    write_json(root / 'all.json', {'images': images, 'annotations': annotations})


def write_youtube_vis(root: Path) -> None:
    """An annotation file; one more video has no object."""
    videos = [
        {'id': i, 'file_names': [f'{name}/00000.jpg']}
        for i, name in enumerate((*DEEP_NAMES, 'empty'))
    ]
    annotations = [
        {'id': i, 'video_id': i, 'segmentations': [rle(0)[0]]}
        for i in range(len(DEEP_NAMES))
    ]
    write_json(root / 'all.json', {'videos': videos, 'annotations': annotations})


FOLDERS = {'frame_folder': 'JPEGImages', 'mask_folder': 'Annotations'}
RECORDS = {'annotation_file': 'all.json'}
SOURCES: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    'ClipPaletteDataset': (write_folders, FOLDERS),
    'ClipPaletteDataset of videos': (write_videos, FOLDERS),
    'ClipObjectFolderDataset': (write_folders, FOLDERS),
    'ClipSAVDataset': (lambda root: write_files(root, '.mp4', '_manual.json'), {}),
    'ClipSA1BDataset': (lambda root: write_files(root, '.jpeg', '.json'), {}),
    'ClipLabelMeDataset': (lambda root: write_files(root, '.png', '.json'), {}),
    'ClipLabelImageDataset': (write_label_images, {}),
    'ClipCocoDataset': (write_coco, RECORDS),
    'ClipYouTubeVISDataset': (write_youtube_vis, RECORDS),
}


@pytest.fixture(params=SOURCES)
def list_clips(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Names of a source's clips under the lists of the texts that are given."""
    write, options = SOURCES[request.param]
    write(tmp_path)
    kind = request.param.partition(' ')[0]

    def list_videos(**texts: str) -> list[str]:
        for key, text in texts.items():
            (tmp_path / f'{key}.txt').write_bytes(text.encode())
        lists = {key: f'{key}.txt' for key in texts}
        settings = {'type': kind, 'data_root': str(tmp_path), **options, **lists}
        names: list[str] = DATASETS.build(settings).list_videos()
        return names

    return list_videos


def test_excluded_clip_is_left_out_in_every_spelling(
    list_clips: Callable[..., list[str]],
) -> None:
    names = list_clips()
    assert set(names) in ({*NAMES}, {*DEEP_NAMES})
    for name in names:
        expected = [each for each in names[1:] if each != name]
        spellings = [f'{name}.JPG']
        if name == 'cam2.mp4':
            spellings += [name, f'./{name}/', f'\ufeff{name}\r', f'\n {name} ']
            spellings += [f'{name}.mp4', f'{name}.json']
        for spelling in spellings:
            text = f'{spelling}\n{names[0]}\n'
            assert list_clips(exclude_list=text) == expected, spelling
        assert list_clips(exclude_list=text, file_list='\n'.join(names)) == expected


def test_listed_clip_is_the_clip_of_that_name(
    list_clips: Callable[..., list[str]], tmp_path: Path
) -> None:
    names = list_clips()
    for name in names:
        write_list(tmp_path / 'written.txt', [name])
        text = (tmp_path / 'written.txt').read_text()
        assert list_clips(file_list=text) == [name]
    assert list_clips(file_list='cam4.mp4\ncam2\n') == ['cam4', 'cam2.mp4']


def test_error_about_an_unknown_name_lists_similar_names(
    list_clips: Callable[..., list[str]],
) -> None:
    says = r"_list\.txt: names 'cam44', .*holds no such clip \(similar: .*'cam4'"
    for lists in (
        {'exclude_list': 'cam1\ncam44\n'},
        {'file_list': 'cam44\n'},
        {'file_list': 'cam1\n', 'exclude_list': 'cam44\n'},
    ):
        with pytest.raises(ClipDataError, match=says):
            list_clips(**lists)


@pytest.mark.parametrize('write', [write_coco, write_youtube_vis])
def test_clip_without_an_object_may_be_excluded(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / 'not.txt').write_text('empty\ncam1\n')
    kind = 'Coco' if write is write_coco else 'YouTubeVIS'
    settings = {'type': f'Clip{kind}Dataset', 'data_root': str(tmp_path), **RECORDS}
    dataset = DATASETS.build({**settings, 'exclude_list': 'not.txt'})
    assert set(dataset.list_videos()) == {*DEEP_NAMES} - {'cam1'}


@pytest.mark.parametrize('name', ['.cache/a', '@eaDir/a', '._a'])
def test_excluded_image_may_be_named_like_a_hidden_file(
    tmp_path: Path, name: str
) -> None:
    sizes = {'height': 24, 'width': 32}
    images = [
        {'id': i, 'file_name': f'{file}.jpg', **sizes} for i, file in enumerate('ab')
    ]
    images[0]['file_name'] = f'{name}.jpg'
    annotations = [
        {'id': i, 'image_id': i, 'segmentation': rle(0)[0]} for i in range(2)
    ]
    content = {'images': images, 'annotations': annotations}
    write_json(tmp_path / 'all.json', content)
    (tmp_path / 'not.txt').write_text(f'{name}.jpg\n')
    settings = {'type': 'ClipCocoDataset', 'data_root': str(tmp_path), **RECORDS}
    assert DATASETS.build(settings).list_videos() == [name, 'b']
    settings['exclude_list'] = 'not.txt'
    assert DATASETS.build(settings).list_videos() == ['b']


def test_comments_of_a_list_are_no_clips_unless_a_clip_has_that_name(
    tmp_path: Path, list_clips: Callable[..., list[str]]
) -> None:
    names = list_clips()
    text = f'# {names[0]}\n#{names[1]}\n{names[2]}\n'
    assert list_clips(file_list=text) == [names[2]]
    assert list_clips(exclude_list=text) == [n for n in names if n != names[2]]
    write_folders(tmp_path / 'more')
    touch(tmp_path / 'more' / 'JPEGImages' / '#1' / '00000.jpg')
    (tmp_path / 'more' / 'not.txt').write_text('#1\n')
    settings = {'type': 'ClipPaletteDataset', 'data_root': str(tmp_path / 'more')}
    assert '#1' in DATASETS.build(settings).list_videos()
    settings['exclude_list'] = 'not.txt'
    assert set(DATASETS.build(settings).list_videos()) == {*NAMES}


def test_names_instead_of_a_list_file_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path)
    settings = {'type': 'ClipPaletteDataset', 'data_root': str(tmp_path)}
    with pytest.raises(TypeError, match=r'exclude_list is .*write the names into'):
        DATASETS.build({**settings, 'exclude_list': ['cam1']})


def test_image_without_annotation_may_be_excluded(tmp_path: Path) -> None:
    write_files(tmp_path, '.jpg', '.json')
    touch(tmp_path / 'sub' / 'bare.PNG')
    (tmp_path / 'not.txt').write_text('sub/bare.png\n')
    for kind in ('SA1B', 'LabelMe'):
        settings = {'type': f'Clip{kind}Dataset', 'data_root': str(tmp_path)}
        dataset = DATASETS.build({**settings, 'exclude_list': 'not.txt'})
        assert set(dataset.list_videos()) == {*DEEP_NAMES}
