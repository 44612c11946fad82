"""Plays the script of a golden video of EdgeTAM through our video predictor.

The released predictor is that of SAM 2 in October 2024, which corrects tracked frames
otherwise than the later one, whose behaviour ours has: a corrected frame keeps its mask
in later passes, and the memories of all objects on it are encoded again, from binary
masks. A run does both in its place.
"""

import re
from collections.abc import Iterator
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
DEFAULT_FRAMES = 'variants_frames_1'


def case_frames(case: GoldenCase) -> NDArray[np.uint8]:
    """The frames that a case names, ``variants_frames_1``, or those of the folder."""
    note = case.spec['note']
    named = case.spec.get('frames_file') or ''.join(
        re.findall(r'variants_frames_\d+', note)[:1]
    )
    folder = case.path.parent
    path = folder / f'{named.removesuffix(".npz") or DEFAULT_FRAMES}.npz'
    if not path.is_file():  # of another set
        path = next(iter(sorted(folder.glob('variants_frames_*.npz'))), path)
    frames: NDArray[np.uint8] = np.load(path)['frames']
    part = re.search(r'frames\[(\d+):(\d+):(\d+)\]', note)
    return frames[slice(*map(int, part.groups()))] if part else frames


def case_script(case: GoldenCase) -> list[dict[str, Any]]:
    """The script of a case, or the single click that its note states."""
    if 'script' in case.spec:
        script: list[dict[str, Any]] = case.spec['script']
        return script
    note = case.spec['note']
    click = re.search(r'click \[\[(\d+), ?(\d+)\]\] label (\d)', note)
    count = re.search(r'propagate (\d+) frames', note)
    assert click, note
    assert count, note
    x, y, label = map(int, click.groups())
    points = {'frame_idx': 0, 'obj_id': 1, 'points': [[x, y]], 'labels': [label]}
    return [{'op': 'points', **points}, {'op': 'prop', 'n': int(count[1])}]


def stores_float32(case: GoldenCase) -> bool:
    """Whether memories are stored in float32 in a case, not in bfloat16."""
    stored = case.spec.get('memory_stored_as', case.spec['note'])
    return 'float32' in stored


