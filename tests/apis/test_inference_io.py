"""Inputs of the inferencer are opened or refused; masks and overlays are written."""

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from address_server import AddressServer, serve
from inference_cases import FakeCamera, frame_of, nested_masks, write_clip, write_images
from projects.sam2.apis import InferenceResult, inference_io
from projects.sam2.apis.inference_io import (
    FORMATS,
    ImageInput,
    InferenceSource,
    ResultFiles,
    StreamInput,
    VideoInput,
    check_formats,
    list_inputs,
    open_input,
)
from projects.sam2.datasets.io.errors import ReadLimits
from projects.sam2.ops import decode_masks, fetching
from toy_videos import SIZE, toy_frames


def opened(item: object) -> InferenceSource:
    with open_input(item, default_name='unnamed') as source:
        return source


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddressServer]:
    """An image and a video that lie elsewhere."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    image = write_images(tmp_path, ['a.png']) / 'a.png'
    clip = write_clip(tmp_path / 'clip.mp4')
    answers = {
        'a.png?size=large': image.read_bytes(),
        'clip.mp4': clip.read_bytes(),
    }
    with serve(answers) as running:
        yield running


def test_folder_is_a_list_of_images_or_a_video(tmp_path: Path) -> None:
    folder = write_images(tmp_path / 'f', ['2.jpg', '1.PNG', '3.webp'])
    (folder / 'notes.txt').write_text('no image')
    (folder / '._2.jpg').write_bytes(b'no image')
    (folder / '4.jpg').mkdir()
    images = list_inputs([str(folder), 5], folder_is_video=False)
    assert [getattr(image, 'name', image) for image in images] == [
        '1.PNG',
        '2.jpg',
        '3.webp',
        5,
    ]
    assert list_inputs(folder, folder_is_video=True) == [folder]


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA', 'LA', 'CMYK'])
def test_8_bit_images_are_read_as_rgb(mode: str, tmp_path: Path) -> None:
    path = tmp_path / 'photo.x.tiff'
    Image.new('RGB', (7, 5), (204, 204, 204)).convert(mode).save(path)
    source = opened(path)
    assert isinstance(source, ImageInput)
    assert source.name == 'photo.x'
    assert source.pixels.shape == (5, 7, 3)
    assert np.abs(source.pixels.astype(int) - 204).max() <= 2


def test_image_is_rotated_by_its_exif_data(tmp_path: Path) -> None:
    image = Image.new('RGB', (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # lies on its side
    image.save(tmp_path / 'a.jpg', exif=exif)
    source = opened(str(tmp_path / 'a.jpg'))
    assert isinstance(source, ImageInput)
    assert source.pixels.shape == (8, 4, 3)


def test_video_comes_from_file_folder_or_array(tmp_path: Path) -> None:
    folder = write_images(tmp_path / 'clip', ['0.jpg', '1.jpg', '2.jpg', '3.jpg'])
    clip = write_clip(tmp_path / 'clip.mp4')
    for item, name in (
        (folder, 'clip'),
        (str(clip), 'clip'),
        (np.stack(toy_frames(4)), 'unnamed'),
    ):
        source = opened(item)
        assert isinstance(source, VideoInput)
        assert (source.name, source.frames.num_frames) == (name, 4)
        assert source.frames_per_second == pytest.approx(12)


def test_image_and_video_come_from_an_address(server: AddressServer) -> None:
    image = opened(f'{server.url}a.png?size=large')
    assert isinstance(image, ImageInput)
    assert image.name == 'a'
    assert np.array_equal(image.pixels, toy_frames(1)[0])
    with open_input(f'{server.url}clip.mp4', default_name='') as video:
        assert isinstance(video, VideoInput)
        assert video.name == 'clip'
        assert video.frames.read(3).shape == (*SIZE, 3)


@pytest.mark.parametrize('item', [3, '3', 'rtsp://example.org/door'])
def test_camera_and_live_address_are_streams(
    item: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    source = opened(item)
    assert isinstance(source, StreamInput)
    assert source.name in {'camera_3', 'door'}
    frames = list(source.frames)
    assert len(frames) == 2
    assert frames[0][0, 0].tolist() == [30, 20, 10]  # RGB


def postscript(path: Path) -> None:
    """A program that an interpreter would run, which would leave a file behind."""
    path.write_text(
        f'%!PS-Adobe-3.0 EPSF-3.0\n({path.parent}/ran) (w) file closefile\n'
    )


def bomb(path: Path) -> None:
    """A PNG of 40 kB that claims 1.6 gigapixels."""
    size = struct.pack('>II', 40000, 40000)
    content = zlib.compress(bytes(40_000_000))
    chunks = ((b'IHDR', size + b'\1\0\0\0\0'), (b'IDAT', content), (b'IEND', b''))
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + b''.join(
            struct.pack('>I', len(data))
            + kind
            + data
            + struct.pack('>I', zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )


def many_scans(path: Path) -> None:
    """A JPEG that is decoded anew 20,000 times."""
    Image.new('RGB', (64, 64)).save(path, progressive=True)
    whole = path.read_bytes()
    scan = whole[whole.rindex(b'\xff\xda') : -2]
    path.write_bytes(whole[:-2] + 20_000 * scan + whole[-2:])


def large_scans(path: Path) -> None:
    """A JPEG of 50 megapixels that is decoded anew 100 times, of 300 kB."""
    Image.new('L', (7200, 7000)).save(path, progressive=True)
    whole = path.read_bytes()
    scan = whole[whole.rindex(b'\xff\xda') : -2]
    path.write_bytes(whole[:-2] + 100 * scan + whole[-2:])


def playlist(path: Path) -> None:
    """A list whose parts are other files of this machine."""
    other = write_clip(path.with_name('other.mp4'))
    path.write_text(f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n')


def concatenation(path: Path) -> None:
    """The same, as FFmpeg's own list."""
    other = write_clip(path.with_name('other.mp4'))
    path.write_text(f"ffconcat version 1.0\nfile '{other.name}'\n")


