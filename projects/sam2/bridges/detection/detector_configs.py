"""Configs of detectors: finding one by its name, its test pipeline and its classes."""

from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load as load_yaml

from ..mmcv_operators import import_package

SCOPE = 'mmdet::'
PURPOSE = 'A detector'  # in errors of imports


def read_detector_config(name: str | Path) -> Config:
    """Read the config of a detector by its path, or by its name in a package.

    Args:
        name: As for :func:`find_detector_config`; or a name in another package, such as
            ``'mmyolo::…'``.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If it has no model.
    """
    name = str(name)
    if '::' in name and not name.startswith(SCOPE):
        # As the base of a config: get_config would install a missing package.
        cfg = Config.fromstring(f'_base_ = {name!r}', '.py')
    else:
        cfg = Config.fromfile(find_detector_config(name))
    if 'model' not in cfg:
        msg = f'The config {name} of the detector has no `model`; give one that has'
        raise ValueError(msg)
    return cfg


def find_detector_config(config: str | Path) -> Path:
    """Find the config of a detector by its path or its name in mmdetection.

    Args:
        config: Path; or a name such as ``'rtmdet-s'``, ``'rtmdet_s_8xb32-300e_coco'``
            or ``'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'``.

    Raises:
        FileNotFoundError: If there is none.
    """
    name = str(config)
    path = Path(name.removeprefix(SCOPE)).expanduser()
    if path.is_file() and not name.startswith(SCOPE):
        return path
    folder = _mmdet_folder() / 'configs'
    if (folder / path).is_file():
        return folder / path
    by_name = {file.stem: file for file in folder.rglob('*.py')}
    for model in _released_detectors():
        for alias in model.get('Alias', ()):
            by_name[alias] = _mmdet_folder() / model['Config']
    stem = path.name.removesuffix('.py')
    if stem in by_name:
        return by_name[stem]
    near = get_close_matches(stem, by_name, n=3, cutoff=0.7)
    hint = f'; did you mean {" or ".join(near)}?' if near else ''
    msg = (
        f'there is no config {config} of a detector: give the path of one, or its name '
        f'in mmdetection, such as rtmdet-s{hint}'
    )
    raise FileNotFoundError(msg)


def _mmdet_folder() -> Path:
    """Folder of the configs that mmdetection comes with."""
    mmdet = import_package('mmdet', purpose=PURPOSE)
    return Path(mmdet.__file__).parent / '.mim'


@lru_cache(maxsize=1)
def _released_detectors() -> tuple[dict[str, Any], ...]:
    """What mmdetection says of its released models; empty if its list is missing."""
    folder = _mmdet_folder()
    if not (folder / 'model-index.yml').is_file():
        return ()
    models: list[dict[str, Any]] = []
    for name in load_yaml(folder / 'model-index.yml')['Import']:
        content = load_yaml(folder / name)
        models += content['Models'] if isinstance(content, dict) else content
    return tuple(models)


def download_hint(config: Path) -> str:
    """Say where the weights of a config were published; ``''`` if they were not."""
    for model in _released_detectors():
        if Path(model['Config']).name == config.name and model.get('Weights'):
            return f'; download {model["Weights"]}'
    return ''


def build_pipeline(cfg: Config) -> Any:
    """Build the test pipeline of a config for images in memory."""
    from mmcv.transforms import Compose  # noqa: PLC0415  optional
    from mmdet.utils import get_test_pipeline_cfg  # noqa: PLC0415  optional

    pipeline = list(get_test_pipeline_cfg(cfg.copy()))
    loads = [str(step['type']).endswith('LoadImageFromFile') for step in pipeline]
    first = loads.index(True) if True in loads else 0
    pipeline[first] = {'type': 'mmdet.LoadImageFromNDArray'}
    return Compose(pipeline)


def classes_of_config(cfg: Config) -> tuple[str, ...]:
    """Classes of the dataset that a config tests on."""
    from mmdet.registry import DATASETS  # noqa: PLC0415  optional

    dataset = cfg.get('test_dataloader', {}).get('dataset')
    if dataset is None:
        return ()
    # A lazy dataset does not read its files.
    metainfo = DATASETS.build({**dataset, 'lazy_init': True}).metainfo
    return tuple(metainfo.get('classes') or ())
