"""Scripts of prompting and tracking against the released video predictor."""

import numpy as np
import pytest

from golden_cases import GoldenCase, assert_close, discover, golden_dir
from golden_video_runs import GoldenVideoRun, case_predictor
from projects.sam2.apis.frame_readers import VideoLike

NOT_SHOWN = {'img_f0'}


def _video(case: GoldenCase) -> VideoLike:
    """The frames of a case."""
    if case.name.startswith('full_'):
        decoded = np.load(golden_dir() / 'video_frames_decoded.npz')
        return list(decoded['frames'][:3])
    return golden_dir() / 'video_frames'


@pytest.mark.golden
@pytest.mark.parametrize('case', [*discover('video_*'), *discover('full_video_*')])
def test_script_gives_the_released_masks_and_memories(case: GoldenCase) -> None:
    predictor = case_predictor(case)
    run = GoldenVideoRun(case, predictor, predictor.init_state(_video(case)))
    run.play()
    assert run.compared == set(case.arrays) - NOT_SHOWN


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('video_main_*'))
def test_frame_is_prepared_as_the_released_one(case: GoldenCase) -> None:
    predictor = case_predictor(case)
    state = predictor.init_state(_video(case))
    frame = predictor.model.data_preprocessor.frame(state.frames.read(0))
    assert_close(frame[0], case.arrays['img_f0'], 1e-5, 'img_f0')
