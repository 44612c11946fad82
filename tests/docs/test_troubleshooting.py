"""Messages that the documentation quotes are those of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tool_modules import ROOT

PAGE = ROOT / 'docs' / 'troubleshooting.md'
MESSAGE = re.compile(r'^\| (`.+?`(?:, `.+?`)*) \|', re.MULTILINE)
REDUCTION = (
    'Expected to have finished reduction in the prior iteration before starting a new '
    'one'
)
# Of Python, Debian, torch, OpenCV and MM, whose sources are not here.
THIRD_PARTY = {
    "No module named 'mmcv._ext'",
    "No module named 'pkg_resources'",
    'CUDA out of memory',
    'DataLoader worker … is killed by signal: Bus error',
    'DataLoader worker … is killed by signal: Killed',
    'EADDRINUSE',
    REDUCTION,
    'ImportError: libGL.so.1: cannot open shared object file',
    'MMCV==… is used but incompatible. Please install mmcv>=…',
    'SAM2 is not in the mmengine::model registry',
    'The NVIDIA driver on your system is too old',
    'Too many open files',
    'Watchdog caught collective operation timeout',
    'Weights only load failed',
    'address already in use',
    'ensurepip is not available',
    'libgthread-2.0.so.0: cannot open shared object file',
    'no kernel image is available for execution on the device',
    'unable to open shared memory object',
}


def templates(folder: Path) -> Iterator[str]:
    """Yield every text in the sources below a folder, with ``…`` for its values."""
    for path in folder.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            match node:
                case ast.Constant(value=str(text)):
                    yield text
                case ast.JoinedStr(values=values):
                    parts = (
                        str(part.value) if isinstance(part, ast.Constant) else '…'
                        for part in values
                    )
                    yield ''.join(parts)


@pytest.fixture(scope='module')
def sources() -> str:
    return '\n'.join(
        text for name in ('projects', 'tools') for text in templates(ROOT / name)
    )


def messages() -> list[str]:
    cells = MESSAGE.findall(PAGE.read_text(encoding='utf-8'))
    return [message for cell in cells for message in re.findall('`(.+?)`', cell)]


OURS = sorted(set(messages()) - THIRD_PARTY)


def test_page_quotes_messages_of_every_kind() -> None:
    assert len(OURS) > 30
    assert not THIRD_PARTY - set(messages())


@pytest.mark.parametrize('message', OURS)
def test_quoted_message_is_in_the_sources(message: str, sources: str) -> None:
    # A value in the source may be given as a word or left out as … on the page.
    fragments = [re.escape(part) for part in message.split('…') if part.strip()]
    assert re.search('[^\n]*?'.join(fragments), sources), message
