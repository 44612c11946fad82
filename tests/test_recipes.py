"""Recipes build, train what they say, and agree with themselves."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from torch import nn

from data_folders import write_coco, write_label_images, write_labelme
from projects.sam2.engine.config import load_config
from projects.sam2.models import SAM2
from tool_modules import ROOT

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
def test_recipe_does_what_its_name_says(name: str) -> None:
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


def test_adapters_are_small_and_only_in_attention() -> None:
    pytest.importorskip('peft')
    model = built(load('_8gb_lora'))
    names = trained(model)
    adapters = {name for name in names if '.lora_' in name}
    assert {name.split('.')[0] for name in names - adapters} == {'mask_decoder'}
    assert all('attention' in name for name in adapters)
    weights = dict(model.named_parameters())
    whole = sum(one.numel() for one in weights.values())
    assert 0 < sum(weights[name].numel() for name in adapters) < 0.02 * whole


RUNS = sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
WRITERS: dict[str, Callable[[Path], None]] = {
    'images': write_label_images,
    'labelme': write_labelme,
    'coco': write_coco,
}


def pipelines(dataset: Config) -> list[list[Config]]:
    """The pipelines of a dataset and of those in it."""
    own = [dataset.pipeline] if 'pipeline' in dataset else []
    parts = [dataset.dataset] if 'dataset' in dataset else dataset.get('datasets', [])
    return own + [pipeline for part in parts for pipeline in pipelines(part)]


@pytest.mark.parametrize('name', RUNS)
def test_model_and_pipelines_have_the_same_size(name: str) -> None:
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    found = [
        [step.size for step in pipeline if step.type == 'ClipResize']
        for pipeline in pipelines(cfg.train_dataloader.dataset)
    ]
    size = cfg.model.data_preprocessor.image_size
    assert found
    assert found == [[size]] * len(found)
    assert cfg.image_size == size


def image_config(name: str, root: Path) -> Config:
    """A recipe of images on one of them, in this process."""
    WRITERS[name.partition('_')[2]](root)
    (root / 'train.txt').write_text('ant\n')
    cfg = load_config(str(ROOT / 'configs' / f'sam2_{name}.py'))
    cfg.train_dataloader.dataset.data_root = str(root)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=1)
    return cfg


@pytest.mark.parametrize('name', [f'mini_{each}' for each in WRITERS])
def test_small_model_trains_on_images_of_each_layout(name: str, tmp_path: Path) -> None:
    cfg = image_config(name, tmp_path)
    (batch,) = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert batch[0].frames.shape == (1, 3, 128, 128)
    assert batch[0].masklets.shape[1] == 2
    model: SAM2 = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper, OptimWrapper)
    logged = model.train_step(batch, wrapper)
    assert torch.isfinite(logged['loss'])


@pytest.mark.parametrize('name', [f'tiny_{each}' for each in WRITERS])
def test_released_model_gets_images_of_its_size(name: str, tmp_path: Path) -> None:
    cfg = image_config(name, tmp_path)
    (batch,) = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert batch[0].frames.shape == (1, 3, 1024, 1024)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    assert preprocessor(batch)['inputs'].frames.shape == (1, 3, 1024, 1024)
    assert cfg.load_from == 'checkpoints/sam2.1_hiera_tiny.pt'


def test_model_and_dataset_of_different_sizes_are_refused(
    tmp_path: Path,
) -> None:
    bases = ('models/sam2_1_mini', 'datasets/labelme', 'schedules/mini')
    files = [str(ROOT / 'configs' / '_base_' / f'{each}.py') for each in bases]
    config = tmp_path / 'composed.py'
    config.write_text(f'_base_ = {files}\n')
    write_labelme(tmp_path)
    (tmp_path / 'train.txt').write_text('ant\n')
    cfg = load_config(str(config), {'data_root': str(tmp_path)})
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    (batch,) = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    reason = r'1024 x 1024 \(ant\), but .* image_size=\(128, 128\): give the ClipResize'
    with pytest.raises(ValueError, match=reason):
        preprocessor(batch, training=True)


def test_documented_path_of_a_source_exists_in_each_config() -> None:
    text = (ROOT / 'docs' / 'data.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| (`.*) \| (`train_dataloader.*) \|$', text, re.MULTILINE)
    path_of = {}
    for names, places in rows:
        first, *others = re.findall(r'`([\w.]+)`', places)
        paths = [first, *(first.rpartition('.')[0] + other for other in others)]
        for pattern in re.findall(r'`([\w*]+)`', names):
            for file in (ROOT / 'configs').glob(f'{pattern}.py'):
                path_of[file] = [path.split('.') for path in paths]
    assert set(path_of) == set((ROOT / 'configs').glob('*.py'))
    for file, paths in path_of.items():
        cfg = load_config(str(file))
        for path in [*paths, ['val_dataloader', 'dataset', 'dataset']]:
            node = cfg
            for key in path:
                node = node[int(key)] if key.isdecimal() else node[key]
            assert node.data_root, file
            assert not {'dataset', 'datasets'} & set(node), file