@dataclass
class VariantVideoRun:
    """A golden video while it is played.

    Attributes:
        case: The golden case.
        model: Ours, with its weights.
        tolerance: Of masks, scores and pointers, over the root mean square.
        memory_tolerance: Of memories.
        compared: Names of the golden arrays that were compared.
    """

    case: GoldenCase
    model: SAM2
    tolerance: float
    memory_tolerance: float
    compared: set[str] = field(default_factory=set)

    def play(self) -> None:
        """Do what the script says and compare after each step."""
        dtype = torch.float32 if stores_float32(self.case) else torch.bfloat16
        predictor = SAM2VideoPredictor(self.model, memory_dtype=dtype)
        state = predictor.init_state(list(case_frames(self.case)))
        calls: list[Tensor] = []
        self.model.mask_decoder.register_forward_hook(
            lambda _, __, output: calls.append(output.ious[0])
        )
        ious: list[Tensor | None] = []  # of the first object; None for a mask prompt
        for number, step in enumerate(case_script(self.case)):
            arguments = {name: value for name, value in step.items() if name != 'op'}
            if step['op'] == 'prop':
                for frame, logits in _propagate(predictor, state, **arguments):
                    self._compare_frame(f's{number}/f{frame}', logits)
                    ious += calls[:1]
                    calls.clear()
            else:
                shown = _prompt(predictor, state, step['op'], arguments)
                self._compare_frame(f's{number}', shown)
                ious += calls or [None]
                calls.clear()
            self._compare_memories(f's{number}', state)
        self._compare_ious(ious)
        if 'img_f0' in self.case.arrays:
            image = predictor.model.data_preprocessor.frame(state.frames.read(0))[0]
            self._compare('img_f0', image[:, ::2, ::2], 1e-5)

    def _compare(self, name: str, value: Tensor, tolerance: float) -> None:
        """Compare a value, thinned out as the golden one is."""
        self.compared.add(name)
        expected = self.case.arrays[name]
        value = value.detach().float()
        for dim, (size, wanted) in enumerate(
            zip(value.shape, expected.shape, strict=True)
        ):
            if size != wanted:
                step = -(-size // wanted)
                value = value[(slice(None),) * dim + (slice(None, None, step),)]
        if expected.dtype == np.float16:  # any number is right that rounds to it
            rounding = np.spacing(np.abs(expected)).astype(np.float32) / 2
            stored = torch.from_numpy(expected.astype(np.float32))
            off = torch.from_numpy(rounding)
            expected = value.clamp(stored - off, stored + off).numpy()
        assert_close(value, expected, tolerance, name)

    def _compare_frame(self, name: str, logits: Tensor) -> None:
        """Compare the masks that are shown on a frame, (O, 1, H, W)."""
        if f'{name}/video_res' in self.case.arrays:
            self._compare(f'{name}/video_res', logits[:, 0, ::3, ::3], self.tolerance)
        if f'{name}/area' in self.case.arrays:
            self.compared.add(f'{name}/area')
            expected = self.case.arrays[f'{name}/area'].astype(np.float64)
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
                assert_close(own, given, self.tolerance, f'iou_calls[{index}]')

    def _compare_memories(self, prefix: str, state: VideoState) -> None:
        for name in self.case.arrays:
            if not name.startswith(f'{prefix}/obj'):
                continue
            _, number, frame_name, kind, what = name.split('/')
            store = state.objects[int(number[3:])].store
            frame = int(frame_name[1:])
            assert (frame in store.conditioning) is (kind == 'c'), name
            memory = store.conditioning.get(frame) or store.tracked_memory(frame)
            assert isinstance(memory, ObjectMemory), name
            value = {
                'low': memory.mask_logits[0, 0],
                'score': memory.object_score_logits[0],
                'ptr': memory.object_pointer[0],
                'mem': memory.spatial[0],
            }[what]
            if what == 'mem':
                self._compare(name, value, self.memory_tolerance)
                self._compare_rms(name, value)
            else:
                self._compare(name, value, self.tolerance)

    def _compare_rms(self, name: str, memory: Tensor) -> None:
        expected = self.case.arrays[name]
        steps = [-(-a // b) for a, b in zip(memory.shape, expected.shape, strict=True)]
        thinned = memory[tuple(slice(None, None, step) for step in steps)].float()
        difference = thinned.numpy() - expected
        share = np.square(difference).mean() / np.square(expected).mean()
        assert share**0.5 <= MAX_MEMORY_RMS, f'{name}: rms {share**0.5:.1e}'


def _prompt(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    operation: str,
    arguments: dict[str, Any],
) -> Tensor:
    """Prompt an object; the masks that are shown then."""
    if operation in {'points', 'box'}:
        return predictor.add_new_points_or_box(state, **arguments).mask_logits
    assert operation == 'mask', operation
    y, x, radius_y, radius_x = arguments.pop('mask_blob')
    height, width = state.frames.size
    rows, columns = np.mgrid[:height, :width]
    across = (columns - x * width) / (radius_x * width)
    down = (rows - y * height) / (radius_y * height)
    mask = across**2 + down**2 < 1
    return predictor.add_new_mask(state, mask=mask, **arguments).mask_logits


def _propagate(
    predictor: SAM2VideoPredictor,
    state: VideoState,
    *,
    n: int,
    start_frame_idx: int | None = None,
    reverse: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """Run a pass over n frames; corrected frames keep their masks."""
    state.commit()
    objects = list(state.objects.values())
    start = start_frame_idx
    if start is None:
        start = min(frame for obj in objects for frame in obj.conditioning_frames)
    step, last = (-1, 0) if reverse else (1, state.num_frames - 1)
    corrected = {frame for obj in objects for frame in obj.corrections}
    for frame in range(start, last + step, step)[:n]:
        if frame in corrected:
            _encode_as_prompted(state, frame)
            yield frame, state.show(frame).mask_logits
            continue
        for shown in predictor.propagate_in_video(
            state, start_frame_idx=frame, max_frame_num_to_track=0, reverse=reverse
        ):
            yield frame, shown.mask_logits


@torch.no_grad()
def _encode_as_prompted(state: VideoState, frame: int) -> None:
    """Encode the memories of objects that were not prompted from binary masks."""
    features = state.features(frame)
    for obj in state.objects.values():
        memory = obj.store.tracked_memory(frame)
        if frame not in obj.corrections and isinstance(memory, ObjectMemory):
            spatial = state.model.tracker.encode_memory(
                features,
                upsample_logits(memory.encoded_logits, features.frame_size),
                memory.object_score_logits > 0,
                binary=True,
            )
            obj.store.tracked[frame] = replace(
                memory, spatial=spatial.to(memory.spatial.dtype)
            )
