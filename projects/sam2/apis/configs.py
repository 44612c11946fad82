"""Finds the config that a name means."""

import re
from pathlib import Path

from mmengine.config import Config

from projects.sam2.engine.config import read_config

__all__ = ['CONFIG_DIR', 'load_model_config']

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
