"""Generated clips without files: each is rendered when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.synthetic import ClipPlan, SyntheticClip, make_clip
from projects.sam2.datasets.synthetic.clips import make_plans
from projects.sam2.structures import FrameMasks


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedVideoSource:
    """A generated clip in memory.

    Attributes:
        name: Name of the clip.
        clip: Its frames and labels.
    """

    name: str
    clip: SyntheticClip

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return len(self.clip.frames)

    def frame_name(self, frame_index: int) -> str:
        """Stem under which the frame would be written."""
        return f'{frame_index:05d}'

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """A frame: (height, width, 3), RGB."""
        frame: NDArray[np.uint8] = self.clip.frames[frame_index]
        return frame

    def read_masks(self, frame_index: int) -> FrameMasks:
        """Ground truth of a frame, with the objects that are seen on it."""
        labels = self.clip.labels[frame_index]
        ids = tuple(int(label) for label in np.unique(labels) if label)
        masks = labels == np.array(ids, dtype=labels.dtype).reshape(-1, 1, 1)
        return FrameMasks(object_ids=ids, masks=masks)

    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(self.num_frames))


SIZE = 128  # pixels, the side of the square clips
SEED = 0


@DATASETS.register_module()
class ClipSyntheticDataset(ClipDataset):
    """Clips of moving textured objects, to be mixed with few real ones.

    The same number gives the same clip. Frames have a side of 128 pixels, some are
    wide, some tall.

    Args:
        num_clips: Different clips.
        num_frames: Frames of each; motion is faster in shorter ones.
        pipeline: Transforms, see :class:`ClipDataset`.
    """

    is_generated = True

    def __init__(
        self,
        *,
        num_clips: int,
        num_frames: int = 8,
        pipeline: Sequence[dict[str, Any]] = (),
    ) -> None:
        plans = make_plans(
            split='made',
            num_clips=num_clips,
            num_frames=num_frames,
            size=SIZE,
            seed=SEED,
        )
        self._plans: dict[str, ClipPlan] = {plan.name: plan for plan in plans}
        super().__init__(data_root=None, pipeline=pipeline)

    def list_videos(self) -> list[str]:
        """Names of the clips.

        Returns:
            The names, in the order of their numbers.
        """
        return list(self._plans)

    def open_video(self, name: str) -> RenderedVideoSource:
        """Render a clip.

        Args:
            name: One of :meth:`list_videos`.

        Returns:
            Its frames and masks.
        """
        return RenderedVideoSource(name=name, clip=make_clip(self._plans[name]))
