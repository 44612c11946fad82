"""``tools/predict.py``: prompts of the command line, and errors of one line."""

import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from inference_cases import CONFIG, write_clip, write_images, write_weights
from projects.sam2.apis import ObjectPrompt
from projects.sam2.apis import SAM2AutomaticMaskGenerator as MaskGenerator
from projects.sam2.apis.inference_io import FORMATS
from projects.sam2.visualization.clip_visualizer import _windows_open
from tool_modules import failing_exit_code, load_tool
from toy_videos import SIZE

Prompts = list[tuple[int, int, tuple[float, ...] | None, list[int]]]


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('predict')


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Config and checkpoint."""
    folder = tmp_path_factory.mktemp('model')
    CONFIG.dump(folder / 'config.py')
    return [str(folder / 'config.py'), write_weights(folder / 'weights.pth')]


def prompts_of(tool: ModuleType, line: str) -> Prompts:
    """Object, frame, box and labels of each prompt of a command line."""
    options = tool.parse_arguments(['in', 'config', 'checkpoint', *line.split()])
    prompts: list[ObjectPrompt] = tool.read_prompts(options.prompts)
    return [
        (
            p.object_id,
            p.frame_index,
            None if p.box is None else tuple(p.box),
            list(p.labels),
        )
        for p in prompts
    ]


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('', []),
        ('--box 1 2 3 4', [(1, 0, (1, 2, 3, 4), [])]),
        (
            '--box 1 2 3 4 --negative 5 6 --box 1 1 9 9 --point 2 2',
            [(1, 0, (1, 2, 3, 4), [0]), (2, 0, (1, 1, 9, 9), [1])],
        ),
        ('--point 1 2 --negative 3 4 --point 5 6', [(1, 0, None, [1, 0, 1])]),
        ('--point 1 2 --box 0 0 3 4', [(1, 0, (0, 0, 3, 4), [1])]),
        (
            '--point 1 2 --object 7 --box 1 2 3 4 --frame 40 --box 2 3 4 5',
            [(1, 0, None, [1]), (7, 0, (1, 2, 3, 4), []), (7, 40, (2, 3, 4, 5), [])],
        ),
    ],
)
def test_prompts_are_read_from_left_to_right(
    tool: ModuleType, line: str, expected: Prompts
) -> None:
    assert prompts_of(tool, line) == expected


def test_mask_holds_an_object_for_each_label(tool: ModuleType, tmp_path: Path) -> None:
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[2:9, 3:8], labels[20:30, 30:50] = 3, 8
    path = tmp_path / 'mask.png'
    Image.fromarray(labels).save(path)
    options = tool.parse_arguments(['a', 'b', 'c', '--frame', '2', '--mask', str(path)])
    prompts = tool.read_prompts(options.prompts)
    assert [(p.object_id, p.frame_index) for p in prompts] == [(3, 2), (8, 2)]
    assert np.array_equal(prompts[1].mask, labels == 8)


def test_video_is_written_to_the_output_folder(
    tool: ModuleType,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip, out = write_clip(tmp_path / 'clip.mp4', 3), tmp_path / 'out'
    words = ['--box', '4', '4', '20', '18', '--out-dir', str(out), '--device', 'cpu']
    tool.main([str(clip), *model, *words, '--formats', 'npz'])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith('clip: 1 object in 3 frames; ')
    assert f'overlay: {out}/vis/clip.mp4, masks: {out}/pred/clip (npz)' in said
    written = {path.relative_to(out).as_posix() for path in out.rglob('*.*')}
    frames = {f'pred/clip/{index:05d}.npz' for index in range(3)}
    assert written == {'vis/clip.mp4', *frames}


def test_folder_may_be_a_video(
    tool: ModuleType,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_images(tmp_path / 'clip', ['0.jpg', '1.jpg'])
    words = ['--point', '9', '9', '--out-dir', str(tmp_path), '--device', 'cpu']
    results = tool.main([str(folder), *model, *words, '--video', '--max-frames', '1'])
    assert [len(result.frames) for result in results['predictions']] == [1]
    said = capsys.readouterr().out.splitlines()[-1]
    assert f'clip: 1 object; overlay: {tmp_path}/vis/clip.png, ' in said
    assert (tmp_path / 'vis' / 'clip.png').is_file()
    results = tool.main([str(folder), *model, *words])
    assert [result.name for result in results['predictions']] == ['0', '1']
    said = capsys.readouterr().out.splitlines()[-1]
    assert f'2 inputs, 2 masks; overlay: {tmp_path}/vis, masks: {tmp_path}/pred' in said
    assert tool.describe_files([], tmp_path, ['png']).startswith('Nothing was written')


def test_help_states_the_settings_of_the_mask_generator(tool: ModuleType) -> None:
    defaults = {field.name: field.default for field in fields(MaskGenerator)}
    assert all(
        defaults[name] == default for name, (_, default, _) in tool.SETTINGS.items()
    )
    assert tool.FORMATS == FORMATS


@pytest.mark.skipif(sys.platform != 'linux', reason='others have a display')
def test_window_without_a_display_is_one_line_before_anything_is_written(
    tool: ModuleType,
    model: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ('DISPLAY', 'WAYLAND_DISPLAY', 'QT_QPA_PLATFORM'):
        monkeypatch.delenv(name, raising=False)
    _windows_open.cache_clear()
    image = str(write_images(tmp_path, ['0.jpg']) / '0.jpg')
    words = ['--point', '1', '1', '--out-dir', str(tmp_path / 'out'), '--show']
    assert failing_exit_code(tool, [image, *model, *words, '--device', 'cpu']) == 2
    _windows_open.cache_clear()
    assert 'No window can be opened' in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


def test_settings_of_the_automatic_masks_are_options(
    tool: ModuleType,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = str(write_images(tmp_path, ['0.jpg']) / '0.jpg')
    words = [image, *model, '--out-dir', str(tmp_path / 'out'), '--device', 'cpu']
    few = ['--points-per-side', '2', '--pred_iou_thresh', '-10']
    results = tool.main([*words, *few, '--stability-score-thresh', '0'])
    assert results['predictions'][0].frames[0].object_ids
    # What finds nothing says why.
    tool.main([*words, *few[:2], '--pred-iou-thresh', '1'])
    printed = capsys.readouterr().out
    assert 'Nothing was found (0 masks of 12 candidates: the best predicted' in printed
    assert 'does not exceed pred_iou_thresh 1; lower it' in printed
    assert '0: 0 objects; overlay: ' in printed


@pytest.mark.parametrize(
    'case',
    [
        (
            'IMAGE CONFIG CHECKPOINT --use-m2m --point 1 1',
            '--use-m2m is for everything',
        ),
        ('IMAGE CONFIG CHECKPOINT --points-per-side 0', 'points_per_side'),
        ('nowhere.jpg CONFIG CHECKPOINT --point 1 1', 'there is no such file'),
        ('IMAGE nothing CHECKPOINT --point 1 1', 'nothing is no config'),
        ('IMAGE CONFIG nothing.pth --point 1 1', 'nothing.pth'),
        ('IMAGE CONFIG CHECKPOINT --point 900 1', 'outside'),
        ('IMAGE CONFIG CHECKPOINT --box 9 9 1 1', 'inside out'),
        ('IMAGE CONFIG CHECKPOINT --mask nothing.png', 'nothing.png'),
    ],
)
def test_mistake_is_one_line(
    case: tuple[str, str],
    tool: ModuleType,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line, message = case
    folder = write_images(tmp_path, ['0.jpg'])
    names = {'IMAGE': f'{folder}/0.jpg', 'CONFIG': model[0], 'CHECKPOINT': model[1]}
    words = [names.get(word, word) for word in line.split()]
    words += ['--out-dir', str(tmp_path / 'out'), '--device', 'cpu']
    assert failing_exit_code(tool, words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert 'error: ' in said
    assert message in said
