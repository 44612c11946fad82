"""EfficientTAM: its parts, weights and predictions against the released ones."""

import copy
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from numpy.typing import NDArray
from torch import Tensor, nn

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover_variants,
)
from golden_models import fill_variant
from memory_videos import MemoryVideo
from projects.sam2.apis import (
    SAM2VideoPredictor,
    build_sam2,
    fitting_config,
    load_model_config,
)
from projects.sam2.apis.released_overrides import MODEL_OPTIONS, read_overrides
from projects.sam2.checkpoints import CheckpointMismatchError, to_released
from projects.sam2.deployment.manifest import TensorSpec
from projects.sam2.deployment.torch_package import trace
from projects.sam2.engine.config import load_config
from projects.sam2.models import SAM2, EfficientTAMCrossAttention
from projects.sam2.models.efficienttam import PoolingBias
from variant_videos import VariantVideoRun, ellipse

VARIANTS = ('', '_1', '_2', '_512x512')
BIAS_OF_VARIANT: dict[str, PoolingBias] = {'v1': 'logits', 'v2': 'keys'}
MODEL = 'configs/_base_/models/{}.py'


def case_config(case: GoldenCase) -> Config:
    """Our config of the model of a case, in the sizes that the case names."""
    config = copy.deepcopy(load_model_config(MODEL.format(case.spec['config'])))
    if 'tiny' in case.spec:
        config.merge_from_dict(sizes_of(case.spec['tiny']))
    changes, _ = read_overrides(
        [
            f'++model.{key.lstrip("+")}={value}'
            for key, value in case.spec.get('overrides', {}).items()
            if key.lstrip('+') in MODEL_OPTIONS
        ]
    )
    config.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    return config


def sizes_of(tiny: dict[str, Any]) -> dict[str, Any]:
    """The sizes of a small model, which a golden file names in the released words."""
    dims, memory_dims = tiny['d_model'], tiny['mem_dim']
    windowed = tiny['window_block_indexes']
    backbone = {
        'embed_dims': tiny['embed_dim'],
        'num_heads': tiny['num_heads'],
        'num_blocks': tiny['depth'],
        'window_size': tiny['window_size'],
        'global_attention_blocks': sorted({*range(tiny['depth'])} - {*windowed}),
    }
    attention = {
        'num_layers': tiny['memattn_layers'],
        'feedforward_dims': tiny['memattn_ff'],
        'dropout': 0.0,
    }
    both = {'embed_dims': dims, 'memory_dims': memory_dims}
    sizes: dict[str, Any] = {
        'data_preprocessor.image_size': (tiny['image_size'],) * 2,
        'image_encoder.backbone': backbone,
        'image_encoder.neck': {
            'in_channels': tiny['embed_dim'],
            'out_channels': dims,
        },
        'tracker.memory_attention': attention | both,
        'tracker.memory_encoder': both,
        'tracker.object_pointer': both,
        'tracker.memory_bank.num_frames': tiny['num_maskmem'],
        'prompt_encoder.embed_dims': dims,
        'mask_decoder.embed_dims': dims,
    }
    return {f'model.{key}': value for key, value in sizes.items()}


@pytest.mark.golden_variants
@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('case', discover_variants('efficienttam_manifest_*'))
def test_weights_have_the_released_names_and_shapes(
    case: GoldenCase, variant: str
) -> None:
    size = case.name.rpartition('_')[2]
    with torch.device('meta'):
        config = load_model_config(MODEL.format(f'efficienttam_{size}{variant}'))
        model: SAM2 = MODELS.build(config.model)
    weights = {
        to_released(key): [list(value.shape), str(value.dtype).removeprefix('torch.')]
        for key, value in model.state_dict().items()
    }
    assert_exact(weights, case.spec['keys'], 'weights')
    count = sum(parameter.numel() for parameter in model.parameters())
    assert_exact(count, case.spec['n_params'], 'number of parameters')


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('efficienttam_encoder*'))
@torch.no_grad()
def test_encoder_gives_the_released_features(case: GoldenCase) -> None:
    config = copy.deepcopy(load_model_config(MODEL.format('efficienttam_ti')))
    config.merge_from_dict(sizes_of(case.spec['tiny']))
    encoder = MODELS.build(config.model.image_encoder)
    fill_variant(encoder, case.spec['salt'], 'image_encoder.')
    shapes = re.findall(r'(\w+) \((\d+), ?3, ?(\d+), ?(\d+)', case.spec['note'])
    assert {f'{name}/{part}' for name, *_ in shapes for part in ('trunk', 'neck')} == {
        *case.arrays
    }
    for name, *sizes in shapes:
        batch, height, width = map(int, sizes)
        image = case.input(f'efftam.enc.{name}', (batch, 3, height, width))
        (features,) = encoder.backbone(image)
        assert_close(features, case.arrays[f'{name}/trunk'], 1e-4, f'{name}/trunk')
        (embedding,) = encoder(image)
        expected = case.arrays[f'{name}/neck']
        assert_close(embedding[:, ::2], expected, 1e-4, f'{name}/neck')


