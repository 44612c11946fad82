"""Finds the checkpoint that a run goes on from."""

import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmengine.utils import get_object_from_string
from torch.utils.data import DataLoader

from ..checkpoints import CheckpointFileError, load_file

POINTER = 'last_checkpoint'
MAX_POINTER_BYTES = 1 << 13  # a path has 4,096 at most
# What a checkpoint to resume from has and one of weights alone lacks.
PARTS = frozenset({'state_dict', 'meta', 'message_hub', 'optimizer'})
# A thousand steps a second for a century.
MAX_ITERATIONS = 10**12
# In a file of torch: how its tensors are put together. Reading it checks its bytes.
RECIPE = '/data.pkl'
# zipfile raises the last three for encrypted members and unknown compressions.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    MemoryError,
    BadZipFile,
    RuntimeError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where a run goes on.

    Attributes:
        path: The newest whole checkpoint; None where there is none.
        problems: What was passed over, and why.
    """

    path: Path | None
    problems: tuple[str, ...]


def find_resume_point(work_dir: Path) -> ResumePoint:
    """Find the newest whole checkpoint of a work directory.

    Newest is what has most iterations, whatever its name and date. It is whole if all
    of its bytes are those that were written. ``last_checkpoint`` only adds the folder
    that it points to: a run may have died before it was written.
    """
    problems: list[str] = []
    found: list[tuple[int, float, Path]] = []
    for path in _candidates(work_dir, problems):
        try:
            iteration = _iteration(path)
        except CheckpointFileError as error:
            problems.append(str(error))
            continue
        except UNREADABLE as error:
            problems.append(f'{path} is damaged: {_first_line(error)}')
            continue
        if iteration is not None:
            found.append((iteration, path.stat().st_mtime, path))
    for *_, path in sorted(found, reverse=True):
        problem = _damage(path)
        if problem is None:
            return ResumePoint(path=path, problems=tuple(problems))
        problems.append(f'{path} is damaged: {problem}')
    return ResumePoint(path=None, problems=tuple(problems))


def _candidates(work_dir: Path, problems: list[str]) -> Iterator[Path]:
    """Files that may be checkpoints, each once."""
    folders = [work_dir]
    pointer = work_dir / POINTER
    if pointer.is_file():
        with pointer.open('rb') as file:
            text = file.read(MAX_POINTER_BYTES).decode(errors='replace').strip()
        target = _existing_file(text)
        if target is None:
            problems.append(f'{pointer} names {text[:80]!r}, which is not there')
        elif target.parent.resolve() != work_dir.resolve():
            folders.append(target.parent)
            problems.append(
                f'{pointer} names {target}, outside of the work directory; '
                f'checkpoints of that folder count as well. If they are not of this '
                f'run, remove {pointer}'
            )
    seen = set()
    for folder in folders:
        for path in sorted(folder.glob('*.pth')):
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _existing_file(name: str) -> Path | None:
    """The file of a name; None where there is none."""
    try:
        return Path(name) if name.isprintable() and Path(name).is_file() else None
    except OSError:  # the name is too long
        return None


def _iteration(path: Path) -> int | None:
    """Iterations that a checkpoint holds; None where one cannot resume from it."""
    if path.stat().st_size == 0:
        msg = 'the file is empty'
        raise ValueError(msg)
    # Mapped into memory: the weights are not read.
    held = load_file(path, 'cpu', mmap=True)
    # torch reads past changed bytes; of those that say how to read, it takes any.
    with ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(RECIPE):
                archive.read(name)
    if not isinstance(held, dict) or not held.keys() >= PARTS:
        return None
    for name in sorted(PARTS):
        if not isinstance(held[name], Mapping):
            msg = f'its {name} is {type(held[name]).__name__}, no dict'
            raise ValueError(msg)
    meta = held['meta']
    for name in ('iter', 'epoch', 'seed'):
        count = meta.get(name, 0 if name == 'seed' else None)
        if name == 'seed' and count is None:
            continue
        if not _is_count(count):
            msg = f'its meta has {name}={str(count)[:50]}, which no run writes'
            raise ValueError(msg)
    return int(meta['iter'])


def _is_count(value: object) -> bool:
    """Whether a run may have counted to a number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return 0 <= int(value) <= MAX_ITERATIONS


