"""The state of a video under the keys that scripts look up in the released one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from projects.sam2.models.data_preprocessor import ClipDataPreprocessor
from projects.sam2.models.layers import sine_encoding_2d

if TYPE_CHECKING:
    from projects.sam2.apis.frame_readers import FrameReader
    from projects.sam2.apis.memory_archive import AnsweredMemory
    from projects.sam2.apis.video_state import TrackedObject

__all__ = ['ReleasedImages', 'ReleasedState']

Key = TypeVar('Key')
READ_ONLY = (
    'The state cannot be written to ({}); prompt and track through the predictor, '
    'which keeps no more than it needs on the device, and give frames that come one at '
    'a time to SAM2Stream'
)
WRITES = {'clear', 'pop', 'popitem', 'setdefault', 'update'}  # of a dict


class ReleasedImages:
    """Frames as the model sees them, prepared when they are looked at.

    Args:
        frames: Reads the frames.
        preprocessor: Prepares them.
    """

    def __init__(
        self, frames: 'FrameReader', preprocessor: ClipDataPreprocessor
    ) -> None:
        self._frames, self._preprocessor = frames, preprocessor

    @property
    def shape(self) -> torch.Size:
        """(T, 3, H, W)."""
        return torch.Size([len(self), 3, *self._preprocessor.image_size])

    def __len__(self) -> int:
        """Frames of the video."""
        return self._frames.num_frames

    def __getitem__(self, index: int | slice) -> Tensor:
        """A frame, (3, H, W); or some of them, (T, 3, H, W)."""
        if isinstance(index, slice):
            return torch.stack([self[i] for i in range(*index.indices(len(self)))])
        if not -len(self) <= index < len(self):
            msg = f'Frame {index} is not in 0 to {len(self) - 1}'
            raise IndexError(msg)
        return self._preprocessor.frame(self._frames.read(index % len(self)))[0]


class ReadOnly(Mapping[Key, Any]):
    """A mapping that refuses to be changed: it is a view, and changes would be lost."""

    __slots__ = ()

    def __setitem__(self, key: object, value: object) -> None:
        """Refuse to write, and say what to do."""
        del value
        raise TypeError(READ_ONLY.format(repr(key)))

    def __delitem__(self, key: object) -> None:
        """Refuse to delete, and say what to do."""
        raise TypeError(READ_ONLY.format(repr(key)))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Say what to do in place of the calls that change a dict."""
            if name in WRITES:
                raise AttributeError(READ_ONLY.format(f'.{name}'))
            msg = f'{type(self).__name__!r} object has no attribute {name!r}'
            raise AttributeError(msg)


class Entries(ReadOnly[Any]):
    """What a state has under one of its keys.

    Args:
        entries: Mappings among the values are made read-only as well.
    """

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self._entries = {key: _read_only(value) for key, value in entries.items()}

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the keys."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._entries)

    def __getitem__(self, key: object) -> Any:  # noqa: ANN401  of many types
        """Look up an entry."""
        return self._entries[key]

    def __repr__(self) -> str:
        """Show it as a dict."""
        return repr(self._entries)


def _read_only(value: Any) -> Any:  # noqa: ANN401  of many types
    """A dict as a read-only mapping; all else as it is."""
    return Entries(value) if isinstance(value, dict) else value


class FrameOutputs(ReadOnly[int]):
    """Outputs of an object by frame, read when they are looked up.

    Args:
        frames: Frames that have an output.
        read: Returns the memory of a frame.
    """

    def __init__(
        self,
        frames: Sequence[int],
        read: 'Callable[[int], AnsweredMemory | None]',
    ) -> None:
        self._frames, self._read = dict.fromkeys(frames), read

    def __iter__(self) -> Iterator[int]:
        """Iterate over the frames."""
        return iter(self._frames)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, frame_index: int) -> dict[str, Any]:
        """Mask, object score, pointer and memory of a frame."""
        memory = self._read(frame_index) if frame_index in self._frames else None
        if memory is None:
            raise KeyError(frame_index)
        spatial = memory.spatial
        size = (spatial.shape[2], spatial.shape[3])
        position = sine_encoding_2d(
            channels=spatial.shape[1], size=size, device=spatial.device
        )
        return {
            'maskmem_features': spatial,
            'maskmem_pos_enc': [position],
            'pred_masks': memory.mask_logits,
            'obj_ptr': memory.object_pointer,
            'object_score_logits': memory.object_score_logits,
        }


