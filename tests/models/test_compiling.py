"""Compiled regions compute what the model does, and are compiled only once."""

import copy
from types import ModuleType

import pytest
import torch
import torch._inductor.config
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.testing import assert_close

from golden_models import tiny_config
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.models import SAM2
from projects.sam2.models.compiling import compile_model, find_modules
from square_clips import SIDE, square_sample
from tool_modules import load_tool
from untraced import untraced

pytestmark = pytest.mark.filterwarnings('ignore')  # of the compiler's own


@pytest.fixture(scope='module')
def bench() -> ModuleType:
    return load_tool('benchmarks/compiled_session')


def build_model() -> SAM2:
    torch.manual_seed(0)
    torch.compiler.reset()
    size = {'image_size': (SIDE, SIDE)}
    backbone = {'stages': (1, 1, 1, 1), 'global_attention_blocks': (2,)}
    config = tiny_config(
        data_preprocessor=size,
        image_encoder__backbone=backbone,
        tracker__memory_attention={'num_layers': 1},
    )
    model: SAM2 = MODELS.build(config)
    with torch.no_grad():  # random weights judge every object absent
        model.mask_decoder.object_score_head.layers[-1].bias += 10
    return model


def num_graphs() -> int:
    return counters['stats']['unique_graphs']


@untraced()
def test_a_session_compiles_nothing_after_the_warm_up(bench: ModuleType) -> None:
    model = build_model().eval()
    compiled = SAM2VideoPredictor(copy.deepcopy(model), max_batch_objects=8)
    compile_model(compiled.model, backend='eager')
    compiled.warm_up()
    before = num_graphs()
    masks = bench.run_session(compiled, 6)
    assert num_graphs() == before > 0
    assert_close(masks, bench.run_session(SAM2VideoPredictor(model), 6))


def gradients(model: SAM2, num_frames: int, num_objects: int) -> tuple[Tensor, Tensor]:
    """Loss of a clip, and all gradients as one vector."""
    sample = square_sample(0)
    frames, objects = torch.arange(num_frames) % 3, torch.arange(num_objects) % 2
    for name in ('frames', 'void', 'annotated'):
        sample.set_field(getattr(sample, name)[frames], name)
    sample.masklets = sample.masklets[frames][:, objects]
    sample.object_ids = 1 + torch.arange(num_objects)
    model.zero_grad()
    batch = model.data_preprocessor([sample])['inputs']
    loss = torch.stack(list(model(batch, mode='loss').values())).sum()
    loss.backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(grads)


@untraced()
def test_clips_of_other_lengths_are_trained_as_compiled() -> None:
    model = build_model().train()
    compiled = copy.deepcopy(model)
    compiled.compile_regions('eager')
    gradients(compiled, num_frames=4, num_objects=2)
    before = num_graphs()
    loss, grads = gradients(compiled, num_frames=6, num_objects=3)
    assert num_graphs() == before > 0
    expected_loss, expected = gradients(model, num_frames=6, num_objects=3)
    assert_close(loss, expected_loss, rtol=1e-5, atol=0)
    assert (grads - expected).norm() <= 1e-4 * expected.norm()


def test_copies_are_not_compiled_and_a_second_call_changes_nothing() -> None:
    model = build_model()
    compile_model(model, backend='eager')
    calls = [module._compiled_call_impl for module in model.modules()]
    assert sum(call is not None for call in calls) == 4 + 1 + 4
    compile_model(model, backend='eager')
    assert [module._compiled_call_impl for module in model.modules()] == calls
    copied = copy.deepcopy(model)
    assert not any(module._compiled_call_impl for module in copied.modules())
    assert len(find_modules(model, 'image_encoder.backbone.blocks.*')) == 4


def test_a_missing_compiler_is_named_before_the_first_frame() -> None:
    with (
        torch._inductor.config.patch({'cpp.cxx': ('no-such-compiler',)}),
        pytest.raises(ValueError, match=r'torch\.compile needs a C\+\+ compiler'),
    ):
        compile_model(nn.Linear(2, 2))
