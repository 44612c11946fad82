"""Files of torch and safetensors, whole, damaged and hostile."""

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from projects.sam2.checkpoints import CheckpointFileError, files, load_file

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED

import json
import sys

from torch import Tensor

from bridge_models import assert_same_weights
from projects.sam2.checkpoints.files import (
    INDEX_FILE,
    WEIGHTS_FILE,
    read_safetensors,
    read_safetensors_folder,
    write_safetensors,
)

SHARDS = ('model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors')


def archive(
    change: Callable[[bytes], bytes] = bytes,
    *,
    more: dict[str, bytes] | None = None,
    compression: int = STORED,
) -> bytes:
    """What torch.save writes, with another pickle or more members."""
    saved, changed = io.BytesIO(), io.BytesIO()
    torch.save({'model': {'w': torch.arange(4.0)}}, saved)
    source = zipfile.ZipFile(saved)
    with zipfile.ZipFile(changed, 'w', compression) as target:
        for name in source.namelist():
            content = source.read(name)
            is_pickle = name.endswith('data.pkl')
            target.writestr(name, change(content) if is_pickle else content)
        for name, content in (more or {}).items():
            target.writestr(name, content)
    return changed.getvalue()


def with_directory(change: Callable[[bytearray, list[int]], None]) -> bytes:
    """An archive whose directory says something else than what it has."""
    content, entries = bytearray(archive()), list[int]()
    start = content.index(b'PK\x01\x02')
    while content[start : start + 4] == b'PK\x01\x02':
        entries.append(start)
        start += 46 + sum(struct.unpack_from('<3H', content, start + 28))
    change(content, entries)
    return bytes(content)


def claim_gigabytes(content: bytearray, entries: list[int]) -> None:
    struct.pack_into('<II', content, entries[-1] + 20, 3 << 30, 3 << 30)


def overlap(content: bytearray, entries: list[int]) -> None:
    (offset,) = struct.unpack_from('<I', content, entries[0] + 42)
    struct.pack_into('<I', content, entries[1] + 42, offset)


def add_entries(content: bytearray, _: list[int]) -> None:
    """More entries in the directory than the archive says that it has."""
    end = content.rindex(b'PK\x05\x06')
    (size,) = struct.unpack_from('<I', content, end + 12)
    entries = (b'PK\x01\x02' + bytes(42)) * 200
    struct.pack_into('<I', content, end + 12, size + len(entries))
    content[end:end] = entries


def with_large_numbers(change: Callable[[bytearray, int], None]) -> bytes:
    """An archive whose directory has its size in the record for large numbers."""
    content = bytearray(archive())
    end = content.rindex(b'PK\x05\x06')
    count, size, offset = struct.unpack_from('<HII', content, end + 10)
    record = struct.pack(
        '<4sQHHIIQQQQ', b'PK\x06\x06', 44, 45, 45, 0, 0, count, count, size, offset
    )
    content[end:end] = record + struct.pack('<4sIQI', b'PK\x06\x07', 0, end, 1)
    struct.pack_into('<I', content, len(content) - 10, 0xFFFFFFFF)
    change(content, end)
    return bytes(content)


def claim_large_directory(content: bytearray, record: int) -> None:
    struct.pack_into('<Q', content, record + 40, 1 << 40)


def misplace_record(content: bytearray, record: int) -> None:
    struct.pack_into('<Q', content, record + 56 + 8, 0)


def number(value: int) -> bytes:
    """A number of eight bytes in a pickle."""
    return b'\x8a\x08' + struct.pack('<q', value)


def repeat_without_end(data_pickle: bytes) -> bytes:
    """Shape (10**12,) and stride 0."""
    start = data_pickle.index(b'K\x04') + 2
    changed = data_pickle[start:].replace(b'K\x04\x85', number(10**12) + b'\x85', 1)
    return data_pickle[:start] + changed.replace(b'K\x01\x85', b'K\x00\x85', 1)


def claim_storage(data_pickle: bytes) -> bytes:
    return data_pickle.replace(b'K\x04', number(10**9), 1)


def nest(_: bytes) -> bytes:
    return b'\x80\x02' + b']' * 9_000 + b'a' * 8_999 + b'.'