class ReleasedState(ReadOnly[str]):
    """Read access by the released keys: ``state['num_frames']``, ``state.get(…)``.

    Writing is refused, since it would have no effect.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        frames: FrameReader
        preprocessor: ClipDataPreprocessor
        objects: dict[int, TrackedObject]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  of many types
        """Look up what the released state has under a key."""
        if name not in _ENTRIES:
            msg = f'{name!r}; the keys are {", ".join(_ENTRIES)}'
            raise KeyError(msg)
        entry = _ENTRIES[name](self)
        return Entries(entry) if name.endswith('_per_obj') else entry

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return iter(_ENTRIES)

    def __len__(self) -> int:
        """Count the keys."""
        return len(_ENTRIES)


def _rows(state: ReleasedState) -> dict[int, 'TrackedObject']:
    """Objects by their row in the masks of a result."""
    return dict(enumerate(state.objects.values()))


def _points(obj: 'TrackedObject') -> dict[int, dict[str, Tensor]]:
    """Points of an object by frame, in pixels of the image that the model sees."""
    return {
        frame: {
            'point_coords': prompt.points.coords,
            'point_labels': prompt.points.labels,
        }
        for frame, prompt in obj.prompts.items()
        if prompt.points is not None
    }


def _masks(obj: 'TrackedObject') -> dict[int, Tensor]:
    """Mask prompts of an object by frame."""
    return {
        frame: prompt.mask
        for frame, prompt in obj.prompts.items()
        if prompt.mask is not None
    }


def _outputs(obj: 'TrackedObject') -> dict[str, FrameOutputs]:
    """Memories of an object."""
    store = obj.store
    archive = store.archive
    conditioning = store.conditioning
    tracked = sorted(
        {*store.tracked}
        | {f for f in obj.tracked_in_reverse if archive is not None and f in archive}
    )
    unprompted = [frame for frame in tracked if frame not in conditioning]
    return {
        'cond_frame_outputs': FrameOutputs(list(conditioning), conditioning.get),  # type: ignore[arg-type]  # all with answers
        'non_cond_frame_outputs': FrameOutputs(unprompted, store.tracked_memory),  # type: ignore[arg-type]
    }


def _pending(obj: 'TrackedObject') -> dict[str, dict[int, dict[str, Any]]]:
    """Answers that are not encoded into memories yet."""
    outputs: dict[str, dict[int, dict[str, Any]]] = {
        'cond_frame_outputs': {},
        'non_cond_frame_outputs': {},
    }
    for frame, answer in obj.pending.items():
        kind = 'cond_frame_outputs' if answer.conditioning else 'non_cond_frame_outputs'
        outputs[kind][frame] = {
            'pred_masks': answer.step.mask_logits,
            'obj_ptr': answer.step.object_pointer,
            'object_score_logits': answer.step.object_score_logits,
        }
    return outputs


_ENTRIES: dict[str, Callable[[ReleasedState], Any]] = {
    'images': lambda state: ReleasedImages(state.frames, state.preprocessor),
    'num_frames': lambda state: state.frames.num_frames,
    'video_height': lambda state: state.frames.size[0],
    'video_width': lambda state: state.frames.size[1],
    'device': lambda state: state.preprocessor.mean.device,
    'storage_device': lambda state: state.preprocessor.mean.device,
    'obj_ids': lambda state: list(state.objects),
    'obj_id_to_idx': lambda state: {key: i for i, key in enumerate(state.objects)},
    'obj_idx_to_id': lambda state: dict(enumerate(state.objects)),
    'point_inputs_per_obj': lambda state: {
        row: _points(obj) for row, obj in _rows(state).items()
    },
    'mask_inputs_per_obj': lambda state: {
        row: _masks(obj) for row, obj in _rows(state).items()
    },
    'output_dict_per_obj': lambda state: {
        row: _outputs(obj) for row, obj in _rows(state).items()
    },
    'temp_output_dict_per_obj': lambda state: {
        row: _pending(obj) for row, obj in _rows(state).items()
    },
    'frames_tracked_per_obj': lambda state: {
        row: {frame: {'reverse': r} for frame, r in obj.tracked_in_reverse.items()}
        for row, obj in _rows(state).items()
    },
    'tracking_has_started': lambda state: any(
        obj.tracked_in_reverse for obj in state.objects.values()
    ),
}
