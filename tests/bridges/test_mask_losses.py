"""SAM 2's mask loss in heads of mmdetection and mmsegmentation."""

import math

import pytest
import torch
from mmengine.registry import MODELS

from projects.sam2.bridges.mask_losses import SAM2MaskLoss, SAM2SegLoss


def literal_loss(logits: list[float], truth: list[bool]) -> tuple[float, float]:
    """Focal and Dice loss of a mask, pixel by pixel."""
    focal, overlap, area = 0.0, 0.0, 0.0
    for logit, is_object in zip(logits, truth, strict=True):
        prob = 1 / (1 + math.exp(-logit))
        right = prob if is_object else 1 - prob
        alpha = 0.25 if is_object else 0.75
        focal -= alpha * (1 - right) ** 2 * math.log(right)
        overlap += prob * is_object
        area += prob + is_object
    return focal / len(logits), 1 - (2 * overlap + 1) / (area + 1)


def test_loss_of_a_mask_head_is_that_of_the_labelled_class() -> None:
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn(3, 5, 4, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (3, 4, 4), generator=generator).double()
    label = torch.tensor([4, 0, 2])
    terms = [
        literal_loss(
            pred[i, label[i]].flatten().tolist(), (target[i] > 0).flatten().tolist()
        )
        for i in range(3)
    ]
    expected = sum(20 * focal + dice for focal, dice in terms) / 3
    assert SAM2MaskLoss()(pred, target, label).item() == pytest.approx(expected, 1e-12)
    nothing = torch.zeros(0, 5, 4, 4, requires_grad=True)
    loss = MODELS.build({'type': 'SAM2MaskLoss'})(nothing, target[:0], label[:0])
    assert loss.item() == 0
    assert loss.requires_grad


def test_loss_of_a_decode_head_takes_each_class_as_a_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 2, 4, generator=generator, dtype=torch.float64)
    label = torch.tensor([[[0, 0, 2, 255], [2, 2, 0, 0]], [[1] * 4, [1, 1, 1, 255]]])
    weight = torch.ones(2, 2, 4)
    weight[0, 1, 0] = 0  # a pixel that a sampler leaves out
    total, num_shown = 0.0, 0
    for image in range(2):
        for class_ in range(3):
            kept = [
                (logits[image, class_, y, x].item(), bool(label[image, y, x] == class_))
                for y in range(2)
                for x in range(4)
                if label[image, y, x] != 255 and weight[image, y, x]
            ]
            focal, dice = literal_loss([a for a, _ in kept], [b for _, b in kept])
            is_shown = any(b for _, b in kept)
            total += 2 * focal + 3 * dice * is_shown
            num_shown += is_shown
    loss = SAM2SegLoss(mask_weight=2, dice_weight=3)(logits, label, weight=weight)
    assert num_shown == 3
    assert loss.item() == pytest.approx(total / 3, 1e-12)
    void = torch.full_like(label, 255)
    assert SAM2SegLoss()(logits, void, ignore_index=255).item() == 0
    with pytest.raises(TypeError, match='dice_wieght'):
        SAM2SegLoss(dice_wieght=1)  # type: ignore[call-arg]
