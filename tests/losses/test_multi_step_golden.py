"""The loss of a clip, against released numbers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from golden_cases import GoldenCase, assert_near, discover, golden_weights, unpack_masks
from loss_cases import (
    NAMES,
    make_output,
    make_step,
)
from projects.sam2.losses import SAM2MultiStepLoss
from projects.sam2.structures import ClipTargets, FrameOutput


def _alpha(value: float) -> float | None:
    """The released code says -1 for no weight."""
    return None if value < 0 else value


def _released_config(options: dict[str, Any]) -> dict[str, Any]:
    """A released configuration in our words."""
    weights = options['weight_dict']
    score_focal = {
        'alpha': _alpha(options['focal_alpha_obj_score']),
        'gamma': options['focal_gamma_obj_score'],
    }
    return {
        'mask_weight': weights['loss_mask'],
        'dice_weight': weights['loss_dice'],
        'iou_weight': weights['loss_iou'],
        'class_weight': weights.get('loss_class', 0),
        'mask_focal': {
            'alpha': _alpha(options.get('focal_alpha', 0.25)),
            'gamma': options.get('focal_gamma', 2),
        },
        'class_focal': score_focal if options['pred_obj_scores'] else None,
        'supervise_all_ious': options['supervise_all_iou'],
        'iou_l1': options['iou_use_l1_loss'],
    }


def _released_outputs(
    case: GoldenCase, name: str, changes: dict[str, Any]
) -> list[FrameOutput]:
    """Outputs that a released loss was computed of."""
    side, num_objects = case.spec['S'], case.spec['N']
    salt = case.spec['salt'] + name

    def made(tag: str, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.from_numpy(golden_weights().tensor(tag, shape, salt, scale))

    outputs = []
    for frame in range(case.spec['T']):
        steps = []
        for index, count in enumerate(changes['steps']):
            tag = f'{frame}_{index}'
            shape = (num_objects, count, side, side)
            logits = made(f'lm{tag}', *shape, scale=changes.get('sc', 3))
            if 'fixed' in changes:
                logits = torch.full(shape, changes['fixed'])
            ious = made(f'li{tag}', num_objects, count).sigmoid()
            scores = made(f'ls{tag}', num_objects, 1) * 2
            inputs = [part.requires_grad_() for part in (logits, ious, scores)]
            steps.append(make_step(*inputs))
        outputs.append(make_output(frame, steps))
    return outputs


def _released_gradient_norms(outputs: list[FrameOutput]) -> list[float]:
    """Norms in the order of the golden file; -1 where there is no gradient."""
    kinds = ('candidate_logits', 'candidate_ious', 'object_score_logits')
    found: list[Tensor | None] = [
        getattr(step, kind).grad
        for output in outputs
        for kind in kinds
        for step in output.steps
    ]
    return [-1.0 if part is None else float(part.norm()) for part in found]


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('loss_cases_*'))
def test_losses_and_gradients_equal_the_released_ones(case: GoldenCase) -> None:
    shape = tuple(int(side) for side in case.arrays['masks_shape'])
    all_masks = unpack_masks(case.arrays['masks_bits'], shape)
    for name, changes in case.spec['cases'].items():
        options = {**case.spec['base_kw'], **changes.get('kw', {})}
        options['weight_dict'] = changes.get('wd', options['weight_dict'])
        masks = all_masks.clone()
        masks[:, changes.get('absent', [])] = False
        everywhere = torch.ones(shape[:2], dtype=torch.bool)
        targets = ClipTargets(masks=masks, void=None, annotated=everywhere)
        outputs = _released_outputs(case, name, changes)
        losses = SAM2MultiStepLoss(**_released_config(options))(outputs, targets)
        for key in NAMES:
            weighted = options['weight_dict'].get(key, 0) * changes['loss'][key]
            assert_near(losses[key].item(), weighted, 1e-5, f'{name}: {key}', 1e-4)
        core = torch.stack(list(losses.values())).sum()
        core.backward()
        assert_near(core.item(), changes['loss']['core_loss'], 1e-5, name)
        norms = _released_gradient_norms(outputs)
        for norm, expected in zip(norms, changes['grad_norms'], strict=True):
            assert_near(norm, expected, 1e-5, f'{name}: gradient', floor=1e-4)
