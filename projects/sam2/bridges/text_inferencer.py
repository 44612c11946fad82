"""The inferencer for text prompts: a detector finds, SAM 2 segments and tracks."""

import logging
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import INFERENCERS
from numpy.typing import NDArray

from ..apis import InferenceResult, SAM2Inferencer
from ..apis.inference_io import (
    ImageInput,
    InferenceInput,
    InferenceSource,
    InferredFrame,
    VideoInput,
    check_formats,
)
from ..apis.inputs import read_whole_number
from .detection.box_prompts import segment_boxes
from .detection.detector import DEFAULT_THRESHOLD, Detector, Text
from .tracking.association import TrackRules
from .tracking.detect_and_track import DetectAndTrack

DETECT_EVERY = 4  # frames


@INFERENCERS.register_module()
class SAM2TextInferencer(SAM2Inferencer):
    """Segments what a text names in images, and tracks it in videos and streams.

    ::

        image             Detector.detect ─▶ boxes, classes ─▶ segment_boxes
        video, stream     DetectAndTrack: Detector.detect every few frames,
                          SAM 2 on all of them; ids and classes stay

    Example:
        >>> from projects.sam2.bridges.detection.detector import Detector
        >>> from projects.sam2.bridges.text_inferencer import SAM2TextInferencer
        >>> detector = Detector('rtmdet-s', 'rtmdet_s.pth')  # doctest: +SKIP
        >>> inferencer = SAM2TextInferencer(
        ...     detector=detector,
        ...     model='sam2.1_hiera_t',
        ...     weights='sam2.1_hiera_tiny.pt',
        ... )  # doctest: +SKIP
        >>> results = inferencer('clip.mp4', 'a dog . a ball')  # doctest: +SKIP
        >>> results['predictions'][0].frames[0].categories  # doctest: +SKIP
        ('dog', 'sports ball')

    Args:
        detector: Finds what a text names.
        model: As for :class:`SAM2Inferencer`, like the other arguments.
        weights: A checkpoint of SAM 2; None leaves the weights random.
        device: Device of SAM 2; None selects the best available one.
        show_progress: Show a progress bar.
        compile: As for :func:`build_sam2`.
        fast: As for :func:`build_sam2`.
        policy: Likewise.

    Raises:
        ValueError: If neither model nor weights are given.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        model: str | Path | Config | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        show_progress: bool = True,
        compile: bool = False,  # noqa: A002  as torch and MMEngine name it
        fast: bool = False,
        policy: str | Path | None = None,
    ) -> None:
        super().__init__(
            model=model,
            weights=weights,
            device=device,
            show_progress=show_progress,
            compile=compile,
            fast=fast,
            policy=policy,
        )
        self.detector = detector

    def __call__(  # type: ignore[override]  # a text in place of prompts
        self,
        inputs: InferenceInput | list[InferenceInput],
        text: Text = '',
        *,
        threshold: float = DEFAULT_THRESHOLD,
        detect_every: int = DETECT_EVERY,
        folder_is_video: bool = False,
        max_frames: int | None = None,
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0.0,
        out_dir: str | Path = '',
        pred_formats: Collection[str] = ('png', 'json'),
    ) -> dict[str, list[Any]]:
        """Segment what a text names.

        Args:
            inputs: As for :class:`SAM2Inferencer`, like the options that are not named
                here.
            text: As for :meth:`Detector.detect`: ``'a dog . a ball'``, or a list.
            threshold: Smallest score of a detection.
            detect_every: Run the detector on every n-th frame of a video or stream.

        Returns:
            As :class:`SAM2Inferencer`; frames also have ``categories`` and ``scores``.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            OSError: If no window can be opened to show the overlays.
            ValueError: If an input, the text or an option cannot be used.
        """
        self.detector.read_text(text)  # before anything is opened or written
        every = read_whole_number(detect_every, name='detect_every', least=1)
        if str(out_dir):
            check_formats(pred_formats, ())
        forward = partial(
            self.forward, text=text, threshold=threshold, detect_every=every
        )
        results = self._infer_all(
            inputs,
            forward,
            folder_is_video=folder_is_video,
            max_frames=max_frames,
            return_vis=return_vis,
            show=show,
            wait_time=wait_time,
            out_dir=out_dir,
            pred_formats=pred_formats,
        )
        for result in results['predictions']:
            _warn_if_empty(result, text, threshold)
        return results

    def forward(  # type: ignore[override]  # a text in place of prompts
        self,
        inputs: InferenceSource,
        *,
        text: Text = '',
        threshold: float = DEFAULT_THRESHOLD,
        detect_every: int = DETECT_EVERY,
        max_frames: int | None = None,
    ) -> Iterator[InferredFrame]:
        """Segment one open input, frame by frame."""
        if isinstance(inputs, ImageInput):
            return iter([self._segment_image(inputs.pixels, text, threshold)])
        if isinstance(inputs, VideoInput):
            frames: Iterable[NDArray[np.uint8]] = map(
                inputs.frames.read, range(inputs.frames.num_frames)
            )
        else:
            frames = inputs.frames
        tracker = DetectAndTrack(
            self.video_predictor,
            partial(self.detector.detect, text=text, threshold=threshold),
            every=detect_every,
            # The threshold alone decides, as for an image.
            rules=TrackRules(start_score=threshold),
        )
        return (_track_frame(tracker, pixels) for pixels in islice(frames, max_frames))

    def _segment_image(
        self, pixels: NDArray[np.uint8], text: Text, threshold: float
    ) -> InferredFrame:
        """Segment the objects of an image, the most certain first."""
        detections = self.detector.detect(pixels, text, threshold=threshold)
        masks = np.zeros((0, *pixels.shape[:2]), dtype=bool)
        ious: list[float] = []
        if len(detections):
            self.image_predictor.set_image(pixels)
            segmented = segment_boxes(self.image_predictor, detections.boxes)
            masks, ious = segmented.masks.cpu().numpy(), segmented.ious.tolist()
        return InferredFrame(
            frame_index=0,
            pixels=pixels,
            object_ids=tuple(range(1, len(detections) + 1)),
            masks=masks,
            ious=tuple(ious),
            categories=tuple(
                detections.class_names[label] for label in detections.labels
            ),
            scores=tuple(detections.scores.tolist()),
        )


def _track_frame(tracker: DetectAndTrack, pixels: NDArray[np.uint8]) -> InferredFrame:
    """Track objects on the next frame of a video."""
    tracks = tracker.step(pixels)
    return InferredFrame(
        frame_index=tracks.frame_index,
        pixels=pixels,
        object_ids=tracks.object_ids,
        masks=tracks.masks.numpy(),
        ious=(float('nan'),) * len(tracks.object_ids),
        categories=tuple(tracks.class_names[label] for label in tracks.labels),
        scores=tuple(tracks.scores.tolist()),
    )


def _warn_if_empty(result: InferenceResult, text: Text, threshold: float) -> None:
    if not any(frame.object_ids for frame in result.frames):
        what = f'{text!r}' if text else 'any class of the detector'
        msg = (
            f'{result.name}: nothing was found for {what} with a score of at least '
            f'{threshold:g}; lower the threshold, or name it otherwise'
        )
        print_log(msg, logger='current', level=logging.WARNING)
