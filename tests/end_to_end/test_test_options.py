"""``tools/test.py --out --show-dir --tta`` in two processes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from end_to_end_runs import (
    IN_PROCESS,
    logged_metrics,
    run_tool,
    small_config,
    write_weights,
)
from projects.sam2.datasets.io.images import read_labels
from projects.sam2.ops import decode_masks


def _mean_j(videos: list[dict[str, Any]], folder: Path) -> float:
    """Mean J of dumped masks over the objects of the first frame, as DAVIS scores."""
    means = []
    for video in videos:
        inner = video['frames'][1:-1]
        for object_id in video['frames'][0]['object_ids']:
            values = []
            for frame in inner:
                path = folder / video['video_name'] / f'{frame["frame_name"]}.png'
                truth = read_labels(path) == object_id
                row = frame['object_ids'].index(object_id)
                mask = decode_masks(frame['segmentations'])[row]
                union = (mask | truth).sum()
                values.append((mask & truth).sum() / union if union else 1.0)
            means.append(np.mean(values))
    return float(100 * np.mean(means))


def test_dumped_masks_have_the_reported_score(clips: Path, tmp_path: Path) -> None:
    cfg = small_config(clips, tmp_path / 'run', IN_PROCESS)
    cfg.default_hooks.visualization = dict(type='ClipVisualizationHook')
    weights = write_weights(cfg, tmp_path / 'weights.pth')
    out, drawn = tmp_path / 'results.json', tmp_path / 'drawn'
    words = [weights, '--out', str(out), '--show-dir', str(drawn), '--tta']
    assert run_tool('test', cfg, *words, world_size=2) == [0, 0]
    videos = json.loads(out.read_text())
    names = (clips / 'ImageSets' / 'val.txt').read_text().split()
    assert [video['video_name'] for video in videos] == names
    assert len(list(drawn.glob('*.png'))) == len(list(drawn.glob('*.mp4'))) == 3
    reported = logged_metrics(tmp_path / 'run')['J']
    assert _mean_j(videos, clips / 'Annotations') == pytest.approx(reported, abs=1e-6)
