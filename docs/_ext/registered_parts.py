"""Directive ``registered-parts``: a table of the parts in registries of MMEngine."""

import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import mmengine.registry
from docutils import nodes
from docutils.statemachine import StringList
from mmengine.config import Config
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# By the name that it is installed by, which the pages use.
PACKAGE = 'mmsam2'
for module in ('', '.bridges.mmdet', '.bridges.mmseg'):  # register their parts
    import_module(f'{PACKAGE}{module}')
CONFIGS: Path = import_module(f'{PACKAGE}.installation').CONFIGS
MAX_FILES = 2  # of a folder in the table


class RegisteredParts(SphinxDirective):
    """Table of the registered parts of a package, with the configs that set them.

    The directive is parsed as reStructuredText: use it within ``eval-rst``.

    The argument is a module of the package, such as ``engine``.
    """

    required_arguments = 1
    has_content = False
    configs: ClassVar[dict[str, list[str]]] = {}

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        if not self.configs:
            self.configs.update(configs_by_part())
        package = f'{PACKAGE}.{self.arguments[0]}'
        lines = [
            '.. list-table::',
            '   :header-rows: 1',
            '   :widths: 30 18 52',
            '',
            '   * - ``type``',
            '     - registry',
            '     - configs that set it',
        ]
        for name, registry, part in registered_parts():
            if f'{part.__module__}.'.startswith(f'{package}.'):
                files = shorten(self.configs.get(name, []))
                users = ', '.join(f'``{file}``' for file in files)
                target = f'{public_module(part)}.{part.__name__}'
                lines += [
                    f'   * - :class:`{name} <{target}>`',
                    f'     - ``{registry}``',
                    f'     - {users or "—"}',
                ]
        table = nodes.Element()
        self.state.nested_parse(StringList(lines, source=package), 0, table)
        return table.children


def shorten(files: list[str]) -> list[str]:
    """Replace more than two files of a folder by a pattern."""
    folders: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[file.rpartition('/')[0]].append(file)
    short = [
        names if len(names) <= MAX_FILES else [f'{folder}/*.py'.lstrip('/')]
        for folder, names in folders.items()
    ]
    return [name for names in short for name in names]


def registered_parts() -> Iterator[tuple[str, str, type]]:
    """Yield name, registry and class of every part of this project, by name."""
    parts = {
        (name, variable, part)
        for variable, registry in vars(mmengine.registry).items()
        if isinstance(registry, mmengine.registry.Registry)
        for name, part in registry.module_dict.items()
        if inspect.isclass(part) and part.__module__.startswith(f'{PACKAGE}.')
    }
    yield from sorted(parts, key=lambda entry: entry[0])


def public_module(part: type) -> str:
    """Return the shortest module that exports a class, which documents it."""
    *parents, _ = part.__module__.split('.')
    names = ['.'.join(parents[:depth]) for depth in range(2, len(parents) + 1)]
    for name in names:
        module = sys.modules.get(name)
        if part.__name__ in getattr(module, '__all__', ()):
            return name
    return part.__module__


def configs_by_part() -> dict[str, list[str]]:
    """Files of ``configs`` that set each type, those of ``_base_`` before others."""
    users: dict[str, list[str]] = {}
    patterns = ('_base_/**/*.py', '*.py', 'mm*/*.py')
    folders = [sorted(CONFIGS.glob(pattern)) for pattern in patterns]
    for files in folders:
        found: dict[str, list[str]] = defaultdict(list)
        for path in files:
            for name in types_of(read_alone(path)):
                found[name].append(path.relative_to(CONFIGS).as_posix())
        users.update(
            {name: paths for name, paths in found.items() if name not in users}
        )
    return users


def read_alone(path: Path) -> dict[str, Any]:
    """Read a config with its bases, but import nothing that it names."""
    return dict(Config.fromfile(path, import_custom_modules=False))


def types_of(node: object) -> set[str]:
    """Return the last word of every ``type`` in nested dicts and lists."""
    names = set()
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            names.add(node['type'].rpartition('.')[2])
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            names |= types_of(child)
    return names


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive to Sphinx."""
    app.add_directive('registered-parts', RegisteredParts)
    return {'parallel_read_safe': True}
