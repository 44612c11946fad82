"""Activation checkpointing: the same gradients, and less that is kept."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from golden_models import golden_model
from kept_memory import kept_storages
from projects.sam2.models.layers import (
    MLP,
    LayerNorm2d,
    RotaryAttention,
    checkpoint,
    checkpointing,
    recompute_norms_and_activations,
)
from projects.sam2.models.layers.checkpointing import recompute_cheap_results


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, 'SMALLEST_BYTES', 0)
    torch.manual_seed(0)


class Block(nn.Module):
    """Norm, linear layer, norm of maps, activation, convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.expand = nn.LayerNorm(8), nn.Linear(8, 32)
        self.map_norm, self.activation = LayerNorm2d(32), nn.GELU()
        self.reduce = nn.Conv2d(32, 8, kernel_size=1)
        recompute_norms_and_activations(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """(2, 12, 8) -> (2, 12, 8)."""
        hidden = self.expand(self.norm(tokens))
        maps = hidden.mT.unflatten(2, (3, 4)).contiguous()  # (2, 32, 3, 4)
        output: Tensor = self.reduce(self.activation(self.map_norm(maps)))
        return output.flatten(2).mT


def gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value.square().sum(), inputs)


def test_cheap_results_are_recomputed_to_the_same_gradients() -> None:
    block, tokens = Block(), torch.randn(2, 12, 8, requires_grad=True) * 1
    inputs = (tokens, *block.parameters())
    expected = gradients(block(tokens), *inputs)
    with recompute_cheap_results():
        output = block(tokens)
    assert all(
        torch.equal(*pair)
        for pair in zip(gradients(output, *inputs), expected, strict=True)
    )


def test_norms_and_activations_are_not_kept() -> None:
    block, tokens = Block(), torch.randn(2, 12, 8, requires_grad=True) * 1
    num_hidden = 4 * tokens.nbytes
    plain = kept_storages(lambda: block(tokens))
    assert sorted(plain)[-1] == num_hidden

    def forward() -> None:
        with recompute_cheap_results():
            block(tokens)

    kept = kept_storages(forward)
    # Of the wide tensors the input of the second norm remains.
    assert plain.count(num_hidden) >= 4
    assert kept.count(num_hidden) == 1
    assert kept.count(tokens.nbytes) == 1


def test_dropout_after_an_activation_keeps_one_tensor() -> None:
    mlp = MLP(in_dims=8, hidden_dims=32, out_dims=4, num_layers=2, dropout=0.5)
    tokens = torch.randn(16, 8, requires_grad=True) * 1
    assert kept_storages(lambda: mlp(tokens)).count(4 * tokens.nbytes) == 1


@pytest.mark.parametrize('functionally', [False, True])
def test_keys_of_narrow_memories_are_recomputed(*, functionally: bool) -> None:
    attention = RotaryAttention(embed_dims=16, num_heads=1, kv_dims=4, dropout=0.25)
    tokens, memory = (
        torch.randn(2, length, channels, requires_grad=True)
        for length, channels in ((4, 16), (6, 4))
    )
    weights: dict[str, Tensor] = dict(attention.named_parameters())
    inputs = (tokens, memory, *weights.values())

    def attend(module: nn.Module) -> Tensor:
        torch.manual_seed(3)
        attended: Tensor = functional_call(
            module, weights, (tokens, memory, memory), {'num_unrotated': 2}
        )
        return attended

    expected = gradients(attend(attention), *inputs)
    other = RotaryAttention(embed_dims=16, num_heads=1, kv_dims=4, dropout=0.25)
    kept: list[int] = []

    def forward() -> None:
        with recompute_cheap_results():
            attended = attend(other if functionally else attention)
        torch.testing.assert_close(gradients(attended, *inputs), expected)

    kept = kept_storages(forward)
    assert 4 * 2 * 6 * 16 not in kept  # neither keys nor rotated keys


@pytest.mark.parametrize('kept_directly', [True, False])
def test_tensors_modified_before_the_backward_pass_are_noticed(
    *, kept_directly: bool
) -> None:
    norm, layer = nn.LayerNorm(4), nn.Linear(4, 4)
    recompute_norms_and_activations(norm)
    with recompute_cheap_results():
        output = layer(norm(torch.randn(3, 4)))
    with torch.no_grad():
        (layer if kept_directly else norm).weight.mul_(2)
    if kept_directly:
        output = output.square()
    with pytest.raises(RuntimeError, match='inplace'):
        output.sum().backward()
    output.detach_()


def test_a_norm_modified_in_place_keeps_its_modified_output() -> None:
    norm, layer = nn.LayerNorm(4), nn.Linear(4, 4)
    recompute_norms_and_activations(norm)
    tokens = torch.randn(3, 4, requires_grad=True)

    def forward() -> Tensor:
        output: Tensor = layer(norm(tokens).mul_(2))
        return output

    inputs = (tokens, *norm.parameters(), *layer.parameters())
    expected = gradients(forward(), *inputs)
    with recompute_cheap_results():
        output = forward()
    torch.testing.assert_close(gradients(output, *inputs), expected)


