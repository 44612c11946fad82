"""Makes the tools import ``projects.sam2`` from this repository."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def use_repository_root(root: Path = ROOT) -> None:
    """Put the repository's root first on ``sys.path`` and check that it is used.

    ``projects`` is a namespace package: a regular package of that name anywhere on
    ``sys.path``, such as the folder in mmdetection's repository, hides it.

    Args:
        root: Folder that contains ``projects/sam2``.

    Raises:
        ImportError: If ``projects.sam2`` is imported from elsewhere.
    """
    if sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))
    expected = root / 'projects' / 'sam2' / '__init__.py'
    try:
        spec = find_spec('projects.sam2')
    except ModuleNotFoundError:
        spec = None
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    if origin is None or origin.resolve() != expected.resolve():
        other = sys.modules.get('projects')
        where = origin or getattr(other, '__file__', None) or 'nowhere'
        msg = (
            f'projects.sam2 should come from {expected}, but resolves to {where}: '
            f'another package called "projects" is in the way. Remove its folder from '
            f'PYTHONPATH, or uninstall it from this environment'
        )
        raise ImportError(msg)
