"""Whole runs in the scopes of mmdetection and mmsegmentation, with our parts."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings
from torch import nn

from data_folders import SIZE, write_image, write_png
from end_to_end_runs import IN_PROCESS, small_config, train_recorded
from engine_toys import differences, load
from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.datasets.processing.shapes_export import write_shapes

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmsegmentation is not installed')
ensure_operators()

pytestmark = pytest.mark.filterwarnings('ignore')  # of the other packages


@MODELS.register_module(force=True)
class ToyBackbone(nn.Module):
    """One convolution of stride 2, with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        """Compute one map of features."""
        return (self.layers(images),)


class NanHook(Hook):
    """Makes the loss of the first iteration NaN."""

    def before_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        """Set the weight of the loss."""
        model: Any = runner.model
        weight = math.nan if runner.iter == 0 else 1.0
        model.decode_head.loss_decode.weights = (20.0, weight)


def segmentation_run(
    root: Path, work_dir: Path, *, epochs: int, resume: bool
) -> Config:
    """A model of mmsegmentation with our hooks, loop, optimizer wrapper and loss."""
    data = {
        'type': 'BaseSegDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'labels'},
        'metainfo': {'classes': ('ground', 'disk'), 'palette': [[0] * 3, [9] * 3]},
        'img_suffix': '.png',
    }
    read = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]
    flip = {'type': 'RandomFlip', 'prob': 0.5}  # draws from NumPy's global generator
    pack = {'type': 'PackSegInputs'}
    loader = {'batch_size': 2, 'num_workers': 0}
    val = {
        **loader,
        'dataset': {**data, 'pipeline': [*read, pack]},
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
    }
    return Config(
        {
            'default_scope': 'mmseg',
            'custom_imports': {'imports': ['projects.sam2.bridges.mmseg']},
            'work_dir': str(work_dir),
            'experiment_name': f'{work_dir.name}_{epochs}_{resume}',
            'model': {
                'type': 'EncoderDecoder',
                'data_preprocessor': {'type': 'SegDataPreProcessor', 'size': SIZE},
                'backbone': {'type': 'ToyBackbone'},
                'decode_head': {
                    'type': 'FCNHead',
                    'in_channels': 8,
                    'channels': 8,
                    'num_convs': 1,
                    'dropout_ratio': 0.5,
                    'num_classes': 2,
                    'loss_decode': {'type': 'SAM2SegLoss'},
                },
                'test_cfg': {'mode': 'whole'},
            },
            'train_dataloader': {
                **loader,
                'dataset': {**data, 'pipeline': [*read, flip, pack]},
                'sampler': {'type': 'DefaultSampler', 'shuffle': True},
            },
            'val_dataloader': val,
            'val_evaluator': {'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
            'val_cfg': {'type': 'ValLoop'},
            'train_cfg': {'type': 'ClipTrainLoop', 'max_epochs': epochs},
            'optim_wrapper': {
                'type': 'SAM2BFloat16OptimWrapper',
                'optimizer': {'type': 'AdamW', 'lr': 1e-2},
                'clip_grad': {'max_norm': 1.0},
            },
            'default_hooks': {
                'runtime_info': {'type': 'SAM2RuntimeInfoHook'},
                'logger': {'type': 'LoggerHook', 'interval': 1},
                'diagnostics': {'type': 'ClipDiagnosticsHook'},
                'random_state': {'type': 'ClipRandomStateHook'},
                'checkpoint_check': {'type': 'SAM2CheckpointCheckHook'},
                'checkpoint': {
                    'type': 'SAM2CheckpointHook',
                    'interval': 1,
                    'save_best': 'mIoU',
                    'rule': 'greater',
                },
                'non_finite': {'type': 'ClipNonFiniteHook'},
                'preemption': {'type': 'ClipPreemptionHook'},
            },
            'custom_hooks': [{'type': 'EMAHook', 'momentum': 0.5}],
            'visualizer': {
                'type': 'SegLocalVisualizer',
                'name': f'{work_dir.name}_{epochs}_{resume}',
                'vis_backends': [{'type': 'LocalVisBackend'}],
            },
            'randomness': {'seed': 1},
            'resume': resume,
        }
    )


def test_model_of_mmsegmentation_resumes_exactly_with_our_hooks(tmp_path: Path) -> None:
    for index in range(4):
        write_image(tmp_path / 'images' / f'{index}.png', index)
        labels = np.zeros(SIZE, np.uint8)
        labels[4 : 14 + index, 8:20] = 1
        write_png(tmp_path / 'labels' / f'{index}.png', labels)
    for name, parts in (('whole', [(3, False)]), ('parts', [(2, False), (3, True)])):
        for epochs, resume in parts:
            cfg = segmentation_run(
                tmp_path, tmp_path / name, epochs=epochs, resume=resume
            )
            import_modules_from_strings(**cfg.custom_imports)
            runner = Runner.from_cfg(cfg)
            runner.register_hook(NanHook())
            runner.train()
        assert list((tmp_path / name).glob('best_mIoU_epoch_*.pth'))
    whole, parts_ = (
        load(tmp_path / name / 'epoch_3.pth') for name in ('whole', 'parts')
    )
    for part in ('state_dict', 'ema_state_dict'):
        assert not differences(whole[part], parts_[part])
    assert all(weight.isfinite().all() for weight in whole['state_dict'].values())
    (record,) = (tmp_path / 'whole' / 'non_finite').iterdir()
    images = json.loads(record.read_text())['images']
    assert len({Path(image).stem for image in images} & set('0123')) == 2
    (log,) = (tmp_path / 'whole').glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert {'gradient_backbone', 'gradient_decode_head'} < logged[1].keys()
    # Not of the keys of the batch, which are two as well: of its images.
    steps = [line for line in logged if 'samples_per_second' in line]
    assert len(steps) == 6


def test_sam2_trains_on_videos_of_mmdetection_in_its_scope(tmp_path: Path) -> None:
    root = tmp_path / 'shapes'
    write_shapes(
        root,
        {'train': 1, 'val': 1},
        num_frames=12,
        side=64,
        seed=0,
        advance=lambda *_: None,
    )
    cfg = small_config(
        tmp_path,
        tmp_path / 'run',
        IN_PROCESS,
        {'default_scope': 'mmdet', 'train_dataloader.batch_size': 1},
    )
    pipeline = cfg.train_dataloader.dataset.pipeline

    def videos(split: str) -> dict[str, Any]:
        return {
            'type': 'projects.sam2.bridges.video_dataset.ClipVideoBridgeDataset',
            'dataset': {
                'type': 'mmdet.YouTubeVISDataset',
                'dataset_version': '2021',
                'data_root': str(root),
                'ann_file': f'instances_{split}.json',
                'data_prefix': {'img_path': 'images'},
                'metainfo': {'classes': ('disk', 'square', 'triangle', 'star')},
            },
        }

    cfg.train_dataloader.dataset = {**videos('train'), 'pipeline': pipeline}
    cfg.val_dataloader.dataset.dataset = videos('val')
    cfg.custom_imports.imports = ['projects.sam2.bridges.mmdet']
    runner, recorder = train_recorded(cfg)
    assert recorder.all_finite
    assert [name for name, _ in recorder.clips[0]] == ['train_00000']
    (result,) = recorder.results
    assert result.video_name == 'val_00000'
    assert result.scores.num_frames > 5
    assert runner.message_hub.get_info('best_score') is not None
