"""Takes the tracker out of the files of the whole SAM 3.

SAM 3 is a detector and a tracker that share a backbone. Its files hold the tracker in
three places: the backbone within the detector, a neck of the tracker's own, and the
rest. Two layouts are released: ``model.safetensors``, of the ``Sam3VideoModel`` of
transformers, and ``sam3.pt``.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# Prefixes in a file of ``Sam3VideoModel``, and in one of ``Sam3TrackerVideoModel``. The
# last is there twice in files that transformers 5 has read and written again.
HUGGINGFACE_PREFIXES = (
    (re.compile(r'detector_model\.(?=vision_encoder\.backbone\.)'), ''),
    (re.compile(r'tracker_neck\.'), 'vision_encoder.neck.'),
    (re.compile(r'(tracker_model\.)+'), ''),
)
# A weight that tells the tracker from others with a part of such a name.
HUGGINGFACE_KEY = re.compile(
    r'(tracker_model\.)+shared_image_embedding\.positional_embedding'
)

_TRUNK = r'detector\.backbone\.vision_backbone\.trunk\.'
_NECK = r'detector\.backbone\.vision_backbone\.sam2_convs\.(\d)\.'
_BLOCK = rf'{_TRUNK}blocks\.(\d+)\.'
# Patterns of names in ``sam3.pt``, and our names for them in the released column of the
# key map. SAM 2's names are those of the release for all that both models have.
SAM3_PT_NAMES = (
    (rf'{_TRUNK}pos_embed', r'image_encoder.trunk.embeddings.position_embeddings'),
    (
        rf'{_TRUNK}patch_embed\.proj\.',
        r'image_encoder.trunk.embeddings.patch_embeddings.projection.',
    ),
    (rf'{_TRUNK}ln_pre\.', r'image_encoder.trunk.layer_norm.'),
    (rf'{_BLOCK}norm(\d)\.', r'image_encoder.trunk.layers.\1.layer_norm\2.'),
    (rf'{_BLOCK}attn\.proj\.', r'image_encoder.trunk.layers.\1.attention.out_proj.'),
    (rf'{_BLOCK}attn\.qkv\.', r'image_encoder.trunk.layers.\1.attention.qkv.'),
    (rf'{_BLOCK}mlp\.', r'image_encoder.trunk.layers.\1.mlp.'),
    (
        rf'{_NECK}dconv_2x2(?:_0)?\.',
        r'image_encoder.neck.fpn_layers.\1.scale_layers.0.',
    ),
    (rf'{_NECK}dconv_2x2_1\.', r'image_encoder.neck.fpn_layers.\1.scale_layers.2.'),
    (rf'{_NECK}conv_1x1\.', r'image_encoder.neck.fpn_layers.\1.proj1.'),
    (rf'{_NECK}conv_3x3\.', r'image_encoder.neck.fpn_layers.\1.proj2.'),
    (r'tracker\.transformer\.encoder\.', r'memory_attention.'),
    (r'tracker\.maskmem_backbone\.', r'memory_encoder.'),
    (
        r'(tracker\.sam_mask_decoder\.transformer\.layers\.\d)\.mlp\.lin1\.',
        r'\1.mlp.layers.0.',
    ),
    (
        r'(tracker\.sam_mask_decoder\.transformer\.layers\.\d)\.mlp\.lin2\.',
        r'\1.mlp.layers.1.',
    ),
    (r'tracker\.', r''),
)
SAM3_PT_KEY = 'tracker.maskmem_tpos_enc'
# Recomputed from the size of the image.
SAM3_PT_TABLES = re.compile(r'.*\.freqs_cis(_real|_imag)?')


def tracker_of_sam3(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the tracker out of the weights of a whole SAM 3.

    Args:
        state: Weights by name, of any model.

    Returns:
        The tracker's weights, named as in a file of the tracker alone; ``state`` itself
        if it is no SAM 3.
    """
    names = [key for key in state if isinstance(key, str)]
    if any(map(HUGGINGFACE_KEY.fullmatch, names)):
        return {
            prefix.sub(own_prefix, name, count=1): state[name]
            for name in names
            for prefix, own_prefix in HUGGINGFACE_PREFIXES
            if prefix.match(name)
        }
    if SAM3_PT_KEY in state:
        return _tracker_of_sam3_pt(state)
    return state


def _tracker_of_sam3_pt(state: Mapping[str, Any]) -> dict[str, Any]:
    weights: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            continue
        is_tracker = key.startswith('tracker.') or re.match(f'{_TRUNK}|{_NECK}', key)
        if not is_tracker or SAM3_PT_TABLES.fullmatch(key):
            continue
        name = key
        for pattern, replacement in SAM3_PT_NAMES:
            name = re.sub(f'^{pattern}', replacement, name)
        if '.attention.qkv.' in name:
            for part, rows in zip('qkv', value.chunk(3), strict=True):
                weights[name.replace('.qkv.', f'.{part}_proj.')] = rows.clone()
        elif name.endswith('.position_embeddings'):
            weights[name] = _without_class_token(value)
        else:
            weights[name] = value
    return weights


def _without_class_token(embedding: Tensor) -> Tensor:
    """(1, N | N + 1, C) -> (1, N, C), where N is a square number."""
    num_tokens = embedding.shape[1]
    has_class_token = int(num_tokens**0.5) ** 2 != num_tokens
    return embedding[:, 1:].clone() if has_class_token else embedding
