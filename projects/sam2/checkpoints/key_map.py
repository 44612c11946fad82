"""Names of the weights: ours, those of released SAM 2 files, and Hugging Face's.

``KEY_TABLE`` pairs them. A paragraph of the table is a part of the model: its first
line has the part's prefix in each naming, the other lines what follows the prefix. The
columns are ours, released and Hugging Face; ``=`` repeats the name to its left, ``-``
is empty. So this row of the backbone ::

    blocks.#.mlp.<2>.*            blocks.#.mlp.<2>.*    =

pairs, among others ::

    image_encoder.backbone.blocks.7.mlp.layers.1.bias    (ours)
    image_encoder.trunk.blocks.7.mlp.layers.1.bias       (released)
    vision_encoder.backbone.blocks.7.mlp.proj_out.bias   (Hugging Face)

Placeholders are the same in all columns of a row:

=======  ==========================================================================
``#``    a number
``*``    ``weight`` or ``bias``
``@``    a projection of an attention, see ``ALTERNATIVES``
``<2>``  a layer of an MLP of two layers, see ``ALTERNATIVES``
``<3>``  a layer of an MLP of three layers, see ``ALTERNATIVES``
``<b>``  a convolution in a block of RepViT, see ``ALTERNATIVES``
``%``    a tensor of a convolution and its BatchNorm, see ``ALTERNATIVES``
``<a>``  a projection of an attention of the perceiver, see ``ALTERNATIVES``
``<f>``  a layer of a feed-forward network of the perceiver, see ``ALTERNATIVES``
``[#]``  at the end of a name: one row of the tensor of that name
``a|b``  within a name: one half of the tensor under each name
=======  ==========================================================================

For a new part of the model, add a row; it may be the same in all columns.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

Names = tuple[str, ...]  # ours, released, Hugging Face
Value = TypeVar('Value')


class Naming(IntEnum):
    """A naming of the weights; its value is the column of the table."""

    OURS = 0
    RELEASED = 1
    HUGGINGFACE = 2


OWNERS = ('this project', 'released SAM 2 files', 'the SAM 2 of transformers')

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
    '<b>': (
        ('token_mixer.conv3x3', 'token_mixer.conv', 'token_mixer.conv'),
        ('token_mixer.conv1x1', 'token_mixer.conv1', 'token_mixer.conv1'),
        ('channel_mixer.expand', 'channel_mixer.conv1', 'channel_mixer.conv1'),
        ('channel_mixer.reduce', 'channel_mixer.conv2', 'channel_mixer.conv2'),
    ),
    '<a>': (
        ('query', 'to_q', 'q_proj'),
        ('key_value', 'to_kv', 'k_proj|v_proj'),
        ('output', 'to_out', 'o_proj'),
    ),
    '<f>': (
        ('0', '0', 'layer_norm'),
        ('1', '1', 'up_proj'),
        ('3', '3', 'down_proj'),
    ),
    '%': (
        ('conv.weight', 'c.weight', 'c.weight'),
        *(
            (f'norm.{name}', f'bn.{name}', f'bn.{name}')
            for name in (
                'weight',
                'bias',
                'running_mean',
                'running_var',
                'num_batches_tracked',
            )
        ),
    ),
}

_TABLE = """
image_encoder.backbone.  image_encoder.trunk.  vision_encoder.backbone.
position_embedding            pos_embed             =
window_position_embedding     pos_embed_window      =
patch_embedding.projection.*  patch_embed.proj.*    patch_embed.projection.*
blocks.#.norm#.*              blocks.#.norm#.*      blocks.#.layer_norm#.*
blocks.#.attention.qkv.*      blocks.#.attn.qkv.*   =
blocks.#.attention.output.*   blocks.#.attn.proj.*  =
blocks.#.mlp.<2>.*            blocks.#.mlp.<2>.*    =
blocks.#.shortcut.*           blocks.#.proj.*       =
tiled_position_embedding  embeddings.position_embeddings                 =
patch_embedding.weight    embeddings.patch_embeddings.projection.weight  =
norm.*                    layer_norm.*                                   =
layers.#.norm#.*          layers.#.layer_norm#.*                         =
layers.#.attention.@.*    layers.#.attention.@.*                         =
layers.#.mlp.layers.0.*   layers.#.mlp.fc1.*                             =
layers.#.mlp.layers.1.*   layers.#.mlp.fc2.*                             =

