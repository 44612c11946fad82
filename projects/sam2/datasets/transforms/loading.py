"""Decodes the chosen frames and masklets of a clip."""

from dataclasses import replace

from mmengine.registry import TRANSFORMS

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.object_masks import pick_objects, read_objects
from projects.sam2.datasets.transforms.state import ClipState


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
