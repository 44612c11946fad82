"""The files of the container agree with each other, with the programs and the pages.

No container is built here. The entry point runs with stand-ins for what it asks.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from document_pages import check_program, tool_of_command
from projects.sam2.webdemo.server.security import OPEN_PATHS
from tool_modules import ROOT, load_tool

FOLDER = ROOT / 'docker'
DOCKERFILE = (FOLDER / 'Dockerfile').read_text('utf-8')
ENTRYPOINT = FOLDER / 'entrypoint'
PAGES = ('docs/how_to/docker.md', 'docs/how_to/team_demo.md')
PORT = 8092
# What the entry point is written in, beside bash's own commands.
PROGRAMS = ('awk', 'cat', 'id', 'mkdir', 'rm', 'stat')


def instructions(name: str, text: str = DOCKERFILE) -> list[str]:
    """Arguments of an instruction of the Dockerfile, in order."""
    joined = re.sub(r'\\\n\s*', ' ', re.sub(r'^#.*\n', '', text, flags=re.MULTILINE))
    return re.findall(rf'^{name} (.+)$', joined, re.MULTILINE)


def parse_yaml(text: str) -> Any:
    return yaml.load(text, yaml.SafeLoader)  # type: ignore[no-untyped-call]


def services() -> dict[str, dict[str, Any]]:
    """Services of compose.yml, with the defaults of its variables."""
    text = (FOLDER / 'compose.yml').read_text('utf-8')
    text = re.sub(r'\$\{\w+:-([^}]*)\}', r'\1', text)
    assert '${' not in text
    content: dict[str, dict[str, Any]] = parse_yaml(text)['services']
    return content


@pytest.mark.parametrize('name', services())
def test_containers_have_no_rights_that_they_do_not_need(name: str) -> None:
    service = services()[name]
    assert service['read_only'] is True
    assert service['cap_drop'] == ['ALL']
    assert 'no-new-privileges:true' in service['security_opt']
    assert 'privileged' not in service
    assert all(port.startswith('127.0.0.1:') for port in service.get('ports', ()))
    data, workspace = service['volumes']
    assert data.endswith(':/data:ro')
    assert workspace.endswith(':/workspace')
    (entry,) = service['tmpfs']
    assert ':size=' in entry
    needed = re.search(r'MIN_SHM_MB=(\d+)', ENTRYPOINT.read_text('utf-8'))
    assert needed is not None
    assert service['shm_size'] == '2gb'
    assert int(needed[1]) < 2048


def test_user_of_the_image_is_not_root() -> None:
    assert instructions('USER') == ['10001:10001']
    assert '--uid 10001' in DOCKERFILE


def test_version_of_torch_stands_in_the_requirements_alone() -> None:
    texts = [path.read_text('utf-8') for path in FOLDER.iterdir()]
    assert not [text for text in texts if re.search(r'torch==\d', text)]
    assert "grep '^torch==' requirements/core.txt" in DOCKERFILE
    assert re.search(
        r'^torch==\d', (ROOT / 'requirements/core.txt').read_text(), re.MULTILINE
    )


def demo_commands() -> list[list[str]]:
    """Commands that start the demo: of the image, and of compose's services."""
    command: list[str] = parse_yaml(instructions('CMD')[-1])
    by_compose = [
        shlex.split(service['command'])
        for service in services().values()
        if 'command' in service
    ]
    assert len(by_compose) == 2
    return [command, *by_compose]


@pytest.mark.parametrize('command', demo_commands())
def test_demo_listens_where_the_health_check_asks(command: list[str]) -> None:
    program, *arguments = command
    assert program == 'demo'
    options = load_tool('demo').parse_arguments(arguments)
    assert (options.host, options.port) == ('0.0.0.0', PORT)  # noqa: S104  compared
    assert options.no_browser
    assert options.root == [Path('/data')]
    assert options.sessions == Path('/workspace/demo')
    assert instructions('EXPOSE') == [str(PORT)]
    (check,) = instructions('HEALTHCHECK')
    address = re.search(rf'http://127\.0\.0\.1:{PORT}(/[\w/]+)', check)
    assert address is not None
    assert address[1] in OPEN_PATHS


