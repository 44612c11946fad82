"""EdgeTAM against the released one, and what the released one cannot do."""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from bridge_models import assert_same_weights, meta_model
from edgetam_models import edgetam_config, edgetam_model
from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover_variants,
    relative_error,
)
from golden_models import fill_variant
from projects.sam2.apis import SAM2VideoPredictor, load_model_config
from projects.sam2.apis.building import fitting_config
from projects.sam2.checkpoints import (
    CheckpointKind,
    CheckpointMismatchError,
    check_weights,
    read_checkpoint,
    write_checkpoint,
)
from projects.sam2.checkpoints.files import read_safetensors_folder
from projects.sam2.checkpoints.key_map import (
    map_from_huggingface,
    map_from_released,
    map_to_released,
)
from projects.sam2.deployment import ExportedSAM2, ModuleRunner
from projects.sam2.deployment.graphs import GRAPHS, fixed_sizes
from projects.sam2.deployment.manifest import ExportedGraph, describe_export
from projects.sam2.engine.optim import SAM2OptimWrapperConstructor
from projects.sam2.models import (
    SAM2,
    EdgeTAMCrossAttention,
    EdgeTAMPerceiver,
    MemoryAttention,
)
from projects.sam2.models.edgetam import token_table
from projects.sam2.models.layers import sine_encoding_2d
from projects.sam2.models.layers.position_encoding import rotate
from square_clips import SIDE, square_sample
from variant_videos import VariantVideoRun

CPU = torch.device('cpu')
# Sizes of the golden cross-attentions, from the note of `edgetam_rope`: channels of
# queries and memories, heads, side of the frame, memories, global tokens and side of
# the grid of each, pointer tokens.
ATTENTIONS = {
    'tiny': (64, 16, 1, 16, 3, 16, 4, 8),
    'nptr0_one': (64, 16, 1, 16, 1, 16, 4, 0),
    'h2_no1d': (32, 16, 2, 8, 2, 0, 4, 4),
}

golden = pytest.mark.golden_variants


