"""Builds models and video predictors from a config and a checkpoint.

The functions have the names and arguments of the released ``sam2.build_sam``. Configs
are found by path or by released name; weights are checked against the model.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoints import (
    CheckpointMismatchError,
    ambiguity_of,
    check_weights,
    fit_adapters,
    is_adapter_key,
    recognise_model,
    weights_of,
)
from ..checkpoints.released import FamilyWeights, find_file, released_weights
from ..datasets.io.listing import scan_folder
from ..deployment import ExportedSAM2, is_export, load_exported
from ..engine.config import read_config
from ..engine.memory_policy import apply_policy
from ..installation import CONFIGS, near_configs, own_config, tool_command
from ..models import SAM2
from ..models.adaptation import merged_weights
from ..models.tracking.promptable import PromptableModel
from ..ops import import_optional
from .inputs import read_whole_number
from .released_overrides import read_overrides

if TYPE_CHECKING:
    from .video_predictor import SAM2VideoPredictor

Device = str | torch.device
Provider = str | Sequence[str]

FILL_HOLE_AREA = 8.0  # pixels of the stride-4 mask, as in the released predictor


class HasModel(Protocol):
    """A predictor around a model."""

    @property
    def model(self) -> SAM2:
        """The model."""


ModelLike = SAM2 | HasModel


def build_sam2(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None = None,
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    *,
    image_size: tuple[int, int] | None = None,
    compile: bool = False,  # noqa: A002  as torch and MMEngine name it
    fast: bool = False,
    provider: Provider | None = None,
    policy: str | Path | None = None,
) -> SAM2:
    """Build a model and load its weights.

    Example:
        >>> model = build_sam2('sam2.1_hiera_t', 'sam2.1_hiera_tiny.pt')
        >>> untrained = build_sam2('configs/sam2_mini_davis.py', device='cpu')
        >>> exported = build_sam2('work_dirs/sam2_onnx')  # of tools/export_onnx.py

    Args:
        config_file: As for :func:`load_model_config`, such as ``'sam2.1_hiera_t'``. Or
            the folder of an exported model, without ``ckpt_path``: the result is an
            :class:`ExportedSAM2`, which predictors take like a :class:`SAM2`.
        ckpt_path: A released file, a SAM 2 folder of Hugging Face's transformers, or
            a checkpoint of ours; None leaves the weights random.
        device: Device of the model; by default ``'cuda'`` if there is one.
        mode: ``'eval'``, or ``'train'`` with dropout and the like.
        hydra_overrides_extra: As in the release, ``['++model.image_size=512']``.
        apply_postprocessing: Select between the single mask and the best of three by
            stability, and encode clicked masks into the memory as binary masks, if the
            config says so; False does neither. The graphs of an exported model select
            as it was exported.
        image_size: Height and width that images and frames are resized to, multiples
            of 32; by default that of the config.
        compile: Compile the parts with most of the work, on their first use; see
            :func:`~projects.sam2.models.compiling.compile_model`.
        fast: Multiply matrices in bfloat16, on a CPU that gains from it; see
            :meth:`SAM2.use_fast_settings`.
        provider: Of ONNX Runtime for an exported model, such as ``'cuda'``; see
            :class:`OnnxRunner`.
        policy: Memory policy in place of the model's memory bank, such as
            ``'samurai'``; see :func:`~projects.sam2.engine.memory_policy.read_policy`.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config, checkpoint or policy.
        ValueError: If the config has no model, the checkpoint is damaged, a side is no
            multiple of 32, the device does not exist, or the mode or an override is
            unknown; or if an exported model cannot have an option.
    """
    if mode not in {'eval', 'train'}:
        msg = f"mode is {mode!r}; give 'eval' or 'train'"
        raise ValueError(msg)
    changes, predictor_options = read_overrides(hydra_overrides_extra)
    if predictor_options:
        names = ', '.join(predictor_options)
        msg = f'{names}: of a video predictor; use build_sam2_video_predictor'
        raise ValueError(msg)
    return _build(
        config_file,
        ckpt_path,
        changes,
        device=device,
        mode=mode,
        apply_postprocessing=apply_postprocessing,
        image_size=image_size,
        compile=compile,
        fast=fast,
        provider=provider,
        policy=policy,
    )


def build_sam2_video_predictor(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None = None,
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    *,
    image_size: tuple[int, int] | None = None,
    compile: bool = False,  # noqa: A002  as torch and MMEngine name it
    fast: bool = False,
    provider: Provider | None = None,
    policy: str | Path | None = None,
) -> 'SAM2VideoPredictor':
    """Build a video predictor; arguments and errors are those of :func:`build_sam2`.

    For other options call ``SAM2VideoPredictor(build_sam2(...), ...)``.

    Args:
        hydra_overrides_extra: May also have options of the predictor, such as
            ``'++model.non_overlap_masks=true'``.
        apply_postprocessing: Also fill holes of up to 8 pixels of the stride-4 mask.
        vos_optimized: The same as ``compile``, as the release names it.
    """
    from .video_predictor import SAM2VideoPredictor  # noqa: PLC0415  avoids a cycle

    model, options = build_video_model(
        config_file,
        ckpt_path,
        device=device,
        mode=mode,
        hydra_overrides_extra=hydra_overrides_extra,
        apply_postprocessing=apply_postprocessing,
        image_size=image_size,
        compile=compile or vos_optimized,
        fast=fast,
        provider=provider,
        policy=policy,
    )
    return SAM2VideoPredictor(model, **options)


def build_for_export(
    config: str | Path | Config,
    checkpoint: str | Path | None,
    image_size: tuple[int, int] | None = None,
    device: Device | None = 'cpu',
    policy: str | Path | None = None,
) -> tuple[SAM2, Config]:
    """Build a model, with adapters merged into its weights.

    Args:
        config: As for :func:`build_sam2`, as are the others.

    Returns:
        The model and its config.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config, checkpoint or policy.
        ValueError: If the config has no model, the checkpoint is damaged, the device
            does not exist, or a side of the image is no multiple of 32.
    """
    loaded = copy.deepcopy(load_model_config(config))
    if policy is not None:
        apply_policy(loaded.model, policy)
    model = build_sam2(loaded, checkpoint, device=device, image_size=image_size)
    if any(map(is_adapter_key, model.state_dict())):
        weights = merged_weights(model)
        loaded.model.adaptations = []
        model = build_sam2(loaded, None, device=device, image_size=image_size)
        model.load_state_dict(weights)
    return model, loaded


def build_sam2_hf(model_id: str, **options: Any) -> SAM2:
    """Build a model by its id on Hugging Face.

    Args:
        model_id: As for :func:`find_pretrained`.
        options: Those of :func:`build_sam2`.

    Raises:
        OSError: If there is no such model, or it cannot be fetched.
    """
    return build_sam2(*find_pretrained(model_id), **options)


def build_sam2_video_predictor_hf(
    model_id: str, **options: Any
) -> 'SAM2VideoPredictor':
    """Build a video predictor by its model's id on Hugging Face.

    Args:
        model_id: As for :func:`find_pretrained`.
        options: Those of :func:`build_sam2_video_predictor`.

    Raises:
        OSError: If there is no such model, or it cannot be fetched.
    """
    return build_sam2_video_predictor(*find_pretrained(model_id), **options)


def build_video_model(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None,
    *,
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    compile: bool = False,  # noqa: A002  as torch and MMEngine name it
    fast: bool = False,
    **options: Any,
) -> tuple[SAM2, dict[str, Any]]:
    """Build the model of a video predictor and collect the predictor's options.

    Args:
        options: The other arguments of :func:`build_sam2_video_predictor`.
    """
    changes, predictor_options = read_overrides(hydra_overrides_extra)
    if apply_postprocessing:
        predictor_options.setdefault('fill_hole_area', FILL_HOLE_AREA)
    model = _build(
        config_file,
        ckpt_path,
        changes,
        apply_postprocessing=apply_postprocessing,
        compile=compile or vos_optimized,
        fast=fast,
        **options,
    )
    return model, predictor_options


def _build(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None,
    changes: dict[str, Any],
    *,
    apply_postprocessing: bool,
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    image_size: tuple[int, int] | None = None,
    compile: bool = False,  # noqa: A002  as torch and MMEngine name it
    fast: bool = False,
    provider: Provider | None = None,
    policy: str | Path | None = None,
) -> SAM2:
    """Build a model from a config with changed values, and load its weights."""
    if image_size is not None:
        changes['data_preprocessor.image_size'] = _read_size(image_size)
    target = usable_device(device)
    if not isinstance(config_file, Config) and is_export(config_file):
        given = {
            'ckpt_path': ckpt_path is not None,
            "mode='train'": mode == 'train',
            'compile': compile,
            'fast': fast,
        }
        if any(given.values()):
            names = ', '.join(name for name, is_given in given.items() if is_given)
            msg = (
                f'{config_file} is an exported model: it has its weights, is compiled '
                f'for its runtime and only predicts; leave out {names}'
            )
            raise ValueError(msg)
        if not apply_postprocessing:
            changes = {'tracker.binary_clicked_memories': False} | changes
        exported: PromptableModel = load_exported(
            config_file,
            device=device,
            provider=provider,
            changes=changes,
            policy=policy,
        )
        # Typed as the model that it stands for: predictors use what both have.
        return cast('SAM2', exported)
    if provider is not None:
        msg = f'provider={provider!r} is of exported models; {config_file} is a config'
        raise ValueError(msg)
    if ckpt_path is not None and is_export(ckpt_path):
        msg = f'{ckpt_path} is an exported model; give it alone, without a config'
        raise ValueError(msg)
    if not apply_postprocessing:
        changes = {
            'mask_decoder.stability_selection': False,
            'tracker.binary_clicked_memories': False,
        } | changes
    config = copy.deepcopy(load_model_config(config_file).model)
    if policy is not None:
        apply_policy(config, policy)
    for path, value in changes.items():
        *parents, name = path.split('.')
        part = config
        for parent in parents:
            if part.get(parent) is None:  # a config may leave out the preprocessor
                part[parent] = ConfigDict(type='ClipDataPreprocessor')
            part = part[parent]
        part[name] = value
    source = None if ckpt_path is None else str(ckpt_path)
    # Read first: a large model takes a while to build, a missing file should not.
    weights = None if source is None else _read_weights(source)
    model: SAM2 = MODELS.build(config)
    if source is not None and weights is not None:
        weights = fit_adapters(weights, model.state_dict())
        check_weights(weights, model, source=source)
        _warn_of_other_config(config_file, weights, source)
        model.load_state_dict(weights)
    model.to(target).train(mode == 'train')
    if fast:
        model.use_fast_settings()
    if compile:
        model.compile_regions()
        # The first frames would seem to hang.
        print_log(
            'The first prompts and frames compile the model, which takes minutes, or '
            'less if it was compiled on this machine before',
            logger='current',
        )
    return model


def _read_size(image_size: object) -> tuple[int, int]:
    """Read height and width; a single number is the side of a square."""
    is_pair = isinstance(image_size, Sequence) and not isinstance(image_size, str)
    sides: Any = image_size if is_pair else (image_size, image_size)
    if len(sides) != 2:
        msg = f'image_size is {image_size!r}; give (height, width)'
        raise ValueError(msg)
    height, width = (
        read_whole_number(side, name='image_size', least=32) for side in sides
    )
    return height, width


def default_device() -> str:
    """``'cuda'`` if there is a GPU, else ``'cpu'``."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def usable_device(device: Device | None) -> torch.device:
    """Check that a device exists; None is the default device.

    Raises:
        ValueError: If the name is unknown, or the GPU does not exist.
    """
    try:
        target = torch.device(device or default_device())
    except RuntimeError as error:
        msg = (
            f"{device!r} is no device; give 'cpu', 'cuda' or, for one of several "
            f"GPUs, 'cuda:1'"
        )
        raise ValueError(msg) from error
    if target.type == 'cuda' and (target.index or 0) >= torch.cuda.device_count():
        msg = (
            f'There is no {target}: torch {torch.__version__} finds '
            f"{torch.cuda.device_count()} GPUs; give another device, such as 'cpu'"
        )
        raise ValueError(msg)
    return target


