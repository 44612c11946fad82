"""What the screen of a run says, and the commands that it names."""

from pathlib import Path

import pytest
import torch

from engine_toys import toy_config
from projects.sam2.engine import screen

TRAIN = '/site/mmsam2/.mim/tools/train.py'


@pytest.mark.parametrize(
    ('arguments', 'num_processes', 'is_wheel', 'command'),
    [
        ('tools/train.py c.py --amp', 1, False, 'python tools/train.py c.py --amp'),
        (
            'tools/train.py c.py --launcher pytorch --work-dir w',
            8,
            False,
            'bash tools/dist_train.sh c.py 8 --work-dir w',
        ),
        (f'{TRAIN} c.py --launcher pytorch', 2, True, 'mmsam2 dist_train c.py 2'),
        (
            'tools/train.py c.py --launcher slurm',
            8,
            False,
            'python tools/train.py c.py --launcher slurm',
        ),
    ],
)
def test_command_of_a_run_is_the_one_that_a_user_types(
    arguments: str,
    num_processes: int,
    is_wheel: bool,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(screen, 'IS_WHEEL', is_wheel)
    assert screen.run_command(arguments.split(), num_processes) == command


def test_words_with_spaces_are_quoted() -> None:
    words = ['mmsam2 train', 'my config.py', '--work-dir', 'w']
    assert screen.run_command(words) == "mmsam2 train 'my config.py' --work-dir w"


def test_weights_that_do_not_match_are_warned_of_without_a_line_for_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = screen.QuietRunner.from_cfg(toy_config(tmp_path))
    path = tmp_path / 'weights.pth'
    state = runner.model.state_dict()
    torch.save({'state_dict': state}, path)
    capsys.readouterr()
    runner.load_checkpoint(str(path))
    assert capsys.readouterr().out == ''
    torch.save({'state_dict': {'other': torch.ones(1), **state}}, path)
    runner.load_checkpoint(str(path))
    printed = capsys.readouterr().out
    assert 'unexpected key in source state_dict: other' in printed
    assert str(path) not in printed


@pytest.mark.parametrize(
    ('loop', 'when'),
    [
        ({'type': 'ClipTrainLoop', 'max_epochs': 1}, 'epoch 1'),
        ({'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 2}, 'step 2'),
    ],
)
def test_validation_says_how_far_the_training_is(
    loop: dict[str, object],
    when: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cfg = toy_config(tmp_path, train_cfg={'_delete_': True, **loop}, param_scheduler=[])
    runner = screen.QuietRunner.from_cfg(cfg)
    runner.register_hook(screen.ScreenHook('toy.py'))
    runner.train()
    assert f'validation after {when}: ' in capsys.readouterr().out