# ------------------------------------------------------------------------- the release


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_manifest*'))
def test_weights_are_the_released_ones(case: GoldenCase) -> None:
    with torch.device('meta'):
        model = MODELS.build(edgetam_config(None))
    ours = {
        key: [list(value.shape), str(value.dtype).removeprefix('torch.')]
        for key, value in model.state_dict().items()
    }
    released: dict[str, object] = case.spec['keys']
    assert_exact(map_to_released(ours), released, 'keys')
    assert_exact(map_from_released(released), ours, 'our keys')
    count = sum(parameter.numel() for parameter in model.parameters())
    assert_exact((count, len(ours)), (case.spec['n_params'], case.spec['n_keys']), 'n')


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_encoder*'))
@torch.no_grad()
def test_image_encoder_equals_released(case: GoldenCase) -> None:
    config = edgetam_config(None)['image_encoder']
    config['neck']['out_channels'] = 64
    encoder = MODELS.build(config)
    fill_variant(encoder, case.spec['salt'], 'image_encoder.')
    backbone = encoder.backbone
    shapes = re.findall(r'(\w+) \((\d+), ?3, ?(\d+), ?(\d+)\)', case.spec['input'])
    inputs = {
        name: case.input(f'edgetam.trunk.{name}', (int(b), 3, int(h), int(w)))
        for name, b, h, w in shapes
    }
    outputs: dict[str, Tensor] = {}
    for name, image in inputs.items():
        for level, maps in enumerate(backbone(image)):
            outputs[f'{name}/f{level}'] = maps[:, ::2]
    image = next(iter(inputs.values()))
    outputs['stem'] = backbone.stem(image)[:, ::4]
    levels = encoder(image)
    outputs |= {f'neck/fpn{level}': maps for level, maps in enumerate(levels)}
    outputs['neck/fpn0'] = outputs['neck/fpn0'][:, ::4]
    size = (levels[2].shape[2], levels[2].shape[3])
    outputs['neck/pos2'] = sine_encoding_2d(channels=64, size=size, device=CPU)
    assert outputs.keys() == set(case.arrays)
    for name, output in outputs.items():
        assert_close(output, case.arrays[name], 1e-4, name)


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_perceiver*'))
@torch.no_grad()
def test_perceiver_equals_released(case: GoldenCase) -> None:
    compared = set()
    for name, sizes in case.spec['extra']['cases'].items():
        perceiver = EdgeTAMPerceiver(
            memory_dims=sizes['dim'],
            num_global=max(sizes['n1'], 0),
            grid_size=round(max(sizes['n2'], 0) ** 0.5),
            num_heads=sizes['h'],
            feedforward_dims=4 * sizes['dim'],
        )
        fill_variant(perceiver, case.spec['salt'], 'tracker.perceiver.')
        height, width = sizes['hw']
        shape = sizes['B'], sizes['dim'], height, width
        memory = case.input(f'edgetam.perceiver.{name}', shape)
        position = sine_encoding_2d(
            channels=sizes['dim'], size=(height, width), device=CPU
        )
        tokens = perceiver(memory, None if name == 'nopos' else position)
        assert tokens.shape[1] == perceiver.num_tokens
        assert_close(tokens, case.arrays[f'{name}/latents'], 1e-4, name)
        compared.add(f'{name}/latents')
        if name == 'nopos':
            continue
        expected = case.arrays[f'{name}/pos']
        own = perceiver.position(CPU).expand(expected.shape[0], -1, -1)
        assert_close(own[:, -expected.shape[1] :], expected, 1e-4, f'{name}/pos')
        compared.add(f'{name}/pos')
    assert compared == set(case.arrays)


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_rope*'))
@torch.no_grad()
def test_rotations_and_cross_attention_equal_released(case: GoldenCase) -> None:
    for name, expected in case.arrays.items():
        kind, _, what = name.partition('/')
        if kind == 'rot':
            repeats, num_plain = map(int, re.findall(r'\d+', what))
            shape = (2, 2, repeats * (16 + num_plain), 16)
            tokens = case.input(f'edgetam.rope.{repeats}.{num_plain}', shape)
            rotated = rotate(tokens, token_table(num_plain, 4, 16, CPU))
            assert_close(rotated, expected, 1e-4, name)
            continue
        dims, kv_dims, heads, side, num_memories, num_global, grid, num_pointers = (
            ATTENTIONS[what]
        )
        attention = EdgeTAMCrossAttention(
            embed_dims=dims,
            num_heads=heads,
            kv_dims=kv_dims,
            num_global=num_global,
            grid_size=grid,
        )
        place = 'tracker.memory_attention.layers.0.cross_attention.'
        fill_variant(attention, case.spec['salt'], place)
        length = num_memories * (num_global + grid**2) + num_pointers
        query, key, value = (
            case.input(f'edgetam.xattn.{what}.{letter}', shape)
            for letter, shape in (
                ('q', (2, side**2, dims)),
                ('k', (2, length, kv_dims)),
                ('v', (2, length, kv_dims)),
            )
        )
        attended = attention(
            query, key, value, feature_size=(side, side), num_unrotated=num_pointers
        )
        assert_close(attended[:, ::2], expected, 1e-4, name)


