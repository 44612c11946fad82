"""Options of tools/test.py and tools/train.py change the config as in MM."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from projects.sam2.engine.config import load_config
from projects.sam2.engine.run_options import (
    apply_auto_scale_lr,
    apply_compile,
    apply_dump,
    apply_tta,
    apply_visualization,
)
from tool_modules import ROOT


@pytest.fixture
def cfg() -> Config:
    return load_config(str(ROOT / 'configs' / 'sam2_mini_synthetic.py'))


def _recorder(cfg: Config) -> dict[str, Any]:
    (recorder,) = (
        part for part in cfg.model.accumulators if part.type == 'MaskletRecorder'
    )
    return dict(recorder)


def test_show_dir_draws_all_videos_into_it(cfg: Config) -> None:
    apply_visualization(cfg, show=False, show_dir='drawn', wait_time=1.0)
    hook = cfg.default_hooks.visualization
    assert (hook.out_dir, hook.show, hook.wait_time) == ('drawn', False, 1.0)
    assert _recorder(cfg)['max_videos'] >= 10**6
    cfg.default_hooks.visualization = None
    with pytest.raises(ValueError, match='need the hook that draws'):
        apply_visualization(cfg, show=True, show_dir=None, wait_time=1.0)


FOREIGN_CONFIG = """
default_scope = {scope!r}
default_hooks = dict(visualization=dict(type={hook!r}))
visualizer = dict(type='Visualizer')
model = dict(type='Detector')
test_dataloader = dict(dataset=dict(type='A', dataset=dict(type='B', pipeline=[])))
test_evaluator = dict(type='Metric')
"""


@pytest.mark.parametrize(
    ('scope', 'hook', 'dump'),
    [
        ('mmdet', 'DetVisualizationHook', 'DumpDetResults'),
        ('mmdet', 'mmdet.TrackVisualizationHook', 'DumpDetResults'),
        ('mmseg', 'SegVisualizationHook', 'DumpResults'),
    ],
)
def test_options_do_what_those_of_other_packages_do(
    scope: str, hook: str, dump: str, tmp_path: Path
) -> None:
    cfg = Config.fromstring(FOREIGN_CONFIG.format(scope=scope, hook=hook), '.py')
    apply_visualization(cfg, show=False, show_dir='drawn', wait_time=1.0)
    drawing = cfg.default_hooks.visualization
    folder = cfg.visualizer.save_dir if scope == 'mmseg' else drawing.test_out_dir
    assert drawing.draw
    assert folder == str(Path('drawn').absolute())
    apply_dump(cfg, str(tmp_path / 'results.pkl'))
    assert [metric.type for metric in cfg.test_evaluator] == ['Metric', dump]
    with pytest.raises(ValueError, match=r'ends in \.pkl, \.pickle$'):
        apply_dump(cfg, 'results.json')
    with pytest.raises(ValueError, match='needs tta_model and tta_pipeline'):
        apply_tta(cfg)
    cfg.update(tta_model={'type': 'TTA'}, tta_pipeline=[{'type': 'Flip'}])
    apply_tta(cfg)
    assert cfg.test_dataloader.dataset.dataset.pipeline == cfg.tta_pipeline
    assert (cfg.model.type, cfg.model.module.type) == ('TTA', 'Detector')


def test_dump_records_all_masks_and_draws_no_more_videos(
    cfg: Config, tmp_path: Path
) -> None:
    drawn = _recorder(cfg)['max_videos']
    out_file = tmp_path / 'new' / 'results.pkl'
    apply_dump(cfg, str(out_file))
    assert cfg.default_hooks.visualization.max_videos == drawn
    assert _recorder(cfg)['max_frames'] >= 10**6
    assert [metric.type for metric in cfg.test_evaluator] == [
        'JFMetric',
        'ClipDumpResults',
    ]
    assert out_file.parent.is_dir()


def test_dump_adds_a_recorder_where_there_is_none(cfg: Config) -> None:
    cfg.model.accumulators = [dict(type='JFAccumulator')]
    apply_dump(cfg, 'results.json')
    assert _recorder(cfg)['max_videos'] >= 10**6


@pytest.mark.parametrize(
    ('name', 'message'), [('results.txt', 'ends in'), ('folder.pkl', 'is a folder')]
)
def test_file_that_cannot_be_written_is_refused_before_the_test(
    cfg: Config, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / 'folder.pkl').mkdir()
    with pytest.raises((ValueError, OSError), match=message):
        apply_dump(cfg, str(tmp_path / name))


def test_tta_wraps_the_model_as_the_config_says(cfg: Config) -> None:
    cfg['tta_model'] = dict(type='SAM2TTAModel', scales=(1.0, 1.25))
    apply_tta(cfg)
    model: Any = MODELS.build(cfg.model)
    assert (model.flips, model.scales) == ((False, True), (1.0, 1.25))
    assert model.module.data_preprocessor.image_size == (128, 128)


def test_learning_rate_is_scaled_by_the_clips_of_an_optimizer_step(cfg: Config) -> None:
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=8)
    cfg.optim_wrapper.accumulative_counts = 4
    apply_auto_scale_lr(cfg)
    # MMEngine divides clips per iteration by this number; four iterations are a step.
    assert cfg.auto_scale_lr == {'enable': True, 'base_batch_size': 2.0}


@pytest.mark.parametrize(
    'settings', [None, 1, {}, {'base_batch_size': 0}, {'base_batch_size': float('nan')}]
)
def test_auto_scale_lr_needs_a_base_batch_size(cfg: Config, settings: object) -> None:
    cfg.auto_scale_lr = settings
    with pytest.raises(ValueError, match='auto_scale_lr=dict'):
        apply_auto_scale_lr(cfg)


@pytest.mark.parametrize('counts', [0, -1, 'x', 1.5])
def test_accumulated_gradients_are_counted_in_whole_numbers(
    cfg: Config, counts: object
) -> None:
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=8)
    cfg.optim_wrapper.accumulative_counts = counts
    with pytest.raises(ValueError, match='accumulative_counts is'):
        apply_auto_scale_lr(cfg)


def test_wrapper_that_is_no_config_is_refused(cfg: Config) -> None:
    cfg['tta_model'] = 5
    with pytest.raises(ValueError, match='tta_model is 5'):
        apply_tta(cfg)


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'configs').glob('*.py')), ids=lambda path: path.stem
)
def test_each_config_names_its_base_batch_size(path: Path) -> None:
    cfg = Config.fromfile(path)
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert cfg.auto_scale_lr.enable is False


def test_compile_adds_the_hook_and_keeps_that_of_the_config() -> None:
    other = {'type': 'EMAHook'}
    cfg = Config({'custom_hooks': [other]})
    apply_compile(cfg)
    assert cfg.custom_hooks == [other, {'type': 'SAM2CompileHook'}]
    cfg = Config({'custom_hooks': [{'type': 'mmsam2.SAM2CompileHook', 'warm_up': 4}]})
    apply_compile(cfg)
    assert cfg.custom_hooks == [{'type': 'mmsam2.SAM2CompileHook', 'warm_up': 4}]