image_encoder.backbone.  image_encoder.trunk.body.  vision_encoder.backbone.timm_model.
stem.0.%                         stem.conv1.%                            =
stem.2.%                         stem.conv2.%                            =
stages.#.blocks.#.<b>.%          stages_#.blocks.#.<b>.%                 =
stages.#.blocks.#.gate.reduce.*  stages_#.blocks.#.se.fc1.*              =
stages.#.blocks.#.gate.expand.*  stages_#.blocks.#.se.fc2.*              =
stages.#.downsample.block.<b>.%  stages_#.downsample.pre_block.<b>.%     =
stages.#.downsample.depthwise.%  stages_#.downsample.spatial_downsample.%  =
stages.#.downsample.pointwise.%  stages_#.downsample.channel_downsample.%  =
stages.#.downsample.channel_mixer.expand.%  stages_#.downsample.ffn.conv1.%  =
stages.#.downsample.channel_mixer.reduce.%  stages_#.downsample.ffn.conv2.%  =

image_encoder.neck.  image_encoder.neck.  vision_encoder.neck.
lateral_convs.#.*  convs.#.conv.*  convs.#.*
projection.weight  convs.0.conv_1x1.weight  =
projection_norm.*  convs.0.norm_0.*         =
conv.weight        convs.0.conv_3x3.weight  =
conv_norm.*        convs.0.norm_1.*         =
unused_level.projection.*  fpn_layers.3.proj1.*            =
unused_level.output.*      fpn_layers.3.proj2.*            =
levels.#.upscaling.#.*     fpn_layers.#.scale_layers.#.*   =
levels.#.projection.*      fpn_layers.#.proj1.*            =
levels.#.output.*          fpn_layers.#.proj2.*            =

tracker.memory_attention.  memory_attention.  =
layers.#.self_attention.@.*   layers.#.self_attn.@.*         =
layers.#.cross_attention.@.*  layers.#.cross_attn_image.@.*  =
layers.#.mlp.layers.0.*       layers.#.linear1.*             =
layers.#.mlp.layers.1.*       layers.#.linear2.*             =
layers.#.norm#.*              layers.#.norm#.*               layers.#.layer_norm#.*
norm.*                        norm.*                         layer_norm.*

tracker.memory_encoder.mask_downsampler.  memory_encoder.mask_downsampler.  =
layers.0.*   encoder.0.*   layers.0.conv.*
layers.1.*   encoder.1.*   layers.0.layer_norm.*
layers.3.*   encoder.3.*   layers.1.conv.*
layers.4.*   encoder.4.*   layers.1.layer_norm.*
layers.6.*   encoder.6.*   layers.2.conv.*
layers.7.*   encoder.7.*   layers.2.layer_norm.*
layers.9.*   encoder.9.*   layers.3.conv.*
layers.10.*  encoder.10.*  layers.3.layer_norm.*
layers.12.*  encoder.12.*  final_conv.*

tracker.memory_encoder.  memory_encoder.  =
pixel_projection.*   pix_feat_proj.*           feature_projection.*
fuser.#.scale        fuser.layers.#.gamma      memory_fuser.layers.#.scale
fuser.#.depthwise.*  fuser.layers.#.dwconv.*   memory_fuser.layers.#.depthwise_conv.*
fuser.#.norm.*       fuser.layers.#.norm.*     memory_fuser.layers.#.layer_norm.*
fuser.#.expand.*     fuser.layers.#.pwconv1.*  memory_fuser.layers.#.pointwise_conv1.*
fuser.#.reduce.*     fuser.layers.#.pwconv2.*  memory_fuser.layers.#.pointwise_conv2.*
output.*             out_proj.*                projection.*