def test_ports_of_compose_lead_to_the_demo() -> None:
    ports = [
        port for service in services().values() for port in service.get('ports', ())
    ]
    assert ports == [f'127.0.0.1:{PORT}:{PORT}'] * 2


def test_profiles_of_compose_name_one_service_each() -> None:
    profiles = [service['profiles'] for service in services().values()]
    assert sorted(profiles) == [['cpu'], ['gpu'], ['train'], ['train-gpu']]
    for service in services().values():
        is_gpu = service['profiles'][0].endswith('gpu')
        assert ('deploy' in service) is is_gpu
        assert (service.get('environment', {}).get('MMSAM2_DEVICE') == 'cuda') is is_gpu
        # Empty is PyPI, which has the builds for CUDA.
        assert bool(service['build']['args']['TORCH_INDEX_URL']) is not is_gpu


def is_sent(path: str) -> bool:
    """Whether the build sees a file of the repository.

    As Docker reads .dockerignore: the last pattern that fits a file or a folder above
    it counts.
    """
    lines = (ROOT / '.dockerignore').read_text('utf-8').splitlines()
    sent = True
    for line in (line for line in lines if line and not line.startswith('#')):
        pattern = line.removeprefix('!')
        parts = re.escape(pattern).replace(r'\*\*/', '(?:.*/)?').replace(r'\*', '[^/]*')
        if re.match(rf'{parts}(?:/|$)', path):
            sent = line.startswith('!')
    return sent


def test_build_sees_the_source_and_neither_data_nor_weights() -> None:
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        assert is_sent(name)
    assert is_sent('docs/weights/sam2_mini.pth')
    for folder in ('projects', 'configs', 'requirements', 'tools'):
        for file in (ROOT / folder).rglob('*'):
            if not {'__pycache__', 'node_modules'} & {*file.parts}:
                assert is_sent(file.relative_to(ROOT).as_posix()), file
    for path in (
        '.git/config',
        '.venv/bin/python',
        'checkpoints/sam2.1_hiera_tiny.pt',
        'data/clip.mp4',
        'docker/.env',
        'projects/sam2/webdemo/frontend/node_modules/vite/index.js',
        'projects/sam2/__pycache__/utils.cpython-311.pyc',
        'tests/conftest.py',
        'work_dirs/demo/session.json',
    ):
        assert not is_sent(path), path


