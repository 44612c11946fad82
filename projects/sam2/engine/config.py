"""Reading a config so that a changed ``data_root`` or ``image_size`` takes effect.

MMEngine evaluates the ``_base_`` files before it merges what a config or
``--cfg-options`` says. A changed variable alone would thus change nothing: datasets and
pipelines have copied its old value. :func:`load_config` carries the new value to all
parts that hold the old one. It also refuses options that no dataset has, with their
place in the config.

Importing this module lets ``_base_ = 'mmsam2::sam2_tiny_mose.py'`` find the configs of
this package, as ``'mmdet::…'`` finds those of mmdetection.
"""

import ast
import difflib
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmengine.utils import get_object_from_string
from torch.utils.data import DataLoader

from ..installation import CONFIGS, NAME, WHEEL_NAME, near_configs, own_config

BFLOAT16_WRAPPER = 'SAM2BFloat16OptimWrapper'
DEFAULT_WORK_DIRS = 'work_dirs'
# Variables that are read, beside the arguments of MMEngine's Runner.
READ_VARIABLES = frozenset(
    {
        'auto_scale_lr',
        'custom_imports',
        'data_root',
        'dataset',
        'default_scope',
        'image_size',
        'tta_model',
        'tta_pipeline',
    }
)
SAME_WORD = 0.8  # similarity from which on a key is a misspelt one
# Options of a loader that MMEngine's Runner handles itself.
RUNNER_KEYS = {'num_batch_per_epoch', 'disable_subprocess_warning'}
# Type of a part -> its option that holds the size of the model or of its clips.
SIZE_KEYS = {
    'ClipDataPreprocessor': 'image_size',
    'ClipResize': 'size',
    'ClipFit': 'size',
}
# Scopes in which a name means a part of the root registries.
OWN_SCOPES = ('mmengine', WHEEL_NAME, 'sam2')
RESIZING_TYPES = {'ClipResize', 'ClipFit', 'ClipRandomResize'}
EXPORTED_MODEL = 'SAM2Exported'  # of tools/test.py CONFIG EXPORT


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config, register the parts it may name, and apply ``--cfg-options``.

    Args:
        path: As for :func:`find_config`.
        options: Entries to override, by their keys joined by dots.

    Returns:
        The config, with a changed ``data_root`` in its datasets and a changed
        ``image_size`` in its model and pipelines.

    Raises:
        ValueError: If it is ambiguous which datasets a new ``data_root`` is for, an
            ``image_size`` of the options has no effect, a dataset has an unknown
            option, or a key of the options is misspelt.
    """
    importlib.import_module(f'{NAME}.registration')
    cfg = read_config(path)
    check_override(cfg, options or {})
    apply_data_root(cfg, None)
    old_root, old_size = cfg.get('data_root'), cfg.get('image_size')
    # Before the options are merged: sizes that they give to parts have precedence.
    apply_image_size(cfg, old_size, is_given=_overrides_image_size(cfg.filename))
    if options:
        cfg.merge_from_dict(options)
        if cfg.get('data_root') != old_root:
            apply_data_root(cfg, old_root)
        if 'image_size' in options:
            apply_image_size(cfg, old_size, is_given=True)
    refuse_unknown_options(cfg)
    drop_worker_options(cfg)
    return cfg


def find_config(name: str | Path) -> Path:
    """Find a config.

    Args:
        name: Path of a file; or the name of a config of this package, such as
            ``sam2_tiny_mose``, ``configs/sam2_tiny_mose.py`` or
            ``mmsam2::sam2_tiny_mose.py``.

    Raises:
        FileNotFoundError: If there is no such config.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if own := own_config(name):  # a folder may have its name
        return own
    if path.exists():
        return path
    near = near_configs(name)
    hint = f'did you mean {" or ".join(near)}?' if near else f'own: {CONFIGS}'
    msg = f'{name} is neither a file nor a config of {WHEEL_NAME}; {hint}'
    raise FileNotFoundError(msg)


