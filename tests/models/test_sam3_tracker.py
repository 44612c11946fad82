"""SAM 3's tracker gives the numbers of transformers, and is trained in our loop.

The golden data is that of transformers 5 with weights from a seed; see
``golden_variants/make_sam3_tracker.py``, which says what was switched off there.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import Tensor

from golden_cases import GoldenCase, assert_close, discover_variants, variants_module
from projects.sam2.apis import SAM2ImagePredictor, SAM2VideoPredictor
from projects.sam2.checkpoints import recognise_model, weights_of
from projects.sam2.checkpoints.key_map import map_to_huggingface, map_to_released
from projects.sam2.checkpoints.writing import huggingface_config
from projects.sam2.engine.optim import SAM2OptimWrapperConstructor
from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.frame import FrameTask, track_frame
from projects.sam2.ops import upsample_logits
from projects.sam2.structures import (
    ClipBatch,
    ClipTargets,
    EncodedFrame,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/models'
# Largest difference over the root mean square. Found: 5e-6 for features, and 8e-5 for
# what follows, as much as either implementation differs from itself in float64.
FEATURE_TOLERANCE, TOLERANCE = 1e-4, 5e-4


def golden(test: Callable[..., None]) -> Any:
    """Run a test on each golden case."""
    marked = pytest.mark.golden_variants(test)
    return pytest.mark.parametrize('case', discover_variants('sam3_tracker_*'))(marked)


def _generator() -> Any:
    return variants_module('sam3_tracker_weights')


@functools.lru_cache(maxsize=2)
def _weights(case: GoldenCase) -> dict[str, Tensor]:
    """Weights by the names of Sam3TrackerVideoModel."""
    made = _generator().weights(
        case.spec['shapes'], case.spec['salt'], case.spec['added']
    )
    return {name: torch.from_numpy(value) for name, value in made.items()}


def _config(case: GoldenCase) -> ConfigDict:
    config = Config.fromfile(CONFIGS / 'sam3_tracker.py')
    config.merge_from_dict(
        {f'model.{key}': value for key, value in case.spec['overrides'].items()}
    )
    model: ConfigDict = config.model
    return model


@functools.lru_cache(maxsize=2)
def _model(case: GoldenCase) -> SAM2:
    model: SAM2 = MODELS.build(_config(case)).eval()
    model.load_state_dict(weights_of(_weights(case), source='golden'))
    return model


@functools.lru_cache(maxsize=2)
def _frames(case: GoldenCase) -> Any:
    spec = case.spec
    return _generator().frames(spec['num_frames'], spec['side'], spec['salt'])


@functools.lru_cache(maxsize=2)
@torch.no_grad()
def _features(case: GoldenCase) -> ImageFeatures:
    model = _model(case)
    frames = torch.cat([model.data_preprocessor.frame(f) for f in _frames(case)])
    return model.encode(frames)


def _points(case: GoldenCase, prompt: str) -> PointPrompt:
    rows = torch.tensor([case.spec['prompts'][prompt]])
    return PointPrompt(coords=rows[..., :2], labels=rows[..., 2].int())


@golden
def test_config_has_the_weights_of_transformers(case: GoldenCase) -> None:
    expected = case.spec['full_size']
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(CONFIGS / 'sam3_tracker.py').model)
    assert sum(p.numel() for p in model.parameters()) == expected['num_parameters']
    shapes = _shapes_by_huggingface(model)
    assert len(shapes) == expected['num_weights']
    lines = sorted(f'{name} {list(shape)}\n' for name, shape in shapes.items())
    digest = hashlib.sha256(''.join(lines).encode()).hexdigest()
    assert digest == expected['sha256']


def _shapes_by_huggingface(model: SAM2) -> dict[str, tuple[int, ...]]:
    named = map_to_huggingface(model.state_dict())
    return {name: tuple(value.shape) for name, value in named.items()}


@golden
def test_transformers_is_given_its_own_config(case: GoldenCase) -> None:
    written = huggingface_config(_config(case).to_dict())
    assert _differences(written, case.spec['config']) == []


def _differences(written: Any, expected: Any, name: str = '') -> list[str]:
    """Entries of a config that are missing, or have other values."""
    if not isinstance(expected, dict):
        return [] if written == expected else [f'{name}: {written} is not {expected}']
    return [
        difference
        for key, value in expected.items()
        for difference in _differences(written.get(key), value, f'{name}.{key}')
    ]


@golden
def test_image_features_are_those_of_transformers(case: GoldenCase) -> None:
    features = _features(case)
    for name in ('embedding', 'high_res_8', 'high_res_4'):
        actual = getattr(features, name)[0, ::4]
        assert_close(actual, case.arrays[f'image_{name}'], FEATURE_TOLERANCE, name)


@golden
def test_image_predictor_gives_the_masks_of_transformers(case: GoldenCase) -> None:
    predictor = SAM2ImagePredictor(_model(case))
    predictor.set_image(_frames(case)[0])
    for name, rows in case.spec['prompts'].items():
        points = np.array(rows)
        is_box = points[0, 2] == 2
        prompt: dict[str, Any] = (
            {'box': points[:, :2].reshape(4)}
            if is_box
            else {'point_coords': points[:, :2], 'point_labels': points[:, 2]}
        )
        for kind, multimask in (('single', False), ('multi', True)):
            _, ious, low_res = predictor.predict(**prompt, multimask_output=multimask)
            expected = f'image_{name}_{kind}'
            masks = case.arrays[f'{expected}_masks'].clip(-32, 32)
            assert_close(low_res, masks, TOLERANCE, expected)
            assert_close(ious, case.arrays[f'{expected}_ious'], TOLERANCE, expected)


@golden
@torch.no_grad()
def test_mask_prompt_gives_the_pointer_and_memory_of_transformers(
    case: GoldenCase,
) -> None:
    model, features = _model(case), _features(case).select(torch.tensor([0]))
    mask = torch.from_numpy(_generator().disc(case.spec['side']))[None, None]
    step = model.heads.use_mask_as_output(
        mask=mask, features=features, mode=TrackingMode.EVALUATION
    )
    assert step.full_logits is not None
    memory = model.tracker.encode_memory(
        features, step.full_logits, step.object_score_logits > 0, binary=True
    )
    for name, actual in (
        ('masks', step.mask_logits[:, 0]),
        ('scores', step.object_score_logits[:, 0]),
        ('pointers', step.object_pointer),
        ('memories', memory),
    ):
        assert_close(actual, case.arrays[f'mask_{name}'], TOLERANCE, name)


@golden
@pytest.mark.parametrize('name', ['forward', 'reverse', 'corrected'])
@torch.no_grad()
def test_tracking_gives_the_numbers_of_transformers(
    case: GoldenCase, name: str
) -> None:
    video = case.spec['videos'][name]
    tracks = [_track(case, video, number) for number in range(len(video['objects']))]
    for key, read in {
        'masks': lambda output: output.final.mask_logits[0, 0],
        'scores': lambda output: output.final.object_score_logits[0, 0],
        'pointers': lambda output: output.final.object_pointer[0],
    }.items():
        frames = zip(*tracks, strict=True)
        actual = torch.stack([torch.stack([*map(read, frame)]) for frame in frames])
        assert_close(actual, case.arrays[f'video_{name}_{key}'], TOLERANCE, key)
    if name == list(case.spec['videos'])[-1]:
        memories = torch.cat([track[-1].memory.spatial for track in tracks])
        assert_close(memories, case.arrays['video_memories'], TOLERANCE, 'memory')


def _track(case: GoldenCase, video: dict[str, Any], number: int) -> list[EncodedFrame]:
    """Track an object as transformers does, which keeps no correction as a prompt."""
    model, features = _model(case), _features(case)
    count = case.spec['num_frames']
    order = range(count)[:: -1 if video['reverse'] else 1]
    prompts = {order[0]: video['objects'][number]}
    prompts |= {int(f): names[number] for f, names in video['corrections'].items()}
    store = MemoryStore()
    outputs = []
    for frame in order:
        is_first = frame == order[0]
        query = MemoryQuery(
            frame_index=frame,
            num_video_frames=count,
            mode=TrackingMode.EVALUATION,
            reverse=video['reverse'],
        )
        points = _points(case, prompts[frame]) if frame in prompts else None
        task = FrameTask(
            query=query,
            prompt=None if points is None else FramePrompt(points=points),
            uses_memory=not is_first,
            reread_prompt=True,
        )
        own = features.select(torch.tensor([frame]))
        outputs.append(track_frame(model.heads, own, store, task))
        store.add(frame, outputs[-1].memory, conditioning=is_first)
    return outputs


@golden
@torch.no_grad()
def test_video_predictor_gives_the_masks_of_transformers(case: GoldenCase) -> None:
    video = case.spec['videos']['forward']
    predictor = SAM2VideoPredictor(_model(case), memory_dtype=torch.float32)
    state = predictor.init_state(_frames(case))
    for number, name in enumerate(video['objects']):
        rows = np.array(case.spec['prompts'][name])
        if rows[0, 2] == 2:
            predictor.add_new_points_or_box(state, 0, number, box=rows[:, :2].flatten())
        else:
            points, labels = rows[:, :2], rows[:, 2]
            predictor.add_new_points_or_box(state, 0, number, points, labels)
    expected = torch.from_numpy(case.arrays['video_forward_masks'])
    size = (case.spec['side'],) * 2
    for frame, _, masks in predictor.propagate_in_video(state):
        full = upsample_logits(expected[frame][:, None], size)
        assert isinstance(masks, Tensor)
        assert_close(masks, full.numpy(), TOLERANCE, f'masks of frame {frame}')


def _as_in_whole_sam3(names: list[str], weights: dict[str, Tensor]) -> dict[str, Any]:
    """Weights of the tracker, named as in a file of transformers' Sam3VideoModel."""
    named = {}
    for name in names:
        own = name.removeprefix('tracker_model.').removeprefix('detector_model.')
        own = own.replace('tracker_neck.', 'vision_encoder.neck.')
        if own in weights:
            named[name] = weights[own]
    return named


