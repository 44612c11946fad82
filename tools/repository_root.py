"""Makes the programs import the package that they belong to, without its parts."""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path

NAME = 'projects.sam2'  # a wheel replaces it by its own name
PACKAGE_FILE = Path(*NAME.split('.'), '__init__.py')
# The repository, or the folder that the wheel is installed in.
ROOT = next(
    folder
    for folder in Path(__file__).resolve().parents
    if (folder / PACKAGE_FILE).is_file()
)


def use_repository_root(root: Path = ROOT) -> None:
    """Put the package on ``sys.path`` and create its module without running it.

    Running ``__init__`` registers all parts, which imports torch. A program that needs
    them imports ``registration`` (``load_config`` does), the others start at once.

    ``projects`` is a namespace package: a regular package of that name anywhere on
    ``sys.path``, such as the folder in mmdetection's repository, hides it.

    Args:
        root: Folder that contains the package.

    Raises:
        ImportError: If the package is imported from elsewhere.
    """
    if '.' in NAME and sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))
    expected = root / PACKAGE_FILE
    try:
        spec = find_spec(NAME)
    except ModuleNotFoundError:
        spec = None
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    if spec is None or origin is None or origin.resolve() != expected.resolve():
        other = sys.modules.get(NAME.partition('.')[0])
        where = origin or getattr(other, '__file__', None) or 'nowhere'
        msg = (
            f'{NAME} should come from {expected}, but resolves to {where}: another '
            f'package called "{NAME.partition(".")[0]}" is in the way. Remove its '
            f'folder from PYTHONPATH, or uninstall it from this environment'
        )
        raise ImportError(msg)
    if NAME not in sys.modules:
        sys.modules[NAME] = module_from_spec(spec)
    # `__init__` does it as well: without it, a config that imports the package by its
    # other name would run it a second time.
    import_module(f'{NAME}.installation').install_other_name()
