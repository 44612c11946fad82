"""The parts of the model are traced without a graph break."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from golden_models import golden_model
from projects.sam2.models import SAM2
from projects.sam2.structures import PointPrompt

SIZE = (4, 4)  # of the image embedding


@pytest.fixture
def model() -> SAM2:
    return golden_model('v17').train()


def image_encoder(model: SAM2) -> Tensor:
    output: Tensor = model.image_encoder(torch.randn(1, 3, 64, 64))[2]
    return output


def memory_attention(model: SAM2) -> Tensor:
    dims, memory_dims = model.prompt_encoder.embed_dims, memory_dims_of(model)
    output: Tensor = model.tracker.memory_attention(
        tokens=torch.randn(2, 16, dims),
        position=torch.randn(1, 16, dims),
        memory=torch.randn(2, 36, memory_dims),
        memory_position=torch.randn(1, 36, memory_dims),
        num_pointer_tokens=4,
        feature_size=SIZE,
    )
    return output


def memory_dims_of(model: SAM2) -> int:
    dims: int = model.tracker.object_pointer.memory_dims
    return dims


def memory_encoder(model: SAM2) -> Tensor:
    features = torch.randn(2, model.prompt_encoder.embed_dims, *SIZE)
    output: Tensor = model.tracker.memory_encoder(features, torch.randn(2, 1, 64, 64))
    return output


def prompt_encoder_and_mask_decoder(model: SAM2) -> Tensor:
    prompts = model.prompt_encoder(
        points=PointPrompt(
            coords=torch.tensor([[[9.0, 8]], [[7.0, 6]]]),
            labels=torch.tensor([[1], [-1]], dtype=torch.int32),
        ),
        mask_logits=torch.randn(2, 1, 16, 16),
        embedding_size=SIZE,
        num_objects=2,
    )
    dims = model.prompt_encoder.embed_dims
    high_res = (torch.randn(2, dims, 8, 8), torch.randn(2, dims, 16, 16))
    output: Tensor = model.mask_decoder(
        embedding=torch.randn(2, dims, *SIZE),
        position=model.prompt_encoder.dense_position(SIZE),
        prompts=prompts,
        high_res=model.mask_decoder.project_high_res(*high_res),
        multimask=False,
        select_by_stability=True,
    ).mask_logits
    return output


@pytest.mark.filterwarnings('ignore')  # of the compiler's own
@pytest.mark.parametrize(
    'run',
    [image_encoder, memory_attention, memory_encoder, prompt_encoder_and_mask_decoder],
)
def test_a_part_is_traced_without_a_break_to_the_same_results(
    model: SAM2, run: Callable[[SAM2], Tensor]
) -> None:
    torch.manual_seed(0)
    expected = run(model)
    torch.compiler.reset()
    torch.manual_seed(0)
    traced = torch.compile(run, backend='eager', fullgraph=True)(model)
    assert traced.requires_grad
    if run is not memory_attention:  # which draws its dropout in another order
        torch.testing.assert_close(traced, expected, rtol=1e-4, atol=1e-4)