@golden
@pytest.mark.parametrize('prefix', ['tracker_model.', 'tracker_model.tracker_model.'])
def test_tracker_is_found_in_a_file_of_the_whole_sam3(
    case: GoldenCase, prefix: str
) -> None:
    weights = _weights(case)
    whole = _as_in_whole_sam3(case.spec['names_in_video_model'], weights)
    assert len(whole) == len(weights)
    whole = {key.replace('tracker_model.', prefix): v for key, v in whole.items()}
    detector = {'detector_model.vision_encoder.neck.fpn_layers.0.proj1.bias'}
    whole |= dict.fromkeys(detector, torch.zeros(1))
    found = weights_of(whole, source='model.safetensors')
    expected = weights_of(weights, source='tracker')
    assert found.keys() == expected.keys() == _model(case).state_dict().keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


# Patterns of names in the key map's released column, and what `sam3.pt` has for them.
TRUNK = r'image_encoder\.trunk'
SAM3_PT_NAMES = (
    (rf'{TRUNK}\.embeddings\.position_embeddings', 'pos_embed'),
    (
        r'image_encoder\.trunk\.embeddings\.patch_embeddings\.projection',
        'patch_embed.proj',
    ),
    (rf'{TRUNK}\.layer_norm', 'ln_pre'),
    (rf'{TRUNK}\.layers\.(\d+)\.layer_norm', r'blocks.\1.norm'),
    (
        r'image_encoder\.trunk\.layers\.(\d+)\.attention\.out_proj',
        r'blocks.\1.attn.proj',
    ),
    (rf'{TRUNK}\.layers\.(\d+)', r'blocks.\1'),
)
SAM3_PT_TRUNK = 'detector.backbone.vision_backbone.trunk.'
SAM3_PT_NECK = 'detector.backbone.vision_backbone.sam2_convs.'
SAM3_PT_LEVELS = {
    'fpn_layers.0.scale_layers.0': '0.dconv_2x2_0',
    'fpn_layers.0.scale_layers.2': '0.dconv_2x2_1',
    'fpn_layers.1.scale_layers.0': '1.dconv_2x2',
    **{f'fpn_layers.{n}.proj1': f'{n}.conv_1x1' for n in range(4)},
    **{f'fpn_layers.{n}.proj2': f'{n}.conv_3x3' for n in range(4)},
}


