"""The tool that splits clips into training and validation lists."""

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from data_folders import (
    write_coco,
    write_image,
    write_json,
    write_label_images,
    write_labelme,
    write_sa1b,
)

ROOT = Path(__file__).resolve().parents[3]
TOOL = ROOT / 'tools' / 'dataset_converters' / 'split_clips.py'


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the tool."""
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
    monkeypatch.setattr(sys, 'path', list(sys.path))
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Folders of 230 clips."""
    for number in range(230):
        (tmp_path / 'JPEGImages' / f'clip{number:03d}').mkdir(parents=True)
    return tmp_path


def test_defaults_write_the_lists_that_the_mose_config_reads(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, str(data_root))
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'mose.py')
    train = cfg.train_dataloader.dataset.dataset.file_list
    holdout = cfg.val_dataloader.dataset.dataset.file_list
    kept, held = ((data_root / name).read_text().split() for name in (train, holdout))
    assert (len(kept), len(held)) == (30, 200)
    assert not set(kept) & set(held)
    before = (data_root / holdout).read_bytes()
    run(monkeypatch, str(data_root))
    assert (data_root / holdout).read_bytes() == before


def test_too_few_clips_are_refused_and_nothing_is_written(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match='Cannot hold 230 of 230'):
        run(monkeypatch, str(data_root), '--num-holdout', '230')
    assert not (data_root / 'ImageSets').exists()


def lists(root: Path) -> list[list[str]]:
    """Return the written lists."""
    names = ('train_without_holdout', 'holdout')
    return [(root / f'ImageSets/{name}.txt').read_text().split() for name in names]


def test_share_of_the_clips_validates(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, str(data_root), '--share', '0.1')
    kept, held = lists(data_root)
    assert (len(kept), len(held)) == (207, 23)


def test_clips_of_a_list_are_split_without_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'all.txt').write_text('a\nb.mp4\nc\n')
    words = ['--file-list', 'all.txt', '--num-holdout', '1']
    run(monkeypatch, str(tmp_path), *words)
    kept, held = lists(tmp_path)
    assert (len(kept), sorted(kept + held)) == (2, ['a', 'b', 'c'])


def test_named_clips_validate(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data_root / 'mine.txt').write_text('clip007\nclip003\n')
    run(monkeypatch, str(data_root), '--names', 'mine.txt')
    kept, held = lists(data_root)
    assert held == ['clip003', 'clip007']
    assert len(kept) == 228


