"""Pictures: masks, prompts, ground truth and predictions over frames."""

from projects.sam2.visualization.clip_pictures import draw_strip, draw_video
from projects.sam2.visualization.clip_visualizer import ClipVisualizer
from projects.sam2.visualization.colors import object_color
from projects.sam2.visualization.drawing import Overlay, draw_overlay
from projects.sam2.visualization.video_file import VideoFile, write_video

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
