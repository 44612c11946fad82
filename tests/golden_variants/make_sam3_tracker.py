"""Writes ``sam3_tracker_*.{json,npz}``: numbers of transformers' Sam3TrackerVideoModel.

    python tests/golden_variants/make_sam3_tracker.py [--salt SALT] [--name NAME]

It needs transformers 5 (these files: 5.24.0 with torch 2.13.0) and nothing of this
project. Two things that transformers does otherwise are switched off: it stores
memories in bfloat16, and it takes the pointer of a mask prompt from the best of three
masks, where the released model takes that of a clear prompt.
"""

# mypy: ignore-errors
# The environment of the tests has transformers 4, which lacks these classes.

import argparse
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import sam3_tracker_weights
import torch
import transformers
from torch import Tensor
from transformers import (
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoInferenceSession,
    Sam3TrackerVideoModel,
    Sam3VideoConfig,
    Sam3VideoModel,
)

FOLDER = Path(__file__).parent
SIDE, NUM_FRAMES = 112, 5
DIMS, MEMORY_DIMS = 128, 64  # transformers fixes the latter
BACKBONE = {
    'model_type': 'sam3_vit_model',
    'hidden_size': 32,
    'intermediate_size': 80,
    'num_hidden_layers': 3,
    'num_attention_heads': 2,
    'window_size': 4,
    'global_attn_indexes': [1],
    'pretrain_image_size': 42,
    'image_size': SIDE,
}
CONFIG = {
    'image_size': SIDE,
    'vision_config': {
        'model_type': 'sam3_vision_model',
        'backbone_config': BACKBONE,
        'fpn_hidden_size': DIMS,
    },
    'prompt_encoder_config': {'hidden_size': DIMS, 'image_size': SIDE},
    'mask_decoder_config': {'hidden_size': DIMS, 'mlp_dim': 64},
    'num_maskmem': 4,
    'memory_attention_hidden_size': DIMS,
    'memory_attention_num_layers': 2,
    'memory_attention_feed_forward_hidden_size': 64,
    'memory_encoder_hidden_size': DIMS,
    'memory_encoder_output_channels': MEMORY_DIMS,
    'mask_downsampler_embed_dim': DIMS,
    'memory_fuser_embed_dim': DIMS,
    'memory_fuser_intermediate_dim': 4 * DIMS,
}
# What the config of the released tracker of this project has to change.
OVERRIDES = {
    'data_preprocessor.image_size': [SIDE, SIDE],
    'data_preprocessor.size_divisor': 56,
    'image_encoder.backbone.embed_dims': 32,
    'image_encoder.backbone.num_heads': 2,
    'image_encoder.backbone.num_layers': 3,
    'image_encoder.backbone.mlp_dims': 80,
    'image_encoder.backbone.global_attention_blocks': [1],
    'image_encoder.backbone.window_size': 4,
    'image_encoder.backbone.position_embedding_size': [3, 3],
    'image_encoder.neck.in_channels': 32,
    'image_encoder.neck.out_channels': DIMS,
    'tracker.memory_attention.embed_dims': DIMS,
    'tracker.memory_attention.memory_dims': MEMORY_DIMS,
    'tracker.memory_attention.num_layers': 2,
    'tracker.memory_attention.feedforward_dims': 64,
    'tracker.memory_encoder.embed_dims': DIMS,
    'tracker.memory_encoder.memory_dims': MEMORY_DIMS,
    'tracker.memory_bank.num_frames': 4,
    'tracker.object_pointer.embed_dims': DIMS,
    'tracker.object_pointer.memory_dims': MEMORY_DIMS,
    'prompt_encoder.embed_dims': DIMS,
    'mask_decoder.embed_dims': DIMS,
    'mask_decoder.mlp_dims': 64,
}
# So that some objects are seen and others are judged absent.
ADDED = {'mask_decoder.pred_obj_score_head.proj_out.bias': 1.1}
# Prompts as (x, y, label) in pixels; labels 2 and 3 are the corners of a box.
PROMPTS = {
    'click': [[40.0, 60.0, 1]],
    'clicks': [[40.0, 60.0, 1], [90.5, 20.25, 0], [70.0, 66.0, 1]],
    'box': [[20.0, 30.0, 2], [80.0, 95.0, 3]],
}
# A pass: prompts of the objects on its first frame, then corrections by frame, which
# come after the frames before them were tracked.
VIDEOS = {
    'forward': {'objects': ['click', 'box'], 'reverse': False, 'corrections': {}},
    'reverse': {'objects': ['clicks'], 'reverse': True, 'corrections': {}},
    'corrected': {
        'objects': ['click', 'clicks'],
        'reverse': False,
        'corrections': {'3': ['clicks', 'box']},
    },
}


