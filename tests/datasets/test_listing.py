"""Lists of clips and of files, and clips that the lists hold out."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS

from data_folders import rle, write_json
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.io.listing import (
    IMAGE_SUFFIXES,
    find_stems,
    find_videos,
    list_files,
    list_names,
    match_names,
    normalize_name,
    order_frames,
    read_list,
    split_names,
    write_list,
)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Three folders of frames and some lists."""
    for name in ('b', 'a', 'c'):
        (tmp_path / 'frames' / name).mkdir(parents=True)
    (tmp_path / 'frames' / 'note.txt').touch()
    (tmp_path / 'some.txt').write_text('c\n\n a \n')
    (tmp_path / 'all.txt').write_text('a\nb\nc\n')
    return tmp_path


@pytest.mark.parametrize(
    ('file_list', 'exclude_list', 'names'),
    [
        (None, None, ['a', 'b', 'c']),
        ('some.txt', None, ['c', 'a']),
        (None, 'some.txt', ['b']),
        ('all.txt', 'some.txt', ['b']),
    ],
)
def test_split_is_the_list_without_the_excluded(
    data_root: Path, file_list: str | None, exclude_list: str | None, names: list[str]
) -> None:
    found = list_names(
        data_root=data_root,
        folder=data_root / 'frames',
        file_list=file_list,
        exclude_list=exclude_list,
    )
    assert found == names


@pytest.mark.parametrize(
    ('file_list', 'exclude_list', 'says'),
    [
        (
            None,
            'frames/a\nz\n',
            r"'frames/a' and 1 more.*frames holds no.*similar: 'a'",
        ),
        (None, 'a\nb2\n', r"lines\.txt: names 'b2', but .*frames.*similar: 'b'"),
        ('b2\n', None, r"lines\.txt: names 'b2', but .*frames.*similar: 'b'"),
        ('a\n', 'a2\n', r"names 'a2'"),
        (None, '../frames/a\n', r"names '\.\./frames/a', but .*similar: 'a'"),
        ('/frames/a\n', None, r"names '/frames/a', but .*similar: 'a'"),
        (None, 'a' * 10**6, r"names 'a{80}…'"),
        (None, 'a/' * 10**6 + 'b', 'holds no such clip'),
        (None, 'a\0b', 'holds no such clip'),
        ('a/x\0b/c', None, 'holds no such clip'),
    ],
)
def test_list_of_unknown_names_is_refused(
    data_root: Path, file_list: str | None, exclude_list: str | None, says: str
) -> None:
    lists = {'file_list': file_list, 'exclude_list': exclude_list}
    for key, text in lists.items():
        if text is not None:
            (data_root / f'{key}_lines.txt').write_text(text)
            lists[key] = f'{key}_lines.txt'
    with pytest.raises(ClipDataError, match=says):
        list_names(
            data_root=data_root,
            folder=data_root / 'frames',
            file_list=lists['file_list'],
            exclude_list=lists['exclude_list'],
        )


