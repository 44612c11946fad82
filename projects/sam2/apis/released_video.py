"""The released video predictor and its state, for scripts that look inside them.

The released predictor is a torch module, and its state is a dict. Ours are a predictor
around a model and a :class:`VideoSession`; this file maps the released names to them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from ..checkpoints import UnknownKeyError, map_to_released
from ..models import SAM2, EdgeTAMTracker
from ..models.data_preprocessor import ClipDataPreprocessor
from ..models.layers import sine_encoding_2d
from ..models.released_names import check_settable, instead_of
from ..models.tracking.memory_store import ObjectMemory, OffloadedMemoryStore
from ..models.tracking.promptable import PromptableModel, PromptableTracker
from ..models.tracking.session import TrackedObject
from ..ops import non_overlapping
from ..structures import FrameMemory
from .building import Device
from .frame_readers import FrameReader


class ReleasedModule:
    """A predictor that can be used like its model.

    ``to``, ``half``, ``eval`` and the like change the model and return the predictor.
    Open videos after the model was moved or its type changed.
    """

    model: SAM2

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.model.training = mode

    def to(
        self, device: Device | torch.dtype, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the model, convert its weights, or both."""
        self.model.to(device)
        if dtype is not None:
            self.model.to(dtype)
        return self

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """Move the model to a GPU, by default the current one."""
        self.model.cuda(device)
        return self

    def cpu(self) -> Self:
        """Move the model to the CPU."""
        self.model.cpu()
        return self

    def float(self) -> Self:
        """Convert the weights to float32."""
        self.model.float()
        return self

    def half(self) -> Self:
        """Convert the weights to float16."""
        self.model.half()
        return self

    def bfloat16(self) -> Self:
        """Convert the weights to bfloat16."""
        self.model.bfloat16()
        return self

    def train(self, mode: bool = True) -> Self:
        """Put the model in training mode, or in evaluation mode."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Put the model in evaluation mode."""
        self.model.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the weights get gradients."""
        self.model.requires_grad_(requires_grad)
        return self

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Weights of the model."""
        return self.model.parameters(recurse)

    def named_parameters(
        self,
        prefix: str = '',
        recurse: bool = True,
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights of the model by our names."""
        return self.model.named_parameters(prefix, recurse)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by the names of the release; by ours where there are adapters.

        Returns:
            All weights; those by our names are ``model.state_dict()``.
        """
        weights = self.model.state_dict()
        try:
            return map_to_released(weights)
        except UnknownKeyError:
            return dict(weights)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
    ) -> Any:
        """Load weights by the names of the release or by ours, as torch does."""
        return self.model.load_state_dict(state_dict, strict=strict, assign=assign)

    def _apply_non_overlapping_constraints(self, pred_masks: Tensor) -> Tensor:
        """Let each pixel belong to at most one object, (O, 1, H, W), logits."""
        return non_overlapping(pred_masks)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Look the attribute up in the model; the error names an alternative."""
            if name.startswith('__') or name == 'model':
                raise AttributeError(name)
            try:
                return getattr(self.model, name)
            except AttributeError as error:
                msg = (
                    f'{type(self).__name__} has no {name!r}, nor has its model; '
                    f'{instead_of(name)}'
                )
                raise AttributeError(msg) from error

    def __setattr__(self, name: str, value: object) -> None:
        """Set attributes of the model on the model, where they take effect."""
        check_settable(name, value)
        model = self.__dict__.get('_model')
        of_model = name in getattr(model, '_modules', {}) or (
            hasattr(type(model), name) and not hasattr(type(self), name)
        )
        if model is not None and name != 'model' and of_model:
            setattr(model, name, value)
        else:
            object.__setattr__(self, name, value)


Key = TypeVar('Key')
READ_ONLY = (
    'The state cannot be written to ({}); prompt and track through the predictor, '
    'which keeps no more than it needs on the device, and give frames that come one at '
    'a time to SAM2Stream'
)
WRITES = {'clear', 'pop', 'popitem', 'setdefault', 'update'}  # of a dict


class ReleasedImages:
    """Frames as the model sees them, preprocessed when they are indexed.

    Args:
        frames: Reads the frames.
        preprocessor: Resizes and normalises them.
    """

    def __init__(self, frames: FrameReader, preprocessor: ClipDataPreprocessor) -> None:
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
    """A read-only mapping: it is a view, so changes would be lost."""

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
            """Say what to do instead of the calls that change a dict."""
            if name in WRITES:
                raise AttributeError(READ_ONLY.format(f'.{name}'))
            msg = f'{type(self).__name__!r} object has no attribute {name!r}'
            raise AttributeError(msg)


class Entries(ReadOnly[Any]):
    """A read-only copy of a dict, the value of a key of the state.

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

    def __getitem__(self, key: object) -> Any:
        """Look up an entry."""
        return self._entries[key]

    def __repr__(self) -> str:
        """Show it as a dict."""
        return repr(self._entries)


def _read_only(value: Any) -> Any:
    """Wrap a dict as a read-only mapping; other values stay as they are."""
    return Entries(value) if isinstance(value, dict) else value


