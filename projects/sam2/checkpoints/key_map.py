"""The table of names of weights: ours, those of released files, and Hugging Face's.

Each part of the model has the three prefixes of its names, and rows of what follows
them, always in the order of :class:`Naming`. All sides of a row hold the same
placeholders:

=======  ==================================================
``#``    a number
``*``    ``weight`` or ``bias``
``@``    a projection of an attention
``<2>``  a layer of an MLP of two layers
``<3>``  a layer of an MLP of three layers
``[#]``  at the end: one row of the tensor that stands before it
=======  ==================================================

``ALTERNATIVES`` says what the middle three stand for. To give the model a part of its
own, add a row: its name of ours may stand in all three places.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import count
from typing import Any, TypeVar

import torch
from torch import Tensor

Names = tuple[str, str, str]
Part = tuple[Names, tuple[Names, ...]]


class Naming(IntEnum):
    """Whose names; the place in a row of the table."""

    OURS = 0
    RELEASED = 1
    HUGGINGFACE = 2


ALTERNATIVES: dict[str, tuple[Names, ...]] = {
    '@': (
        ('query', 'q_proj', 'q_proj'),
        ('key', 'k_proj', 'k_proj'),
        ('value', 'v_proj', 'v_proj'),
        ('output', 'out_proj', 'o_proj'),
    ),
    '<2>': (
        ('layers.0', 'layers.0', 'proj_in'),
        ('layers.1', 'layers.1', 'proj_out'),
    ),
    '<3>': (
        ('layers.0', 'layers.0', 'proj_in'),
        ('layers.1', 'layers.1', 'layers.0'),
        ('layers.2', 'layers.2', 'proj_out'),
    ),
}
# Projections of an attention: our name and the released one.
PROJECTIONS = tuple((ours, released) for ours, released, _ in ALTERNATIVES['@'])

# Hugging Face names of one weight: the second is a copy of the first, and most files
# leave it out.
COPIES = (
    (
        'shared_image_embedding.positional_embedding',
        'prompt_encoder.shared_embedding.positional_embedding',
    ),
)

_BACKBONE: Part = (
    ('image_encoder.backbone.', 'image_encoder.trunk.', 'vision_encoder.backbone.'),
    (
        ('position_embedding', 'pos_embed', 'pos_embed'),
        ('window_position_embedding', 'pos_embed_window', 'pos_embed_window'),
        (
            'patch_embedding.projection.*',
            'patch_embed.proj.*',
            'patch_embed.projection.*',
        ),
        ('blocks.#.norm#.*', 'blocks.#.norm#.*', 'blocks.#.layer_norm#.*'),
        ('blocks.#.attention.qkv.*', 'blocks.#.attn.qkv.*', 'blocks.#.attn.qkv.*'),
        ('blocks.#.attention.output.*', 'blocks.#.attn.proj.*', 'blocks.#.attn.proj.*'),
        ('blocks.#.mlp.<2>.*', 'blocks.#.mlp.<2>.*', 'blocks.#.mlp.<2>.*'),
        ('blocks.#.shortcut.*', 'blocks.#.proj.*', 'blocks.#.proj.*'),
    ),
)

_NECK: Part = (
    ('image_encoder.neck.', 'image_encoder.neck.', 'vision_encoder.neck.'),
    (('lateral_convs.#.*', 'convs.#.conv.*', 'convs.#.*'),),
)

_MEMORY_ATTENTION: Part = (
    ('tracker.memory_attention.', 'memory_attention.', 'memory_attention.'),
    (
        (
            'layers.#.self_attention.@.*',
            'layers.#.self_attn.@.*',
            'layers.#.self_attn.@.*',
        ),
        (
            'layers.#.cross_attention.@.*',
            'layers.#.cross_attn_image.@.*',
            'layers.#.cross_attn_image.@.*',
        ),
        ('layers.#.mlp.layers.0.*', 'layers.#.linear1.*', 'layers.#.linear1.*'),
        ('layers.#.mlp.layers.1.*', 'layers.#.linear2.*', 'layers.#.linear2.*'),
        ('layers.#.norm#.*', 'layers.#.norm#.*', 'layers.#.layer_norm#.*'),
        ('norm.*', 'norm.*', 'layer_norm.*'),
    ),
)

# Reads masks: four times a convolution, a norm and an activation, then a convolution.
_MASK_DOWNSAMPLER: Part = (
    (
        'tracker.memory_encoder.mask_downsampler.layers.',
        'memory_encoder.mask_downsampler.encoder.',
        'memory_encoder.mask_downsampler.',
    ),
    (
        ('0.*', '0.*', 'layers.0.conv.*'),
        ('1.*', '1.*', 'layers.0.layer_norm.*'),
        ('3.*', '3.*', 'layers.1.conv.*'),
        ('4.*', '4.*', 'layers.1.layer_norm.*'),
        ('6.*', '6.*', 'layers.2.conv.*'),
        ('7.*', '7.*', 'layers.2.layer_norm.*'),
        ('9.*', '9.*', 'layers.3.conv.*'),
        ('10.*', '10.*', 'layers.3.layer_norm.*'),
        ('12.*', '12.*', 'final_conv.*'),
    ),
)

_MEMORY_ENCODER: Part = (
    ('tracker.memory_encoder.', 'memory_encoder.', 'memory_encoder.'),
    (
        ('pixel_projection.*', 'pix_feat_proj.*', 'feature_projection.*'),
        ('fuser.#.scale', 'fuser.layers.#.gamma', 'memory_fuser.layers.#.scale'),
        (
            'fuser.#.depthwise.*',
            'fuser.layers.#.dwconv.*',
            'memory_fuser.layers.#.depthwise_conv.*',
        ),
        (
            'fuser.#.norm.*',
            'fuser.layers.#.norm.*',
            'memory_fuser.layers.#.layer_norm.*',
        ),
        (
            'fuser.#.expand.*',
            'fuser.layers.#.pwconv1.*',
            'memory_fuser.layers.#.pointwise_conv1.*',
        ),
        (
            'fuser.#.reduce.*',
            'fuser.layers.#.pwconv2.*',
            'memory_fuser.layers.#.pointwise_conv2.*',
        ),
        ('output.*', 'out_proj.*', 'projection.*'),
    ),
)

_TRACKER: Part = (
    ('tracker.', '', ''),
    (
        (
            'temporal_embedding',
            'maskmem_tpos_enc',
            'memory_temporal_positional_encoding',
        ),
        ('no_memory_embedding', 'no_mem_embed', 'no_memory_embedding'),
        ('no_memory_position', 'no_mem_pos_enc', 'no_memory_positional_encoding'),
        (
            'no_object_embedding',
            'no_obj_embed_spatial',
            'occlusion_spatial_embedding_parameter',
        ),
        ('mask_prompt_downsample.*', 'mask_downsample.*', 'mask_downsample.*'),
        ('object_pointer.no_object_pointer', 'no_obj_ptr', 'no_object_pointer'),
        (
            'object_pointer.projection.<3>.*',
            'obj_ptr_proj.<3>.*',
            'object_pointer_proj.<3>.*',
        ),
        (
            'object_pointer.time_projection.*',
            'obj_ptr_tpos_proj.*',
            'temporal_positional_encoding_projection_layer.*',
        ),
    ),
)

_PROMPT_ENCODER: Part = (
    ('prompt_encoder.', 'sam_prompt_encoder.', 'prompt_encoder.'),
    (
        (
            'point_embeddings.#.weight',
            'point_embeddings.#.weight',
            'point_embed.weight[#]',
        ),
        (
            'padding_point_embedding.weight',
            'not_a_point_embed.weight',
            'not_a_point_embed.weight',
        ),
        ('no_mask_embedding.weight', 'no_mask_embed.weight', 'no_mask_embed.weight'),
        ('mask_downscaling.0.*', 'mask_downscaling.0.*', 'mask_embed.conv1.*'),
        ('mask_downscaling.1.*', 'mask_downscaling.1.*', 'mask_embed.layer_norm1.*'),
        ('mask_downscaling.3.*', 'mask_downscaling.3.*', 'mask_embed.conv2.*'),
        ('mask_downscaling.4.*', 'mask_downscaling.4.*', 'mask_embed.layer_norm2.*'),
        ('mask_downscaling.6.*', 'mask_downscaling.6.*', 'mask_embed.conv3.*'),
    ),
)

_POINT_POSITION: Part = (
    ('prompt_encoder.position_encoding.', 'sam_prompt_encoder.pe_layer.', ''),
    (('gaussian_matrix', 'positional_encoding_gaussian_matrix', COPIES[0][0]),),
)

_TWO_WAY_TRANSFORMER: Part = (
    (
        'mask_decoder.transformer.',
        'sam_mask_decoder.transformer.',
        'mask_decoder.transformer.',
    ),
    (
        (
            'layers.#.self_attention.@.*',
            'layers.#.self_attn.@.*',
            'layers.#.self_attn.@.*',
        ),
        (
            'layers.#.cross_attention_token_to_image.@.*',
            'layers.#.cross_attn_token_to_image.@.*',
            'layers.#.cross_attn_token_to_image.@.*',
        ),
        (
            'layers.#.cross_attention_image_to_token.@.*',
            'layers.#.cross_attn_image_to_token.@.*',
            'layers.#.cross_attn_image_to_token.@.*',
        ),
        ('layers.#.norm#.*', 'layers.#.norm#.*', 'layers.#.layer_norm#.*'),
        ('layers.#.mlp.<2>.*', 'layers.#.mlp.<2>.*', 'layers.#.mlp.<2>.*'),
        (
            'final_attention_token_to_image.@.*',
            'final_attn_token_to_image.@.*',
            'final_attn_token_to_image.@.*',
        ),
        ('final_norm.*', 'norm_final_attn.*', 'layer_norm_final_attn.*'),
    ),
)

_MASK_DECODER: Part = (
    ('mask_decoder.', 'sam_mask_decoder.', 'mask_decoder.'),
    (
        ('iou_token.weight', 'iou_token.weight', 'iou_token.weight'),
        ('mask_tokens.weight', 'mask_tokens.weight', 'mask_tokens.weight'),
        (
            'object_score_token.weight',
            'obj_score_token.weight',
            'obj_score_token.weight',
        ),
        ('upscaling.0.*', 'output_upscaling.0.*', 'upscale_conv1.*'),
        ('upscaling.1.*', 'output_upscaling.1.*', 'upscale_layer_norm.*'),
        ('upscaling.3.*', 'output_upscaling.3.*', 'upscale_conv2.*'),
        ('high_res_projections.0.*', 'conv_s0.*', 'conv_s0.*'),
        ('high_res_projections.1.*', 'conv_s1.*', 'conv_s1.*'),
        (
            'hypernetworks.#.<3>.*',
            'output_hypernetworks_mlps.#.<3>.*',
            'output_hypernetworks_mlps.#.<3>.*',
        ),
        ('iou_head.<3>.*', 'iou_prediction_head.<3>.*', 'iou_prediction_head.<3>.*'),
        (
            'object_score_head.<3>.*',
            'pred_obj_score_head.<3>.*',
            'pred_obj_score_head.<3>.*',
        ),
    ),
)

KEY_TABLE: tuple[Part, ...] = (
    _BACKBONE,
    _NECK,
    _MEMORY_ATTENTION,
    _MASK_DOWNSAMPLER,
    _MEMORY_ENCODER,
    _TRACKER,
    _PROMPT_ENCODER,
    _POINT_POSITION,
    _TWO_WAY_TRANSFORMER,
    _MASK_DECODER,
)


Value = TypeVar('Value')

OWNERS = {
    Naming.OURS: 'this project',
    Naming.RELEASED: 'released SAM 2 files',
    Naming.HUGGINGFACE: 'the SAM 2 of transformers',
}
STACK_ROW = re.compile(r'(?P<stack>.+)\[(?P<row>\d+)\]')


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
        """Compile a row."""
        literal = re.escape(source)
        pattern = literal.replace(r'\#', r'(\d+)').replace(r'\*', '(weight|bias)')
        groups = count(1)
        replacement = re.sub(r'[#*]', lambda _: rf'\g<{next(groups)}>', target)
        return cls(re.compile(pattern), replacement)

    def apply(self, key: str) -> str | None:
        """The other name of ``key``, or None where the row does not fit."""
        match = self.pattern.fullmatch(key)
        return match.expand(self.replacement) if match else None


def to_released(our_key: str) -> str:
    """Translate a name of ours.

    Args:
        our_key: Key of our model's state dict.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(our_key, Naming.OURS, Naming.RELEASED)


