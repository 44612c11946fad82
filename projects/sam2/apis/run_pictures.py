"""Pictures of the worst and the best clips of a run, predicted again."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from ..engine.config import load_config
from ..evaluation import VideoScores, summarise
from ..structures import VideoRecord, VideoSource
from ..visualization.drawing import Picture
from ..visualization.strips import draw_strip
from .building import build_sam2
from .run_files import RunFiles

MAX_PICTURE_BYTES = 400_000
MAX_BYTES = 1_600_000  # of all pictures together
RECORDED_FRAMES = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnClip:
    """A picture of a clip.

    Attributes:
        kind: ``worst``, ``best`` or ``example``.
        name: Name of the clip.
        score: Its J&F, 0 to 100; None if unknown.
        image: The picture as a data URI.
    """

    kind: str
    name: str
    score: float | None
    image: str


@dataclass(slots=True, kw_only=True)
class Pictures:
    """Pictures of clips, or why there are none.

    Attributes:
        clips: The worst and the best clips, or the first ones if none was scored.
        problem: Why there are none; empty if there are some.
    """

    clips: list[DrawnClip] = field(default_factory=list)
    problem: str = ''


def draw_clips(
    files: RunFiles, cfg_options: dict[str, Any], num_clips: int, device: torch.device
) -> Pictures:
    """Predict the worst and the best clips again, and draw them."""
    if not num_clips:
        return Pictures(problem='They were not asked for.')
    if files.config_path is None or files.checkpoint is None:
        missing = 'config' if files.config_path is None else 'checkpoint'
        return Pictures(problem=f'The {missing} of the run is gone.')
    try:
        cfg = load_config(str(files.config_path), cfg_options)
        dataset = _validation_set(cfg)
        if not isinstance(dataset[0], VideoRecord):
            return Pictures(problem='Only clips of SAM 2 are drawn.')
        chosen = choose_clips(files.scores, num_clips) or [
            ('example', dataset[index].source.name, None)
            for index in range(min(2 * num_clips, len(dataset)))
        ]
        sources = _find_sources(dataset, {name for _, name, _ in chosen})
        model = build_sam2(_recording(cfg), files.checkpoint, device)
        max_bytes = min(MAX_PICTURE_BYTES, MAX_BYTES // len(chosen))
        clips = [
            DrawnClip(
                kind=kind,
                name=name,
                score=score,
                image=data_uri(_draw_clip(model, sources[name], score), max_bytes),
            )
            for kind, name, score in chosen
        ]
    except (OSError, ValueError, ImportError, LookupError) as error:
        text = str(error.args[-1] if isinstance(error, LookupError) else error)
        return Pictures(problem=f'The clips cannot be predicted again: {text}.')
    return Pictures(clips=clips)


def choose_clips(
    scores: Sequence[VideoScores], num_clips: int
) -> list[tuple[str, str, float | None]]:
    """Choose the worst and the best clips: kind, name and J&F; each clip once."""
    ranked = [(summarise([video]).j_and_f, video.video_name) for video in scores]
    ranked = sorted(item for item in ranked if not math.isnan(item[0]))
    best = ranked[: -num_clips - 1 : -1]
    worst = [item for item in ranked[:num_clips] if item not in best]
    return [
        (kind, name, score)
        for kind, items in (('worst', worst), ('best', best))
        for score, name in items
    ]


def _validation_set(cfg: Config) -> Any:
    """Build the validation set of a run.

    Raises:
        ValueError: If the config has none.
    """
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        msg = 'the config has no validation set'
        raise ValueError(msg)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return DATASETS.build(loader.dataset)


def _find_sources(dataset: Any, names: set[str]) -> dict[str, VideoSource]:
    """Open the videos of these names.

    Raises:
        LookupError: If a video is missing.
    """
    sources: dict[str, VideoSource] = {}
    for index in range(len(dataset)):
        source = dataset[index].source
        if source.name in names:
            sources[source.name] = source
        if len(sources) == len(names):
            return sources
    msg = f'the validation set no longer has {min(names - sources.keys())}'
    raise LookupError(msg)


def _recording(cfg: Config) -> Config:
    """The config of a model that keeps the masks of all videos."""
    recorder = {
        'type': 'MaskletRecorder',
        'max_videos': 2**62,
        'max_frames': RECORDED_FRAMES,
    }
    cfg.model.accumulators = [recorder]
    return cfg


def _draw_clip(model: Any, source: VideoSource, score: float | None) -> Picture:
    """Predict a clip and draw it."""
    record = VideoRecord(metainfo={'source': source, 'sample_index': 0})
    with torch.inference_mode():
        (result,) = model.test_step([record])
    title = source.name if score is None else f'{source.name}   J&F {score:.1f}'
    return draw_strip(source, result.masklets, title=title)


def data_uri(picture: Picture, max_bytes: int) -> str:
    """Encode a picture as a data URI, at a lower quality or size if it is large."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    quality = 85
    while True:
        file = io.BytesIO()
        image.save(file, format='WEBP', quality=quality, method=4)
        if file.tell() <= max_bytes or min(image.size) < 64:
            break
        if quality > 50:
            quality -= 15
        else:
            image = image.reduce(2)
    return f'data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}'
