"""The examples in the docstrings of the API run, with a small model."""

import doctest
from pathlib import Path
from typing import Any

import pytest

from inference_cases import present_model, small_inferencer, write_clip
from projects.sam2 import apis
from toy_videos import toy_frames

CLASSES = [
    name
    for name in apis.__all__
    if isinstance(getattr(apis, name), type)
    and name not in {'SAM2Stream', 'SAM2VideoPredictor'}
]


@pytest.mark.parametrize('name', CLASSES)
def test_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / 'clip.mp4')
    inferencer = small_inferencer(tmp_path)
    model = present_model()
    # What would load a checkpoint returns the small model.
    names: dict[str, Any] = vars(apis) | {
        'SAM2Inferencer': lambda **_: inferencer,
        'build_sam2': lambda *_, **__: model,
        'build_sam2_video_predictor': lambda *_, **__: apis.SAM2VideoPredictor(model),
        'box': apis.ObjectPrompt(box=(10, 5, 60, 40)),
        'frames': toy_frames(4),
        'image': toy_frames(1)[0],
        'inferencer': inferencer,
        'model': model,
    }
    example = doctest.DocTestParser().get_doctest(
        getattr(apis, name).__doc__ or '', names, name, None, None
    )
    assert example.examples
    report: list[str] = []
    doctest.DocTestRunner().run(example, out=report.append)
    assert not report, ''.join(report)