def from_released(released_key: str) -> str:
    """Translate a released name.

    Returns:
        Key of our model's state dict.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(released_key, Naming.RELEASED, Naming.OURS)


def to_huggingface(our_key: str) -> str:
    """Translate a name of ours.

    Args:
        our_key: Key of our model's state dict.

    Returns:
        Key of a transformers model; ``name[2]`` for row 2 of the tensor ``name``.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(our_key, Naming.OURS, Naming.HUGGINGFACE)


def from_huggingface(huggingface_key: str) -> str:
    """Translate a name of Hugging Face's transformers.

    Args:
        huggingface_key: Key of a transformers model; ``name[2]`` for row 2 of the
            tensor ``name``.

    Returns:
        Key of our model's state dict.

    Raises:
        UnknownKeyError: If no row of the table fits.
    """
    return _translate(huggingface_key, Naming.HUGGINGFACE, Naming.OURS)


def map_to_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a state dict of ours."""
    return {to_released(key): value for key, value in state.items()}


def map_from_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a released state dict."""
    return {from_released(key): value for key, value in state.items()}


def map_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename our weights and stack those that belong together."""
    renamed = {to_huggingface(key): value for key, value in state.items()}
    rows: dict[str, dict[int, Tensor]] = {}
    for key in tuple(renamed):
        match = STACK_ROW.fullmatch(key)
        if match:
            stack = rows.setdefault(match['stack'], {})
            stack[int(match['row'])] = renamed.pop(key)
    stacks = {
        key: torch.cat([stack[row] for row in sorted(stack)])
        for key, stack in rows.items()
    }
    return renamed | stacks


def map_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a transformers model and take stacks apart.

    Raises:
        ValueError: If a copy differs from what it should be a copy of.
    """
    single: dict[str, Tensor] = {}
    for key, value in _without_copies(state).items():
        rows = value.split(1) if key in _stacks() else ()
        single |= {f'{key}[{row}]': part.clone() for row, part in enumerate(rows)}
        if not rows:
            single[key] = value
    return {from_huggingface(key): value for key, value in single.items()}