def many_frames(path: Path) -> None:
    """A video that claims four billion frames, all of one size."""
    whole = write_clip(path).read_bytes()
    table = whole.index(b'stsz')
    claim = struct.pack('>II', 1, 2**32 - 1)
    path.write_bytes(whole[: table + 8] + claim + whole[table + 16 :])


@pytest.mark.parametrize('make', [os.mkfifo, lambda path: path.symlink_to('/dev/zero')])
@pytest.mark.parametrize('name', ['a.jpg', 'a.mp4', 'a'])
def test_special_file_is_refused_without_opening_it(
    make: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match='not a regular file'):
        opened(tmp_path / name)


@pytest.mark.parametrize(
    ('make', 'name', 'problem'),
    [
        (postscript, 'a.jpg', 'does not begin as a JPEG'),
        (postscript, 'a', 'does not begin as a JPEG'),
        (bomb, 'a.png', 'claims 40000 x 40000 pixels'),
        (many_scans, 'a.jpg', 'more than 128 scans'),
        (large_scans, 'a.jpg', r'of 1\d\d scans of 7000 x 7200 pixels'),
        (playlist, 'a.mp4', 'is not a video that OpenCV reads'),
        (concatenation, 'a.mkv', 'is not a video that OpenCV reads'),
        (many_frames, 'a.mp4', 'claims 4294967295 frames'),
    ],
)
def test_hostile_file_is_refused_before_it_is_decoded(
    make: Callable[[Path], None], name: str, problem: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match=problem):
        opened(tmp_path / name)
    assert not (tmp_path / 'ran').exists()


def test_name_that_ffmpeg_reads_as_a_command_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path('concat:b|c.mp4'))
    source = opened('concat:b|c.mp4')
    assert isinstance(source, VideoInput)
    assert source.frames.num_frames == 4


def test_download_is_bounded(
    server: AddressServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bomb(tmp_path / 'bomb.png')
    server.answers.update(
        {'bomb.png': (tmp_path / 'bomb.png').read_bytes(), 'cut.mp4': b'abc'}
    )
    server.missing['cut.mp4'] = 10
    monkeypatch.setattr(fetching, 'PAUSE_SECONDS', 0.0)
    url = server.url
    for name, problem in (
        ('bomb.png', f'{url}bomb.png is not an image .*claims 40000 x 40000'),
        ('cut.mp4', 'after 3 of 13 bytes'),
    ):
        with pytest.raises(ValueError, match=problem):
            opened(f'{url}{name}')
    monkeypatch.setattr(inference_io, 'DOWNLOAD_SECONDS', 0.0)
    with pytest.raises(ValueError, match='takes more time than is allowed'):
        opened(f'{url}clip.mp4')
    few = ReadLimits(max_file_size=100)
    monkeypatch.setattr(inference_io, 'DEFAULT_LIMITS', few)
    with pytest.raises(ValueError, match='more than 100 bytes'):
        opened(f'{url}clip.mp4')


def test_bad_inputs_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: AddressServer
) -> None:
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.jpg').write_text('no image')
    Image.new('I;16', (4, 4)).save(tmp_path / 'deep.png')
    cv2.imwrite(str(tmp_path / 'colours.png'), np.full((4, 4, 3), 900, np.uint16))
    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    for item, error, message in (
        (tmp_path / 'nowhere.jpg', FileNotFoundError, 'no such file'),
        (tmp_path / 'text.jpg', ValueError, 'is not an image'),
        (tmp_path / 'deep.png', ValueError, "mode 'I;16' of 16 bits; scale it"),
        (tmp_path / 'colours.png', ValueError, "mode 'RGB' of 16 bits; scale it"),
        (7, ValueError, 'no camera 7'),
        ('rtsp://example.org/roof', ValueError, 'no stream rtsp'),
        (f'{server.url}gone.png', ValueError, 'cannot be fetched'),
        ('file:///etc/hostname', ValueError, "addresses of 'file' cannot be read"),
        (np.zeros((4, 4)), ValueError, 'uint8'),
        (2.5, TypeError, 'float is no input'),
    ):
        with pytest.raises(error, match=message):
            opened(item)
    for inputs, message in ((tmp_path / 'empty', 'holds no image'), ([], 'is empty')):
        with pytest.raises(ValueError, match=message):
            list_inputs(inputs, folder_is_video=False)