def model_of(model: object) -> SAM2:
    """Unwrap a model that is compiled, wrapped for several devices, or a predictor's.

    Raises:
        TypeError: If there is no :class:`SAM2` or :class:`ExportedSAM2` inside.
    """
    inner: Any = model
    while not isinstance(inner, SAM2 | ExportedSAM2):
        for name in ('_orig_mod', 'module', 'model'):  # compiled, DDP, a predictor
            if getattr(inner, name, None) is not None:
                inner = getattr(inner, name)
                break
        else:
            msg = (
                f'The model is a {type(model).__name__}; give what build_sam2 or '
                f'build_sam2_video_predictor returns'
            )
            raise TypeError(msg)
    return cast('SAM2', inner)


def load_model_config(config: str | Path | Config) -> Config:
    """Read the config of a model.

    Args:
        config: A config; or its path, relative to the working directory or to
            ``configs/``; or its name, like ``sam2_tiny_mose`` or
            ``mmsam2::sam2_tiny_mose.py``; or a name that the model was released under,
            like ``configs/sam2.1/sam2.1_hiera_b+.yaml``, ``sam2.1_hiera_b+`` or
            ``sam2.1-hiera-base-plus``.

    Returns:
        The config, with an entry ``model``.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If the file is no Python file, cannot be read, or has no model.
    """
    loaded = config if isinstance(config, Config) else read_config(_find_config(config))
    if 'model' not in loaded:
        msg = f'{loaded.filename or "The config"} has no `model`; give one that has'
        raise ValueError(msg)
    return loaded


