"""The Hiera backbone and its pyramid as parts of mmdetection and mmsegmentation."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.nn import functional

from bridge_models import (
    SIZES,
    assert_same_weights,
    meta_model,
    shapes_of,
    small_config,
    small_model,
)
from projects.sam2.bridges.hiera_backbone import ARCHS, HieraBackbone, HieraPyramid
from projects.sam2.checkpoints import (
    CheckpointKind,
    CheckpointMismatchError,
    part_weights,
    write_checkpoint,
)
from projects.sam2.models import Hiera
from projects.sam2.models.image_encoder import HieraFPN
from tool_modules import ROOT

CHANNELS = (16, 32, 64, 128)  # of the sizes `mini` and of `small_model`
BACKBONE, NECK = 'image_encoder.backbone.', 'image_encoder.neck.'


def trained(module: nn.Module) -> set[str]:
    """Names of the parameters that are trained."""
    return {name for name, p in module.named_parameters() if p.requires_grad}


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights whose names begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


# ------------------------------------------------------------------------------ Maps


@pytest.mark.parametrize('size', [*SIZES, 'mini'])
def test_sizes_are_those_of_the_model_configs(size: str) -> None:
    encoder = meta_model(f'_base_/models/sam2_1_{size}.py').image_encoder
    assert isinstance(encoder, nn.Module)
    with torch.device('meta'):
        backbone = HieraBackbone(arch=size)
        neck = HieraPyramid(in_channels=backbone.out_channels)
    expected = encoder.get_submodule('backbone')
    assert isinstance(expected, Hiera)
    assert shapes_of(backbone) == shapes_of(expected)
    assert [b.window_size for b in backbone.blocks] == [
        b.window_size for b in expected.blocks
    ]
    assert backbone.stage_ends == expected.stage_ends
    if size != 'mini':
        assert shapes_of(neck) == shapes_of(encoder.get_submodule('neck'))


@pytest.mark.parametrize('size', [(64, 96), (37, 50), (1, 1), (33, 129)])
def test_maps_are_those_of_the_padded_image_cropped_to_its_cells(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    backbone = HieraBackbone(arch='mini').eval()
    hiera = Hiera(**ARCHS['mini']).eval()
    hiera.load_state_dict(backbone.state_dict())
    image = torch.randn(2, 3, *size)
    height, width = (-(-side // 32) * 32 for side in size)
    padded = torch.zeros(2, 3, height, width)
    padded[:, :, : size[0], : size[1]] = image
    with torch.no_grad():
        maps, expected = backbone(image), hiera(padded)
    for level, (given, whole) in enumerate(zip(maps, expected, strict=True)):
        rows, columns = (-(-side // (4 * 2**level)) for side in size)
        assert given.shape == (2, CHANNELS[level], rows, columns)
        assert torch.equal(given, whole[:, :, :rows, :columns])


def test_stages_after_the_last_output_are_neither_computed_nor_trained() -> None:
    backbone = HieraBackbone(arch='mini', out_indices=(0, 2), drop_path_rate=0.0)
    assert backbone.out_channels == (16, 64)
    last_block: Any = backbone.blocks[6]  # the only one of the last stage
    last_block.forward = None
    maps = backbone(torch.randn(1, 3, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 8, 8), (64, 2, 2)]
    sum(m.sum() for m in maps).backward()
    # DDP waits for the gradient of each parameter that is trained.
    with_gradient = {n for n, p in backbone.named_parameters() if p.grad is not None}
    assert with_gradient == trained(backbone)
    assert not any(name.startswith('blocks.6.') for name in with_gradient)


def test_gradients_with_checkpointing_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    backbone = HieraBackbone(arch='mini', drop_path_rate=0.3)
    forward = type(backbone.blocks[0]).forward

    def counted(self: Any, maps: Tensor) -> Tensor:
        calls.append(maps.shape[1])
        result: Tensor = forward(self, maps)
        return result

    monkeypatch.setattr(type(backbone.blocks[0]), 'forward', counted)
    image, gradients = torch.randn(2, 3, 40, 40), []
    for with_cp in (False, True):
        backbone.with_cp = with_cp
        backbone.zero_grad()
        torch.manual_seed(1)  # of the dropped paths
        sum(m.square().mean() for m in backbone(image)).backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert len(calls) == 3 * len(backbone.blocks)
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


# --------------------------------------------------------------- What is trained


@pytest.mark.parametrize(
    ('stages', 'frozen'),
    [
        (-1, ()),
        (0, ('patch', 'position', 'window_position')),
        (2, ('patch', 'position', 'window_position', 'blocks.0', 'blocks.1')),
    ],
)
def test_stages_are_frozen_from_the_first(stages: int, frozen: tuple[str, ...]) -> None:
    backbone = HieraBackbone(arch='mini', frozen_stages=stages, drop_path_rate=0.9)
    untrained = set(backbone.state_dict()) - trained(backbone)
    parts = {re.sub(r'_embedding.*|(?<=blocks.\d)\..*', '', n) for n in untrained}
    assert parts == {*frozen, *(['blocks.2'] if stages == 2 else [])}
    backbone.train()
    # A frozen block draws no random numbers in training either.
    assert [block.training for block in backbone.blocks] == [
        f'blocks.{index}' not in parts for index in range(7)
    ]


def test_frozen_backbone_with_adapters_trains_the_adapters_alone(
    tmp_path: Path,
) -> None:
    pytest.importorskip('peft')
    plain = HieraBackbone(arch='mini')
    torch.save(plain.state_dict(), tmp_path / 'backbone.pth')
    adapters = {'type': 'SAM2LowRankAdapters', 'layers': ['blocks.*.attention']}
    adapted = HieraBackbone(
        arch='mini',
        frozen_stages=4,
        adaptations=[adapters],
        init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'backbone.pth')},
    )
    adapted.init_weights()
    assert trained(adapted)
    assert all('.lora_' in name for name in trained(adapted))
    image = torch.randn(1, 3, 40, 40)
    for given, expected in zip(adapted.eval()(image), plain.eval()(image), strict=True):
        assert torch.equal(given, expected)


def test_whole_frozen_backbone_stays_in_eval_mode() -> None:
    backbone = HieraBackbone(arch='mini', frozen_stages=4).train()
    assert not any(module.training for module in backbone.modules())
    normed = HieraBackbone(arch='mini', norm_eval=True).train()
    norms = [m for m in normed.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 14
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'arch': 'huge'}, "arch is 'huge'; choose among mini, tiny"),
        ({'out_indices': (2, 1)}, r'out_indices is \(2, 1\); give stages from 0 to 3'),
        ({'out_indices': (0, 4)}, r'out_indices is \(0, 4\)'),
        ({'out_indices': ()}, r'out_indices is \(\)'),
        ({'frozen_stages': 5}, 'frozen_stages is 5; give a number from -1'),
    ],
)
def test_wrong_option_of_the_backbone_is_named(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HieraBackbone(**{'arch': 'mini', **options})


# ------------------------------------------------------------------------- Weights


@pytest.mark.parametrize('version', ['2.0', '2.1'])
@pytest.mark.parametrize('kind', ['released', 'huggingface', 'mmsam2', 'no prefix'])
def test_backbone_and_pyramid_get_the_weights_of_each_kind_of_checkpoint(
    kind: str, version: str, tmp_path: Path
) -> None:
    model = small_model(version)
    state, path = model.state_dict(), tmp_path / 'weights.pt'
    if kind == 'no prefix':
        torch.save(below(state, BACKBONE), path)
    else:
        write_checkpoint(path, state, CheckpointKind(kind), small_config(version))
    init_cfg: dict[str, object] = {'type': 'Pretrained', 'checkpoint': str(path)}
    config = dict(small_config(version)['image_encoder']['backbone'])
    config.pop('type')
    backbone = HieraBackbone(arch=config, init_cfg=init_cfg)
    backbone.init_weights()
    assert_same_weights(backbone.state_dict(), below(state, BACKBONE))
    if kind == 'no prefix':
        return
    neck = HieraPyramid(
        in_channels=CHANNELS,
        out_channels=128,
        start_level=1,
        num_outs=5,
        add_extra_convs='on_output',
        init_cfg=init_cfg,
    )
    extra_conv: Any = neck.extra_convs[0]
    extra = extra_conv.weight.clone()
    neck.init_weights()
    finest = ('lateral_convs.3.weight', 'lateral_convs.3.bias')
    wanted = {k: v for k, v in below(state, NECK).items() if k not in finest}
    given = {k: v for k, v in neck.state_dict().items() if 'extra' not in k}
    assert_same_weights(given, wanted)
    assert torch.equal(extra_conv.weight, extra)


@pytest.mark.parametrize('size', SIZES)
def test_weights_of_another_size_raise_and_name_both_sizes(size: str) -> None:
    with torch.device('meta'):
        states = {name: HieraBackbone(arch=name).state_dict() for name in SIZES}
    for other in {*SIZES} - {size}:
        reason = f'has the weights of {other}, not of {size}'
        with pytest.raises(CheckpointMismatchError, match=reason):
            part_weights(
                {'state_dict': states[other]},
                states[size],
                part=HieraBackbone.checkpoint_part,
                prefix=None,
                source='weights.pt',
            )


def test_backbone_of_a_segmentor_goes_back_into_sam2(tmp_path: Path) -> None:
    model = small_model()
    tuned = {
        f'backbone.{key}': value + 1
        for key, value in below(model.state_dict(), BACKBONE).items()
    }
    torch.save({'state_dict': tuned | {'decode_head.w': torch.ones(1)}}, tmp_path / 'r')
    config = small_config()['image_encoder']['backbone']
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'r')}
    hiera = MODELS.build({**config, 'init_cfg': init_cfg})
    hiera.init_weights()
    assert_same_weights(hiera.state_dict(), below(tuned, 'backbone.'))


# ------------------------------------------------------------------------- Pyramid


def test_pyramid_equals_the_released_one_on_whole_maps() -> None:
    torch.manual_seed(0)
    neck, fpn = HieraPyramid(in_channels=CHANNELS), HieraFPN(in_channels=CHANNELS)
    fpn.load_state_dict(neck.state_dict())
    maps = [torch.randn(1, c, 16 >> i, 24 >> i) for i, c in enumerate(CHANNELS)]
    for given, expected in zip(neck(maps), fpn(maps), strict=True):
        assert torch.equal(given, expected)


@pytest.mark.parametrize('convs', [False, 'on_input', 'on_output'])
def test_pyramid_of_odd_maps_adds_the_nearest_cell_and_further_levels(
    convs: Any,
) -> None:
    torch.manual_seed(0)
    neck = HieraPyramid(
        in_channels=(4, 8, 16),
        out_channels=8,
        start_level=1,
        num_outs=4,
        add_extra_convs=convs,
        top_down_levels=(1,),
    ).double()
    sizes = ((27, 20), (14, 10), (7, 5))
    maps = [
        torch.randn(2, c, *size).double()
        for c, size in zip((4, 8, 16), sizes, strict=True)
    ]
    fine, coarse, *extra = neck(maps)
    convolutions: Any = neck.lateral_convs
    coarse_conv, fine_conv = convolutions
    torch.testing.assert_close(
        coarse, functional.conv2d(maps[2], coarse_conv.weight, coarse_conv.bias)
    )
    expected = functional.conv2d(maps[1], fine_conv.weight, fine_conv.bias)
    for row in range(14):
        for column in range(10):
            nearest = coarse[:, :, row * 7 // 14, column * 5 // 10]
            expected[:, :, row, column] += nearest
    torch.testing.assert_close(fine, expected)
    source = maps[2] if convs == 'on_input' else coarse
    for index, given in enumerate(extra):
        if convs:
            conv: Any = neck.extra_convs[index]
            source = functional.conv2d(
                source, conv.weight, conv.bias, stride=2, padding=1
            )
        else:
            source = functional.max_pool2d(source, 1, stride=2)  # as mmdet's FPN
        torch.testing.assert_close(given, source)
    assert [tuple(m.shape[2:]) for m in extra] == [(4, 3), (2, 2)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'start_level': 4}, 'start_level is 4; give a level from 0 to 3'),
        ({'num_outs': 2}, 'num_outs is 2, but 4 levels begin at start_level=0'),
        ({'add_extra_convs': True}, "add_extra_convs is True; give 'on_input'"),
    ],
)
def test_wrong_option_of_the_pyramid_is_named(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HieraPyramid(in_channels=CHANNELS, **options)
    with pytest.raises(ValueError, match=r'4 maps, one for each .* set out_indices'):
        HieraPyramid(in_channels=CHANNELS)([torch.ones(1, 16, 2, 2)])


# ------------------------------------------------------------------- mmsegmentation


def segmentor(**backbone: Any) -> Config:
    """Config of UPerNet with the smallest backbone, of 5 classes."""
    head = {
        'num_classes': 5,
        'channels': 8,
        'norm_cfg': {'type': 'BN'},
        'loss_decode': {'type': 'CrossEntropyLoss', 'avg_non_ignore': True},
    }
    model = {
        'type': 'EncoderDecoder',
        'data_preprocessor': {'type': 'SegDataPreProcessor', 'size': (64, 64)},
        'backbone': {'type': 'HieraBackbone', 'arch': 'mini', **backbone},
        'decode_head': {
            'type': 'UPerHead',
            'in_channels': [*CHANNELS],
            'in_index': [0, 1, 2, 3],
            **head,
        },
        'test_cfg': {'mode': 'whole'},
    }
    return Config({'model': model})


def built(config: Config) -> Any:
    """The model, in the scope of mmsegmentation."""
    pytest.importorskip('mmseg')
    import projects.sam2.bridges.mmseg  # noqa: F401, PLC0415  where it is installed

    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(config.model)


@pytest.mark.filterwarnings('ignore')  # of mmseg
def test_segmentor_trains_and_predicts_at_any_size() -> None:
    torch.manual_seed(0)
    model = built(segmentor())
    structures = pytest.importorskip('mmseg.structures')
    sample = structures.SegDataSample(metainfo={'img_shape': (64, 64)})
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, 20:40, 10:50] = 3
    from mmengine.structures import PixelData  # noqa: PLC0415

    sample = structures.SegDataSample(metainfo={'img_shape': (64, 64)})
    sample.gt_sem_seg = PixelData(data=labels)
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 20:40, 10:50] = 200
    batch = {'inputs': [image, image], 'data_samples': [sample, sample]}
    cfg = {
        'constructor': 'SAM2OptimWrapperConstructor',
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': 3e-3, 'weight_decay': 0.05},
    }
    wrapper = build_optim_wrapper(model, cfg)
    losses = [float(model.train_step(batch, wrapper)['loss']) for _ in range(16)]
    assert losses[-1] < 0.8 * losses[0]
    meta = {'img_shape': (37, 50), 'ori_shape': (37, 50)}
    sample = structures.SegDataSample(metainfo=meta)
    batch = {'inputs': [image[:, :37, :50]], 'data_samples': [sample]}
    (result,) = model.eval().test_step(batch)
    assert result.pred_sem_seg.shape == (37, 50)


@pytest.mark.filterwarnings('ignore')  # of mmseg
def test_rates_decay_with_depth_beside_custom_keys() -> None:
    model = built(segmentor(frozen_stages=0))
    cfg = {
        'constructor': 'SAM2OptimWrapperConstructor',
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': 1.0, 'weight_decay': 0.5},
        'paramwise_cfg': {
            'layer_decay': 0.5,
            'norm_decay_mult': 0.1,
            'custom_keys': {'decode_head': {'lr_mult': 10.0}},
        },
    }
    optimizer = build_optim_wrapper(model, cfg).optimizer
    group_of = {
        id(p): group for group in optimizer.param_groups for p in group['params']
    }
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[key] for key in group_of} == trained(model)
    for key, group in group_of.items():
        name = names[key]
        block = re.match(r'backbone\.blocks\.(\d)\.', name)
        rate = 0.5 ** (7 - int(block[1])) if block else 10.0
        assert group['lr'] == pytest.approx(rate), name
        if '.norm1.' in name:
            assert group['weight_decay'] == pytest.approx(0.05)


# ------------------------------------------------------------------------- Configs

CONFIGS = sorted((ROOT / 'configs' / 'mmseg').glob('hiera-*0k_*.py'))
NAME_OF_SIZE = {'t': 'tiny', 's': 'small', 'bplus': 'bplus', 'l': 'large'}


@pytest.mark.filterwarnings('ignore')  # of mmseg
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_is_what_its_name_says(path: Path) -> None:
    pytest.importorskip('mmseg')
    pattern = r'hiera-(\w+?)(?:_frozen|_lora)?_(\w+?)_(\d+xb\d+-\d+k)_(\w+)-(\d+x\d+)'
    ((size, head, schedule, data, crop),) = re.findall(f'^{pattern}$', path.stem)
    cfg = Config.fromfile(path, import_custom_modules=False)
    backbone, decode_head = cfg.model.backbone, cfg.model.decode_head
    assert backbone.arch == NAME_OF_SIZE[size]
    with torch.device('meta'):
        channels = HieraBackbone(arch=backbone.arch).out_channels
    assert tuple(decode_head.in_channels) == channels
    if 'auxiliary_head' in cfg.model:
        assert cfg.model.auxiliary_head.in_channels == channels[2]
    weights = f'sam2.1_hiera_{backbone.arch.replace("bplus", "base_plus")}.pt'
    assert backbone.init_cfg.checkpoint == f'checkpoints/{weights}'
    assert decode_head.type.lower().removesuffix('head') in {head, 'uper'}
    ((processes, batch, steps),) = re.findall(r'^(\d+)xb(\d+)-(\d+)k$', schedule)
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(processes) * int(batch)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 1000 * int(steps)
    assert cfg.train_dataloader.dataset.type.lower().startswith(data)
    assert 'x'.join(map(str, cfg.model.data_preprocessor.size)) == crop
    assert 'frozen_stages' in backbone or not re.search('frozen|lora', path.stem)


@pytest.mark.filterwarnings('ignore')  # of mmseg
@pytest.mark.parametrize(
    ('variant', 'expected'), [('frozen', set()), ('lora', {'lora_'})]
)
def test_variant_trains_what_its_name_says(variant: str, expected: set[str]) -> None:
    pytest.importorskip('peft')
    cfg = Config.fromfile(
        ROOT
        / 'configs'
        / 'mmseg'
        / f'hiera-t_{variant}_upernet_8xb2-160k_ade20k-512x512.py'
    )
    with torch.device('meta'):
        model = built(cfg)
    parts = {
        (re.search('lora_', name) or [name])[0] for name in trained(model.backbone)
    }
    assert parts == expected
    assert trained(model.decode_head)
