"""Options of registered parts, and who sets them: a config, a golden case, the docs."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from source_tree import Source, constructor, fields, registered

# Code in Markdown: a block, or a span within a paragraph.
CODE = re.compile(r'^```\w*\n(.*?)^```|`([^`]+)`', re.DOTALL | re.MULTILINE)
GOLDEN = re.compile(r'pytest\.mark\.golden|^from golden_', re.MULTILINE)
Setting = tuple[str, str]  # registered name and argument


@dataclass(frozen=True)
class Option:
    """An argument with a default, so one that may stay unset.

    Attributes:
        owner: Class that declares it first; its subclasses hand it on or inherit it.
        name: Of the argument.
        place: File and line of the class.
        carriers: Registered names of the parts that have it.
    """

    owner: str
    name: str
    place: str
    carriers: frozenset[str]

    def is_set(self, settings: set[Setting]) -> bool:
        """Whether a setting is of this option."""
        return any((carrier, self.name) in settings for carrier in self.carriers)


class Classes:
    """The classes of a package with their constructors, inherited ones included.

    Args:
        sources: Files of the package.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = list(sources)
        self.nodes: dict[str, ast.ClassDef] = {}
        self.place_of: dict[str, str] = {}
        for source in self.sources:
            for node in source.nodes:
                if isinstance(node, ast.ClassDef):
                    self.nodes[node.name] = node
                    self.place_of[node.name] = f'{source.name}:{node.lineno}'

    def arguments(self, symbol: str) -> dict[str, bool]:
        """Arguments of a class's constructor: whether each has a default."""
        if symbol not in self.nodes:
            return {}
        node = self.nodes[symbol]
        init = constructor(node)
        if init is not None:
            plain = [*init.args.posonlyargs, *init.args.args]
            first = len(plain) - len(init.args.defaults)
            found = {each.arg: i >= first for i, each in enumerate(plain) if i}
            keywords = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
            return found | {each.arg: value is not None for each, value in keywords}
        found = {}
        for base in self._bases(node):
            found |= self.arguments(base)
        return found | fields(node)

    def options(self) -> list[Option]:
        """Options of all registered parts."""
        carriers: dict[tuple[str, str], set[str]] = defaultdict(set)
        for part in (part for source in self.sources for part in registered(source)):
            for name, has_default in self.arguments(part.symbol).items():
                if has_default:
                    carriers[self._owner(part.symbol, name), name].add(part.name)
        return [
            Option(owner, name, self.place_of[owner], frozenset(names))
            for (owner, name), names in carriers.items()
        ]

    def _owner(self, symbol: str, option: str) -> str:
        """The class farthest up whose constructor has the option."""
        for base in self._bases(self.nodes[symbol]):
            if self.arguments(base).get(option):
                return self._owner(base, option)
        return symbol

    def _bases(self, node: ast.ClassDef) -> list[str]:
        """Names of the bases, without their packages and parameters."""
        words = [ast.unparse(base).partition('[')[0] for base in node.bases]
        return [word.rpartition('.')[2] for word in words]


def set_in_documents(texts: Iterable[str]) -> set[Setting]:
    """Settings that an example in Markdown shows: ``Part(option=1)`` or the dict of it.

    Code that is no whole Python is passed over.
    """
    return {
        pair
        for text in texts
        for block, span in CODE.findall(text)
        for pair in _calls(block or span)
    }


def set_in_golden_cases(tests: Iterable[Source]) -> set[Setting]:
    """Settings of the tests that compare with golden numbers.

    A case may pass through dicts and helpers: a part counts where a file names it, an
    option where the file has it as a keyword or a string.
    """
    return {
        (name, option)
        for test in tests
        if GOLDEN.search(test.text)
        for name in _names(test)
        for option in _keys(test)
    }


def _calls(code: str) -> Iterator[Setting]:
    """Keywords of the calls in a piece of code, if it parses."""
    try:
        tree = ast.parse(code.strip())
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        words = {word.arg: word.value for word in node.keywords if word.arg}
        kind = words.get('type')
        name = kind.value if isinstance(kind, ast.Constant) else ast.unparse(node.func)
        yield from ((str(name).rpartition('.')[2], word) for word in words)


def _names(source: Source) -> set[str]:
    found = _keys(source)
    for node in source.nodes:
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word):
                found.add(word)
    return {word for word in found if word[:1].isupper()}


def _keys(source: Source) -> set[str]:
    found: set[str] = set()
    for node in source.nodes:
        match node:
            case ast.keyword(arg=str(word)) | ast.Constant(value=str(word)):
                found.add(word)
    return found
