"""Options of ``tools/test.py`` and ``tools/train.py`` that change the config.

Configs of mmdetection and mmsegmentation get what the programs of these packages do
with the same options.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from torch import nn

from .config import EXPORTED_MODEL, OWN_SCOPES, part_name
from .memory_policy import apply_policy

CLIP_HOOK = 'ClipVisualizationHook'
# Hooks of other packages that draw, and the option that names the folder they draw in;
# the pictures of mmsegmentation's go to the folder of the visualizer.
FOREIGN_HOOKS = {
    'DetVisualizationHook': 'test_out_dir',
    'TrackVisualizationHook': 'test_out_dir',
    'SegVisualizationHook': None,
}
# Scopes whose metric that dumps results differs from MMEngine's.
DUMP_METRICS = {'mmdet': 'DumpDetResults'}
RECORDER = 'MaskletRecorder'
COMPILE_HOOK = 'SAM2CompileHook'
PLAIN_BANK = 'MemoryBank'
# Options of a model that change what an exported one predicts, besides the memory bank.
EXPORT_OPTIONS = (
    ('data_preprocessor', 'image_size'),
    ('mask_decoder', 'stability_selection'),
    ('tracker', 'binary_clicked_memories'),
    ('tracker', 'non_overlapping_memories'),
)
PICKLE_SUFFIXES = ('.pkl', '.pickle')
DUMP_SUFFIXES = (*PICKLE_SUFFIXES, '.json')
EVERYTHING = 1_000_000_000  # videos, or frames of a video


def apply_visualization(
    cfg: Config, *, show: bool, show_dir: str | None, wait_time: float
) -> None:
    """Draw all videos or images of a test, into a folder and in windows.

    Raises:
        ValueError: If the config has no hook that draws.
    """
    hook: dict[str, Any] = (cfg.get('default_hooks') or {}).get('visualization') or {}
    name = part_name(hook)
    if name not in {CLIP_HOOK, *FOREIGN_HOOKS}:
        msg = (
            f'--show and --show-dir need the hook that draws: set default_hooks.'
            f"visualization=dict(type='{CLIP_HOOK}'), or one of "
            f'{", ".join(FOREIGN_HOOKS)}'
        )
        raise ValueError(msg)
    hook.update(show=show, wait_time=wait_time)
    if name == CLIP_HOOK:
        if show_dir is not None:
            hook['out_dir'] = show_dir
        _record_everything(cfg)
        return
    hook['draw'] = True
    folder_option = FOREIGN_HOOKS[name]
    if folder_option is None:
        hook['interval'] = 1
    if show_dir is not None:
        # mmdetection joins a relative path to the last one for each batch.
        folder = str(Path(show_dir).absolute())
        if folder_option is None:
            cfg.visualizer['save_dir'] = folder
        else:
            hook[folder_option] = folder


def apply_dump(cfg: Config, out_file: str) -> None:
    """Write scores and masks of all videos of a test to a file.

    Raises:
        OSError: If the folder of the file cannot be written to.
        ValueError: If the file is neither a pickle nor JSON; for the samples of other
            packages, if it is no pickle.
    """
    path = Path(out_file)
    scope = _foreign_scope(cfg)
    suffixes = DUMP_SUFFIXES if scope is None else PICKLE_SUFFIXES
    if path.suffix not in suffixes:
        msg = f'--out {out_file}: give a file that ends in {", ".join(suffixes)}'
        raise ValueError(msg)
    if path.is_dir():
        msg = f'--out {out_file} is a folder; give a file'
        raise IsADirectoryError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)  # fails before the test, not after
    evaluator = cfg.get('test_evaluator') or []
    parts = list(evaluator) if isinstance(evaluator, list | tuple) else [evaluator]
    if scope is not None:
        dump = dict(type=DUMP_METRICS.get(scope, 'DumpResults'), out_file_path=out_file)
        cfg.test_evaluator = [*parts, dump]
        return
    hook = _visualization_hook(cfg)
    if hook is not None and 'out_dir' not in hook and not hook.get('show'):
        # Everything is recorded, but no more is drawn than without --out.
        num_drawn = [part.get('max_videos', 4) for part in _recorders(cfg)]
        hook.setdefault('max_videos', max(num_drawn, default=0))
    _record_everything(cfg)
    cfg.test_evaluator = [*parts, dict(type='ClipDumpResults', out_file=out_file)]


def apply_tta(cfg: Config) -> None:
    """Wrap the model in the config's ``tta_model``; by default, mirror the frames.

    The models of other packages also need its ``tta_pipeline``, which makes the views
    of an image.

    Raises:
        ValueError: If ``tta_model`` is not the config of a model, or one of the two is
            missing.
    """
    is_foreign = _foreign_scope(cfg) is not None
    wrapper = cfg.get('tta_model') or ({} if is_foreign else {'type': 'SAM2TTAModel'})
    if not isinstance(wrapper, dict):
        msg = f"tta_model is {wrapper!r}; give dict(type='SAM2TTAModel')"
        raise ValueError(msg)
    if is_foreign:
        if not wrapper or not cfg.get('tta_pipeline'):
            msg = (
                '--tta needs tta_model and tta_pipeline in the config; see '
                'mmdet::rtmdet/rtmdet_tta.py'
            )
            raise ValueError(msg)
        dataset = cfg.test_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**wrapper, module=cfg.model)


def use_fast_settings(model: nn.Module) -> None:
    """Let a SAM 2, or the one in a model, predict faster on a CPU.

    Raises:
        ValueError: If there is none.
    """
    # By name, since the engine knows no model.
    settings = [getattr(part, 'use_fast_settings', None) for part in model.modules()]
    if not any(settings):
        msg = (
            f'--fast is for a SAM 2, and {type(model).__name__} has none; leave it out'
        )
        raise ValueError(msg)
    for use in filter(None, settings):
        use()


def apply_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate by the clips per optimizer step.

    MMEngine divides processes times batch size by ``auto_scale_lr.base_batch_size``; it
    leaves out accumulated gradients, which are counted here.

    Raises:
        ValueError: If the config does not say for how many clips its learning rate is.
    """
    settings = cfg.get('auto_scale_lr')
    base = settings.get('base_batch_size') if isinstance(settings, dict) else None
    if not isinstance(base, int | float) or not 0 < base < math.inf:
        msg = (
            '--auto-scale-lr needs the number of clips per step that the learning rate '
            'is meant for: set auto_scale_lr=dict(enable=False, base_batch_size=8)'
        )
        raise ValueError(msg)
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    if not isinstance(accumulated, int) or accumulated < 1:
        msg = (
            f'optim_wrapper.accumulative_counts is {accumulated!r}; give a whole '
            f'number of at least 1'
        )
        raise ValueError(msg)
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=base / accumulated)


