"""The two names of the package, configs by name, and programs that start quickly."""

import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from projects.sam2 import installation
from projects.sam2.apis import load_model_config
from projects.sam2.apis.vos import GivenMasks
from projects.sam2.checkpoints import CheckpointKind
from projects.sam2.datasets.processing.submission import LAYOUTS
from projects.sam2.engine.command_line import CHECKPOINT_KINDS
from projects.sam2.engine.config import find_config, read_config
from projects.sam2.evaluation import PROTOCOLS
from projects.sam2.installation import CONFIGS, TOOLS
from tool_modules import ROOT, load_tool

HEAVY = {'torch', 'mmengine.runner', 'cv2'}

COPY = """
import sys
sys.path.insert(0, sys.argv[1])
import projects.sam2.installation as ours
ours.install_other_name()
import mmsam2
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the repository."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize('first', ['projects.sam2', 'mmsam2'])
def test_both_names_are_one_package(first: str) -> None:
    code = f"""
import {first}
import projects.sam2.models.hiera, mmsam2.models.hiera
from mmengine.registry import MODELS
assert projects.sam2 is mmsam2
assert projects.sam2.models.hiera is mmsam2.models.hiera
assert MODELS.get('Hiera') is mmsam2.models.Hiera
assert mmsam2.models.hiera.__spec__.name == mmsam2.models.hiera.__name__
"""
    result = run('-c', code)
    if first == 'mmsam2' and "No module named 'mmsam2'" in result.stderr:
        pytest.skip('mmsam2 is not installed in this environment')
    assert result.returncode == 0, result.stderr


def test_another_copy_under_the_other_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'mmsam2').mkdir()
    (tmp_path / 'mmsam2' / '__init__.py').touch()
    result = run('-c', COPY, str(tmp_path))
    assert result.returncode == 1
    assert 'ImportError: mmsam2' in result.stderr
    assert 'is another copy of projects.sam2' in result.stderr


@pytest.mark.parametrize(
    'name',
    ['sam2_mini_davis', 'configs/sam2_mini_davis.py', 'mmsam2::sam2_mini_davis.py'],
)
def test_configs_are_found_by_name_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = CONFIGS / 'sam2_mini_davis.py'
    Path('sam2_mini_davis').mkdir()  # as a project of this name
    assert find_config(name) == path
    assert load_model_config(name).filename == str(path)


def test_unknown_config_is_refused_with_near_names() -> None:
    with pytest.raises(FileNotFoundError, match='did you mean sam2_mini_davis'):
        read_config('sam2_mini_davs.py')
    with pytest.raises(FileNotFoundError, match='Did you mean sam2_mini_davis'):
        load_model_config('sam2_mini_davs')
    with pytest.raises(FileNotFoundError, match='mmdet::sam2_mini_davis'):
        read_config('mmdet::sam2_mini_davis.py')


def test_own_configs_have_bases_by_scope(tmp_path: Path) -> None:
    path = tmp_path / 'own.py'
    path.write_text("_base_ = 'mmsam2::sam2_mini_davis.py'\ndata_root = 'own'\n")
    own = Config.fromfile(path)
    assert own.model == Config.fromfile(CONFIGS / 'sam2_mini_davis.py').model
    assert own.data_root == 'own'


def imported_modules(*command: str) -> set[str]:
    """Modules that a program imports."""
    result = run('-X', 'importtime', *command)
    assert result.returncode == 0, result.stderr
    modules = {line.rpartition('|')[2].strip() for line in result.stderr.splitlines()}
    assert 'pathlib' in modules  # the log of imports was read
    return modules


def test_help_imports_no_torch() -> None:
    assert not imported_modules('tools/mmsam2', '--help') & HEAVY
    programs = {
        path for path in TOOLS.rglob('*.py') if path.parent.name != 'benchmarks'
    }
    programs = {p for p in programs if "__name__ == '__main__'" in p.read_text()}
    # Two are started by scripts; two are older names of programs that are quick.
    slow = {'launch', 'quickstart_report', 'browse_clips', 'plot_curve'}
    quick = {path for path in programs if path.stem not in slow}
    assert len(quick) > 20
    for path in quick:
        assert not imported_modules(str(path), '--help') & HEAVY, path


def test_splitting_clips_imports_no_torch(tmp_path: Path) -> None:
    for name in 'abc':
        (tmp_path / 'JPEGImages' / name).mkdir(parents=True)
    words = ['tools/mmsam2', 'split_clips', str(tmp_path), '--num-holdout', '1']
    assert not imported_modules(*words) & HEAVY
    assert (tmp_path / 'ImageSets' / 'holdout.txt').read_text().count('\n') == 1


def test_choices_of_programs_are_those_of_the_package() -> None:
    # The programs spell them out, since importing these parts takes seconds.
    assert list(CHECKPOINT_KINDS) == [kind.value for kind in CheckpointKind]
    assert tuple(PROTOCOLS) == load_tool('eval_vos').PROTOCOL_NAMES
    assert tuple(LAYOUTS) == load_tool('pack_submission').LAYOUT_NAMES
    assert list(load_tool('vos_inference').GIVEN) == [kind.value for kind in GivenMasks]


def test_every_program_is_listed_with_a_description() -> None:
    lines = run('tools/mmsam2', '--help').stdout.splitlines()
    programs = [line.split(maxsplit=1) for line in lines if line.startswith('  ')]
    assert {'train', 'test', 'predict', 'dist_train', 'split_clips'} <= {
        words[0] for words in programs
    }
    assert all(len(words) == 2 for words in programs)


def test_unknown_program_is_refused_with_near_names() -> None:
    result = run('tools/mmsam2', 'trai')
    assert result.returncode == 1
    assert result.stderr == (
        'error: trai is no program of mmsam2; did you mean train? (mmsam2 --help)\n'
    )


@pytest.mark.parametrize(
    ('program', 'is_wheel', 'folder', 'command'),
    [
        ('tools/train.py', False, ROOT, 'python tools/report.py'),
        ('train.py', False, ROOT / 'tools', 'python report.py'),
        ('', False, ROOT / 'docs', f'python {ROOT / "tools" / "report.py"}'),
        ('mmsam2 train', False, ROOT, 'mmsam2 report'),
        ('train.py', True, ROOT, 'mmsam2 report'),
    ],
)
def test_other_tools_are_named_as_the_running_one_was(
    program: str,
    is_wheel: bool,
    folder: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', [program])
    monkeypatch.setattr(installation, 'IS_WHEEL', is_wheel)
    assert installation.tool_command('report') == command
