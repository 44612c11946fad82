"""Recognises files that are no checkpoints by their first bytes."""

import re
from pathlib import Path

__all__ = [
    'NOT_WEIGHTS',
    'SAVE_WEIGHTS',
    'UNPACK',
    'CheckpointFileError',
    'refuse_foreign',
]

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

    Args:
        path: Of the file.

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
