"""Recognises files that are no checkpoints by their first bytes."""

import json
import pickle
import pickletools
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from importlib import import_module
from itertools import islice
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlparse
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from filelock import FileLock
from mmengine.logging import HistoryBuffer
from torch import Tensor
from torch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
)

from ..ops import import_optional

UNPACK = 'unpack it and give the checkpoint inside'
NOT_WEIGHTS = 'give a file of weights (.pt, .pth, .bin or .safetensors)'
SAVE_WEIGHTS = 'save the state dict alone: torch.save(model.state_dict(), path)'
HEAD_BYTES = 512
# Position, bytes, description, remedy.
SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (
        0,
        b'version https:',
        'a Git LFS pointer, which only says where the file is',
        'fetch the file itself, by `git lfs pull` in its repository',
    ),
    (0, b'\x1f\x8b', 'a file packed by gzip', UNPACK),
    (0, b'BZh', 'a file packed by bzip2', UNPACK),
    (0, b'\xfd7zXZ', 'a file packed by xz', UNPACK),
    (0, b'\x28\xb5\x2f\xfd', 'a file packed by zstd', UNPACK),
    (0, b'7z\xbc\xaf\x27\x1c', 'a 7z archive', UNPACK),
    (0, b'Rar!', 'a RAR archive', UNPACK),
    (257, b'ustar', 'a tar archive', UNPACK),
    (0, b'\x89HDF\r\n', 'an HDF5 file (Keras or h5py)', NOT_WEIGHTS),
    (0, b'\x93NUMPY', 'a NumPy array', NOT_WEIGHTS),
    (0, b'GGUF', 'a GGUF file', NOT_WEIGHTS),
    (4, b'TFL3', 'a TensorFlow Lite model', NOT_WEIGHTS),
    (0, b'\xff\xd8\xff', 'a JPEG image', NOT_WEIGHTS),
    (0, b'\x89PNG', 'a PNG image', NOT_WEIGHTS),
    (0, b'%PDF', 'a PDF document', NOT_WEIGHTS),
)
# The first field of ONNX, its version, and the tags that follow it.
ONNX_START = re.compile(rb'\x08[\x01-\x1f][\x12\x1a\x3a]')


class CheckpointFileError(ValueError):
    """A file is no checkpoint, is damaged, or could run code."""


def refuse_foreign(path: Path) -> bytes:
    """Raise if a file is certainly no checkpoint.

    Returns:
        The first bytes of the file.

    Raises:
        CheckpointFileError: If it is a web page, a Git LFS pointer, an archive of
            another program, an image or the like.
    """
    with path.open('rb') as file:
        head = file.read(HEAD_BYTES)
    foreign = _foreign_kind(head, path.suffix)
    if foreign is not None:
        what, remedy = foreign
        size = path.stat().st_size
        msg = f'{path} ({size} bytes) is no checkpoint but {what}; {remedy}'
        raise CheckpointFileError(msg)
    return head


def _foreign_kind(head: bytes, suffix: str) -> tuple[str, str] | None:
    """Description and remedy of a file that is certainly no checkpoint."""
    for start, signature, what, remedy in SIGNATURES:
        if head.startswith(signature, start):
            return what, remedy
    if suffix == '.onnx' or ONNX_START.match(head):
        return 'an ONNX model', NOT_WEIGHTS
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip()
    if text.startswith(b'<'):
        return (
            'a web page (HTML or XML)',
            'the address leads to a page or asks to sign in; fetch the file itself',
        )
    if text.startswith((b'{', b'[')):
        return 'JSON: a config, or the answer of a server', NOT_WEIGHTS
    if len(text) > 1 and re.fullmatch(rb'[\x20-\x7e\s]+', text):
        return 'text', NOT_WEIGHTS
    return None


SUFFIX = '.safetensors'
# Names that Hugging Face's transformers gives: one file, or shards and their index.
WEIGHTS_FILE = f'model{SUFFIX}'
INDEX_FILE = f'{WEIGHTS_FILE}.index.json'
FETCH_WHOLE_AGAIN = 'the file is damaged or was not fetched whole; fetch it again'
# An index names each weight once; one of thousands of weights has a few hundred kB.
MAX_INDEX_BYTES = 64 << 20


