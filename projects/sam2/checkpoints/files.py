"""Reads checkpoint files of torch and safetensors without running code from them.

A pickle may name any function, and unpickling calls it. So files are read in steps:

1. Foreign formats (archives, images, web pages) are recognised by their first bytes, so
   that the error says what the file is.
2. An archive must look as ``torch.save`` writes it. A crafted one could claim, repeat
   or unpack to far more memory than it has bytes.
3. ``torch.load(weights_only=True)`` calls only the classes on its list. Checkpoints of
   MM runs need a few more (``HistoryBuffer``, NumPy values, ``argparse.Namespace``).
   While a file is read, *stand-ins* take their names on that list: classes that do
   nothing but keep what they are given.
4. The stand-ins are replaced by real objects, made from their checked content.
"""

import json
import pickle
import pickletools
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NoReturn
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor
from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

from ..ops import import_optional

MapLocation = str | torch.device | None

# What to do about a file that cannot be read.
FETCH_AGAIN = (
    'fetch it again, or take another one (of your own run, --resume without a name '
    'finds the newest that is whole)'
)
SAVE_WEIGHTS = 'save the state dict alone: torch.save(model.state_dict(), path)'
UNPACK = 'unpack it and give the checkpoint inside'
GIVE_WEIGHTS = 'give a file of weights (.pt, .pth, .bin or .safetensors)'


class CheckpointFileError(ValueError):
    """A file is not a checkpoint, is damaged, or could run code."""


def load_file(
    path: Path, map_location: MapLocation = None, *, mmap: bool = False
) -> object:
    """Read a file that ``torch.save`` or safetensors wrote, whatever its name.

    Args:
        map_location: Where the tensors go, as in ``torch.load``.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointFileError: If the file has neither format, is damaged, claims more
            than it holds, or needs a class that may run code.
        ImportError: If it is a safetensors file and that package is missing.
    """
    if not path.is_file():
        problem = 'is no regular file' if path.exists() else 'does not exist'
        msg = f'{path} {problem}; give the path of a checkpoint'
        raise FileNotFoundError(msg)
    with path.open('rb') as file:
        head = file.read(HEAD_BYTES)
    header_bytes = int.from_bytes(head[:8], 'little')
    has_header = head[8:9] == b'{' and header_bytes <= path.stat().st_size
    if has_header or path.suffix == SUFFIX:
        return read_safetensors(path, map_location or 'cpu')
    with _errors_about(path):
        _refuse_foreign(head, path.suffix)
        _check_content(path, head)
        with _stand_ins(), warnings.catch_warnings():
            # For pickles that torch did not write; the error that follows says more.
            warnings.filterwarnings('ignore', 'Detected pickle protocol')
            loaded = torch.load(
                path, map_location=map_location, weights_only=True, mmap=mmap or None
            )
        return _with_real_objects(loaded, {})