def read_config(path: str | Path) -> Config:
    """Read a config file.

    Args:
        path: As for :func:`find_config`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If a module of its ``custom_imports`` cannot be imported.
        ValueError: If it is not a config file, or running it fails.
    """
    path = find_config(path)
    if not path.is_file():  # reading a pipe would block
        msg = f'{path} is not a regular file; give the path of a config file'
        raise ValueError(msg)
    try:
        return Config.fromfile(path)
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # a config is a program, which may raise anything
        msg = f'Cannot read the config {path} ({type(error).__name__}: {error})'
        raise ValueError(msg) from error


def check_override(cfg: Config, options: Mapping[str, Any]) -> None:
    """Check the keys and values of ``--cfg-options`` before they are merged.

    MMEngine accepts every new key, which then changes nothing. A new key is refused if
    it is close to an existing one. A variable of the config is only warned of: parts
    that copied its value when the file was read keep theirs.

    Args:
        options: Values by their keys joined by dots.

    Raises:
        ValueError: If a key is misspelt, or a text replaces a number.
    """
    runner_names = {*inspect.signature(Runner).parameters}
    known = runner_names | {*cfg} | READ_VARIABLES
    for key, value in options.items():
        top = key.partition('.')[0]
        near = difflib.get_close_matches(top, known, n=1, cutoff=SAME_WORD)
        if top not in known and near:
            msg = (
                f'--cfg-options {key}: the config has no {top}; did you mean '
                f'{near[0]}? (An entry of your own has to be in the config file)'
            )
            raise ValueError(msg)
        if top in cfg and top not in runner_names | READ_VARIABLES:
            print_log(
                f'--cfg-options {key} changes a variable of the config; parts that '
                f'copied its value keep it: change theirs, as train_dataloader.…',
                'current',
                logging.WARNING,
            )
        old = value_at(dict(cfg.items()), key)
        if type(old) in {int, float} and isinstance(value, str):
            msg = f'--cfg-options {key}={value}: give a number, as in {key}={old}'
            raise ValueError(msg)


def value_at(node: Any, key: str) -> Any:
    """Value of a config at keys joined by dots; None if there is none."""
    for part in key.split('.'):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list | tuple) and part.isdecimal():
            node = node[int(part)] if int(part) < len(node) else None
        else:
            return None
    return node


def apply_work_dir(cfg: Config, work_dir: str | None) -> None:
    """Set the work directory.

    Args:
        work_dir: Value of ``--work-dir``. None keeps the config's value, or sets
            ``work_dirs/<name of the config file>`` if it has none.
    """
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path(DEFAULT_WORK_DIRS) / Path(cfg.filename).stem)


def apply_bfloat16(cfg: Config) -> None:
    """Run the forward pass of training in bfloat16, on any device.

    Raises:
        ValueError: If the config does not use MMEngine's plain optimizer wrapper.
    """
    wrapper_type = part_name(cfg.optim_wrapper, 'OptimWrapper')
    if wrapper_type not in {'OptimWrapper', BFLOAT16_WRAPPER}:
        msg = (
            f'--amp replaces OptimWrapper by {BFLOAT16_WRAPPER}, but the config has '
            f'{wrapper_type}; leave --amp out, or change optim_wrapper.type'
        )
        raise ValueError(msg)
    cfg.optim_wrapper.type = BFLOAT16_WRAPPER


def apply_data_root(cfg: Config, old: str | None, parts: Sequence[object] = ()) -> None:
    """Carry a changed top-level ``data_root`` to the datasets that hold the old one.

    A dataset with any other ``data_root`` keeps it: it was set on purpose. The paths of
    metrics below the old root move as well.

    Args:
        old: Top-level ``data_root`` before the options were merged. If None, any value
            that the config file or its bases assign counts as the old one.
        parts: Copies of config entries to update as well.

    Raises:
        ValueError: If the datasets hold several values, neither the old nor the new.
    """
    new = cfg.get('data_root')
    roots = {node['data_root'] for node in _nodes_with_data_root(list(cfg.values()))}
    if new is None or not roots or (new in roots and old not in roots):
        return
    values = _assigned_values(cfg.text, 'data_root')
    assigned = {value for value in values if isinstance(value, str)}
    replaced = roots & ({old} if old in roots else assigned)
    if not replaced:
        # What the bases of a pure Python config assign is not in its text.
        if new in assigned and 'read_base' not in cfg.text:
            return  # unchanged: the datasets have their own on purpose
        if len(roots) > 1:
            msg = (
                f'data_root={new!r} reaches no dataset: they have {sorted(roots)}; '
                f'change theirs, e.g. train_dataloader.dataset.data_root'
            )
            raise ValueError(msg)
        replaced = roots
    for node in _nodes_with_data_root([*cfg.values(), *parts]):
        if node['data_root'] in replaced:
            node['data_root'] = new
    evaluators = [cfg.get('val_evaluator'), cfg.get('test_evaluator')]
    for node in _dicts([*evaluators, *parts]):
        _move_paths(node, replaced, new)