def _find_config(name: str | Path) -> Path:
    candidates = [Path(name).expanduser()]
    if own := own_config(name):
        candidates.append(own)
    if released := released_weights(name):
        candidates.append(CONFIGS / released.config)
    for path in candidates:
        # A released config or checkpoint may have the same name: only .py is ours.
        if path.suffix == '.py' and path.is_file():
            return path
    given = candidates[0]
    if not given.is_file():
        near = near_configs(name)
        hint = f'Did you mean {" or ".join(near)}? ' if near else ''
        msg = (
            f'{name} is no config: there is no file {given}, none within '
            f'{CONFIGS}, and no model was released under this name. {hint}Give the '
            f'path of a config, or a name like sam2.1_hiera_b+'
        )
        raise FileNotFoundError(msg)
    if given.suffix.lower() in {'.yaml', '.yml'}:
        msg = (
            f'{given} is a YAML file, and configs here are Python files. Give a '
            f'released name, as sam2.1_hiera_b+, with the changed options in '
            f"hydra_overrides_extra=['++model.option=value'], or write a config whose "
            f'_base_ is one of {CONFIGS / "_base_" / "models"}'
        )
    else:
        msg = (
            f'{given} is no config: configs are Python files that end with .py. Give '
            f'the config first and the checkpoint second'
        )
    raise ValueError(msg)