@golden
@pytest.mark.parametrize('case', discover_variants('edgetam_memattn_full*'))
@torch.no_grad()
def test_memory_attention_equals_released(case: GoldenCase) -> None:
    attention = MemoryAttention(
        num_layers=2, cross_attention={'type': 'EdgeTAMCrossAttention'}
    )
    fill_variant(attention, case.spec['salt'], 'tracker.memory_attention.')
    note = case.spec['note']
    shapes = [
        tuple(map(int, shape)) for shape in re.findall(r'\((\d+),(\d+),(\d+)\)', note)
    ]
    tags = ('curr', 'curr_pos', 'memory', 'memory_pos')
    tokens, position, memory, memory_position = (
        # (N, O, C) -> (O, N, C)
        case.input(f'edgetam.memattn.{tag}', shape, scale).transpose(0, 1)
        for tag, shape, scale in zip(tags, shapes, (1, 0.5, 1, 0.5), strict=True)
    )
    pointers = re.search(r'(\d+) pointer tokens', note)
    assert pointers
    attended = attention(
        tokens=tokens,
        position=position,
        memory=memory,
        memory_position=memory_position,
        num_pointer_tokens=int(pointers[1]),
        feature_size=(64, 64),
    )
    assert_close(attended.transpose(0, 1)[::37], case.arrays['out'], 1e-4, 'out')


@golden
@pytest.mark.parametrize(
    'case',
    [
        *discover_variants('edgetam_video_*', without=('edgetam_video_error',)),
        *discover_variants('edgetam_full1024_*'),
    ],
)
def test_script_gives_the_released_masks_and_memories(case: GoldenCase) -> None:
    run = VariantVideoRun(case, edgetam_model(case), keeps_corrections=True)
    run.play()
    assert run.compared == set(case.arrays)


# ------------------------------------------------- several objects, sizes and exports


@pytest.fixture
def mini() -> SAM2:
    """A small model with golden weights that judges all objects present."""
    config = load_model_config('_base_/models/edgetam_mini.py').model
    model: SAM2 = MODELS.build(config)
    fill_variant(model, 'v4:')
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += 20
    return model


CLICKS = {1: [[30, 40]], 2: [[90, 20]], 3: [[60, 70]]}


def track(
    model: SAM2, object_ids: Iterable[int], dtype: torch.dtype = torch.float32
) -> dict[int, list[Tensor]]:
    """Click objects and track them; the masks and memories of each."""
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (4, 96, 128, 3), dtype=np.uint8)
    predictor = SAM2VideoPredictor(model, memory_dtype=dtype)
    state = predictor.init_state(frames)
    for number in object_ids:
        predictor.add_new_points_or_box(
            state, frame_idx=0, obj_id=number, points=CLICKS[number], labels=[1]
        )
    tracked: dict[int, list[Tensor]] = {number: [] for number in object_ids}
    for shown in predictor.propagate_in_video(state):
        frame = shown.frame_index
        for number, mask in zip(shown.object_ids, shown.mask_logits, strict=True):
            store = state.objects[number].store
            memory = store.conditioning.get(frame) or store.tracked[frame]
            tracked[number] += [mask, memory.spatial, memory.object_pointer]
    return tracked


def test_three_objects_of_a_batch_equal_one_by_one(mini: SAM2) -> None:
    mini.double()  # in float32 each batch rounds otherwise: 1e-5 after three frames
    together = track(mini, CLICKS, torch.float64)
    for number in CLICKS:
        (alone,) = track(mini, [number], torch.float64).values()
        for ours, expected in zip(together[number], alone, strict=True):
            assert relative_error(ours, expected.numpy()) < 1e-6
    assert together[1][-2].shape == (1, 32, 16)  # tokens, not a map
    # Memories matter: another one changes the last mask.
    with torch.no_grad():
        mini.tracker.perceiver.grid_latents[:, 0] += 1
    other = track(mini, [1], torch.float64)[1]
    assert relative_error(other[-3], together[1][-3].numpy()) > 1e-3


