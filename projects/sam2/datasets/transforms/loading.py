"""Decodes the chosen frames and masklets of a clip."""

from dataclasses import replace

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS

from ...structures import ClipSample
from ..annotated_video import pick_objects, read_objects
from ..io.errors import ClipDataError, ClipDrawError
from .base import ClipState


@TRANSFORMS.register_module()
class ClipLoadFrames:
    """Decodes the chosen frames."""

    def __call__(self, state: ClipState) -> ClipState:
        """Decode.

        Args:
            state: A clip with its ``frame_indices``.

        Returns:
            The clip with ``frames`` and their ``size``.

        Raises:
            ClipDataError: If a frame is damaged, or their sizes differ.
        """
        # In the order of time: a film is sought once and then read on.
        indices = sorted(set(state.frame_indices))
        decoded = {index: state.source.read_frame(index) for index in indices}
        frames = tuple(decoded[index] for index in state.frame_indices)
        height, width = frames[0].shape[:2]
        for index, frame in zip(state.frame_indices, frames, strict=True):
            if frame.shape[:2] != (height, width):
                where = f'{state.source.name}/{state.source.frame_name(index)}'
                problem = f'frame of {frame.shape[:2]} in a clip of {(height, width)}'
                remedy = 'resize the frames of a clip to one size'
                raise ClipDataError.at(where, problem, remedy)
        size = (height, width)
        return replace(state, frames=frames, original_size=size, size=size)


@TRANSFORMS.register_module()
class ClipLoadMasklets:
    """Decodes the masks of the chosen objects on the chosen frames."""

    def __call__(self, state: ClipState) -> ClipState:
        """Decode.

        Args:
            state: A clip with ``frame_indices``, ``object_ids`` and ``frames``.

        Returns:
            The clip with ``masklets``; an object that a frame does not show has an
            empty mask there.

        Raises:
            ClipDataError: If a mask is damaged or of another size than its frame.
        """
        ids, first = state.object_ids, state.first_masks
        later = state.frame_indices[1:]
        picked = (
            first and pick_objects(first, ids),
            *(read_objects(state.source, index, ids) for index in later),
        )
        for index, frame_masks in zip(state.frame_indices, picked, strict=True):
            if frame_masks is not None and frame_masks.masks.shape[1:] != state.size:
                where = f'{state.source.name}/{state.source.frame_name(index)}'
                found = frame_masks.masks.shape[1:]
                problem = f'mask of {found} beside a frame of {state.size}'
                remedy = 'write the mask at the size of its frame'
                raise ClipDataError.at(where, problem, remedy)
        return replace(state, masklets=picked)


@TRANSFORMS.register_module()
class ClipPack:
    """Makes a ``ClipSample`` of tensors; comes last."""

    def __call__(self, state: ClipState) -> ClipSample:
        """Pack.

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
