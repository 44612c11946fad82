"""Fetches checkpoints into the cache of ``torch.hub``."""

from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from filelock import FileLock

__all__ = ['fetch']

# A lock of a system that does not free those of dead processes ends the wait.
LOCK_SECONDS = 3600.0


def fetch(url: str) -> Path:
    """Fetch a file, unless the cache has it already.

    Any number of processes may call this, one alone as well: the first one fetches,
    those that share its cache wait for it at a file lock.

    Args:
        url: Address of the file.

    Returns:
        Its path in the cache.

    Raises:
        ValueError: If the address names no file.
        OSError: If the file cannot be fetched or kept.
    """
    name = PurePosixPath(urlparse(url).path).name
    if name in {'', '..'}:
        msg = f'{url} names no file; give the address of a checkpoint'
        raise ValueError(msg)
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f'{path}.lock', timeout=LOCK_SECONDS):
            # Another process may have been faster.
            if not path.is_file():
                # Comes under another name and is renamed: whole or not there.
                torch.hub.download_url_to_file(url, str(path), progress=False)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        msg = (
            f'{url} cannot be fetched to {path}: {error}; check the address, the '
            f'connection and the folder, or fetch the file by other means and give '
            f'its path'
        )
        raise OSError(msg) from error
    return path
