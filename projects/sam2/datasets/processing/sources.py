"""Finds the sources of clips in a config: whatever is wrapped around them."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.utils import get_object_from_string

DatasetConfig = dict[str, Any]


def dataset_config(cfg: Config | Mapping[str, Any], loader: str) -> DatasetConfig:
    """Take the config of a data set out of a config file.

    Args:
        cfg: Config of a run, with loaders; or a file with ``dataset``; or one that is
            a data set itself, with ``type``.
        loader: ``train``, ``val`` or ``test``.

    Returns:
        The data set's config.

    Raises:
        ValueError: If there is none.
    """
    name = f'{loader}_dataloader'
    if isinstance(cfg.get(name), Mapping) and 'dataset' in cfg[name]:
        return dict(cfg[name]['dataset'])
    if isinstance(cfg.get('dataset'), Mapping):
        return dict(cfg['dataset'])
    if 'type' in cfg:
        return dict(cfg.items())
    others = [key for key in cfg if key.endswith('_dataloader') and cfg[key]]
    msg = (
        f'The config has neither {name}.dataset nor dataset (loaders: '
        f'{", ".join(others) or "none"}); give another config or loader'
    )
    raise ValueError(msg)


def find_sources(config: Mapping[str, Any]) -> list[DatasetConfig]:
    """Find the sources of a data set: the innermost that list and open videos.

    Concatenations, repetitions, strides and single objects are views of their files.

    Args:
        config: Of a data set of any kind.

    Returns:
        The configs of its sources, without their pipelines, each once.

    Raises:
        ValueError: If there is none, or a member of a concatenation has none.
    """
    found = _sources_below(config)
    if not found:
        kinds, part = [config.get('type')], config.get('dataset')
        while isinstance(part, Mapping):
            kinds, part = [*kinds, part.get('type')], part.get('dataset')
        msg = (
            f'{" of ".join(map(str, kinds))} lists no clips: check how the type is '
            f'spelt, and give a data set with list_videos and open_video'
        )
        raise ValueError(msg)
    return [each for i, each in enumerate(found) if each not in found[:i]]


def find_drawn(config: Mapping[str, Any]) -> list[DatasetConfig]:
    """Find the data sets that draw clips: the outermost that pass them to a pipeline.

    Args:
        config: Of a data set of any kind.

    Returns:
        Their configs, pipelines included, each once; none where whole videos are read.
    """
    if config.get('pipeline') and _lists_clips(config.get('type'), 'load_clip'):
        return [dict(config)]
    parts = [config.get('dataset'), *config.get('datasets', ())]
    found = [d for p in parts if isinstance(p, Mapping) for d in find_drawn(p)]
    return [each for i, each in enumerate(found) if each not in found[:i]]


def without_pipeline(config: Mapping[str, Any]) -> DatasetConfig:
    """The config of a source as :func:`find_sources` returns it.

    Args:
        config: Of a source, with or without a pipeline.

    Returns:
        The same without it.
    """
    return {key: value for key, value in config.items() if key != 'pipeline'}


def _sources_below(config: Mapping[str, Any]) -> list[DatasetConfig]:
    inner = config.get('dataset')
    found = _sources_below(inner) if isinstance(inner, Mapping) else []
    for part in config.get('datasets', ()):
        found += find_sources(part)
    if found or not _lists_clips(config.get('type')):
        return found
    return [without_pipeline(config)]


def _lists_clips(kind: object, *methods: str) -> bool:
    """Whether a type, or the name of one, lists and opens clips like ``ClipDataset``.

    Args:
        kind: The type.
        methods: What else it must have.

    Returns:
        Whether it does.
    """
    if isinstance(kind, str):
        # Two dots are the path of a class, one is a scope: of foreign data sets, which
        # the adapter that holds them imports.
        is_path = kind.count('.') > 1
        name = kind.rpartition('.')[2]
        kind = (
            get_object_from_string(kind) if is_path else DATASETS.module_dict.get(name)
        )
    return all(hasattr(kind, each) for each in ('list_videos', 'open_video', *methods))
