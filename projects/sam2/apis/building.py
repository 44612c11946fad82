"""Finds the config that a name means."""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

import torch
import yaml
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..checkpoints import (
    CheckpointMismatchError,
    check_weights,
    fit_adapters,
    recognise_model,
    weights_of,
)
from ..datasets.io.listing import scan_folder
from ..engine.config import read_config
from ..models import SAM2
from ..models.released_names import FIXED_OPTIONS
from ..ops import import_optional
from .inputs import read_whole_number

CONFIG_DIR = Path(__file__).resolve().parents[3] / 'configs'
# `configs/sam2.1/sam2.1_hiera_b+.yaml`, `sam2.1_hiera_base_plus.pt` and their like
# The size ends the name: sam2.1_hiera_t512.yaml is another model.
RELEASED_NAME = re.compile(
    r'sam2(?P<is_2_1>\.1)?[_-]hiera[_-](?P<size>[a-z_+-]+)(\.[a-z]+)?'
)
SIZES = {
    't': 'tiny',
    'tiny': 'tiny',
    's': 'small',
    'small': 'small',
    'b+': 'bplus',
    'base_plus': 'bplus',
    'l': 'large',
    'large': 'large',
}


def load_model_config(config: str | Path | Config) -> Config:
    """Read a config.

    Args:
        config: A config; or the path of one, from the working directory or within
            ``configs/``; or a name that the model was released under, like
            ``configs/sam2.1/sam2.1_hiera_b+.yaml``, ``sam2.1_hiera_b+`` or
            ``sam2.1-hiera-base-plus``.

    Returns:
        The config, with an entry ``model``.

    Raises:
        FileNotFoundError: If the name means no config.
        ValueError: If the file is no Python file, cannot be read, or has no model.
    """
    loaded = config if isinstance(config, Config) else read_config(_find(config))
    if 'model' not in loaded:
        msg = f'{loaded.filename or "The config"} has no `model`; give one that has'
        raise ValueError(msg)
    return loaded


def _find(name: str | Path) -> Path:
    """Path of the config that a name means."""
    candidates = [Path(name).expanduser(), CONFIG_DIR / name]
    released = RELEASED_NAME.fullmatch(re.split(r'[/\\]', str(name))[-1])
    size = SIZES.get(released['size'].replace('-', '_')) if released else None
    if released and size:
        version = '1' if released['is_2_1'] else '0'
        candidates.append(
            CONFIG_DIR / '_base_' / 'models' / f'sam2_{version}_{size}.py'
        )
    # What was released are files of another kind.
    found = [path for path in candidates if path.suffix == '.py' and path.is_file()]
    if not found and candidates[0].is_file():
        raise ValueError(_why_no_config(candidates[0]))
    if not found:
        msg = (
            f'{name} is no config: there is no file {candidates[0]}, none within '
            f'{CONFIG_DIR}, and no model was released under this name. Give the path '
            f'of a config, or a name like sam2.1_hiera_b+'
        )
        raise FileNotFoundError(msg)
    return found[0]


def _why_no_config(path: Path) -> str:
    """What to do about a file that is there, but is no config of ours."""
    if path.suffix.lower() in {'.yaml', '.yml'}:
        return (
            f'{path} is a YAML file, and configs here are Python files. Give a '
            f'released name, as sam2.1_hiera_b+, with the changed options in '
            f"hydra_overrides_extra=['++model.option=value'], or write a config whose "
            f'_base_ is one of {CONFIG_DIR / "_base_" / "models"}'
        )
    return (
        f'{path} is no config: configs are Python files that end with .py. Give the '
        f'config first and the checkpoint second'
    )


MODEL_PREFIX = 'model.'
DECODER_PREFIX = 'sam_mask_decoder_extra_args.dynamic_multimask_'


