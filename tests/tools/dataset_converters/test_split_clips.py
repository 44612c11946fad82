"""The command that holds clips back."""

import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

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
    """What was written."""
    names = ('train_without_holdout', 'holdout')
    return [(root / f'ImageSets/{name}.txt').read_text().split() for name in names]


def test_share_of_the_clips_is_held_back(
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


def test_clips_that_are_named_are_held_back(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data_root / 'mine.txt').write_text('clip007\nclip003\n')
    run(monkeypatch, str(data_root), '--names', 'mine.txt')
    kept, held = lists(data_root)
    assert held == ['clip003', 'clip007']
    assert len(kept) == 228


@pytest.mark.parametrize('words', ['clip003\nclip999\n', '\n'])
def test_names_of_other_clips_are_refused(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    (data_root / 'mine.txt').write_text(words)
    with pytest.raises(SystemExit, match=r'mine\.txt: .* name some, not all'):
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
def test_share_that_is_none_is_named(
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
