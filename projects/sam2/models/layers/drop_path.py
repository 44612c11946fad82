"""Stochastic depth."""

from torch import Tensor, nn

__all__ = ['DropPath']


class DropPath(nn.Module):
    """Drops a residual branch for whole samples in training.

    What is kept is scaled up, so that the expectation stays (Huang et al., 2016).

    Args:
        rate: Share of samples that lose the branch, in [0, 1).

    Raises:
        ValueError: If the rate is outside [0, 1).
    """

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            msg = f'Expected a drop path rate in [0, 1), but got {rate}'
            raise ValueError(msg)
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Zero the branch of some samples.

        Args:
            branch: (B, ...).

        Returns:
            (B, ...).
        """
        if not self.training or self.rate == 0:
            return branch
        kept = 1 - self.rate
        shape = (branch.shape[0], *[1] * (branch.dim() - 1))
        return branch * branch.new_empty(shape).bernoulli_(kept).div_(kept)
