"""Plays the script of a golden video case through our video predictor."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from golden_cases import GoldenCase, assert_close, note_error
from golden_models import case_model
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoFrameResult, VideoState
from projects.sam2.models.tracking.memory_store import ObjectMemory

SIZE = (136, 240)
MAX_MEMORY_RMS = 5e-4
MAX_AREA = 1e-3
# Where objects compete for pixels, a tie may fall either way.
TIE, MAX_TIES = 2e-2, 1e-3
LATER_OPTIONS = ('non_overlap_masks', 'add_all_frames_to_correct_as_cond')


@dataclass(frozen=True)
class Tolerances:
    """Of the golden README, largest difference over the root mean square."""

    logits: float
    memory: float


def tolerances(case: GoldenCase) -> Tolerances:
    """What the golden README allows for a case."""
    if case.name.startswith('full_'):
        return Tolerances(logits=2e-2, memory=2e-2)
    if case.name.endswith('f32mem'):
        return Tolerances(logits=5e-4, memory=5e-4)
    return Tolerances(logits=1e-3, memory=1.6e-2)


def case_predictor(case: GoldenCase) -> SAM2VideoPredictor:
    """The predictor that a case asks for.

    The released predictor tracks objects one by one, so that its
    ``non_overlap_masks_for_mem_enc`` finds nothing to separate.
    """
    overrides = case.spec.get('overrides', {})
    changes: dict[str, Any] = {
        'tracker__memory_bank': {
            'stride': overrides.get('++memory_temporal_stride_for_eval', 1),
            'max_conditioning_frames': overrides.get('++max_cond_frames_in_attn'),
        }
    }
    if '/sam2/' in case.spec['config']:
        changes['tracker__object_pointer'] = {'time_encoding': 'none'}
        changes['tracker'] = {'no_object_embedding': False}
    options = {name: overrides.get(f'++{name}', False) for name in LATER_OPTIONS}
    return SAM2VideoPredictor(
        case_model(case, **changes),
        **options,
        fill_hole_area=8 if case.name.startswith('video_fillholes') else 0,
        memory_dtype=torch.float32 if case.name.endswith('f32mem') else torch.bfloat16,
    )


def ellipse(blob: Iterable[float]) -> NDArray[np.bool_]:
    """The mask prompt of a script: centre and radii, downwards first, as shares."""
    y, x, radius_y, radius_x = blob
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    across = (columns / SIZE[1] - x) / radius_x
    down = (rows / SIZE[0] - y) / radius_y
    inside: NDArray[np.bool_] = across**2 + down**2 < 1
    return inside


@dataclass
class GoldenVideoRun:
    """A case while it is played.

    Attributes:
        case: The golden case.
        predictor: Ours.
        state: The video.
        compared: Names of the golden arrays that were compared.
    """

    case: GoldenCase
    predictor: SAM2VideoPredictor
    state: VideoState
    compared: set[str] = field(default_factory=set)

    def play(self) -> None:
        """Do what the script says and compare after each step."""
        for number, step in enumerate(self.case.spec['script']):
            arguments = {k: v for k, v in step.items() if k not in {'op', 'full'}}
            prefix = f's{number:02d}'
            for name, shown in self._do(step['op'], prefix, arguments):
                self._compare_frame(name, shown)
            self._compare_memories(prefix)

    def _do(
        self, operation: str, prefix: str, arguments: dict[str, Any]
    ) -> Iterator[tuple[str, VideoFrameResult]]:
        """Do one step; give what is shown, with the name it has in the golden file."""
        predictor, state = self.predictor, self.state
        if operation in {'points', 'box'}:
            yield prefix, predictor.add_new_points_or_box(state, **arguments)
        elif operation == 'mask':
            mask = ellipse(arguments.pop('mask_blob'))
            yield prefix, predictor.add_new_mask(state, mask=mask, **arguments)
        elif operation == 'prop':
            for shown in predictor.propagate_in_video(state, **arguments):
                yield f'{prefix}/f{shown.frame_index}', shown
        elif operation == 'remove':
            ids, frames = predictor.remove_object(state, **arguments)
            assert ids == self._array(f'{prefix}/ids').tolist()
            indices = [shown.frame_index for shown in frames]
            assert indices == self._array(f'{prefix}/updated_frames').tolist()
            yield from ((f'{prefix}/f{one.frame_index}', one) for one in frames)
        elif operation == 'clear':
            left = predictor.clear_all_prompts_in_frame(state, **arguments)
            assert left is not None
            yield prefix, left
        else:
            assert operation == 'reset'
            predictor.reset_state(state)

    def _array(self, name: str) -> NDArray[Any]:
        """A golden array, noted as compared."""
        self.compared.add(name)
        return self.case.arrays[name]

    def _compare_frame(self, name: str, shown: VideoFrameResult) -> None:
        """Compare what is shown on a frame."""
        if f'{name}/ids' in self.case.arrays:
            assert shown.object_ids == self._array(f'{name}/ids').tolist()
        if f'{name}/area' in self.case.arrays:
            area = (shown.mask_logits > 0).flatten(1).sum(dim=1).numpy()
            expected = self._array(f'{name}/area')
            allowed = np.maximum(MAX_AREA * expected, 1)
            assert (np.abs(area - expected) <= allowed).all(), (name, area, expected)
        if f'{name}/video_res' not in self.case.arrays:
            return
        logits = shown.mask_logits[:, 0, ::2, ::2].numpy()
        expected = self._array(f'{name}/video_res')
        if self.predictor.options.non_overlap_masks:
            scale = float(np.sqrt(np.mean(np.square(expected.astype(np.float64)))))
            ties = float((np.abs(logits - expected) > TIE * scale).mean())
            note_error(ties, MAX_TIES)
            assert ties <= MAX_TIES, f'{name}: {ties:.1e} of the pixels differ'
        else:
            assert_close(logits, expected, tolerances(self.case).logits, name)

    def _compare_memories(self, prefix: str) -> None:
        """Compare the memories after a step."""
        allowed = tolerances(self.case)
        for name in self.case.arrays:
            if not name.startswith(f'{prefix}/obj'):
                continue
            _, number, frame_name, kind, what = name.split('/')
            store = self.state.objects[int(number[3:])].store
            frame = int(frame_name[1:])
            assert (frame in store.conditioning) is (kind == 'c'), name
            memory = store.memory(frame)
            assert isinstance(memory, ObjectMemory), name
            expected = self._array(name)
            if what == 'mem':
                spatial = memory.spatial[0].float()
                assert_close(spatial, expected, allowed.memory, name)
                difference = spatial.numpy() - expected
                share = np.square(difference).mean() / np.square(expected).mean()
                assert share**0.5 <= MAX_MEMORY_RMS, f'{name}: rms {share**0.5:.1e}'
                continue
            value = {
                'low': memory.mask_logits[0, 0],
                'score': memory.object_score_logits[0],
                'ptr': memory.object_pointer[0],
            }[what]
            assert_close(value, expected, allowed.logits, name)
