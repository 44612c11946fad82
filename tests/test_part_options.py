"""An option is there for somebody: a config, a golden case or a documented example."""

import pytest

from part_options import (
    Classes,
    Setting,
    set_in_documents,
    set_in_golden_cases,
)
from source_tree import Source, python_files, set_in_configs, text_files

# MMEngine's own: it hands them to models and samplers, or its loops take them.
FROM_MMENGINE = {'init_cfg', 'val_begin', 'dynamic_intervals', 'fp16'}
SEEDED_BY_MMENGINE = {('ClipSampler', 'seed'), ('ClipVideoSampler', 'seed')}
BAD_CLASS = """
@MODELS.register_module(name='Nice')
class Bad(Base):
    def __init__(self, first, *, wanted=1, unset=2):
        pass
"""
BAD_DATASETS = """
@dataclass(kw_only=True)
class Base(Root):
    root: str
    shared: int = 1
    dead: InitVar[int] = 2
    counter: ClassVar[int] = 3

@MODELS.register_module()
@dataclass
class Two(Base):
    own: int = 4

@MODELS.register_module()
class Three(Base):
    def __init__(self, *, shared=5, dead=6):
        pass
"""


def unset_options(sources: list[Source], settings: set[Setting]) -> list[str]:
    """Arguments of registered parts, inherited ones included, that nobody sets."""
    return [
        f'{option.place} {option.owner}.{option.name}'
        for option in Classes(sources).options()
        if option.name not in FROM_MMENGINE and not option.is_set(settings)
    ]


def test_every_option_is_set_by_a_config_a_golden_case_or_an_example() -> None:
    # An example is code in a document that parses: a user finds the option there. What
    # only tests set is not used by anybody.
    documents = [text for name, text in text_files() if name.endswith('.md')]
    dead = unset_options(
        python_files('projects'),
        set_in_configs()
        | set_in_golden_cases(python_files('tests'))
        | set_in_documents(documents)
        | SEEDED_BY_MMENGINE,
    )
    assert not dead, 'make each a constant'


def test_only_an_option_that_nobody_sets_is_found() -> None:
    bad = Source('projects/sam2/models/bad.py', BAD_CLASS)
    place = f'{bad.name}:3 Bad.unset'
    others = {('Nice', 'wanted'), ('Other', 'unset')}
    assert unset_options([bad], others) == [place]
    assert not unset_options([bad], {*others, ('Nice', 'unset')})


def test_option_of_a_base_is_set_by_any_part_that_has_it() -> None:
    source = Source('projects/sam2/datasets/bad.py', BAD_DATASETS)
    owned = {('Two', 'own'), ('Three', 'shared')}
    assert unset_options([source], owned) == [f'{source.name}:3 Base.dead']
    assert unset_options([source], {('Three', 'shared'), ('Three', 'dead')}) == [
        f'{source.name}:11 Two.own'
    ]


@pytest.mark.parametrize(
    ('text', 'settings'),
    [
        ('Set `Nice(unset=1)`.', {('Nice', 'unset')}),
        (
            "Set `dict(type='a.b.Nice', unset=1)`.",
            {('Nice', 'type'), ('Nice', 'unset')},
        ),
        ('```bash\nls\n```\n\n```python\nx = Nice(unset=1)\n```', {('Nice', 'unset')}),
        ('`Nice` takes `unset`, see `Nice(unset=…)`, unset=1', set()),
    ],
)
def test_example_is_code_that_parses(text: str, settings: set[Setting]) -> None:
    assert set_in_documents([text]) == settings


def test_golden_cases_count_and_other_tests_do_not() -> None:
    case = "CASE = {'type': 'Nice', 'unset': 1}\nwanted = 2\n"
    golden = Source('a.py', 'pytestmark = pytest.mark.golden\n' + case)
    found = set_in_golden_cases([golden, Source('b.py', case.replace('un', 're'))])
    assert ('Nice', 'unset') in found
    assert not {('Nice', 'wanted'), ('Nice', 'reset')} & found
