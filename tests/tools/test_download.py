"""The tool that downloads weights by name."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from address_server import AddressServer, serve
from projects.sam2.checkpoints import released
from projects.sam2.checkpoints.released import ReleasedWeights, find_file
from projects.sam2.ops import fetching
from tool_modules import failing_exit_code, load_tool

NAME, FILE = 'sam2.1_hiera_tiny', 'sam2.1_hiera_tiny.pt'
CONTENT = b'weights of tiny'
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool in an empty working directory; small files are the released ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('SAM2_CHECKPOINTS', str(tmp_path / 'weights'))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(fetching, 'PAUSE_SECONDS', 0.0)
    table = [
        ReleasedWeights(version='2.1', size=size, num_bytes=len(content), sha256=digest)
        for size, content in (('tiny', CONTENT), ('small', CONTENT[::-1]))
        for digest in [hashlib.sha256(content).hexdigest()]
    ]
    monkeypatch.setattr(released, 'RELEASED', tuple(table))
    return load_tool('download')


@pytest.fixture
def server() -> Iterator[AddressServer]:
    answers = {FILE: CONTENT, 'sam2.1_hiera_small.pt': CONTENT[::-1], 'own.pt': b'own'}
    with serve(answers) as running:
        yield running


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_names_are_downloaded_once_and_found_by_name(
    tool: ModuleType,
    server: AddressServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ['sam2.1_hiera_t', 'facebook/sam2.1-hiera-small', FILE]
    tool.main([*names, '--mirror', server.url])
    printed = capsys.readouterr().out
    path = tmp_path / 'weights' / FILE
    assert f'{path}: 0.0 MB, SHA-256 {SHA256}' in printed
    assert path.read_bytes() == CONTENT
    assert find_file(f'checkpoints/{FILE}') == path
    tool.main([*names, '--mirror', server.url])
    assert f'{path} exists' in capsys.readouterr().out
    assert server.requested == [FILE, 'sam2.1_hiera_small.pt']
    tool.main([NAME, '--mirror', server.url, '--out', 'here', '--force'])
    assert files(Path('here')) == [FILE]


def test_config_means_the_weights_it_starts_from(
    tool: ModuleType, server: AddressServer, tmp_path: Path
) -> None:
    for config in ('sam2_tiny_mose', 'sam2_tiny_mose.py'):
        assert tool.find_weights(config).name == NAME
    tool.main(['sam2_tiny_images', '--mirror', server.url])
    assert files(tmp_path / 'weights') == [FILE]
    with pytest.raises(ValueError, match='starts from random weights'):
        tool.find_weights('sam2_mini_synthetic')


def test_mirror_comes_from_the_environment(
    tool: ModuleType, server: AddressServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('SAM2_MIRROR', server.url)
    tool.main([NAME])
    assert server.requested == [FILE]


def test_file_of_an_address_is_trusted_when_told_so(
    tool: ModuleType,
    server: AddressServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f'{server.url}own.pt'
    assert failing_exit_code(tool, ['--url', url]) == 2
    assert 'No SHA-256 is known for' in capsys.readouterr().err
    assert files(tmp_path / 'weights') == []
    tool.main(['--url', url, '--trust-first'])
    tool.main(['--url', url, '--out', 'again'])
    server.answers['own.pt'] = b'changed'
    assert failing_exit_code(tool, ['--url', url, '--out', 'changed']) == 2
    assert 'was written down in' in capsys.readouterr().err
    assert files(tmp_path / 'changed') == []
    # The hash of a released file is known at any address.
    server.answers[FILE] = CONTENT.upper()
    command = ['--url', server.url + FILE, '--trust-first']
    assert failing_exit_code(tool, command) == 2
    assert f'but {SHA256} is expected' in capsys.readouterr().err
    digest = hashlib.sha256(CONTENT.upper()).hexdigest()
    tool.main([*command, '--sha256', digest.upper()])
    assert (tmp_path / 'weights' / FILE).read_bytes() == CONTENT.upper()


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        ([], 'give a NAME'),
        ([NAME, '--url', 'http://127.0.0.1/a.pt'], 'takes no NAME'),
        ([NAME, 'sam2.1_hiera_small', '--sha256', SHA256], 'the hash of one file'),
        ([NAME, '--sha256', 'abc'], "'abc' is not 64 hexadecimal digits"),
        ([NAME, 'sam2.1_hiera_tinny'], f'similar names: {NAME}'),
        (['work_dirs/none.py'], 'it is not a config'),
        (['sam3'], 'hf download facebook/sam3'),
        (['sam3_tracker_mose'], 'hf download facebook/sam3'),
        ([NAME, '--mirror', '/srv/weights'], 'is not a web address'),
        ([NAME, '--mirror', 'http://127.0.0.1:9'], 'Connection refused'),
        (['--url', 'http://127.0.0.1/', '--trust-first'], 'names no file'),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tool: ModuleType,
    command: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failing_exit_code(tool, command) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in line
    assert files(tmp_path / 'weights') == []


def test_missing_network_names_the_mirror(
    tool: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(released, 'RELEASE_URL', 'http://127.0.0.1:9')
    assert failing_exit_code(tool, [NAME]) == 2
    assert 'A mirror is given by --mirror or SAM2_MIRROR' in capsys.readouterr().err


def test_list_says_where_the_files_are(
    tool: ModuleType,
    server: AddressServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool.main([NAME, '--mirror', server.url])
    capsys.readouterr()
    tool.main(['--list'])
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith(NAME))
    assert SHA256[:12] in row
    assert row.endswith(str(tmp_path / 'weights' / FILE))
    assert next(line for line in lines if 'small' in line).endswith('-')
