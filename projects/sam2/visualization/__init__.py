"""Pictures: masks, prompts, ground truth and predictions over frames."""

from .clip_visualizer import ClipVisualizer
from .drawing import Overlay, draw_overlay, object_color
from .strips import draw_strip, draw_video
from .video_file import VideoFile, write_video

__all__ = [
    'ClipVisualizer',
    'Overlay',
    'VideoFile',
    'draw_overlay',
    'draw_strip',
    'draw_video',
    'object_color',
    'write_video',
]
