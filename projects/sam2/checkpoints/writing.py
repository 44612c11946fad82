"""Writes checkpoints of each kind, and the config that transformers reads."""

import inspect
import json
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.registry import MODELS
from torch import Tensor

from ..ops import atomic_write
from .files import WEIGHTS_FILE, write_safetensors
from .key_map import map_to_huggingface, map_to_released


class CheckpointKind(Enum):
    """Format and naming of a checkpoint."""

    RELEASED = 'released'
    HUGGINGFACE = 'huggingface'
    MMSAM2 = 'mmsam2'


def write_checkpoint(
    target: Path,
    weights: Mapping[str, Tensor],
    kind: CheckpointKind,
    model: Mapping[str, Any],
) -> None:
    """Write weights atomically.

    The same weights give the same bytes, whatever their order.

    Args:
        target: A new file; for ``HUGGINGFACE`` a new folder.
        weights: State dict of the model.
        model: Config of the model.

    Raises:
        FileExistsError: If the target exists.
        UnknownKeyError: If a weight has no name in checkpoints of this kind.
        ValueError: If checkpoints of this kind have no such model.
        ImportError: If a package is missing.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        msg = f'{target} exists; remove it, or name another place to write to'
        raise FileExistsError(msg)
    if target.is_dir() and kind is not CheckpointKind.HUGGINGFACE:
        msg = (
            f'{target} is a folder, but a checkpoint of kind {kind.value} is a file; '
            f'name a new file'
        )
        raise FileExistsError(msg)
    weights = dict(sorted(weights.items()))
    with atomic_write(target) as path:
        if kind is CheckpointKind.HUGGINGFACE:
            config = json.dumps(huggingface_config(model), indent=2, sort_keys=True)
            path.mkdir()
            (path / 'config.json').write_text(f'{config}\n', encoding='utf-8')
            write_safetensors(path / WEIGHTS_FILE, map_to_huggingface(weights))
            return
        if kind is CheckpointKind.MMSAM2:
            content = {'state_dict': weights}  # also of a model with other parts
        else:
            content = {'model': map_to_released(weights)}
        with path.open('wb') as file:  # given a path, torch.save writes its name too
            torch.save(content, file)


# --------------------------------------------------------- The config of transformers

STRIDES = (4, 8, 16)
FUSER_EXPANSION = 4
TIME_ENCODINGS = {'signed': True, 'none': False}
# Parts that hold weights, or say how they are used.
PART_PATHS = (
    'data_preprocessor',
    'image_encoder.backbone',
    'image_encoder.neck',
    'tracker',
    'tracker.memory_attention',
    'tracker.memory_encoder',
    'tracker.memory_bank',
    'tracker.object_pointer',
    'prompt_encoder',
    'mask_decoder',
)
# Arguments that have one value in transformers' model: part, argument, value.
FIXED_ARGUMENTS = (
    ('memory_attention', 'type', 'MemoryAttention'),
    ('memory_attention', 'memory_dims', 64),
    ('memory_encoder', 'type', 'MemoryEncoder'),
    ('prompt_encoder', 'type', 'SAM2PromptEncoder'),
    ('mask_decoder', 'type', 'SAM2MaskDecoder'),
    ('mask_decoder', 'high_res_features', True),
    ('mask_decoder', 'object_score', True),
    ('mask_decoder', 'iou_sigmoid', True),
)
TRACKER_ARGUMENTS = (
    ('tracker', 'type', 'SAM2Tracker'),
    ('tracker', 'memory_pooling', 1),
    ('memory_attention', 'cross_attention', None),
)
SAM2_ARGUMENTS = (
    ('backbone', 'type', 'Hiera'),
    ('neck', 'type', 'HieraFPN'),
    *TRACKER_ARGUMENTS,
)
SAM3_ARGUMENTS = (
    ('backbone', 'type', 'SAM3ViT'),
    ('neck', 'type', 'SAM3Neck'),
    *TRACKER_ARGUMENTS,
)
EDGETAM_ARGUMENTS = (
    ('backbone', 'type', 'EdgeTAMRepViT'),
    ('neck', 'type', 'HieraFPN'),
    # transformers names the backbone by its model in timm.
    ('backbone', 'embed_dims', (48, 96, 192, 384)),
    ('backbone', 'depths', (2, 2, 14, 2)),
    ('perceiver', 'type', 'EdgeTAMPerceiver'),
)
GIVE_SAM2 = 'give the config of a SAM2, like configs/_base_/models/sam2_1_tiny.py'


def huggingface_config(model: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the config of a :class:`SAM2` to that of transformers' model.

    That is ``Sam2VideoConfig``; for EdgeTAM ``EdgeTamVideoConfig``, and for SAM 3's
    tracker ``Sam3TrackerVideoConfig``.

    Returns:
        The content of ``config.json``.

    Raises:
        ValueError: If transformers cannot build the model, or it is no SAM 2.
    """
    preprocessor = model.get('data_preprocessor') or {'type': 'ClipDataPreprocessor'}
    model = {**model, 'data_preprocessor': preprocessor}
    parts = {path.rpartition('.')[2]: _part(model, path) for path in PART_PATHS}
    is_edgetam = parts['tracker']['type'] == 'EdgeTAMTracker'
    is_sam3 = parts['backbone']['type'] == 'SAM3ViT'
    if is_edgetam:
        parts['perceiver'] = _part(model, 'tracker.perceiver')
    own_arguments: tuple[tuple[str, str, Any], ...] = SAM2_ARGUMENTS
    if is_edgetam:
        own_arguments = EDGETAM_ARGUMENTS
    elif is_sam3:
        own_arguments = SAM3_ARGUMENTS
    _check_supported(parts, FIXED_ARGUMENTS + own_arguments)
    tracker, bank = parts['tracker'], parts['memory_bank']
    attention, pointer = parts['memory_attention'], parts['object_pointer']
    encoder, decoder = parts['memory_encoder'], parts['mask_decoder']
    side = parts['data_preprocessor']['image_size'][0]
    dims = encoder['embed_dims']
    stride = parts['prompt_encoder']['stride']
    if is_edgetam:
        vision = _vision_config(parts['neck'], side)
        own_config = _edgetam_config(attention, parts['perceiver'], vision)
    elif is_sam3:
        own_config = _sam3_config(parts, side)
    else:
        own_config = {
            'architectures': ['Sam2VideoModel'],
            'model_type': 'sam2_video',
            'vision_config': {
                'model_type': 'sam2_vision_model',
                'backbone_config': _hiera_config(parts['backbone'], side),
                **_vision_config(parts['neck'], side),
            },
            'memory_attention_feed_forward_hidden_size': attention['feedforward_dims'],
        }
    return {
        **own_config,
        'image_size': side,
        'prompt_encoder_config': {
            'hidden_size': parts['prompt_encoder']['embed_dims'],
            'image_size': side,
            'patch_size': stride,
        },
        'mask_decoder_config': {
            'hidden_size': decoder['embed_dims'],
            'mlp_dim': decoder['mlp_dims'],
            'num_attention_heads': decoder['num_heads'],
            'dynamic_multimask_via_stability': decoder['stability_selection'],
        },
        'num_maskmem': bank['num_frames'],
        'max_object_pointers_in_encoder': bank['max_pointers'],
        'enable_occlusion_spatial_embedding': tracker['no_object_embedding'],
        'enable_temporal_pos_encoding_for_object_pointers': TIME_ENCODINGS[
            pointer['time_encoding']
        ],
        'memory_attention_hidden_size': attention['embed_dims'],
        'memory_attention_num_layers': attention['num_layers'],
        'memory_attention_num_attention_heads': attention['num_heads'],
        'memory_attention_dropout': attention['dropout'],
        'memory_attention_rope_dropout': attention['dropout'],
        'memory_attention_rope_feat_sizes': [side // stride] * 2,
        'memory_encoder_hidden_size': dims,
        'memory_encoder_output_channels': encoder['memory_dims'],
        'mask_downsampler_embed_dim': dims,
        'memory_fuser_embed_dim': dims,
        'memory_fuser_intermediate_dim': FUSER_EXPANSION * dims,
    }


def _vision_config(neck: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Translate what the image encoders of both models share."""
    return {
        'backbone_channel_list': list(reversed(neck['in_channels'])),
        'backbone_feature_sizes': [[side // s, side // s] for s in STRIDES],
        'fpn_hidden_size': neck['out_channels'],
        'fpn_top_down_levels': list(neck['top_down_levels']),
    }


def _hiera_config(backbone: Mapping[str, Any], side: int) -> dict[str, Any]:
    """Translate the config of a Hiera."""
    num_stages = len(backbone['stages'])
    factors = [2**stage for stage in range(num_stages)]  # each stage doubles the width
    return {
        'model_type': 'sam2_hiera_det_model',
        'hidden_size': backbone['embed_dims'],
        'num_attention_heads': backbone['num_heads'],
        'image_size': [side, side],
        'window_positional_embedding_background_size': list(
            backbone['position_embedding_size']
        ),
        'num_query_pool_stages': num_stages - 1,
        'blocks_per_stage': list(backbone['stages']),
        'embed_dim_per_stage': [backbone['embed_dims'] * n for n in factors],
        'num_attention_heads_per_stage': [backbone['num_heads'] * n for n in factors],
        'window_size_per_stage': list(backbone['window_sizes']),
        'global_attention_blocks': list(backbone['global_attention_blocks']),
    }


def _edgetam_config(
    attention: Mapping[str, Any], perceiver: Mapping[str, Any], vision: dict[str, Any]
) -> dict[str, Any]:
    """Translate what EdgeTAM has of its own."""
    num_heads, dims = perceiver['num_heads'], perceiver['memory_dims']
    return {
        'architectures': ['EdgeTamVideoModel'],
        'model_type': 'edgetam_video',
        'vision_config': {
            'model_type': 'edgetam_vision_model',
            'backbone_config': {
                'model_type': 'timm_wrapper',
                'architecture': 'repvit_m1',
                'num_labels': 0,
                'model_args': {
                    'in_chans': 3,
                    'features_only': True,
                    'out_indices': [0, 1, 2, 3],
                },
            },
            **vision,
        },
        'memory_attention_mlp_hidden_size': attention['feedforward_dims'],
        'memory_attention_rope_k_sizes': [perceiver['grid_size']] * 2,
        'perceiver_resampler_num_latents': perceiver['num_global'],
        'perceiver_resampler_num_latents_2d': perceiver['grid_size'] ** 2,
        'perceiver_resampler_hidden_size': dims,
        'perceiver_resampler_mlp_intermediate_size': perceiver['feedforward_dims'],
        'perceiver_resampler_num_attention_heads': num_heads,
        'perceiver_resampler_attention_head_dim': dims // num_heads,
        'perceiver_resampler_num_layers': perceiver['num_layers'],
    }


def _sam3_config(parts: Mapping[str, '_Part'], side: int) -> dict[str, Any]:
    """Translate what SAM 3's tracker has of its own."""
    backbone, attention = parts['backbone'], parts['memory_attention']
    patch_size = backbone['patch_size']
    cells = side // patch_size
    return {
        'architectures': ['Sam3TrackerVideoModel'],
        'model_type': 'sam3_tracker_video',
        'vision_config': {
            'model_type': 'sam3_vision_model',
            'backbone_config': {
                'model_type': 'sam3_vit_model',
                'hidden_size': backbone['embed_dims'],
                'intermediate_size': backbone['mlp_dims'],
                'num_hidden_layers': backbone['num_layers'],
                'num_attention_heads': backbone['num_heads'],
                'image_size': side,
                'patch_size': patch_size,
                'window_size': backbone['window_size'],
                'global_attn_indexes': list(backbone['global_attention_blocks']),
                'pretrain_image_size': patch_size
                * backbone['position_embedding_size'][0],
            },
            'fpn_hidden_size': parts['neck']['out_channels'],
            'backbone_feature_sizes': [[n * cells, n * cells] for n in (4, 2, 1)],
        },
        'max_cond_frame_num': parts['memory_bank']['max_conditioning_frames'] or -1,
        'memory_attention_feed_forward_hidden_size': attention['feedforward_dims'],
    }


def _plain(value: object) -> object:
    """A list as a tuple, since a config may have either."""
    return tuple(value) if isinstance(value, list) else value


class _Part(dict[str, Any]):
    """Type and arguments of a part; a missing argument is an error that names it."""

    def __init__(self, path: str, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self.path = path

    def __missing__(self, argument: str) -> NoReturn:
        msg = (
            f'Expected model.{self.path} to have {argument}, but got a '
            f'{self["type"]} with {sorted(self.keys() - {"type"})}; {GIVE_SAM2}'
        )
        raise ValueError(msg)


def _part(model: Mapping[str, Any], path: str) -> _Part:
    """Type and arguments of a part, with the defaults that its config leaves out."""
    config: Any = model
    for name in path.split('.'):
        config = config.get(name) if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or 'type' not in config:
        msg = (
            f'Expected model.{path} to be the config of a part, but got '
            f'{type(config).__name__} in a model of type {model.get("type")!r} with '
            f'{sorted(model)}; {GIVE_SAM2}'
        )
        raise ValueError(msg)
    kind = config['type']
    built_from = MODELS.get(kind) if isinstance(kind, str) else kind
    if built_from is None:
        msg = f'{kind!r} is no registered model; import the module that registers it'
        raise ValueError(msg)
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(built_from).parameters.values()
        if parameter.default is not parameter.empty
    }
    return _Part(path, defaults | dict(config) | {'type': built_from.__name__})


def _check_supported(
    parts: Mapping[str, _Part], fixed: Iterable[tuple[str, str, Any]]
) -> None:
    """Raise if transformers has no such model.

    Args:
        fixed: Part, argument, and the only value that is supported.
    """
    problems = [
        f'{name}.{argument} is {parts[name].get(argument)!r}, not {value!r}'
        for name, argument, value in fixed
        if _plain(parts[name].get(argument)) != value
    ]
    time_encoding = parts['object_pointer']['time_encoding']
    if time_encoding not in TIME_ENCODINGS:
        problems.append(
            f'object_pointer.time_encoding is {time_encoding!r}, none of '
            f'{tuple(TIME_ENCODINGS)}'
        )
    height, width = parts['data_preprocessor']['image_size']
    if height != width:
        problems.append(f'data_preprocessor.image_size {height} x {width} is no square')
    if problems:
        msg = (
            f'transformers has no SAM 2 like this: {"; ".join(problems)}. Write the '
            f'checkpoint as a released one or as one of ours instead'
        )
        raise ValueError(msg)