@pytest.mark.parametrize('words', ['clip003\nclip999\n', '\n'])
def test_unknown_names_are_refused(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    (data_root / 'mine.txt').write_text(words)
    with pytest.raises(SystemExit, match=r'mine\.txt: .* list some, not all'):
        run(monkeypatch, str(data_root), '--names', 'mine.txt')
    assert not (data_root / 'ImageSets').exists()


@pytest.mark.parametrize(
    'holdout', ['lists.txt', './lists.txt', 'ImageSets/../lists.txt']
)
def test_one_file_for_both_lists_is_refused_before_it_is_written(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, holdout: str
) -> None:
    both = ('--train-list', 'lists.txt', '--holdout-list', holdout)
    with pytest.raises(SystemExit, match=r'are both .*give two files'):
        run(monkeypatch, str(data_root), *both)
    assert not (data_root / 'lists.txt').exists()


@pytest.mark.parametrize('share', ['nan', '1.5', '-0.1'])
def test_invalid_share_is_refused(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, share: str
) -> None:
    with pytest.raises(SystemExit, match=f'--share is {share}; give'):
        run(monkeypatch, str(data_root), f'--share={share}')


def test_comments_of_a_list_are_not_split(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_root / 'all.txt').write_text('# mine\nclip001\nclip002\n')
    options = ('--file-list', 'all.txt', '--num-holdout', '1')
    run(monkeypatch, str(data_root), *options)
    written = sorted(lists(data_root))
    run(monkeypatch, str(data_root), *options, '--frame-folder', 'absent')
    assert sorted(lists(data_root)) == written == [['clip001'], ['clip002']]


@pytest.mark.parametrize('kind', ['images', 'labelme', 'coco', 'sa1b'])
def test_images_are_split_into_the_lists_that_their_config_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    names = ['a', 'b.1', 'c', 'sub/d', 'sub/e'] if kind != 'coco' else ['a', 'b.1', 'c']
    config = ROOT / 'configs' / f'sam2_mini_{kind}.py'
    words = ['--share', '0.4', '--config', str(config)]
    root = tmp_path / 'data'
    if kind == 'images':
        copies(
            write_label_images, root, names, [('images', '.jpg'), ('labels', '.png')]
        )
    elif kind == 'labelme':
        copies(write_labelme, root, names, [('', '.jpg'), ('', '.json')])
    elif kind == 'sa1b':
        copies(write_sa1b, root, names, [('', '.jpg'), ('', '.json')])
        source = "dict(type='ClipSA1BDataset', data_root='data/sa1b', file_list='{}')"
        parts = (source.format('train.txt'), source.format('val.txt'))
        (tmp_path / 'config.py').write_text(
            f'train_dataloader = dict(dataset={parts[0]})\n'
            f'val_dataloader = dict(dataset=dict(dataset={parts[1]}))\n'
        )
        words[-1] = str(tmp_path / 'config.py')
    else:
        write_coco(root)
        images = [
            {'id': i, 'file_name': f'{name}.jpg', 'height': 32, 'width': 48}
            for i, name in enumerate(names)
        ]
        file = root / 'annotations' / 'all.json'
        write_json(file, {'images': images, 'annotations': coco_squares(len(names))})
        lists = ['--train-list', 'train.txt', '--holdout-list', 'val.txt']
        key = 'train_dataloader.dataset.annotation_file=annotations/all.json'
        words += [*lists, '--cfg-options', key]
    run(monkeypatch, str(root), *words)
    kept, held = (
        (root / f'{name}.txt').read_text().split() for name in ('train', 'val')
    )
    assert len(held) == round(0.4 * len(names))
    assert sorted(kept + held) == sorted(names)


def coco_squares(num_images: int) -> list[dict[str, object]]:
    """An object on each image."""
    square = [[20, 12, 30, 12, 30, 22, 20, 22]]
    return [
        {'id': 5 + i, 'image_id': i, 'segmentation': square, 'iscrowd': 0}
        for i in range(num_images)
    ]


def copies(
    write: Callable[[Path], None],
    root: Path,
    names: list[str],
    parts: list[tuple[str, str]],
) -> None:
    """Copy the image ``ant`` and its annotation to other names; an image has none."""
    write(root)
    for folder, ending in parts:
        original = root / folder / f'ant{ending}'
        for name in names:
            copy = root / folder / f'{name}{ending}'
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(original, copy)
        original.unlink()
    write_image(root / parts[0][0] / 'without.jpg')


def test_list_of_other_names_is_replaced_only_with_overwrite(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = data_root / 'ImageSets' / 'holdout.txt'
    own.parent.mkdir()
    own.write_text('clip001\n')
    with pytest.raises(SystemExit, match=r'holdout\.txt holds other names; .*--overwr'):
        run(monkeypatch, str(data_root))
    assert own.read_text() == 'clip001\n'
    assert not (data_root / 'ImageSets/train_without_holdout.txt').exists()
    run(monkeypatch, str(data_root), '--overwrite')
    assert len(own.read_text().split()) == 200


def test_config_without_lists_is_refused_with_the_options_that_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ROOT / 'configs' / 'sam2_mini_coco.py'
    with pytest.raises(SystemExit, match=r'reads no list in train_.*--train-list'):
        run(monkeypatch, str(tmp_path), '--config', str(config))
