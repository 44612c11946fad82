"""What is computed twice: the same gradients, and less that is kept."""

import pytest
import torch
from torch import Tensor, nn

from kept_memory import kept_storages
from projects.sam2.models.layers import apply_after, recomputed
from projects.sam2.models.layers import checkpointing as recompute


def gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value.square().sum(), inputs)


def test_gradients_equal_those_of_a_plain_call_dropout_included() -> None:
    torch.manual_seed(0)
    part = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 2))
    tensor = torch.randn(16, 4, requires_grad=True)
    torch.manual_seed(1)
    plain = part(tensor)
    torch.manual_seed(1)
    twice = recomputed(part, tensor)
    torch.manual_seed(2)  # what runs between forward and backward draws, too
    assert torch.equal(twice, plain)
    inputs = (tensor, *part.parameters())
    for ours, expected in zip(
        gradients(twice, *inputs), gradients(plain, *inputs), strict=True
    ):
        assert torch.equal(ours, expected)


def test_only_the_input_is_kept() -> None:
    part = nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, 2))
    tensor = torch.randn(16, 4, requires_grad=True) * 1
    assert kept_storages(lambda: recomputed(part, tensor)) == [4 * 16 * 4]
    assert sum(kept_storages(lambda: part(tensor))) >= 4 * 2 * 16 * 64


def test_small_tensors_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute, 'SMALLEST_BYTES', 4 * 16 * 8)
    layer = nn.Linear(8, 8)
    small, large = (torch.randn(n, 8, requires_grad=True) * 1 for n in (15, 16))
    activation = nn.functional.gelu
    kept = kept_storages(lambda: apply_after(activation, layer, small))
    assert kept.count(small.nbytes) == 2
    kept = kept_storages(lambda: apply_after(activation, layer, large))
    assert kept == [large.nbytes]


def test_the_layer_after_a_cheap_step_runs_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recompute, 'SMALLEST_BYTES', 0)
    calls: list[str] = []
    layer = nn.Linear(4, 4)

    def step(tensor: Tensor) -> Tensor:
        calls.append('step')
        return nn.functional.gelu(tensor)

    class Noted(torch.autograd.Function):
        """Notes when what comes after the layer is reached."""

        @staticmethod
        def forward(ctx: object, tensor: Tensor) -> Tensor:
            del ctx
            calls.append('after the layer')
            return tensor.clone()

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            del ctx
            return gradient

    def noted_layer(tensor: Tensor) -> Tensor:
        result: Tensor = Noted.apply(layer(tensor))  # type: ignore[no-untyped-call]  # torch
        return result

    tensor = torch.randn(3, 4, requires_grad=True)
    expected = gradients(layer(nn.functional.gelu(tensor)), tensor)
    found = gradients(apply_after(step, noted_layer, tensor), tensor)
    assert torch.equal(found[0], expected[0])
    assert calls == ['step', 'after the layer', 'step']


def test_without_gradients_nothing_is_prepared() -> None:
    tensor = torch.randn(3, 4)
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        assert recomputed(layer, tensor).grad_fn is None
        assert torch.equal(apply_after(None, layer, tensor), layer(tensor))


def test_a_compiler_traces_it_for_sizes_that_it_does_not_know() -> None:
    layer = nn.Linear(4, 4)

    def both(tensor: Tensor) -> Tensor:
        return apply_after(nn.functional.gelu, layer, tensor)

    tensor = torch.randn(3, 4)
    torch.compiler.reset()
    traced = torch.compile(both, backend='eager', fullgraph=True, dynamic=True)
    assert torch.equal(traced(tensor), both(tensor))
