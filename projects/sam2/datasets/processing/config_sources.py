"""Find the datasets in a config, inside whatever wraps them."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.utils import get_object_from_string

DatasetConfig = dict[str, Any]


def dataset_config(cfg: Config | Mapping[str, Any], loader: str) -> DatasetConfig:
    """Return the config of a dataset from a config file.

    Args:
        cfg: Config of a run, with dataloaders; or with ``dataset``; or of a dataset
            itself, with ``type``.
        loader: ``train``, ``val`` or ``test``.

    Raises:
        ValueError: If there is none.
    """
    key = f'{loader}_dataloader'
    if isinstance(cfg.get(key), Mapping) and 'dataset' in cfg[key]:
        return dict(cfg[key]['dataset'])
    if isinstance(cfg.get('dataset'), Mapping):
        return dict(cfg['dataset'])
    if 'type' in cfg:
        return dict(cfg.items())
    others = [key for key in cfg if key.endswith('_dataloader') and cfg[key]]
    msg = (
        f'The config has neither {key}.dataset nor dataset (loaders: '
        f'{", ".join(others) or "none"}); give another config or loader'
    )
    raise ValueError(msg)


def find_sources(config: Mapping[str, Any]) -> list[DatasetConfig]:
    """Find the innermost datasets that list and open videos.

    Concatenations, repetitions and views (strides, single objects) wrap these sources.

    Returns:
        Their configs without pipelines, each once.

    Raises:
        ValueError: If there is none, or a member of a concatenation has none.
    """
    sources = _sources_inside(config)
    if not sources:
        types, inner = [config.get('type')], config.get('dataset')
        while isinstance(inner, Mapping):
            types, inner = [*types, inner.get('type')], inner.get('dataset')
        msg = (
            f'{" of ".join(map(str, types))} lists no clips: check the spelling of the '
            f'type, and give a dataset with list_videos and open_video (one of '
            f'mmdetection or mmsegmentation inside a ClipBridgeDataset)'
        )
        raise ValueError(msg)
    return _unique(sources)


def _sources_inside(config: Mapping[str, Any]) -> list[DatasetConfig]:
    inner = config.get('dataset')
    sources = _sources_inside(inner) if isinstance(inner, Mapping) else []
    for member in config.get('datasets', ()):
        sources += find_sources(member)
    if not sources and _has_methods(config.get('type'), 'list_videos', 'open_video'):
        return [without_pipeline(config)]
    return sources


def find_clip_datasets(config: Mapping[str, Any]) -> list[DatasetConfig]:
    """Find the outermost datasets that pass clips through a pipeline.

    Returns:
        Their configs with pipelines, each once; none if whole videos are read.
    """
    if config.get('pipeline') and _has_methods(config.get('type'), 'load_clip'):
        return [dict(config)]
    members = [config.get('dataset'), *config.get('datasets', ())]
    return _unique(
        [
            dataset
            for member in members
            if isinstance(member, Mapping)
            for dataset in find_clip_datasets(member)
        ]
    )


def without_pipeline(config: Mapping[str, Any]) -> DatasetConfig:
    """Return the config of a source as :func:`find_sources` does."""
    return {key: value for key, value in config.items() if key != 'pipeline'}


def _unique(configs: list[DatasetConfig]) -> list[DatasetConfig]:
    return [config for i, config in enumerate(configs) if config not in configs[:i]]


def _has_methods(kind: object, *methods: str) -> bool:
    """Check a type, or the name of one, for methods."""
    if isinstance(kind, str):
        # 'mmdet.CocoDataset' has a scope: only the adapter around it imports mmdet.
        # More dots are the import path of a class.
        is_path = kind.count('.') > 1
        name = kind.rpartition('.')[2]
        kind = (
            get_object_from_string(kind) if is_path else DATASETS.module_dict.get(name)
        )
    return all(hasattr(kind, method) for method in methods)