def _damage(path: Path) -> str | None:
    """What is wrong with the bytes of a file; torch itself reads past changed ones."""
    try:
        with ZipFile(path) as archive:
            part = archive.testzip()
    except UNREADABLE as error:
        return _first_line(error)
    return None if part is None else f'{part} has other bytes than were written'


def _first_line(error: Exception) -> str:
    """An error in one line."""
    return str(error).strip().partition('\n')[0] or type(error).__name__


# A config's text begins with those of its bases.
DATA_ROOT_LINE = re.compile(r"""^data_root\s*=\s*(['"])(.*)\1""", re.MULTILINE)
IMAGE_SIZE_SET = re.compile(r'^image_size\s*=', re.MULTILINE)
BASES_SET = re.compile(r'^_base_\s*=', re.MULTILINE)
IMAGE_SIZE_LINE = re.compile(r'^image_size\s*=\s*\((\d+),\s*(\d+)\)', re.MULTILINE)
BFLOAT16_WRAPPER = 'SAM2BFloat16OptimWrapper'
# Options of a loader that MMEngine's Runner takes out for itself.
RUNNER_KEYS = {'num_batch_per_epoch', 'disable_subprocess_warning'}
DEFAULT_WORK_DIRS = 'work_dirs'
# Option that holds the size of the model or of its clips, by the type of the part.
SIZE_KEYS = {
    'ClipDataPreprocessor': 'image_size',
    'ClipResize': 'size',
    'ClipFit': 'size',
}
SIZING_TYPES = {'ClipResize', 'ClipFit', 'ClipRandomResize'}


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config and apply ``--cfg-options``.

    Returns:
        The config, a changed ``data_root`` carried to its datasets and a changed
        ``image_size`` to its model and pipelines.

    Raises:
        ValueError: If it is not plain which datasets are meant, an ``image_size`` of
            the options reaches nothing, or a dataset has an unknown option.
    """
    cfg = read_config(path)
    apply_data_root(cfg, None)
    old_root, old_size = cfg.get('data_root'), cfg.get('image_size')
    # Before the options: what they say of the model or a pipeline is not replaced.
    apply_image_size(cfg, old_size, is_given=_replaces_image_size(path))
    if options:
        cfg.merge_from_dict(options)
    if cfg.get('data_root') != old_root:
        apply_data_root(cfg, old_root)
    if options and 'image_size' in options:
        apply_image_size(cfg, old_size, is_given=True)
    refuse_unknown_options(cfg)
    return cfg


def read_config(path: str | Path) -> Config:
    """Read a config file.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If a module of its ``custom_imports`` cannot be imported.
        ValueError: If it is no config file, or running it fails.
    """
    # Reading a pipe would block.
    if Path(path).exists() and not Path(path).is_file():
        msg = f'{path} is no regular file; give the path of a config file'
        raise ValueError(msg)
    try:
        return Config.fromfile(path)
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # a config is a program, which may raise anything
        msg = f'{path} is no config that can be read ({type(error).__name__}: {error})'
        raise ValueError(msg) from error


def apply_data_root(cfg: Config, old: str | None, parts: Sequence[object] = ()) -> None:
    """Carry a changed top-level ``data_root`` to all that held the old one.

    MMEngine evaluates the bases before it merges what a config or ``--cfg-options``
    says: without this, the datasets keep the bases' value. A ``data_root`` that
    differs from the old top-level one was set on purpose and stays. Where the old one
    is not known, it is any that the config file or its bases assign.

    Args:
        old: Top-level ``data_root`` before the options were merged; None if it is not
            known.

    Raises:
        ValueError: If the datasets hold different ones, neither the old nor the new.
    """
    new = cfg.get('data_root')
    held = {node['data_root'] for node in _data_nodes(list(cfg.values()))}
    if new is None or not held or (new in held and old not in held):
        return
    assigned = _assigned_roots(cfg)
    replaced = held & ({old} if old in held else assigned)
    if not replaced:
        # Of a pure Python config it is not known what the bases assign.
        if new in assigned and 'read_base' not in cfg.text:
            return  # nobody has changed it: the datasets have their own on purpose
        if len(held) > 1:
            msg = (
                f'data_root={new!r} reaches no dataset: they have {sorted(held)}; '
                f'change theirs, e.g. train_dataloader.dataset.data_root'
            )
            raise ValueError(msg)
        replaced = held
    for node in _data_nodes([*cfg.values(), *parts]):
        if node['data_root'] in replaced:
            node['data_root'] = new


def carry_data_root(runner: Runner) -> None:
    """Carry the ``data_root`` of a run's config to the loaders that are to be built.

    :func:`load_config` does so for the tools; this serves runs that are started
    otherwise (``Runner.from_cfg(Config.fromfile(…))`` in a notebook).

    Raises:
        ValueError: If it is not plain which datasets are meant.
    """
    # MMEngine builds the loops from these copies, not from `runner.cfg`.
    names = [
        f'_{stage}_{part}'
        for stage in ('train', 'val', 'test')
        for part in ('dataloader', 'evaluator')
    ]
    parts = [getattr(runner, name, None) for name in names]
    apply_data_root(runner.cfg, None, parts)


def _assigned_roots(cfg: Config) -> set[str]:
    """Values that a config file and its bases assign to ``data_root``."""
    texts = DATA_ROOT_LINE.findall(cfg.text or '')
    return {text for _, text in texts}


def apply_image_size(
    cfg: Config, old: Sequence[int] | None, *, is_given: bool = False
) -> None:
    """Carry a changed top-level ``image_size`` to the model and its pipelines.

    It reaches the model, the last transform of each pipeline that gives clips their
    size, all that held the old size, and the variable ``clip_size``. Sizes of other
    transforms were set on purpose and stay. Where a config has replaced the variable
    of its bases and nothing else, the sizes that the bases assign are the old ones.

    Args:
        old: Top-level ``image_size`` before the options were merged.
        is_given: The command line or the config file itself sets ``image_size``, and
            not a base of it alone: model and clips get it even if they differ now.

    Raises:
        ValueError: If it was changed, but nothing held the old one.
    """
    if cfg.get('image_size') is None:
        return
    if not _is_size(cfg.image_size):
        if cfg.image_size == old:
            return  # a variable of somebody else's
        msg = f'image_size is {cfg.image_size!r}; give height and width, as (512, 512)'
        raise ValueError(msg)
    new = _as_size(cfg.image_size)
    entries = [*_size_entries(list(cfg.values()))]
    sizes = sorted({_as_size(node[key]) for node, key in entries})
    is_changed = old is not None and new != _as_size(old)
    is_given = is_given or is_changed
    if not is_changed and (not sizes or (new in sizes and not is_given)):
        return
    olds = {_as_size(old)} if old is not None and is_changed else _assigned_sizes(cfg)
    held = [pair for pair in entries if _as_size(pair[0][pair[1]]) in olds]
    if held or is_given:
        held += [pair for pair in entries if pair[1] == 'image_size']
        held += [(node, 'size') for _, node in _last_sizes('', dict(cfg.items()))]
    if not held and not is_changed:
        msg = (
            f'image_size={new} of the config is not used: its model and pipelines '
            f'have {sizes}'
        )
        print_log(msg, 'current', logging.WARNING)
        return
    if not held:
        msg = (
            f'image_size={new} reaches neither the model nor a pipeline: they have '
            f'{sizes}, not one of {sorted(olds)}; change theirs, '
            f'model.data_preprocessor.image_size and the size of ClipResize'
        )
        raise ValueError(msg)
    for node, key in held:
        node[key] = new
    cfg.image_size = new
    if 'clip_size' in cfg and (is_given or _as_size(cfg.clip_size) in olds):
        cfg.clip_size = new


def find_size_conflicts(cfg: Config, loader: str) -> list[str]:
    """Name the pipelines of a loader whose clips do not have the size of the model.

    Args:
        loader: ``train``, ``val`` or ``test``.
    """
    models = [node[key] for node, key in _size_entries(cfg.get('model'))]
    if not models:
        return []
    model = _as_size(models[0])
    name = f'{loader}_dataloader'
    conflicts = []
    for path, node in _last_sizes(name, cfg.get(name)):
        size = _as_size(node['size'])
        if size != model:
            conflicts.append(
                f'{path} makes clips of {size[0]} x {size[1]}, but the model works at '
                f'{model[0]} x {model[1]}; give its {node["type"]} that size, or set '
                f'both with --cfg-options image_size={model[0]},{model[1]}'
            )
    return conflicts


def _replaces_image_size(path: str) -> bool:
    """Whether a config file sets the ``image_size`` of its bases anew.

    A file without bases, such as the config that a run has written, holds all sizes as
    they are meant.
    """
    text = Path(path).read_text(encoding='utf-8')
    return bool(IMAGE_SIZE_SET.search(text) and BASES_SET.search(text))


def _assigned_sizes(cfg: Config) -> set[tuple[int, ...]]:
    """Values that a config file and its bases assign to ``image_size``."""
    texts = IMAGE_SIZE_LINE.findall(cfg.text or '')
    return {tuple(map(int, text)) for text in texts}


def _is_size(value: object) -> bool:
    """Whether a value is a height and a width, or a number that stands for both."""
    pair = value if isinstance(value, list | tuple) else (value, value)
    return len(pair) == 2 and all(type(side) is int and side > 0 for side in pair)


def _as_size(value: int | Sequence[int]) -> tuple[int, ...]:
    """Height and width."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _size_entries(node: object) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each dict that holds the size of the model or of its clips, and the key."""
    if isinstance(node, list | tuple):
        for entry in node:
            yield from _size_entries(entry)
    if isinstance(node, dict):
        key = SIZE_KEYS.get(str(node.get('type')))
        if key is not None and key in node:
            yield node, key
        yield from _size_entries(list(node.values()))


