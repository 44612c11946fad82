"""The memory encoder against the released one."""

import pytest
import torch
from torch.nn import functional

from golden_cases import GoldenCase, assert_close, assert_exact, discover
from golden_models import fill_released, released_keys, released_shapes
from projects.sam2.models.layers import cpu, sine_encoding_2d
from projects.sam2.models.memory_encoder import ConvNeXtBlock, MemoryEncoder

PREFIX = 'tracker.memory_encoder.'


@pytest.fixture
def encoder() -> MemoryEncoder:
    torch.manual_seed(0)
    return MemoryEncoder(embed_dims=8, memory_dims=4)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('memenc_*'))
@torch.no_grad()
def test_memories_equal_released(case: GoldenCase) -> None:
    encoder = MemoryEncoder(embed_dims=64, memory_dims=16)
    fill_released(encoder, case.spec['salt'], PREFIX)
    num_objects = len(case.arrays['skip'])
    embedding = case.input('pix', (num_objects, 64, 16, 16))
    mask = case.input('mmask', (num_objects, 1, 256, 256), 3)
    memory = encoder(embedding, mask)
    results = {
        'sig': encoder(embedding, mask.sigmoid()),
        'skip': memory,
        'downsampled': encoder.mask_downsampler(mask),
        'pos': sine_encoding_2d(channels=16, size=(16, 16), device=memory.device),
    }
    for name, result in results.items():
        assert_close(result, case.arrays[name], 1e-4, name)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('manifest_*'))
def test_weights_have_released_names_and_shapes(case: GoldenCase) -> None:
    encoder = MemoryEncoder()
    state = encoder.state_dict()
    shapes = {
        released: list(state[key].shape)
        for key, released in released_keys(encoder, PREFIX).items()
    }
    assert_exact(shapes, released_shapes(case, 'memory_encoder.'), 'shapes')


@torch.no_grad()
def test_objects_may_share_the_features_of_a_frame(encoder: MemoryEncoder) -> None:
    embedding, masks = torch.randn(1, 8, 4, 6), torch.randn(3, 1, 64, 96)
    memories = encoder(embedding, masks)
    assert memories.shape == (3, 4, 4, 6)
    repeated = encoder(embedding.expand(3, -1, -1, -1), masks)
    torch.testing.assert_close(memories, repeated)


@pytest.mark.parametrize('shared', [True, False])
@torch.no_grad()
def test_objects_are_taken_apart_where_frames_are_large(
    *, encoder: MemoryEncoder, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    embedding = torch.randn(1 if shared else 3, 8, 4, 6)
    masks = torch.randn(3, 1, 64, 96)
    whole = encoder(embedding, masks)
    # 4 * 8 channels of 24 cells: 3072 bytes an object.
    monkeypatch.setattr(cpu, 'MAX_TENSOR_BYTES', 7000)
    sizes: list[int] = []
    encoder.output.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    torch.testing.assert_close(encoder(embedding, masks), whole)
    assert sizes == [2, 1]


@torch.no_grad()
def test_untrained_fuser_hardly_changes_the_sum(encoder: MemoryEncoder) -> None:
    embedding, mask = torch.randn(2, 8, 4, 4), torch.randn(2, 1, 64, 64)
    total = encoder.pixel_projection(embedding) + encoder.mask_downsampler(mask)
    torch.testing.assert_close(encoder(embedding, mask), encoder.output(total))
    for name, parameter in encoder.fuser.named_parameters():
        if name.endswith('scale'):
            parameter.fill_(1)
    difference = encoder(embedding, mask) - encoder.output(total)
    assert difference.abs().max() > 1e-2


@torch.no_grad()
def test_block_equals_the_literal_one() -> None:
    block = ConvNeXtBlock(embed_dims=8)
    block.scale.copy_(torch.randn(8))
    features = torch.randn(1, 8, 3, 5)
    branch = block.depthwise(features)
    expected = features.clone()
    for y in range(3):
        for x in range(5):
            pixel = functional.layer_norm(branch[0, :, y, x], (8,), eps=1e-6)
            hidden = functional.gelu(block.expand(pixel))
            expected[0, :, y, x] += block.scale * block.reduce(hidden)
    torch.testing.assert_close(block(features), expected)


def test_mask_of_another_size_is_refused(encoder: MemoryEncoder) -> None:
    with pytest.raises(ValueError, match=r'\(4, 4\).*\(32, 64\)'):
        encoder(torch.randn(1, 8, 4, 4), torch.randn(1, 1, 32, 64))
