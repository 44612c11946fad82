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

from enum import IntEnum

__all__ = [
    'ALTERNATIVES',
    'COPIES',
    'KEY_TABLE',
    'PROJECTIONS',
    'Names',
    'Naming',
    'Part',
]

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