# ----------------------------------------------------------------------- outputs

PICTURE = np.full((48, 80, 3), 99, dtype=np.uint8)


def files(folder: Path, rate: float | None, *formats: str) -> ResultFiles:
    return ResultFiles(folder, 'a.b', formats, frames_per_second=rate)


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*.*')}


def test_image_gets_a_file_of_each_format(tmp_path: Path) -> None:
    frame = frame_of(nested_masks(), (3, 9))
    result = InferenceResult(name='a.b', size=(48, 80), frames=(frame.encoded(),))
    with files(tmp_path, None, 'png', 'json', 'npz') as output:
        output.add_masks(frame)
        output.add_overlay(PICTURE)
        output.finish(result)
    assert written(tmp_path) == {
        'vis/a.b.png',
        'pred/a.b.png',
        'pred/a.b.json',
        'pred/a.b.npz',
    }
    labels = Image.open(tmp_path / 'pred' / 'a.b.png')
    assert labels.mode == 'P'
    assert np.array_equal(np.asarray(labels), frame.label_map())
    with np.load(tmp_path / 'pred' / 'a.b.npz') as arrays:
        assert np.array_equal(arrays['masks'], frame.masks)
        assert arrays['object_ids'].tolist() == [3, 9]
    read = json.loads((tmp_path / 'pred' / 'a.b.json').read_text())
    assert read == json.loads(json.dumps(result.as_json()))


def test_video_gets_labels_by_frame_and_one_overlay_video(tmp_path: Path) -> None:
    with files(tmp_path, 25.0, 'png') as output:
        for index in (4, 5):
            output.add_masks(frame_of(nested_masks(), (1, 2), index=index))
            output.add_overlay(PICTURE)
    labels = {'pred/a.b/00004.png', 'pred/a.b/00005.png'}
    assert written(tmp_path) == {'pred/a.b', 'vis/a.b.mp4'} | labels
    clip = cv2.VideoCapture(str(tmp_path / 'vis' / 'a.b.mp4'))
    assert clip.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert clip.get(cv2.CAP_PROP_FPS) == pytest.approx(25)


def test_video_of_one_frame_gets_a_picture(tmp_path: Path) -> None:
    for length in (2, 1):
        with files(tmp_path, 25.0) as output:
            for _ in range(length):
                output.add_overlay(PICTURE)
    assert written(tmp_path) == {'vis/a.b.png'}  # the video before it is gone
    stored = np.asarray(Image.open(tmp_path / 'vis' / 'a.b.png'))
    assert np.array_equal(stored, PICTURE)


def test_failure_leaves_no_half_of_a_video(tmp_path: Path) -> None:
    def fail(length: int) -> None:
        with files(tmp_path, 25.0, 'png') as output:
            for _ in range(length):
                output.add_overlay(PICTURE)
            raise KeyError

    for length in (1, 2):
        with pytest.raises(KeyError):
            fail(length)
    assert not written(tmp_path)


def test_id_beyond_a_palette_is_written_in_16_bits(tmp_path: Path) -> None:
    frame = frame_of(nested_masks(), (3, 300))
    with files(tmp_path, None, 'png') as output:
        output.add_masks(frame)
    stored = cv2.imread(str(tmp_path / 'pred' / 'a.b.png'), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert stored.dtype == np.uint16
    assert np.array_equal(stored, frame.label_map())


def test_format_that_cannot_be_written_is_named() -> None:
    check_formats(FORMATS, [1, 65535])
    check_formats(['npz', 'json'], [2**40, 7])
    check_formats(['json'], [2**80])
    check_formats(FORMATS, [])
    for formats, ids, message in (
        (['tiff'], [1], "Unknown format 'tiff'"),
        (['json', 'png'], [65536, 3], r'Object 65536 does not fit into png, .*json or'),
        (['npz'], [2**63], r'into npz, .*; write json, or give smaller'),
    ):
        with pytest.raises(ValueError, match=message):
            check_formats(formats, ids)


def test_label_map_shows_the_smaller_of_overlapping_objects() -> None:
    for order, ids in ((slice(None), (7, 300)), (slice(None, None, -1), (300, 7))):
        labels = frame_of(nested_masks()[order], ids).label_map()
        assert labels[15, 15] == 7
        assert labels[30, 30] == 300
        assert labels[0, 0] == 0


def test_masks_in_json_decode_to_the_same() -> None:
    masks = nested_masks()
    frame = replace(frame_of(masks, (1, 2), index=3), ious=(0.25, float('nan')))
    result = InferenceResult(name='clip', size=(48, 80), frames=(frame.encoded(),))
    read = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert (read['name'], read['height'], read['width']) == ('clip', 48, 80)
    (stored,) = read['frames']
    assert stored['frame_index'] == 3
    assert [(o['id'], o['iou']) for o in stored['objects']] == [(1, 0.25), (2, None)]
    decoded = decode_masks([o['segmentation'] for o in stored['objects']])
    assert np.array_equal(decoded, masks)
    assert not frame_of(masks[:0], ()).encoded().masks
