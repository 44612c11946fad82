"""Plays golden video cases of EdgeTAM and EfficientTAM through our video predictor."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golden_cases import GoldenCase, assert_close
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.memory_store import ObjectMemory

MAX_AREA = 1e-3
MAX_MEMORY_RMS = 5e-4
Script = list[dict[str, Any]]


@dataclass(frozen=True)
class Tolerances:
    """Of the golden README, largest difference over the root mean square."""

    logits: float  # of low-resolution masks and of those at the size of the video
    memory: float
    rest: float


def tolerances(case: GoldenCase) -> Tolerances:
    """What the golden README allows for a case."""
    if '_full' in case.name:
        return Tolerances(logits=2e-3, memory=1e-3, rest=1e-3)
    if is_stored_in_float32(case):
        return Tolerances(logits=5e-4, memory=5e-4, rest=5e-4)
    return Tolerances(logits=1e-3, memory=1.6e-2, rest=1e-3)


def is_stored_in_float32(case: GoldenCase) -> bool:
    """Whether memories are kept as they are, and not rounded to bfloat16."""
    stored = case.spec.get('memory_stored_as', 'float32')
    return '_full' in case.name or stored.startswith('float32')


def video_frames(case: GoldenCase) -> NDArray[np.uint8]:
    """The frames of a case, (T, height, width, 3)."""
    name = case.spec.get('frames_file')
    paths = (
        [case.path.with_name(name)]
        if name
        else sorted(case.path.parent.glob('variants_frames_*.npz'))
    )
    frames: NDArray[np.uint8] = np.load(paths[0])['frames']
    part = re.search(r'frames\[(\d+):(\d+):(\d+)\]', case.spec['note'])
    return frames[slice(*map(int, part.groups()))] if part else frames


def video_script(case: GoldenCase) -> Script:
    """The script of a case; a case at full size states its only click in a note."""
    if 'script' in case.spec:
        script: Script = case.spec['script']
        return script
    note = case.spec['note']
    click = re.search(r'click \[\[(\d+), ?(\d+)\]\] label (\d) on frame (\d+)', note)
    num_frames = re.search(r'propagate (\d+) frames', note)
    assert click, note
    assert num_frames, note
    x, y, label, frame = map(int, click.groups())
    points = {'points': [[x, y]], 'labels': [label]}
    return [
        {'op': 'points', 'frame_idx': frame, 'obj_id': 1, **points},
        {'op': 'prop', 'n': int(num_frames[1])},
    ]


def ellipse(blob: Iterable[float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask prompt of a script: centre and radii, downwards first, as shares."""
    (y, x, radius_y, radius_x), (height, width) = blob, size
    rows, columns = np.mgrid[:height, :width]
    across = (columns - x * width) / (radius_x * width)
    down = (rows - y * height) / (radius_y * height)
    inside: NDArray[np.bool_] = across**2 + down**2 < 1
    return inside


def thinned(tensor: torch.Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Every n-th number of each dimension, as a golden array of a shape holds them."""
    steps = [-(-size // kept) for size, kept in zip(tensor.shape, shape, strict=True)]
    return tensor[tuple(slice(None, None, step) for step in steps)].float().numpy()


@dataclass
class VariantVideoRun:
    """A case while it is played.

    Attributes:
        case: The golden case.
        model: The model, with the weights of the case.
        compared: Names of the golden arrays that were compared.
    """

    case: GoldenCase
    model: SAM2
    compared: set[str] = field(default_factory=set)

    def play(self) -> None:
        """Do what the script says and compare after each step."""
        is_float32 = is_stored_in_float32(self.case)
        self.predictor = SAM2VideoPredictor(
            self.model,
            memory_dtype=torch.float32 if is_float32 else torch.bfloat16,
            fill_hole_area=0,
        )
        frames = video_frames(self.case)
        self.state: VideoState = self.predictor.init_state(list(frames))
        self.size = (frames.shape[1], frames.shape[2])
        self.limits = tolerances(self.case)
        for number, step in enumerate(video_script(self.case)):
            arguments = {key: value for key, value in step.items() if key != 'op'}
            self._do(step['op'], f's{number}', arguments)
            self._compare_memories(f's{number}/')
        self._compare_memories('')

    def _do(self, operation: str, prefix: str, arguments: dict[str, Any]) -> None:
        """Do one step and compare what is shown."""
        if operation == 'prop':
            arguments['max_frame_num_to_track'] = arguments.pop('n') - 1
            for shown in self.predictor.propagate_in_video(self.state, **arguments):
                for name in (
                    f'{prefix}/f{shown.frame_index}/area',
                    f'f{shown.frame_index}/area',
                ):
                    if name in self.case.arrays:
                        self._compare_areas(name, shown.mask_logits)
            return
        if operation == 'mask':
            mask = ellipse(arguments.pop('mask_blob'), self.size)
            shown = self.predictor.add_new_mask(self.state, mask=mask, **arguments)
        else:
            assert operation in {'points', 'box'}, operation
            shown = self.predictor.add_new_points_or_box(self.state, **arguments)
        name = f'{prefix}/video_res'
        if name in self.case.arrays:
            expected = self._array(name)
            logits = shown.mask_logits[:, 0]
            if len(expected) < len(logits):  # of the prompted object alone
                logits = logits[[[*shown.object_ids].index(arguments['obj_id'])]]
            found = thinned(logits, expected.shape)
            assert_close(found, expected, self.limits.logits, name)

    def _array(self, name: str) -> NDArray[Any]:
        """A golden array, noted as compared."""
        self.compared.add(name)
        return self.case.arrays[name]

    def _compare_areas(self, name: str, logits: torch.Tensor) -> None:
        area = (logits > 0).flatten(1).sum(dim=1).numpy()
        expected = self._array(name)
        allowed = np.maximum(MAX_AREA * expected, 1)
        assert (np.abs(area - expected) <= allowed).all(), (name, area, expected)

    def _compare_memories(self, prefix: str) -> None:
        """Compare the memories after a step: ``sN/objID/fT/kind/…`` or ``fT/…``."""
        pattern = rf'{prefix}(?:obj(\d+)/)?f(\d+)/(?:([cn])/)?(low|score|ptr|mem)'
        for name in self.case.arrays:
            match = re.fullmatch(pattern, name)
            if match is None:
                continue
            object_id, frame, kind, what = match.groups()
            store = self.state.objects[int(object_id or 1)].store
            is_conditioning = int(frame) in store.conditioning
            assert kind is None or is_conditioning is (kind == 'c'), name
            memory = store.conditioning.get(int(frame))
            memory = memory or store.tracked_memory(int(frame))
            assert isinstance(memory, ObjectMemory), name
            value = {
                'low': memory.mask_logits[0, 0],
                'score': memory.object_score_logits[0],
                'ptr': memory.object_pointer[0],
                'mem': memory.spatial[0],
            }[what]
            expected = self._array(name).astype(np.float32)
            found = thinned(value, expected.shape)
            limits = {'low': self.limits.logits, 'mem': self.limits.memory}
            assert_close(found, expected, limits.get(what, self.limits.rest), name)
            if what == 'mem':
                share = np.square(found - expected).mean() / np.square(expected).mean()
                assert share**0.5 <= MAX_MEMORY_RMS, f'{name}: rms {share**0.5:.1e}'