def test_graphs_of_an_export_track_as_the_model(mini: SAM2) -> None:
    config = load_model_config('_base_/models/edgetam_mini.py')
    sizes = fixed_sizes(mini)
    graphs = {
        name: ExportedGraph(
            file='',
            num_bytes=0,
            sha256='',
            inputs=tuple(spec.with_sizes(sizes) for spec in graph(mini).inputs),
            outputs=tuple(spec.with_sizes(sizes) for spec in graph(mini).outputs),
        )
        for name, graph in GRAPHS.items()
    }
    manifest = describe_export(
        mini, graphs, config=config, checkpoint=None, runtime='export'
    )
    exported: Any = ExportedSAM2(manifest, ModuleRunner(mini))
    for ours, expected in zip(
        track(exported, CLICKS)[2], track(mini, CLICKS)[2], strict=True
    ):
        assert relative_error(ours, expected.numpy()) < 1e-5
    assert graphs['remember'].outputs[0].shape == ('O', 32, 16)
    assert graphs['attend'].inputs[1].shape == ('O', 'R', 32, 16)


def test_each_grid_token_sees_its_own_window_of_a_map_that_is_no_square() -> None:
    torch.manual_seed(0)
    perceiver = EdgeTAMPerceiver(memory_dims=8, num_global=3, grid_size=4)
    memory = torch.randn(2, 8, 8, 16)
    changed = memory.clone()
    changed[1, 0, 5, 9] += 1  # windows are 2 x 4: row 2, column 2
    with torch.no_grad():
        moved = (perceiver(changed) - perceiver(memory)).abs().amax(dim=2) > 1e-6
    assert not moved[0].any()
    assert moved[1, :3].all()  # global tokens
    assert moved[1, 3:].nonzero().flatten().tolist() == [2 * 4 + 2]
    with pytest.raises(ValueError, match=r'6 x 16 cells.*multiples of 64 pixels'):
        perceiver(memory[:, :, :6])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'perceiver': {'num_global': 8}}, r'\(16, 4\), and the perceiver \(8, 4\)'),
        ({'memory_attention': {'cross_attention': None}}, 'EdgeTAMCrossAttention'),
        ({'memory_pooling': 2}, 'memory_pooling'),
        ({'perceiver': {'memory_dims': 32}}, 'memory_dims is 32'),
        ({'perceivr': {}}, 'perceivr'),
    ],
)
def test_parts_that_do_not_fit_are_an_error(
    changes: dict[str, Any], message: str
) -> None:
    config = load_model_config('_base_/models/edgetam_mini.py')
    tracker = config.model.tracker.to_dict()
    for name, value in changes.items():
        merged = (
            {**tracker.get(name, {}), **value} if isinstance(value, dict) else value
        )
        tracker[name] = merged
    with pytest.raises((TypeError, ValueError), match=message):
        MODELS.build(tracker)


# ------------------------------------------------------------------------------- norms


