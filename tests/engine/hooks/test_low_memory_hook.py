"""Computing twice is switched on where it is asked for."""

import pytest
from mmengine.registry import HOOKS

from golden_models import golden_model
from projects.sam2.engine.hooks import SAM2LowMemoryHook


def test_named_parts_compute_twice_and_no_others() -> None:
    model = golden_model('v17')
    SAM2LowMemoryHook(parts=['mask_decoder'], frames_at_once=2).apply(model)
    assert model.mask_decoder.with_cp
    assert not model.tracker.memory_attention.with_cp
    assert not model.image_encoder.backbone.with_cp
    assert model.image_encoder.frames_at_once == 2


def test_a_part_that_is_not_there_is_named_with_those_that_are() -> None:
    hook = HOOKS.build({'type': 'SAM2LowMemoryHook', 'parts': ['decoder']})
    with pytest.raises(ValueError, match=r"'decoder' .*'image_encoder.backbone'"):
        hook.apply(golden_model('v17'))
