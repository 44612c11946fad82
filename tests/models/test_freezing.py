"""Frozen parts cost nothing in training, and the others learn as before."""

from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, TASK_UTILS
from torch import Tensor

from golden_models import golden_model, tiny_config
from kept_memory import kept_storages
from projects.sam2.models import SAM2
from projects.sam2.models.adaptation import frozen_modules
from square_clips import SIDE, square_sample

IMAGE = {'image_size': (SIDE, SIDE)}
TRUNK = 'image_encoder.backbone'


def _frozen(*parts: str, **settings: Any) -> dict[str, Any]:
    return {'type': 'SAM2Freezing', 'parts': list(parts), **settings}


def _model(*adaptations: dict[str, Any], drop_path_rate: float = 0.0) -> SAM2:
    config = tiny_config(
        data_preprocessor=IMAGE,
        image_encoder__backbone={'drop_path_rate': drop_path_rate},
        tracker__memory_attention={'dropout': drop_path_rate},
    )
    model: SAM2 = MODELS.build({**config, 'adaptations': list(adaptations)})
    model.load_state_dict(golden_model('v17', data_preprocessor=IMAGE).state_dict())
    return model.train()


def _gradients(model: SAM2) -> dict[str, Tensor]:
    batch = model.data_preprocessor([square_sample(0)])['inputs']
    torch.stack(list(model(batch, mode='loss').values())).sum().backward()
    named = model.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


def test_features_of_a_frozen_encoder_have_no_graph() -> None:
    model = _model(_frozen('image_encoder'))
    frames = torch.randn(2, 3, SIDE, SIDE)
    assert kept_storages(lambda: model.image_encoder(frames)) == []
    assert not any(level.requires_grad for level in model.image_encoder(frames))
    assert kept_storages(lambda: _model().image_encoder(frames))


def test_what_is_not_frozen_gets_the_gradients_that_it_got_before() -> None:
    before = _gradients(_model())
    found = _gradients(_model(_frozen(TRUNK, 'tracker.*')))
    assert found
    assert found.keys() == {
        name for name in before if not name.startswith((TRUNK, 'tracker.'))
    }
    # A bias of keys has no gradient but rounding errors.
    floor = 1e-8 * max(float(gradient.norm()) for gradient in before.values())
    for name, gradient in found.items():
        error = float((gradient - before[name]).norm())
        assert error <= 1e-5 * float(before[name].norm()) + floor, name


def test_all_but_a_part_is_frozen_by_two_patterns() -> None:
    model = _model(_frozen('*', but=['mask_decoder', 'image_encoder.neck.*.bias']))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        name
        for name, _ in model.named_parameters()
        if name.startswith('mask_decoder.')
        or (name.startswith('image_encoder.neck') and name.endswith('bias'))
    }


def test_frozen_parts_drop_nothing_in_training_and_the_others_do() -> None:
    model = _model(_frozen(TRUNK), drop_path_rate=0.5)
    frames = torch.randn(1, 3, SIDE, SIDE)
    first, again = (model.image_encoder(frames)[2] for _ in range(2))
    assert torch.equal(first, again)
    model.eval().train()
    assert not any(one.training for one in model.image_encoder.backbone.modules())
    assert model.tracker.memory_attention.layers[0].dropout.training
    free = _model(drop_path_rate=0.5)
    first, again = (free.image_encoder(frames)[2] for _ in range(2))
    assert not torch.equal(first, again)


def test_largest_frozen_modules_are_found() -> None:
    model = _model(_frozen('tracker', f'{TRUNK}.blocks.0', 'mask_decoder.iou_token'))
    found = {id(one) for one in frozen_modules(model)}
    expected = [model.tracker, model.image_encoder.backbone.blocks[0]]
    assert found == {id(one) for one in [*expected, model.mask_decoder.iou_token]}


def test_pattern_that_fits_nothing_is_named_with_what_there_is() -> None:
    freezing = TASK_UTILS.build(_frozen('image_encoder.trunk'))
    with pytest.raises(ValueError, match=r"'image_encoder.trunk' .*encoder.backbone"):
        freezing.adapt(_model())