@pytest.mark.golden_variants
@pytest.mark.parametrize('case', discover_variants('efficienttam_xattn*'))
@torch.no_grad()
def test_cross_attention_gives_the_released_results(case: GoldenCase) -> None:
    note = case.spec['note']
    numbers = r'd (\d+), kv (\d+), (\d+) head.*grid (\d+)x(\d+), batch (\d+)'
    sizes = re.search(numbers, note)
    counts = re.search(
        r'([\w/]+): ([\d/]+) memories of \d+ tokens \+ ([\d/]+) pointer', note
    )
    assert sizes, note
    assert counts, note
    dims, kv_dims, num_heads, height, width, batch = map(int, sizes.groups())
    for name, memories, pointers in zip(
        *(part.split('/') for part in counts.groups()), strict=True
    ):
        num_pointers = int(pointers)
        num_keys = int(memories) * height * width + num_pointers
        query, key, value = (
            case.input(f'efftam.xattn.{name}.{letter}', (batch, number, channels))
            for letter, number, channels in (
                ('q', height * width, dims),
                ('k', num_keys, kv_dims),
                ('v', num_keys, kv_dims),
            )
        )
        for variant, bias_on in BIAS_OF_VARIANT.items():
            attention = EfficientTAMCrossAttention(
                embed_dims=dims, num_heads=num_heads, kv_dims=kv_dims, bias_on=bias_on
            )
            prefix = 'tracker.memory_attention.layers.0.cross_attention.'
            fill_variant(attention, case.spec['salt'], prefix)
            output = attention(
                query,
                key,
                value,
                feature_size=(height, width),
                num_unrotated=num_pointers,
            )
            expected = case.arrays[f'{variant}/{name}']
            assert_close(output, expected, 1e-4, f'{variant}/{name}')


@pytest.mark.golden_variants
@pytest.mark.parametrize(
    'case',
    [
        *discover_variants('efficienttam_video_*'),
        *discover_variants('efficienttam_full*'),
    ],
)
def test_video_gives_the_released_masks_and_memories(case: GoldenCase) -> None:
    model: SAM2 = MODELS.build(case_config(case).model)
    fill_variant(model, case.spec['salt'])
    run = VariantVideoRun(case, model)
    run.play()
    assert run.compared == {*case.arrays}


# ------------------------------------------------------------------- The small model


BIASES: tuple[PoolingBias, ...] = ('logits', 'keys')
SIZE = (96, 144)
BLOBS = [(0.4, 0.3, 0.2, 0.15), (0.6, 0.7, 0.3, 0.2), (0.3, 0.6, 0.15, 0.2)]


def small_model(
    bias_on: PoolingBias = 'logits', changes: dict[str, Any] | None = None
) -> SAM2:
    """The small model with golden weights, whose masks are of both signs."""
    config = copy.deepcopy(load_model_config(MODEL.format('efficienttam_mini')))
    config.model.tracker.memory_attention.cross_attention.bias_on = bias_on
    for key, value in (changes or {}).items():
        config.merge_from_dict({f'model.{key}': value})
    model: SAM2 = MODELS.build(config.model)
    fill_variant(model, 'small:')
    return model


def tracked(model: SAM2, blobs: Sequence[tuple[float, ...]]) -> NDArray[np.float32]:
    """Mask logits of objects in a short video, (T, O, height, width)."""
    video = MemoryVideo(length=4, size=SIZE)
    predictor = SAM2VideoPredictor(model, fill_hole_area=0, memory_dtype=torch.float32)
    state = predictor.init_state([video.read_frame(index) for index in range(4)])
    for number, blob in enumerate(blobs):
        predictor.add_new_mask(
            state, frame_idx=0, obj_id=number, mask=ellipse(blob, SIZE)
        )
    shown = predictor.propagate_in_video(state)
    return np.stack([result.mask_logits[:, 0].numpy() for result in shown])


@pytest.mark.parametrize('bias_on', BIASES)
def test_objects_in_a_batch_are_tracked_as_one_by_one(bias_on: PoolingBias) -> None:
    model = small_model(bias_on)
    together = tracked(model, BLOBS)
    alone = np.concatenate([tracked(model, [blob]) for blob in BLOBS], axis=1)
    assert together.std() > 1
    np.testing.assert_allclose(together, alone, atol=1e-5 * together.std())


