"""A stand-in for mmcv's compiled operators, where they are not installed."""

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

NAME = 'mmcv._ext'


class OperatorStandIn(ModuleType):
    """Module with any operator by name; each raises an error when it is called.

    Args:
        name: Name of the module.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # Without a loader: MMEngine takes a module with a loader for the full mmcv.
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        """Make a stand-in for an operator.

        Returns:
            A function that raises ``NotImplementedError``.

        Raises:
            AttributeError: For the names of Python itself.
        """
        if name.startswith('__'):
            raise AttributeError(name)

        def operator(*args: object, **kwargs: object) -> NoReturn:
            del args, kwargs
            msg = (
                f'mmcv.ops needs the compiled operator {name}, and mmcv-lite has none; '
                f'install mmcv 2.1.0 with its operators in place of mmcv-lite'
            )
            raise NotImplementedError(msg)

        return operator


def ensure_operators() -> None:
    """Install the stand-in if the compiled operators are missing."""
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        sys.modules[NAME] = OperatorStandIn(NAME)
