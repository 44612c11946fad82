"""Conventions of the repository that no linter checks."""

import ast
import importlib.util
import inspect
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import mmengine.registry
import pytest
from mmengine.config import Config
from mmengine.registry import Registry

from tool_modules import ROOT

PREFIXES = (
    'SAM2',
    'SAM3',
    'EdgeTAM',
    'EfficientTAM',
    'Clip',
    'Hiera',
    'Memory',
    'JF',
    'Masklet',
)
PUBLIC_HOSTS = {
    'annotate.example.org',
    'arxiv.org',
    'dl.fbaipublicfiles.com',
    'download.pytorch.org',
    'example.org',
    'github.com',
    'huggingface.co',
    'keepachangelog.com',
    'www.apache.org',
    'www.codabench.org',
}
MACHINE_PATH = re.compile(r'(?<![\w.$}<>*])/(?:work|home|root|mnt|Users|opt)/')
# Paths in documents: in backticks or as a link, from the repository root.
DOCUMENTED_PATH = re.compile(
    r'(?:\]\(|`|\s)((?:configs|docs|tests|tools|projects/sam2|requirements)/[\w./+-]*\w)'
)
# Code in Markdown: a block, or a span within a paragraph.
CODE = re.compile(r'^```\w*\n(.*?)^```|`([^`]+)`', re.DOTALL | re.MULTILINE)
# The first cell of a row, such as `model.rules.match_iou`, `prompts` or `every=4`.
OPTION_ROW = re.compile(r'^\| (`[^|]+) \|', re.MULTILINE)
GOLDEN_TEST = re.compile(r'pytest\.mark\.golden|^from golden_', re.MULTILINE)
TEXT_SUFFIXES = {'.py', '.md', '.toml', '.txt', '.sh', '.yaml', '.yml', '.cfg', ''}
IGNORED_FOLDERS = {
    'work_dirs',
    'data',
    'build',
    'dist',
    'golden',
    'golden_variants',
    'node_modules',
}
HIDDEN_FILES = {'.ci', '.gitignore', '.pre-commit-config.yaml'}

Setting = tuple[str, str]  # registered name and argument


