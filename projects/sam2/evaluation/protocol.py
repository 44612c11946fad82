"""Which objects count on which frames.

Only annotated frames are ever asked about. A protocol holds what it has seen of one
video; ``begin`` starts the next. Its text says what it does.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmengine.registry import TASK_UTILS

# Configs of protocols by the names that commands know.
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    'davis': {'type': 'JFDavisProtocol'},
    'davis-all-frames': {
        'type': 'JFDavisProtocol',
        'skip_first': False,
        'skip_last': False,
    },
    'appearance': {'type': 'JFAppearanceProtocol'},
    'appearance-all-frames': {'type': 'JFAppearanceProtocol', 'skip_first': False},
    'sav': {'type': 'JFSAVProtocol'},
    'sav-all-frames': {'type': 'JFSAVProtocol', 'skip_ends': False},
}


class JFProtocol(ABC):
    """What the accumulator asks of a protocol."""

    @abstractmethod
    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video.

        Args:
            annotated_frames: Frames with ground truth, ascending.
        """

    @abstractmethod
    def objects(
        self, frame_index: int, truth: Collection[int], predicted: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects that count on an annotated frame.

        Args:
            frame_index: Position in the video; ascends from call to call.
            truth: Objects with a pixel of ground truth on the frame.
            predicted: Objects with a predicted pixel on the frame.

        Returns:
            Ids, ascending.
        """

    @abstractmethod
    def reported(self) -> frozenset[int]:
        """Objects of the video that are reported at its end."""


@TASK_UTILS.register_module()
class JFDavisProtocol(JFProtocol):
    """That of DAVIS 2017 for semi-supervised segmentation.

    The objects of the first annotated frame that shows any count; on that frame
    they are given, and the last annotated frame is left out as well.

    Args:
        skip_first: Leave out the frame on which the objects are given.
        skip_last: Leave out the last annotated frame.
    """

    def __init__(self, *, skip_first: bool = True, skip_last: bool = True) -> None:
        self.skip_first = skip_first
        self.skip_last = skip_last
        self._last_frame = -1
        self._objects: tuple[int, ...] = ()

    def __str__(self) -> str:
        """What counts."""
        return (
            f'JFDavisProtocol(skip_first={self.skip_first}, skip_last='
            f'{self.skip_last}): objects of the first annotated frame that shows any'
        )

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video and note its last annotated frame."""
        self._last_frame = annotated_frames[-1] if annotated_frames else -1
        self._objects = ()

    def objects(
        self,
        frame_index: int,
        truth: Collection[int],
        predicted: Collection[int],  # noqa: ARG002  the base's signature
    ) -> tuple[int, ...]:
        """Choose the objects of the first frame that shows any."""
        if not self._objects:
            self._objects = tuple(sorted(truth))
            if self.skip_first:
                return ()
        left_out = self.skip_last and frame_index == self._last_frame
        return () if left_out else self._objects

    def reported(self) -> frozenset[int]:
        """Objects of the first frame that shows any."""
        return frozenset(self._objects)


@TASK_UTILS.register_module()
class JFAppearanceProtocol(JFProtocol):
    """All objects, each after the frame of its first appearance.

    For videos whose objects appear late: an object is prompted on the first
    annotated frame that shows it, and counts on every later annotated frame, the
    last one included.

    Args:
        skip_first: Leave out the frame on which an object appears.
        skip_last: Leave out the last annotated frame.
    """

    def __init__(self, *, skip_first: bool = True, skip_last: bool = False) -> None:
        self.skip_first = skip_first
        self.skip_last = skip_last
        self._last_frame = -1
        self._seen: set[int] = set()

    def __str__(self) -> str:
        """What counts."""
        return (
            f'JFAppearanceProtocol(skip_first={self.skip_first}, skip_last='
            f'{self.skip_last}): each object from its first annotated frame on'
        )

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video and note its last annotated frame."""
        self._last_frame = annotated_frames[-1] if annotated_frames else -1
        self._seen = set()

    def objects(
        self,
        frame_index: int,
        truth: Collection[int],
        predicted: Collection[int],  # noqa: ARG002  the base's signature
    ) -> tuple[int, ...]:
        """Choose the objects that an annotated frame has shown."""
        before = set(self._seen)
        self._seen.update(truth)
        if self.skip_last and frame_index == self._last_frame:
            return ()
        return tuple(sorted(before if self.skip_first else self._seen))

    def reported(self) -> frozenset[int]:
        """All objects of the ground truth."""
        return frozenset(self._seen)


@TASK_UTILS.register_module()
class JFSAVProtocol(JFProtocol):
    """That of the evaluator published with SA-V (Ravi et al., 2024).

    An object counts from the first evaluated frame on which ground truth or
    prediction shows it; ids that only predictions show are not reported.

    Args:
        skip_ends: Leave out the first and the last annotated frame.
    """

    def __init__(self, *, skip_ends: bool = True) -> None:
        self.skip_ends = skip_ends
        self._ends: tuple[int, ...] = ()
        self._seen: set[int] = set()
        self._true: set[int] = set()

    def __str__(self) -> str:
        """What counts."""
        return (
            f'JFSAVProtocol(skip_ends={self.skip_ends}): each object from the first '
            'evaluated frame on which ground truth or prediction shows it'
        )

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video and note its first and last annotated frame."""
        self._ends = (*annotated_frames[:1], *annotated_frames[-1:])
        self._seen = set()
        self._true = set()

    def objects(
        self, frame_index: int, truth: Collection[int], predicted: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects shown so far, by ground truth or prediction."""
        if self.skip_ends and frame_index in self._ends:
            return ()
        self._true.update(truth)
        self._seen.update(truth, predicted)
        return tuple(sorted(self._seen))

    def reported(self) -> frozenset[int]:
        """All objects that the ground truth of an evaluated frame shows."""
        return frozenset(self._true)
