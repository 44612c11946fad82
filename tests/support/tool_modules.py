"""Imports and calls the scripts of ``tools/``, which are no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

from projects.sam2.engine.command_line import call_tool

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'


def load_tool(name: str) -> ModuleType:
    """Import a tool as if it had been called.

    Args:
        name: Path below ``tools/`` without the suffix.
    """
    path = TOOLS / f'{name}.py'
    module_name = f'tool_{path.stem}'
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, 'path', [str(path.parent), *sys.path]):
        spec.loader.exec_module(module)
    return module


def failing_exit_code(tool: ModuleType, arguments: list[str]) -> object:
    """Call a tool that ends with an error, as its own last line does.

    Args:
        tool: From :func:`load_tool`; its errors have the exit code 2.
        arguments: Words after the program's name.
    """
    with pytest.raises(SystemExit) as stopped:
        call_tool(lambda: tool.main(arguments), exit_code=2)
    return stopped.value.code
