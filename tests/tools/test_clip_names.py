"""All tools use the same names of clips and ignore hidden files."""

import zipfile
from pathlib import Path

import pytest

from projects.sam2.datasets import ClipDataError
from tool_modules import load_tool
from vos_folders import files_below, write_vos_data, write_vos_model

CLIPS = ('cam2.mp4', 'short')  # one is called like a file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Frames of any ending and masks of two clips, with what systems leave there."""
    write_vos_data(tmp_path)
    for kind in ('frames', 'masks'):
        (tmp_path / kind / 'late').rename(tmp_path / kind / 'cam2.mp4')
        for path in (tmp_path / kind / 'long').iterdir():
            path.unlink()
        (tmp_path / kind / 'long').rename(tmp_path / kind / '.ipynb_checkpoints')
        for path in [path for path in (tmp_path / kind).rglob('*') if path.is_file()]:
            path.with_name(f'._{path.name}').write_bytes(b'\0\5\26\7')
    for path in (tmp_path / 'frames' / 'short').glob('0*'):
        path.rename(path.with_suffix('.JPEG'))
    (tmp_path / 'list.txt').write_bytes(b'\xef\xbb\xbfcam2.mp4\r\n./short.mp4/\r\n')
    return tmp_path


def test_one_list_serves_every_tool_from_the_split_to_the_submission(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, masks, out = (str(root / name) for name in ('frames', 'masks', 'out'))
    names, archive = str(root / 'list.txt'), str(root / 'masks.zip')
    words = [str(root), '--frame-folder', 'frames', '--num-holdout', '1']
    monkeypatch.setattr('sys.argv', ['split_clips.py', *words])
    load_tool('dataset_converters/split_clips').main()
    lists = ('train_without_holdout', 'holdout')
    parts = [(root / f'ImageSets/{name}.txt').read_text() for name in lists]
    assert sorted(''.join(parts).split()) == [*CLIPS]

    command = [*write_vos_model(root), frames, masks, out, '--device', 'cpu']
    assert load_tool('vos_inference').main([*command, '--video-list', names]) == 0
    assert '2 videos: 2 segmented (5 frames)' in capsys.readouterr().out
    assert {path.partition('/')[0] for path in files_below(root / 'out')} == {*CLIPS}
    (root / 'out' / 'short' / '.DS_Store').touch()

    scoring = [out, masks, '--list', names, '--strict', '--protocol', 'appearance']
    assert load_tool('eval_vos').main(scoring) == 0
    packing = [out, archive, '--layout', 'mose', '--frames', frames, '--list', names]
    assert load_tool('pack_submission').main(packing) == 0
    with zipfile.ZipFile(archive) as packed:
        assert len(packed.namelist()) == 5

    settings = {
        'type': 'ClipPaletteDataset',
        'data_root': str(root),
        'frame_folder': 'frames',
        'mask_folder': 'masks',
        'exclude_list': 'ImageSets/holdout.txt',
    }
    (root / 'config.py').write_text(f'dataset = {settings}')
    config, davis = str(root / 'config.py'), root / 'davis'
    assert load_tool('check_dataset').main([config]) == 0
    assert '1 clips, 1 opened, 1 decoded, 0 bad' in capsys.readouterr().out
    assert (
        load_tool('dataset_converters/clips_to_davis').main([config, str(davis)]) == 0
    )
    kept = parts[0].split()
    assert [path.name for path in (davis / 'JPEGImages').iterdir()] == kept


@pytest.mark.parametrize('tool', ['eval_vos', 'pack_submission'])
def test_error_about_an_unknown_name_lists_similar_names(root: Path, tool: str) -> None:
    (root / 'list.txt').write_text('shorts\n')
    masks, archive = str(root / 'masks'), str(root / 'masks.zip')
    words = {
        'eval_vos': [masks, masks],
        'pack_submission': [masks, archive, '--layout', 'mose', '--frames', masks],
    }
    says = r"list\.txt: names 'shorts', but .*similar: 'short'"
    with pytest.raises(ClipDataError, match=says):
        load_tool(tool).main([*words[tool], '--list', str(root / 'list.txt')])