def test_fused_backbone_gives_the_same_maps(mini: SAM2) -> None:
    backbone = mini.image_encoder.backbone
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = backbone(images)
        fused = copy.deepcopy(backbone).fuse()
        actual = fused(images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    for ours, maps in zip(actual, expected, strict=True):
        assert relative_error(ours, maps.numpy()) < 1e-5
    with pytest.raises(RuntimeError, match=r'call eval\(\)'):
        backbone.train().fuse()
    with pytest.raises(ValueError, match='multiple of 32 pixels, but got 64 x 90'):
        backbone(images[..., :90])


def test_recomputed_blocks_count_the_statistics_once(mini: SAM2) -> None:
    images = torch.randn(2, 3, 64, 64)
    results = []
    for recompute in (False, True):
        backbone = copy.deepcopy(mini.image_encoder.backbone).train()
        backbone.with_cp = recompute
        sum(maps.square().mean() for maps in backbone(images)).backward()
        grads = {name: p.grad for name, p in backbone.named_parameters()}
        results.append((dict(backbone.named_buffers()), grads))
    for plain, recomputed in zip(*results, strict=True):
        assert plain.keys() == recomputed.keys()
        for name, value in plain.items():
            torch.testing.assert_close(recomputed[name], value, msg=name)


@pytest.mark.parametrize('kept', ['', 'norm_eval', 'frozen'])
def test_two_steps_train_all_parts_on_several_objects_and_clips(kept: str) -> None:
    torch.manual_seed(0)
    config = load_model_config('_base_/models/edgetam_mini.py').model.to_dict()
    config['data_preprocessor']['image_size'] = (SIDE, SIDE)
    if kept == 'norm_eval':
        config['image_encoder']['backbone']['norm_eval'] = True
    if kept == 'frozen':
        freezing = {'type': 'SAM2Freezing', 'parts': ['image_encoder.backbone']}
        config['adaptations'] = [freezing]
    model: SAM2 = MODELS.build(config).train()
    wrapper = SAM2OptimWrapperConstructor(
        optim_wrapper_cfg={'optimizer': {'type': 'AdamW', 'lr': 1e-3}},
        paramwise_cfg={'layer_decay': 0.9},
    )(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    samples = [square_sample(1), square_sample(4)]  # of two objects each
    losses = []
    for _ in range(2 if kept else 4):
        batch = model.data_preprocessor(samples, training=True)
        loss, _ = model.parse_losses(model(**batch, mode='loss'))
        wrapper.update_params(loss)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    moved = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    perceiver = {f'tracker.perceiver.{n}' for n in model.tracker.perceiver.state_dict()}
    assert perceiver <= moved
    backbone = {n for n in before if n.startswith('image_encoder.backbone.')}
    buffers = {n for n, _ in model.named_buffers()} & backbone
    expected = {'': backbone, 'norm_eval': backbone - buffers, 'frozen': set()}
    assert moved & backbone == expected[kept]
    rates = {group['lr'] for group in wrapper.optimizer.param_groups}
    assert (len(rates) > 5) is (
        kept != 'frozen'
    )  # a rate for each depth of the backbone


# --------------------------------------------------------------------------- the names


@pytest.mark.parametrize(
    'name', ['edgetam', 'configs/edgetam.yaml', 'facebook/EdgeTAM', 'edgetam.pt']
)
def test_released_names_mean_the_released_model(name: str) -> None:
    assert load_model_config(name).model.tracker.type == 'EdgeTAMTracker'


def test_weights_find_their_config() -> None:
    with torch.device('meta'):
        model = MODELS.build(edgetam_config(None))
    state = model.state_dict()
    config = fitting_config(state, source='weights.pt')
    assert Path(config.filename).stem == 'edgetam'
    image_part = {key: v for key, v in state.items() if not key.startswith('tracker.')}
    with pytest.raises(CheckpointMismatchError) as raised:
        check_weights(image_part, model, source='weights.pt')
    assert 'the image part of EdgeTAM; the model is EdgeTAM.' in str(raised.value)
    assert 'EdgeTamVideoModel, not from EdgeTamModel' in str(raised.value)
    with pytest.raises(CheckpointMismatchError, match=r"_base_/models/edgetam\.py'"):
        check_weights(state, meta_model('_base_/models/sam2_1_tiny.py'), source='x.pt')


# ------------------------------------------------------------------------ transformers


def test_folder_of_transformers_comes_back_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = edgetam_config(None)
    state = MODELS.build(config).state_dict()
    write_checkpoint(tmp_path / 'hf', state, CheckpointKind.HUGGINGFACE, config)
    theirs = read_safetensors_folder(tmp_path / 'hf', 'cpu')
    key = 'spatial_perceiver.layers.1.self_attention.{}_proj.weight'
    both = torch.cat([theirs[key.format('k')], theirs[key.format('v')]])
    ours = state['tracker.perceiver.layers.1.self_attention.key_value.weight']
    assert torch.equal(both, ours)
    assert_same_weights(read_checkpoint(str(tmp_path / 'hf'))['state_dict'], state)
    del theirs[key.format('v')]
    with pytest.raises(ValueError, match=r'self_attention\.v_proj\.weight is missing'):
        map_from_huggingface(theirs)
