"""Recipes for cards of some size build, and train what they say."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from torch import nn

from source_tree import ROOT

ALL_PARTS = ('image_encoder.backbone', 'tracker.memory_attention', 'mask_decoder')
FROZEN = ('image_encoder.',)
# Name: parts computed twice, clips of a step, frozen parts, frames and side of a clip.
RECIPES = {
    '': ((), 1, (), 8, 1024),
    '_40gb': (ALL_PARTS[:1], 1, (), 8, 1024),
    '_24gb': (ALL_PARTS[:2], 1, (), 8, 1024),
    '_low_memory': (ALL_PARTS, 1, (), 8, 1024),
    '_16gb': (ALL_PARTS, 2, FROZEN, 8, 1024),
    '_8gb': (ALL_PARTS, 8, FROZEN, 4, 512),
    '_8gb_lora': (ALL_PARTS, 8, (), 4, 512),
}


def load(name: str) -> Config:
    """A config of base+ on MOSE."""
    return Config.fromfile(ROOT / 'configs' / f'sam2_bplus_mose{name}.py')


def built(cfg: Config) -> nn.Module:
    """The model without memory for its weights, its hooks applied."""
    cfg.model.update(accumulators=[])
    with torch.device('meta'):
        model: nn.Module = MODELS.build(cfg.model)
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(hook).apply(model)
    return model


def trained(model: nn.Module) -> set[str]:
    """Names of what is trained."""
    return {name for name, one in model.named_parameters() if one.requires_grad}


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_does_what_its_name_asks_for(name: str) -> None:
    if 'lora' in name:
        pytest.importorskip('peft')
    parts, counts, frozen, num_frames, side = RECIPES[name]
    cfg = load(name)
    model = built(cfg)
    assert [part for part in ALL_PARTS if model.get_submodule(part).with_cp] == [*parts]
    sample, *_, resize = cfg.train_dataloader.dataset.dataset.pipeline[:6]
    assert (sample.num_frames, resize.size) == (num_frames, (side, side))
    assert cfg.model.data_preprocessor.image_size == (side, side)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper, OptimWrapper)
    assert wrapper._accumulative_counts == counts
    groups = wrapper.optimizer.param_groups
    of_optimizer = {id(one) for group in groups for one in group['params']}
    named = dict(model.named_parameters())
    assert of_optimizer == {id(named[one]) for one in trained(model)}
    if 'lora' not in name:
        assert trained(model) == {n for n in named if not n.startswith(frozen)}


def test_schedule_of_80_gb_is_the_published_one() -> None:
    schedules = ROOT / 'configs' / '_base_' / 'schedules'
    one, other = (
        Config.fromfile(schedules / f'{name}.py')._cfg_dict
        for name in ('finetune_40e', 'finetune_80gb')
    )
    assert one == other


def test_adapters_are_in_attention_alone_and_few() -> None:
    pytest.importorskip('peft')
    model = built(load('_8gb_lora'))
    names = trained(model)
    adapters = {name for name in names if '.lora_' in name}
    assert {name.split('.')[0] for name in names - adapters} == {'mask_decoder'}
    assert all('attention' in name for name in adapters)
    weights = dict(model.named_parameters())
    whole = sum(one.numel() for one in weights.values())
    assert 0 < sum(weights[name].numel() for name in adapters) < 0.02 * whole
