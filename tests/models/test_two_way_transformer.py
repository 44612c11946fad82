"""The two-way transformer: what is added where (numbers: see the mask decoder)."""

import torch
from torch import Tensor, nn

from projects.sam2.models.mask_decoder import TwoWayLayer, TwoWayTransformer


def _layer(*, first: bool) -> TwoWayLayer:
    torch.manual_seed(0)
    return TwoWayLayer(embed_dims=8, num_heads=2, mlp_dims=16, first=first)


def _inputs() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        'tokens': torch.randn(2, 3, 8),
        'image': torch.randn(2, 6, 8),
        'token_position': torch.randn(2, 3, 8),
        'image_position': torch.randn(1, 6, 8),
    }


def _silence(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def _silenced(layer: TwoWayLayer, *, keep: str) -> TwoWayLayer:
    """Zero every branch of a layer but one, and make its norms plain."""
    for name in ('cross_attention_token_to_image', 'mlp', 'self_attention'):
        if name != keep:
            _silence(getattr(layer, name))
    return layer


def _norm(tokens: Tensor, times: int) -> Tensor:
    for _ in range(times):
        tokens = nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-5)
    return tokens


def test_first_layer_replaces_the_tokens_by_their_unplaced_self_attention() -> None:
    layer = _silenced(_layer(first=True), keep='self_attention')
    inputs = _inputs()
    tokens, _ = layer(**inputs)
    plain = layer.self_attention(*[inputs['tokens']] * 3)
    torch.testing.assert_close(tokens, _norm(plain, times=3))


def test_later_layers_add_a_self_attention_with_positions() -> None:
    layer = _silenced(_layer(first=False), keep='self_attention')
    inputs = _inputs()
    placed = inputs['tokens'] + inputs['token_position']
    added = layer.self_attention(placed, placed, inputs['tokens'])
    tokens, _ = layer(**inputs)
    torch.testing.assert_close(tokens, _norm(inputs['tokens'] + added, times=3))


def test_image_attends_to_the_updated_tokens() -> None:
    layer, inputs = _layer(first=False), _inputs()
    tokens, image = layer(**inputs)
    added = layer.cross_attention_image_to_token(
        inputs['image'] + inputs['image_position'],
        tokens + inputs['token_position'],
        tokens,
    )
    torch.testing.assert_close(image, _norm(inputs['image'] + added, times=1))


def test_transformer_keeps_shapes_and_lets_objects_be() -> None:
    torch.manual_seed(0)
    transformer = TwoWayTransformer(embed_dims=8, num_heads=2, mlp_dims=16)
    tokens, image = torch.randn(3, 5, 8), torch.randn(3, 8, 2, 4)
    position = torch.randn(1, 8, 2, 4)
    both = transformer(tokens=tokens, image=image, position=position)
    assert both[0].shape == tokens.shape
    assert both[1].shape == image.shape
    alone = transformer(tokens=tokens[1:2], image=image[1:2], position=position)
    for together, single in zip(both, alone, strict=True):
        torch.testing.assert_close(together[1:2], single)


def test_cross_attention_works_in_half_the_channels() -> None:
    layer = _layer(first=True)
    assert layer.cross_attention_token_to_image.query.out_features == 4
    assert layer.cross_attention_image_to_token.query.out_features == 4
    assert layer.self_attention.query.out_features == 8
