"""The command line's changes reach the parts of a config that they mean."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from engine_toys import toy_config, toy_config_file, write_checkpoint
from projects.sam2.engine.config import (
    apply_bfloat16,
    apply_data_root,
    apply_image_size,
    apply_work_dir,
    find_size_conflicts,
    load_config,
)
from projects.sam2.engine.resume import apply_resume

ROOT = Path(__file__).resolve().parents[2]


def dataset(root: str) -> dict[str, Any]:
    return {'type': 'ClipDataset', 'data_root': root}


@pytest.fixture
def cfg() -> Config:
    wrapped = {'type': 'RepeatDataset', 'times': 2, 'dataset': dataset('old')}
    return Config(
        {
            'data_root': 'old',
            'train_dataloader': {'dataset': wrapped},
            'val_dataloader': {'dataset': dataset('old')},
            'test_dataloader': {
                'dataset': {
                    'type': 'ConcatDataset',
                    'datasets': [dataset('old'), dataset('elsewhere')],
                }
            },
            'optim_wrapper': {'type': 'OptimWrapper'},
        }
    )


def test_changed_data_root_reaches_every_dataset_with_the_old_one(
    cfg: Config,
) -> None:
    cfg.data_root = 'new'
    apply_data_root(cfg, 'old')
    assert cfg.train_dataloader.dataset.dataset.data_root == 'new'
    assert cfg.val_dataloader.dataset.data_root == 'new'
    roots = [entry.data_root for entry in cfg.test_dataloader.dataset.datasets]
    assert roots == ['new', 'elsewhere']


@pytest.mark.parametrize('old', [None, 'old'])
def test_unchanged_data_root_changes_nothing(cfg: Config, old: str | None) -> None:
    before = cfg.pretty_text
    apply_data_root(cfg, old)
    assert cfg.pretty_text == before


def test_data_root_of_the_options_reaches_the_datasets(
    tmp_path: Path,
) -> None:
    base = tmp_path / 'base.py'
    base.write_text(
        "data_root = 'data/mose'\n"
        'val_dataloader = dict(dataset=dict(data_root=data_root))\n'
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
    )
    path = tmp_path / 'run.py'
    path.write_text("_base_ = './base.py'\n")
    options = {'data_root': '/new', 'val_dataloader.dataset.data_root': '/own'}
    cfg = load_config(str(path), options)
    assert cfg.train_dataloader.dataset.data_root == '/new'
    assert cfg.val_dataloader.dataset.data_root == '/own'
    assert load_config(str(path)).data_root == 'data/mose'


def test_data_root_of_the_options_reaches_the_annotations_of_metrics(
    tmp_path: Path,
) -> None:
    path = tmp_path / 'config.py'
    path.write_text(
        "data_root = 'data/coco/'\n"
        'val_dataloader = dict(dataset=dict(data_root=data_root))\n'
        "val_evaluator = dict(ann_file=data_root + 'annotations/val.json')\n"
        "test_evaluator = [dict(ann_file='data/coco2/test.json', metric='bbox')]\n"
    )
    cfg = load_config(str(path), {'data_root': '/new'})
    assert cfg.val_evaluator.ann_file == '/new/annotations/val.json'
    assert cfg.test_evaluator == [
        {'ann_file': 'data/coco2/test.json', 'metric': 'bbox'}
    ]


@pytest.mark.parametrize(
    ('options', 'expected'), [(None, 'mine'), ({'data_root': 'other'}, 'other')]
)
def test_data_root_of_a_config_replaces_the_one_of_its_base(
    tmp_path: Path, options: dict[str, str] | None, expected: str
) -> None:
    path = tmp_path / 'run.py'
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'davis.py'
    path.write_text(f"_base_ = '{base}'\ndata_root = 'mine'\n")
    cfg = load_config(str(path), options)
    assert cfg.train_dataloader.dataset.data_root == expected
    assert cfg.val_dataloader.dataset.dataset.data_root == expected


def test_data_root_of_a_pure_python_config_replaces_the_one_of_its_base(
    tmp_path: Path,
) -> None:
    (tmp_path / 'base.py').write_text(
        "data_root = 'old'\n"
        "train_dataloader = dict(dataset=dict(type='Any', data_root=data_root))\n"
    )
    path = tmp_path / 'run.py'
    path.write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n'
        '    from .base import *\n'
        "data_root = 'mine'\n"
    )
    assert load_config(str(path)).train_dataloader.dataset.data_root == 'mine'


def test_data_root_of_a_dataset_itself_stays(tmp_path: Path) -> None:
    base = ROOT / 'configs' / '_base_' / 'datasets' / 'davis.py'
    path = tmp_path / 'run.py'
    path.write_text(
        f"_base_ = '{base}'\n"
        "train_dataloader = dict(dataset=dict(data_root='own'))\n"
        "val_dataloader = dict(dataset=dict(dataset=dict(data_root='own')))\n"
    )
    option = {'train_dataloader.dataset.data_root': 'given'}
    for options, train in ((None, 'own'), (option, 'given')):
        cfg = load_config(str(path), options)
        assert cfg.train_dataloader.dataset.data_root == train
        assert cfg.val_dataloader.dataset.dataset.data_root == 'own'


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
@pytest.mark.parametrize('way', ['in the file', 'afterwards', 'not at all'])
def test_data_root_reaches_the_datasets_of_a_runner_without_the_tools(
    stage: str, way: str, tmp_path: Path
) -> None:
    toy = toy_config(tmp_path, train_cfg__max_epochs=1)
    toy.update(
        val_cfg={'type': 'ClipValLoop'},
        test_cfg={'type': 'ClipTestLoop'},
        test_dataloader=toy.val_dataloader,
        test_evaluator=toy.val_evaluator,
    )
    for name in ('train', 'val', 'test'):
        loader = toy[f'{name}_dataloader']
        loader.dataset.update(type='engine_toys.ToyRootedClips', data_root='old')
    toy.data_root = 'old'
    toy.dump(tmp_path / 'base.py')
    path = tmp_path / 'run.py'
    own = "data_root = 'new'\n" if way == 'in the file' else ''
    path.write_text(f"_base_ = './base.py'\n{own}")
    cfg = Config.fromfile(path)
    if way == 'afterwards':
        cfg.data_root = 'new'
    runner = Runner.from_cfg(cfg)
    getattr(runner, stage)()
    stages = ('train', 'val') if stage == 'train' else (stage,)
    loops = [getattr(runner, f'{name}_loop') for name in stages]
    expected = 'old' if way == 'not at all' else 'new'
    assert {loop.dataloader.dataset.data_root for loop in loops} == {expected}


def test_data_root_that_reaches_no_dataset_is_refused(cfg: Config) -> None:
    cfg.data_root = 'new'
    with pytest.raises(ValueError, match=r"'new' reaches no.*'elsewhere', 'old'"):
        apply_data_root(cfg, None)


@pytest.mark.parametrize(
    ('own', 'given', 'expected'),
    [
        (None, None, 'work_dirs/tiny'),
        ('own', None, 'own'),
        ('own', 'given', 'given'),
    ],
)
def test_work_dir_is_that_of_the_options_or_the_config_or_the_config_name(
    tmp_path: Path, own: str | None, given: str | None, expected: str
) -> None:
    path = tmp_path / 'tiny.py'
    path.write_text('')
    cfg = Config({'work_dir': own} if own else {}, filename=path)
    apply_work_dir(cfg, given)
    assert cfg.work_dir == expected


@pytest.mark.parametrize(
    ('resume', 'in_config', 'has_checkpoint', 'resumes', 'load_from'),
    [
        (None, False, True, False, 'released.pt'),
        ('auto', False, True, True, 'iter_8.pth'),
        ('auto', False, False, False, 'released.pt'),
        ('some.pth', False, False, True, 'some.pth'),
        (None, True, True, True, 'iter_8.pth'),
        (None, True, False, False, None),
    ],
)
def test_resume_starts_from_the_checkpoint_or_else_from_load_from(
    tmp_path: Path,
    resume: str | None,
    *,
    in_config: bool,
    has_checkpoint: bool,
    resumes: bool,
    load_from: str | None,
) -> None:
    if has_checkpoint:
        write_checkpoint(tmp_path, 8)
    start = {'resume': True} if in_config else {'load_from': 'released.pt'}
    cfg = Config({'work_dir': str(tmp_path), **start})
    notices = apply_resume(cfg, resume)
    assert bool(cfg.get('resume', False)) is resumes
    found = cfg.get('load_from')
    assert (found and Path(found).name) == load_from
    is_searched = resume == 'auto' or in_config
    expected = [] if has_checkpoint or not is_searched else ['starting a new run']
    assert [notice.partition(': ')[2] for notice in notices] == expected


def test_amp_chooses_the_bfloat16_wrapper_and_keeps_its_arguments(cfg: Config) -> None:
    cfg.optim_wrapper.accumulative_counts = 4
    apply_bfloat16(cfg)
    apply_bfloat16(cfg)
    assert cfg.optim_wrapper.type == 'SAM2BFloat16OptimWrapper'
    assert cfg.optim_wrapper.accumulative_counts == 4


def test_amp_refuses_other_optimizer_wrappers(cfg: Config) -> None:
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    with pytest.raises(ValueError, match='AmpOptimWrapper; leave --amp out'):
        apply_bfloat16(cfg)


@pytest.mark.parametrize('size', ['tiny', 'small', 'bplus', 'large'])
def test_mose_recipe_gets_its_data_root_from_one_option(size: str) -> None:
    path = str(ROOT / 'configs' / f'sam2_{size}_mose.py')
    cfg = load_config(path, {'data_root': '/somewhere/mose'})
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        inner = loader.dataset
        while 'dataset' in inner:
            inner = inner.dataset
        assert inner.data_root == '/somewhere/mose'


def test_mose_recipe_holds_the_published_values() -> None:
    cfg = load_config(str(ROOT / 'configs' / 'sam2_bplus_mose.py'))
    assert cfg.load_from == 'checkpoints/sam2.1_hiera_base_plus.pt'
    optimizer, rates = cfg.optim_wrapper.optimizer, cfg.optim_wrapper.paramwise_cfg
    assert optimizer == {'type': 'AdamW', 'lr': 5e-6, 'weight_decay': 0.1}
    assert optimizer.lr * rates.backbone_lr_mult == pytest.approx(3e-6)
    assert rates.layer_decay == 0.9
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
    (scheduler,) = cfg.param_scheduler
    assert (scheduler.type, scheduler.eta_min_ratio) == ('CosineAnnealingLR', 0.1)
    assert cfg.train_cfg.max_epochs == 40
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.dataset.times) == (1, 2)
    sampling = loader.dataset.dataset.pipeline[0]
    assert (sampling.num_frames, sampling.max_num_objects) == (8, 3)
    assert cfg.model.data_preprocessor.image_size == cfg.clip_size == (1024, 1024)
    prompts = cfg.model.prompt_simulator
    assert (prompts.point_probability, prompts.box_probability) == (0.5, 0.5)
    assert prompts.num_conditioning_frames == prompts.num_correction_frames == (1, 2)
    assert prompts.num_corrections == 7


def test_mose_recipes_differ_only_in_backbone_and_weights() -> None:
    texts = {}
    for size in ('tiny', 'small', 'bplus', 'large'):
        cfg = load_config(str(ROOT / 'configs' / f'sam2_{size}_mose.py'))
        weights = cfg._cfg_dict.pop('load_from')
        assert weights.startswith('checkpoints/sam2.1_hiera_')
        encoder = cfg.model.image_encoder
        encoder.backbone = None
        encoder.neck.pop('in_channels')
        texts[size] = Config(cfg._cfg_dict).pretty_text
    assert len(set(texts.values())) == 1


def sized(model: tuple[int, int], *clips: tuple[int, int]) -> Config:
    """A model and a pipeline of these sizes; the variable says 128."""
    pipeline = [{'type': 'ClipResize', 'size': size} for size in clips]
    pipeline.append({'type': 'ClipFit', 'size': (96, 96)})
    preprocessor = {'type': 'ClipDataPreprocessor', 'image_size': model}
    return Config(
        {
            'image_size': (128, 128),
            'clip_size': (128, 128),
            'model': {'data_preprocessor': preprocessor},
            'train_dataloader': {'dataset': {'dataset': {'pipeline': pipeline}}},
        }
    )


@pytest.mark.parametrize(
    ('given', 'new'), [(64, (64, 64)), ([64, 32], (64, 32)), ((64, 32), (64, 32))]
)
def test_changed_image_size_reaches_the_model_and_clips_of_the_old_size(
    given: object, new: tuple[int, int]
) -> None:
    cfg = sized((128, 128), (128, 128), (512, 512))
    cfg.image_size = given
    apply_image_size(cfg, (128, 128))
    sizes = [step.size for step in cfg.train_dataloader.dataset.dataset.pipeline]
    assert sizes == [new, (512, 512), new]  # the one before was set on purpose
    assert cfg.model.data_preprocessor.image_size == cfg.image_size == new
    assert cfg.clip_size == new


@pytest.mark.parametrize('given', ['banana', (1, 2, 3), (64, -64), (64.0, 64.0), True])
def test_invalid_image_size_is_refused(given: object) -> None:
    cfg = sized((128, 128), (128, 128))
    cfg.image_size = given
    with pytest.raises(ValueError, match=r'image_size is .*; give height and width'):
        apply_image_size(cfg, (128, 128))


def test_changed_image_size_without_effect_is_refused() -> None:
    cfg = Config({'image_size': (32, 32), 'model': {'type': 'other'}})
    with pytest.raises(ValueError, match=r'reaches neither the model.*ClipResize'):
        apply_image_size(cfg, (128, 128))


@pytest.mark.parametrize('size', [128, 64])
def test_unused_image_size_of_a_config_causes_a_warning(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = sized((size, size), (size, size))
    before = cfg.pretty_text
    logger = MMLogger.get_instance('image_size', logger_name='image_size')
    logger.addHandler(caplog.handler)
    apply_image_size(cfg, (128, 128))
    logger.removeHandler(caplog.handler)
    assert cfg.pretty_text == before
    messages = [record.getMessage() for record in caplog.records]
    assert ['is not used' in each for each in messages] == [True] * (size == 64)


@pytest.mark.parametrize('options', [None, {'train_cfg.max_epochs': 3}])
def test_config_overrides_the_image_size_of_its_bases(
    tmp_path: Path, options: dict[str, Any] | None
) -> None:
    base, own = ROOT / 'configs' / 'sam2_mini_labelme.py', tmp_path / 'own.py'
    own.write_text(f"_base_ = '{base}'\nimage_size = (256, 192)\n")
    cfg = load_config(str(own), options)
    (size,) = [
        step.size
        for step in cfg.train_dataloader.dataset.pipeline
        if step.type == 'ClipResize'
    ]
    assert size == cfg.model.data_preprocessor.image_size == (256, 192)
    assert cfg.clip_size == (256, 192)


def test_image_size_of_the_command_line_reaches_the_whole_recipe() -> None:
    path = str(ROOT / 'configs' / 'sam2_bplus_sa1b_sav.py')
    cfg = load_config(path, {'image_size': (256, 256)})
    assert cfg.model.data_preprocessor.image_size == (256, 256)
    for part in cfg.train_dataloader.dataset.datasets:
        sizes = [step.size for step in part.pipeline if step.type == 'ClipResize']
        assert sizes == [(256, 256)]


@pytest.mark.parametrize('way', ['command line', 'own file'])
@pytest.mark.parametrize('size', [(128, 128), (96, 64)])
@pytest.mark.parametrize('dataset', ['mose', 'label_images', 'davis'])
def test_image_size_reaches_model_and_clips_that_differ_in_the_file(
    tmp_path: Path, way: str, size: tuple[int, int], dataset: str
) -> None:
    base = ROOT / 'configs' / '_base_'
    bases = [
        str(base / f'{n}.py') for n in ('models/sam2_1_mini', f'datasets/{dataset}')
    ]
    path = tmp_path / 'run.py'
    path.write_text(f'_base_ = {bases}\n')
    (conflict,) = find_size_conflicts(load_config(str(path)), 'train')
    at = 'train_dataloader.dataset' + '.dataset' * (dataset == 'mose')
    assert conflict == (
        f'{at}.pipeline makes clips of 1024 x 1024, but the model works at 128 x 128; '
        f'give its ClipResize that size, or set both with --cfg-options '
        f'image_size=128,128'
    )
    if way == 'own file':
        path.write_text(f'_base_ = {bases}\nimage_size = {size}\n')
    options = {'image_size': size} if way == 'command line' else None
    cfg = load_config(str(path), options)
    assert not find_size_conflicts(cfg, 'train')
    assert cfg.model.data_preprocessor.image_size == cfg.clip_size == size


@pytest.mark.parametrize('name', ['sam2_mini_synthetic', 'sam2_mini_labelme'])
def test_size_of_a_part_from_the_options_stays_in_the_dumped_config(
    tmp_path: Path, name: str
) -> None:
    options = {'model.data_preprocessor.image_size': (64, 64)}
    own, written = tmp_path / 'own.py', tmp_path / 'written.py'
    own.write_text(
        f"_base_ = '{ROOT / 'configs' / name}.py'\nimage_size = (128, 128)\n"
    )
    cfg = load_config(str(own), options)
    assert cfg.model.data_preprocessor.image_size == (64, 64)
    cfg.dump(written)
    assert load_config(str(written)).to_dict() == cfg.to_dict()


def test_pipeline_with_several_sizes_is_not_a_conflict() -> None:
    cfg = sized((64, 64), (128, 128))
    assert len(find_size_conflicts(cfg, 'train')) == 1
    pipeline = cfg.train_dataloader.dataset.dataset.pipeline
    pipeline.append({'type': 'ClipRandomResize', 'sizes': [(64, 64), (32, 32)]})
    assert not find_size_conflicts(cfg, 'train')
    pipeline.append({'type': 'ClipFit', 'size': (64, 64)})
    assert not find_size_conflicts(cfg, 'train')


@pytest.mark.parametrize(
    ('key', 'value', 'remedy'),
    [
        ('data_rooot', 'x', 'did you mean data_root'),
        ('modle.type', 'x', 'did you mean model'),
        ('load_form', 'x', 'did you mean load_from'),
        ('train_dataloder.batch_size', 1, 'did you mean train_dataloader'),
        ('optim_wrapper.optimizer.lr', 'x', r'optimizer\.lr=0\.0008'),
        ('train_dataloader.dataset.datasets.0.times', 'x', 'times=16'),
    ],
)
def test_misspelt_option_is_refused(key: str, value: object, remedy: str) -> None:
    with pytest.raises(ValueError, match=f'^--cfg-options {key}.*{remedy}'):
        load_config(str(ROOT / 'configs/sam2_mini_davis.py'), {key: value})


def test_new_entries_and_settings_of_the_runner_are_accepted() -> None:
    options = {
        'my_note': 'x',
        'experiment_name': 'x',
        'auto_scale_lr.base_batch_size': 8,
        'train_dataloader.drop_last': True,
        'optim_wrapper.optimizer.lr': 1e-4,
    }
    cfg = load_config(str(ROOT / 'configs/sam2_mini_davis.py'), options)
    assert cfg.my_note == cfg.experiment_name == 'x'


def test_change_of_a_copied_variable_causes_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    MMLogger.get_instance('variables')
    options = {'train_pipeline.0.num_frames': 2}
    load_config(str(ROOT / 'configs/sam2_mini_davis.py'), options)
    assert 'train_pipeline.0.num_frames changes a variable' in capsys.readouterr().out


def test_loader_without_workers_needs_no_other_option(tmp_path: Path) -> None:
    workers = {'num_workers': 2, 'persistent_workers': True, 'prefetch_factor': 4}
    path = toy_config_file(
        tmp_path / 'toy.py',
        **{f'train_dataloader__{key}': value for key, value in workers.items()},
        **{f'val_dataloader__{key}': value for key, value in workers.items()},
    )
    cfg = load_config(path, {'train_dataloader.num_workers': 0})
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    assert len(list(loader)) == 6
    assert {key: cfg.val_dataloader[key] for key in workers} == workers
