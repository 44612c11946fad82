"""Makes the tools import this repository's ``projects``, wherever they are called."""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def use_repository_root(root: Path = ROOT) -> None:
    """Put the repository's root first on ``sys.path`` and check that it counts.

    ``projects`` is a namespace package. A regular package of that name anywhere on
    ``sys.path`` (mmdetection's repository has such a folder) comes before it.

    Args:
        root: Folder that holds ``projects/sam2``.

    Raises:
        ImportError: If ``projects.sam2`` resolves to another place.
    """
    if sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))
    expected = root / 'projects' / 'sam2' / '__init__.py'
    try:
        spec = find_spec('projects.sam2')
    except ModuleNotFoundError:
        spec = None
    found = None if spec is None or spec.origin is None else Path(spec.origin)
    if found is None or found.resolve() != expected.resolve():
        owner = sys.modules.get('projects')
        where = found or getattr(owner, '__file__', None) or 'nowhere'
        msg = (
            f'projects.sam2 should come from {expected}, but resolves to {where}: '
            f'another package called "projects" is in the way. Remove its folder from '
            f'PYTHONPATH, or uninstall it from this environment'
        )
        raise ImportError(msg)
