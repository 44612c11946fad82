"""Names of weights: this project's and those of the released SAM 2 files.

One table says it all: for each part of the model our prefix, the released prefix, and
rows that pair what follows them. Both sides of a row hold the same placeholders:

====  ==========================================
``#``  a number
``@``  a projection of an attention, see ``PROJECTIONS``
``*``  ``weight`` or ``bias``
====  ==========================================
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

__all__ = [
    'KEY_TABLE',
    'PROJECTIONS',
    'UnknownKeyError',
    'from_released',
    'map_from_released',
    'map_to_released',
    'to_released',
]

Value = TypeVar('Value')

PROJECTIONS: tuple[tuple[str, str], ...] = (
    ('query', 'q_proj'),
    ('key', 'k_proj'),
    ('value', 'v_proj'),
    ('output', 'out_proj'),
)

KEY_TABLE: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        'image_encoder.backbone.',
        'image_encoder.trunk.',
        (
            ('position_embedding', 'pos_embed'),
            ('window_position_embedding', 'pos_embed_window'),
            ('patch_embedding.projection.*', 'patch_embed.proj.*'),
            ('blocks.#.norm#.*', 'blocks.#.norm#.*'),
            ('blocks.#.attention.qkv.*', 'blocks.#.attn.qkv.*'),
            ('blocks.#.attention.output.*', 'blocks.#.attn.proj.*'),
            ('blocks.#.mlp.layers.#.*', 'blocks.#.mlp.layers.#.*'),
            ('blocks.#.shortcut.*', 'blocks.#.proj.*'),
        ),
    ),
    (
        'image_encoder.neck.',
        'image_encoder.neck.',
        (('lateral_convs.#.*', 'convs.#.conv.*'),),
    ),
    (
        'tracker.memory_attention.',
        'memory_attention.',
        (
            ('layers.#.self_attention.@.*', 'layers.#.self_attn.@.*'),
            ('layers.#.cross_attention.@.*', 'layers.#.cross_attn_image.@.*'),
            ('layers.#.mlp.layers.0.*', 'layers.#.linear1.*'),
            ('layers.#.mlp.layers.1.*', 'layers.#.linear2.*'),
            ('layers.#.norm#.*', 'layers.#.norm#.*'),
            ('norm.*', 'norm.*'),
        ),
    ),
    (
        'tracker.memory_encoder.',
        'memory_encoder.',
        (
            ('mask_downsampler.layers.#.*', 'mask_downsampler.encoder.#.*'),
            ('pixel_projection.*', 'pix_feat_proj.*'),
            ('fuser.#.scale', 'fuser.layers.#.gamma'),
            ('fuser.#.depthwise.*', 'fuser.layers.#.dwconv.*'),
            ('fuser.#.norm.*', 'fuser.layers.#.norm.*'),
            ('fuser.#.expand.*', 'fuser.layers.#.pwconv1.*'),
            ('fuser.#.reduce.*', 'fuser.layers.#.pwconv2.*'),
            ('output.*', 'out_proj.*'),
        ),
    ),
    (
        'tracker.',
        '',
        (
            ('temporal_embedding', 'maskmem_tpos_enc'),
            ('no_memory_embedding', 'no_mem_embed'),
            ('no_memory_position', 'no_mem_pos_enc'),
            ('no_object_embedding', 'no_obj_embed_spatial'),
            ('object_pointer.no_object_pointer', 'no_obj_ptr'),
            ('object_pointer.projection.layers.#.*', 'obj_ptr_proj.layers.#.*'),
            ('object_pointer.time_projection.*', 'obj_ptr_tpos_proj.*'),
            ('mask_prompt_downsample.*', 'mask_downsample.*'),
        ),
    ),
    (
        'prompt_encoder.',
        'sam_prompt_encoder.',
        (
            (
                'position_encoding.gaussian_matrix',
                'pe_layer.positional_encoding_gaussian_matrix',
            ),
            ('point_embeddings.#.weight', 'point_embeddings.#.weight'),
            ('padding_point_embedding.weight', 'not_a_point_embed.weight'),
            ('mask_downscaling.#.*', 'mask_downscaling.#.*'),
            ('no_mask_embedding.weight', 'no_mask_embed.weight'),
        ),
    ),
    (
        'mask_decoder.transformer.',
        'sam_mask_decoder.transformer.',
        (
            ('layers.#.self_attention.@.*', 'layers.#.self_attn.@.*'),
            (
                'layers.#.cross_attention_token_to_image.@.*',
                'layers.#.cross_attn_token_to_image.@.*',
            ),
            (
                'layers.#.cross_attention_image_to_token.@.*',
                'layers.#.cross_attn_image_to_token.@.*',
            ),
            ('layers.#.norm#.*', 'layers.#.norm#.*'),
            ('layers.#.mlp.layers.#.*', 'layers.#.mlp.layers.#.*'),
            ('final_attention_token_to_image.@.*', 'final_attn_token_to_image.@.*'),
            ('final_norm.*', 'norm_final_attn.*'),
        ),
    ),
    (
        'mask_decoder.',
        'sam_mask_decoder.',
        (
            ('iou_token.weight', 'iou_token.weight'),
            ('mask_tokens.weight', 'mask_tokens.weight'),
            ('object_score_token.weight', 'obj_score_token.weight'),
            ('upscaling.#.*', 'output_upscaling.#.*'),
            ('high_res_projections.0.*', 'conv_s0.*'),
            ('high_res_projections.1.*', 'conv_s1.*'),
            ('hypernetworks.#.layers.#.*', 'output_hypernetworks_mlps.#.layers.#.*'),
            ('iou_head.layers.#.*', 'iou_prediction_head.layers.#.*'),
            ('object_score_head.layers.#.*', 'pred_obj_score_head.layers.#.*'),
        ),
    ),
)


class UnknownKeyError(KeyError):
    """A name of a weight that no row of the table fits."""

    def __str__(self) -> str:
        """The message itself; KeyError would print it in quotes."""
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class _Rule:
    """One row of the table, read in one direction."""

    pattern: re.Pattern[str]
    replacement: str

    @classmethod
    def of(cls, source: str, target: str) -> '_Rule':
        """Compile a row.

        Args:
            source: Name to be recognised, with placeholders.
            target: Name to be made of it, with the same placeholders.

        Returns:
            The rule.
        """
        literal = re.escape(source)
        pattern = literal.replace(r'\#', r'(\d+)').replace(r'\*', '(weight|bias)')
        groups = count(1)
        replacement = re.sub(r'[#*]', lambda _: rf'\g<{next(groups)}>', target)
        return cls(re.compile(pattern), replacement)

    def apply(self, key: str) -> str | None:
        """The other name of ``key``, or None where the row does not fit."""
        match = self.pattern.fullmatch(key)
        return match.expand(self.replacement) if match else None


def _rows() -> Iterable[tuple[str, str]]:
    """The table with the prefixes and the projections written out."""
    for our_prefix, released_prefix, rows in KEY_TABLE:
        for our_row, released_row in rows:
            ours, released = our_prefix + our_row, released_prefix + released_row
            if '@' not in ours:
                yield ours, released
                continue
            for our_name, released_name in PROJECTIONS:
                yield ours.replace('@', our_name), released.replace('@', released_name)


_TO_RELEASED = tuple(_Rule.of(ours, released) for ours, released in _rows())
_FROM_RELEASED = tuple(_Rule.of(released, ours) for ours, released in _rows())


def to_released(our_key: str) -> str:
    """Translate a name of ours.

    Args:
        our_key: Key of our model's state dict.

    Returns:
        Key of a released file.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(our_key, _TO_RELEASED, 'of this project')


def from_released(released_key: str) -> str:
    """Translate a released name.

    Args:
        released_key: Key of a released file.

    Returns:
        Key of our model's state dict.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(released_key, _FROM_RELEASED, 'of released SAM 2 files')


def map_to_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a state dict of ours.

    Args:
        state: Weights by our names.

    Returns:
        The same weights by released names.
    """
    return {to_released(key): value for key, value in state.items()}


def map_from_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a released state dict.

    Args:
        state: Weights by released names.

    Returns:
        The same weights by our names.
    """
    return {from_released(key): value for key, value in state.items()}


def _translate(key: str, rules: tuple[_Rule, ...], whose: str) -> str:
    """The first name that a rule gives."""
    for rule in rules:
        other = rule.apply(key)
        if other is not None:
            return other
    msg = (
        f'{key!r} is no known name of a weight {whose}; if the model has a part of '
        f'its own, add a row to KEY_TABLE in projects/sam2/checkpoints/key_map.py'
    )
    raise UnknownKeyError(msg)