def _move_paths(node: dict[str, Any], old_roots: Iterable[str], new: str) -> None:
    """Move the paths below a root, such as ``ann_file`` of mmdetection's metrics."""
    for key, value in node.items():
        for old in old_roots:
            start = old.rstrip('/') + '/'
            if isinstance(value, str) and value.startswith(start):
                node[key] = new.rstrip('/') + '/' + value.removeprefix(start)
                break


def apply_runner_data_root(runner: Runner) -> None:
    """Carry the ``data_root`` of a run's config to loaders that are not built yet.

    For runs that do not start with :func:`load_config`, such as
    ``Runner.from_cfg(Config.fromfile(…))`` in a notebook.

    Raises:
        ValueError: As :func:`apply_data_root`.
    """
    # MMEngine builds the loops from these copies, not from `runner.cfg`.
    names = [
        f'_{stage}_{part}'
        for stage in ('train', 'val', 'test')
        for part in ('dataloader', 'evaluator')
    ]
    parts = [getattr(runner, name, None) for name in names]
    apply_data_root(runner.cfg, None, parts)


def _nodes_with_data_root(node: object) -> Iterator[dict[str, Any]]:
    """Yield every dict that has a ``data_root``."""
    return (child for child in _dicts(node) if child.get('data_root'))


def part_name(part: Mapping[str, Any], default: str = '') -> str:
    """Name of the class of a part, without the scope: ``SAM2`` of ``mmsam2.SAM2``."""
    type_ = part.get('type', default)
    return str(getattr(type_, '__name__', type_)).rpartition('.')[2]


