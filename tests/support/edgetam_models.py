"""EdgeTAM at the sizes of the golden data, with the weights that it was made with."""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS

from golden_cases import GoldenCase
from golden_models import fill_variant
from projects.sam2 import models  # noqa: F401  registers the parts
from projects.sam2.apis import load_model_config
from projects.sam2.models import SAM2


def edgetam_config(sizes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Config of EdgeTAM.

    Args:
        sizes: ``tiny`` of a golden case; None for the released size.
    """
    model: dict[str, Any] = copy.deepcopy(load_model_config('edgetam').model.to_dict())
    model.update(loss=None, accumulators=[])
    if sizes is None:
        return model
    dims, memory_dims = sizes['d_model'], sizes['mem_dim']
    tokens = {
        'num_global': sizes['num_latents'],
        'grid_size': round(sizes['num_latents_2d'] ** 0.5),
    }
    both = {'embed_dims': dims, 'memory_dims': memory_dims}
    tracker = model['tracker']
    model['data_preprocessor']['image_size'] = (sizes['image_size'],) * 2
    model['image_encoder']['neck']['out_channels'] = dims
    tracker['memory_attention'].update(
        both,
        feedforward_dims=sizes['memattn_ff'],
        num_layers=sizes['memattn_layers'],
        dropout=0.0,
    )
    tracker['memory_attention']['cross_attention'].update(tokens)
    tracker['memory_encoder'].update(both)
    tracker['object_pointer'].update(both)
    tracker['memory_bank'].update(num_frames=sizes['num_maskmem'])
    tracker['perceiver'].update(
        tokens, memory_dims=memory_dims, feedforward_dims=4 * memory_dims
    )
    model['prompt_encoder'].update(embed_dims=dims)
    model['mask_decoder'].update(embed_dims=dims)
    return model


def edgetam_model(case: GoldenCase) -> SAM2:
    """The EdgeTAM of a golden case."""
    model: SAM2 = MODELS.build(edgetam_config(case.spec.get('tiny')))
    fill_variant(model, case.spec['salt'])
    return model
