"""Where this package is installed, how its tools are called, and its two names.

In a clone its name is ``projects.sam2``, from a wheel it is ``mmsam2``. Both names lead
to the same modules, so that a config or script written for either works with both.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME = __name__.rpartition('.')[0]
CLONE_NAME, WHEEL_NAME = 'projects.sam2', 'mmsam2'
OTHER_NAME = WHEEL_NAME if NAME == CLONE_NAME else CLONE_NAME

PACKAGE = Path(__file__).resolve().parent
# A wheel contains what stands beside `projects/` in a clone, in the folder that
# OpenMMLab's tools look for.
IS_WHEEL = (PACKAGE / '.mim').is_dir()
ROOT = PACKAGE / '.mim' if IS_WHEEL else PACKAGE.parents[1]
CONFIGS = ROOT / 'configs'
POLICIES = CONFIGS / '_base_' / 'policies'
TOOLS = ROOT / 'tools'
WEIGHTS = ROOT / 'docs' / 'weights'  # of the mini model


def own_config(name: str | Path) -> Path | None:
    """Find a config of this package by its name.

    Args:
        name: Such as ``sam2_tiny_mose``, ``configs/sam2_tiny_mose.py`` or
            ``mmsam2::sam2_tiny_mose.py``.

    Returns:
        Its path; None if this package has no such config.
    """
    scope, _, own = str(name).rpartition('::')
    own = own.removeprefix('./').removeprefix('configs/').removesuffix('.py')
    path = CONFIGS / f'{own}.py'
    return path if scope in {'', WHEEL_NAME} and path.is_file() else None


def near_configs(name: str | Path) -> list[str]:
    """Names of this package's configs that look like a name, the nearest first."""
    stem = Path(str(name).rpartition('::')[2]).name.removesuffix('.py')
    return get_close_matches(stem, [path.stem for path in CONFIGS.glob('*.py')], n=3)


def policy_names() -> list[str]:
    """Names of the memory policies of this package."""
    return sorted(path.stem for path in POLICIES.glob('*.py'))


def tool_command(name: str) -> str:
    """Return what the user types to run a program of ``tools/``.

    That is ``mmsam2 train`` from a wheel, or if the running program was called so; else
    ``python tools/train.py``.
    """
    if IS_WHEEL or sys.argv[0].startswith(f'{WHEEL_NAME} '):
        return f'{WHEEL_NAME} {name}'
    program = TOOLS / f'{name}.py'
    if program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
    return f'python {program}'


def install_other_name() -> None:
    """Let the other name of the package lead to the modules of this one."""
    if not any(isinstance(finder, _OtherNameFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OtherNameFinder())


class _OtherNameFinder(MetaPathFinder, Loader):
    """Finds the modules of this package by its other name."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find ``mmsam2.models`` for ``projects.sam2.models``, or the reverse.

        Raises:
            ImportError: If the other name belongs to another copy of the package.
        """
        del target
        if fullname == OTHER_NAME:
            self._refuse_other_copy(path)
        elif fullname == OTHER_NAME.partition('.')[0]:  # the namespace `projects`
            if self._find_elsewhere(fullname, path) is not None:
                return None
            return ModuleSpec(fullname, None, is_package=True)
        elif not fullname.startswith(f'{OTHER_NAME}.'):
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of this package."""
        module = importlib.import_module(NAME + spec.name.removeprefix(OTHER_NAME))
        # Python replaces the spec by the one of the other name, see exec_module.
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec; the module has been executed before."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state

    def _refuse_other_copy(self, path: Sequence[str] | None) -> None:
        """Raise ImportError if the other name is that of other files."""
        spec = self._find_elsewhere(OTHER_NAME, path)
        if spec is None or spec.origin is None:
            return
        if Path(spec.origin).resolve().parent != PACKAGE:
            msg = (
                f'{OTHER_NAME} ({Path(spec.origin).parent}) is another copy of {NAME} '
                f'({PACKAGE}), which is imported already; use one of them: import '
                f'{NAME}, or remove the other copy from the environment'
            )
            raise ImportError(msg, name=OTHER_NAME)

    def _find_elsewhere(
        self, fullname: str, path: Sequence[str] | None
    ) -> ModuleSpec | None:
        """Find a module as Python would without this finder."""
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path)):
                return spec
        return None