tracker.perceiver.  spatial_perceiver.  =
global_latents          latents                       latents_1d
grid_latents            latents_2d                    =
norm.*                  norm.*                        layer_norm.*
layers.#.latent_norm.*  layers.#.attn.norm_latents.*  layers.#.layer_norm_latents.*
layers.#.cell_norm.*    layers.#.attn.norm_x.*        layers.#.layer_norm_input.*
layers.#.self_norm.*    layers.#.self_attn.norm.*     layers.#.layer_norm_self.*
layers.#.cross_attention.<a>.*  layers.#.attn.<a>.*       layers.#.cross_attention.<a>.*
layers.#.self_attention.<a>.*   layers.#.self_attn.<a>.*  layers.#.self_attention.<a>.*
layers.#.cross_mlp.<f>.*        layers.#.ff.<f>.*         layers.#.mlp.<f>.*
layers.#.self_mlp.<f>.*         layers.#.self_ff.<f>.*    layers.#.self_mlp.<f>.*

tracker.  -  =
temporal_embedding        maskmem_tpos_enc      memory_temporal_positional_encoding
no_memory_embedding       no_mem_embed          no_memory_embedding
no_memory_position        no_mem_pos_enc        no_memory_positional_encoding
no_object_embedding       no_obj_embed_spatial  occlusion_spatial_embedding_parameter
mask_prompt_downsample.*  mask_downsample.*     =

tracker.object_pointer.  -  =
no_object_pointer  no_obj_ptr           no_object_pointer
projection.<3>.*   obj_ptr_proj.<3>.*   object_pointer_proj.<3>.*
time_projection.*  obj_ptr_tpos_proj.*  temporal_positional_encoding_projection_layer.*

prompt_encoder.  sam_prompt_encoder.  prompt_encoder.
point_embeddings.#.weight       point_embeddings.#.weight  point_embed.weight[#]
padding_point_embedding.weight  not_a_point_embed.weight   =
no_mask_embedding.weight        no_mask_embed.weight       =
mask_downscaling.0.*            mask_downscaling.0.*       mask_embed.conv1.*
mask_downscaling.1.*            mask_downscaling.1.*       mask_embed.layer_norm1.*
mask_downscaling.3.*            mask_downscaling.3.*       mask_embed.conv2.*
mask_downscaling.4.*            mask_downscaling.4.*       mask_embed.layer_norm2.*
mask_downscaling.6.*            mask_downscaling.6.*       mask_embed.conv3.*

prompt_encoder.position_encoding.  sam_prompt_encoder.pe_layer.  shared_image_embedding.
gaussian_matrix  positional_encoding_gaussian_matrix  positional_embedding

mask_decoder.transformer.  sam_mask_decoder.transformer.  mask_decoder.transformer.
layers.#.self_attention.@.*                  layers.#.self_attn.@.*                  =
layers.#.cross_attention_token_to_image.@.*  layers.#.cross_attn_token_to_image.@.*  =
layers.#.cross_attention_image_to_token.@.*  layers.#.cross_attn_image_to_token.@.*  =
final_attention_token_to_image.@.*           final_attn_token_to_image.@.*           =
layers.#.mlp.<2>.*                           layers.#.mlp.<2>.*                      =
layers.#.norm#.*  layers.#.norm#.*   layers.#.layer_norm#.*
final_norm.*      norm_final_attn.*  layer_norm_final_attn.*

