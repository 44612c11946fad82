"""What the video predictor makes of the prompts that were given in the demo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from demo_process import small_predictor

Mask = NDArray[np.bool_]


class PredictorTruth:
    """A predictor that is given the same prompts in the same order.

    Args:
        video: The file that is annotated.
    """

    def __init__(self, video: Path) -> None:
        self._predictor = small_predictor()
        self._state = self._predictor.init_state(str(video))

    def prompt(self, obj: Mapping[str, Any], frame_index: int) -> dict[int, Mask]:
        """Give the prompts that an object of the page has on a frame.

        Returns:
            Masks of all objects on the frame, by id.
        """
        prompt = obj['prompts'][str(frame_index)]
        words: dict[str, Any] = {}
        if prompt['points']:
            points = np.array(prompt['points'], np.float32)
            words.update(points=points[:, :2], labels=points[:, 2].astype(np.int32))
        if prompt['box']:
            words['box'] = np.array(prompt['box'], np.float32)
        shown = self._predictor.add_new_points_or_box(
            self._state, frame_idx=frame_index, obj_id=int(obj['id']), **words
        )
        return masks_of(shown.object_ids, shown.mask_logits)

    def draw(self, object_id: int, frame_index: int, mask: Mask) -> dict[int, Mask]:
        """Give a mask as the prompt; return the masks of all objects on the frame."""
        shown = self._predictor.add_new_mask(self._state, frame_index, object_id, mask)
        return masks_of(shown.object_ids, shown.mask_logits)

    def propagate(self, *, stop: int | None = None) -> dict[int, dict[int, Mask]]:
        """Track from the first frame to one; return the masks by frame and id."""
        tracked = self._predictor.propagate_in_video(
            self._state, start_frame_idx=0, max_frame_num_to_track=stop
        )
        return {
            result.frame_index: masks_of(result.object_ids, result.mask_logits)
            for result in tracked
        }


def masks_of(object_ids: list[int], logits: torch.Tensor) -> dict[int, Mask]:
    """Masks by object; objects without a pixel are left out."""
    masks = (logits[:, 0] > 0).numpy()
    return dict(zip(object_ids, masks, strict=True))


def assert_same_masks(shown: Mapping[int, Mask], true: Mapping[int, Mask]) -> None:
    """Check that the page shows exactly these masks.

    Raises:
        AssertionError: If an object is missing, or a pixel differs.
    """
    assert shown.keys() == true.keys()
    differing = {
        object_id: int((shown[object_id] != mask).sum())
        for object_id, mask in true.items()
    }
    assert not any(differing.values()), f'differing pixels: {differing}'