def apply_compile(cfg: Config) -> None:
    """Compile the model in training, as :class:`SAM2CompileHook` does by default.

    A hook of the config stays as it is.
    """
    hooks = list(cfg.get('custom_hooks') or ())
    if COMPILE_HOOK not in map(part_name, hooks):
        cfg.custom_hooks = [*hooks, ConfigDict(type=COMPILE_HOOK)]


def apply_export(cfg: Config, folder: str, policy: str | None = None) -> None:
    """Evaluate an exported model in place of the config's.

    Args:
        folder: Folder of the export. It must have been exported with the image size
            and the choice of masks of this config. The options of the memory bank are
            the config's, but a plain ``MemoryBank`` leaves the policy of the export.
        policy: As for :func:`apply_policy`; None leaves that of config or export.
    """
    if policy is not None:
        apply_policy(cfg.model, policy)
    model = cfg.model
    options = {
        f'{part}.{name}': model[part][name]
        for part, name in EXPORT_OPTIONS
        if name in (model.get(part) or {})
    }
    bank = dict(model.tracker.memory_bank)
    if policy is None and part_name(bank) == PLAIN_BANK:
        del bank['type']
    options |= {f'tracker.memory_bank.{name}': value for name, value in bank.items()}
    cfg.model = ConfigDict(
        type=EXPORTED_MODEL,
        folder=folder,
        val_prompt_simulator=model.get('val_prompt_simulator')
        or model.prompt_simulator,
        accumulators=model.get('accumulators') or (),
        options=options,
    )
    cfg.load_from = None


def _foreign_scope(cfg: Config) -> str | None:
    """Scope of a config whose model gives samples of another package, else None."""
    scope: str = cfg.get('default_scope') or OWN_SCOPES[0]
    has_clips = any(_recorders(cfg)) or _visualization_hook(cfg) is not None
    return None if scope in OWN_SCOPES or has_clips else scope


def _visualization_hook(cfg: Config) -> dict[str, Any] | None:
    """The hook that draws videos of clips, or None."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    return hook if hook and part_name(hook) == CLIP_HOOK else None


def _recorders(cfg: Config) -> Iterator[dict[str, Any]]:
    """The accumulators of the model that record masks."""
    for part in cfg.model.get('accumulators') or ():
        if part_name(part) == RECORDER:
            yield part


def _record_everything(cfg: Config) -> None:
    """Record the masks of all frames of all videos."""
    if not any(_recorders(cfg)):
        accumulators = list(cfg.model.get('accumulators') or ())
        cfg.model.accumulators = [*accumulators, ConfigDict(type=RECORDER)]
    for recorder in _recorders(cfg):
        recorder.update(max_videos=EVERYTHING, max_frames=EVERYTHING)
