"""The tool that segments a dataset."""

from pathlib import Path
from types import ModuleType

import pytest

from tool_modules import failing_exit_code, load_tool
from vos_folders import files_below, write_vos_data, write_vos_model


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('vos_inference')


@pytest.fixture(scope='module')
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Config, checkpoint, frames and masks."""
    root = tmp_path_factory.mktemp('vos')
    write_vos_data(root)
    places = (*write_vos_model(root), str(root / 'frames'), str(root / 'masks'))
    return list(places)


def test_masks_are_written_once(
    tool: ModuleType,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = tmp_path / 'val.txt'
    names.write_text('short\nlate\n')
    command = [*words, str(tmp_path / 'out'), '--video-list', str(names)]
    command += ['--device', 'cpu', '--apply-postprocessing']
    assert tool.main(command) == 0
    assert '2 videos: 2 segmented (5 frames), 0 done before' in capsys.readouterr().out
    assert len(files_below(tmp_path / 'out')) == 5
    assert tool.main(command) == 0
    assert '2 videos: 0 segmented (0 frames), 2 done' in capsys.readouterr().out
    assert failing_exit_code(tool, [*command, '--given', 'all']) == 2
    assert 'given first-seen, not all' in capsys.readouterr().err


def test_failed_video_is_named(
    tool: ModuleType,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = tmp_path / 'val.txt'
    names.write_text('missing\nshort\n')
    command = [*words, str(tmp_path / 'out'), '--video-list', str(names)]
    assert tool.main([*command, '--per-object-png', '--image-size', '64', '96']) == 1
    printed = capsys.readouterr().out
    assert '2 videos: 1 segmented (2 frames), 0 done before, 1 failed' in printed
    assert '! missing: ClipDataError' in printed
    assert set(files_below(tmp_path / 'out')) == {
        f'short/001/0000{i}.png' for i in (0, 1)
    }


@pytest.mark.parametrize(
    'mistake',
    [
        (0, 'sam2_tyni.py', 'sam2_tyni.py is no config'),
        (1, 'nowhere.pth', 'nowhere.pth does not exist'),
        (2, 'nowhere', 'nowhere is no folder'),
        (3, 'nowhere', 'nowhere is no folder'),
        (6, 'nowhere.txt', 'nowhere.txt is missing'),
        (8, 'gpu', "'gpu' is no device"),
    ],
)
def test_mistake_is_one_line_and_can_be_mended(
    tool: ModuleType,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    mistake: tuple[int, str, str],
) -> None:
    position, word, error = mistake
    names = tmp_path / 'val.txt'
    names.write_text('short\n')
    command = [*words, str(tmp_path / 'out'), '--video-list', str(names)]
    command += ['--device', 'cpu']
    wrong = list(command)
    wrong[position] = word
    assert failing_exit_code(tool, wrong) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith('error: ')
    assert error in last
    # The folder of the masks is as good as new.
    assert tool.main(command) == 0


def test_options_reach_the_plan(tool: ModuleType) -> None:
    words = 'c k f m o --given first-frame --masks-per-object --score-threshold 0.5'
    more = '--vos-optimized --device cuda:1'
    options = tool.parse_arguments(f'{words} {more}'.split())
    plan = tool.make_plan(options)
    assert (plan.given.value, plan.masks_per_object) == ('first-frame', True)
    assert plan.score_threshold == 0.5
    assert plan.build == {
        'device': 'cuda:1',
        'apply_postprocessing': False,
        'vos_optimized': True,
        'fast': False,
        'image_size': None,
        'policy': None,
    }
    # Masks do not depend on where they are made.
    assert 'device' not in plan.settings