# The entry point ----------------------------------------------------------------------


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """The only folder on the path: stand-ins and the programs of the entry point."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name) or name)
    write_program(folder / 'mmsam2', 'printf "started:"; printf " <%s>" "$@"')
    set_shared_memory(folder, 2048)
    return folder


def write_program(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/bash\n{text}\n', encoding='utf-8')
    path.chmod(0o755)


def set_shared_memory(bin_dir: Path, megabytes: int) -> None:
    table = f'Filesystem Blocks Used Available\\nshm 2048 0 {megabytes} 0% /dev/shm'
    write_program(bin_dir / 'df', f'echo -e "{table}"')


def start(
    tmp_path: Path, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    workspace = tmp_path / 'workspace'
    workspace.mkdir(exist_ok=True)
    return subprocess.run(
        ['/bin/bash', ENTRYPOINT, *words],
        cwd=workspace,
        env={
            'PATH': str(tmp_path / 'bin'),
            'TMPDIR': str(workspace / 'tmp'),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_program_gets_its_words_and_a_folder_for_temporary_files(
    tmp_path: Path, bin_dir: Path
) -> None:
    answer = start(tmp_path, 'train', 'my config.py', '--amp')
    assert (answer.stdout, answer.stderr) == (
        'started: <train> <my config.py> <--amp>',
        '',
    )
    assert [path.name for path in (tmp_path / 'workspace').iterdir()] == ['tmp']


@pytest.mark.parametrize(
    ('reason', 'remedy'),
    [
        ('Permission denied', f'uid {os.getuid()}.*chown -R {os.getuid()}'),
        ('Read-only file system', 'mount it without :ro'),
        ('No space left on device', 'is full; free some space'),
    ],
)
def test_workspace_that_cannot_be_written_is_named_with_the_remedy(
    tmp_path: Path, bin_dir: Path, reason: str, remedy: str
) -> None:
    text = f'echo "mkdir: cannot create directory \'tmp\': {reason}" >&2; exit 1'
    write_program(bin_dir / 'mkdir', text)
    answer = start(tmp_path, 'train', 'config.py')
    assert answer.returncode == 1
    assert answer.stdout == ''
    assert answer.stderr.startswith('error: ')
    assert str(tmp_path / 'workspace') in answer.stderr
    assert re.search(remedy, answer.stderr)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_folder_of_somebody_else_is_an_error(tmp_path: Path, bin_dir: Path) -> None:
    (tmp_path / 'workspace').mkdir(mode=0o555)
    answer = start(tmp_path, 'train', 'config.py')
    assert 'cannot be written by uid' in answer.stderr


@pytest.mark.parametrize('program', ['train', 'dist_train', 'test'])
def test_training_needs_shared_memory(
    tmp_path: Path, bin_dir: Path, program: str
) -> None:
    set_shared_memory(bin_dir, 64)
    answer = start(tmp_path, program, 'config.py')
    assert answer.returncode == 1
    assert 'has 64 MB free' in answer.stderr
    assert '--shm-size=2g' in answer.stderr
    # The other remedy that is named.
    (option,) = re.findall(r'train_dataloader\S+', answer.stderr)
    assert start(tmp_path, program, 'config.py', option).returncode == 0
    assert start(tmp_path, 'predict', 'clip.mp4').returncode == 0


def test_demo_starts_with_little_shared_memory_and_a_warning(
    tmp_path: Path, bin_dir: Path
) -> None:
    set_shared_memory(bin_dir, 64)
    answer = start(tmp_path, 'demo', '--no-browser')
    assert answer.stdout == 'started: <demo> <--no-browser>'
    assert 'warning: /dev/shm has 64 MB free' in answer.stderr


# Modules called torch, as the entry point finds them in an image.
TORCH = """\
from types import SimpleNamespace
import warnings
__version__ = '2.13.0'
version = SimpleNamespace(cuda={cuda!r})
def is_available():
    {answer}
cuda = SimpleNamespace(is_available=is_available)
"""
OLD_DRIVER = 'warnings.warn("The driver is too old"); return False'


def set_torch(tmp_path: Path, cuda: str | None, answer: str) -> None:
    folder = tmp_path / 'modules'
    folder.mkdir(exist_ok=True)
    (folder / 'torch.py').write_text(TORCH.format(cuda=cuda, answer=answer))
    start = f'PYTHONPATH="{folder}" exec "{sys.executable}" "$@"'
    write_program(tmp_path / 'bin' / 'python', start)


@pytest.mark.parametrize(
    ('cuda', 'answer', 'message'),
    [
        (None, 'return False', r'the CPU build of torch \(2\.13\.0\); build it with'),
        ('13.0', 'return False', r'torch for CUDA 13\.0 finds none; install a driver'),
        ('13.0', OLD_DRIVER, r'finds none \(The driver is too old\); install'),
        ('13.0', 'return True', None),
    ],
)
def test_missing_gpu_is_an_error_with_its_cause(
    tmp_path: Path, bin_dir: Path, cuda: str | None, answer: str, message: str | None
) -> None:
    set_torch(tmp_path, cuda, answer)
    words = ('train', 'config.py')
    result = start(tmp_path, *words, MMSAM2_DEVICE='cuda')
    if message is None:
        assert result.stdout == 'started: <train> <config.py>'
        return
    assert result.returncode == 1
    assert re.match(f'error: no GPU: .*{message}', result.stderr)
    # Nobody asked for a GPU.
    assert start(tmp_path, *words).returncode == 0


def test_help_needs_nothing(tmp_path: Path, bin_dir: Path) -> None:
    set_shared_memory(bin_dir, 0)
    write_program(bin_dir / 'mkdir', 'exit 1')
    assert start(tmp_path).stdout == 'started: <>'
    assert start(tmp_path, '--help').stdout == 'started: <--help>'


# The pages ----------------------------------------------------------------------------


def documented_commands(page: str) -> list[list[str]]:
    """Words of the commands of a page's bash blocks, without variables before them."""
    blocks = re.findall(r'^```bash\n(.*?)^```', (ROOT / page).read_text(), re.S | re.M)
    lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
    found = [re.sub(r'^(?:\w+=\S+ )+', '', line) for line in lines]
    return [shlex.split(line, comments=True) for line in found if line]