def _dicts(node: object) -> Iterator[dict[str, Any]]:
    """Yield every dict in nested dicts and lists, outermost first."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _dicts(child)


def _assigned_values(text: str | None, name: str) -> list[Any]:
    """Literals that the text of a config assigns to a top-level variable.

    The text of MMEngine's ``Config`` contains that of its bases.
    """
    values = []
    for expression in re.findall(rf'^{name}\s*=\s*(.+)$', text or '', re.MULTILINE):
        with suppress(ValueError, SyntaxError):  # computed from other variables
            values.append(ast.literal_eval(expression))
    return values


def apply_image_size(cfg: Config, old: object, *, is_given: bool = False) -> None:
    """Carry a changed top-level ``image_size`` to the model and its pipelines.

    It reaches the model, the last resizing transform of each pipeline, all other parts
    with the old size, and the variable ``clip_size``. Other sizes were set on purpose
    and stay.

    Args:
        old: Top-level ``image_size`` before the options were merged.
        is_given: Whether the options or the config file itself set ``image_size``, and
            not only a base. Model and clips then get this size in any case.

    Raises:
        ValueError: If it is not a size, or was changed but has no effect.
    """
    if cfg.get('image_size') is None:
        return
    if not _is_size(cfg.image_size):
        if cfg.image_size == old:
            return  # a variable of another meaning
        msg = f'image_size is {cfg.image_size!r}; give height and width, as (512, 512)'
        raise ValueError(msg)
    new = _as_size(cfg.image_size)
    is_changed = old is not None and new != _as_size(old)
    sized = list(_sized_parts(list(cfg.values())))
    sizes = sorted({_as_size(part[key]) for part, key in sized})
    if not is_changed and (not sizes or (new in sizes and not is_given)):
        return
    if is_changed:
        old_sizes = {_as_size(old)}
    else:
        assigned = _assigned_values(cfg.text, 'image_size')
        old_sizes = {_as_size(value) for value in assigned if _is_size(value)}
    replaced = [(part, key) for part, key in sized if _as_size(part[key]) in old_sizes]
    is_given = is_given or is_changed
    if replaced or is_given:
        replaced += [(part, key) for part, key in sized if key == 'image_size']
        resizes = _final_resizes('', dict(cfg.items()))
        replaced += [(resize, 'size') for _, resize in resizes]
    if not replaced and is_changed:
        msg = (
            f'image_size={new} reaches neither the model nor a pipeline: they have '
            f'{sizes}, not one of {sorted(old_sizes)}; change theirs, '
            f'model.data_preprocessor.image_size and the size of ClipResize'
        )
        raise ValueError(msg)
    if not replaced:
        print_log(
            f'image_size={new} of the config is not used: its model and pipelines '
            f'have {sizes}',
            'current',
            logging.WARNING,
        )
        return
    for part, key in replaced:
        part[key] = new
    cfg.image_size = new
    if 'clip_size' in cfg and (is_given or _as_size(cfg.clip_size) in old_sizes):
        cfg.clip_size = new


def find_size_conflicts(cfg: Config, loader: str) -> list[str]:
    """Describe the pipelines whose clips do not have the size of the model.

    Args:
        loader: ``train``, ``val`` or ``test``.
    """
    model_sizes = [_as_size(part[key]) for part, key in _sized_parts(cfg.get('model'))]
    if not model_sizes:
        return []
    height, width = model_sizes[0]
    name = f'{loader}_dataloader'
    return [
        f'{path} makes clips of {size[0]} x {size[1]}, but the model works at '
        f'{height} x {width}; give its {resize["type"]} that size, or set both with '
        f'--cfg-options image_size={height},{width}'
        for path, resize in _final_resizes(name, cfg.get(name))
        if (size := _as_size(resize['size'])) != (height, width)
    ]


def drop_worker_options(cfg: Config) -> None:
    """Drop what torch refuses for a loader without workers.

    The bases set ``persistent_workers``, so ``num_workers=0`` alone would be an error.
    """
    for stage in ('train', 'val', 'test'):
        loader = cfg.get(f'{stage}_dataloader')
        if isinstance(loader, dict) and not loader.get('num_workers'):
            loader.pop('persistent_workers', None)
            loader.pop('prefetch_factor', None)


def _overrides_image_size(path: str) -> bool:
    """Whether a config file with bases sets ``image_size`` itself.

    A file without bases, such as the config that a run has dumped, is taken as it is.
    """
    text = Path(path).read_text(encoding='utf-8')
    return all(
        re.search(rf'^{name}\s*=', text, re.MULTILINE)
        for name in ('image_size', '_base_')
    )


def _is_size(value: object) -> bool:
    """Whether a value is a height and a width, or one positive int for both."""
    pair = value if isinstance(value, list | tuple) else (value, value)
    return len(pair) == 2 and all(type(side) is int and side > 0 for side in pair)


def _as_size(value: Any) -> tuple[int, ...]:
    """Height and width of a value that is a size."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _sized_parts(node: object) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each part that holds the size of the model or of its clips, and the key."""
    for part in _dicts(node):
        key = SIZE_KEYS.get(part_name(part))
        if key is not None and key in part:
            yield part, key


