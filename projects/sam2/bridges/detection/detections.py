"""What a detector found in an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from typing_extensions import Self

MAX_CLASSES = 6  # in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """Boxes of one image with their scores and classes, best first.

    Attributes:
        boxes: Corners ``(x0, y0, x1, y1)`` in pixels of the original image, (N, 4),
            float32.
        scores: (N,), float32.
        labels: Indices into ``class_names``, (N,), int64.
        masks: (N, height, width), bool, or None.
        class_names: Name of each label; empty if they are unknown.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Tensor | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the types and shapes."""
        fields: dict[str, object] = {
            'boxes': self.boxes,
            'scores': self.scores,
            'labels': self.labels,
        }
        for name, value in fields.items():
            if not isinstance(value, Tensor):
                msg = (
                    f'{name} of detections is a {type(value).__name__}; give a tensor: '
                    f'torch.as_tensor({name})'
                )
                raise TypeError(msg)
        count = self.scores.numel()
        mask_shape = (count, 0, 0) if self.masks is None else self.masks.shape
        if (
            self.boxes.shape != (count, 4)
            or self.scores.shape != self.labels.shape
            or self.scores.ndim != 1
            or len(mask_shape) != 3
            or mask_shape[0] != count
        ):
            shapes = [
                None if tensor is None else tuple(tensor.shape)
                for tensor in (self.boxes, self.scores, self.labels, self.masks)
            ]
            msg = (
                f'Expected boxes (N, 4), scores (N,), labels (N,) and masks (N, '
                f'height, width) or None, but got {", ".join(map(str, shapes))}'
            )
            raise ValueError(msg)

    @classmethod
    def from_instances(
        cls, instances: InstanceData, class_names: Sequence[str] = ()
    ) -> Self:
        """Convert predictions of mmdetection, and sort them by score.

        Args:
            instances: ``pred_instances`` of a ``DetDataSample``, with ``bboxes``,
                ``scores``, ``labels`` and maybe ``masks``.
            class_names: ``dataset_meta['classes']`` of the detector.
        """
        boxes, scores, labels, masks = map(
            instances.get, ('bboxes', 'scores', 'labels', 'masks')
        )
        # A stable order, so that equal scores keep the detector's.
        order = scores.argsort(descending=True, stable=True)
        return cls(
            boxes=getattr(boxes, 'tensor', boxes)[order].float(),
            scores=scores[order].float(),
            labels=labels[order].long(),
            masks=None if masks is None else torch.as_tensor(masks)[order].bool(),
            class_names=tuple(class_names),
        )

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.scores)

    def select(self, rows: Tensor | slice) -> 'Detections':
        """Select boxes by indices, in their order, or by a bool mask (N,)."""
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks[rows],
        )


def classes_of_checkpoint(checkpoint: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes that a checkpoint of mmdetection notes; maybe none."""
    meta = checkpoint.get('meta') or {}
    dataset_meta = meta.get('dataset_meta') or {}
    return read_classes(dataset_meta.get('classes', meta.get('CLASSES')))


def read_classes(classes: str | Sequence[str] | None) -> tuple[str, ...]:
    """Class names of ``metainfo``, where one class may be a string."""
    return (classes,) if isinstance(classes, str) else tuple(classes or ())


def list_classes(names: Sequence[str]) -> str:
    """Name classes in an error: the first ones, and how many more there are."""
    shown = ', '.join(names[:MAX_CLASSES])
    num_more = len(names) - MAX_CLASSES
    return f'{shown} and {num_more} more' if num_more > 0 else shown or '(none)'
