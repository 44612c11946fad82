"""Gives the frames of an mp4 file other durations, as telephones do."""

from collections.abc import Sequence
from pathlib import Path
from struct import pack, unpack_from

TABLE_PATH = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'stts')


def find_boxes(data: bytes | bytearray, kinds: Sequence[bytes]) -> list[int]:
    """First byte of each box of a path; the whole is a file of few boxes."""
    places, place = [], 0
    for kind in kinds:
        while data[place + 4 : place + 8] != kind:
            place += unpack_from('>I', data, place)[0]
        places.append(place)
        place += 8
    return places


def set_durations(path: Path, runs: Sequence[tuple[int, int]]) -> None:
    """Write pairs of a number of frames and their duration into the file's table.

    OpenCV writes the boxes behind the frames, whose places therefore stay.
    """
    data = bytearray(path.read_bytes())
    *parents, place = find_boxes(data, TABLE_PATH)
    old: int = unpack_from('>I', data, place)[0]
    table = b''.join(pack('>II', *run) for run in runs)
    new = pack('>I4sII', 16 + len(table), b'stts', 0, len(runs)) + table
    data[place : place + old] = new
    for parent in parents:
        size: int = unpack_from('>I', data, parent)[0]
        data[parent : parent + 4] = pack('>I', size + len(new) - old)
    # An edit list would cut the film at its former length.
    edits = data.find(b'edts')
    data[edits : edits + 4] = b'free'
    path.write_bytes(data)
