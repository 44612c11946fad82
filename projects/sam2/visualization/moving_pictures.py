"""Hands videos to TensorBoard and Weights & Biases."""

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
from mmengine.visualization import TensorboardVisBackend, WandbVisBackend
from mmengine.visualization.vis_backend import BaseVisBackend
from PIL import Image

from projects.sam2.visualization.video_file import FRAMES_PER_SECOND

__all__ = ['add_video', 'encode_gif']

# TensorBoard keeps and sends pictures whole.
MAX_GIF_FRAMES = 40
MAX_GIF_SIDE = 480


def add_video(backend: BaseVisBackend, name: str, path: Path, step: int) -> None:
    """Show a video wherever a backend logs to, if it can show any.

    TensorBoard gets a moving GIF among its images: its own way for videos needs
    another package, which makes a GIF as well.

    Args:
        backend: Of a visualizer.
        name: Under which to show it.
        path: The mp4.
        step: Of training.
    """
    if isinstance(backend, TensorboardVisBackend):
        _add_to_tensorboard(backend, name, path, step)
    elif isinstance(backend, WandbVisBackend):
        wandb = backend.experiment
        wandb.log({name: wandb.Video(str(path), format='mp4')})


def encode_gif(path: Path) -> bytes:
    """Turn a video into a moving GIF, smaller and with fewer frames where it is large.

    Args:
        path: The mp4.

    Returns:
        The file's bytes.

    Raises:
        ValueError: If the video has no frame that can be read.
    """
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    stride = max(-(-count // MAX_GIF_FRAMES), 1)
    pictures = []
    for index in range(count):
        is_read, frame = capture.read()
        if is_read and index % stride == 0:
            picture = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            picture.thumbnail((MAX_GIF_SIDE, MAX_GIF_SIDE))
            pictures.append(picture)
    capture.release()
    if not pictures:
        msg = f'{path} has no frame that can be read; remove it'
        raise ValueError(msg)
    encoded = BytesIO()
    pictures[0].save(
        encoded,
        format='GIF',
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * stride / FRAMES_PER_SECOND),
        loop=0,
    )
    return encoded.getvalue()


def _add_to_tensorboard(
    backend: TensorboardVisBackend, name: str, path: Path, step: int
) -> None:
    """Log a GIF as an image that is encoded already."""
    # Imported where TensorBoard is used, as MMEngine does.
    # Protobuf makes the class at run time.
    from tensorboard.compat.proto import summary_pb2  # noqa: PLC0415

    gif = encode_gif(path)
    width, height = Image.open(BytesIO(gif)).size
    message: Any = vars(summary_pb2)['Summary']
    image = message.Image(
        height=height, width=width, colorspace=3, encoded_image_string=gif
    )
    summary = message(value=[message.Value(tag=name, image=image)])
    backend.experiment.file_writer.add_summary(summary, step)
