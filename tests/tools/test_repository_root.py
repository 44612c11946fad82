"""Tools use the ``projects`` beside them, or say what is in the way."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = (
    'import sys, repository_root\n'
    'repository_root.use_repository_root()\n'
    'print(sys.path[0])\n'
)


def call(
    folder: Path, path: list[Path], code: str = CODE
) -> subprocess.CompletedProcess[str]:
    """Call the check in a process of its own."""
    return subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=folder,
        env={'PYTHONPATH': ':'.join(map(str, [*path, ROOT / 'tools']))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def other_project(tmp_path: Path) -> Path:
    """Another repository with a regular package called ``projects``."""
    (tmp_path / 'projects').mkdir()
    (tmp_path / 'projects' / '__init__.py').touch()
    return tmp_path


def test_another_package_in_the_way_is_named(other_project: Path) -> None:
    answer = call(other_project, [other_project])
    assert answer.returncode == 1
    assert f'resolves to {other_project}/projects/__init__.py' in answer.stderr
    assert 'another package called "projects" is in the way' in answer.stderr
    assert 'Traceback' in answer.stderr


def test_error_names_the_expected_path(other_project: Path) -> None:
    answer = call(other_project, [other_project])
    assert f'should come from {ROOT}/projects/sam2/__init__.py' in answer.stderr


def test_configs_of_a_program_may_use_the_installed_name(tmp_path: Path) -> None:
    code = (
        f'{CODE}'
        'from mmsam2 import installation as other\n'
        'from projects.sam2 import installation\n'
        'assert other is installation\n'
    )
    answer = call(tmp_path, [], code)
    assert answer.returncode == 0, answer.stderr