def _without_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each weight once."""
    kept = dict(state)
    for original, copy in COPIES:
        if copy not in kept:
            continue
        value = kept.pop(copy)
        if not torch.equal(kept.setdefault(original, value), value):
            msg = (
                f'{copy} should be a copy of {original}, but holds other numbers; '
                f'write the file again'
            )
            raise ValueError(msg)
    return kept


def _rows() -> Iterable[tuple[str, ...]]:
    """The table with prefixes and alternatives written out."""
    for prefixes, rows in KEY_TABLE:
        for row in rows:
            names = tuple(
                prefix + name for prefix, name in zip(prefixes, row, strict=True)
            )
            sign = next((sign for sign in ALTERNATIVES if sign in names[0]), None)
            if sign is None:
                yield names
                continue
            for words in ALTERNATIVES[sign]:
                yield tuple(
                    name.replace(sign, word)
                    for name, word in zip(names, words, strict=True)
                )


@cache
def _rules(source: Naming, target: Naming) -> tuple[_Rule, ...]:
    """The table, read in one direction."""
    return tuple(_Rule.of(names[source], names[target]) for names in _rows())


@cache
def _stacks() -> frozenset[str]:
    """Names of transformers' tensors that hold several weights of ours."""
    names = (row[Naming.HUGGINGFACE] for row in _rows())
    return frozenset(name.removesuffix('[#]') for name in names if '[#]' in name)