class PredictorOptions(TypedDict, total=False):
    """Options of ``SAM2VideoPredictor`` that the release writes into its configs.

    Attributes:
        fill_hole_area: See ``SAM2VideoPredictor``.
        non_overlap_masks: Likewise.
        clear_non_cond_mem_around_input: Likewise.
        add_all_frames_to_correct_as_cond: Likewise.
    """

    fill_hole_area: float
    non_overlap_masks: bool
    clear_non_cond_mem_around_input: bool
    add_all_frames_to_correct_as_cond: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedOverrides:
    """What overrides ask for.

    Attributes:
        model: Values for a model's config, by their dotted path.
        predictor: Options of the video predictor.
    """

    model: dict[str, Any] = field(default_factory=dict)
    predictor: PredictorOptions = field(default_factory=PredictorOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOption:
    """Where our config has an option of the release.

    Attributes:
        path: Below ``model``.
        kind: Type of the value.
        convert: Makes ours of it.
    """

    path: str
    kind: type
    convert: Callable[[Any], Any] = lambda value: value


MODEL_OPTIONS = {
    'image_size': ModelOption(
        path='data_preprocessor.image_size',
        kind=int,
        convert=lambda side: (side, side),
    ),
    'num_maskmem': ModelOption(path='tracker.memory_bank.num_frames', kind=int),
    'max_cond_frames_in_attn': ModelOption(
        path='tracker.memory_bank.max_conditioning_frames',
        kind=int,
        convert=lambda limit: None if limit == -1 else limit,
    ),
    'memory_temporal_stride_for_eval': ModelOption(
        path='tracker.memory_bank.stride', kind=int
    ),
    'max_obj_ptrs_in_encoder': ModelOption(
        path='tracker.memory_bank.max_pointers', kind=int
    ),
    'only_obj_ptrs_in_the_past_for_eval': ModelOption(
        path='tracker.memory_bank.future_pointers',
        kind=bool,
        convert=lambda only_past: not only_past,
    ),
    'binarize_mask_from_pts_for_mem_enc': ModelOption(
        path='tracker.binary_clicked_memories', kind=bool
    ),
    'non_overlap_masks_for_mem_enc': ModelOption(
        path='tracker.non_overlapping_memories', kind=bool
    ),
    f'{DECODER_PREFIX}via_stability': ModelOption(
        path='mask_decoder.stability_selection', kind=bool
    ),
}
PREDICTOR_OPTIONS: dict[str, type] = {
    'fill_hole_area': float,
    'non_overlap_masks': bool,
    'clear_non_cond_mem_around_input': bool,
    'add_all_frames_to_correct_as_cond': bool,
}
# They always hold one value, which is a constant here.
FIXED_VALUES = {
    f'{DECODER_PREFIX}stability_delta': 0.05,
    f'{DECODER_PREFIX}stability_thresh': 0.98,
    **FIXED_OPTIONS,
}


def read_overrides(overrides: Sequence[str]) -> ReleasedOverrides:
    """Read overrides as the release writes them.

    Args:
        overrides: ``++model.option=value`` each; later ones win.

    Returns:
        The same in our words.

    Raises:
        ValueError: If one sets no value, a value that an option cannot have, or an
            option that there is not.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        msg = f'hydra_overrides_extra is {overrides!r}; give a list of strings'
        raise ValueError(msg)
    read = ReleasedOverrides()
    for override in overrides:
        name, equals, text = override.lstrip('+').partition('=')
        name = name.strip().removeprefix(MODEL_PREFIX)
        if not equals:
            msg = f"{override!r} sets no value; write '++model.option=value'"
            raise ValueError(msg)
        value: object = yaml.safe_load(text)  # type: ignore[no-untyped-call]  # no stubs
        if name in MODEL_OPTIONS:
            option = MODEL_OPTIONS[name]
            checked = _checked(override, value, option.kind)
            read.model[option.path] = option.convert(checked)
        elif name in PREDICTOR_OPTIONS:
            checked = _checked(override, value, PREDICTOR_OPTIONS[name])
            read.predictor.update({name: checked})  # type: ignore[misc]  # a known name
        elif FIXED_VALUES.get(name, value) != value or name not in FIXED_VALUES:
            raise ValueError(_refusal(override, name))
    return read


def _checked(override: str, value: object, kind: type) -> object:
    """The value, where it is of the kind that its option has."""
    known = (int, float) if kind is float else kind
    if not isinstance(value, known) or (isinstance(value, bool) and kind is not bool):
        msg = f'{override!r} gives {value!r} where a {kind.__name__} is expected'
        raise ValueError(msg)
    return value


def _refusal(override: str, name: str) -> str:
    """Why an override is not taken."""
    if name in FIXED_VALUES:
        return f'{override!r}: this model always has {FIXED_VALUES[name]}; leave it out'
    known = ', '.join(sorted({*MODEL_OPTIONS, *PREDICTOR_OPTIONS}))
    return (
        f'{override!r} sets an option that is not known here; those known: {known}. '
        f'What else there is to set stands in our config'
    )


# A model may leave out this part.
PART_TYPES = {'data_preprocessor': {'type': 'ClipDataPreprocessor'}}
# What the release's `apply_postprocessing` sets, beside the holes that are filled.
PLAIN_MODEL = {
    'mask_decoder.stability_selection': False,
    'tracker.binary_clicked_memories': False,
}
Device = str | torch.device


class HasModel(Protocol):
    """A predictor around a model."""

    @property
    def model(self) -> SAM2:
        """The model."""


ModelLike = SAM2 | HasModel


class BuildOptions(TypedDict, total=False):
    """What :func:`build_sam2` takes beside a config and a checkpoint.

    Attributes:
        device: See :func:`build_sam2`.
        mode: Likewise.
        hydra_overrides_extra: Likewise.
        apply_postprocessing: Likewise.
        image_size: Likewise.
    """

    device: Device | None
    mode: Literal['eval', 'train']
    hydra_overrides_extra: Sequence[str]
    apply_postprocessing: bool
    image_size: tuple[int, int] | None


def build_sam2(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None = None,
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    *,
    image_size: tuple[int, int] | None = None,
) -> SAM2:
    """Build a model and load its weights.

    Args:
        config_file: As for :func:`load_model_config`; a released name will do.
        ckpt_path: A released file, a SAM 2 folder of Hugging Face's transformers, or
            a file of ours; None leaves the weights at random.
        device: Where the model goes; by default ``'cuda'`` where there is one.
        mode: ``'eval'``, or ``'train'`` with dropout and the like.
        hydra_overrides_extra: As in the release, ``'++model.image_size=512'``.
        apply_postprocessing: Choose between the single mask and the best of three by
            stability, and remember clicked masks as decided, as the config says;
            False does neither.
        image_size: Height and width that images and frames are brought to, multiples
            of 32; by default what the config says.

    Returns:
        The model.

    Raises:
        CheckpointMismatchError: If the weights are of another version or size.
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If the config has no model, the checkpoint is damaged, a side
            is no multiple of 32, the device is not there, the mode is unknown, or
            an override is.
    """
    if mode not in {'eval', 'train'}:
        msg = f"mode is {mode!r}; give 'eval' or 'train'"
        raise ValueError(msg)
    asked = read_overrides(hydra_overrides_extra)
    if asked.predictor:
        names = ', '.join(asked.predictor)
        msg = f'{names}: of a video predictor; use build_sam2_video_predictor'
        raise ValueError(msg)
    changes = ({} if apply_postprocessing else PLAIN_MODEL) | asked.model
    if image_size is not None:
        changes |= {'data_preprocessor.image_size': _size(image_size)}
    place = usable_device(device)
    model: SAM2 = MODELS.build(_changed(load_model_config(config_file).model, changes))
    if ckpt_path is not None:
        loaded = CheckpointLoader.load_checkpoint(str(ckpt_path), map_location='cpu')
        weights = fit_adapters(
            weights_of(loaded, source=str(ckpt_path)), model.state_dict()
        )
        check_weights(weights, model, source=str(ckpt_path))
        model.load_state_dict(weights)
    model.to(place).train(mode == 'train')
    return model


def model_of(model: object) -> SAM2:
    """Unwrap a model.

    Args:
        model: As :func:`build_sam2` returns it, compiled or wrapped for several
            devices; or a predictor.

    Returns:
        The model itself.

    Raises:
        TypeError: If ``model`` is something else.
    """
    inner: Any = model
    while not isinstance(inner, SAM2):
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
    return inner


def default_device() -> str:
    """Where models go unless told otherwise.

    Returns:
        ``'cuda'`` where there is one, else ``'cpu'``.
    """
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def usable_device(device: Device | None) -> torch.device:
    """Check a device.

    Args:
        device: As for :func:`build_sam2`.

    Returns:
        The device.

    Raises:
        ValueError: If its name is unknown, or it is a GPU that is not there.
    """
    try:
        place = torch.device(device or default_device())
    except RuntimeError as error:
        msg = (
            f"{device!r} is no device; give 'cpu', 'cuda' or, for one of them, 'cuda:1'"
        )
        raise ValueError(msg) from error
    if place.type == 'cuda' and (place.index or 0) >= torch.cuda.device_count():
        msg = (
            f'There is no {place}: torch {torch.__version__} finds '
            f"{torch.cuda.device_count()} GPUs; give another device, such as 'cpu'"
        )
        raise ValueError(msg)
    return place


def _size(image_size: object) -> tuple[int, int]:
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


def _changed(model: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """A copy of a model's config with other values, by their dotted paths."""
    settings = copy.deepcopy(model)
    for path, value in changes.items():
        *parents, name = path.split('.')
        part = settings
        for parent in parents:
            if part.get(parent) is None:
                part[parent] = ConfigDict(PART_TYPES.get(parent, {}))
            part = part[parent]
        part[name] = value
    return settings


def fitting_config(
    weights: Mapping[str, Tensor],
    config: str | Path | Config | None = None,
    *,
    source: str,
) -> Config:
    """Find or check the config that weights belong to.

    Args:
        weights: By our names.
        config: As for :func:`load_model_config`; None goes by version and size of the
            weights.
        source: Where the weights come from, for the error.

    Returns:
        The config; its model has exactly these weights.

    Raises:
        CheckpointMismatchError: If no config fits, or not this one.
        FileNotFoundError: If there is no such config.
        ValueError: If the config has no model, or one that is no SAM2.
    """
    if config is None:
        kind = recognise_model({key: tuple(v.shape) for key, v in weights.items()})
        if kind is None or kind.config is None:
            msg = (
                f'{source} holds {kind or "no SAM 2"}, which no released config fits; '
                f'give the config that it was trained with (--config of a tool, the '
                f'model of SAM2Inferencer, the config of build_sam2)'
            )
            raise CheckpointMismatchError(msg)
        config = kind.config
    loaded = load_model_config(config)
    _require_sam2(loaded)
    bare = copy.deepcopy(loaded.model)
    bare.update(loss=None, accumulators=[])  # they have no weights
    with torch.device('meta'):
        model = MODELS.build(bare)
    check_weights(weights, model, source=source)
    return loaded


def _require_sam2(config: Config) -> None:
    """Raise where the model of a config is no SAM2."""
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


RELEASED_SUFFIX = '.pt'
TRANSFORMERS_FILES = ('config.json', 'model.safetensors')


def find_pretrained(model_id: str) -> tuple[Config, str]:
    """Find the config and the checkpoint that a name stands for.

    Args:
        model_id: A file or folder of this machine: a checkpoint, a folder that
            Hugging Face's transformers wrote, or one with a released file. Or the id
            of a model on Hugging Face, like ``facebook/sam2.1-hiera-tiny``, which is
            taken from the cache of ``huggingface_hub`` or fetched into it.

    Returns:
        Config, and path of the checkpoint.

    Raises:
        CheckpointMismatchError: If no released config fits the weights.
        ModuleNotFoundError: If an id is given and ``huggingface_hub`` is missing.
        OSError: If there is no such model, or no way to it.
        ValueError: If a folder has several released files.
    """
    path = Path(model_id).expanduser()
    if path.exists():
        return _with_config(_checkpoint_of(path))
    try:
        config = load_model_config(model_id)
    except FileNotFoundError:  # a model of somebody else's
        files = [_from_hub(model_id, name) for name in TRANSFORMERS_FILES]
        return _with_config(Path(files[0]).parent)
    name = model_id.rpartition('/')[2].replace('-', '_') + RELEASED_SUFFIX
    return config, _from_hub(model_id, name)


def _checkpoint_of(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the released file in a folder."""
    files = [path / e.name for e in scan_folder(path)] if path.is_dir() else []
    released = sorted(file for file in files if file.suffix == RELEASED_SUFFIX)
    if len(released) > 1:
        names = ', '.join(file.name for file in released)
        msg = f'{path} has several checkpoints ({names}); name one of them'
        raise ValueError(msg)
    return released[0] if released else path


def _with_config(checkpoint: Path) -> tuple[Config, str]:
    """A checkpoint and the released config of its weights."""
    source = str(checkpoint)
    loaded = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    return fitting_config(weights_of(loaded, source=source), source=source), source


def _from_hub(model_id: str, name: str) -> str:
    """Path of a file in the cache, where it is fetched to if need be."""
    hub = import_optional(
        'huggingface_hub',
        purpose=f'{model_id} is no file or folder; fetching it from Hugging Face',
    )
    try:
        return str(hub.hf_hub_download(model_id, name))
    except (OSError, ValueError) as error:
        msg = (
            f'{model_id} is no file or folder, and {name} of it is neither in the '
            f'cache of Hugging Face nor can it be fetched ({error}); check the id and '
            f'the connection, or fetch it by other means and give its folder'
        )
        raise OSError(msg) from error


FILLED_HOLE_AREA = 8.0  # pixels of the stride-4 mask, as in the released predictor
PARTS_FOR_OBJECTS = (
    'mask_decoder',
    'tracker.memory_attention',
    'tracker.memory_encoder',
)


class VideoBuildOptions(BuildOptions, total=False):
    """What :func:`build_sam2_video_predictor` takes likewise.

    Attributes:
        vos_optimized: See :func:`build_sam2_video_predictor`.
    """

    vos_optimized: bool


def build_video_model(
    config_file: str | Path | Config,
    ckpt_path: str | Path | None,
    *,
    vos_optimized: bool = False,
    apply_postprocessing: bool = True,
    hydra_overrides_extra: Sequence[str] = (),
    device: Device | None = None,
    mode: Literal['eval', 'train'] = 'eval',
    image_size: tuple[int, int] | None = None,
) -> tuple[SAM2, PredictorOptions]:
    """Build what a video predictor is made of.

    Args:
        config_file: See :func:`build_sam2`.
        ckpt_path: Likewise.
        vos_optimized: See :func:`build_sam2_video_predictor`.
        apply_postprocessing: Likewise.
        hydra_overrides_extra: Likewise.
        device: See :func:`build_sam2`.
        mode: Likewise.
        image_size: Likewise.

    Returns:
        The model, and the options of its predictor.

    Raises:
        ValueError: As from :func:`build_sam2`.
    """
    options = read_overrides(hydra_overrides_extra).predictor
    if apply_postprocessing:
        options.setdefault('fill_hole_area', FILLED_HOLE_AREA)
    model = build_sam2(
        config_file,
        ckpt_path,
        device=device,
        mode=mode,
        hydra_overrides_extra=[
            one for one in hydra_overrides_extra if not read_overrides([one]).predictor
        ],
        apply_postprocessing=apply_postprocessing,
        image_size=image_size,
    )
    if vos_optimized:
        model.image_encoder.compile()
        for path in PARTS_FOR_OBJECTS:  # whose number varies
            model.get_submodule(path).compile(dynamic=True)
    return model, options