def _sam3_pt_name(released: str) -> str:
    if released.startswith('image_encoder.neck.'):
        level, _, kind = released.removeprefix('image_encoder.neck.').rpartition('.')
        return f'{SAM3_PT_NECK}{SAM3_PT_LEVELS[level]}.{kind}'
    for pattern, name in SAM3_PT_NAMES:
        if re.match(pattern, released):
            return SAM3_PT_TRUNK + re.sub(pattern, name, released)
    own = released.replace('memory_attention.', 'transformer.encoder.', 1)
    own = own.replace('memory_encoder.', 'maskmem_backbone.', 1)
    if 'sam_mask_decoder.transformer' in own:
        own = own.replace('mlp.layers.0', 'mlp.lin1').replace(
            'mlp.layers.1', 'mlp.lin2'
        )
    return f'tracker.{own}'


@golden
def test_tracker_is_found_in_sam3_pt(case: GoldenCase) -> None:
    expected = dict(_model(case).state_dict())
    whole = {
        _sam3_pt_name(name): value for name, value in map_to_released(expected).items()
    }
    for block in range(3):
        for kind in ('weight', 'bias'):
            start = f'{SAM3_PT_TRUNK}blocks.{block}.attention.'
            parts = [whole.pop(f'{start}{part}_proj.{kind}') for part in 'qkv']
            fused = f'{SAM3_PT_TRUNK}blocks.{block}.attn.qkv.{kind}'
            whole[fused] = torch.cat(parts)
    position = whole[f'{SAM3_PT_TRUNK}pos_embed']
    class_token = position.new_ones(1, 1, position.shape[2])
    whole[f'{SAM3_PT_TRUNK}pos_embed'] = torch.cat([class_token, position], dim=1)
    whole[f'{SAM3_PT_TRUNK}blocks.0.attn.freqs_cis'] = torch.zeros(1)
    whole['detector.backbone.vision_backbone.convs.0.conv_1x1.bias'] = torch.zeros(1)
    found = weights_of({'model': whole}, source='sam3.pt')
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_weights_at_released_size_are_recognised() -> None:
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(CONFIGS / 'sam3_tracker.py').model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    kind = recognise_model(shapes)
    assert kind is not None
    assert kind.config == '_base_/models/sam3_tracker.py'
    assert str(kind) == "SAM 3's tracker"