def test_autocast_is_repeated() -> None:
    block, tokens = Block(), torch.randn(2, 12, 8, requires_grad=True)
    inputs = (tokens, *block.parameters())
    with torch.autocast('cpu', torch.bfloat16):
        expected = gradients(block(tokens), *inputs)
        with recompute_cheap_results():
            output = block(tokens)
    torch.testing.assert_close(gradients(output, *inputs), expected)


def test_graphs_without_a_backward_pass_are_freed() -> None:
    block = Block()
    kept: list[Tensor] = []
    freed: list[bool] = []

    class Watched(torch.autograd.Function):
        """Notices when its graph is freed."""

        @staticmethod
        def forward(ctx: object, tensor: Tensor) -> Tensor:
            ctx.note = Note()  # type: ignore[attr-defined]
            return tensor.clone()

    class Note:
        def __del__(self) -> None:
            freed.append(True)

    with recompute_cheap_results():
        tokens = Watched.apply(torch.randn(2, 12, 8, requires_grad=True))  # type: ignore[no-untyped-call]  # torch
        kept.append(functional.relu(block(tokens)).exp())
    del tokens
    kept.clear()
    assert freed


def test_checkpoint_keeps_its_input_alone_and_repeats_dropout() -> None:
    part = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.GELU(), nn.Linear(64, 2))
    tensor = torch.randn(16, 4, requires_grad=True) * 1
    inputs = (tensor, *part.parameters())
    torch.manual_seed(1)
    plain = part(tensor)
    expected = gradients(plain, *inputs)
    torch.manual_seed(1)
    recomputed = checkpoint(part, tensor, enabled=True)
    torch.manual_seed(2)  # what runs between forward and backward draws, too
    assert torch.equal(recomputed, plain)
    for ours, theirs in zip(gradients(recomputed, *inputs), expected, strict=True):
        assert torch.equal(ours, theirs)
    kept = kept_storages(lambda: checkpoint(part, tensor, enabled=True))
    assert kept == [tensor.nbytes]


def test_the_last_layer_of_a_checkpoint_runs_once() -> None:
    calls: list[str] = []
    first, last = nn.Linear(4, 8), nn.Linear(8, 2)
    first.register_forward_hook(lambda *_: calls.append('first'))
    last.register_forward_hook(lambda *_: calls.append('last'))
    tensor = torch.randn(3, 4, requires_grad=True)
    checkpoint(nn.Sequential(first, last), tensor, enabled=True).sum().backward()
    assert calls == ['first', 'last', 'first']


def test_a_checkpoint_follows_the_setting_for_large_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    layer, tensor = nn.Linear(4, 4), torch.randn(3, 4, requires_grad=True)

    def forward(tensor: Tensor) -> Tensor:
        calls.append(1)
        result: Tensor = layer(functional.gelu(tensor))
        return result

    def num_calls() -> int:
        calls.clear()
        with recompute_cheap_results():
            output = checkpoint(forward, tensor)
        output.sum().backward()
        return len(calls)

    assert num_calls() == 2
    monkeypatch.setattr(checkpointing, 'SMALLEST_BYTES', tensor.nbytes + 1)
    assert num_calls() == 1
    calls.clear()
    checkpoint(forward, tensor).sum().backward()
    assert len(calls) == 1


def test_a_compiler_traces_through_it_for_any_size() -> None:
    block = Block()

    def run(tokens: Tensor) -> Tensor:
        output: Tensor = checkpoint(block, tokens, enabled=True)
        return output

    torch.compiler.reset()
    traced = torch.compile(run, backend='eager', fullgraph=True, dynamic=True)
    tokens = torch.randn(2, 12, 8)
    with recompute_cheap_results():
        torch.testing.assert_close(traced(tokens), block(tokens))


PARTS = ('image_encoder.backbone', 'mask_decoder')


@pytest.mark.parametrize(
    ('setting', 'device', 'recomputes'),
    [
        ('auto', 'cpu', True),
        ('auto', 'meta', False),
        (True, 'meta', True),
        (False, 'cpu', False),
        (['mask_decoder'], 'meta', True),
    ],
)
def test_the_setting_of_a_model_decides(
    setting: Any, device: str, *, recomputes: bool
) -> None:
    model = golden_model('v17')
    model.to(device)
    model.set_activation_checkpointing(setting)
    with checkpointing.recompute_activations(model):
        assert (checkpointing._cheap_results.get() is not None) is recomputes
    whole = [part for part in PARTS if model.get_submodule(part).with_cp]
    assert whole == (setting if isinstance(setting, list) else [])


@pytest.mark.parametrize('setting', ['never', ['decoder']])
def test_unknown_settings_are_refused(setting: Any) -> None:
    with pytest.raises(ValueError, match=r"'never'; give 'auto'|'decoder' cannot"):
        golden_model('v17').set_activation_checkpointing(setting)