def test_small_model_trains_with_all_objects_at_once_and_in_groups() -> None:
    cfg = load_config('configs/efficienttam_mini_synthetic.py')
    cfg.train_dataloader.dataset = {
        'type': 'ClipSyntheticDataset',
        'num_clips': 2,
        'num_frames': 8,
        'pipeline': cfg.train_pipeline,
    }
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    (clips,) = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    model: SAM2 = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    trained = []
    for objects_at_once in (None, 1):
        model.objects_at_once = objects_at_once
        before = copy.deepcopy(model.state_dict())
        logged = model.train_step(clips, wrapper)
        assert torch.isfinite(logged['loss'])
        after = model.state_dict()
        trained.append({key for key in after if not after[key].equal(before[key])})
    # Which prompts and candidates are trained is drawn.
    new_parts = ('image_encoder.', 'tracker.memory_attention.')
    expected = {name for name, _ in model.named_parameters()}
    for names in trained:
        assert {n for n in expected - names if n.startswith(new_parts)} == set()


class AttentionToMemories(nn.Module):
    """Attention to R memories of 4 x 4 cells and K pointers, as a graph to export."""

    inputs = (
        TensorSpec.of('query', '1 16 8'),
        TensorSpec.of('memory', '1 R 16 8'),
        TensorSpec.of('pointers', '1 K 8'),
    )

    def __init__(self) -> None:
        super().__init__()
        self.attention = EfficientTAMCrossAttention(embed_dims=8)

    def forward(self, query: Tensor, memory: Tensor, pointers: Tensor) -> Tensor:
        """(1, 16, 8), (1, R, 16, 8), (1, K, 8) -> (1, 16, 8)."""
        keys = torch.cat([memory.flatten(1, 2), pointers], dim=1)
        attended: Tensor = self.attention(
            query, keys, keys, num_unrotated=pointers.shape[1]
        )
        return attended


@torch.no_grad()
def test_exported_attention_takes_one_memory_or_several() -> None:
    graph: Any = AttentionToMemories().eval()

    def inputs(num_memories: int, num_pointers: int) -> dict[str, Tensor]:
        return {
            'query': torch.randn(1, 16, 8),
            'memory': torch.randn(1, num_memories, 16, 8),
            'pointers': torch.randn(1, num_pointers, 8),
        }

    program = trace(graph, inputs(3, 5)).module()
    for sizes in ((1, 0), (1, 4), (2, 0), (6, 3)):
        given = inputs(*sizes)
        torch.testing.assert_close(program(**given), graph(**given))


# ------------------------------------------------------------------------- The files


def meta_weights(name: str) -> dict[str, Tensor]:
    with torch.device('meta'):
        model: SAM2 = MODELS.build(load_model_config(MODEL.format(name)).model)
    return model.state_dict()


def test_configs_of_a_file_are_told_by_its_released_name_alone() -> None:
    weights = meta_weights('efficienttam_s')
    config = fitting_config(weights, source='some/efficienttam_s_2.pt')
    bias_on = config.model.tracker.memory_attention.cross_attention.bias_on
    assert bias_on == BIAS_OF_VARIANT['v2']
    for source in ('some/model.pt', 'efficienttam_ti_2.pt'):
        reason = 'EfficientTAM-S; its 4 configs have the same weights.*s_512x512; give'
        with pytest.raises(CheckpointMismatchError, match=reason):
            fitting_config(weights, source=source)
    with pytest.raises(CheckpointMismatchError, match='Use a config of EfficientTAM-S'):
        fitting_config(weights, MODEL.format('efficienttam_ti'), source='model.pt')


def test_released_names_build_their_models() -> None:
    for name in ('configs/efficienttam/efficienttam_ti_512x512.yaml', 'efficienttam_s'):
        with torch.device('meta'):
            model = build_sam2(name, device='meta')
        dims = model.image_encoder.backbone.position_embedding.shape[2]
        expected = (192, 512) if 'ti' in name else (384, 1024)
        assert (dims, model.image_size) == expected


# ------------------------------------------------------------------------ Wrong input


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="bias_on is 'values'; give one of"):
        EfficientTAMCrossAttention(embed_dims=8, bias_on='values')  # type: ignore[arg-type]
    model = small_model(changes={'tracker.memory_pooling': 2})
    with pytest.raises(ValueError, match=r'set tracker\.memory_pooling=1'):
        tracked(model, BLOBS[:1])
    model = small_model(changes={'mask_decoder.high_res_features': True})
    with pytest.raises(ValueError, match=r'set mask_decoder\.high_res_features=False'):
        model.encode(torch.zeros(1, 3, 128, 128))
    with pytest.raises(ValueError, match='multiple of 16 pixels, but got 120 x 128'):
        model.image_encoder(torch.zeros(1, 3, 120, 128))