class TorchWithoutBFloat16:
    """Torch as transformers sees it, where memories stay in float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> object:
        """All else."""
        return getattr(torch, name)


def build(salt: str) -> tuple[Any, dict[str, list[int]]]:
    """Build the model, with weights by name."""
    model = Sam3TrackerVideoModel(Sam3TrackerVideoConfig(**CONFIG)).eval()
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    copy = 'prompt_encoder.shared_embedding.positional_embedding'
    made = sam3_tracker_weights.weights(shapes, salt, ADDED)
    made[copy] = made['shared_image_embedding.positional_embedding']
    model.load_state_dict({name: torch.from_numpy(v) for name, v in made.items()})
    del shapes[copy]
    return model, shapes


def points_of(prompt: str) -> tuple[Tensor, Tensor]:
    """Coordinates (1, 1, P, 2) and labels (1, 1, P) of a prompt."""
    given = torch.tensor([[PROMPTS[prompt]]])
    return given[..., :2], given[..., 2].int()


@torch.no_grad()
def image_numbers(model: Any, pixels: Tensor) -> dict[str, Tensor]:
    """Features of the first frame, and masks of each prompt on it."""
    features = model.get_image_features(pixels[:1]).fpn_hidden_states
    arrays = {  # every fourth channel
        f'image_{name}': value.squeeze(1).T.reshape(-1, side, side)[::4]
        for name, value, side in zip(
            ('high_res_4', 'high_res_8', 'embedding'),
            features,
            (32, 16, 8),
            strict=True,
        )
    }
    for prompt in PROMPTS:
        coords, labels = points_of(prompt)
        for kind, multimask in (('single', False), ('multi', True)):
            embeddings = model.get_image_embeddings(pixels[:1])
            sparse, dense = model.prompt_encoder(coords.clone(), labels, None, None)
            masks, ious, _, _ = model.mask_decoder(
                image_embeddings=embeddings[-1],
                image_positional_embeddings=model.get_image_wide_positional_embeddings(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
                high_resolution_features=embeddings[:-1],
            )
            arrays |= {
                f'image_{prompt}_{kind}_masks': masks[0, 0],
                f'image_{prompt}_{kind}_ious': ious[0, 0],
            }
    return arrays


@torch.no_grad()
def mask_numbers(model: Any, pixels: Tensor) -> dict[str, Tensor]:
    """A mask prompt on the first frame: its low-resolution mask, pointer and memory."""
    session = open_session(pixels)
    mask = torch.from_numpy(sam3_tracker_weights.disc(SIDE)).float()[None, None]
    session.add_mask_inputs(session.obj_id_to_idx(0), 0, mask)
    session.obj_with_new_inputs.append(0)
    clear = functools.partial(model._single_frame_forward, multimask_output=False)
    with mock.patch.object(model, '_single_frame_forward', clear):
        model(session, frame_idx=0)
    return {f'mask_{name}': v for name, v in stored(session, 0, 1).items()}


def open_session(pixels: Tensor) -> Any:
    """A session on all frames."""
    return Sam3TrackerVideoInferenceSession(
        video=pixels, video_height=SIDE, video_width=SIDE, dtype=torch.float32
    )


def prompt_frame(model: Any, session: Any, frame: int, prompts: Sequence[str]) -> None:
    """Prompt all objects on a frame, and segment it."""
    for number, prompt in enumerate(prompts):
        index = session.obj_id_to_idx(number)
        coords, labels = points_of(prompt)
        inputs = {'point_coords': coords, 'point_labels': labels}
        session.add_point_inputs(index, frame, inputs)
    session.obj_with_new_inputs.extend(range(len(prompts)))
    model(session, frame_idx=frame)


def stored(session: Any, frame: int, num_objects: int) -> dict[str, Tensor]:
    """What the session remembers of a frame: masks, scores, pointers and memories."""
    parts = [session.output_dict_per_obj[number] for number in range(num_objects)]
    found = [
        part['cond_frame_outputs'].get(frame) or part['non_cond_frame_outputs'][frame]
        for part in parts
    ]
    cells = SIDE // 14
    return {
        'masks': torch.cat([output['pred_masks'][0] for output in found]),
        'scores': torch.cat([out['object_score_logits'].flatten() for out in found]),
        'pointers': torch.cat([out['object_pointer'].reshape(1, -1) for out in found]),
        'memories': torch.cat(
            [
                output['maskmem_features'].permute(1, 2, 0).unflatten(2, (cells, cells))
                for output in found
            ]
        ),
    }


@torch.no_grad()
def video_numbers(
    model: Any, pixels: Tensor, video: dict[str, Any]
) -> dict[str, Tensor]:
    """Track the objects of a pass; arrays of all frames in the order of the pass."""
    session, prompts = open_session(pixels), video['objects']
    order = list(range(NUM_FRAMES))[:: -1 if video['reverse'] else 1]
    prompt_frame(model, session, order[0], prompts)
    for frame in order[1:]:
        model(session, frame_idx=frame, reverse=video['reverse'])
        if str(frame) in video['corrections']:
            prompt_frame(model, session, frame, video['corrections'][str(frame)])
    answers = [stored(session, frame, len(prompts)) for frame in order]
    return {name: torch.stack([a[name] for a in answers]) for name in answers[0]}


def hash_of(shapes: Mapping[str, Sequence[int]]) -> str:
    """Hash of names and shapes of weights."""
    lines = sorted(f'{name} {list(shape)}\n' for name, shape in shapes.items())
    return hashlib.sha256(''.join(lines).encode()).hexdigest()


def full_size() -> dict[str, Any]:
    """Names and number of the weights at the released size."""
    with torch.device('meta'):
        model = Sam3TrackerVideoModel(Sam3TrackerVideoConfig())
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    return {
        'num_parameters': sum(value.numel() for value in model.parameters()),
        'num_weights': len(shapes),
        'sha256': hash_of({name: tuple(shape) for name, shape in shapes.items()}),
    }


def names_in_video_model() -> list[str]:
    """Names that a file of the whole SAM 3, of this size, has for the tracker."""
    vision = CONFIG['vision_config']
    config = Sam3VideoConfig(
        tracker_config=CONFIG, detector_config={'vision_config': vision}
    )
    with torch.device('meta'):
        names = Sam3VideoModel(config).state_dict().keys()
    return sorted(
        name
        for name in names
        if not name.startswith('detector_model.')
        or name.startswith('detector_model.vision_encoder.backbone.')
    )


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--salt', default='sam3-1')
    parser.add_argument('--name', default='sam3_tracker_1')
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, shapes = build(options.salt)
    frames = sam3_tracker_weights.frames(NUM_FRAMES, SIDE, options.salt)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    arrays = image_numbers(model, pixels)
    place = 'transformers.models.sam3_tracker_video.modeling_sam3_tracker_video.torch'
    with mock.patch(place, TorchWithoutBFloat16()):
        arrays |= mask_numbers(model, pixels)
        for name, video in VIDEOS.items():
            numbers = video_numbers(model, pixels, video)
            memories = numbers.pop('memories')
            arrays |= {f'video_{name}_{key}': v for key, v in numbers.items()}
        # The memories are the largest, and the masks of later frames follow from them.
        arrays['video_memories'] = memories[-1]
    spec = {
        'transformers': transformers.__version__,
        'torch': torch.__version__,
        'salt': options.salt,
        'side': SIDE,
        'num_frames': NUM_FRAMES,
        'config': CONFIG,
        'overrides': OVERRIDES,
        'shapes': shapes,
        'added': ADDED,
        'prompts': PROMPTS,
        'videos': VIDEOS,
        'full_size': full_size(),
        'names_in_video_model': names_in_video_model(),
    }
    path = FOLDER / options.name
    lines = ',\n'.join(f'"{key}": {json.dumps(value)}' for key, value in spec.items())
    path.with_suffix('.json').write_text(f'{{\n{lines}\n}}\n')
    np.savez_compressed(
        path.with_suffix('.npz'), **{k: v.numpy() for k, v in arrays.items()}
    )


if __name__ == '__main__':
    main()