def fitting_config(
    weights: Mapping[str, Tensor],
    config: str | Path | Config | None = None,
    *,
    source: str,
) -> Config:
    """Find the config that weights belong to, or check that a config fits them.

    Args:
        weights: Weights by our names.
        config: As for :func:`load_model_config`; None finds the released one by
            version and size of the weights. Where several have the same weights, as
            the four of an EfficientTAM, the released name of the file tells.
        source: Where the weights come from, for the error.

    Returns:
        The config; its model has exactly these weights.

    Raises:
        CheckpointMismatchError: If no released config fits the weights, or the given
            one does not.
        FileNotFoundError: If there is no such config.
        ValueError: If the config has no model, or one that is not a SAM2.
    """
    if config is None:
        config = _config_of_weights(weights, source)
    loaded = load_model_config(config)
    _check_is_sam2(loaded)
    bare = copy.deepcopy(loaded.model)
    bare.update(loss=None, accumulators=[])  # without weights, so not needed here
    with torch.device('meta'):
        model = MODELS.build(bare)
    check_weights(weights, model, source=source)
    return loaded


def _config_of_weights(weights: Mapping[str, Tensor], source: str) -> str:
    """Path of the released config that fits weights."""
    kind = recognise_model({key: tuple(v.shape) for key, v in weights.items()})
    configs = () if kind is None else kind.configs
    if len(configs) == 1:
        return configs[0]
    released = released_weights(source)
    if released is not None and released.config in configs:
        return released.config
    problem = ', which no released config fits'
    if kind is not None and configs:
        problem = f'; {ambiguity_of(kind)}'
    msg = (
        f'{source} holds {kind or "no SAM 2"}{problem}; give the config that it was '
        f'trained with (--config of a tool, the model of SAM2Inferencer, the config of '
        f'build_sam2)'
    )
    raise CheckpointMismatchError(msg)


def _read_weights(source: str) -> dict[str, Tensor]:
    loaded = CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')
    return weights_of(loaded, source=source)


