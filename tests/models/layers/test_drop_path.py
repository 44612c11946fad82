"""Stochastic depth."""

import pytest
import torch

from projects.sam2.models.layers import DropPath


@pytest.mark.parametrize(('rate', 'training'), [(0.0, True), (0.6, False)])
def test_branch_passes_untouched_without_rate_or_in_evaluation(
    *, rate: float, training: bool
) -> None:
    branch = torch.randn(4, 3)
    assert DropPath(rate=rate).train(training)(branch) is branch


def test_whole_samples_are_dropped_and_the_rest_is_scaled_up() -> None:
    torch.manual_seed(0)
    dropped = DropPath(rate=0.75)(torch.ones(4000, 2, 3))
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample, per_sample[:, :1].expand_as(per_sample))
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize('rate', [-0.1, 1.0])
def test_rate_outside_the_unit_interval_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=str(rate)):
        DropPath(rate=rate)
