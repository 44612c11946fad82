"""MMEngine's loops of validation and test on the data that the config names."""

from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS
from mmengine.runner import Runner, TestLoop, ValLoop
from torch.utils.data import DataLoader

from projects.sam2.engine.config import carry_data_root

__all__ = ['ClipTestLoop', 'ClipValLoop']

Loader = DataLoader[Any] | dict[str, Any]
Metrics = Evaluator | dict[str, Any] | list[Any]


@LOOPS.register_module()
class ClipValLoop(ValLoop):
    """MMEngine's validation; a changed ``data_root`` reaches its datasets.

    Args:
        runner: Of the run.
        dataloader: Of the validation, or its config.
        evaluator: Of the validation, or its config.
        fp16: See MMEngine's ``ValLoop``.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: Loader,
        evaluator: Metrics,
        fp16: bool = False,
    ) -> None:
        carry_data_root(runner)
        super().__init__(runner, dataloader, evaluator, fp16)


@LOOPS.register_module()
class ClipTestLoop(TestLoop):
    """MMEngine's test; a changed ``data_root`` reaches its datasets.

    Args:
        runner: Of the run.
        dataloader: Of the test, or its config.
        evaluator: Of the test, or its config.
        fp16: See MMEngine's ``TestLoop``.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        dataloader: Loader,
        evaluator: Metrics,
        fp16: bool = False,
    ) -> None:
        carry_data_root(runner)
        super().__init__(runner, dataloader, evaluator, fp16)
