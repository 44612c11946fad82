"""The set-up chooses system packages and the index of torch; stand-ins are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'setup_env.sh'
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
HAS_DRIVER = (
    any(map(os.path.exists, ('/proc/driver/nvidia/version', '/dev/nvidiactl')))
    or shutil.which('nvidia-smi') is not None
)
PROGRAMS = [
    'bash',
    'cat',
    'dirname',
    'env',
    'ls',
    'mktemp',
    'mv',
    'rm',
    'sha256sum',
    'tail',
    'uname',
]
# Python 3.11 as on a bare Debian: no ensurepip, no libraries; `-m venv` fails.
BARE_PYTHON = """\
case "$*" in
  *'(3, 10) <='*) exit 0 ;;
  *%d.%d*) echo 3.11 ;;
  *) exit 1 ;;
esac
"""
# A complete environment, except that the index of CPU builds does not answer.
COMPLETE_PYTHON = """\
echo "$@" >> "$CALLS"
case "$*" in *download.pytorch.org*) exit "$CPU_INDEX_FAILS" ;; esac
"""


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """The only folder on the path: stand-ins and what the script is written in."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/bash\n{text}')
    path.chmod(0o755)


def set_up(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tmp_path / 'bin' / 'bash', SCRIPT],
        env={
            'PATH': str(tmp_path / 'bin'),
            'VENV': str(tmp_path / 'venv'),
            'CALLS': str(tmp_path / 'calls'),
            'CPU_INDEX_FAILS': '0',
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason='apt-get is called by root only')
def test_missing_system_packages_are_installed_without_noise(
    tmp_path: Path, bin_dir: Path
) -> None:
    write_program(bin_dir / 'python3.11', BARE_PYTHON)
    write_program(bin_dir / 'apt-get', 'echo noise\necho "$@" >> "$CALLS"\n')
    answer = set_up(tmp_path)
    update, install = (tmp_path / 'calls').read_text().splitlines()
    assert update.startswith('update')
    assert install.split()[:2] == ['install', '-y']
    assert {'python3.11-venv', 'libgl1', 'libglib2.0-0'} <= set(install.split())
    assert 'noise' not in answer.stdout + answer.stderr
    assert 'installing the system packages python3.11-venv libgl1' in answer.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason='apt-get is called by root only')
def test_failure_of_apt_shows_why_and_the_command(
    tmp_path: Path, bin_dir: Path
) -> None:
    write_program(bin_dir / 'python3.11', BARE_PYTHON)
    write_program(bin_dir / 'apt-get', 'echo no network; exit 100\n')
    answer = set_up(tmp_path)
    assert answer.returncode == 1
    assert 'no network' in answer.stderr
    assert 'apt-get install -y --no-install-recommends python3.11-venv' in answer.stderr


def test_nothing_is_installed_where_nothing_is_missing(
    tmp_path: Path, bin_dir: Path
) -> None:
    write_program(tmp_path / 'venv' / 'bin' / 'python', COMPLETE_PYTHON)
    write_program(bin_dir / 'apt-get', 'echo apt-get >> "$CALLS"\n')
    assert set_up(tmp_path).returncode == 0
    assert 'apt-get' not in (tmp_path / 'calls').read_text()


def torch_installs(tmp_path: Path) -> list[str]:
    """Arguments of the calls of pip that install torch alone."""
    calls = (tmp_path / 'calls').read_text().splitlines()
    return [
        c for c in calls if 'pip install' in c and c.split()[-1].startswith('torch==')
    ]


@pytest.mark.skipif(HAS_DRIVER, reason='a GPU gets the other build')
@pytest.mark.parametrize('fails', ['0', '1'])
def test_torch_comes_from_the_cpu_index_if_it_answers(
    tmp_path: Path, bin_dir: Path, fails: str
) -> None:
    write_program(tmp_path / 'venv' / 'bin' / 'python', COMPLETE_PYTHON)
    answer = set_up(tmp_path, CPU_INDEX_FAILS=fails)
    assert answer.returncode == 0, answer.stderr
    first, *others = torch_installs(tmp_path)
    assert f'--index-url {CPU_INDEX}' in first
    assert len(others) == int(fails)
    assert not any('--index-url' in call for call in others)


def test_torch_index_url_is_obeyed(tmp_path: Path, bin_dir: Path) -> None:
    write_program(tmp_path / 'venv' / 'bin' / 'python', COMPLETE_PYTHON)
    assert set_up(tmp_path, TORCH_INDEX_URL='https://mirror/cu').returncode == 0
    (call,) = torch_installs(tmp_path)
    assert '--index-url https://mirror/cu' in call
