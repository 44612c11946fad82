"""What no linter knows: the conventions of this repository, held by tests."""

import ast
import re
from pathlib import Path

import pytest

from part_options import Classes
from source_tree import (
    ROOT,
    Registered,
    Source,
    configs,
    constructor,
    names_registered_by,
    python_files,
    registered,
    set_in_configs,
    text_files,
)

PREFIXES = ('SAM2', 'Clip', 'Hiera', 'Memory', 'JF', 'Masklet')
MAX_ARGUMENTS = 12  # a source of clips has those of all sources and its own
PUBLIC_HOSTS = {
    'arxiv.org',
    'dl.fbaipublicfiles.com',
    'download.pytorch.org',
    'example.org',
    'github.com',
    'keepachangelog.com',
    'www.apache.org',
}
MACHINE_PATH = re.compile(r'(?<![\w.$}<>*])/(?:work|home|root|mnt|Users|opt)/')
# Paths that docs name: in backticks or as a link, from the repository root.
NAMED_PATH = re.compile(
    r'(?:\]\(|`|\s)((?:configs|docs|tests|tools|projects/sam2|requirements)/[\w./+-]*\w)'
)
BAD_CLASS = """
@MODELS.register_module(name='Nice')
class Bad(Base):
    def __init__(self, first, *, wanted=1, unset=2, **kwargs):
        assert first
        self.training = first
"""


@pytest.fixture(scope='module')
def package() -> list[Source]:
    return python_files('projects')


@pytest.fixture(scope='module')
def parts(package: list[Source]) -> list[Registered]:
    return [part for source in package for part in registered(source)]


@pytest.fixture
def bad() -> Source:
    return Source('projects/sam2/models/bad.py', BAD_CLASS)


def bad_constructors(sources: list[Source]) -> list[str]:
    """Constructors with ``**kwargs`` or with too many arguments, inherited ones too."""
    found = []
    for source in sources:
        for node in source.nodes:
            init = constructor(node)
            if init is None:
                continue
            count = len(init.args.args) - 1 + len(init.args.kwonlyargs)
            if init.args.kwarg is not None or count > MAX_ARGUMENTS:
                found.append(f'{source.name}:{init.lineno}')
    classes = Classes(sources)
    return found + [
        part.place
        for source in sources
        for part in registered(source)
        if len(classes.arguments(part.symbol)) > MAX_ARGUMENTS
    ]


def reads_of_training(source: Source) -> list[str]:
    """Places where a file asks ``self.training``."""
    return [
        f'{source.name}:{node.lineno}'
        for node in source.nodes
        if isinstance(node, ast.Attribute)
        and node.attr == 'training'
        and isinstance(node.value, ast.Name)
        and node.value.id == 'self'
    ]


def asserts(source: Source) -> list[str]:
    """Places where a file asserts."""
    return [
        f'{source.name}:{node.lineno}'
        for node in source.nodes
        if isinstance(node, ast.Assert)
    ]


def test_constructors_are_closed_and_short(package: list[Source]) -> None:
    assert not bad_constructors(package)


def test_an_open_constructor_is_found(bad: Source) -> None:
    assert bad_constructors([bad]) == ['projects/sam2/models/bad.py:4']


def test_fields_of_a_dataclass_and_its_bases_are_arguments() -> None:
    fields = ''.join(f'    f{i}: int = 0\n' for i in range(MAX_ARGUMENTS))
    source = Source(
        'bad.py',
        f'@dataclass(kw_only=True)\nclass Base:\n{fields}\n'
        '@MODELS.register_module()\n@dataclass\nclass Two(Base):\n    own: int\n',
    )
    assert bad_constructors([source]) == [f'bad.py:{MAX_ARGUMENTS + 6}']
    assert [part.positional for part in registered(source)] == [('own',)]


def test_registered_constructors_take_keywords_only(parts: list[Registered]) -> None:
    assert not [f'{part.place}: {part.positional}' for part in parts if part.positional]


def test_custom_imports_stand_in_one_file() -> None:
    found = [s.name for s in python_files('configs') if 'custom_imports' in s.text]
    assert found == ['configs/_base_/default_runtime.py']


def test_every_config_begins_with_a_docstring() -> None:
    silent = [
        source.name
        for source in python_files('configs')
        if not source.text.startswith('"""')
    ]
    assert not silent


def test_every_type_of_ours_in_a_config_is_registered(parts: list[Registered]) -> None:
    known = {part.name for part in parts}
    used = {kind for kind, _ in set_in_configs() if kind.startswith(PREFIXES)}
    # MMEngine has a few names that begin like ours.
    assert not used - known - names_registered_by('mmengine')
    assert configs()


def test_only_layers_ask_whether_they_train(package: list[Source]) -> None:
    layers = 'projects/sam2/models/layers/'
    others = [source for source in package if not source.name.startswith(layers)]
    assert not [place for source in others for place in reads_of_training(source)]


def test_a_read_of_training_and_an_assert_are_found(bad: Source) -> None:
    assert reads_of_training(bad) == [f'{bad.name}:6']
    assert asserts(bad) == [f'{bad.name}:5']


def test_the_package_asserts_nothing(package: list[Source]) -> None:
    assert not [place for source in package for place in asserts(source)]


def test_registered_names_begin_with_our_words(parts: list[Registered]) -> None:
    assert parts
    assert not [part.place for part in parts if not part.name.startswith(PREFIXES)]


def test_registered_names_are_registered_once(parts: list[Registered]) -> None:
    names = [part.name for part in parts]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    ('other', 'one_of_its_names'),
    [
        ('mmengine', 'EpochBasedTrainLoop'),
        ('mmcv', 'RandomGrayscale'),
        ('mmdet', 'YouTubeVISDataset'),
        ('mmseg', 'LearningRateDecayOptimizerConstructor'),
    ],
)
def test_registered_names_are_nobody_elses(
    parts: list[Registered], other: str, one_of_its_names: str
) -> None:
    taken = names_registered_by(other)
    assert one_of_its_names in taken, 'the search itself finds nothing'
    assert not taken.intersection(part.name for part in parts)


def test_hooks_run_the_tools_of_whatever_environment_is_active() -> None:
    (hooks,) = [t for name, t in text_files() if name == '.pre-commit-config.yaml']
    assert set(re.findall(r'entry: (\S+)', hooks)) == {'ruff', 'bash'}


def test_no_file_names_a_machine() -> None:
    leaks = []
    for name, text in text_files():
        lines = enumerate(text.splitlines(), start=1)
        leaks += [f'{name}:{n}' for n, line in lines if MACHINE_PATH.search(line)]
        hosts = re.findall(r'https?://([^/\s\'"`)>]+)', text)
        leaks += [f'{name}: {host}' for host in hosts if host not in PUBLIC_HOSTS]
    this = Path(__file__).relative_to(ROOT).as_posix()
    assert not [leak for leak in leaks if not leak.startswith(this)]


@pytest.mark.parametrize(
    ('text', 'leaks'),
    [
        ('/home/someone/clips', True),
        ("'/work/data'", True),
        ('../shared/data', False),
        ('<your>/root/of/clips', False),
        ('tools/work/x.py', False),
    ],
)
def test_machine_paths_are_told_from_relative_ones(*, text: str, leaks: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is leaks


def test_documents_name_only_files_that_exist() -> None:
    documents = {n: t for n, t in text_files() if n.endswith('.md')}
    missing = [
        f'{name}: {path}'
        for name, text in documents.items()
        for path in NAMED_PATH.findall(text)
        if not (ROOT / path).exists()
    ]
    assert documents
    assert not missing