def _last_sizes(path: str, node: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path of each pipeline, and its last transform if that fixes the size.

    Pipelines that end with one of several sizes have none.
    """
    if isinstance(node, list | tuple):
        for index, entry in enumerate(node):
            yield from _last_sizes(f'{path}.{index}', entry)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        below = f'{path}.{key}' if path else str(key)
        if not str(key).endswith('pipeline'):
            yield from _last_sizes(below, value)
            continue
        sizing = [each for each in _transforms(value) if each['type'] in SIZING_TYPES]
        if sizing and 'size' in sizing[-1]:
            yield below, sizing[-1]


def _transforms(node: object) -> Iterator[dict[str, Any]]:
    """Yield the transforms of a pipeline in order, those inside of others too."""
    if isinstance(node, list | tuple):
        for entry in node:
            yield from _transforms(entry)
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node
        yield from _transforms(list(node.values()))


@dataclass(frozen=True, slots=True)
class _ConfigNode:
    """A loader or dataset of a config.

    Attributes:
        path: Its keys from the top, joined by dots.
        name: Name of its class.
        keys: What the config gives it.
        options: What its class takes; None where that is not known.
    """

    path: str
    name: str
    keys: frozenset[str]
    options: frozenset[str] | None

    def takes(self, key: str) -> bool:
        """Whether ``key`` is known to be an option of the class."""
        return self.options is not None and key in self.options


def refuse_unknown_options(cfg: Config) -> None:
    """Refuse options that a loader, a dataset or a wrapper of datasets does not take.

    MMEngine says so when it builds the dataset, but not where in the config the option
    stands nor where it belongs, and whoever reads the innermost dataset alone never
    sees an option of its wrapper.

    Args:
        cfg: Of a run, or of a dataset alone (``dataset = dict(type=…)``).

    Raises:
        ValueError: If there is such an option.
    """
    if (cfg.get('default_scope') or 'mmengine') != 'mmengine':
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
            owners = [other.path for other in nodes if other.takes(key)]
            options = f'its options are {", ".join(sorted(node.options))}'
            remedy = f'set it in {" or ".join(owners)}' if owners else options
            msg = f'{key} is no option of {node.name} ({node.path}); {remedy}'
            raise ValueError(msg)


def _loader_nodes(path: str, loader: Mapping[str, Any]) -> Iterator[_ConfigNode]:
    """The loader and the datasets in it."""
    options = _options_of(DataLoader)
    keys = frozenset(loader) - RUNNER_KEYS
    yield _ConfigNode(path, 'DataLoader', keys, options)
    yield from _dataset_nodes(f'{path}.dataset', loader.get('dataset'))


def _dataset_nodes(path: str, dataset: object) -> Iterator[_ConfigNode]:
    """The dataset and those that it wraps, outermost first."""
    if not isinstance(dataset, Mapping):
        return
    kind = _dataset_class(dataset.get('type'))
    options = None if kind is None else _options_of(kind)
    name = getattr(kind, '__name__', '')
    keys = frozenset(dataset) - {'type', '_scope_'}
    yield _ConfigNode(path, name, keys, options)
    yield from _dataset_nodes(f'{path}.dataset', dataset.get('dataset'))
    parts = dataset.get('datasets')
    for index, part in enumerate(parts if isinstance(parts, list | tuple) else ()):
        yield from _dataset_nodes(f'{path}.datasets.{index}', part)


def _dataset_class(kind: object) -> object:
    """The class that a ``type`` names; None for those of other packages' registries."""
    if not isinstance(kind, str):
        return kind if inspect.isclass(kind) else None
    if kind.count('.') > 1:  # the path of a class; a single dot follows a scope
        return get_object_from_string(kind)
    scope, _, name = kind.rpartition('.')
    return DATASETS.module_dict.get(name) if scope in {'', 'mmengine'} else None


def _options_of(kind: Any) -> frozenset[str] | None:
    """Names of the arguments of a class; None if it takes others, too."""
    parameters = inspect.signature(kind).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters)


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


