"""SAM 2 on two processes trains and validates like on one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from end_to_end_runs import (
    IN_PROCESS,
    ONLY_TRAINING,
    logged_metrics,
    objects_of_clips,
    run_tool,
    small_config,
    write_weights,
)
from engine_toys import load

NUM_STEPS = 3


def test_gradients_are_those_of_one_process_with_both_clips(
    clips: Path, tmp_path: Path
) -> None:
    def config(name: str, batch_size: int) -> Config:
        recording = {
            '_delete_': True,
            'type': 'engine_toys.ToyRecordingWrapper',
            # All steps start from the same weights.
            'optimizer': {'type': 'SGD', 'lr': 0.0},
            'path': str(tmp_path / f'{name}.pth'),
        }
        options = {
            'optim_wrapper': recording,
            'train_dataloader.batch_size': batch_size,
            'train_dataloader.dataset.pipeline.0.max_num_objects': 4,
            'model.prompt_simulator.point_probability': 0.5,
        }
        return small_config(clips, tmp_path / name, IN_PROCESS, ONLY_TRAINING, options)

    alone = config('one', 2)
    assert any(len(set(counts)) == 2 for counts in objects_of_clips(alone))
    assert run_tool('train', alone) == [0]
    assert run_tool('train', config('two', 1), world_size=2) == [0, 0]
    steps = list(
        zip(gradients(tmp_path, 'one'), gradients(tmp_path, 'two'), strict=True)
    )
    assert len(steps) == NUM_STEPS
    for one, two in steps:
        assert [grad is None for grad in one] == [grad is None for grad in two]
        expected, found = flattened(one), flattened(two)
        assert 0 < expected.norm() < torch.inf
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def gradients(folder: Path, name: str) -> list[list[Tensor | None]]:
    """What a run recorded."""
    recorded: list[list[Tensor | None]] = load(folder / f'{name}.pth')
    return recorded


def flattened(step: list[Tensor | None]) -> Tensor:
    """All gradients of a step as one vector."""
    return torch.cat([grad.flatten() for grad in step if grad is not None])


@pytest.fixture
def scored(clips: Path, tmp_path: Path) -> dict[int, dict[str, float]]:
    """Figures of one model, by the number of processes that found them."""
    found = {}
    for world_size in (1, 2):
        work_dir = tmp_path / f'run{world_size}'
        metrics = [{'type': 'JFMetric'}, {'type': 'ClipLossMetric'}]
        cfg = small_config(clips, work_dir, IN_PROCESS, {'test_evaluator': metrics})
        loss: dict[str, Any] = {'type': 'ClipLossAccumulator', 'loss': cfg.model.loss}
        cfg.model.accumulators = [{'type': 'JFAccumulator'}, loss]
        weights = write_weights(cfg, tmp_path / 'weights.pth')
        codes = run_tool('test', cfg, weights, world_size=world_size)
        assert codes == [0] * world_size
        found[world_size] = logged_metrics(work_dir)
    return found


def test_validation_on_two_processes_gives_exactly_the_same_scores(
    scored: dict[int, dict[str, float]],
) -> None:
    assert scored[2] == scored[1]
    terms = {f'val_loss_{term}' for term in ('mask', 'dice', 'iou', 'class')}
    assert set(scored[1]) == {'J&F', 'J', 'F', 'val_loss', *terms}
    assert 0 < scored[1]['J&F'] < 100
    assert 0 < scored[1]['val_loss'] < torch.inf