@contextmanager
def _errors_about(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in reading a file into one line that names the file."""
    name = f'{path} ({path.stat().st_size} bytes)'
    try:
        yield
    except CheckpointFileError as error:
        raise CheckpointFileError(f'{name} {error}') from error
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(f'{name} {_unpickling_problem(error)}') from error
    except (OSError, ImportError):
        raise
    except Exception as error:  # a damaged file may raise anything
        problem = str(error).strip().partition('\n')[0] or type(error).__name__
        if isinstance(error, MemoryError):
            problem = 'it asks for more memory than there is'
        problem, *_ = problem.split('. In PyTorch 2.6')  # advice to run what it holds
        msg = f'{name} is no checkpoint, or damaged: {problem}; {FETCH_AGAIN}'
        raise CheckpointFileError(msg) from error


def _unpickling_problem(error: pickle.UnpicklingError) -> str:
    """Say what torch stopped at, without its advice to let the file run code."""
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


def _refuse(problem: str, remedy: str) -> NoReturn:
    msg = f'is no checkpoint: {problem}; {remedy}'
    raise CheckpointFileError(msg)


# ---------------------------------------------------------------- 1. Foreign formats

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
    (0, b'\x89HDF\r\n', 'an HDF5 file (Keras or h5py)', GIVE_WEIGHTS),
    (0, b'\x93NUMPY', 'a NumPy array', GIVE_WEIGHTS),
    (0, b'GGUF', 'a GGUF file', GIVE_WEIGHTS),
    (4, b'TFL3', 'a TensorFlow Lite model', GIVE_WEIGHTS),
    (0, b'\xff\xd8\xff', 'a JPEG image', GIVE_WEIGHTS),
    (0, b'\x89PNG', 'a PNG image', GIVE_WEIGHTS),
    (0, b'%PDF', 'a PDF document', GIVE_WEIGHTS),
)
# The first field of ONNX, its version, and the tags that follow it.
ONNX_START = re.compile(rb'\x08[\x01-\x1f][\x12\x1a\x3a]')


def _refuse_foreign(head: bytes, suffix: str) -> None:
    """Refuse a file whose first bytes are certainly not those of a checkpoint."""
    foreign = _foreign_format(head, suffix)
    if foreign is not None:
        description, remedy = foreign
        msg = f'is no checkpoint but {description}; {remedy}'
        raise CheckpointFileError(msg)


def _foreign_format(head: bytes, suffix: str) -> tuple[str, str] | None:
    """Description and remedy."""
    for start, signature, description, remedy in SIGNATURES:
        if head.startswith(signature, start):
            return description, remedy
    if suffix == '.onnx' or ONNX_START.match(head):
        return 'an ONNX model', GIVE_WEIGHTS
    text = head.removeprefix(b'\xef\xbb\xbf').lstrip()
    if text.startswith(b'<'):
        return (
            'a web page (HTML or XML)',
            'the address leads to a page or asks to sign in; fetch the file itself',
        )
    if text.startswith((b'{', b'[')):
        return 'JSON: a config, or the answer of a server', GIVE_WEIGHTS
    if len(text) > 1 and re.fullmatch(rb'[\x20-\x7e\s]+', text):
        return 'text', GIVE_WEIGHTS
    return None


# ----------------------------------------------------------------------- 2. Archives

# The archive's directory: zipfile makes an object of each entry, however many the
# archive claims. torch.save writes at most 350 bytes for each tensor.
MAX_DIRECTORY_BYTES = 8 << 20
# The pickle that says how the tensors are put together; its folder may have any name.
PICKLE_NAME = ['data.pkl']
MAX_PICKLE_BYTES = 128 << 20
# A pickle takes about 30 steps for a tensor and one for a number. Each step may take a
# hundred times its own bytes of memory.
MAX_STEPS = 4_000_000
# Before it had archives, torch wrote three short pickles, the content, and the names of
# the tensors.
NUM_OLD_PICKLES = 5
# Tensors may repeat what is stored (`expand`), but not without limit.
MAX_REPEATED_BYTES = 1 << 30

# Parts of the ZIP format.
ARCHIVE_START, PICKLE_START = b'PK\x03\x04', b'\x80'
END_RECORD, MAX_END_BYTES = b'PK\x05\x06', 22 + (1 << 16)
# Archives with large numbers have another record just before it, and its position.
END_RECORD_64, END_BYTES_64 = b'PK\x06\x06', 56
LOCATOR_64, LOCATOR_BYTES_64 = b'PK\x06\x07', 20
LOCAL_HEADER_BYTES = 30


def _check_content(path: Path, head: bytes) -> None:
    """Refuse a file that ``torch.save`` did not write, before torch reads it."""
    if head.startswith(ARCHIVE_START):
        num_bytes = _directory_bytes(path)
        if num_bytes > MAX_DIRECTORY_BYTES:
            _refuse(
                f'the directory of its archive has {num_bytes} bytes, more than '
                f'{MAX_DIRECTORY_BYTES}',
                SAVE_WEIGHTS,
            )
        with ZipFile(path) as archive:
            data_pickle = _find_pickle(archive.infolist())
            _check_layout(archive.infolist(), archive.start_dir)
            with archive.open(data_pickle) as file:
                _check_steps(file, num_pickles=1)
    elif head.startswith(PICKLE_START):
        with path.open('rb') as file:
            _check_steps(file, num_pickles=NUM_OLD_PICKLES)
    else:
        msg = 'it begins like no file of torch or safetensors'
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


def _find_pickle(members: list[ZipInfo]) -> ZipInfo:
    """Find the pickle of an archive; refuse one that has none, or has a program."""
    names = [member.filename for member in members]
    parts = [name.split('/') for name in names]
    if any(part[-1] == 'constants.pkl' or 'code' in part[1:-1] for part in parts):
        _refuse(
            'it is a TorchScript program, whose code would run, and is refused',
            f'load it where you trust it and {SAVE_WEIGHTS}',
        )
    pickles = [
        m for m, part in zip(members, parts, strict=True) if part[1:] == PICKLE_NAME
    ]
    if not pickles:
        shown = ', '.join(names[:3]) or 'nothing'
        if names and all(name.endswith('.npy') for name in names):
            _refuse(f'it is an archive of NumPy arrays ({shown})', GIVE_WEIGHTS)
        _refuse(f'it is a zip archive of something else ({shown})', UNPACK)
    num_bytes = max(data_pickle.file_size for data_pickle in pickles)
    if num_bytes > MAX_PICKLE_BYTES:
        problem = (
            f'its data.pkl has {num_bytes} bytes, more than the {MAX_PICKLE_BYTES}'
        )
        _refuse(f'{problem} that weights and histories need', SAVE_WEIGHTS)
    return pickles[0]


def _check_layout(members: list[ZipInfo], end: int) -> None:
    """Check that members are uncompressed, one after the other, from the first byte."""
    if len({member.filename.lower() for member in members}) < len(members):
        _refuse('its archive has members of the same name', FETCH_AGAIN)
    members = sorted(members, key=lambda member: member.header_offset)
    starts = [*(member.header_offset for member in members), end]
    if starts[0] != 0:
        _refuse('something lies before it', FETCH_AGAIN)
    for member, (start, next_start) in zip(members, pairwise(starts), strict=True):
        packed, size = member.compress_size, member.file_size
        if member.compress_type != ZIP_STORED or packed != size:
            _refuse(
                f'{member.filename} is compressed ({packed} bytes to {size}), which '
                f'torch.save never does',
                'unpack and save it again',
            )
        if start + LOCAL_HEADER_BYTES + len(member.filename) + size > next_start:
            _refuse(
                f'{member.filename} claims {size} bytes, more than the file has for it',
                FETCH_AGAIN,
            )


def _check_steps(file: IO[bytes], *, num_pickles: int) -> None:
    """Refuse pickles of more steps than weights and histories need."""
    steps = (step for _ in range(num_pickles) for step in pickletools.genops(file))
    try:
        is_too_long = next(islice(steps, MAX_STEPS, None), None) is not None
    except ValueError:
        return  # torch reports better what is wrong with the pickle
    if is_too_long:
        msg = f'its pickle has more than {MAX_STEPS} steps'
        raise ValueError(msg)


# ---------------------------------------------------------------------- 3. Stand-ins


class _StandIn:
    """Takes the place of an object whose class may not be built from a file."""

    state: Any = None

    def __new__(cls, *_: object) -> '_StandIn':
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state


class _HistoryBuffer(_StandIn):
    """Stands in for MMEngine's ``HistoryBuffer``."""


class _Namespace(_StandIn):
    """Stands in for ``argparse.Namespace``, the options of a training script."""


class _NDArray(_StandIn):
    """Stands in for ``numpy.ndarray``."""


class _DType(_StandIn):
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def real(self) -> np.dtype[Any]:
        """Build the type, if it is one of numbers or text."""
        order = self.state[1] if isinstance(self.state, tuple) else '='
        if not re.fullmatch(r'[biufcSU]\d{1,9}', str(self.code)) or order not in '<>=|':
            msg = f'Unsupported NumPy type {self.code!r}'
            raise pickle.UnpicklingError(msg)
        return np.dtype(f'{order}{self.code}')


def _reconstruct(*_: object) -> _NDArray:
    """Stands in for NumPy's ``_reconstruct``."""
    return _NDArray()


def _scalar(dtype: _DType, raw: bytes) -> np.generic:
    """Stands in for NumPy's ``scalar``."""
    value: np.generic = np.frombuffer(raw, dtype.real(), count=1)[0]
    return value


def _getattr(*_: object) -> None:
    """Stands in for ``getattr``, by which a ``HistoryBuffer`` names its methods."""


def _bytes(*_: object) -> bytes:
    """Stands in for ``bytes``, by which old pickles make empty ones."""
    return b''


STAND_INS: dict[str, Any] = {
    'mmengine.logging.history_buffer.HistoryBuffer': _HistoryBuffer,
    'builtins.getattr': _getattr,
    'builtins.bytes': _bytes,
    'argparse.Namespace': _Namespace,
    'numpy.ndarray': _NDArray,
    'numpy.dtype': _DType,
    'numpy.core.multiarray._reconstruct': _reconstruct,
    'numpy._core.multiarray._reconstruct': _reconstruct,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
}
_lock = threading.Lock()  # torch has one list of allowed classes for the whole process


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Put the stand-ins on torch's list, in place of what the user has allowed."""
    with _lock:
        before = get_safe_globals()
        kept = [entry for entry in before if _pickle_name(entry) not in STAND_INS]
        clear_safe_globals()
        add_safe_globals([*kept, *((obj, name) for name, obj in STAND_INS.items())])
        try:
            yield
        finally:
            clear_safe_globals()
            add_safe_globals(before)


def _pickle_name(entry: Callable[..., object] | tuple[object, str]) -> str:
    """Name by which a pickle finds an entry of torch's list."""
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


# ------------------------------------------------------------------- 4. Real objects


def _with_real_objects(node: object, done: dict[int, object]) -> object:
    """Replace stand-ins; dicts and lists are changed in place.

    Args:
        done: Results by the id of the node, since parts may be shared or circular.
    """
    if id(node) in done:
        return done[id(node)]
    done[id(node)] = node
    if isinstance(node, Tensor):
        _check_extent(node)
    elif isinstance(node, dict):
        for key, value in node.items():
            node[key] = _with_real_objects(value, done)
    elif isinstance(node, list):
        node[:] = [_with_real_objects(value, done) for value in node]
    elif type(node) is tuple:
        done[id(node)] = tuple(_with_real_objects(value, done) for value in node)
    elif isinstance(node, _StandIn):
        done[id(node)] = _real_object(node, done)
    return done[id(node)]


def _real_object(stand_in: _StandIn, done: dict[int, object]) -> object:
    """Build the object that a stand-in stands for, by its own constructor."""
    if isinstance(stand_in, _DType):
        return stand_in.real()
    if isinstance(stand_in, _NDArray):
        _, shape, dtype, is_fortran, raw = stand_in.state
        values = np.frombuffer(raw, dtype.real())
        return values.reshape(shape, order='F' if is_fortran else 'C').copy()
    state = _with_real_objects(stand_in.state, done)
    if isinstance(stand_in, _HistoryBuffer) and isinstance(state, Mapping):
        history, counts = state['_log_history'], state['_count_history']
        return HistoryBuffer(history, counts, int(state['max_length']))
    return state  # options stay a dict


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


# ----------------------------------------------------------------------- safetensors

SUFFIX = '.safetensors'
# Names that Hugging Face's transformers gives: one file, or shards and their index.
WEIGHTS_FILE = f'model{SUFFIX}'
INDEX_FILE = f'{WEIGHTS_FILE}.index.json'
# An index names each weight once; one of thousands of weights has a few hundred kB.
MAX_INDEX_BYTES = 64 << 20


def read_safetensors(path: Path, device: str | torch.device) -> dict[str, Tensor]:
    """Read a file.

    Raises:
        CheckpointFileError: If the file is truncated, claims more than it holds, or is
            no safetensors.
        ImportError: If the package is missing.
    """
    with _errors_about(path):
        with path.open('rb') as file:
            _refuse_foreign(file.read(HEAD_BYTES), path.suffix)
        library = _import_safetensors()
        weights: dict[str, Tensor] = library.torch.load_file(path, device=str(device))
    return weights


def read_safetensors_folder(
    folder: Path, device: str | torch.device
) -> dict[str, Tensor]:
    """Read the weights of a folder that transformers wrote, in one file or in shards.

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


def _read_index(path: Path) -> dict[str, str]:
    """Read which file, beside the index, has each weight."""
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


def write_safetensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a file that transformers reads.

    Args:
        weights: Tensors by name; no two may share memory.

    Raises:
        ImportError: If the package is missing.
    """
    library = _import_safetensors()
    path.touch()
    mode = path.stat().st_mode
    contiguous = {key: value.contiguous() for key, value in weights.items()}
    # transformers refuses a file that does not name its framework.
    library.torch.save_file(contiguous, path, metadata={'format': 'pt'})
    path.chmod(mode)  # the package lets nobody but its owner read the file


def _import_safetensors() -> ModuleType:
    import_optional('safetensors.torch', purpose='A file of safetensors')
    return import_module('safetensors')