mask_decoder.  sam_mask_decoder.  mask_decoder.
iou_token.weight           iou_token.weight                   =
mask_tokens.weight         mask_tokens.weight                 =
object_score_token.weight  obj_score_token.weight             =
upscaling.0.*              output_upscaling.0.*               upscale_conv1.*
upscaling.1.*              output_upscaling.1.*               upscale_layer_norm.*
upscaling.3.*              output_upscaling.3.*               upscale_conv2.*
high_res_projections.0.*   conv_s0.*                          =
high_res_projections.1.*   conv_s1.*                          =
hypernetworks.#.<3>.*      output_hypernetworks_mlps.#.<3>.*  =
iou_head.<3>.*             iou_prediction_head.<3>.*          =
object_score_head.<3>.*    pred_obj_score_head.<3>.*          =
"""


def _parse_line(line: str) -> Names:
    ours, released, huggingface = line.split()
    released = ours if released == '=' else released
    huggingface = released if huggingface == '=' else huggingface
    return tuple('' if n == '-' else n for n in (ours, released, huggingface))


# Prefixes of a part, and its rows.
KEY_TABLE: tuple[tuple[Names, tuple[Names, ...]], ...] = tuple(
    (prefixes, tuple(rows))
    for prefixes, *rows in (
        map(_parse_line, part.splitlines()) for part in _TABLE.strip().split('\n\n')
    )
)

# Weights of EdgeTAM that transformers names otherwise than those of SAM 2.
EDGETAM_ROWS: tuple[Names, ...] = tuple(
    map(
        _parse_line,
        (
            f'tracker.memory_attention.layers.#.mlp.layers.{index}.* '
            f'memory_attention.layers.#.linear{index + 1}.* '
            f'memory_attention.layers.#.mlp.{name}.*'
            for index, name in enumerate(('up_proj', 'down_proj'))
        ),
    )
)
EDGETAM_PREFIX = 'tracker.perceiver.'  # of weights that EdgeTAM alone has

# Hugging Face names of one weight: the second is a copy of the first. transformers 4
# leaves it out of its files and restores it; transformers 5 needs it in the file.
COPIES = (
    (
        'shared_image_embedding.positional_embedding',
        'prompt_encoder.shared_embedding.positional_embedding',
    ),
)


class UnknownKeyError(KeyError):
    """A name of a weight that no row of the table matches."""

    def __str__(self) -> str:
        """Return the message itself; KeyError would print it in quotes."""
        return str(self.args[0])


def to_released(our_key: str) -> str:
    """Translate a key of our state dict; raise UnknownKeyError if no row matches."""
    return _translate(our_key, Naming.OURS, Naming.RELEASED)


def from_released(released_key: str) -> str:
    """Translate to a key of ours; raise UnknownKeyError if no row matches."""
    return _translate(released_key, Naming.RELEASED, Naming.OURS)


def to_huggingface(our_key: str) -> str:
    """Translate a key of our state dict; raise UnknownKeyError if no row matches.

    Returns:
        Key of transformers' SAM 2; ``name[2]`` for row 2 of the tensor ``name``, and
        ``a|b`` for halves of a tensor. See :func:`map_to_huggingface` for EdgeTAM.
    """
    return _translate(our_key, Naming.OURS, Naming.HUGGINGFACE)


def from_huggingface(huggingface_key: str) -> str:
    """Translate to a key of ours; raise UnknownKeyError if no row matches.

    Args:
        huggingface_key: As :func:`to_huggingface` returns it.
    """
    return _translate(huggingface_key, Naming.HUGGINGFACE, Naming.OURS)


def map_to_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a state dict of ours."""
    return {to_released(key): value for key, value in state.items()}


