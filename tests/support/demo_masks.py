"""Sessions of the demo with masks that are awkward to write, and the frames of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.ops import EncodedMask, decode_masks, encode_masks
from projects.sam2.webdemo.session.annotator import FrameMask
from projects.sam2.webdemo.session.document import AnnotatedObject, Document
from projects.sam2.webdemo.session.video import AnnotatedVideo

Mask = NDArray[np.bool_]
NUM_FRAMES = 6


@dataclass
class GivenMasks:
    """A session whose masks are given.

    Attributes:
        video: The frames.
        document: The objects.
        masks_of: Masks by frame and object.
    """

    video: AnnotatedVideo
    document: Document
    masks_of: Mapping[int, Mapping[int, Mask]] = field(default_factory=dict)

    def masks(self, frame_index: int) -> list[FrameMask]:
        """Masks of a frame, the youngest object first: the order means nothing."""
        masks = self.masks_of.get(frame_index, {})
        return [
            FrameMask(object_id=key, code=encode_masks(masks[key][None])[0], score=1.0)
            for key in sorted(masks, reverse=True)
        ]

    def mask(self, object_id: int, frame_index: int) -> FrameMask | None:
        """Mask of one object."""
        masks = {mask.object_id: mask for mask in self.masks(frame_index)}
        return masks.get(object_id)

    def visible(self) -> dict[int, dict[int, Mask]]:
        """Masks with a pixel by object and frame."""
        visible: dict[int, dict[int, Mask]] = {}
        for frame, masks in self.masks_of.items():
            for key, mask in masks.items():
                if mask.any():
                    visible.setdefault(key, {})[frame] = mask
        return visible


def document() -> Document:
    """Objects whose names and classes are awkward; one of them has no mask."""
    objects = (
        AnnotatedObject(object_id=1, name='Rex <&>"\' #1', category='dog & cat'),
        AnnotatedObject(
            object_id=2, name='猫 ünï', category='<Katze>', color='#0a0b0c'
        ),
        AnnotatedObject(object_id=4, name='no class', color='#ff0050'),
        AnnotatedObject(object_id=7, name='one pixel', category='dog & cat'),
        AnnotatedObject(object_id=9, name='never seen', category='ghost'),
    )
    return Document(
        objects={each.object_id: each for each in objects},
        categories=('unused', 'dog & cat', '<Katze>', 'ghost'),
    )


def awkward_masks(size: tuple[int, int], frame: int) -> dict[int, Mask]:
    """Masks of a frame: they overlap, have holes and parts, touch the border.

    On frame 2 nothing is known; on frame 3 object 2 is known to be absent.
    """
    if frame == 2:
        return {}
    height, width = size
    masks = {key: np.zeros(size, bool) for key in (1, 2, 4, 7)}
    masks[1][: height // 2, frame : width // 2 + frame] = True
    masks[1][height // 4 - 1 : height // 4 + 1, width // 4 : width // 4 + 3] = False
    masks[1][-2:, -3:] = True
    if frame != 3:
        rows, columns = np.ogrid[:height, :width]
        distances = (rows - height / 2) ** 2 + (columns - width / 2 - frame) ** 2
        masks[2] = distances < (min(size) / 3) ** 2
    masks[4][np.random.default_rng(frame).random(size) < 0.3] = True
    masks[7][height - 1, frame] = True
    return masks


def frame_pixels(size: tuple[int, int], frame: int) -> NDArray[np.uint8]:
    """A frame that differs from the others."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, size[1], dtype=np.uint8)
    pixels[..., 1] = 25 * frame
    return pixels


def images_session(root: Path) -> GivenMasks:
    """A folder of frames of odd size, two of them JPEG, named by numbers."""
    folder, size = root / 'my <clip>', (37, 53)
    folder.mkdir(parents=True)
    for frame in range(NUM_FRAMES):
        suffix = 'jpg' if frame < 2 else 'png'
        image = Image.fromarray(frame_pixels(size, frame))
        image.save(folder / f'img_{frame + 3:04d}.{suffix}')
    masks = {frame: awkward_masks(size, frame) for frame in range(NUM_FRAMES)}
    return GivenMasks(AnnotatedVideo(folder, 'video'), document(), masks)


def file_session(root: Path) -> GivenMasks:
    """A video file."""
    path, size = root / 'film.mp4', (48, 64)
    root.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('h264', rate=Fraction(30))
        stream.height, stream.width, stream.pix_fmt = *size, 'yuv420p'
        for frame in range(NUM_FRAMES):
            pixels = frame_pixels(size, frame)
            image = av.VideoFrame.from_ndarray(pixels, format='rgb24')
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    masks = {frame: awkward_masks(size, frame) for frame in range(NUM_FRAMES)}
    return GivenMasks(AnnotatedVideo(path), document(), masks)


def stills_session(root: Path) -> GivenMasks:
    """Photographs of different sizes; on the last nothing is known."""
    folder = root / 'photos'
    folder.mkdir(parents=True)
    sizes = {'Hund': (21, 40), 'Straße 2': (37, 53), 'leer': (20, 20)}
    for number, (name, size) in enumerate(sizes.items()):
        image = Image.fromarray(frame_pixels(size, number))
        image.save(folder / f'{name}.{"png" if number else "jpg"}')
    video = AnnotatedVideo(folder, 'images')
    masks = {}
    for index in range(video.num_frames):
        if video.frame_name(index) != 'leer':
            size = video.size(index)
            # An object is on one still only.
            kept = (1, 4) if index == 0 else (2, 7)
            given = awkward_masks(size, 0)
            masks[index] = {key: given[key] for key in kept}
    return GivenMasks(video, document(), masks)


SESSIONS: Mapping[str, Callable[[Path], GivenMasks]] = {
    'images': images_session,
    'file': file_session,
    'stills': stills_session,
}


def decode(code: EncodedMask) -> Mask:
    """Decode one mask."""
    mask: Mask = decode_masks([code])[0]
    return mask