def _final_resizes(path: str, node: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path of each pipeline with the transform that fixes the clips' size.

    A pipeline whose last resizing draws one of several sizes is left out.
    """
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    for key, value in node.items() if isinstance(node, dict) else ():
        child_path = f'{path}.{key}' if path else str(key)
        if not str(key).endswith('pipeline'):
            yield from _final_resizes(child_path, value)
            continue
        resizes = [part for part in _dicts(value) if part_name(part) in RESIZING_TYPES]
        if resizes and 'size' in resizes[-1]:
            yield child_path, resizes[-1]


@dataclass(frozen=True, slots=True)
class _ConfigNode:
    """A loader or dataset of a config.

    Attributes:
        path: Its keys from the top, joined by dots.
        name: Name of its class.
        keys: Options that the config gives it.
        options: Options that its class has; None if unknown.
    """

    path: str
    name: str
    keys: frozenset[str]
    options: frozenset[str] | None


def refuse_unknown_options(cfg: Config) -> None:
    """Refuse options that a loader, a dataset or a dataset wrapper does not have.

    MMEngine does so only when it builds the dataset, and names neither the place in
    the config nor the part that has the option.

    Args:
        cfg: Config of a run, or of a dataset alone (``dataset = dict(type=…)``).

    Raises:
        ValueError: If there is such an option.
    """
    if (cfg.get('default_scope') or 'mmengine') not in OWN_SCOPES:
        return  # names mean classes of another registry
    roots = [
        _loader_nodes(name, cfg[name])
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader')
        if isinstance(cfg.get(name), Mapping)
    ]
    if not roots:  # a dataset alone
        roots = [_dataset_nodes('dataset', cfg.get('dataset'))]
    for nodes in map(list, roots):
        for node in nodes:
            if node.options is None or node.keys <= node.options:
                continue
            key = min(node.keys - node.options)
            owners = [other.path for other in nodes if key in (other.options or ())]
            options = f'its options are {", ".join(sorted(node.options))}'
            remedy = f'set it in {" or ".join(owners)}' if owners else options
            msg = f'{key} is no option of {node.name} ({node.path}); {remedy}'
            raise ValueError(msg)


def _loader_nodes(path: str, loader: Mapping[str, Any]) -> Iterator[_ConfigNode]:
    """Yield a loader and its datasets."""
    keys = frozenset(loader) - RUNNER_KEYS
    yield _ConfigNode(path, 'DataLoader', keys, _options_of(DataLoader))
    yield from _dataset_nodes(f'{path}.dataset', loader.get('dataset'))


def _dataset_nodes(path: str, dataset: object) -> Iterator[_ConfigNode]:
    """Yield a dataset and those that it wraps, outermost first."""
    if not isinstance(dataset, Mapping):
        return
    dataset_class = _dataset_class(dataset.get('type'))
    yield _ConfigNode(
        path,
        getattr(dataset_class, '__name__', ''),
        frozenset(dataset) - {'type', '_scope_'},
        None if dataset_class is None else _options_of(dataset_class),
    )
    yield from _dataset_nodes(f'{path}.dataset', dataset.get('dataset'))
    parts = dataset.get('datasets')
    for index, part in enumerate(parts if isinstance(parts, list | tuple) else ()):
        yield from _dataset_nodes(f'{path}.datasets.{index}', part)


def _dataset_class(type_: object) -> object:
    """Class that a ``type`` names; None for those of other packages' registries."""
    if not isinstance(type_, str):
        return type_ if inspect.isclass(type_) else None
    if type_.count('.') > 1:  # the import path of a class; one dot follows a scope
        return get_object_from_string(type_)
    scope, _, name = type_.rpartition('.')
    return DATASETS.module_dict.get(name) if scope in {'', *OWN_SCOPES} else None


def _options_of(class_: Any) -> frozenset[str] | None:
    """Names of the arguments of a class; None if it takes any."""
    parameters = inspect.signature(class_).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def _use_own_config_scope() -> None:
    """Let MMEngine find ``mmsam2::<config>`` in this package, in a clone as well.

    MMEngine has a fixed table of scopes, and looks for their configs in the folder of
    an installed distribution, which a clone is not.
    """
    MODULE2PACKAGE.setdefault(WHEEL_NAME, WHEEL_NAME)  # for mmengine.hub
    find_base = Config._get_cfg_path  # noqa: SLF001  the only place to add a scope

    def find_own_base(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith(f'{WHEEL_NAME}::'):
            return find_base(cfg_path, filename)
        return str(find_config(cfg_path)), None

    setattr(Config, '_get_cfg_path', staticmethod(find_own_base))  # noqa: B010  mypy

    # mmengine.hub refuses names without a folder, which most of our configs have.
    split_name = config_utils._get_package_and_cfg_path  # noqa: SLF001

    def split_own_name(cfg_path: str) -> tuple[str, str]:
        scope, _, own = cfg_path.partition('::')
        return (scope, own) if scope == WHEEL_NAME else split_name(cfg_path)

    for module in (config_utils, sys.modules.get('mmengine.hub.hub')):
        if module is not None:
            module._get_package_and_cfg_path = split_own_name  # type: ignore[attr-defined]  # noqa: SLF001


_use_own_config_scope()
