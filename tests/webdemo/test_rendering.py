"""Films and stills of the demo: frames, rates, sizes, what is cancelled or broken."""

import io
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from demo_views import MadeView, write_frames
from projects.sam2.visualization.video_file import write_video
from projects.sam2.webdemo import rendering
from projects.sam2.webdemo.effects import EffectOptions, apply_effect
from projects.sam2.webdemo.rendering import (
    render_still,
    render_video,
    shown_masks,
)
from projects.sam2.webdemo.session.video import AnnotatedVideo

SPOTLIGHT = EffectOptions(name='spotlight', strength=1.0, outline=False)


class StoppedError(Exception):
    """What the page's cancel raises."""


def ignore(_share: float) -> None:
    """Progress that nobody watches."""


def frames_and_labels(
    num_frames: int, height: int, width: int
) -> tuple[NDArray[np.uint8], dict[int, NDArray[np.uint8]]]:
    """Smooth frames, each of a brightness of its own, and two moving objects."""
    ramp = np.linspace(0, 40, width).astype(np.uint8)
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    labels = {}
    for index in range(num_frames):
        frames[index] = (20 + index * 160 // num_frames + ramp)[None, :, None]
        labels[index] = np.zeros((height, width), np.uint8)
        labels[index][5:20, 4 + index % 9 : 24 + index % 9] = 1
        labels[index][15:35, 30:50] = 2
    return frames, labels


def folder_view(folder: Path, *, height: int = 41, width: int = 67) -> MadeView:
    frames, labels = frames_and_labels(12, height, width)
    write_frames(folder, frames)
    return MadeView(AnnotatedVideo(folder), labels)


def file_view(path: Path, rate: float, num_frames: int = 12) -> MadeView:
    frames, labels = frames_and_labels(num_frames, 48, 64)
    write_video(path, list(frames), frames_per_second=rate)
    return MadeView(AnnotatedVideo(path), labels)


def decoded(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [
            np.asarray(frame.to_ndarray(format='rgb24'), np.uint8)
            for frame in container.decode(video=0)
        ]


def test_an_mp4_shows_each_frame_with_its_effect_also_at_odd_sizes(
    tmp_path: Path,
) -> None:
    view = folder_view(tmp_path / 'clip')
    shares: list[float] = []
    target = tmp_path / 'out.mp4'
    render_video(view, target, 'mp4', SPOTLIGHT, 2, 9, shares.append)
    pictures = decoded(target)
    assert shares == [pytest.approx(n / 7) for n in range(1, 8)]
    assert [picture.shape for picture in pictures] == [(42, 68, 3)] * 7
    for index, picture in enumerate(pictures, start=2):
        frame = view.video.read(index)
        wanted = apply_effect(frame, shown_masks(view, index, SPOTLIGHT), SPOTLIGHT)
        difference = np.abs(picture[:41, :67].astype(int) - wanted)
        assert difference.mean() < 3  # H.264 loses little
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ('h264', 'yuv420p')


@pytest.mark.parametrize('rate', [Fraction(30000, 1001), Fraction(25), Fraction(7)])
def test_an_mp4_keeps_the_rate_of_the_video(tmp_path: Path, rate: Fraction) -> None:
    view = file_view(tmp_path / 'clip.mp4', float(rate))
    render_video(view, tmp_path / 'a.mp4', 'mp4', SPOTLIGHT, 0, 12, ignore)
    with av.open(str(tmp_path / 'a.mp4')) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert stream.frames == 12


def test_a_gif_plays_as_long_as_the_video_and_shows_its_frames(tmp_path: Path) -> None:
    view = file_view(tmp_path / 'clip.mp4', 30000 / 1001, num_frames=61)
    render_video(view, tmp_path / 'a.gif', 'gif', SPOTLIGHT, 0, 60, ignore)
    with Image.open(tmp_path / 'a.gif') as gif:
        assert isinstance(gif, GifImageFile)
        assert gif.size == (64, 48)
        assert gif.info['loop'] == 0
        seconds = 0.0
        for index in range(gif.n_frames):
            gif.seek(index)
            seconds += gif.info['duration'] / 1000
            frame = view.video.read(2 * index)
            wanted = apply_effect(
                frame, shown_masks(view, 2 * index, SPOTLIGHT), SPOTLIGHT
            )
            assert np.abs(np.array(gif.convert('RGB')).astype(int) - wanted).mean() < 4
        assert gif.n_frames == 30
    assert seconds == pytest.approx(60 * 1001 / 30000, abs=0.02)
    render_video(view, tmp_path / 'one.gif', 'gif', SPOTLIGHT, 60, 61, ignore)
    with Image.open(tmp_path / 'one.gif') as gif:
        assert gif.format == 'GIF'


def test_a_large_gif_is_reduced_and_a_long_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = folder_view(tmp_path / 'clip', height=401, width=801)
    render_video(view, tmp_path / 'a.gif', 'gif', SPOTLIGHT, 0, 2, ignore)
    with Image.open(tmp_path / 'a.gif') as gif:
        assert gif.size == (640, 320)
    monkeypatch.setattr(rendering, 'MAX_GIF_FRAMES', 5)
    with pytest.raises(ValueError, match=r'12 frames is too long.*5 frames.*mp4'):
        render_video(view, tmp_path / 'b.gif', 'gif', SPOTLIGHT, 0, 12, ignore)


@pytest.mark.parametrize('kind', ['mp4', 'gif'])
def test_a_cancelled_film_leaves_nothing_behind(tmp_path: Path, kind: Any) -> None:
    view = folder_view(tmp_path / 'clip')

    def stop(share: float) -> None:
        if share > 0.4:
            raise StoppedError

    folder = tmp_path / 'out'
    with pytest.raises(StoppedError):
        render_video(view, folder / f'a.{kind}', kind, SPOTLIGHT, 0, 12, stop)
    assert list(folder.iterdir()) == []


def test_a_broken_frame_shows_the_one_before_it(tmp_path: Path) -> None:
    folder = tmp_path / 'clip'
    view = folder_view(folder)
    for index in (0, 5):
        (folder / f'{index:05d}.png').write_bytes(b'no image')
    assert view.video.num_frames == 12
    render_video(view, tmp_path / 'a.mp4', 'mp4', SPOTLIGHT, 4, 8, ignore)
    pictures = decoded(tmp_path / 'a.mp4')
    assert len(pictures) == 4
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() < 1
    assert np.abs(pictures[1].astype(int) - pictures[2]).mean() > 5
    render_video(view, tmp_path / 'b.mp4', 'mp4', SPOTLIGHT, 0, 2, ignore)
    assert decoded(tmp_path / 'b.mp4')[0].max() < 20
    with pytest.raises(ValueError, match='Frame 5'):
        render_still(view, 5, SPOTLIGHT)


def test_a_still_cutout_is_a_png_with_the_masks_as_alpha(tmp_path: Path) -> None:
    view = folder_view(tmp_path / 'clip')
    options = EffectOptions(name='cutout', outline=False)
    with Image.open(io.BytesIO(render_still(view, 3, options))) as image:
        assert image.mode == 'RGBA'
        pixels = np.array(image)
    np.testing.assert_array_equal(pixels[:, :, 3] > 0, view.labels[3] > 0)
    inside = view.labels[3] > 0
    np.testing.assert_array_equal(pixels[inside][:, :3], view.video.read(3)[inside])
    with Image.open(io.BytesIO(render_still(view, 3, SPOTLIGHT))) as image:
        assert image.mode == 'RGB'


def test_hidden_objects_are_left_out_unless_they_are_named(tmp_path: Path) -> None:
    view = folder_view(tmp_path / 'clip')
    view.hidden = frozenset({1})

    def colors(*ids: int) -> list[tuple[int, int, int]]:
        options = EffectOptions(objects=ids or None)
        return [shown.color for shown in shown_masks(view, 3, options)]

    assert colors() == [(0, 255, 0)]
    assert colors(1) == [(255, 0, 0)]
    assert colors(2, 1) == [(255, 0, 0), (0, 255, 0)]  # in the order of creation
    options = replace(SPOTLIGHT, objects=(1, 9))
    with pytest.raises(ValueError, match='object 9, which does not exist'):
        render_still(view, 3, options)


@pytest.mark.parametrize(
    ('start', 'stop'), [(-1, 3), (3, 3), (4, 2), (0, 13), (0, sys.maxsize)]
)
def test_a_range_outside_of_the_video_is_refused(
    tmp_path: Path, start: int, stop: int
) -> None:
    view = folder_view(tmp_path / 'clip')
    with pytest.raises(ValueError, match='clip has frames 0 to 12'):
        render_video(view, tmp_path / 'a.mp4', 'mp4', SPOTLIGHT, start, stop, ignore)
    assert not (tmp_path / 'a.mp4').exists()


def test_single_images_make_no_film_but_stills(tmp_path: Path) -> None:
    view = folder_view(tmp_path / 'clip')
    view.video = AnnotatedVideo(tmp_path / 'clip', 'images')
    with pytest.raises(ValueError, match='single images'):
        render_video(view, tmp_path / 'a.mp4', 'mp4', SPOTLIGHT, 0, 2, ignore)
    assert render_still(view, 11, SPOTLIGHT).startswith(b'\x89PNG')
    with pytest.raises(ValueError, match='frame 12 is not in 0 to 11'):
        render_still(view, 12, SPOTLIGHT)
