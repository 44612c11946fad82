"""A run with a teacher resumes to the very same weights, with all that it trains."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from end_to_end_runs import (
    IN_PROCESS,
    ONLY_TRAINING,
    PARTS_OF_CHECKPOINT,
    SIZE,
    small_config,
    train_recorded,
)
from engine_toys import differences, load
from projects.sam2.apis import load_model_config

PARTS = (*PARTS_OF_CHECKPOINT, 'distillation')


def test_resumed_run_ends_like_an_uninterrupted_one(
    clips: Path, tmp_path: Path
) -> None:
    teacher = load_model_config('_base_/models/sam2_1_mini').model.to_dict()
    teacher['data_preprocessor']['image_size'] = SIZE
    weights = MODELS.build(teacher).state_dict()
    torch.save({'state_dict': weights}, tmp_path / 'teacher.pth')
    projected = {'type': 'SAM2FeatureLoss', 'projection': (64, 64)}
    options: dict[str, Any] = {
        'model.type': 'SAM2Distillation',
        'model.teacher': teacher,
        'model.teacher_checkpoint': str(tmp_path / 'teacher.pth'),
        'model.train_teacher': True,
        'model.feature_losses': [
            {**projected, 'feature': 'image'},
            {**projected, 'feature': 'memory'},
        ],
        'model.tracker.memory_attention.dropout': 0.1,
        'train_cfg.max_epochs': 2,
        'optim_wrapper.type': 'SAM2BFloat16OptimWrapper',
        'custom_hooks': [
            {'type': 'EMAHook', 'momentum': 0.3},
            {'type': 'SAM2LowMemoryHook', 'objects_at_once': 2},
        ],
    }

    def config(name: str, **more: Any) -> Config:
        changes = {**options, **more}
        return small_config(clips, tmp_path / name, IN_PROCESS, ONLY_TRAINING, changes)

    train_recorded(config('whole'))
    middle = str(tmp_path / 'whole' / 'epoch_1.pth')
    train_recorded(config('resumed', load_from=middle, resume=True))
    expected, resumed = (
        load(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'resumed')
    )
    assert {part: differences(expected[part], resumed[part]) for part in PARTS} == {
        part: [] for part in PARTS
    }
    # It is not that nothing happened after the first epoch, nor that it learns nothing.
    assert differences(load(Path(middle))['distillation'], resumed['distillation'])
    assert set(resumed['distillation']) == {'losses', 'teacher'}