def test_unknown_name_among_known_ones_causes_a_warning(
    data_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (data_root / 'list.txt').write_text('a\nb2\nx\n')
    logger = MMLogger.get_instance('listing', logger_name='listing')
    logger.addHandler(caplog.handler)
    names = list_names(
        data_root=data_root,
        folder=data_root / 'frames',
        file_list='list.txt',
        exclude_list=None,
    )
    logger.removeHandler(caplog.handler)
    assert names == ['a', 'b2', 'x']
    (record,) = caplog.records
    says = r"list\.txt names 'b2' and 1 more, .*\(similar: 'b'\); each is a bad clip"
    assert re.search(says, record.getMessage())


def test_excluded_clip_may_be_unlisted_or_missing(
    data_root: Path,
) -> None:
    (data_root / 'frames/sub/d').mkdir(parents=True)
    (data_root / 'list.txt').write_text('a\nlost\n')
    (data_root / 'not.txt').write_text('b\nsub/d\nlost\n.ipynb_checkpoints\n')
    names = list_names(
        data_root=data_root,
        folder=data_root / 'frames',
        file_list='list.txt',
        exclude_list='not.txt',
    )
    assert names == ['a']


@pytest.mark.parametrize(
    ('entry', 'name'),
    [
        ('cam2.mp4', 'cam2.mp4'),
        ('cam2', 'cam2.mp4'),  # as earlier lists were written
        ('cam1', 'cam1'),
        ('cam1.mp4', 'cam1'),
        ('cam1.JPG', 'cam1'),
        ('./cam1/', 'cam1'),
        ('Cam1.Mp4', 'cam1'),
        ('sub//cam3/', 'sub/cam3'),
        ('sub\\cam3.png', 'sub/cam3'),
        ('cafe\u0301', 'caf\u00e9'),
        ('v1.5', 'v1.5'),
        ('v1', None),
        ('cam', None),
    ],
)
def test_entry_means_the_clip_of_its_name_or_of_a_similar_spelling(
    entry: str, name: str | None
) -> None:
    names = {'cam2.mp4', 'cam1', 'sub/cam3', 'caf\u00e9', 'v1.5'}
    entry = normalize_name(entry)
    assert match_names([entry], names) == [(entry, name)]
    assert match_names([entry], names | {entry}) == [(entry, entry)]


def test_entry_that_may_mean_two_clips_is_refused() -> None:
    with pytest.raises(ClipDataError, match=r"'x': may mean 'x\.jpg' or 'x\.mp4'"):
        match_names(['x'], {'x.mp4', 'x.jpg'})
    assert match_names(['x.mp4'], {'x.mp4', 'x.jpg'}) == [('x.mp4', 'x.mp4')]


@pytest.mark.parametrize('mark', ['utf-16', 'utf-32'])
def test_list_in_utf16_or_utf32_is_refused(data_root: Path, mark: str) -> None:
    (data_root / 'list.txt').write_text('a\n', encoding=mark)
    with pytest.raises(
        ClipDataError, match=f'{mark.upper()}; save it as UTF-8, or write the list'
    ):
        read_list(data_root / 'list.txt')


def test_line_ends_of_every_system_are_read(data_root: Path) -> None:
    (data_root / 'list.txt').write_bytes(b'a\r\nb/\rc\n\r\n')
    assert read_list(data_root / 'list.txt') == ['a', 'b', 'c']


def test_mark_of_utf8_is_ignored(data_root: Path) -> None:
    (data_root / 'marked.txt').write_text('a\nb\n', encoding='utf-8-sig')
    assert read_list(data_root / 'marked.txt') == ['a', 'b']


@pytest.mark.parametrize(
    ('folder', 'lists', 'error', 'text'),
    [
        ('absent', (None, None), FileNotFoundError, 'absent'),
        ('frames', ('gone.txt', None), FileNotFoundError, r'gone\.txt.*split_clips'),
        ('frames', (None, 'gone.txt'), FileNotFoundError, r'gone\.txt'),
        (
            'frames',
            (None, 'all.txt'),
            ValueError,
            r"frames: exclude_list='all.txt' leaves no",
        ),
        (
            'frames',
            ('some.txt', 'all.txt'),
            ValueError,
            r"some\.txt: exclude_list='all.txt' leaves no",
        ),
    ],
)
def test_missing_and_empty_splits_are_refused(
    data_root: Path,
    folder: str,
    lists: tuple[str | None, str | None],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        list_names(
            data_root=data_root,
            folder=data_root / folder,
            file_list=lists[0],
            exclude_list=lists[1],
        )


@pytest.mark.parametrize(
    'names',
    [
        ['9.JPG', '10.jpg', '100.jpeg'],
        ['frame_2.jpg', 'frame_10.png', 'Frame_11.TIF'],
        ['1.jpg', '1.5.jpg', '2.jpg', '10.jpg'],
        ['1403.25.jpg', '1403.50.jpg', '1404.00.jpg'],
        ['s1_f20_left8bit.jpg', 's2_f1_left8bit.jpg', 's10_f1_left8bit.jpg'],
        ['shot.0002.jpg', 'shot.0010.jpg'],
        ['2024-01-05_2.jpg', '2024-01-05_10.jpg'],
        ['f_1_jpg.rf.ab.jpg', 'f_2_jpg.rf.aa.jpg'],
        ['cover.jpg'],
        ['00000.jpg', '.00000.jpg', '._00000.jpg', 'Thumbs.db', 'notes.txt'],
    ],
)
def test_files_are_ordered_by_number(tmp_path: Path, names: list[str]) -> None:
    for name in reversed(names):
        (tmp_path / name).touch()
    (tmp_path / '00001.jpg').mkdir()
    images = [n for n in names if n[0] != '.' and n.lower().endswith(IMAGE_SUFFIXES)]
    assert list_files(tmp_path, IMAGE_SUFFIXES) == tuple(images)


@pytest.mark.parametrize(
    ('names', 'says'),
    [
        (['01.jpg', '1.jpg', '2.jpg'], '01.jpg and 1.jpg have the same frame number'),
        (['00000.JPG', '00000.jpg'], '00000.JPG and 00000.jpg have the same'),
        (['0.jpg', '0.png'], '0.jpg and 0.png have the same'),
        (['f_1.0.jpg', 'f_1.jpg'], 'f_1.0.jpg and f_1.jpg have the same'),
        (['Frame_1.jpg', 'frame_01.jpg'], 'have the same'),
        (['0.jpg', '1.jpg', 'cover.jpg'], '1.jpg and cover.jpg have no number'),
        (['a.jpg', 'b.jpg'], 'a.jpg and b.jpg have no number'),
        (['0.jpg', '0 (copy).jpg'], 'have no number to be ordered by'),
        (['left_1.jpg', 'right_1.jpg'], 'have no number to be ordered by'),
        (['-1.jpg', '-2.jpg'], '-1.jpg has a negative number'),
        (['f_-1.jpg', 'f_0.jpg'], 'have no number'),
        (['1.25.jpg', '1.5.jpg', '2.jpg'], '1.25.jpg and 1.5.jpg have fractions'),
        (['shot1.9.jpg', 'shot1.10.jpg'], 'have fractions of different lengths'),
    ],
)
def test_ambiguous_order_of_files_is_refused(
    tmp_path: Path, names: list[str], says: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ClipDataError, match=re.escape(says)):
        list_files(tmp_path, IMAGE_SUFFIXES)


@given(
    numbers=strategies.sets(strategies.integers(0, 10**6), min_size=2, max_size=20),
    width=strategies.integers(1, 8),
    begin=strategies.sampled_from(['', 'f', 'a_7_']),
    end=strategies.sampled_from(['', '_8bit', '-x']),
    data=strategies.data(),
)
def test_any_numbers_are_ordered_as_numbers(
    numbers: set[int], width: int, begin: str, end: str, data: strategies.DataObject
) -> None:
    expected = [f'{begin}{n:0{width}d}{end}.png' for n in sorted(numbers)]
    shuffled = data.draw(strategies.permutations(expected))
    assert list(order_frames(shuffled, 'folder')) == expected


def test_hidden_files_and_folders_are_listed_nowhere(tmp_path: Path) -> None:
    hidden = ('.ipynb_checkpoints', '__MACOSX', '@eaDir', '.a')
    for folder in (*hidden, 'clip'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.json').touch()
        (tmp_path / folder / '._y.json').touch()
    (tmp_path / '._v.mp4').touch()
    assert find_videos(tmp_path) == {'clip'}
    assert find_stems(tmp_path, ('.json',)) == {'clip/x'}


def test_files_without_a_name_are_not_listed(tmp_path: Path) -> None:
    for name in ('.mp4', '...mp4', 'a.MP4', '.json', '...json', 'b.json', 'x_ids.JSON'):
        (tmp_path / name).touch()
    assert find_videos(tmp_path) == {'a'}
    assert find_stems(tmp_path, ('.json',)) == {'b', 'x_ids'}
    assert find_stems(tmp_path, ('_Ids.json',)) == {'x'}


@pytest.mark.parametrize('folder', ['.', 'absent'])
def test_folder_without_files_is_named(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ClipDataError, match='exclude list'):
        list_files(tmp_path / folder, ('.jpg',))


def test_holdout_is_a_seeded_partition() -> None:
    names = [f'clip{number:03d}' for number in range(50)]
    kept, held = split_names(names, 10, seed=3)
    assert len(held) == 10
    assert sorted(kept + held) == names
    assert split_names(names[::-1], 10, seed=3) == (kept, held)
    assert split_names(names, 10, seed=4) != (kept, held)


@pytest.mark.parametrize('num_holdout', [0, 3, 4])
def test_holdout_must_leave_clips_on_both_sides(num_holdout: int) -> None:
    with pytest.raises(ValueError, match=r'from 1 to 2'):
        split_names(['a', 'b', 'c'], num_holdout, seed=0)


def test_written_list_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / 'ImageSets' / 'split.txt'
    write_list(path, ['b', 'a'])
    assert read_list(path) == ['b', 'a']
    assert list(path.parent.iterdir()) == [path]


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


def test_list_selects_the_clip_of_each_name(
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


def test_comments_of_a_list_are_not_clips_unless_a_clip_has_that_name(
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
