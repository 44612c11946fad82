"""Checks that a detector and a dataset have the same classes."""

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from .detections import classes_of_checkpoint, list_classes, read_classes

# They have other classes: objects at all; stuff, in HTC; those of ImageNet, in SSD.
OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')
LANGUAGE_MODEL = 'language_model'


@HOOKS.register_module()
class SAM2ClassCheckHook(Hook):
    """Refuses a detector whose classes are not those of the dataset.

    Without it labels get the names of other classes, or evaluation ends in an
    ``IndexError``. It compares the number of classes of all heads; in a test also their
    names, where the checkpoint has them. mmdetection's ``NumClassCheckHook`` compares
    the number only, and not in a test. Detectors that take text are left out.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the names of the classes that the detector was trained on."""
        del runner
        self._names = classes_of_checkpoint(checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Check the training dataset; training may begin with other names."""
        _check_counts(runner.model, runner.train_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        """Check the validation dataset."""
        _check_counts(runner.model, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Check the test dataset."""
        dataset: Any = runner.test_dataloader.dataset
        _check_counts(runner.model, dataset)
        classes = read_classes(dataset.metainfo.get('classes'))
        differing = [
            f'{theirs!r} in place of {ours!r}'
            for theirs, ours in zip(self._names, classes, strict=False)
            if theirs != ours
        ]
        if differing and not _takes_text(runner.model):
            msg = (
                f'The detector was trained on other classes than {_title(dataset)} '
                f'has: {list_classes(differing)}; give the dataset '
                f'metainfo=dict(classes=…) in the order of the detector'
            )
            raise ValueError(msg)


def check_class_names(
    detector: nn.Module, names: Sequence[str], *, remedy: str
) -> None:
    """Check that there is a name for each class that a detector predicts.

    Args:
        detector: A detector; one that takes text predicts no classes of its own.
        names: Names of its classes.
        remedy: The option that names them, for the error.

    Raises:
        ValueError: If there are more or fewer names.
    """
    counts = [
        head.num_classes
        for name, head in detector.named_modules()
        if name.rpartition('.')[2] == 'bbox_head' and hasattr(head, 'num_classes')
    ]
    if counts and counts[0] != len(names) and not _takes_text(detector):
        msg = (
            f'The detector predicts {counts[0]} classes, but {len(names)} are named '
            f'({list_classes(names)}); name them all in {remedy}'
        )
        raise ValueError(msg)


def _check_counts(model: nn.Module, dataset: Any) -> None:
    """Compare the number of classes of all heads with that of a dataset."""
    classes = read_classes(dataset.metainfo.get('classes'))
    if not classes or _takes_text(model):
        return
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        if not isinstance(count, int) or name.endswith(OTHER_CLASSES):
            continue
        if count != len(classes):
            msg = (
                f'{name} predicts {count} classes, but {_title(dataset)} has '
                f'{len(classes)} ({list_classes(classes)}); set its num_classes, or '
                f"the dataset's metainfo=dict(classes=…)"
            )
            raise ValueError(msg)


def _takes_text(model: nn.Module) -> bool:
    return any(name.endswith(LANGUAGE_MODEL) for name, _ in model.named_modules())


def _title(dataset: object) -> str:
    return type(dataset).__name__
