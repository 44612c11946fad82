"""Plays golden videos of EdgeTAM and EfficientTAM through our video predictor."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from golden_cases import GoldenCase, assert_close, note_error
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.memory_store import ObjectMemory
from projects.sam2.ops import upsample_logits

MAX_MEMORY_RMS = 5e-4
MAX_AREA = 1e-3
Script = list[dict[str, Any]]


@dataclass(frozen=True)
class Tolerances:
    """Of the golden README, largest difference over the root mean square."""

    memory: float
    rest: float


def is_full_size(case: GoldenCase) -> bool:
    """Whether a case has the released size, and one click that its note states."""
    return '_full' in case.name


def stores_float32(case: GoldenCase) -> bool:
    """Whether memories are kept as they are, and not rounded to bfloat16."""
    stored: str = case.spec.get('memory_stored_as', 'float32')
    return stored.startswith('float32')


def tolerances(case: GoldenCase) -> Tolerances:
    """What the golden README allows for a case."""
    if is_full_size(case):
        return Tolerances(memory=1e-3, rest=1e-3)
    if stores_float32(case):
        return Tolerances(memory=5e-4, rest=5e-4)
    return Tolerances(memory=1.6e-2, rest=1e-3)


def case_frames(case: GoldenCase) -> NDArray[np.uint8]:
    """The frames of a case, (T, height, width, 3).

    Its json names the file, or its folder has only one; and it may name some frames of
    it: ``frames[:20]`` or ``frames[0:12:4]``.
    """
    words = f'{case.spec.get("frames_file", "")} {case.spec.get("note", "")}'
    named = re.search(r'variants_frames_\d+', words)
    path = case.path.with_name(f'{named[0]}.npz') if named else None
    if path is None or not path.is_file():  # of another set
        path = min(case.path.parent.glob('variants_frames_*.npz'))
    frames: NDArray[np.uint8] = np.load(path)['frames']
    part = re.search(r'frames\[(\d*):(\d+)(?::(\d+))?\]', words)
    if part is None:
        return frames
    return frames[slice(*(int(n) if n else None for n in part.groups()))]


def case_script(case: GoldenCase) -> Script:
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


def thinned(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Every n-th number of each dimension, as a golden array of a shape holds them."""
    steps = [-(-size // kept) for size, kept in zip(tensor.shape, shape, strict=True)]
    return tensor[tuple(slice(None, None, step) for step in steps)].detach().float()


@dataclass
class VariantVideoRun:
    """A golden video while it is played.

    Attributes:
        case: The golden case.
        model: Ours, with the weights of the case.
        keeps_corrections: The released predictor is that of SAM 2 in October 2024, as
            for EdgeTAM. It corrects tracked frames otherwise than the later one, whose
            behaviour ours has: a corrected frame keeps its mask in later passes, and
            the memories of all objects on it are encoded again, from binary masks. The
            run does both in its place.
        compared: Names of the golden arrays that were compared.
    """

    case: GoldenCase
    model: SAM2
    keeps_corrections: bool = False
    compared: set[str] = field(default_factory=set)

    def play(self) -> None:
        """Do what the script says and compare after each step."""
        self.limits = tolerances(self.case)
        dtype = torch.float32 if stores_float32(self.case) else torch.bfloat16
        self.predictor = SAM2VideoPredictor(self.model, memory_dtype=dtype)
        self.state: VideoState = self.predictor.init_state([*case_frames(self.case)])
        calls: list[Tensor] = []
        self.model.mask_decoder.register_forward_hook(
            lambda _, __, output: calls.append(output.ious[0])
        )
        ious: list[Tensor | None] = []  # of the first object; None for a mask prompt
        for number, step in enumerate(case_script(self.case)):
            arguments = {name: value for name, value in step.items() if name != 'op'}
            if step['op'] == 'prop':
                for frame, logits in self._propagate(**arguments):
                    self._compare_areas(f's{number}/f{frame}/area', logits)
                    self._compare_areas(f'f{frame}/area', logits)
                    ious += calls[:1]
                    calls.clear()
            else:
                self._prompt(step['op'], f's{number}/video_res', arguments)
                ious += calls or [None]
                calls.clear()
            self._compare_memories(f's{number}/')
        self._compare_memories('')
        if 'iou_calls' in self.case.arrays:
            self._compare_ious(ious)
        if 'img_f0' in self.case.arrays:
            pixels = self.state.frames.read(0)
            image = self.model.data_preprocessor.frame(pixels)[0]
            self._compare('img_f0', image, 1e-5)

    def _prompt(self, operation: str, name: str, arguments: dict[str, Any]) -> None:
        """Prompt an object, and compare what is shown then."""
        if operation == 'mask':
            mask = ellipse(arguments.pop('mask_blob'), self.state.frames.size)
            shown = self.predictor.add_new_mask(self.state, mask=mask, **arguments)
        else:
            assert operation in {'points', 'box'}, operation
            shown = self.predictor.add_new_points_or_box(self.state, **arguments)
        if name in self.case.arrays:
            logits = shown.mask_logits[:, 0]
            if len(self.case.arrays[name]) < len(logits):  # of the prompted object
                logits = logits[[[*shown.object_ids].index(arguments['obj_id'])]]
            self._compare(name, logits, self.limits.rest)

    def _propagate(
        self, *, n: int, start_frame_idx: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[int, Tensor]]:
        """Run a pass over n frames: their indices and masks, (O, 1, H, W)."""
        state = self.state
        state.commit()
        objects = list(state.objects.values())
        start = start_frame_idx
        if start is None:
            start = min(frame for obj in objects for frame in obj.conditioning_frames)
        kept: set[int] = set()
        if self.keeps_corrections:
            kept = {frame for obj in objects for frame in obj.corrections}
        step, last = (-1, 0) if reverse else (1, state.num_frames - 1)
        for frame in range(start, last + step, step)[:n]:
            if frame in kept:
                self._encode_as_prompted(frame)
                yield frame, state.show(frame).mask_logits
                continue
            for shown in self.predictor.propagate_in_video(
                state, start_frame_idx=frame, max_frame_num_to_track=0, reverse=reverse
            ):
                yield frame, shown.mask_logits

    @torch.no_grad()
    def _encode_as_prompted(self, frame: int) -> None:
        """Encode the memories of objects that were not prompted from binary masks."""
        features = self.state.features(frame)
        for obj in self.state.objects.values():
            memory = obj.store.tracked_memory(frame)
            if frame not in obj.corrections and isinstance(memory, ObjectMemory):
                spatial = self.model.tracker.encode_memory(
                    features,
                    upsample_logits(memory.encoded_logits, features.frame_size),
                    memory.object_score_logits > 0,
                    binary=True,
                )
                obj.store.tracked[frame] = replace(
                    memory, spatial=spatial.to(memory.spatial.dtype)
                )

    def _compare(self, name: str, value: Tensor, tolerance: float) -> None:
        """Compare a value, thinned out as the golden one is."""
        self.compared.add(name)
        expected = self.case.arrays[name]
        value = thinned(value, expected.shape)
        if expected.dtype == np.float16:  # any number is right that rounds to it
            rounding = np.spacing(np.abs(expected)).astype(np.float32) / 2
            stored = torch.from_numpy(expected.astype(np.float32))
            off = torch.from_numpy(rounding)
            expected = value.clamp(stored - off, stored + off).numpy()
        assert_close(value, expected, tolerance, name)

    def _compare_areas(self, name: str, logits: Tensor) -> None:
        """Compare the areas of masks, (O, 1, H, W), if they are known."""
        if name not in self.case.arrays:
            return
        self.compared.add(name)
        expected = self.case.arrays[name].astype(np.float64)
        area = (logits > 0).flatten(1).sum(dim=1).numpy()
        off = np.abs(area - expected) / np.maximum(expected, 1 / MAX_AREA)
        note_error(float(off.max(initial=0)), MAX_AREA)
        assert (off <= MAX_AREA).all(), (name, area, expected)

    def _compare_ious(self, ious: list[Tensor | None]) -> None:
        """Compare the estimated IoUs of each call of the decoder, padded with -1."""
        self.compared.add('iou_calls')
        expected = self.case.arrays['iou_calls']
        assert len(expected) == len(ious)
        for index, (row, own) in enumerate(zip(expected, ious, strict=True)):
            if own is not None:  # ours decodes no masks for a mask prompt
                given = row[row != -1]
                assert_close(own, given, self.limits.rest, f'iou_calls[{index}]')

    def _compare_memories(self, prefix: str) -> None:
        """Compare the memories after a step: ``sN/objID/fT/kind/…`` or ``fT/…``."""
        pattern = rf'{prefix}(?:obj(\d+)/)?f(\d+)/(?:([cn])/)?(low|score|ptr|mem)'
        for name in self.case.arrays:
            match = re.fullmatch(pattern, name)
            if match is None:
                continue
            object_id, frame, kind, what = match.groups()
            store = self.state.objects[int(object_id or 1)].store
            memory = store.memory(int(frame))
            assert isinstance(memory, ObjectMemory), name
            assert kind in {None, 'c' if int(frame) in store.conditioning else 'n'}
            if what == 'mem':
                self._compare(name, memory.spatial[0], self.limits.memory)
                self._compare_rms(name, memory.spatial[0])
            else:
                value = {
                    'low': memory.mask_logits[0, 0],
                    'score': memory.object_score_logits[0],
                    'ptr': memory.object_pointer[0],
                }[what]
                self._compare(name, value, self.limits.rest)

    def _compare_rms(self, name: str, memory: Tensor) -> None:
        expected = self.case.arrays[name]
        difference = thinned(memory, expected.shape).numpy() - expected
        share = np.square(difference).mean() / np.square(expected).mean()
        assert share**0.5 <= MAX_MEMORY_RMS, f'{name}: rms {share**0.5:.1e}'
