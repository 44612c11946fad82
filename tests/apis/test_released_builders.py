"""The released functions give predictors that work."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config

from bridge_models import (
    assert_same_weights,
    config_file,
    small_config,
    small_model,
    write_small,
)
from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    build_sam2_hf,
    build_sam2_video_predictor,
    build_sam2_video_predictor_hf,
    image_predictor,
    released_builders,
    video_predictor,
)
from projects.sam2.apis import automatic_mask_generator as automatic_masks
from projects.sam2.checkpoints import CheckpointKind

TAKERS = (released_builders, automatic_masks, image_predictor, video_predictor)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A released file of the small model."""
    write_small(tmp_path / 'small.pt', CheckpointKind.RELEASED.value, small_model())
    return tmp_path / 'small.pt'


def test_video_predictor_comes_with_weights_size_and_holes_filled(
    tmp_path: Path, checkpoint: Path
) -> None:
    config = config_file(tmp_path, small_config())
    predictor = build_sam2_video_predictor(config, checkpoint, image_size=(64, 96))
    weights = dict(predictor.model.state_dict())
    assert_same_weights(weights, dict(small_model().state_dict()))
    assert predictor.model.data_preprocessor.image_size == (64, 96)
    assert predictor.session.options.fill_hole_area == 8
    assert predictor.device == torch.device(
        'cuda:0' if torch.cuda.is_available() else 'cpu'
    )


def test_arguments_may_be_given_by_position() -> None:
    config = Config({'model': small_config()})
    overrides = ['++model.non_overlap_masks=true']
    arguments = (config, None, 'cpu', 'train', overrides, False)
    predictor = build_sam2_video_predictor(*arguments)  # type: ignore[arg-type]  # in order
    assert predictor.model.mask_decoder.training
    assert predictor.session.options.non_overlap_masks
    assert predictor.session.options.fill_hole_area == 0


@pytest.mark.parametrize(
    ('maker', 'options'),
    [
        (build_sam2_hf, {}),
        (build_sam2_video_predictor_hf, {'vos_optimized': False}),
        (SAM2VideoPredictor.from_pretrained, {'apply_postprocessing': False}),
        (SAM2ImagePredictor.from_pretrained, {'max_hole_area': 5.0}),
        (SAM2AutomaticMaskGenerator.from_pretrained, {'points_per_side': 2}),
    ],
)
def test_each_maker_takes_a_name_of_the_hub(
    maker: Any,
    options: dict[str, Any],
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = (Config({'model': small_config()}), str(checkpoint))
    for module in TAKERS:
        monkeypatch.setattr(module, 'find_pretrained', {'some/one': found}.__getitem__)
    made = maker('some/one', device='cpu', **options)
    model = made if maker is build_sam2_hf else made.model
    assert_same_weights(dict(model.state_dict()), dict(small_model().state_dict()))
    for name, value in options.items():
        if maker == SAM2ImagePredictor.from_pretrained:
            assert made.repair.max_hole_area == value
        if maker == SAM2AutomaticMaskGenerator.from_pretrained:
            assert getattr(made, name) == value
    with pytest.raises(TypeError, match=r'unexpected keyword|There is no option'):
        maker('some/one', unknown=np.nan)
