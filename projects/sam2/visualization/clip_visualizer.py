"""The visualizer: strips and videos as files and in TensorBoard or Weights & Biases."""

import subprocess
import sys
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dist import master_only
from mmengine.registry import VISUALIZERS
from mmengine.visualization import (
    LocalVisBackend,
    TensorboardVisBackend,
    Visualizer,
    WandbVisBackend,
)
from mmengine.visualization.vis_backend import BaseVisBackend
from PIL import Image

from ..ops import write_atomically
from ..structures import Masklets, VideoSource
from .drawing import Overlay, Picture, draw_overlay
from .strips import draw_strip, draw_video
from .video_file import FRAMES_PER_SECOND, write_video

# TensorBoard keeps GIFs whole in memory and sends them whole.
MAX_GIF_FRAMES = 40
MAX_GIF_SIDE = 480
WINDOW_SECONDS = 30.0  # for a window to open


@VISUALIZERS.register_module()
class ClipVisualizer(Visualizer):
    """Draws videos with prompts, ground truth and predicted masklets.

    For each video it writes a strip (``.png``) and a video of ground truth beside
    prediction (``.mp4``; none of a still), and shows them in TensorBoard and Weights &
    Biases; other backends get the strips only. In a config::

        visualizer = dict(
            type='ClipVisualizer', vis_backends=[dict(type='TensorboardVisBackend')]
        )
        default_hooks = dict(visualization=dict(type='ClipVisualizationHook'))
    """

    def draw_frame(
        self, frame: Picture, overlay: Overlay, *, long_side: int = 720
    ) -> Picture:
        """Draw masks, contours, object ids and prompts over a frame.

        Args:
            frame: (height, width, 3), RGB.
            long_side: Length of the picture's longer side in pixels.

        Returns:
            (shown height, shown width, 3), RGB.
        """
        picture = draw_overlay(frame, overlay, long_side=long_side)
        self.set_image(picture)
        return picture

    def draw_strip(
        self, source: VideoSource, masklets: Masklets, *, title: str = ''
    ) -> Picture:
        """Draw a few frames of a video: as they are, ground truth, prediction.

        Args:
            title: Written above; the video's name if empty.
        """
        return draw_strip(source, masklets, title=title or source.name)

    def write_clip(
        self,
        source: VideoSource,
        masklets: Masklets,
        *,
        folder: Path,
        step: int,
        title: str = '',
    ) -> tuple[Path, ...]:
        """Write the strip and, unless it is a still, the video of a validation video.

        Each process may write its own videos; this does not wait for the others.

        Args:
            folder: Created where it is missing.
            step: Training step, part of the files' names.
            title: Written above; the video's name if empty.

        Returns:
            Paths of the files; none where no frame was recorded.
        """
        if not masklets.frames:
            return ()
        title = title or source.name
        stem = source.name.replace('/', '_').replace('\\', '_')
        strip_path = folder / f'{stem}_{step}.png'
        video_path = strip_path.with_suffix('.mp4')
        write_png(strip_path, self.draw_strip(source, masklets, title=title))
        if len(masklets.frames) == 1:
            return (strip_path,)
        write_video(video_path, draw_video(source, masklets, title=title))
        return strip_path, video_path

    def show_clip(
        self,
        source: VideoSource,
        masklets: Masklets,
        *,
        title: str = '',
        wait_time: float = 0.0,
    ) -> None:
        """Show ground truth beside prediction in a window, frame by frame.

        Args:
            title: Written above; the video's name if empty.
            wait_time: Seconds for which a frame is shown; 0 waits for a key.

        Raises:
            OSError: If no window can be opened.
        """
        self.check_windows()
        for picture in draw_video(source, masklets, title=title or source.name):
            self.show(
                picture[..., ::-1],  # OpenCV expects BGR
                win_name=source.name,
                wait_time=wait_time,
                backend='cv2',
            )

    def check_windows(self) -> None:
        """Check that :meth:`show` can open a window, before a run that ends in one.

        Raises:
            OSError: If it cannot.
        """
        if not _windows_open():
            msg = (
                'No window can be opened: there is no display, or OpenCV was installed '
                'without windows (opencv-python-headless); leave out --show, and look '
                'at the pictures in files (--out-dir, --show-dir)'
            )
            raise OSError(msg)

    @master_only
    def add_strips(self, folder: Path, step: int) -> None:
        """Show all strips and videos of a step in TensorBoard and the like.

        Args:
            folder: As for :meth:`write_clip`.
        """
        for path in sorted(folder.glob(f'*_{step}.png')):
            name = f'{folder.name}/{path.stem.removesuffix(f"_{step}")}'
            picture, video = np.asarray(Image.open(path)), path.with_suffix('.mp4')
            for backend in self._vis_backends.values():
                if isinstance(backend, LocalVisBackend):
                    continue  # it would write the same file once more
                backend.add_image(name, picture, step)
                if video.is_file():
                    add_video(backend, f'{name}/video', video, step)


@cache
def _windows_open() -> bool:
    """Whether OpenCV can open a window.

    Without a display Qt aborts the process, so another process tries it.
    """
    code = "import cv2; cv2.namedWindow('mmsam2'); cv2.destroyAllWindows()"
    try:
        subprocess.run(
            [sys.executable, '-c', code],
            check=True,
            capture_output=True,
            timeout=WINDOW_SECONDS,
        )
    except subprocess.SubprocessError:
        return False
    return True


def add_video(backend: BaseVisBackend, name: str, path: Path, step: int) -> None:
    """Log an mp4 to a backend that can show videos.

    TensorBoard gets an animated GIF among its images: its own function for videos needs
    another package, which makes a GIF as well.
    """
    if isinstance(backend, TensorboardVisBackend):
        _add_to_tensorboard(backend, name, path, step)
    elif isinstance(backend, WandbVisBackend):
        wandb = backend.experiment
        wandb.log({name: wandb.Video(str(path), format='mp4')})


def _add_to_tensorboard(
    backend: TensorboardVisBackend, name: str, path: Path, step: int
) -> None:
    # TensorBoard is optional, and protobuf creates the class at run time.
    from tensorboard.compat.proto import summary_pb2  # noqa: PLC0415

    gif = encode_gif(path)
    width, height = Image.open(BytesIO(gif)).size
    message: Any = vars(summary_pb2)['Summary']
    image = message.Image(
        height=height, width=width, colorspace=3, encoded_image_string=gif
    )
    summary = message(value=[message.Value(tag=name, image=image)])
    backend.experiment.file_writer.add_summary(summary, step)


def encode_gif(path: Path) -> bytes:
    """Turn an mp4 into an animated GIF, with fewer and smaller frames if it is large.

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


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture atomically; the folder is created where it is missing."""
    encoded = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    write_atomically(path, encoded.tobytes())
