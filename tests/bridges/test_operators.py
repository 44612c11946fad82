"""Operators of mmcv in torch, against the compiled ones and literal references."""

from collections.abc import Callable
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from operator_cases import CASES, Draw
from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.bridges.operators import deformable

pytest.importorskip('mmcv')
ensure_operators()
GOLDEN = Path(__file__).parent / 'golden/mmcv_operators.npz'

on_each_device = pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU'),
        ),
    ],
)


def ops() -> Any:
    """Mmcv's module, imported when the operators are there."""
    from mmcv import ops as module  # noqa: PLC0415

    return module


def assert_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Compare gradients with differences, in float64."""
    leaves = [tensor.double().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)


def bilinear(image: Tensor, y: float, x: float, *, replicate: bool) -> Tensor:
    """Sample (C, H, W) at a point; zero, or the border's values, around the map."""
    _, height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return image.new_zeros(len(image))
    if replicate:
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    value = image.new_zeros(len(image))
    for row in (floor(y), floor(y) + 1):
        for column in (floor(x), floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                value = value + weight * image[:, row, column]
    return value


@on_each_device
@pytest.mark.parametrize('case', sorted(CASES))
def test_results_equal_those_of_compiled_mmcv(case: str, device: str) -> None:
    results = {f'{case}/{key}': value for key, value in CASES[case](device).items()}
    with np.load(GOLDEN) as golden:
        names = [name for name in golden if name.startswith(f'{case}/')]
        expected = {name: torch.from_numpy(golden[name]).to(device) for name in names}
    assert results.keys() == expected.keys()
    assert_close(results, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


# Regions -----------------------------------------------------------------------------


@on_each_device
def test_regions_of_many_sizes_average_their_samples(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small parts, so that sparse and dense weights are computed in several of them.
    monkeypatch.setattr(
        'projects.sam2.bridges.operators.sampling.ENTRIES_PER_CHUNK', 500
    )
    draw = Draw(0, device)
    boxes = draw.boxes(9, 40)
    images = torch.arange(9, device=device)[:, None] % 2
    rois = torch.cat([images, boxes], dim=1)
    for channels in (1, 70):  # dense, sparse
        features = draw.normal(2, channels, 12, 15).double().requires_grad_()
        pooled = ops().roi_align(features, rois.double(), (2, 3), 0.5, 0, 'avg', True)
        for index, (image, *box) in enumerate(rois.tolist()):
            x0, y0, x1, y1 = (0.5 * side - 0.5 for side in box)
            height, width = (y1 - y0) / 2, (x1 - x0) / 3
            rows, columns = ceil(height), ceil(width)
            for row, column in np.ndindex(2, 3):
                samples = [
                    bilinear(
                        features[int(image)],
                        y0 + height * (row + (i + 0.5) / rows),
                        x0 + width * (column + (j + 0.5) / columns),
                        replicate=True,
                    )
                    for i, j in np.ndindex(rows, columns)
                ]
                zero = features.new_zeros(channels)
                expected = sum(samples, zero) / max(len(samples), 1)
                assert_close(pooled[index, :, row, column], expected)
        # The pooling is linear, so that the gradient is its transpose.
        grad = draw.normal(*pooled.shape).double()
        (back,) = torch.autograd.grad(pooled, features, grad)
        assert_close((back * features).sum(), (grad * pooled).sum())


@on_each_device
def test_pooled_pixels_are_the_largest_of_their_bins(device: str) -> None:
    draw = Draw(1, device)
    features = draw.normal(2, 3, 9, 11).requires_grad_()
    boxes = torch.cat([draw.boxes(8, 20), draw.boxes(1, 20) - 200])
    images = torch.arange(9, device=device)[:, None] % 2
    rois = torch.cat([images, boxes], dim=1)
    pooled = ops().roi_pool(features, rois, (3, 2), 0.5)
    expected = torch.zeros_like(pooled)
    for index, (image, x0, y0, x1, y1) in enumerate(rois.tolist()):
        height, width = (y1 + 1 - y0) * 0.5 / 3, (x1 + 1 - x0) * 0.5 / 2
        for row, column in np.ndindex(3, 2):
            top, bottom = row * height + y0 * 0.5, (row + 1) * height + y0 * 0.5
            left, right = column * width + x0 * 0.5, (column + 1) * width + x0 * 0.5
            rows = slice(max(floor(top), 0), max(ceil(bottom), 0))
            columns = slice(max(floor(left), 0), max(ceil(right), 0))
            pixels = features[int(image), :, rows, columns].flatten(1)
            if pixels.shape[1]:
                expected[index, :, row, column] = pixels.max(dim=1).values
    assert_close(pooled, expected)
    grad = draw.normal(*pooled.shape)
    given, wanted = (
        torch.autograd.grad(result, features, grad, retain_graph=True)[0]
        for result in (pooled, expected)
    )
    assert_close(given, wanted)


@on_each_device
def test_deformed_regions_average_moved_samples(device: str) -> None:
    draw = Draw(2, device)
    features = draw.normal(2, 3, 9, 11)
    rois = torch.tensor([[0, 1, 2, 9, 7.5], [1, 3, 0.5, 17, 16]], device=device)
    offset = draw.normal(2, 2, 2, 3)
    pooled = ops().deform_roi_pool(features, rois, offset, (2, 3), 0.5, 2, 0.1)
    for index, (image, *box) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (0.5 * side - 0.5 for side in box)
        height, width = y1 - y0, x1 - x0
        for row, column in np.ndindex(2, 3):
            right, down = (0.1 * offset[index, :, row, column]).tolist()
            samples = [
                bilinear(
                    features[int(image)],
                    y0 + height * (down + (row + (i + 0.5) / 2) / 2),
                    x0 + width * (right + (column + (j + 0.5) / 2) / 3),
                    replicate=True,
                )
                for i, j in np.ndindex(2, 2)
            ]
            expected = sum(samples, features.new_zeros(3)) / 4
            assert_close(pooled[index, :, row, column], expected)

    def pool(maps: Tensor, moves: Tensor) -> Tensor:
        sizes = ((2, 3), 0.5, 2, 0.1)
        result: Tensor = ops().deform_roi_pool(maps, rois.to(maps), moves, *sizes)
        return result

    assert_gradients(pool, features, 0.1 * offset)


def test_a_region_that_ends_before_it_starts_is_named() -> None:
    rois = torch.tensor([[0, 1, 1, 5, 5.0], [0, 6, 2, 3, 5]])
    with pytest.raises(ValueError, match=r'RoI 1 ends before it starts: \[6.0, 2.0, 3'):
        ops().roi_align(torch.zeros(1, 2, 8, 8), rois, 2, 1.0, 0, 'avg', True)


# Deformable convolution and attention ------------------------------------------------


@on_each_device
def test_deformable_convolution_is_differentiable(device: str) -> None:
    draw = Draw(3, device)
    offset, mask = draw.normal(2, 36, 4, 3), draw.uniform(2, 18, 4, 3)
    features, weight, bias = (
        draw.normal(2, 4, 4, 3),
        draw.normal(6, 2, 3, 3),
        draw.normal(6),
    )
    still = ops().modulated_deform_conv2d(
        features, 0 * offset, 0 * mask + 1, weight, bias, 1, 1, 1, 2, 2
    )
    assert_close(still, F.conv2d(features, weight, bias, padding=1, groups=2))

    def convolve(*tensors: Tensor) -> Tensor:
        result: Tensor = ops().modulated_deform_conv2d(*tensors, 1, 1, 1, 2, 2)
        return result

    assert_gradients(convolve, features, offset, mask, weight, bias)
    with pytest.raises(ValueError, match=r'216 values are needed'):
        convolve(features, offset, mask[:, :, :2], weight, bias)
    with pytest.raises(ValueError, match=r'offset of shape \(2, 36, 2, 3\)'):
        ops().deform_conv2d(features, offset[:, :, :2], weight, 1, 1, 1, 2, 2)


@on_each_device
def test_attention_equals_mmcvs_own_for_cpus(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small parts, so that the queries are attended to in several of them.
    monkeypatch.setattr(deformable, 'ENTRIES_PER_CHUNK', 500)
    draw = Draw(4, device)
    shapes = torch.tensor([[6, 4], [3, 2]], device=device)
    value, factors = draw.normal(2, 30, 2, 8), draw.uniform(2, 7, 2, 2, 4)
    locations = draw.uniform(2, 7, 2, 2, 4, 2) * 1.4 - 0.2
    leaves = [t.requires_grad_() for t in (value, locations, factors)]
    attention = ops().multi_scale_deform_attn
    starts = torch.tensor([0, 24], device=device)
    result = attention.MultiScaleDeformableAttnFunction.apply(
        value, shapes, starts, locations, factors, 64
    )
    expected = attention.multi_scale_deformable_attn_pytorch(
        value, shapes, locations, factors
    )
    assert_close(result, expected, rtol=1e-5, atol=1e-5)
    grads = draw.normal(*result.shape)
    given, wanted = (torch.autograd.grad(t, leaves, grads) for t in (result, expected))
    assert_close(given, wanted, rtol=1e-5, atol=2e-5)


# Losses ------------------------------------------------------------------------------


@on_each_device
@pytest.mark.parametrize('weighted', [False, True])
def test_focal_losses_equal_their_formulas(device: str, weighted: bool) -> None:
    draw = Draw(5, device)
    logits = (3 * draw.normal(12, 4)).requires_grad_()
    target = torch.arange(12, device=device) % 5  # 4 is the background
    weight = draw.uniform(4) if weighted else None
    classes = F.pad(torch.ones(4) if weight is None else weight.cpu(), (0, 1), value=1)
    of_target = classes.to(device)[target][:, None]

    hot = F.one_hot(target, 5)[:, :4]
    probs = (logits * (2 * hot - 1)).sigmoid()
    alpha = hot * 0.3 + (1 - hot) * 0.7
    expected = (-alpha * (1 - probs) ** 1.5 * probs.log() * of_target).sum()
    result = ops().sigmoid_focal_loss(logits, target, 1.5, 0.3, weight, 'sum')
    assert_close(result, expected, rtol=1e-5, atol=1e-5)
    given, wanted = (torch.autograd.grad(t, logits)[0] for t in (result, expected))
    assert_close(given, wanted, rtol=1e-5, atol=1e-5)

    target = target - 1  # -1 is ignored
    is_class = target >= 0
    log_prob = logits.log_softmax(dim=1).gather(1, target.clamp(min=0)[:, None])
    of_target = classes.to(device)[target.clamp(min=0)][:, None]
    loss = -0.3 * (1 - log_prob.exp()) ** 1.5 * log_prob * of_target
    expected = loss[is_class].sum()
    result = ops().softmax_focal_loss(logits, target, 1.5, 0.3, weight, 'sum')
    assert_close(result, expected, rtol=1e-5, atol=1e-5)
    given, wanted = (torch.autograd.grad(t, logits)[0] for t in (result, expected))
    assert_close(given, wanted, rtol=1e-5, atol=1e-5)


# The rest ----------------------------------------------------------------------------


@on_each_device
def test_carafe_sums_neighbourhoods_with_weights_of_each_pixel(device: str) -> None:
    draw = Draw(6, device)
    features, masks = draw.normal(2, 6, 4, 5), draw.normal(2, 18, 8, 10)
    result = ops().carafe(features, masks, 3, 2, 2)
    assert_close(result, ops().carafe_naive(features, masks, 3, 2, 2))
    around = F.unfold(features, 3, padding=1).view(2, 2, 3, 9, 4, 5)
    around = around.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    expected = (around * masks.view(2, 2, 1, 9, 8, 10)).sum(dim=3)
    assert_close(result, expected.view(2, 6, 8, 10))

    def upsample(*tensors: Tensor) -> Tensor:
        upsampled: Tensor = ops().carafe(*tensors, 3, 2, 2)
        return upsampled

    assert_gradients(upsample, features, masks)


@pytest.mark.filterwarnings('ignore:This overload of addmm:UserWarning')  # mmcv
@on_each_device
def test_masked_convolution_is_a_convolution_at_chosen_pixels(device: str) -> None:
    draw = Draw(7, device)
    layer = ops().MaskedConv2d(3, 4, (3, 5), padding=(1, 2)).to(device)
    features = draw.normal(1, 3, 6, 7)
    mask = (draw.uniform(1, 6, 7) > 0.5).float()
    expected = layer(features) * mask
    assert_close(layer(features, mask), expected, rtol=1e-5, atol=1e-5)


@on_each_device
def test_synchronized_batch_norm_of_one_process_is_batch_norm(device: str) -> None:
    draw = Draw(8, device)
    features = draw.normal(3, 4, 5, 2).requires_grad_()
    weight, bias = draw.uniform(4).requires_grad_(), draw.normal(4).requires_grad_()
    means, variances = draw.normal(2, 4), draw.uniform(2, 4)
    means[1], variances[1] = means[0], variances[0]
    # The layer itself leaves a single process to torch.
    function = ops().sync_bn.SyncBatchNormFunction.apply
    running = means[0], variances[0]
    result = function(features, *running, weight, bias, 0.1, 1e-5, None, 1, 'default')
    expected = F.batch_norm(features, means[1], variances[1], weight, bias, True)
    assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert_close([means[0], variances[0]], [means[1], variances[1]])
    grad = draw.normal(*features.shape)
    given, wanted = (
        torch.autograd.grad(t, (features, weight, bias), grad)
        for t in (result, expected)
    )
    assert_close(given, wanted, rtol=1e-5, atol=1e-5)


@on_each_device
def test_half_precision_gives_the_rounded_result_of_float32(device: str) -> None:
    draw = Draw(9, device)
    features, offset = draw.normal(1, 4, 6, 6).half(), draw.normal(1, 18, 6, 6).half()
    weight = draw.normal(4, 4, 3, 3).half()
    rois = torch.tensor([[0, 1, 1, 4.5, 5]], device=device).half()
    boxes, scores = draw.boxes(40, 20).half(), draw.uniform(40).half()
    calls: list[tuple[Callable[..., Any], list[Tensor], list[Any]]] = [
        (ops().roi_align, [features, rois], [2, 1.0, 2, 'avg', True]),
        (ops().deform_conv2d, [features, offset, weight], [1, 1]),
        (lambda *args: ops().nms(*args)[1], [boxes, scores], [0.4]),
    ]
    for function, tensors, numbers in calls:
        with torch.autocast(device, dtype=torch.float16):
            half = function(*tensors, *numbers)
        full = function(*(t.float() for t in tensors), *numbers)
        assert_close(half, full.to(half.dtype), rtol=0, atol=0)
        assert half.dtype in {torch.float16, torch.int64}


def test_points_that_are_not_finite_count_as_outside_of_the_map() -> None:
    features = torch.ones(1, 2, 5, 5)
    rois = torch.tensor([[0, float('nan'), 0, 3, 3], [0, 0, 0, 4, 4]])
    pooled = ops().roi_align(features, rois, 2, 1.0, 0, 'avg', False)
    assert pooled[0].abs().sum() == 0
    assert_close(pooled[1], torch.ones(2, 2, 2))
    offset = torch.full((1, 18, 5, 5), float('inf'))
    still = ops().deform_conv2d(features, offset, torch.ones(1, 2, 3, 3), 1, 1)
    assert still.abs().sum() == 0
