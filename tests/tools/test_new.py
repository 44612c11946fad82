"""The tool that makes a project from a user's data."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from data_folders import (
    NUM_FRAMES,
    object_masks,
    write_frames,
    write_label_images,
    write_labelme,
    write_png,
    write_video,
)
from projects.sam2.engine.config import find_size_conflicts, load_config
from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('new')


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four clips in DAVIS layout; the last one has a damaged mask."""
    root = tmp_path / 'data'
    for name in ('ant', 'bee', 'cat', 'dog'):
        write_frames(root / 'JPEGImages', name)
        for time in range(NUM_FRAMES):
            labels = object_masks(time)[0].astype(np.uint8)
            write_png(root / 'Annotations' / name / f'{time:05d}.png', labels)
    (root / 'Annotations/dog/00003.png').write_bytes(b'damaged')
    return root


def read(path: Path) -> list[str]:
    return path.read_text().split()


def test_project_has_lists_a_config_and_what_to_type_next(
    tool: ModuleType,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('sys.argv', ['mmsam2 new'])
    project = tmp_path / 'mine'
    tool.main([str(project), '--from', str(data)])
    train, val = read(project / 'train.txt'), read(project / 'val.txt')
    assert sorted([*train, *val]) == ['ant', 'bee', 'cat']
    assert (project / 'left_out.txt').read_text().startswith('dog: ')
    assert len((project / 'config.py').read_text().splitlines()) < 40
    out = capsys.readouterr().out
    assert '3 clips, 36 frames' in out
    *_, check, browse, learn, predict, shorter = out.strip().splitlines()
    assert shorter.endswith('train_cfg.max_epochs=1 train_cfg.val_interval=1')
    assert check.split()[:2] == ['mmsam2', 'check']
    assert learn.strip() == f'mmsam2 train {project}/config.py'
    assert browse.split()[1].startswith('browse')
    words = shlex.split(predict)
    assert words[:2] == ['mmsam2', 'predict']
    assert Path(words[2]) == data / 'JPEGImages' / val[0]
    box = [int(word) for word in words[words.index('--box') + 1 :][:4]]
    assert box == [20, 12, 29, 21]  # the corners of the square on the first frame


@pytest.mark.parametrize('size', ['mini', 'tiny', 'base+'])
def test_config_builds_its_loaders_at_one_size(
    size: str, tool: ModuleType, data: Path, tmp_path: Path
) -> None:
    project = tmp_path / 'mine'
    tool.main([str(project), '--from', str(data), '--size', size])
    cfg = load_config(str(project / 'config.py'))
    assert not find_size_conflicts(cfg, 'train')
    assert (cfg.load_from == 'sam2_mini.pth') == (size == 'mini')
    assert cfg.work_dir == f'{project}/work_dir'
    check = load_tool('check_dataset')
    for loader in ('train', 'val'):
        assert check.main([str(project / 'config.py'), '--loader', loader]) == 0


@pytest.mark.parametrize('write', [write_labelme, write_label_images])
def test_images_get_boxes_and_clicks_in_validation(
    write: Callable[[Path], None], tool: ModuleType, tmp_path: Path
) -> None:
    write(tmp_path / 'data')
    for path in sorted((tmp_path / 'data').rglob('ant.*')):
        shutil.copy(path, path.with_name(f'bee{path.suffix}'))
    project = tmp_path / 'mine'
    tool.main([str(project), '--from', str(tmp_path / 'data')])
    names = [*read(project / 'train.txt'), *read(project / 'val.txt')]
    assert sorted(names) == ['ant', 'bee']
    cfg = load_config(str(project / 'config.py'))
    assert cfg.model.val_prompt_simulator.type == 'SAM2ImageRounds'


def test_single_video_is_cut_in_time_and_linked(
    tool: ModuleType, tmp_path: Path
) -> None:
    write_video(tmp_path / 'ant.mp4')
    for time in range(NUM_FRAMES):
        labels = object_masks(time)[0].astype(np.uint8)
        write_png(tmp_path / 'ant_masks' / f'{time:05d}.png', labels)
    project = tmp_path / 'mine'
    tool.main([str(project), '--from', str(tmp_path / 'ant.mp4')])
    assert (project / 'data/JPEGImages/ant.mp4').resolve() == tmp_path / 'ant.mp4'
    cfg = load_config(str(project / 'config.py'))
    part = cfg.train_dataloader.dataset.datasets[0].dataset
    assert part.stop == cfg.val_dataloader.dataset.dataset.start == 10
    assert load_tool('check_dataset').main([str(project / 'config.py')]) == 0


def test_options_follow_from_the_masks(
    tool: ModuleType, data: Path, tmp_path: Path
) -> None:
    for path in data.rglob('*.png'):
        if path.stat().st_size > 20:
            with Image.open(path) as image:
                labels = np.asarray(image)
            Image.fromarray((labels > 0) * np.uint8(255)).save(path)
    tool.main([str(tmp_path / 'mine'), '--from', str(data)])
    cfg = load_config(str(tmp_path / 'mine/config.py'))
    assert cfg.source.void_label is None


def test_project_that_exists_is_kept_without_overwrite(
    tool: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / 'mine'
    words = [str(project), '--from', str(data)]
    tool.main(words)
    (project / 'work_dir').mkdir()
    (project / 'work_dir/best.pth').write_bytes(b'weights')
    (project / 'config.py').write_text('# mine\n')
    with pytest.raises(FileExistsError, match=r'exists already.*--overwrite'):
        tool.main(words)
    assert (project / 'config.py').read_text() == '# mine\n'
    tool.main([*words, '--overwrite', '--seed', '3'])
    assert '_base_' in (project / 'config.py').read_text()
    assert (project / 'work_dir/best.pth').read_bytes() == b'weights'
    with pytest.raises(FileExistsError, match='exists and is not a project'):
        tool.main([str(data), '--from', str(data), '--overwrite'])
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize(
    ('words', 'error'),
    [
        (['--val-share', '2'], '--val-share is 2.0'),
        (['--image-size', '100'], '--image-size is 100; give a multiple of 32'),
        (['--image-size', str(2**40)], 'give a multiple of 32 up to 4096, as 512'),
        (['--layout', 'coco'], 'is not coco'),
        (['--masks', 'nowhere'], 'nowhere does not exist'),
    ],
)
def test_error_is_one_line_and_leaves_nothing(
    words: list[str],
    error: str,
    tool: ModuleType,
    data: Path,
    tmp_path: Path,
) -> None:
    project = tmp_path / 'mine'
    with pytest.raises((ValueError, OSError), match=error) as caught:
        tool.main([str(project), '--from', str(data), *words])
    assert '\n' not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['data']


def test_one_image_is_refused(tool: ModuleType, tmp_path: Path) -> None:
    write_labelme(tmp_path / 'data')
    with pytest.raises(ValueError, match='one image only; annotate at least one more'):
        tool.main([str(tmp_path / 'mine'), '--from', str(tmp_path / 'data')])
    assert not (tmp_path / 'mine').exists()
