"""Adapters start as nothing, learn, and merge into a plain model."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from golden_models import golden_model, tiny_config
from projects.sam2.checkpoints import fit_adapters, is_adapter_key
from projects.sam2.models import SAM2
from projects.sam2.models.adaptation import merged_weights, trained_weights
from square_clips import SIDE, square_sample

IMAGE = {'image_size': (SIDE, SIDE)}
LAYERS = ['image_encoder.backbone.blocks.*.attention', 'tracker.*', 'mask_decoder']
FROZEN = {'type': 'SAM2Freezing', 'parts': ['*'], 'but': ['prompt_encoder']}


def plain_model() -> SAM2:
    """The golden model, which finds its objects in every frame."""
    model = golden_model('v17', data_preprocessor=IMAGE)
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += 20
    return model


def adapted(*, dora: bool = False, layers: list[str] = LAYERS) -> SAM2:
    """The golden model with new adapters."""
    pytest.importorskip('peft')
    adapters = {'type': 'SAM2LowRankAdapters', 'layers': layers, 'rank': 4}
    config: dict[str, Any] = {
        **tiny_config(data_preprocessor=IMAGE),
        'adaptations': [FROZEN, {**adapters, 'dora': dora}],
    }
    model: SAM2 = MODELS.build(config).eval()
    weights = plain_model().state_dict()
    model.load_state_dict(fit_adapters(weights, model.state_dict()))
    return model


def disturbed(model: SAM2) -> SAM2:
    """Change all adapters, as training would."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if is_adapter_key(name):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.1 * noise
    return model


def masks(model: SAM2) -> Tensor:
    """What a model tracks in a clip whose first frame has masks."""
    batch = model.data_preprocessor([square_sample(0)])['inputs']
    with torch.no_grad():
        outputs = model(batch, mode='tensor')
    return torch.stack([output.final.mask_logits for output in outputs[1:]])


@pytest.mark.parametrize('dora', [False, True])
def test_new_adapters_change_nothing_and_trained_ones_merge(*, dora: bool) -> None:
    plain = plain_model()
    model = adapted(dora=dora)
    expected = masks(plain)
    assert torch.allclose(masks(model), expected, rtol=1e-4, atol=1e-4)
    found = masks(disturbed(model))
    assert (found - expected).abs().max() > 1
    weights = merged_weights(model)
    plain.load_state_dict(weights)
    assert torch.allclose(masks(plain), found, rtol=1e-3, atol=1e-3)
    # Merging changed no weight of the model itself.
    assert torch.equal(masks(model), found)


def test_adapters_learn_and_their_layers_do_not() -> None:
    model = disturbed(adapted()).train()
    batch = model.data_preprocessor([square_sample(0)])['inputs']
    torch.stack(list(model(batch, mode='loss').values())).sum().backward()
    learning = {n for n, p in model.named_parameters() if p.grad is not None}
    adapters = {n for n, _ in model.named_parameters() if is_adapter_key(n)}
    of_layers = [n for n, one in model.named_modules() if isinstance(one, nn.Linear)]
    assert {f'{name}.weight' for name in of_layers} >= adapters
    assert adapters <= set(trained_weights(model))
    others = learning - adapters
    assert others
    assert all(name.startswith('prompt_encoder.') for name in others)
    assert len(adapters & learning) > 0.9 * len(adapters)


def test_pattern_without_a_linear_layer_is_named() -> None:
    with pytest.raises(ValueError, match=r"'memory_encoder\.mask' fits nothing"):
        adapted(layers=['memory_encoder.mask'])


def test_without_the_package_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'peft', None)
    adapters = {'type': 'SAM2LowRankAdapters', 'layers': ['mask_decoder']}
    with pytest.raises(ImportError, match=r'is not installed: pip install .* peft'):
        MODELS.build({**tiny_config(), 'adaptations': [adapters]})


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        ('import accelerate_is_not_here', "No module named 'accelerate_is_not_here'"),
        ('from torch import not_in_this_torch', "cannot import name 'not_in_this"),
        ('1 / 0', 'ZeroDivisionError: division by zero'),
    ],
)
def test_package_that_is_broken_is_told_from_one_that_is_missing(
    content: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'peft.py').write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [*sys.modules]:
        if name.partition('.')[0] == 'peft':
            monkeypatch.delitem(sys.modules, name)
    adapters = {'type': 'SAM2LowRankAdapters', 'layers': ['mask_decoder']}
    with pytest.raises(ImportError, match='installed but cannot be imported') as caught:
        MODELS.build({**tiny_config(), 'adaptations': [adapters]})
    assert problem in str(caught.value)
    assert 'not installed' not in str(caught.value)