def map_from_released(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename all weights of a released state dict."""
    return {from_released(key): value for key, value in state.items()}


def map_to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename all weights of a state dict of ours, and stack rows of one tensor."""
    is_edgetam = any(key.startswith(EDGETAM_PREFIX) for key in state)
    own_rules = _rules(Naming.OURS, Naming.HUGGINGFACE, EDGETAM_ROWS * is_edgetam)
    renamed = {
        _match(key, own_rules) or to_huggingface(key): value
        for key, value in state.items()
    }
    stacks: dict[str, dict[int, Tensor]] = {}
    for key in tuple(renamed):
        if '|' in key:
            both = renamed.pop(key).chunk(2)
            renamed |= zip(_names_of_halves(key), both, strict=True)
            continue
        match = re.fullmatch(r'(.+)\[(\d+)\]', key)
        if match:
            stacks.setdefault(match[1], {})[int(match[2])] = renamed.pop(key)
    for key, rows in stacks.items():
        renamed[key] = torch.cat([rows[index] for index in sorted(rows)])
    renamed |= {
        copy: renamed[original].clone()
        for original, copy in COPIES
        if original in renamed
    }
    return renamed


def map_from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename all weights of a transformers model, and split stacked tensors.

    Raises:
        ValueError: If a copy differs from its original.
    """
    remaining = dict(state)
    for original, copy in COPIES:
        value = remaining.pop(copy, None)
        if value is None:
            continue
        kept = remaining.setdefault(original, value)
        if kept.is_meta or torch.equal(kept, value):
            continue
        msg = (
            f'{copy} should be a copy of {original}, but has other values; write the '
            f'file again'
        )
        raise ValueError(msg)
    halves: dict[str, dict[int, Tensor]] = {}
    for key in tuple(remaining):
        for index, rules in enumerate(_rules_of_halves()):
            joined = _match(key, rules)
            if joined is not None:
                halves.setdefault(joined, {})[index] = remaining.pop(key)
    for key, parts in halves.items():
        if len(parts) < 2:
            missing = _names_of_halves(key)[1 - min(parts)]
            msg = f'{missing} is missing beside the other half; write the file again'
            raise ValueError(msg)
        remaining[key] = torch.cat([parts[0], parts[1]])
    ours: dict[str, Tensor] = {}
    for key, value in remaining.items():
        if key in _stacked_keys():
            for index, row in enumerate(value.split(1)):
                ours[from_huggingface(f'{key}[{index}]')] = row.clone()
        else:
            ours[from_huggingface(key)] = value
    return ours


def _names_of_halves(key: str) -> tuple[str, str]:
    """Names of the halves of a tensor: ``x.a|b.y`` -> ``x.a.y`` and ``x.b.y``."""
    first, second = key.split('|')
    stem, end = first.rpartition('.')[0], second.partition('.')[2]
    return f'{first}.{end}', f'{stem}.{second}'


Rules = tuple[tuple[re.Pattern[str], str], ...]


def _translate(key: str, source: Naming, target: Naming) -> str:
    translated = _match(key, _rules(source, target))
    if translated is not None:
        return translated
    msg = (
        f'{key!r} is no known name of a weight of {OWNERS[source]}; if the model has a '
        f'part of its own, add a row to projects/sam2/checkpoints/key_map.py'
    )
    raise UnknownKeyError(msg)


def _match(key: str, rules: Rules) -> str | None:
    for pattern, replacement in rules:
        match = pattern.fullmatch(key)
        if match:
            return match.expand(replacement)
    return None


@cache
def _rules(
    source: Naming, target: Naming, rows: tuple[Names, ...] | None = None
) -> Rules:
    """Read rows in one direction: patterns and what replaces their matches.

    Args:
        rows: With prefixes and alternatives written out; None for the whole table.
    """
    if rows is None:
        rows = tuple(_full_rows())
        if source is Naming.HUGGINGFACE:
            rows += EDGETAM_ROWS
    return _make_rules((names[source], names[target]) for names in rows)


@cache
def _rules_of_halves() -> tuple[Rules, Rules]:
    """From the name of each half to the name with both."""
    joined = [row[Naming.HUGGINGFACE] for row in _full_rows()]
    pairs = [(name, _names_of_halves(name)) for name in joined if '|' in name]
    first, second = (
        _make_rules((halves[index], name) for name, halves in pairs)
        for index in range(2)
    )
    return first, second


def _make_rules(names: Iterable[tuple[str, str]]) -> Rules:
    """Make rules of pairs of names with placeholders."""
    rules = []
    for source, target in names:
        pattern = re.escape(source)
        pattern = pattern.replace(r'\#', r'(\d+)').replace(r'\*', '(weight|bias)')
        first, *others = re.split('[#*]', target)
        groups = (rf'\g<{number}>{text}' for number, text in enumerate(others, 1))
        replacement = first + ''.join(groups)
        rules.append((re.compile(pattern), replacement))
    return tuple(rules)


@cache
def _stacked_keys() -> frozenset[str]:
    """Names of transformers' tensors that hold several weights of ours."""
    names = (row[Naming.HUGGINGFACE] for row in _full_rows())
    return frozenset(name.removesuffix('[#]') for name in names if '[#]' in name)


def _full_rows() -> Iterator[Names]:
    """Rows with prefixes and alternatives written out."""
    for prefixes, rows in KEY_TABLE:
        for row in rows:
            yield from _written_out(tuple(map(str.__add__, prefixes, row)))


def _written_out(names: Names) -> Iterator[Names]:
    mark = next((mark for mark in ALTERNATIVES if mark in names[0]), None)
    if mark is None:
        yield names
        return
    for words in ALTERNATIVES[mark]:
        replaced = zip(names, words, strict=True)
        yield from _written_out(tuple(name.replace(mark, w) for name, w in replaced))