def _translate(key: str, source: Naming, target: Naming) -> str:
    """The first name that a rule gives."""
    for rule in _rules(source, target):
        other = rule.apply(key)
        if other is not None:
            return other
    msg = (
        f'{key!r} is no known name of a weight of {OWNERS[source]}; if the model has a '
        f'part of its own, add a row to projects/sam2/checkpoints/key_map.py'
    )
    raise UnknownKeyError(msg)


# A weight that every version and size has.
MODEL_SIGN = 'prompt_encoder.position_encoding.gaussian_matrix'
SIGNS = (
    (Naming.RELEASED, to_released(MODEL_SIGN)),
    # The first SAM has the other sign as well, under the same name.
    (Naming.HUGGINGFACE, to_huggingface('image_encoder.backbone.position_embedding')),
    (Naming.OURS, MODEL_SIGN),
)
# Entries under which training scripts save weights, the trained ones before averages.
WEIGHT_FIELDS = (
    'state_dict',
    'model',
    'model_state_dict',
    'checkpoint',
    'module',
    'net',
    'network',
    'weights',
    'params',
    'ema',
    'model_ema',
    'state_dict_ema',
    'ema_state_dict',
    'teacher',
)
MAX_NESTING = 3
# Parts of names that DDP, torch.compile, FSDP and DeepSpeed add, anywhere in a name.
WRAPPER_PARTS = frozenset(
    {
        'module',
        '_orig_mod',
        '_fsdp_wrapped_module',
        '_checkpoint_wrapped_module',
        '_forward_module',
    }
)
# What torch's AveragedModel and MMEngine's count beside the weights.
COUNTERS = frozenset({'n_averaged', 'steps'})
FIRST_SAM_SIGN = 'prompt_encoder.pe_layer.positional_encoding_gaussian_matrix'
MAX_TRIED_KEYS = 100


