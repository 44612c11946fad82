"""What a video predictor is built from follows what the release says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config

from bridge_models import small_config
from projects.sam2.apis.building import build_sam2, build_video_model


@pytest.mark.parametrize('applied', [True, False])
def test_postprocessing_fills_holes_and_decides(*, applied: bool) -> None:
    config = Config({'model': small_config()})
    model, options = build_video_model(config, None, apply_postprocessing=applied)
    assert options == ({'fill_hole_area': 8} if applied else {})
    assert model.mask_decoder.stability_selection is applied
    assert model.tracker.binary_clicked_memories is applied
    assert 'stability_selection' not in config.model.mask_decoder


def test_overrides_reach_the_model_and_the_options() -> None:
    overrides = [
        '++model.image_size=64',
        '++model.non_overlap_masks=true',
        '++model.fill_hole_area=2',
        '++model.max_cond_frames_in_attn=4',
    ]
    config = Config({'model': small_config()})
    del config.model['data_preprocessor']
    model, options = build_video_model(config, None, hydra_overrides_extra=overrides)
    assert model.data_preprocessor.image_size == (64, 64)
    assert model.tracker.memory_bank.max_conditioning_frames == 4
    assert options == {'fill_hole_area': 2, 'non_overlap_masks': True}
    with pytest.raises(ValueError, match='fill_hole_area: of a video predictor'):
        build_sam2(config, hydra_overrides_extra=overrides)


def test_override_wins_over_postprocessing() -> None:
    model, _ = build_video_model(
        Config({'model': small_config()}),
        None,
        apply_postprocessing=False,
        hydra_overrides_extra=['++model.binarize_mask_from_pts_for_mem_enc=true'],
    )
    assert model.tracker.binary_clicked_memories
    assert not model.mask_decoder.stability_selection


def test_parts_are_compiled_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def note(call: Callable[..., Any], **how: Any) -> Callable[..., Any]:
        compiled.append(f'{type(call.__self__).__name__} {how}')  # type: ignore[attr-defined]
        return call

    monkeypatch.setattr(torch, 'compile', note)
    config = Config({'model': small_config()})
    build_video_model(config, None)
    assert not compiled
    build_video_model(config, None, vos_optimized=True)
    assert compiled == [
        'SAM2ImageEncoder {}',
        "SAM2MaskDecoder {'dynamic': True}",
        "MemoryAttention {'dynamic': True}",
        "MemoryEncoder {'dynamic': True}",
    ]