def read_safetensors(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    """Read a file.

    Raises:
        CheckpointFileError: If the file is truncated, claims more than it holds, or is
            no safetensors.
        ImportError: If the package is missing.
    """
    refuse_foreign(path)
    library = _library()
    try:
        loaded: dict[str, Tensor] = library.torch.load_file(path, device=str(device))
    except (library.SafetensorError, MemoryError, RuntimeError, ValueError) as error:
        msg = f'{path} ({path.stat().st_size} bytes) is no whole safetensors file: '
        problem = str(error).partition('\n')[0] or type(error).__name__
        raise CheckpointFileError(f'{msg}{problem}; {FETCH_AGAIN}') from error
    return loaded


def read_safetensors_folder(
    folder: Path, device: str | torch.device
) -> dict[str, Tensor]:
    """Read the weights of a folder that transformers wrote, in one file or in shards.

    Args:
        folder: With ``model.safetensors``, or its shards and their index.

    Raises:
        FileNotFoundError: If there are no weights, or a shard is missing.
        CheckpointFileError: If a file is damaged, or a shard lacks weights that the
            index names.
        ImportError: If the package is missing.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return read_safetensors(folder / WEIGHTS_FILE, device)
    index = folder / INDEX_FILE
    if not index.is_file():
        msg = (
            f'{folder} is a folder without {WEIGHTS_FILE} or {INDEX_FILE}; give a '
            f'checkpoint file, or a folder that transformers wrote with safetensors'
        )
        raise FileNotFoundError(msg)
    shard_of = _read_index(index)
    shards = sorted(set(shard_of.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        msg = (
            f'{folder} lacks {len(missing)} of the {len(shards)} files that '
            f'{INDEX_FILE} names: {", ".join(missing)}; fetch them'
        )
        raise FileNotFoundError(msg)
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= read_safetensors(folder / shard, device)
    lost = sorted(shard_of.keys() - weights.keys())
    if lost:
        msg = (
            f'{folder}: {len(lost)} weights that {INDEX_FILE} names are in no file, '
            f'{lost[0]} in {shard_of[lost[0]]} among them; fetch the folder again'
        )
        raise CheckpointFileError(msg)
    return weights


def write_safetensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a file that transformers reads.

    Args:
        weights: Tensors by name; no two may share their memory.

    Raises:
        ImportError: If the package is missing.
    """
    whole = {key: value.contiguous() for key, value in weights.items()}
    library = _library()
    path.touch()
    mode = path.stat().st_mode
    # transformers refuses a file that does not name its framework.
    library.torch.save_file(whole, path, metadata={'format': 'pt'})
    # Written for its owner's eyes alone; others may read it as any other new file.
    path.chmod(mode)


def _read_index(path: Path) -> dict[str, str]:
    """File of each weight; files lie beside the index."""
    size = path.stat().st_size
    if size > MAX_INDEX_BYTES:
        msg = f'{path} has {size} bytes, too many for an index; {FETCH_AGAIN}'
        raise CheckpointFileError(msg)
    try:
        shard_of = json.loads(path.read_text(encoding='utf-8'))['weight_map']
        is_flat = all(Path(shard).name == shard for shard in shard_of.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f'{path} is no index of safetensors ({error!r}); {FETCH_AGAIN}'
        raise CheckpointFileError(msg) from error
    if not is_flat:
        msg = f'{path} names files outside its folder; fetch it from another source'
        raise CheckpointFileError(msg)
    return {str(key): str(shard) for key, shard in shard_of.items()}


def _library() -> ModuleType:
    """The package, asked for only where a file of this kind is at hand."""
    import_optional('safetensors.torch', purpose='A file of safetensors')
    return import_module('safetensors')


# A lock of a system that does not free those of dead processes ends the wait.
LOCK_SECONDS = 3600.0


def fetch(url: str) -> Path:
    """Fetch a file, unless the cache has it already.

    Any number of processes may call this, one alone as well: the first one fetches,
    those that share its cache wait for it at a file lock.

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


MapLocation = str | torch.device | None

FETCH_AGAIN = (
    'fetch it again, or take another one (of your own run, --resume without a name '
    'finds the newest that is whole)'
)
# Of an archive's directory: zipfile makes an object of each entry, however many the
# archive says there are. torch.save writes at most 350 bytes for each tensor.
MAX_DIRECTORY_BYTES = 8 << 20
# The pickle that says how the tensors are put together; its folder may have any name.
RECIPE = ['data.pkl']
MAX_RECIPE_BYTES = 128 << 20
# The pickle takes about 30 steps for a tensor, and one for a number.
MAX_STEPS = 4_000_000
# Before it had archives, torch wrote three short pickles, the content, and the names of
# the tensors.
NUM_OLD_PICKLES = 5
ARCHIVE_START = b'PK\x03\x04'
PICKLE_START = b'\x80'
# Tensors may repeat what is stored (`expand`), but not without limit.
MAX_REPEATED_BYTES = 1 << 30
END_RECORD, MAX_END_BYTES = b'PK\x05\x06', 22 + (1 << 16)
# Of archives with large numbers, just before that: another record, and its position.
END_RECORD_64, END_BYTES_64 = b'PK\x06\x06', 56
LOCATOR_64, LOCATOR_BYTES_64 = b'PK\x06\x07', 20
LOCAL_HEADER_BYTES = 30

UNREADABLE = (
    EOFError,
    RuntimeError,  # torch's, and RecursionError
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    BadZipFile,
    NotImplementedError,
)


def load_file(
    path: Path, map_location: MapLocation = None, *, mmap: bool = False
) -> object:
    """Read a file that ``torch.save`` or safetensors wrote, under whatever name.

    Args:
        map_location: Where the tensors go, as in ``torch.load``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointFileError: If the file has neither format, is damaged, claims more
            than it holds, or needs a class that may run code.
        ImportError: If it is in safetensors and that package is missing.
    """
    if not path.is_file():
        is_there = 'is no regular file' if path.exists() else 'does not exist'
        msg = f'{path} {is_there}; give the path of a checkpoint'
        raise FileNotFoundError(msg)
    size = path.stat().st_size
    head = refuse_foreign(path)
    if _is_safetensors(head, size) or path.suffix == SUFFIX:
        return read_safetensors(path, map_location or 'cpu')
    try:
        _check_content(path, head)
        with _stand_ins(), warnings.catch_warnings():
            # For pickles that torch did not write; the error that follows says more.
            warnings.filterwarnings('ignore', 'Detected pickle protocol')
            loaded = torch.load(
                path, map_location=map_location, weights_only=True, mmap=mmap or None
            )
        return _with_real_types(loaded, {})
    except CheckpointFileError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(f'{path} {_refusal(error)}') from error
    except UNREADABLE as error:
        problem = str(error).strip().partition('\n')[0] or type(error).__name__
        problem, *_ = problem.split('. In PyTorch 2.6')  # advice to run what it holds
        if isinstance(error, MemoryError):
            problem = 'it asks for more memory than there is'
        msg = (
            f'{path} ({size} bytes) is no checkpoint, or damaged: {problem}; '
            f'{FETCH_AGAIN}'
        )
        raise CheckpointFileError(msg) from error


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON header and the header."""
    return head[8:9] == b'{' and int.from_bytes(head[:8], 'little') <= size


def _refusal(error: pickle.UnpicklingError) -> str:
    """What torch stopped at, without its advice to let the file run code."""
    reason = str(error.__context__ or error).strip().partition('\n')[0]
    needed = re.search(r'GLOBAL (\S+)', reason)
    if needed:
        return (
            f'needs {needed[1]}, which may run code on loading, and is refused; '
            f'{SAVE_WEIGHTS}'
        )
    return (
        f'is no checkpoint, or holds objects that may run code on loading, which is '
        f'refused ({reason}); {SAVE_WEIGHTS}'
    )


def _check_content(path: Path, head: bytes) -> None:
    """Refuse a file that ``torch.save`` did not write, before torch reads it."""
    if head.startswith(ARCHIVE_START):
        _check_archive(path)
    elif head.startswith(PICKLE_START):
        with path.open('rb') as file:
            _check_length(file, num_pickles=NUM_OLD_PICKLES)
    else:
        msg = 'it begins like no file of torch or safetensors'
        raise ValueError(msg)


def _check_archive(path: Path) -> None:
    """Refuse an archive that ``torch.save`` did not write, before torch reads it.

    torch writes members uncompressed, one after the other. An archive with compressed
    or overlapping members may ask for far more memory than it has bytes.
    """
    num_bytes = _directory_bytes(path)
    if num_bytes > MAX_DIRECTORY_BYTES:
        msg = (
            f'{path} is no checkpoint: the directory of its archive has {num_bytes} '
            f'bytes, more than {MAX_DIRECTORY_BYTES}; {SAVE_WEIGHTS}'
        )
        raise CheckpointFileError(msg)
    with ZipFile(path) as archive:
        members = archive.infolist()
        problem = _content_problem(members) or _layout_problem(
            members, archive.start_dir
        )
        if problem is not None:
            raise CheckpointFileError(f'{path} is no checkpoint: {problem}')
        (recipe,) = (m for m in members if m.filename.split('/')[1:] == RECIPE)
        with archive.open(recipe) as file:
            _check_length(file, num_pickles=1)


def _check_length(file: IO[bytes], *, num_pickles: int) -> None:
    """Refuse pickles of more steps than weights and histories need.

    Each step may take a hundred times its own bytes of memory.
    """
    steps = (step for _ in range(num_pickles) for step in pickletools.genops(file))
    try:
        step_too_many = next(islice(steps, MAX_STEPS, None), None)
    except ValueError:
        return  # torch reports better what is wrong with the pickle
    if step_too_many is not None:
        msg = f'its pickle has more than {MAX_STEPS} steps'
        raise ValueError(msg)


def _directory_bytes(path: Path) -> int:
    """Size of an archive's directory, as zipfile will read it."""
    with path.open('rb') as file:
        end_bytes = MAX_END_BYTES + LOCATOR_BYTES_64 + END_BYTES_64
        offset = file.seek(max(path.stat().st_size - end_bytes, 0))
        end = file.read()
    start = end.rfind(END_RECORD)
    if start < 0:
        msg = 'the end of its archive is missing, it was not fetched or written whole'
        raise BadZipFile(msg)
    (size,) = struct.unpack_from('<L', end, start + 12)
    locator = start - LOCATOR_BYTES_64
    if locator >= 0 and end.startswith(LOCATOR_64, locator):
        record = locator - END_BYTES_64
        (position,) = struct.unpack_from('<Q', end, locator + 8)
        if position != offset + record or not end.startswith(END_RECORD_64, record):
            msg = 'the end of its archive is damaged'
            raise BadZipFile(msg)
        (size,) = struct.unpack_from('<Q', end, record + 40)
    return int(size)


def _content_problem(members: list[ZipInfo]) -> str | None:
    """Describe an archive without a recipe and tensors; None if it has them."""
    names = [member.filename for member in members]
    parts = [name.split('/') for name in names]
    if any(part[-1] == 'constants.pkl' or 'code' in part[1:-1] for part in parts):
        return (
            f'it is a TorchScript program, whose code would run, and is refused; load '
            f'it where you trust it and {SAVE_WEIGHTS}'
        )
    recipes = [m for m, part in zip(members, parts, strict=True) if part[1:] == RECIPE]
    if not recipes:
        shown = ', '.join(names[:3])
        if names and all(name.endswith('.npy') for name in names):
            return f'it is an archive of NumPy arrays ({shown}); {NOT_WEIGHTS}'
        return f'it is a zip archive of something else ({shown or "nothing"}); {UNPACK}'
    if max(recipe.file_size for recipe in recipes) > MAX_RECIPE_BYTES:
        return (
            f'its data.pkl has {recipes[0].file_size} bytes, more than the '
            f'{MAX_RECIPE_BYTES} that weights and histories need; {SAVE_WEIGHTS}'
        )
    return None


def _layout_problem(members: list[ZipInfo], end: int) -> str | None:
    """Describe how an archive's layout differs from ``torch.save``'s; None if not."""
    if len({member.filename.lower() for member in members}) < len(members):
        return f'its archive has members of the same name; {FETCH_AGAIN}'
    ordered = sorted(members, key=lambda member: member.header_offset)
    starts = [member.header_offset for member in ordered] + [end]
    for member, start, following in zip(ordered, starts, starts[1:], strict=False):
        packed, size = member.compress_size, member.file_size
        if member.compress_type != ZIP_STORED or packed != size:
            return (
                f'{member.filename} is compressed ({packed} bytes to {size}), which '
                f'torch.save never does; unpack and save it again'
            )
        if start + LOCAL_HEADER_BYTES + len(member.filename) + size > following:
            return (
                f'{member.filename} claims {size} bytes, more than the file has for '
                f'it; {FETCH_AGAIN}'
            )
    return None if starts[0] == 0 else f'something lies before it; {FETCH_AGAIN}'


class _StandIn:
    """Takes the place of an object whose class may not be built from a file."""

    state: Any = None

    def __new__(cls, *_: object) -> '_StandIn':
        """Take any arguments, as the class that is replaced would."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Keep the state as it is."""
        self.state = state


class _History(_StandIn):
    """Stands in for MMEngine's ``HistoryBuffer``."""


class _Options(_StandIn):
    """Stands in for the ``argparse.Namespace`` of a training script."""


class _Array(_StandIn):
    """Stands in for ``numpy.ndarray``."""


class _NumberType(_StandIn):
    """Stands in for ``numpy.dtype``; only types of numbers and text are allowed."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def real(self) -> np.dtype[Any]:
        """Return the type; raise ``UnpicklingError`` for objects and records."""
        order = self.state[1] if isinstance(self.state, tuple) else '='
        if not re.fullmatch(r'[biufcSU]\d{1,9}', str(self.code)) or order not in '<>=|':
            msg = f'Unsupported NumPy type {self.code!r}'
            raise pickle.UnpicklingError(msg)
        return np.dtype(f'{order}{self.code}')


def _array(*_: object) -> _Array:
    """Stands in for NumPy's ``_reconstruct``."""
    return _Array()


def _number(number_type: _NumberType, raw: bytes) -> np.generic:
    """Stands in for NumPy's ``scalar``."""
    number: np.generic = np.frombuffer(raw, number_type.real(), count=1)[0]
    return number


def _nothing(*_: object) -> None:
    """Stands in for ``getattr``, with which a ``HistoryBuffer`` names its methods."""


def _no_bytes(*_: object) -> bytes:
    """Stands in for ``bytes``, with which old pickles make empty ones."""
    return b''


STAND_INS: dict[str, Any] = {
    'mmengine.logging.history_buffer.HistoryBuffer': _History,
    'builtins.getattr': _nothing,
    'builtins.bytes': _no_bytes,
    'argparse.Namespace': _Options,
    'numpy.ndarray': _Array,
    'numpy.dtype': _NumberType,
    'numpy.core.multiarray._reconstruct': _array,
    'numpy._core.multiarray._reconstruct': _array,
    'numpy.core.multiarray.scalar': _number,
    'numpy._core.multiarray.scalar': _number,
}
# torch has one list of allowed classes for the whole process.
LOCK = threading.Lock()


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Have torch build stand-ins, even for classes that the user has allowed."""
    with LOCK:
        before = get_safe_globals()
        kept = [entry for entry in before if _global_name(entry) not in STAND_INS]
        clear_safe_globals()
        add_safe_globals([*kept, *((obj, name) for name, obj in STAND_INS.items())])
        try:
            yield
        finally:
            clear_safe_globals()
            add_safe_globals(before)


def _global_name(entry: Callable[..., object] | tuple[object, str]) -> str:
    """Name by which a pickle finds an entry of torch's list."""
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


def _with_real_types(node: object, done: dict[int, object]) -> object:
    """Replace stand-ins by real objects; dicts and lists are changed in place."""
    if id(node) in done:
        return done[id(node)]
    done[id(node)] = node
    if isinstance(node, Tensor):
        _check_extent(node)
    elif isinstance(node, dict):
        for key, value in node.items():
            node[key] = _with_real_types(value, done)
    elif isinstance(node, list):
        node[:] = [_with_real_types(value, done) for value in node]
    elif type(node) is tuple:
        done[id(node)] = tuple(_with_real_types(value, done) for value in node)
    elif isinstance(node, _StandIn):
        done[id(node)] = _real(node, done)
    return done[id(node)]


def _real(stand_in: _StandIn, done: dict[int, object]) -> object:
    """Build the object that a stand-in stands for, with its own constructor."""
    if isinstance(stand_in, _NumberType):
        return stand_in.real()
    if isinstance(stand_in, _Array):
        _, shape, number_type, is_fortran, raw = stand_in.state
        values = np.frombuffer(raw, number_type.real())
        return values.reshape(shape, order='F' if is_fortran else 'C').copy()
    state = _with_real_types(stand_in.state, done)
    if isinstance(stand_in, _History) and isinstance(state, Mapping):
        history, counts = state['_log_history'], state['_count_history']
        return HistoryBuffer(history, counts, int(state['max_length']))
    return state  # options as the dict that they are


def _check_extent(tensor: Tensor) -> None:
    """Refuse a tensor whose copy would need far more memory than the file has."""
    if tensor.layout is not torch.strided or tensor.device.type == 'meta':
        return
    claimed = tensor.numel() * tensor.element_size()
    stored = tensor.untyped_storage().nbytes()
    if claimed > max(stored, MAX_REPEATED_BYTES):
        msg = (
            f'a tensor of shape {tuple(tensor.shape)} needs {claimed} bytes, but the '
            f'file has {stored} for it'
        )
        raise ValueError(msg)
