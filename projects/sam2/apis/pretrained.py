"""Finds models by the names that they have on Hugging Face."""

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from projects.sam2.apis.building import fitting_config
from projects.sam2.apis.configs import load_model_config
from projects.sam2.checkpoints import weights_of
from projects.sam2.datasets.file_endings import scan_folder
from projects.sam2.ops import import_optional

__all__ = ['find_pretrained']

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
