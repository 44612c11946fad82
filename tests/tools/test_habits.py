"""Programs have the options of mmdetection's and mmsegmentation's, or a reason."""

import ast
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config.utils import _get_cfg_metainfo
from mmengine.fileio import load

from projects.sam2.checkpoints.released import released_weights
from projects.sam2.version import __version__
from tool_modules import ROOT, TOOLS

PAGE = (ROOT / 'docs' / 'habits.md').read_text(encoding='utf-8')
# Programs of the other projects, and ours that takes their options.
PROGRAMS = {
    'train.py': 'train.py',
    'test.py': 'test.py',
    'misc/print_config.py': 'misc/print_config.py',
    'misc/browse_dataset.py': 'analysis_tools/browse_dataset.py',
    'analysis_tools/browse_dataset.py': 'analysis_tools/browse_dataset.py',
    'analysis_tools/analyze_logs.py': 'analysis_tools/analyze_logs.py',
    'analysis_tools/get_flops.py': 'analysis_tools/get_flops.py',
}
# Options that the page gives a reason for.
LEFT_OUT = {
    'misc/print_config.py': {'--options'},
    'misc/browse_dataset.py': {'--show-interval'},
    'analysis_tools/browse_dataset.py': {'--show-interval'},
    'analysis_tools/analyze_logs.py': {
        '--style',
        '--backend',
        '--start-epoch',
        '--eval-interval',
    },
    'analysis_tools/get_flops.py': {'--num-images'},
}
RUN_OPTIONS = {'--work-dir', '--cfg-options', '--launcher', '--local-rank'}


def _options(path: Path) -> set[str]:
    """Options in the calls of a program's source, without underscores."""
    words: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call):
            called = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            if called in {'add_argument', 'add'}:
                values = [
                    arg.value for arg in node.args if isinstance(arg, ast.Constant)
                ]
                words |= {str(v).replace('_', '-') for v in values}
            words |= RUN_OPTIONS if called == 'add_run_arguments' else set()
            words |= {'--cfg-options'} if called == 'add_cfg_options' else set()
    return {word for word in words if word.startswith('--')}


@pytest.mark.parametrize('project', ['mmseg', 'mmdet'])
@pytest.mark.parametrize('program', PROGRAMS)
def test_options_are_those_of_the_other_project(project: str, program: str) -> None:
    spec = find_spec(project)
    if spec is None or spec.origin is None:
        pytest.skip(f'{project} is not installed')
    theirs = Path(spec.origin).parent / '.mim' / 'tools' / program
    if not theirs.is_file():
        pytest.skip(f'{project} has no {program}')
    missing = _options(theirs) - _options(TOOLS / PROGRAMS[program])
    assert missing <= LEFT_OUT.get(program, set())
    for option in missing:
        assert f'`{option}`' in PAGE, f'the page has no reason for {option}'


@pytest.mark.parametrize('project', ['mmseg', 'mmdet'])
def test_page_names_each_program_of_the_other_project(project: str) -> None:
    spec = find_spec(project)
    if spec is None or spec.origin is None:
        pytest.skip(f'{project} is not installed')
    tools = Path(spec.origin).parent / '.mim' / 'tools'
    common = {'train', 'test', 'browse_dataset', 'analyze_logs', 'get_flops'}
    common |= {'confusion_matrix', 'benchmark', 'print_config', 'publish_model'}
    theirs = {path.stem for path in tools.rglob('*.py')} & common
    assert theirs
    for name in theirs:
        assert f'{name}.py' in PAGE


def test_programs_that_the_page_names_exist() -> None:
    column = [line.split('|')[2] for line in PAGE.splitlines() if line.count('|') > 3]
    named = {name for cell in column for name in re.findall(r'`(tools/[\w/.]+)`', cell)}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_mmengine_reads_the_index_of_configs(tmp_path: Path) -> None:
    # As setup.py lays out the wheel.
    mim = tmp_path / '.mim'
    shutil.copytree(ROOT / 'configs', mim / 'configs')
    index = mim / 'configs' / 'model-index.yml'
    index = index.rename(mim / 'model-index.yml')
    listed = set()
    for metafile in load(str(index))['Import']:
        for model in load(str(mim / metafile))['Models']:
            listed.add(model['Config'])
            name = model['Config'].removeprefix('configs/')
            found = _get_cfg_metainfo(str(tmp_path), name)
            assert found['Name'] == model['Name']
    configs = {f'configs/{path.name}' for path in (ROOT / 'configs').glob('*.py')}
    released = {
        f'configs/_base_/models/{path.name}'
        for pattern in ('sam2_[01]_*.py', 'efficienttam_*.py', 'edgetam.py')
        for path in (ROOT / 'configs' / '_base_' / 'models').glob(pattern)
        if 'mini' not in path.name
    }
    assert listed == configs | released


def test_weights_of_the_index_are_the_released_files() -> None:
    num_files = 0
    for path in (ROOT / 'configs' / 'metafiles').glob('*.yml'):
        for model in load(str(path))['Models']:
            if 'Weights' not in model:
                continue
            released = released_weights(model['Name'])
            assert released is not None
            assert model['Weights'] == released.url
            assert model['Config'] == f'configs/{released.config}'
            num_files += 1
    assert num_files >= 16


def test_files_of_the_release_name_the_version() -> None:
    citation = load(str(ROOT / 'CITATION.cff'), file_format='yaml')
    assert citation['version'] == __version__
    for path in (ROOT / 'configs' / 'metafiles').glob('*.yml'):
        for collection in load(str(path))['Collections']:
            assert collection['Code']['Version'] == __version__
