"""Reads the repository's own sources, for the tests of its conventions."""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
TEXT_SUFFIXES = {'.py', '.md', '.toml', '.txt', '.sh', '.yaml', '.yml', '.cfg', ''}
NOT_OURS = {'work_dirs', 'data', 'build', 'dist', 'golden'}
HIDDEN_BUT_OURS = {'.ci', '.gitignore', '.pre-commit-config.yaml'}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file.

    Attributes:
        name: Path from the repository root, with forward slashes.
        text: Content of the file.
    """

    name: str
    text: str

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the file's syntax tree."""
        return list(ast.walk(ast.parse(self.text, self.name)))


@dataclass(frozen=True)
class Registered:
    """A class or function that a decorator puts into a registry.

    Attributes:
        name: Name that configs call it by.
        symbol: Name that it has in its file.
        place: File and line.
        positional: Arguments of its constructor that may be given without their names.
    """

    name: str
    symbol: str
    place: str
    positional: tuple[str, ...]


def python_files(*folders: str) -> list[Source]:
    """Python files below folders of the repository."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob('*.py')]
    return [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding='utf-8'))
        for path in sorted(paths)
        if not NOT_OURS.intersection(path.relative_to(ROOT).parts)
    ]


def text_files() -> Iterator[tuple[str, str]]:
    """Name and content of every text file that the repository could hold."""
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            hidden = path.name.startswith('.') and path.name not in HIDDEN_BUT_OURS
            if path.name in NOT_OURS or hidden or path.is_symlink():
                continue
            if path.is_dir():
                pending.append(path)
            elif path.suffix in TEXT_SUFFIXES:
                yield path.relative_to(ROOT).as_posix(), path.read_text('utf-8')


def registered(source: Source) -> list[Registered]:
    """What a file puts into registries."""
    found = []
    for node in source.nodes:
        if not isinstance(node, ast.ClassDef | Function):
            continue
        calls = [_registration(decorator) for decorator in node.decorator_list]
        found += [
            Registered(
                name=_given_name(call) or node.name,
                symbol=node.name,
                place=f'{source.name}:{node.lineno}',
                positional=_positional(node),
            )
            for call in calls
            if call is not None
        ]
    return found


def constructor(node: ast.AST) -> Function | None:
    """The ``__init__`` that a class defines; None for all else."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    for member in body:
        if isinstance(member, Function) and member.name == '__init__':
            return member
    return None


def fields(node: ast.AST) -> dict[str, bool]:
    """Arguments that a dataclass adds to its constructor: whether each has a default.

    Nothing for another class. Class variables and ``field(init=False)`` are none.
    """
    if not isinstance(node, ast.ClassDef) or _dataclass(node) is None:
        return {}
    return {
        member.target.id: member.value is not None
        for member in node.body
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
        if 'ClassVar' not in ast.unparse(member.annotation)
        if 'init=False' not in ast.unparse(member.value or ast.Constant(None))
    }


@lru_cache(maxsize=1)
def configs() -> Mapping[str, Config]:
    """Every config of the repository, its bases merged, by path."""
    return {
        path.relative_to(ROOT).as_posix(): Config.fromfile(
            path, import_custom_modules=False
        )
        for path in sorted((ROOT / 'configs').rglob('*.py'))
    }


def set_in_configs() -> set[tuple[str, str]]:
    """Pairs (type, argument) that some config sets."""
    return {pair for config in configs().values() for pair in _set_below(dict(config))}


def names_registered_by(package: str) -> set[str]:
    """Names in the registries of an installed package, read from its sources.

    Its modules are not imported: much of mmdet and mmseg needs compiled operators.
    """
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    names: set[str] = set()
    decorated = re.compile(
        r'^@\w+\.register_module\((?P<given>[^)]*)\)\s+(?:@.*\s+)*'
        r'(?:class|def) (?P<name>\w+)',
        re.MULTILINE,
    )
    for path in (path for place in places or () for path in Path(place).rglob('*.py')):
        for match in decorated.finditer(path.read_text('utf-8', errors='replace')):
            names.add(match['name'])
            names.update(re.findall(r'[\'"](\w+)[\'"]', match['given']))
    return names


def _dataclass(node: ast.ClassDef) -> ast.expr | None:
    """The decorator ``dataclass`` of a class, if it has one."""
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).endswith('dataclass'):
            return decorator
    return None


def _positional(node: ast.ClassDef | Function) -> tuple[str, ...]:
    """Arguments of a constructor that may be given without their names."""
    init = constructor(node)
    if init is not None:
        arguments = (*init.args.posonlyargs, *init.args.args)
        return tuple(argument.arg for argument in arguments[1:])
    decorator = _dataclass(node) if isinstance(node, ast.ClassDef) else None
    if decorator is None or 'kw_only=True' in ast.unparse(decorator):
        return ()
    return tuple(fields(node))


def _registration(decorator: ast.expr) -> ast.Call | None:
    """The call ``SOMETHING.register_module(…)``, if a decorator is one."""
    if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute):
        return decorator if decorator.func.attr == 'register_module' else None
    return None


def _given_name(call: ast.Call) -> str | None:
    """Name that a registration gives, where it is not the class's own."""
    for word in call.keywords:
        if word.arg == 'name' and isinstance(word.value, ast.Constant):
            return str(word.value.value)
    return None


def _set_below(node: object) -> Iterator[tuple[str, str]]:
    """Pairs (type, argument) of the dicts in a config's value."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield from ((node['type'], key) for key in node)
        node = list(node.values())
    if isinstance(node, list | tuple):
        for entry in node:
            yield from _set_below(entry)