class FrameOutputs(ReadOnly[int]):
    """Outputs of an object by frame, read when they are looked up.

    Args:
        frames: Frames that have an output.
        read: Returns the memory of a frame.
        tracker: That of the model.
    """

    def __init__(
        self,
        frames: Sequence[int],
        read: Callable[[int], FrameMemory | None],
        tracker: PromptableTracker,
    ) -> None:
        self._frames, self._read = dict.fromkeys(frames), read
        self._tracker = tracker

    def __iter__(self) -> Iterator[int]:
        """Iterate over the frames."""
        return iter(self._frames)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, frame_index: int) -> dict[str, Any]:
        """Mask, object score, pointer and memory of a frame."""
        memory = self._read(frame_index) if frame_index in self._frames else None
        if not isinstance(memory, ObjectMemory):
            raise KeyError(frame_index)
        return {
            'maskmem_features': memory.spatial,
            'maskmem_pos_enc': _position(memory.spatial, self._tracker),
            'pred_masks': memory.mask_logits,
            'obj_ptr': memory.object_pointer,
            'object_score_logits': memory.object_score_logits,
        }


def _position(spatial: Tensor, tracker: PromptableTracker) -> list[Tensor] | None:
    """Position encoding of a memory, a map or tokens; None for tokens of an export."""
    if spatial.dim() == 4:
        size = (spatial.shape[2], spatial.shape[3])
        return [
            sine_encoding_2d(
                channels=spatial.shape[1], size=size, device=spatial.device
            )
        ]
    if isinstance(tracker, EdgeTAMTracker):
        return [tracker.perceiver.position(spatial.device)]
    return None


class ReleasedState(ReadOnly[str]):
    """Read access by the released keys: ``state['num_frames']``, ``state.get(…)``.

    Writing is refused, since it would have no effect.
    """

    if TYPE_CHECKING:
        frames: FrameReader
        model: PromptableModel
        objects: dict[int, TrackedObject]

    def __getitem__(self, name: str) -> Any:
        """Look up the value that the released state has under a key."""
        if name not in _ENTRIES:
            msg = f'{name!r}; the keys are {", ".join(_ENTRIES)}'
            raise KeyError(msg)
        entry = _ENTRIES[name](self)
        return Entries(entry) if name.endswith('_per_obj') else entry

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(_ENTRIES)

    def __len__(self) -> int:
        """Count the keys."""
        return len(_ENTRIES)


def _by_row(
    entry: Callable[[TrackedObject], Any],
) -> Callable[[ReleasedState], dict[int, Any]]:
    """An entry for each object, by its row in the masks of a result."""
    return lambda state: dict(enumerate(map(entry, state.objects.values())))


def _points(obj: TrackedObject) -> dict[int, dict[str, Tensor]]:
    """Points of an object by frame, in pixels of the image that the model sees."""
    return {
        frame: {
            'point_coords': prompt.points.coords,
            'point_labels': prompt.points.labels,
        }
        for frame, prompt in obj.prompts.items()
        if prompt.points is not None
    }


def _masks(obj: TrackedObject) -> dict[int, Tensor]:
    """Mask prompts of an object by frame."""
    return {f: p.mask for f, p in obj.prompts.items() if p.mask is not None}


def _outputs(obj: TrackedObject, tracker: PromptableTracker) -> dict[str, FrameOutputs]:
    """Memories of an object, those on disk read when they are looked up."""
    store = obj.store
    offloaded = store.offloaded if isinstance(store, OffloadedMemoryStore) else ()
    conditioning = store.conditioning
    return {
        'cond_frame_outputs': FrameOutputs(
            list(conditioning), conditioning.get, tracker
        ),
        'non_cond_frame_outputs': FrameOutputs(
            sorted({*store.tracked, *offloaded}), store.tracked_memory, tracker
        ),
    }


def _pending(obj: TrackedObject) -> dict[str, dict[int, dict[str, Any]]]:
    """Outputs of prompts that are not encoded as memories yet."""
    outputs: dict[str, dict[int, dict[str, Any]]] = {
        'cond_frame_outputs': {},
        'non_cond_frame_outputs': {},
    }
    for frame, output in obj.pending.items():
        kind = 'cond_frame_outputs' if output.conditioning else 'non_cond_frame_outputs'
        rows = slice(output.row, output.row + 1)
        outputs[kind][frame] = {
            'pred_masks': output.step.mask_logits[rows],
            'obj_ptr': output.step.object_pointer[rows],
            'object_score_logits': output.step.object_score_logits[rows],
        }
    return outputs


_ENTRIES: dict[str, Callable[[ReleasedState], Any]] = {
    'images': lambda state: ReleasedImages(state.frames, state.model.data_preprocessor),
    'num_frames': lambda state: state.frames.num_frames,
    'video_height': lambda state: state.frames.size[0],
    'video_width': lambda state: state.frames.size[1],
    'device': lambda state: state.model.data_preprocessor.mean.device,
    'storage_device': lambda state: state.model.data_preprocessor.mean.device,
    'obj_ids': lambda state: list(state.objects),
    'obj_id_to_idx': lambda state: {key: i for i, key in enumerate(state.objects)},
    'obj_idx_to_id': lambda state: dict(enumerate(state.objects)),
    'point_inputs_per_obj': _by_row(_points),
    'mask_inputs_per_obj': _by_row(_masks),
    'output_dict_per_obj': lambda state: {
        row: _outputs(obj, state.model.tracker)
        for row, obj in enumerate(state.objects.values())
    },
    'temp_output_dict_per_obj': _by_row(_pending),
    'frames_tracked_per_obj': _by_row(
        lambda obj: {f: {'reverse': r} for f, r in obj.tracked_in_reverse.items()}
    ),
    'tracking_has_started': lambda state: any(
        obj.tracked_in_reverse for obj in state.objects.values()
    ),
}
