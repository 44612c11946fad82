"""Turns a clip into the record that the loader hands on."""

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS

from projects.sam2.datasets.errors import ClipDrawError
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.structures import ClipSample


@TRANSFORMS.register_module()
class ClipPack:
    """Makes a ``ClipSample`` of tensors; comes last."""

    def __call__(self, state: ClipState) -> ClipSample:
        """Pack.

        Args:
            state: A clip whose first frame is annotated. Objects that its first frame
                lost when it shrank are left out; those hidden on purpose stay.

        Returns:
            The sample.

        Raises:
            ClipDrawError: If no object is left.
        """
        first = state.masklets[0]
        shown = [] if first is None else [bool(mask.any()) for mask in first.masks]
        hidden = [object_id in state.hidden_ids for object_id in state.object_ids]
        kept = [
            i for i, pair in enumerate(zip(shown, hidden, strict=False)) if any(pair)
        ]
        if not kept:
            problem = f'no object is left on the first frame at {state.size}'
            remedy = 'use larger frames, or put the clip on the exclude list'
            raise ClipDrawError.at(state.source.name, problem, remedy)
        num_frames = len(state.frames)
        frames = np.empty((num_frames, 3, *state.size), np.uint8)
        masklets = np.zeros((num_frames, len(kept), *state.size), bool)
        void = np.zeros((num_frames, *state.size), bool)
        for time, (frame, masks) in enumerate(
            zip(state.frames, state.masklets, strict=True)
        ):
            cv2.split(frame, [*frames[time]])  # (H, W, 3) -> (3, H, W)
            if masks is None:
                continue
            for position, index in enumerate(kept):
                masklets[time, position] = masks.masks[index]
            if masks.void is not None:
                void[time] = masks.void
        annotated = [masks is not None for masks in state.masklets]
        return ClipSample(
            metainfo={
                'video_name': state.source.name,
                'frame_indices': state.frame_indices,
                'sample_index': state.sample_index,
                'seed': state.seed,
                'original_size': state.original_size,
                'is_multi_scale': state.is_multi_scale,
            },
            frames=torch.from_numpy(frames),
            masklets=torch.from_numpy(masklets),
            void=torch.from_numpy(void),
            annotated=torch.tensor(annotated),
            object_ids=torch.tensor([state.object_ids[i] for i in kept]),
        )