def plain_key(key: str) -> str:
    """Remove from a weight's name the parts that model wrappers add.

    Args:
        key: Such as ``'module._orig_mod.image_encoder.neck.convs.0.conv.bias'``.
    """
    return '.'.join(part for part in key.split('.') if part not in WRAPPER_PARTS)


def find_weights(
    checkpoint: Mapping[str, Any], *, within_models: bool = False
) -> tuple[str, dict[str, Tensor]] | None:
    """Find the weights of a SAM 2 in a checkpoint.

    Args:
        within_models: Also find a SAM 2 that is part of a larger model, or of a
            training script's class (``'model.…'``); the weights of other parts are
            left out. Leave it off where the weights are loaded into that larger model,
            whose names must stay.

    Returns:
        The entry that held them (``''`` where the file holds nothing else) and the
        weights by our names; None where there is no SAM 2.

    Raises:
        UnknownKeyError: If there is a SAM 2 with a weight that no SAM 2 has.
        ValueError: If there are several, or a copy differs from its original; or if
            two weights have one name once the wrappers' parts are taken out.
    """
    for field, state in _states(checkpoint):
        keys = [key for key in state if isinstance(key, str)]
        plain = {key: plain_key(key) for key in keys}
        for naming, sign in SIGNS:
            prefixes = sorted(
                {
                    key.removesuffix(sign)
                    for key in plain.values()
                    if key == sign or (within_models and key.endswith(f'.{sign}'))
                }
            )
            if len(prefixes) > 1:
                msg = (
                    f'it holds several models, under {prefixes}; save one of them, by '
                    f'the names that it has itself'
                )
                raise ValueError(msg)
            if prefixes:
                kept = {
                    key: name.removeprefix(prefixes[0])
                    for key, name in plain.items()
                    if name.startswith(prefixes[0]) and name not in COUNTERS
                    if field or isinstance(state[key], Tensor)
                }
                _refuse_doubles(kept)
                renamed = {name: state[key] for key, name in kept.items()}
                return field, _by_our_names(renamed, naming)
    return None


def _refuse_doubles(names: Mapping[str, str]) -> None:
    """Refuse a state in which two weights would have one name."""
    if len(set(names.values())) < len(names):
        first = {name: key for key, name in reversed(list(names.items()))}
        key = next(key for key, name in names.items() if first[name] != key)
        msg = (
            f'it holds {names[key]} several times, as {first[names[key]]} and {key}; '
            f'save one model alone'
        )
        raise ValueError(msg)


def _by_our_names(state: dict[str, Tensor], naming: Naming) -> dict[str, Tensor]:
    """Rename weights of another naming."""
    if naming is Naming.RELEASED:
        return map_from_released(state)
    return map_from_huggingface(state) if naming is Naming.HUGGINGFACE else state


def _states(
    checkpoint: Mapping[str, Any], field: str = '', depth: int = 0
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A dict and the dicts in it that may hold weights, with the entries' names."""
    yield field, checkpoint
    for name in WEIGHT_FIELDS:
        inner = checkpoint.get(name)
        if isinstance(inner, Mapping) and depth < MAX_NESTING:
            yield from _states(inner, f'{field}.{name}'.lstrip('.'), depth + 1)


def describe_keys(keys: Iterable[object]) -> str:
    """Describe weights that are no whole SAM 2.

    Returns:
        A few words, such as ``'the first SAM'``.
    """
    names = [plain_key(key) for key in keys if isinstance(key, str)]
    if FIRST_SAM_SIGN in names:
        return 'the first SAM'
    if {'param_groups', 'state'} <= set(names) or set(names) == {'optimizer'}:
        return 'the state of an optimizer and no weights'
    parts = [part for part in map(_part_of, names[:MAX_TRIED_KEYS]) if part]
    if parts and 2 * len(parts) >= len(names[:MAX_TRIED_KEYS]):
        return f'a part of SAM 2 alone ({", ".join(sorted(set(parts)))})'
    return 'no SAM 2'


def _part_of(key: str) -> str | None:
    """First word of a weight's name if a SAM 2 has such a weight."""
    for translate in (from_released, from_huggingface, to_released):
        try:
            translate(key)
        except UnknownKeyError:
            continue
        return key.partition('.')[0]
    return None
