"""Several clips on each process, with uneven numbers of objects, under DDP."""

from pathlib import Path
from typing import Any

import torch

from end_to_end_runs import (
    IN_PROCESS,
    ONLY_TRAINING,
    objects_of_clips,
    run_tool,
    small_config,
)
from engine_toys import load

STEPPING: dict[str, Any] = {
    'custom_hooks': [],
    'optim_wrapper.optimizer': {'_delete_': True, 'type': 'SGD', 'lr': 0.05},
    'train_dataloader.dataset.pipeline.0.max_num_objects': 4,
    'model.prompt_simulator.point_probability': 0.5,
}


def test_two_steps_give_the_weights_of_one_process_with_all_clips(
    clips: Path, tmp_path: Path
) -> None:
    found = {}
    for name, world_size, options in (
        ('one', 1, ONLY_TRAINING),
        ('ddp', 2, ONLY_TRAINING),
        # Validates as well: three videos, so that one process has fewer.
        ('validated', 2, {}),
    ):
        batch = {'train_dataloader.batch_size': 4 // world_size}
        run = tmp_path / name
        cfg = small_config(clips, run, IN_PROCESS, options, STEPPING, batch)
        if name == 'one':
            first, second = objects_of_clips(cfg)
            assert len(first) == 4
            assert len(second) == 2
            assert sum(first[::2]) != sum(first[1::2])
        assert run_tool('train', cfg, world_size=world_size) == [0] * world_size
        found[name] = load(run / 'epoch_1.pth')['state_dict']
    assert list((tmp_path / 'validated').glob('best_JF_epoch_1.pth'))
    moved = 0.0
    for key, value in found['one'].items():
        for other in ('ddp', 'validated'):
            assert torch.allclose(found[other][key], value, rtol=1e-5, atol=1e-5), key
        moved += float((value - value.mean()).abs().sum())
    assert moved