def _warn_of_other_config(
    config: str | Path | Config, weights: Mapping[str, Tensor], source: str
) -> None:
    """Warn where weights are named as those of another config, which they fit too."""
    name = config.filename if isinstance(config, Config) else config
    given, released = released_weights(str(name)), released_weights(source)
    if given is None or released is None or given.config == released.config:
        return
    kind = recognise_model({key: tuple(v.shape) for key, v in weights.items()})
    if kind is not None and {given.config, released.config} <= {*kind.configs}:
        warnings.warn(
            f'{source} is named as the weights of {released.name}, but the config is '
            f'{given.name}; all weights fit both, and the masks will be worse',
            stacklevel=4,
        )


def _check_is_sam2(config: Config) -> None:
    model = config.model
    kind = model.get('type') if isinstance(model, Mapping) else model
    built_from = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(built_from, type) or not issubclass(built_from, SAM2):
        msg = (
            f'Expected {config.filename or "the config"} to have a model of type SAM2 '
            f'or of a class derived from it, but got {kind!r}; give the config of the '
            f'SAM 2 that the weights belong to'
        )
        raise ValueError(msg)


def find_pretrained(model_id: str) -> tuple[Config | str, str | None]:
    """Find the config and the checkpoint of a pretrained model.

    Args:
        model_id: A checkpoint on this machine, a folder of Hugging Face's transformers,
            a folder with a released file, or one of an exported model. Otherwise the
            id of a model on Hugging Face, like ``facebook/sam2.1-hiera-tiny``: a
            released file that was downloaded, or what the cache of ``huggingface_hub``
            has, or is fetched into it.

    Returns:
        The config, and the path of the checkpoint; of an exported model its folder and
        None. Both are the first arguments of :func:`build_sam2`.

    Raises:
        CheckpointMismatchError: If no released config fits the weights.
        ModuleNotFoundError: If an id is given and ``huggingface_hub`` is missing.
        OSError: If there is no such model, or it cannot be fetched.
        ValueError: If a folder has several released files.
    """
    path = Path(model_id).expanduser()
    if is_export(path):
        return str(path), None
    if path.exists():
        return _with_config(_checkpoint_in(path))
    try:
        config = load_model_config(model_id)
    except FileNotFoundError:  # not released by Meta: look for transformers' files
        folder = Path(_fetch(model_id, 'config.json')).parent
        _fetch(model_id, 'model.safetensors')
        return _with_config(folder)
    if downloaded := find_file(model_id):
        return config, str(downloaded)
    released = released_weights(model_id)
    if isinstance(released, FamilyWeights) and released.repository:
        return config, _fetch(released.repository, released.file_name)
    name = model_id.rpartition('/')[2].replace('-', '_') + '.pt'
    return config, _fetch(model_id, name)


def _checkpoint_in(path: Path) -> Path:
    """The released file in a folder, else the path itself."""
    files = [path / e.name for e in scan_folder(path)] if path.is_dir() else []
    released = sorted(file for file in files if file.suffix == '.pt')
    if len(released) > 1:
        names = ', '.join(file.name for file in released)
        msg = f'{path} has several checkpoints ({names}); name one of them'
        raise ValueError(msg)
    return released[0] if released else path


def _with_config(checkpoint: Path) -> tuple[Config, str]:
    source = str(checkpoint)
    loaded = CheckpointLoader.load_checkpoint(source, 'cpu', logger='silent')
    return fitting_config(weights_of(loaded, source=source), source=source), source


def _fetch(model_id: str, name: str) -> str:
    """Path of a model's file in the cache of Hugging Face, fetched if needed."""
    hub = import_optional(
        'huggingface_hub',
        purpose=f'{model_id} is no file or folder; fetching it from Hugging Face',
    )
    try:
        return str(hub.hf_hub_download(model_id, name))
    except (OSError, ValueError) as error:
        released = released_weights(name) or released_weights(model_id)
        command = ''
        if released:
            command = f', or run: {tool_command("download")} {released.name}'
        msg = (
            f'{model_id} is no file or folder, and its {name} is neither in the cache '
            f'of Hugging Face nor can it be fetched ({error}); check the id and the '
            f'connection, or fetch it by other means and give its folder{command}'
        )
        raise OSError(msg) from error