def test_two_steps_of_training_lower_the_loss_and_reach_all_parts() -> None:
    config = Config.fromfile(CONFIGS / 'sam3_tracker_mini.py')
    torch.manual_seed(0)
    model: SAM2 = MODELS.build(config.model).train()
    optimizer = SAM2OptimWrapperConstructor(
        optim_wrapper_cfg={'optimizer': {'type': 'AdamW', 'lr': 1e-3}},
        paramwise_cfg={'backbone_lr_mult': 0.6, 'layer_decay': 0.9},
    )(model)
    rates = {group['lr'] for group in optimizer.param_groups}
    assert len(rates) > config.model.image_encoder.backbone.num_layers  # layer decay
    start = {n: value.detach().clone() for n, value in model.named_parameters()}
    batch = _clip(num_frames=3, side=config.image_size[0])
    losses = []
    for _ in range(3):
        terms = model(batch, mode='loss')
        losses.append(sum(terms.values()))
        optimizer.update_params(losses[-1])
    assert losses[-1] < losses[0]
    still = {n for n, value in model.named_parameters() if torch.equal(value, start[n])}
    # What no tracker reads, and embeddings of prompts that this clip does not have.
    assert {name for name in still if name.startswith('image_encoder')} == {
        f'image_encoder.neck.unused_level.{part}.{kind}'
        for part in ('projection', 'output')
        for kind in ('weight', 'bias')
    }
    assert not any('memory_attention' in n or 'memory_encoder' in n for n in still)


def _clip(num_frames: int, side: int) -> ClipBatch:
    """A square that moves over noise."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(num_frames, 3, side, side, generator=generator)
    masks = torch.zeros(num_frames, 1, side, side, dtype=torch.bool)
    for frame in range(num_frames):
        corner = 20 + 8 * frame
        masks[frame, :, corner : corner + 50, 30:70] = True
        frames[frame, :, corner : corner + 50, 30:70] += 2
    annotated = torch.ones(num_frames, 1, dtype=torch.bool)
    return ClipBatch(
        frames=frames,
        num_frames=num_frames,
        targets=ClipTargets(masks=masks, void=None, annotated=annotated),
        objects_per_clip=(1,),
        annotated_frames=frozenset(range(num_frames)),
        seeds=(0,),
    )
