"""Calls of mmcv's operators whose results the compiled operators of mmcv 2.1.0 gave.

Where mmcv 2.1.0 is installed with its operators, ``python operator_cases.py FILE.npz``
writes the results. It imports nothing of the project.
"""

import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Results = dict[str, Tensor]

GROUPINGS: dict[
    str, dict[str, Any]
] = {  # of a convolution: groups of channels, groups of offsets
    'plain': {'stride': 1, 'padding': 1, 'dilation': 1, 'groups': 1, 'deform': 1},
    'groups': {'stride': 2, 'padding': 2, 'dilation': 2, 'groups': 2, 'deform': 4},
    'oblong': {'stride': 1, 'padding': (0, 2), 'dilation': 1, 'groups': 4, 'deform': 2},
}


class Draw:
    """Random tensors that are the same everywhere.

    Args:
        seed: Of the generator.
        device: Of the tensors.
    """

    def __init__(self, seed: int, device: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        """Draw from a normal distribution."""
        return self._tensor(self.rng.standard_normal(shape))

    def uniform(self, *shape: int) -> Tensor:
        """Draw from [0, 1)."""
        return self._tensor(self.rng.random(shape))

    def boxes(self, count: int, size: float) -> Tensor:
        """Draw boxes, some of them without an area and some beyond the border."""
        corner = self.rng.random((count, 2)) * size * 1.2 - 0.1 * size
        sides = self.rng.random((count, 2)) ** 2 * size * 0.6
        sides[:: max(count // 5, 1)] = 0
        return self._tensor(np.hstack([corner, corner + sides]))

    def _tensor(self, values: Any) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def suppression(device: str) -> Results:
    """Suppress boxes, many of them with equal scores."""
    ops = _ops()
    draw = Draw(0, device)
    results: Results = {}
    boxes, scores = draw.boxes(1200, 100), (draw.uniform(1200) * 40).round() / 40
    for threshold, offset in product((0.3, 0.7), (0, 1)):
        _, kept = ops.nms(boxes, scores, threshold, offset=offset)
        results[f'nms {threshold} {offset}'] = kept.short()
    some = 250
    for method, offset in product(('naive', 'linear', 'gaussian'), (0, 1)):
        dets, kept = ops.soft_nms(
            boxes[:some],
            scores[:some],
            0.3,
            sigma=0.4,
            min_score=0.05,
            method=method,
            offset=offset,
        )
        results[f'softnms {method} {offset}'] = dets[:, 4]
        results[f'softnms kept {method} {offset}'] = kept.short()
    dets = torch.cat([boxes, scores[:, None]], dim=1)[:some]
    groups = ops.nms_match(dets, 0.4)
    # The groups in a row, each closed by -1.
    closed = [F.pad(group, (0, 1), value=-1) for group in groups]
    results['nms_match'] = torch.cat(closed).short()
    for mode, aligned, offset in product(('iou', 'iof'), (False, True), (0, 1)):
        first, second = boxes[1:20], boxes[21:40]
        overlaps = ops.bbox_overlaps(first, second, mode, aligned, offset)
        results[f'bbox_overlaps {mode} {aligned} {offset}'] = overlaps
    return results


def regions(device: str) -> Results:
    """Pool regions within, across and beyond the border of two maps."""
    ops = _ops()
    draw = Draw(1, device)
    features = draw.normal(2, 2, 11, 14).requires_grad_()
    boxes = draw.boxes(12, 19)
    far = boxes.new_tensor([[-90, -80, -70, -60], [0, 0, 18, 14], [-30, -30, 60, 60]])
    boxes = torch.cat([boxes, far])
    images = torch.arange(len(boxes), device=device)[:, None] % 2
    rois = torch.cat([images, boxes], dim=1)
    results: Results = {}
    for mode, aligned, ratio in product(('avg', 'max'), (True, False), (0, 1, 3)):
        pooled = ops.roi_align(features, rois, (3, 2), 0.75, ratio, mode, aligned)
        results[f'roi_align {mode} {aligned} {ratio}'] = pooled.detach()
        (grad,) = torch.autograd.grad(pooled.cos().sum(), features)
        results[f'roi_align grad {mode} {aligned} {ratio}'] = grad
    empty = ops.roi_align(features, rois[:0], (3, 2), 0.75, 0, 'avg', True)
    results['roi_align empty'] = empty.detach()
    return results


def convolutions(device: str) -> Results:
    """Deform convolutions, with offsets that leave the map."""
    ops = _ops()
    results: Results = {}
    for name, shape in GROUPINGS.items():
        draw = Draw(2, device)
        kernel = (1, 3) if name == 'oblong' else (3, 3)
        features = draw.normal(2, 8, 7, 9)
        weight = draw.normal(4, 8 // shape['groups'], *kernel)
        placing = {key: shape[key] for key in ('stride', 'padding', 'dilation')}
        size = F.conv2d(features[:, :1], weight[:1, :1], **placing).shape[2:]
        taps = kernel[0] * kernel[1] * shape['deform']
        offset = draw.normal(2, 2 * taps, *size) * 2
        mask = draw.uniform(2, taps, *size)
        bias = draw.normal(4)
        numbers = [*placing.values(), shape['groups'], shape['deform']]

        plain = [features, offset, weight]
        results |= _with_grads(name, ops.deform_conv2d, plain, numbers)
        # DyHead hands in offsets of a larger map; the first values are read.
        wide = [F.pad(t, (0, 0, 0, 2), value=0.5) for t in (offset, mask)]
        for kind, moves in (('modulated', [offset, mask]), ('wide', wide)):
            inputs = [features, *moves, weight, bias]
            label = f'{kind} {name}'
            function = ops.modulated_deform_conv2d
            results |= _with_grads(label, function, inputs, numbers)
    return results


def attention_masks(device: str) -> Results:
    """Spread masks over pairs of pixels."""
    draw = Draw(3, device)
    results: Results = {}
    for kind, size in product(('collect', 'distribute'), ((3, 5), (5, 3), (9, 7))):
        inputs = [draw.normal(2, size[0] * size[1], 4, 3)]
        function = _ops().PSAMask(kind, size)
        results |= _with_grads(f'psamask {kind} {size}', function, inputs, [])
    return results


CASES: dict[str, Callable[[str], Results]] = {
    'attention_masks': attention_masks,
    'convolutions': convolutions,
    'regions': regions,
    'suppression': suppression,
}


def _ops() -> Any:
    # Imported late: a test installs the operators in torch first.
    import mmcv.ops  # noqa: PLC0415

    return mmcv.ops


def _with_grads(
    name: str,
    function: Callable[..., Tensor],
    inputs: list[Tensor],
    numbers: list[Any],
) -> Results:
    """Call a function, and differentiate a sum of its results."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    output = function(*leaves, *numbers)
    grads = torch.autograd.grad(output.cos().sum(), leaves)
    results = {f'{name} grad {i}': grad for i, grad in enumerate(grads)}
    return {name: output.detach(), **results}


def main() -> None:
    """Write the results of all cases to the file that is named."""
    results: dict[str, Any] = {
        f'{case}/{key}': value.numpy()
        for case, call in CASES.items()
        for key, value in call('cpu').items()
    }
    np.savez_compressed(sys.argv[1], **results)


if __name__ == '__main__':
    main()
