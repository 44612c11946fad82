"""Measure operators of mmcv: compiled ones where there are any, else those in torch.

CPU time on one thread in milliseconds, on a GPU the elapsed time, the median of five
calls. Run it with the interpreter of each environment to compare; it needs mmcv and
torch, and this project only where mmcv has no operators.

    OMP_NUM_THREADS=1 python tools/benchmarks/mmcv_operators.py
    python tools/benchmarks/mmcv_operators.py --device cuda
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

if importlib.util.find_spec('mmcv._ext') is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from projects.sam2.bridges.mmcv_operators import ensure_operators

    ensure_operators()

from mmcv import ops


def main() -> None:
    """Measure all operators and print their times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    device = parser.parse_args().device
    torch.set_num_threads(1)
    for name, call in calls(device):
        times = []
        for _ in range(6):
            start = now(device)
            call()
            times.append(1000 * (now(device) - start))
        print(f'{name:60}{statistics.median(times[1:]):9.1f} ms')


def now(device: str) -> float:
    """Read the CPU time, or on a GPU the wall clock once the device is done."""
    if device == 'cpu':
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def calls(device: str) -> list[tuple[str, Callable[[], object]]]:
    """All operators by name, on a device."""
    torch.manual_seed(0)
    return [*regions(device), *convolutions(device), *suppressions(device)]


def regions(device: str) -> list[tuple[str, Callable[[], object]]]:
    """Pool 1000 regions of a feature map, and crop 100 masks of an image."""
    features = torch.randn(2, 256, 100, 168).to(device).requires_grad_()
    rois = drawn_rois(1000, 2, (672, 400), (30, 110)).to(device)
    pooled = ops.roi_align(features, rois, (7, 7), 0.25, 0, 'avg', True)
    masks = (torch.rand(100, 1, 800, 1333) > 0.5).float().to(device)
    crops = drawn_rois(100, 1, (900, 500), (20, 320))
    crops[:, 0] = torch.arange(100)
    crops = crops.to(device)
    return [
        (
            'RoIAlign, 1000 x 256 x 7 x 7',
            lambda: ops.roi_align(features, rois, (7, 7), 0.25, 0, 'avg', True),
        ),
        (
            'RoIAlign, 1000 x 256 x 7 x 7, backward',
            lambda: backward(pooled, [features]),
        ),
        (
            'RoIAlign, 100 masks of 800 x 1333 to 28 x 28',
            lambda: ops.roi_align(masks, crops, (28, 28), 1.0, 0, 'avg', True),
        ),
    ]


def convolutions(device: str) -> list[tuple[str, Callable[[], object]]]:
    """Convolve two feature maps."""
    features = torch.randn(2, 256, 50, 84).to(device).requires_grad_()
    offset = torch.randn(2, 18, 50, 84).to(device).requires_grad_()
    mask = torch.rand(2, 9, 50, 84).to(device).requires_grad_()
    weight = (0.01 * torch.randn(256, 256, 3, 3)).to(device).requires_grad_()

    def convolve() -> Tensor:
        inputs = (features, offset, mask, weight, None)
        output: Tensor = ops.modulated_deform_conv2d(*inputs, 1, 1)
        return output

    output = convolve()
    leaves = [features, offset, mask, weight]
    return [
        ('DCNv2, 2 x 256 x 50 x 84, 3 x 3', convolve),
        ('DCNv2, 2 x 256 x 50 x 84, 3 x 3, backward', lambda: backward(output, leaves)),
    ]


def suppressions(device: str) -> list[tuple[str, Callable[[], object]]]:
    """Suppress boxes that lie in clusters of eight, as those of a detector do."""
    suppressing: list[tuple[str, Callable[[], object]]] = []
    for count in (1000, 4000):
        first = drawn_rois(count // 8, 1, (800, 800), (20, 170))[:, 1:]
        boxes = (first.repeat(8, 1) + 8 * torch.randn(count, 4)).to(device)
        scores = torch.rand(count).to(device)

        def suppress(boxes: Tensor = boxes, scores: Tensor = scores) -> object:
            return ops.nms(boxes, scores, 0.7)

        suppressing.append((f'nms, {count} boxes', suppress))
    suppressing.append(
        (
            'soft_nms, 1000 boxes',
            lambda: ops.soft_nms(boxes[:1000], scores[:1000], 0.3, min_score=0.05),
        )
    )
    return suppressing


def backward(output: Tensor, leaves: list[Tensor]) -> object:
    """Compute gradients of the leaves."""
    grad = torch.ones_like(output)
    return torch.autograd.grad(output, leaves, grad, retain_graph=True)


def drawn_rois(
    count: int, num_images: int, area: tuple[int, int], sides: tuple[int, int]
) -> Tensor:
    """Draw regions: (count, 5), with corners in an area and sides in a range."""
    images = torch.randint(0, num_images, (count, 1)).float()
    corners = torch.rand(count, 2) * torch.tensor(area)
    sizes = torch.rand(count, 2) * (sides[1] - sides[0]) + sides[0]
    return torch.cat([images, corners, corners + sizes], dim=1)


if __name__ == '__main__':
    main()