def test_compose_commands_of_the_page_name_services_and_programs_that_exist() -> None:
    own = services()
    commands = [
        words[2:]
        for words in documented_commands(PAGES[0])
        if words[:2] == ['docker', 'compose']
    ]
    assert len(commands) > 5
    for words in commands:
        while words[0].startswith('-'):
            assert words.pop(0) == '--profile'
            assert [words.pop(0)] in [service['profiles'] for service in own.values()]
        verb, *rest = words
        assert verb in {'up', 'build', 'run', 'down'}
        if verb == 'run':
            flag, service, program, *arguments = rest
            assert flag == '--rm'
            assert service in own
            check_program(tool_of_command(program), arguments)


@pytest.mark.parametrize('page', PAGES)
def test_options_of_the_demo_on_the_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    lines = re.findall(r'^MMSAM2_OPTIONS=(.+)$', text, re.MULTILINE)
    lines += [
        shlex.join(words[2:])
        for words in documented_commands(page)
        if words[:2] == ['mmsam2', 'demo']
    ]
    assert lines
    for line in lines:
        load_tool('demo').parse_arguments(shlex.split(line))
    table = re.findall(r'^\| `(--[\w-]+(?: [\w/]+)?)` \|', text, re.MULTILINE)
    for option in table:
        load_tool('demo').parse_arguments(
            [*option.split(), *['name'] * (option == '--allowed-host')]
        )


def test_messages_on_the_page_are_those_of_the_entry_point(
    tmp_path: Path, bin_dir: Path
) -> None:
    answers = []
    for cuda in (None, '13.0'):
        set_torch(tmp_path, cuda, 'return False')
        answers.append(start(tmp_path, 'train', MMSAM2_DEVICE='cuda').stderr)
    set_shared_memory(bin_dir, 64)
    answers.append(start(tmp_path, 'train').stderr)
    for reason in ('Read-only file system', 'Permission denied'):
        write_program(bin_dir / 'mkdir', f'echo "mkdir: tmp: {reason}" >&2; exit 1')
        answers.append(start(tmp_path, 'train').stderr)
    written = '\n'.join(answers).replace(str(tmp_path), '')
    written = written.replace(f'uid {os.getuid()}', 'uid 10001')
    table = re.findall(r'^\| `([^`]+)` \|', (ROOT / PAGES[0]).read_text(), re.MULTILINE)
    messages = [line for line in table if re.match(r'/|no GPU', line)]
    assert len(messages) == len(answers)
    for message in messages:
        assert re.search(re.escape(message).replace('…', '.*'), written), message


def test_variables_of_compose_are_on_the_page() -> None:
    text = (FOLDER / 'compose.yml').read_text('utf-8')
    variables = set(re.findall(r'\$\{(\w+)', text)) | {'MMSAM2_TOKEN'}
    page = (ROOT / PAGES[0]).read_text()
    assert variables == set(re.findall(r'^\| `([A-Z_0-9]+)` \|', page, re.MULTILINE))
    assert variables == set(re.findall(r'^#   ([A-Z_0-9]+) ', text, re.MULTILINE))
