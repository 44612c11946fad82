"""The code on README and on every page of the documentation runs."""

import ast
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from document_pages import (
    PageRun,
    check_command,
    check_parts,
    commands,
    pages,
    parse_page,
    program_of,
    small_configs,
    write_workspace,
)
from exported_models import exported_mini
from tool_modules import ROOT

COMMAND = re.compile(
    r'(?<!`)`((?:mmsam2 \w+|python tools/[\w/]+\.py|tools/\w+\.sh) [^`…]+)`'
)
SPAN = re.compile(r'(?<!`)`(dict\([^`]+\))`')


@pytest.fixture(scope='module')
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('pages') / 'workspace'
    folder.mkdir()
    write_workspace(folder)
    (folder / 'exported').mkdir()
    (folder / 'exported' / 'mini').symlink_to(exported_mini(tmp_path_factory))
    return folder


# mmdet and mmseg import names that have moved within mmcv.
@pytest.mark.filterwarnings('ignore::ImportWarning')
@pytest.mark.parametrize('name', pages())
def test_code_of_page_runs(
    name: str,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / 'reader'
    shutil.copytree(workspace, folder, symlinks=True)
    monkeypatch.chdir(folder)
    # Modules that a page writes, for the custom_imports of its configs.
    monkeypatch.syspath_prepend(folder)
    with small_configs():
        PageRun().run(name)
    for module, content in [*sys.modules.items()]:  # those of the page
        if str(getattr(content, '__file__', '')).startswith(str(folder)):
            del sys.modules[module]


def test_most_blocks_run_and_the_others_say_why() -> None:
    examples = [example for name in pages() for example in parse_page(ROOT / name)]
    reasons = [
        example.parsed
        for example in examples
        if example.region.lexemes.get('directive') == 'not run'
    ]
    # Needs something that no test has: a camera, a cluster, gigabytes or hours.
    assert all(re.match(r'needs |renders |takes |shows ', text) for text in reasons)
    assert len(reasons) < 0.25 * (len(examples) - len(reasons))


@pytest.mark.parametrize(
    ('block', 'error'),
    [
        ('```python\nbuild_sam3()\n```', 'build_sam3'),
        ("```python\ndict(type='ClipColourJitter')\n```", 'ClipColourJitter'),
        ("```python\ndict(type='JFMetric', out_dri='x')\n```", 'out_dri'),
        ("```python\n_base_ = './sam2_nano.py'\n```", 'sam2_nano'),
        ('```bash\npython tools/tracking.py CONFIG\n```', 'tracking'),
        ('```bash\npython tools/train.py CONFIG --fast\n```', 'SystemExit: 2'),
        ('```bash\npython tools/train.py configs/none.py\n```', 'none.py'),
        ('```bash\ntools/dist_train.sh configs/none.py 8\n```', 'none.py'),
        ('```bash\ntools/dist_train.sh CONFIG 8 --fast\n```', 'SystemExit: 2'),
        ('```bash\nbash tools/none.sh\n```', 'none.sh'),
        ('```bash\nmake\n```', 'make'),
        ('```bash\nmmsam2 trains CONFIG\n```', 'trains'),
        (
            '<!-- not run: needs a day -->\n```bash\npython tools/train.py\n```',
            'SystemExit: 2',
        ),
        ('<!-- not run: needs a day -->\n', 'no block follows'),
    ],
)
def test_broken_block_is_an_error_with_its_line(
    block: str,
    error: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = workspace / 'page.md'
    page.write_text(f'# A page\n\n{block}\n', encoding='utf-8')
    monkeypatch.chdir(workspace)
    with small_configs(), pytest.raises(AssertionError, match=error):
        PageRun().run(str(page))


def test_parts_in_the_text_of_pages_exist_with_their_options() -> None:
    for package in ('mmdet', 'mmseg'):  # register the parts that need them
        pytest.importorskip(package)
        import_module(f'projects.sam2.bridges.{package}')
    spans = [
        span for name in pages() for span in SPAN.findall((ROOT / name).read_text())
    ]
    assert len(spans) > 10
    for span in spans:
        check_parts(ast.parse(span.replace('<source>', 'None')))


@pytest.mark.parametrize('name', ['README.md', 'docs/start.md'])
def test_commands_in_the_text_of_a_page_exist_with_their_options(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    spans = COMMAND.findall((ROOT / name).read_text())
    assert spans
    for words in (words for span in spans for words in commands(span)):
        check_command(*program_of(words))
