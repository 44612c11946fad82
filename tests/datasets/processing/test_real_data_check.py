"""Real clips pass the check."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from projects.sam2.datasets.processing.checking import SourceSummary, check_dataset


def check(config: dict[str, Any], sample: int) -> SourceSummary:
    (found,) = check_dataset(
        config,
        sample=sample,
        num_workers=1,
        time_limit=120,
        advance=lambda done, total: None,
    )
    return found


@pytest.mark.parametrize(
    ('kind', 'folder', 'settings', 'num_clips'),
    [
        ('ClipPaletteDataset', 'mini_vos', {}, 4),
        ('ClipPaletteDataset', 'davis16_240p', {'void_label': None}, 32),
        ('ClipSA1BDataset', 'sa1b_style_cells', {}, 11),
    ],
)
def test_real_clips_have_no_problem(
    data_dir: Path, kind: str, folder: str, settings: dict[str, Any], num_clips: int
) -> None:
    config = {'type': kind, 'data_root': str(data_dir / folder), **settings}
    found = check(config, sample=2)
    assert not found.problems
    assert (found.num_clips, found.num_decoded) == (num_clips, 2)
    assert found.num_objects >= 2


@pytest.mark.parametrize('kind', ['manual', 'auto'])
def test_genuine_sav_annotations_have_no_problem(
    data_dir: Path, tmp_path: Path, kind: str
) -> None:
    source = data_dir / 'sam2_sav_example'
    content = json.loads((source / f'sav_000001_{kind}.json').read_text())
    size = (int(content['video_height']), int(content['video_width']))
    frames = tmp_path / 'sav_000001'
    frames.mkdir()
    # The video itself is not public: its frames are black, and only some are there.
    cv2.imwrite(str(frames / '00000.jpg'), np.zeros((*size, 3), np.uint8))
    for number in range(40, int(content['video_frame_count']), 40):
        os.link(frames / '00000.jpg', frames / f'{number:05d}.jpg')
    config = {
        'type': 'ClipSAVDataset',
        'data_root': str(source),
        'frame_folder': str(tmp_path),
        'kinds': (kind,),
    }
    found = check(config, sample=1)
    assert not found.problems
    assert found.annotated_share == 1
    assert found.num_objects >= 2
