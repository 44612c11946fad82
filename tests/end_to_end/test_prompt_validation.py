"""Scores for prompts come out of a training run, the same on one process and two."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from end_to_end_runs import (
    IN_PROCESS,
    log_text,
    logged_metrics,
    run_tool,
    small_config,
    train_recorded,
    write_weights,
)
from projects.sam2.structures import PointLabel
from tool_modules import ROOT

INTERACTIVE = Config.fromfile(ROOT / 'configs/_base_/evaluation/interactive.py')
SHORTER = {'num_frames': 2}


def prompted(cfg: Config, kind: str) -> Config:
    """Validate and test with a simulated user of two rounds."""
    user = {**INTERACTIVE[f'{kind}_user'], **SHORTER}
    del user['_delete_']
    cfg.model.val_prompt_simulator = user
    cfg.model.accumulators = INTERACTIVE.interactive_accumulators
    for name in ('val_evaluator', 'test_evaluator'):
        cfg[name] = INTERACTIVE.interactive_evaluator
    return cfg


def scores_of_one_process(cfg: Config, weights: str) -> dict[str, float]:
    """Test in this process."""
    cfg.load_from = weights
    found: dict[str, float] = Runner.from_cfg(cfg).test()
    return found


def test_two_processes_give_exactly_the_scores_of_one(
    clips: Path, tmp_path: Path
) -> None:
    two = prompted(small_config(clips, tmp_path / 'two', IN_PROCESS), 'online')
    weights = write_weights(two, tmp_path / 'weights.pth')
    assert run_tool('test', two, weights, world_size=2) == [0, 0]
    one = prompted(small_config(clips, tmp_path / 'one', IN_PROCESS), 'online')
    found = scores_of_one_process(one, weights)
    assert set(found) == {'J&F_1_frame', 'J&F_2_frames', 'J&F_mean'}
    assert all(0 < score < 100 for score in found.values())
    assert logged_metrics(tmp_path / 'two') == pytest.approx(found, abs=1e-9)


def test_training_keeps_the_best_score_of_a_simulated_user(
    clips: Path, tmp_path: Path
) -> None:
    best: dict[str, Any] = {'default_hooks.checkpoint.save_best': 'J&F_mean'}
    cfg = prompted(small_config(clips, tmp_path / 'run', IN_PROCESS, best), 'offline')
    _, recorder = train_recorded(cfg)
    assert recorder.all_finite
    assert list((tmp_path / 'run').glob('best_JF_mean_*.pth'))
    assert 'J&F_2_frames' in log_text(tmp_path / 'run')
    drawn = [r.masklets.frames for r in recorder.results if 'masklets' in r]
    clicks = [m for frames in drawn for frame in frames for m in frame.marks]
    assert {mark.label for mark in clicks} >= {PointLabel.POSITIVE}
    assert len(clicks) > len(drawn)
