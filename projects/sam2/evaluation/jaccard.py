"""Region similarity J, the Jaccard index of two masks (Perazzi et al., 2016)."""

import numpy as np
from numpy.typing import NDArray


def check_sizes(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.bool_] | None
) -> None:
    """Check that masks are two-dimensional and of one size.

    Args:
        pred: Predicted mask.
        truth: Ground truth.
        void: Pixels to ignore, or None.

    Raises:
        ValueError: If they are not.
    """
    shapes = [mask.shape for mask in (pred, truth, void) if mask is not None]
    if truth.ndim != 2 or len(set(shapes)) != 1:
        msg = (
            f'Expected masks (height, width) of one size, but got {shapes}; resize '
            'the prediction to the size of the ground truth'
        )
        raise ValueError(msg)


def region_similarity(
    pred: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    void: NDArray[np.bool_] | None = None,
) -> float:
    """Intersection over union of two masks.

    Args:
        pred: (height, width), bool.
        truth: (height, width), bool.
        void: (height, width), bool, pixels to ignore; None for none.

    Returns:
        In [0, 1]; 1 where both masks are empty.

    Raises:
        ValueError: If the masks differ in size.
    """
    check_sizes(pred, truth, void)
    both = pred & truth
    either = pred | truth
    if void is not None:
        both &= ~void
        either &= ~void
    union = np.count_nonzero(either)
    if union == 0:
        return 1.0
    return float(np.count_nonzero(both) / union)
