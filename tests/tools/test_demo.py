"""``tools/demo.py``: what it refuses, where it listens, and how it ends."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from projects.sam2.webdemo.session.folder import list_sessions
from tool_modules import ROOT, failing_exit_code, load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('demo')


@contextmanager
def demo(*words: str) -> Iterator[tuple['subprocess.Popen[str]', str]]:
    """Run the program until the block ends; yields it and the address it printed."""
    command = [sys.executable, str(ROOT / 'tools' / 'demo.py'), *words, '--no-browser']
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r'http://\S+', line)
            assert match is not None, line + process.stdout.read()
            yield process, match[0]
        finally:
            process.kill()


def test_a_demo_ends_cleanly(tmp_path: Path) -> None:
    photos = []
    for index, folder in enumerate(('a', 'b')):
        photos.append(tmp_path / folder / 'photo.png')
        photos[-1].parent.mkdir()
        Image.new('RGB', (40 + index, 30)).save(photos[-1])
    sessions = tmp_path / 'sessions'
    words = [*map(str, photos), '--sessions', str(sessions), '--port', '0']
    with demo(*words) as (process, address):
        base, _, session = address.partition('#/sessions/')
        info = json.load(urllib.request.urlopen(f'{base}api/info'))  # noqa: S310
        assert info['roots'] == [str(Path.cwd())]
        (entry,) = json.load(urllib.request.urlopen(f'{base}api/sessions'))  # noqa: S310
        # Images of one name from two folders are one session.
        assert (entry['id'], entry['num_frames']) == (session, 2)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == 'Everything is saved.\n'
    (info_of,) = list_sessions(sessions)
    assert not info_of.crashed
    # The next start goes on with the same session.
    with demo(*words) as (process, address):
        assert address.endswith(session)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_another_address_demands_a_token(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('MMSAM2_TOKEN', raising=False)
    options = tool.parse_arguments([])
    assert tool.choose_token(options, is_local=True) is None
    tokens = {tool.choose_token(options, is_local=False) for _ in range(9)}
    assert len(tokens) == 9
    assert min(map(len, tokens)) >= 32
    monkeypatch.setenv('MMSAM2_TOKEN', 'x' * 16)
    assert tool.choose_token(options, is_local=True) == 'x' * 16
    for wrong in ('short', 'ü' * 20, 'a\n' * 20):
        options = tool.parse_arguments(['--token', wrong])
        with pytest.raises(ValueError, match='The token has'):
            tool.choose_token(options, is_local=True)


def test_the_options_of_the_server(tool: ModuleType) -> None:
    words = ['--host', '0.0.0.0', '--allowed-host', 'Sam.Example.org.']  # noqa: S104
    options = tool.build_options(tool.parse_arguments(words), 'token')
    assert options.host_names >= {'localhost', '127.0.0.1', '::1', 'sam.example.org'}
    assert socket.gethostname().lower() in options.host_names
    assert not {'0.0.0.0', ''} & options.host_names  # noqa: S104
    assert options.any_address
    assert options.max_upload_bytes == 8 * 2**30
    local = tool.build_options(tool.parse_arguments([]), None)
    assert not local.any_address
    with socket.socket() as opened:
        opened.bind(('127.0.0.1', 0))
        port = opened.getsockname()[1]
        words += ['--root-path', '/sam/']
        address = tool.describe_address(tool.parse_arguments(words), opened, 'a/b')
        assert address == f'http://localhost:{port}/sam/?token=a%2Fb'


def test_a_port_in_use_is_named_or_passed_over(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as used:
        used.bind(('127.0.0.1', 0))
        used.listen()
        port = used.getsockname()[1]
        with pytest.raises(OSError, match=f'Port {port} of 127.0.0.1 cannot be used'):
            tool.listen('127.0.0.1', port)
        monkeypatch.setattr(tool, 'PORT', port)
        with tool.listen('127.0.0.1', None) as opened:
            assert port < opened.getsockname()[1] < port + tool.NUM_PORTS
    with pytest.raises(OSError, match='is no address of this computer'):
        tool.listen('no.such.host.example', None)


@pytest.mark.parametrize(
    ('words', 'problem'),
    [
        (['none.mp4'], 'none.mp4: there is no such file'),
        (['--root', 'none'], '--root none: there is no such folder'),
        (['--checkpoint', 'none.pth', '--port', '0'], 'none.pth'),
        (['{file}', '--port', '0', '--device', 'cpu'], 'is not a video'),
    ],
)
def test_wrong_options_end_with_a_line(
    tool: ModuleType,
    words: list[str],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / 'text.mp4'
    file.write_text('no video')
    given = [word.format(file=file) for word in words]
    sessions = ['--sessions', str(tmp_path / 'sessions'), '--no-browser']
    assert failing_exit_code(tool, [*given, *sessions]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count('\n') == 1


def test_missing_packages_are_named(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, 'PACKAGES', ('starlette', 'no_such_package'))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'mmsam2\[demo\]'"):
        tool.check_packages()