def numpy_array(code: str, shape: bytes) -> Callable[[bytes], bytes]:
    """A data_pickle with an array of NumPy that has eight bytes."""
    coded = b'X' + struct.pack('<I', len(code)) + code.encode()
    raw = b'c_codecs\nencode\nX\x08\0\0\0' + bytes(8) + b'X\x06\0\0\0latin1\x86R'
    return lambda _: (
        b'\x80\x02cnumpy.core.multiarray\n_reconstruct\n'
        b'(cnumpy\nndarray\nK\x00\x85X\x01\0\0\0btR(K\x01' + shape + b'\x85'
        b'cnumpy\ndtype\n' + coded + b'\x89\x88\x87R(K\x03X\x01\0\0\0<NNNtb'
        b'\x89' + raw + b'tb.'
    )


def scripted() -> bytes:
    """A program of TorchScript."""
    saved = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Identity(), torch.ones(1)), saved)
    return saved.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as target:
        target.writestr('arr_0.npy', b'')
    return content.getvalue()


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (scripted, r'is a TorchScript program'),
        (lambda: archive(more={'archive/constants.pkl': b''}), r'is a TorchScript'),
        (lambda: archive(more={'archive/code/a.py': b''}), r'is a TorchScript'),
        (lambda: archive(compression=DEFLATED), r'data\.pkl is compressed \(\d+ bytes'),
        (
            lambda: with_directory(claim_gigabytes),
            r'claims 3221225472 bytes, more than',
        ),
        (lambda: with_directory(overlap), r'more than the file has for it'),
        (lambda: with_directory(add_entries), r'directory of its archive has \d+ byt'),
        (
            lambda: with_large_numbers(claim_large_directory),
            r'has 1099511627776 bytes, more than 9000',
        ),
        (lambda: with_large_numbers(misplace_record), r'end of its archive is damaged'),
        (lambda: archive(more={'archive/DATA.pkl': b''}), r'members of the same name'),
        (lambda: archive()[:-30], r'\(\d+ bytes\).* the end of its archive is missing'),
        (lambda: archive()[:64] + archive(), r'something lies before it'),
        (npz, r'an archive of NumPy arrays \(arr_0\.npy\)'),
        (lambda: archive(lambda _: bytes(1 << 16)), r'data\.pkl has 65536 bytes, more'),
        (lambda: archive(repeat_without_end), r'needs 4000000000000 bytes, but the f'),
        (lambda: archive(claim_storage), r'record size \(16 bytes\) does not match'),
        (lambda: archive(lambda _: b'\x80\x02' + b'(' * 20_000), r'than 20000 steps'),
        (lambda: b'\x80\x02' + b'(' * 20_001, r'than 20000 steps'),
        (lambda: archive(nest), r'or damaged: maximum recursion depth exceeded'),
        (
            lambda: archive(numpy_array('f8', number(10**12))),
            r'cannot reshape array of size 1',
        ),
        (lambda: archive(numpy_array('O8', b'K\x01')), r"NumPy type 'O8'"),
        (
            lambda: archive(lambda _: b'\x80\x02cposix\nsystem\n.'),
            r'needs posix\.system, which may run code on loading',
        ),
    ],
)
def test_file_is_refused_in_a_line(
    make: Callable[[], bytes],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, 'MAX_DIRECTORY_BYTES', 9_000)
    monkeypatch.setattr(files, 'MAX_PICKLE_BYTES', (1 << 16) - 1)
    monkeypatch.setattr(files, 'MAX_STEPS', 20_000)
    path = tmp_path / 'stranger.pt'
    path.write_bytes(make())
    for mmap in (False, True):
        with pytest.raises(CheckpointFileError, match=message) as refused:
            load_file(path, 'cpu', mmap=mmap)
        assert '\n' not in str(refused.value)
        assert str(refused.value).startswith(f'{path} ')
        if 'record size' in message:
            return  # mapped, the tensor has the four numbers that are there


def test_archive_with_large_numbers_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'x.pt'
    path.write_bytes(with_large_numbers(lambda *_: None))
    loaded = load_file(path)
    assert isinstance(loaded, dict)
    assert torch.equal(loaded['model']['w'], torch.arange(4.0))


def test_memory_that_is_not_there_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'x.pt'
    torch.save({}, path)

    def load(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch, 'load', load)
    with pytest.raises(CheckpointFileError, match=r'or damaged: it asks for more mem'):
        load_file(path)


