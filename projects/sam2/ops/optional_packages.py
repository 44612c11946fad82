"""Imports packages that only some uses need."""

from importlib import import_module
from typing import Any


def import_optional(name: str, *, purpose: str, install: str | None = None) -> Any:  # noqa: ANN401  a module
    """Import a package that only some uses need.

    Args:
        name: The package, or a module of it.
        purpose: What needs it, the subject of the error's sentence.
        install: What pip is told to install; None for the package alone.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ImportError: If it is installed, but cannot be imported.
    """
    package = name.partition('.')[0]
    command = f'pip install {install or package}'
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name == package:
            msg = f'{purpose} needs {package}, which is not installed: {command}'
            raise ModuleNotFoundError(msg, name=package) from error
        problem: Exception = error
    except Exception as error:  # noqa: BLE001  a broken package may raise anything
        problem = error
    msg = (
        f'{purpose} needs {package}, which is installed but cannot be imported '
        f'({type(problem).__name__}: {problem}); mend what it names, or install it '
        f'again: {command} --upgrade'
    )
    raise ImportError(msg, name=package) from problem