def files(folder: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Yield path and content of every text file of the repository."""
    for path in sorted(folder.iterdir()):
        is_hidden = path.name.startswith('.') and path.name not in HIDDEN_FILES
        if path.name in IGNORED_FOLDERS or is_hidden or path.is_symlink():
            continue
        if path.is_dir():
            yield from files(path)
        elif path.suffix in TEXT_SUFFIXES:
            yield path.relative_to(ROOT).as_posix(), path.read_text('utf-8')


@pytest.fixture(scope='module')
def package() -> dict[str, str]:
    return dict(files(ROOT / 'projects'))


@pytest.fixture(scope='module')
def parts() -> dict[str, type]:
    """Classes of this project in MMEngine's registries, by registered name."""
    with warnings.catch_warnings(action='ignore'):  # of the other packages
        import_module('projects.sam2.bridges.mmdet')
        import_module('projects.sam2.bridges.mmseg')
    registries = vars(mmengine.registry).values()
    return {
        name: part
        for registry in registries
        if isinstance(registry, Registry)
        for name, part in registry.module_dict.items()
        if is_ours(part)
    }


def is_ours(part: Any) -> bool:
    """Whether a class is one of this project's package."""
    return inspect.isclass(part) and part.__module__.startswith('projects.sam2')


@pytest.fixture(scope='module')
def set_in_configs() -> set[Setting]:
    """The settings of all configs, with their bases."""

    def settings(node: object) -> Iterator[Setting]:
        if isinstance(node, dict):
            if isinstance(node.get('type'), str):
                yield from ((node['type'].rpartition('.')[2], key) for key in node)
            node = list(node.values())
        if isinstance(node, list | tuple):
            for entry in node:
                yield from settings(entry)

    configs = [
        Config.fromfile(path, import_custom_modules=False)
        for path in (ROOT / 'configs').rglob('*.py')
    ]
    return {setting for config in configs for setting in settings(dict(config))}


def set_in_documents() -> set[Setting]:
    """Return the settings of examples, ``Part(option=1)`` or the dict of it.

    Of a table of options, each option is one of each part that the page names.
    """
    settings = set()
    texts = [text for name, text in files() if name.endswith('.md')]
    for text in texts:
        parts = {w for w in re.findall(r'\w+', text) if w.startswith(PREFIXES)}
        options = {
            option
            for row in OPTION_ROW.findall(text)
            for option in re.findall(r'`(?:\w+\.)*(\w+)(?:=[^`]*)?`', row)
        }
        settings |= {(part, option) for part in parts for option in options}
    for block, span in (code for text in texts for code in CODE.findall(text)):
        try:
            tree = ast.parse((block or span).strip())
        except SyntaxError:
            continue
        for call in ast.walk(tree):
            if isinstance(call, ast.Call):
                values = {word.arg: word.value for word in call.keywords if word.arg}
                match values.get('type'):
                    case ast.Constant(value=str(name)):
                        pass
                    case _:
                        name = ast.unparse(call.func)
                settings |= {(name.rpartition('.')[2], option) for option in values}
    return settings


def set_in_golden_tests() -> set[Setting]:
    """Return the settings of golden tests: each part with each keyword of its file."""
    settings = set()
    for name, text in files(ROOT / 'tests'):
        if name.endswith('.py') and GOLDEN_TEST.search(text):
            parts = {w for w in re.findall(r'\w+', text) if w.startswith(PREFIXES)}
            options = {a or b for a, b in re.findall(r"(\w+)=|'(\w+)'", text)}
            settings |= {(part, option) for part in parts for option in options}
    return settings


def test_registered_names_begin_with_our_words(parts: dict[str, type]) -> None:
    assert len(parts) > 50
    assert not [name for name in parts if not name.startswith(PREFIXES)]


@pytest.mark.parametrize(
    ('package_name', 'known_name'),
    [
        ('mmengine', 'EpochBasedTrainLoop'),
        ('mmcv', 'RandomGrayscale'),
        ('mmdet', 'YouTubeVISDataset'),
        ('mmseg', 'LearningRateDecayOptimizerConstructor'),
    ],
)
def test_registered_names_are_free_in_other_packages(
    parts: dict[str, type], package_name: str, known_name: str
) -> None:
    # Read from the sources: much of mmdet and mmseg needs compiled operators.
    spec = importlib.util.find_spec(package_name)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (folder,) = spec.submodule_search_locations
    registration = re.compile(
        r'^@\w+\.register_module\((?P<arguments>[^)]*)\)\s+(?:@.*\s+)*'
        r'(?:class|def) (?P<name>\w+)',
        re.MULTILINE,
    )
    names: set[str] = set()
    for path in Path(folder).rglob('*.py'):
        for match in registration.finditer(path.read_text('utf-8', errors='replace')):
            names |= {
                match['name'],
                *re.findall(r'[\'"](\w+)[\'"]', match['arguments']),
            }
    assert known_name in names, 'the search finds nothing'
    assert not names & parts.keys()


def test_registered_constructors_take_known_keywords_only(
    parts: dict[str, type],
) -> None:
    # A misspelt option must raise an error, not disappear in **kwargs.
    positional = []
    for name, part in parts.items():
        owner, *bases = (base for base in part.__mro__ if '__init__' in vars(base))
        if not is_ours(owner):
            continue
        parameters = [*inspect.signature(part).parameters.values()]
        # Keywords that go on to a class which knows its own.
        varkw = inspect.getfullargspec(part).varkw
        if varkw and not inspect.getfullargspec(bases[0]).varkw:
            source = inspect.getsource(vars(owner)['__init__'])
            if re.search(rf'super\(\)\.__init__\([^)]*\*\*{varkw}\b', source):
                parameters = [p for p in parameters if p.name != varkw]
        positional += [
            f'{name}: {parameter}'
            for parameter in parameters
            if parameter.kind is not parameter.KEYWORD_ONLY
        ]
    assert not positional


def test_every_option_is_set_by_a_config_a_golden_test_or_an_example(
    parts: dict[str, type], set_in_configs: set[Setting]
) -> None:
    # What only other tests set is used by nobody.
    users = defaultdict(set)
    for name, part in parts.items():
        for option, parameter in inspect.signature(part).parameters.items():
            # The base class that introduced the option; it may be MMEngine's.
            *_, owner = (base for base in part.__mro__ if has_option(base, option))
            if parameter.default is not parameter.empty and is_ours(owner):
                users[owner.__name__, option].add((name, option))
    settings = set_in_configs | set_in_documents() | set_in_golden_tests()
    mmengine_sets = {('ClipSampler', 'seed'), ('ClipVideoSampler', 'seed')}
    unused = [user for user, any_of in users.items() if not any_of & settings]
    assert set(unused) <= mmengine_sets, 'make each a constant'


def has_option(class_: type, option: str) -> bool:
    """Whether the constructor of a class has an argument."""
    try:
        return option in inspect.signature(class_).parameters
    except ValueError:  # a builtin
        return False


def test_every_type_of_ours_in_a_config_is_registered(
    parts: dict[str, type], set_in_configs: set[Setting]
) -> None:
    types = {name for name, _ in set_in_configs if name.startswith(PREFIXES)}
    assert types
    # MMEngine has a few names that begin like ours.
    others = {
        name
        for registry in vars(mmengine.registry).values()
        if isinstance(registry, Registry)
        for name in registry.module_dict
    }
    assert not types - parts.keys() - others


def test_configs_have_docstrings_and_take_custom_imports_from_a_base() -> None:
    texts = {k: v for k, v in files(ROOT / 'configs') if k.endswith('.py')}
    assert not [name for name, text in texts.items() if not text.startswith('"""')]
    imports = {name for name, text in texts.items() if '\ncustom_imports =' in text}
    # Stock configs that set custom_imports themselves: two bases may not set one key.
    stock = {name for name in imports if re.search('# The stock config', texts[name])}
    assert imports - stock == {
        'configs/_base_/default_runtime.py',
        'configs/_base_/mmdet/custom_imports.py',
        'configs/_base_/mmseg/custom_imports.py',
    }


def test_only_layers_read_self_training(package: dict[str, str]) -> None:
    # Training and evaluation differ in the config, and otherwise in dropout only.
    names = [
        name for name, text in package.items() if re.search(r'self\.training\b', text)
    ]
    assert not [name for name in names if '/models/layers/' not in name]


def test_no_file_names_a_machine() -> None:
    leaks = []
    for name, text in files():
        if name != 'tests/test_conventions.py':
            lines = enumerate(text.splitlines(), start=1)
            leaks += [f'{name}:{n}' for n, line in lines if MACHINE_PATH.search(line)]
            hosts = re.findall(r'https?://([\w-]+\.[\w.-]+)', text)
            known = {*PUBLIC_HOSTS, '127.0.0.1'}
            leaks += [f'{name}: {host}' for host in hosts if host not in known]
    assert not leaks


def test_documents_name_only_files_that_exist() -> None:
    documents = {name: text for name, text in files() if name.endswith('.md')}
    del documents[
        'docs/habits.md'
    ]  # it names programs of mmsegmentation and mmdetection
    assert not [
        f'{name}: {path}'
        for name, text in documents.items()
        for path in DOCUMENTED_PATH.findall(text)
        if not (ROOT / path).exists()
    ]
