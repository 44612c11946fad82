"""What no linter knows: the conventions of this repository, held by tests."""

import ast
import re
from pathlib import Path

import pytest

from source_tree import (
    ROOT,
    Registered,
    Source,
    configs,
    constructor,
    has_logic,
    names_registered_by,
    python_files,
    registered,
    set_in_configs,
    text_files,
    words_in,
)

PREFIXES = ('SAM2', 'Clip', 'Hiera', 'Memory', 'JF', 'Masklet')
MAX_LINES = 300
MAX_ARGUMENTS = 10
TESTS_PER_CODE = 0.8
# MMEngine hands these to any model or part of one; no config has to.
FROM_MMENGINE = {'init_cfg'}
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


def unset_options(
    parts: list[Registered], by_config: set[tuple[str, str]], tests: list[Source]
) -> list[str]:
    """Arguments that no config sets, nor a test file that names the part and them."""
    words = [words_in(test) for test in tests]
    return [
        f'{part.place} {part.name}.{option}'
        for part in parts
        for option in part.options
        if option not in FROM_MMENGINE and (part.name, option) not in by_config
        if not any({part.name, option} <= known for known in words)
    ]


def bad_constructors(sources: list[Source]) -> list[str]:
    """Constructors with ``**kwargs`` or with too many arguments."""
    found = []
    for source in sources:
        for node in source.nodes:
            init = constructor(node)
            if init is None:
                continue
            count = len(init.args.args) - 1 + len(init.args.kwonlyargs)
            if init.args.kwarg is not None or count > MAX_ARGUMENTS:
                found.append(f'{source.name}:{init.lineno}')
    return found


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


def test_every_option_is_set_by_a_config_or_a_test(parts: list[Registered]) -> None:
    dead = unset_options(parts, set_in_configs(), python_files('tests'))
    assert not dead, 'make each a constant'


@pytest.mark.parametrize(
    'test',
    ['Nice(unset=1)', "dict(type='Nice', unset=1)", "f(Nice, **{'unset': 1})"],
)
def test_only_an_option_that_nobody_sets_is_found(bad: Source, test: str) -> None:
    by_config = {('Nice', 'wanted')}
    place = f'{bad.name}:3 Nice.unset'
    others = [Source('a.py', 'Nice()'), Source('b.py', 'Other(unset=1)')]
    assert unset_options(registered(bad), by_config, others) == [place]
    others.append(Source('c.py', test))
    assert not unset_options(registered(bad), by_config, others)


def test_constructors_are_closed_and_short(package: list[Source]) -> None:
    assert not bad_constructors(package)


def test_an_open_constructor_is_found(bad: Source) -> None:
    assert bad_constructors([bad]) == ['projects/sam2/models/bad.py:4']


def test_registered_constructors_take_keywords_only(parts: list[Registered]) -> None:
    assert not [f'{part.place}: {part.positional}' for part in parts if part.positional]


def test_every_source_file_with_logic_has_its_test() -> None:
    missing = []
    for source in filter(has_logic, python_files('projects', 'tools')):
        path = Path(source.name)
        inside = path.relative_to('projects/sam2') if path.parts[0] != 'tools' else path
        stem = inside.parent.name if inside.stem == '__init__' else inside.stem
        mirror = Path('tests') / inside.parent / f'test_{stem}.py'
        if not (ROOT / mirror).is_file():
            missing.append(f'{source.name}: no {mirror}')
    assert not missing


def test_no_file_is_longer_than_three_hundred_lines() -> None:
    sources = python_files('projects', 'tools', 'configs', 'tests')
    counts = {source.name: len(source.text.splitlines()) for source in sources}
    assert not {name: n for name, n in counts.items() if n > MAX_LINES}


def test_tests_weigh_at_least_four_fifths_of_the_code(package: list[Source]) -> None:
    code = sum(len(source.text.splitlines()) for source in package)
    tests = sum(len(source.text.splitlines()) for source in python_files('tests'))
    assert tests >= TESTS_PER_CODE * code


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
