"""Samplers against the released ones: the same decisions give the same clip."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS

from golden_cases import GoldenCase, assert_exact, discover
from projects.sam2.datasets import (
    ClipDataError,
    ClipDataset,
    ClipSampleFrames,
    ClipSampleWhole,
    ClipState,
)
from projects.sam2.structures import FrameMasks, VideoSource
from released_draws import Choice, choose

pytestmark = pytest.mark.golden
IMAGES = {'sa1b': {'type': 'ClipSA1BDataset', 'image_folder': 'img'}}
VIDEOS = {
    'pal': {'type': 'ClipPaletteDataset'},
    'multi': {
        'type': 'ClipObjectFolderDataset',
        'frame_folder': 'JPEGImages',
        'mask_folder': 'Annotations',
    },
    'sav': {
        'type': 'ClipSAVDataset',
        'frame_folder': 'frames',
        'annotation_folder': 'ann',
    },
}


@dataclass(frozen=True)
class ShownTwice:
    """An image as the released reader gives it: as a video of two equal frames."""

    image: VideoSource

    def annotated_frames(self) -> tuple[int, ...]:
        """Both."""
        return (0, 1)

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Masks of the image."""
        return self.image.read_masks(0)


class Decided(np.random.Generator):
    """Returns given decisions in place of random ones."""

    def __init__(self, choice: Choice, seen: list[int]) -> None:
        super().__init__(np.random.PCG64(0))
        self.choice_made = choice
        self.seen = seen

    def random(self, *_: Any, **__: Any) -> Any:
        """Below every positive probability where time is reversed."""
        return 0.0 if self.choice_made.backwards else 1.0

    def permutation(self, *_: Any, **__: Any) -> Any:
        """The one start."""
        return np.array([self.choice_made.start])

    def choice(self, a: Any, *args: Any, **kwargs: Any) -> Any:
        """The one gap, or the objects."""
        if not isinstance(a, int):
            return a[0]
        assert a == len(self.seen)
        assert kwargs['size'] == len(self.choice_made.object_ids)
        del args
        return np.array([self.seen.index(i) for i in self.choice_made.object_ids])


def cases(kind: str, datasets: Mapping[str, Any]) -> list[Any]:
    """Golden cases and what they drew from some datasets."""
    found = []
    for parameter in discover('data_golden*'):
        golden: GoldenCase | None = parameter.values[0]
        for spec in golden.spec.get(kind, []) if golden else []:
            if golden is not None and spec['dataset'] in datasets:
                name = f'{spec["dataset"]}-{spec["video"]}-{spec.get("seed", "all")}'
                identity = f'{name}-{golden.name}'
                found.append(pytest.param(golden, spec, id=identity))
    if found:
        return found
    reason = f'no {kind} of these datasets in a data_golden*.json; set SAM2_GOLDEN_DIR'
    return [pytest.param(None, None, id=kind, marks=pytest.mark.skip(reason=reason))]


def open_video(spec: dict[str, Any], data: Path) -> VideoSource:
    """The video of a case."""
    config = (IMAGES | VIDEOS)[spec['dataset']] | {
        'data_root': str(data / spec['dataset'])
    }
    dataset: ClipDataset = DATASETS.build(config)
    prefix = 'sa_' if spec['dataset'] in IMAGES else ''
    return dataset.open_video(prefix + spec['video'])


def state_of(source: VideoSource, rng: np.random.Generator) -> ClipState:
    """A clip of which nothing was chosen yet."""
    return ClipState(source=source, sample_index=0, seed=0, rng=rng)


@pytest.mark.parametrize(('golden', 'spec'), cases('sampler', VIDEOS))
def test_released_decisions_give_the_released_clip(
    spec: dict[str, Any], golden_files: Path
) -> None:
    source = open_video(spec, golden_files)
    reverse = spec['reverse_time_prob']
    sampler = ClipSampleFrames(
        num_frames=spec['num_frames'],
        max_num_objects=spec['max_num_objects'],
        reverse_probability=reverse,
    )
    if 'error' in spec:
        with pytest.raises(ClipDataError, match=f'needs {spec["num_frames"]} frames'):
            sampler(state_of(source, np.random.default_rng(0)))
        return
    random.seed(spec['seed'])
    choice = choose(source, spec['num_frames'], spec['max_num_objects'], reverse)
    backwards = spec['num_frames'] > 1 and spec['frames'][0] > spec['frames'][-1]
    assert choice.backwards is backwards
    masks = source.read_masks(choice.frames[0])
    assert masks is not None
    rng = Decided(choice, [*masks.object_ids])
    sampled = sampler(state_of(source, rng))
    names = [int(source.frame_name(index)) for index in sampled.frame_indices]
    assert_exact(names, spec['frames'], 'frames')
    assert_exact([*sampled.object_ids], spec['object_ids'], 'objects')


@pytest.mark.parametrize(('golden', 'spec'), cases('sampler', IMAGES))
def test_released_decisions_give_the_objects_of_the_released_image(
    spec: dict[str, Any], golden_files: Path
) -> None:
    image = open_video(spec, golden_files)
    random.seed(spec['seed'])
    shown: Any = ShownTwice(image)
    choice = choose(shown, spec['num_frames'], spec['max_num_objects'], 0.0)
    assert_exact([*choice.frames], spec['frames'], 'frames')
    sampler = ClipSampleFrames(
        num_frames=spec['num_frames'], max_num_objects=spec['max_num_objects']
    )
    masks = image.read_masks(0)
    assert masks is not None
    rng = Decided(replace(choice, start=0), [*masks.object_ids])
    sampled = sampler(state_of(image, rng))
    assert sampled.frame_indices == (0,)
    assert_exact([*sampled.object_ids], spec['object_ids'], 'objects')


def seen_ids(golden: GoldenCase, spec: dict[str, Any]) -> list[int]:
    """Objects of a released clip that its first frame shows.

    The released reader of object folders also names those with an empty mask there.
    """
    videos = {video['name']: video for video in golden.spec[spec['dataset']]['videos']}
    segments = videos[spec['video']]['segments'][str(spec['frames'][0])]
    return [i for i in spec['object_ids'] if segments[str(i)]['area']]


@pytest.mark.parametrize(('golden', 'spec'), cases('eval_sampler', VIDEOS))
def test_whole_videos_equal_the_released_ones(
    spec: dict[str, Any], golden: GoldenCase, golden_files: Path
) -> None:
    source = open_video(spec, golden_files)
    state = state_of(source, np.random.default_rng(0))
    ids = [] if 'error' in spec else seen_ids(golden, spec)
    if not ids:
        with pytest.raises(ClipDataError, match='no object on its first'):
            ClipSampleWhole()(state)
        return
    sampled = ClipSampleWhole()(state)
    names = [int(source.frame_name(index)) for index in sampled.frame_indices]
    assert_exact(names, spec['frames'], 'frames')
    assert_exact([*sampled.object_ids], ids, 'objects')
