"""Small annotated clips of the demo: a video on disk, a model, and a session."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis import SAM2VideoPredictor, build_sam2_video_predictor
from projects.sam2.ops import EncodedMask, decode_masks, encode_masks
from projects.sam2.webdemo.session.annotator import Annotator
from projects.sam2.webdemo.session.video import AnnotatedVideo
from tool_modules import ROOT

SIZE = (64, 96)
WEIGHTS = ROOT / 'docs' / 'weights'


@cache
def small_predictor() -> SAM2VideoPredictor:
    """The small model of the tutorials; it works on clicks, at few pixels."""
    return build_sam2_video_predictor(
        str(WEIGHTS / 'sam2_mini_cells.py'),
        str(WEIGHTS / 'sam2_mini.pth'),
        device='cpu',
        image_size=(64, 96),
    )


def exact_predictor() -> SAM2VideoPredictor:
    """The same model, with the option that the demo always sets."""
    predictor = SAM2VideoPredictor(small_predictor().model, fill_hole_area=8)
    predictor.add_all_frames_to_correct_as_cond = True
    return predictor


def moving_squares(num_frames: int) -> list[NDArray[np.uint8]]:
    """Two bright squares that move over noise."""
    frames = []
    for index in range(num_frames):
        frame = np.random.default_rng(index).integers(0, 70, (*SIZE, 3), dtype=np.uint8)
        frame[10:30, 8 + 2 * index : 30 + 2 * index] += 150
        frame[36:56, 60 - index : 84 - index] += 120
        frames.append(frame)
    return frames


def write_clip(folder: Path, num_frames: int = 10) -> AnnotatedVideo:
    """Write the squares as PNG files, and open them as a video."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(moving_squares(num_frames)):
        cv2.imwrite(str(folder / f'{index:05d}.png'), frame[..., ::-1])
    return AnnotatedVideo(folder)


def new_session(folder: Path, num_frames: int = 10) -> Annotator:
    """A session of the squares, without objects."""
    video = write_clip(folder / 'clip', num_frames)
    return Annotator.create(
        folder / 'session', video, small_predictor(), name='squares'
    )


def square(top: int, left: int, side: int = 16) -> EncodedMask:
    """A mask of the size of the clips."""
    mask = np.zeros((1, *SIZE), bool)
    mask[0, top : top + side, left : left + side] = True
    return encode_masks(mask)[0]


def all_masks(annotator: Annotator) -> dict[int, dict[int, EncodedMask]]:
    """The masks of all frames: by frame and object."""
    return {
        frame: {mask.object_id: mask.code for mask in annotator.masks(frame)}
        for frame in range(annotator.video.num_frames)
    }


def pixels(annotator: Annotator, object_id: int, frame: int) -> NDArray[np.bool_]:
    """The mask of an object on a frame, decoded."""
    mask = annotator.mask(object_id, frame)
    assert mask is not None, f'object {object_id} has no mask on frame {frame}'
    decoded: NDArray[np.bool_] = decode_masks([mask.code])[0]
    return decoded


def track_all(annotator: Annotator, start: int = 0) -> None:
    """Track all objects forwards to the end."""
    for _ in annotator.propagate(None, start, None, 'forward'):
        pass
