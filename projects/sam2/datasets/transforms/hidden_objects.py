"""Adds objects that the first frame of a clip does not show."""

from dataclasses import replace

from mmengine.registry import TRANSFORMS

from projects.sam2.datasets.object_masks import list_objects
from projects.sam2.datasets.transforms.state import ClipState


@TRANSFORMS.register_module()
class ClipAddHiddenObjects:
    """Adds objects that appear later or not at all, so that absence is learnt.

    Comes after :class:`ClipSampleFrames`. Where only decoding tells which objects a
    frame shows, the masks of the frames that it asks are decoded once more for it.

    Args:
        max_num_objects: Objects of a clip at most.
        later_probability: Share of clips that also get objects which only a later
            frame of the clip shows, as many as there is room for.
        absent_probability: Share of clips that get an object of the video which no
            frame of the clip shows. Where there is no room it takes the place of the
            last object, but never of the only one.

    Raises:
        ValueError: If ``max_num_objects`` is not positive.
    """

    def __init__(
        self,
        *,
        max_num_objects: int,
        later_probability: float = 0.0,
        absent_probability: float = 0.0,
    ) -> None:
        if max_num_objects < 1:
            msg = f'max_num_objects is {max_num_objects}; give a positive number'
            raise ValueError(msg)
        self.max_num_objects = max_num_objects
        self.later_probability = later_probability
        self.absent_probability = absent_probability

    def __call__(self, state: ClipState) -> ClipState:
        """Add objects, or not.

        Args:
            state: A clip with ``frame_indices``, ``object_ids`` and ``first_ids``.

        Returns:
            The clip with more ``object_ids``, which ``hidden_ids`` names.
        """
        wants_later, wants_absent = state.rng.random(2) < (
            self.later_probability,
            self.absent_probability,
        )
        # A clip of which nothing is to be seen has no frame to be prompted on.
        wants_absent = wants_absent and self.max_num_objects > 1
        if not wants_later and not wants_absent:
            return state
        first = {*state.first_ids}
        later = seen_on(state, state.frame_indices[1:]) - first
        ids: tuple[int, ...] = state.object_ids
        hidden: tuple[int, ...] = ()
        if wants_later:
            hidden = self._some(state, later, self.max_num_objects - len(ids))
        if wants_absent:
            absent = self._some(state, self._elsewhere(state) - first - later, 1)
            ids = ids[: self.max_num_objects - len(absent)]
            hidden = (*hidden[: self.max_num_objects - len(absent) - len(ids)], *absent)
        return replace(state, object_ids=(*ids, *hidden), hidden_ids=hidden)

    @staticmethod
    def _some(state: ClipState, ids: set[int], most: int) -> tuple[int, ...]:
        """Draw from objects."""
        order = sorted(ids)
        count = max(0, min(len(order), most))
        picked = state.rng.choice(len(order), size=count, replace=False)
        return tuple(order[index] for index in picked.tolist())

    @staticmethod
    def _elsewhere(state: ClipState) -> set[int]:
        """Objects of one annotated frame that is not in the clip."""
        others = sorted({*state.source.annotated_frames()} - {*state.frame_indices})
        if not others:
            return set()
        return seen_on(state, (others[int(state.rng.integers(len(others)))],))


def seen_on(state: ClipState, frame_indices: tuple[int, ...]) -> set[int]:
    """Objects that any of some frames shows.

    Args:
        state: A clip.
        frame_indices: Positions in its video.

    Returns:
        Their ids.
    """
    return {
        object_id
        for index in frame_indices
        for object_id in list_objects(state.source, index)[0]
    }