def test_shared_and_circular_parts_are_visited_once(tmp_path: Path) -> None:
    # A list of two lists of two lists and so on: 2**200 leaves, 200 lists.
    shared: list[object] = []
    for _ in range(200):
        shared = [shared, shared]
    held: dict[str, object] = {'shared': shared}
    held['itself'] = held
    torch.save(held, tmp_path / 'x.pt')
    loaded = load_file(tmp_path / 'x.pt')
    assert isinstance(loaded, dict)
    assert loaded['itself'] is loaded


def test_path_that_is_not_a_regular_file_is_not_opened(tmp_path: Path) -> None:

    os.mkfifo(tmp_path / 'x.pt')
    with pytest.raises(FileNotFoundError, match='no regular file'):
        load_file(tmp_path / 'x.pt')


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return {
        'b.weight': torch.randn(3, 4).t(),
        'a': torch.randn(2).bfloat16(),
        'c': torch.arange(3),
    }


@pytest.fixture
def sharded(tmp_path: Path, weights: dict[str, Tensor]) -> Path:
    """A folder with the weights in two shards."""
    shard_of = {key: SHARDS[key == 'a'] for key in weights}
    for shard in SHARDS:
        part = {key: value for key, value in weights.items() if shard_of[key] == shard}
        write_safetensors(tmp_path / shard, part)
    index = {'metadata': {}, 'weight_map': shard_of}
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    return tmp_path


def test_file_comes_back_with_every_bit(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    path = tmp_path / WEIGHTS_FILE
    write_safetensors(path, weights)
    assert_same_weights(read_safetensors(path, 'cpu'), weights)
    assert_same_weights(read_safetensors_folder(tmp_path, torch.device('cpu')), weights)


def test_file_may_be_read_by_those_who_read_other_new_files(tmp_path: Path) -> None:
    (tmp_path / 'other').touch()
    write_safetensors(tmp_path / WEIGHTS_FILE, {'a': torch.zeros(1)})
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_shards_are_read_as_one(sharded: Path, weights: dict[str, Tensor]) -> None:
    assert_same_weights(read_safetensors_folder(sharded, 'cpu'), weights)


@pytest.mark.parametrize('kept', [0, 5, 60, -1])
def test_truncated_file_names_itself_its_size_and_the_remedy(
    tmp_path: Path, weights: dict[str, Tensor], kept: int
) -> None:
    path = tmp_path / WEIGHTS_FILE
    write_safetensors(path, weights)
    path.write_bytes(path.read_bytes()[:kept])
    size = path.stat().st_size
    with pytest.raises(ValueError, match=rf'{WEIGHTS_FILE} \({size} bytes\).*again'):
        read_safetensors_folder(tmp_path, 'cpu')


def test_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SHARDS[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf'lacks 1 of the 2 .*{SHARDS[1]}'):
        read_safetensors_folder(sharded, 'cpu')


def test_shard_without_its_weights_is_named(sharded: Path) -> None:
    write_safetensors(sharded / SHARDS[1], {'other': torch.zeros(1)})
    with pytest.raises(ValueError, match=rf'1 weights .* a in {SHARDS[1]}'):
        read_safetensors_folder(sharded, 'cpu')


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda text: text[:20], 'is no index of safetensors'),
        (lambda text: text.replace('weight_map', 'map'), 'is no index of safetensors'),
        (lambda _: '[]', 'is no index of safetensors'),
        (lambda _: '{"weight_map": {"a": 3}}', 'is no index of safetensors'),
        (lambda text: text.replace(SHARDS[0], '../x'), 'files outside its folder'),
    ],
)
def test_damaged_index_is_an_error_that_names_it(
    sharded: Path, damage: Callable[[str], str], message: str
) -> None:
    index = sharded / INDEX_FILE
    index.write_text(damage(index.read_text()))
    with pytest.raises(ValueError, match=f'{INDEX_FILE} .*{message[3:]}'):
        read_safetensors_folder(sharded, 'cpu')


def test_error_about_another_folder_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f'a folder without {WEIGHTS_FILE}'):
        read_safetensors_folder(tmp_path, 'cpu')


def test_absent_package_is_an_error_with_the_command_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_safetensors(tmp_path / WEIGHTS_FILE, {'a': torch.zeros(1)})
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    with pytest.raises(ImportError, match='pip install safetensors'):
        read_safetensors_folder(tmp_path, 'cpu')
