"""Decode the sampled frames and masklets of a clip, and pack them as tensors."""

from dataclasses import replace

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS

from ...structures import ClipSample
from ..annotated_video import pick_objects, read_objects
from ..clip_dataset import ClipState
from ..io.errors import ClipDataError, ClipDrawError


@TRANSFORMS.register_module()
class ClipLoadFrames:
    """Decodes the frames of ``frame_indices``; sets ``frames`` and ``size``."""

    def __call__(self, state: ClipState) -> ClipState:
        """Decode the frames.

        Raises:
            ClipDataError: If a frame is damaged, or the sizes differ.
        """
        # In ascending order, so that a video file needs one seek and is then read on.
        indices = sorted(set(state.frame_indices))
        decoded = {index: state.source.read_frame(index) for index in indices}
        frames = tuple(decoded[index] for index in state.frame_indices)
        size = (frames[0].shape[0], frames[0].shape[1])
        for index, frame in zip(state.frame_indices, frames, strict=True):
            if frame.shape[:2] != size:
                problem = f'frame of {frame.shape[:2]} in a clip of {size}'
                remedy = 'resize the frames of a clip to one size'
                raise ClipDataError.at(_frame_path(state, index), problem, remedy)
        return replace(state, frames=frames, original_size=size, size=size)


@TRANSFORMS.register_module()
class ClipLoadMasklets:
    """Decodes the masks of ``object_ids`` on ``frame_indices``; sets ``masklets``.

    An object that a frame does not show has an empty mask.
    """

    def __call__(self, state: ClipState) -> ClipState:
        """Decode the masks.

        Raises:
            ClipDataError: If a mask is damaged or of another size than its frame.
        """
        ids, first = state.object_ids, state.first_masks
        masklets = (
            first and pick_objects(first, ids),  # decoded when the clip was sampled
            *(read_objects(state.source, i, ids) for i in state.frame_indices[1:]),
        )
        for index, masks in zip(state.frame_indices, masklets, strict=True):
            if masks is not None and masks.masks.shape[1:] != state.size:
                size = masks.masks.shape[1:]
                problem = f'mask of {size} beside a frame of {state.size}'
                remedy = 'write the mask at the size of its frame'
                raise ClipDataError.at(_frame_path(state, index), problem, remedy)
        return replace(state, masklets=masklets)


def _frame_path(state: ClipState, frame_index: int) -> str:
    return f'{state.source.name}/{state.source.frame_name(frame_index)}'


@TRANSFORMS.register_module()
class ClipPack:
    """Packs the clip into a ``ClipSample`` of tensors; comes last.

    An object that the first frame no longer shows is left out, unless it is hidden on
    purpose.
    """

    def __call__(self, state: ClipState) -> ClipSample:
        """Pack the clip.

        Raises:
            ClipDrawError: If no object is left.
        """
        first = state.masklets[0]
        kept = [
            index
            for index, object_id in enumerate(state.object_ids)
            if object_id in state.hidden_ids
            or (first is not None and first.masks[index].any())
        ]
        if first is None or not kept:
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
