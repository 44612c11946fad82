"""What the command line does to a config, as functions of the config."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

BFLOAT16_WRAPPER = 'SAM2BFloat16OptimWrapper'
DEFAULT_WORK_DIRS = 'work_dirs'

__all__ = [
    'apply_bfloat16',
    'apply_data_root',
    'apply_resume',
    'apply_work_dir',
    'load_config',
]


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config and apply ``--cfg-options``.

    Args:
        path: Of the config file.
        options: Names with dots, and values.

    Returns:
        The config, a changed ``data_root`` carried to its datasets.
    """
    cfg = Config.fromfile(path)
    old_root = cfg.get('data_root')
    if options:
        cfg.merge_from_dict(options)
    apply_data_root(cfg, old_root)
    return cfg


def apply_data_root(cfg: Config, old: str | None) -> None:
    """Carry a changed top-level ``data_root`` to all that held the old one.

    MMEngine merges ``--cfg-options`` when the bases have long been evaluated: without
    this, the datasets keep the old value. A ``data_root`` that differs from the old
    top-level one was set on purpose and stays.

    Args:
        cfg: Changed in place.
        old: Top-level ``data_root`` before the options were merged.
    """
    new = cfg.get('data_root')
    if old is None or new == old:
        return
    for value in cfg.values():
        _replace_data_root(value, old, new)


def apply_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Choose where a run writes.

    Args:
        cfg: Changed in place; its own ``work_dir`` yields to the argument.
        work_dir: Of the command line; None takes the config's, or else
            ``work_dirs/<name of the config file>``.
    """
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path(DEFAULT_WORK_DIRS) / Path(cfg.filename).stem)


def apply_resume(cfg: Config, resume: str | None) -> bool:
    """Say where a run starts from.

    Args:
        cfg: Changed in place; its ``work_dir`` must be set.
        resume: None to start anew, ``'auto'`` for the last checkpoint of the work
            directory, else the checkpoint's path. With ``'auto'`` and no checkpoint
            there, a run starts as its config says, ``load_from`` included: the
            same command line starts a job and restarts it.

    Returns:
        Whether the run resumes.
    """
    if resume is None:
        return bool(cfg.get('resume', False))
    cfg.resume = resume != 'auto' or (Path(cfg.work_dir) / 'last_checkpoint').is_file()
    if cfg.resume:
        cfg.load_from = None if resume == 'auto' else resume
    return bool(cfg.resume)


def apply_bfloat16(cfg: Config) -> None:
    """Let the forward pass of training run in bfloat16, on any device.

    Args:
        cfg: Changed in place.

    Raises:
        ValueError: If the config has an optimizer wrapper that is not MMEngine's
            plain one.
    """
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in {'OptimWrapper', BFLOAT16_WRAPPER}:
        msg = (
            f'--amp replaces OptimWrapper by {BFLOAT16_WRAPPER}, but the config has '
            f'{kind}; leave --amp out, or change optim_wrapper.type'
        )
        raise ValueError(msg)
    cfg.optim_wrapper.type = BFLOAT16_WRAPPER


def _replace_data_root(node: object, old: str, new: str) -> None:
    """Replace the value of every ``data_root`` below a node."""
    if isinstance(node, list | tuple):
        for entry in node:
            _replace_data_root(entry, old, new)
    if isinstance(node, dict):
        if node.get('data_root') == old:
            node['data_root'] = new
        for entry in node.values():
            _replace_data_root(entry, old, new)
