"""The ground truth in place of a detector, to measure SAM 2 alone."""

from typing import Any, Literal

import torch
from mmengine.structures import InstanceData

from ...apis.inputs import read_choice
from ..samples import mask_array

Oracle = Literal['boxes', 'masks']


def check_oracle(oracle: Oracle | None, detector: object) -> None:
    """Check that there is a known oracle, or a detector.

    Raises:
        ValueError: If there is neither, or the oracle is unknown.
    """
    if oracle is not None:
        read_choice(oracle, name='oracle', choices=('boxes', 'masks'))
    elif detector is None:
        msg = (
            'There is neither a detector nor an oracle; give the config of a detector, '
            "or oracle='boxes' for the ground truth"
        )
        raise ValueError(msg)


def ground_truth(sample: Any, oracle: Oracle, *, loader: str) -> InstanceData:
    """Take the ground truth of an image or a frame as predictions of score 1.

    Args:
        sample: A ``DetDataSample`` with ``ori_shape`` and ``gt_instances``, in pixels
            of the original image.
        oracle: ``'boxes'``, or ``'masks'`` as well.
        loader: Transform that loads annotations, for errors.

    Returns:
        ``bboxes``, ``labels``, ``scores`` and, with the oracle of masks, ``masks``,
        (N, height, width), bool.

    Raises:
        ValueError: If there are no boxes or masks, or they are of another size.
    """
    truth = sample.get('gt_instances')
    has_masks = truth is not None and 'masks' in truth
    if truth is None or 'bboxes' not in truth or (oracle == 'masks' and not has_masks):
        msg = (
            f'oracle={oracle!r} needs the ground truth, but the sample has none; add '
            f'{loader}(with_bbox=True, with_mask={oracle == "masks"}) to the test '
            f'pipeline, after any Resize'
        )
        raise ValueError(msg)
    height, width = sample.ori_shape[:2]
    boxes = torch.as_tensor(getattr(truth.bboxes, 'tensor', truth.bboxes))
    instances = InstanceData(
        bboxes=boxes,
        labels=torch.as_tensor(truth.labels),
        scores=boxes.new_ones(len(boxes)),
    )
    sizes = {(height, width)}
    if has_masks:
        masks = mask_array(truth.masks, (height, width))
        sizes.add((masks.shape[1], masks.shape[2]))
        if oracle == 'masks':
            instances.masks = torch.from_numpy(masks).to(boxes.device)
    limits = boxes.new_tensor([width, height, width, height])
    if len(sizes) > 1 or (boxes > limits + 1).any():
        msg = (
            f'The ground truth is not in pixels of the original image {height} x '
            f'{width}; put {loader} after Resize in the test pipeline'
        )
        raise ValueError(msg)
    return instances
