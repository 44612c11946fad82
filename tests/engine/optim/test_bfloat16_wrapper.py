"""bfloat16 in the forward pass, float32 in weights and gradients."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from projects.sam2.engine.optim import SAM2BFloat16OptimWrapper


def train_step(
    wrapper: OptimWrapper, model: nn.Linear, inputs: Tensor
) -> tuple[Tensor, Tensor]:
    """One forward and backward pass; the output, and the gradient as it was."""
    gradients: list[Tensor] = []
    handle = model.weight.register_post_accumulate_grad_hook(
        lambda weight: gradients.append(weight.grad.clone())
    )
    with wrapper.optim_context(model):
        output = model(inputs)
        loss = output.float().square().mean()
    wrapper.update_params(loss)
    handle.remove()
    return output, gradients[0]


@pytest.fixture
def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 3)


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param(
            'cuda',
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason='no GPU here'
            ),
        ),
    ],
)
def test_forward_is_bfloat16_and_gradients_float32(
    model: nn.Linear, device: str
) -> None:
    if device == 'cpu' and torch.cuda.is_available():
        pytest.skip('MMEngine casts on the GPU where there is one')
    model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    output, gradient = train_step(
        SAM2BFloat16OptimWrapper(optimizer), model, torch.randn(4, 8, device=device)
    )
    assert output.dtype == torch.bfloat16
    assert gradient.dtype == model.weight.dtype == torch.float32
    assert model(torch.randn(4, 8, device=device)).dtype == torch.float32


def test_gradient_is_that_of_float32_up_to_rounding_and_is_not_scaled(
    model: nn.Linear,
) -> None:
    inputs = torch.randn(4, 8)
    _, half = train_step(
        SAM2BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)),
        model,
        inputs,
    )
    _, full = train_step(
        OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0)), model, inputs
    )
    assert torch.allclose(half, full, rtol=0.05, atol=0.02)
    assert not torch.equal(half, full)


def test_accumulated_halves_step_once_like_the_whole_batch(model: nn.Linear) -> None:
    inputs = torch.randn(4, 8)
    start = model.weight.detach().clone()

    def step(batches: list[Tensor]) -> Tensor:
        with torch.no_grad():
            model.weight.copy_(start)
            model.bias.zero_()
        wrapper = SAM2BFloat16OptimWrapper(
            torch.optim.SGD(model.parameters(), lr=1.0),
            accumulative_counts=len(batches),
        )
        wrapper.initialize_count_status(model, 0, len(batches))
        for batch in batches:
            assert torch.equal(model.weight, start)
            train_step(wrapper, model, batch)
        return model.weight.detach() - start

    assert torch.allclose(
        step([inputs]), step([inputs[:2], inputs[2:]]), rtol=0.02, atol=0.01
    )