def apply_resume(cfg: Config, resume: str | None) -> tuple[str, ...]:
    """Say where a run starts from.

    Args:
        cfg: Changed in place; its ``work_dir`` must be set.
        resume: None to start as the config says, ``'auto'`` for the newest whole
            checkpoint of the work directory, else the checkpoint's path. With
            ``'auto'`` and no checkpoint there, a run starts as its config says,
            ``load_from`` included: the same command line starts a job and restarts it.
    """
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    if resume is None:
        return ()
    if resume != 'auto':
        cfg.resume, cfg.load_from = True, resume
        return ()
    point = find_resume_point(Path(cfg.work_dir))
    cfg.resume = point.path is not None
    if point.path is None:
        nothing = f'No checkpoint in {cfg.work_dir} to resume from: a new run begins'
        return (*point.problems, nothing)
    cfg.load_from = str(point.path)
    if not point.problems:
        return ()
    return (*point.problems, f'Going on from {point.path}, the newest that is whole')


def apply_bfloat16(cfg: Config) -> None:
    """Let the forward pass of training run in bfloat16, on any device.

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


def _data_nodes(node: object) -> Iterator[dict[str, Any]]:
    """Every dict below a node that has a ``data_root``."""
    if isinstance(node, list | tuple):
        for entry in node:
            yield from _data_nodes(entry)
    if isinstance(node, dict):
        if node.get('data_root'):
            yield node
        yield from _data_nodes(list(node.values()))
