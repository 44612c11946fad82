"""A correction click from what the model shows (Ravi et al., 2024, appendix D.2.2)."""

from torch import Tensor

from projects.sam2.models.prompt_simulator import ClickGenerators, SAM2PromptSimulator
from projects.sam2.structures import PointPrompt

__all__ = ['click_on_errors']


def click_on_errors(
    simulator: SAM2PromptSimulator,
    clicks: ClickGenerators,
    truth: Tensor,
    ignored: Tensor | None,
    logits: Tensor,
) -> PointPrompt:
    """Click once on each object where its mask is wrong, never for a void pixel.

    Args:
        simulator: Draws the clicks.
        clicks: Randomness.
        truth: (O, 1, H, W), bool.
        ignored: Void pixels, (O, 1, H, W), bool, or None.
        logits: What the model shows, (O, 1, H, W).

    Returns:
        One point for each object.
    """
    return simulator.correction(truth, logits > 0, clicks, ignored)
