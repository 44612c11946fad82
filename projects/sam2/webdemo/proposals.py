"""Masks that the demo proposes for a frame: of everything, or of what a text names.

Everything comes from :class:`SAM2AutomaticMaskGenerator` on the model of the session.
What a text names is found by a detector of mmdetection; the same model turns its boxes
into masks.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..apis import SAM2AutomaticMaskGenerator, SAM2ImagePredictor
from ..apis.building import ModelLike
from ..bridges.mmcv_operators import ensure_operators
from ..ops import EncodedMask, encode_masks, import_optional

POINTS_PER_SIDE = 16  # a click on a CPU waits for all of them; the release has 32
MAX_DUPLICATE_IOU = 0.7  # with a mask that the frame has already
MAX_PROPOSALS = 200
BOXES_PER_BATCH = 16  # whose masks are enlarged to the size of the frame at once
DEFAULT_THRESHOLD = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A mask that may become an object.

    Attributes:
        code: The mask, of the size of the frame.
        score: 0 to 1, how good the mask is, or how certain the detector.
        label: Class or phrase of a detection, else empty.
    """

    code: EncodedMask
    score: float
    label: str = ''


def propose_masks(
    predictor: ModelLike,
    frame: NDArray[np.uint8],
    *,
    existing: Sequence[EncodedMask] = (),
    settings: Mapping[str, float] | None = None,
) -> list[Proposal]:
    """Segment everything in a frame.

    Args:
        predictor: The predictor of the session, whose model is used.
        frame: (height, width, 3), RGB.
        existing: Masks of the frame's objects; what equals one of them is left out.
        settings: Options of :class:`SAM2AutomaticMaskGenerator`.

    Returns:
        The best first.

    Raises:
        ValueError: If a setting is out of range, or nothing is found; the message says
            which setting to change.
    """
    options: dict[str, Any] = {'points_per_side': POINTS_PER_SIDE, **(settings or {})}
    generator = SAM2AutomaticMaskGenerator(
        predictor,  # type: ignore[arg-type]  # it takes the model out of it
        output_mode='coco_rle',
        **options,
    )
    masks = generator.generate(frame)
    if not masks:
        raise ValueError(_in_words_of_the_page(generator.explain_nothing()))
    proposals = [
        Proposal(
            code=mask['segmentation'],  # type: ignore[arg-type]  # as asked above
            score=mask['predicted_iou'] * mask['stability_score'],
        )
        for mask in masks
    ]
    proposals.sort(key=lambda proposal: -proposal.score)
    new = _without_existing(proposals, existing)
    if not new:
        msg = f'all {len(proposals)} masks that were found are objects of this frame'
        raise ValueError(msg)
    return new[:MAX_PROPOSALS]


def _in_words_of_the_page(reason: str) -> str:
    """Call the settings as the sliders of the page are called."""
    reason = reason.replace('stability_score_thresh', 'the least stability')
    return reason.replace('pred_iou_thresh', 'the least quality')


def _without_existing(
    proposals: Sequence[Proposal], existing: Sequence[EncodedMask]
) -> list[Proposal]:
    if not existing:
        return list(proposals)
    # A compiled package that only this needs.
    from pycocotools import mask as coco_mask  # noqa: PLC0415

    codes = [proposal.code for proposal in proposals]
    ious = coco_mask.iou(codes, list(existing), [0] * len(existing))
    best = np.asarray(ious).reshape(len(codes), len(existing)).max(axis=1)
    return [
        proposal
        for proposal, iou in zip(proposals, best, strict=True)
        if iou <= MAX_DUPLICATE_IOU
    ]


# Text --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A box of a detector, corners ``(x, y, x, y)`` inside the frame, and its class."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class TextDetector:
    """A detector of mmdetection that finds what a text names.

    Detectors with a language model (GroundingDINO, GLIP) take any text; for others the
    text names some of their classes.

    Args:
        config: Path of the detector's config, or its name in mmdetection.
        checkpoint: Its weights; None leaves them random.
        device: Such as ``'cuda'`` or ``'cpu'``.

    Raises:
        ModuleNotFoundError: If mmdetection is not installed.
        ValueError: If the detector cannot be built or its weights do not fit.
    """

    def __init__(self, config: str, checkpoint: str | None, *, device: str) -> None:
        import_optional('mmdet', purpose='A text prompt', install='mmsam2[mmdet]')
        ensure_operators()
        from mmdet.apis import DetInferencer  # noqa: PLC0415  optional

        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of palettes and missing class names
                self._inferencer: Any = DetInferencer(
                    config, checkpoint, device=device, show_progress=False
                )
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
            msg = f'the detector {config} cannot be built ({problem})'
            raise ValueError(msg) from error
        model: Any = self._inferencer.model
        self.takes_any_text = hasattr(model, 'language_model')
        self.classes: tuple[str, ...] = tuple(model.dataset_meta.get('classes', ()))

    def detect(
        self, frame: NDArray[np.uint8], text: str, threshold: float = DEFAULT_THRESHOLD
    ) -> list[Detection]:
        """Find what a text names.

        Args:
            frame: (height, width, 3), RGB.
            text: Phrases or classes, separated by commas, full stops or lines. Without
                any, a detector of fixed classes looks for all of them.
            threshold: Smallest score of a detection.

        Returns:
            The most certain first.

        Raises:
            ValueError: If the text is empty or names an unknown class.
        """
        if not 0 <= threshold <= 1:
            msg = f'threshold must be a number from 0 to 1, not {threshold!r}'
            raise ValueError(msg)
        phrases = [part.strip() for part in re.split(r'[,.;\n]', text) if part.strip()]
        options: dict[str, Any] = {}
        if self.takes_any_text:
            if not phrases:
                msg = 'the text is empty; name what to look for, such as: person, dog'
                raise ValueError(msg)
            # With entities of our own mmdet needs no nltk, which it would download.
            options = {'texts': ' . '.join(phrases) + ' .', 'custom_entities': True}
            names: Sequence[str] = phrases
            wanted = set(phrases)
        else:
            names = self.classes
            wanted = self._classes_of(phrases)
        (result,) = self._inferencer(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR),
            no_save_vis=True,
            return_datasamples=True,
            **options,
        )['predictions']
        instances = result.pred_instances.cpu()
        height, width = frame.shape[:2]
        detections = []
        for box, score, label in zip(
            instances.bboxes.tolist(),
            instances.scores.tolist(),
            instances.labels.tolist(),
            strict=True,
        ):
            name = names[label] if label < len(names) else ''
            left, right = (min(max(x, 0.0), width - 1.0) for x in box[::2])
            top, bottom = (min(max(y, 0.0), height - 1.0) for y in box[1::2])
            is_box = right > left and bottom > top
            if is_box and score >= threshold and name in wanted:
                corners = (left, top, right, bottom)
                detections.append(Detection(box=corners, score=score, label=name))
        detections.sort(key=lambda detection: -detection.score)
        return detections[:MAX_PROPOSALS]

    def _classes_of(self, phrases: Sequence[str]) -> set[str]:
        known = {name.lower(): name for name in self.classes}
        for phrase in phrases:
            if phrase.lower() not in known:
                near = get_close_matches(phrase.lower(), known, n=3)
                names = [known[name] for name in near] or list(self.classes)[:10]
                msg = (
                    f'the detector knows no class {phrase!r}; it knows '
                    f'{len(known)} classes, such as {", ".join(names)}'
                )
                raise ValueError(msg)
        return {known[phrase.lower()] for phrase in phrases} or set(self.classes)


def propose_text(
    predictor: ModelLike,
    detector: TextDetector,
    frame: NDArray[np.uint8],
    text: str,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    existing: Sequence[EncodedMask] = (),
) -> list[Proposal]:
    """Segment what a text names.

    Args:
        predictor: The predictor of the session, whose model is used.
        detector: Finds the boxes.
        frame: (height, width, 3), RGB.
        text: See :meth:`TextDetector.detect`.
        threshold: Smallest score of a detection.
        existing: Masks of the frame's objects; what equals one of them is left out.

    Returns:
        A mask for each box, the most certain first; scores are those of the detector.

    Raises:
        ValueError: If the text is invalid, or nothing is found.
    """
    detections = detector.detect(frame, text, threshold)
    if not detections:
        what = f'{text!r}' if text.strip() else 'any class of the detector'
        remedy = (
            f'lower the threshold of {threshold:g}' if threshold else 'look for more'
        )
        msg = f'nothing was found for {what}; {remedy}'
        raise ValueError(msg)
    codes = segment_boxes(predictor, frame, [each.box for each in detections])
    proposals = [
        Proposal(code=code, score=each.score, label=each.label)
        for code, each in zip(codes, detections, strict=True)
    ]
    new = _without_existing(proposals, existing)
    if not new:
        msg = f'all {len(proposals)} masks that were found are objects of this frame'
        raise ValueError(msg)
    return new


def segment_boxes(
    predictor: ModelLike,
    frame: NDArray[np.uint8],
    boxes: Sequence[tuple[float, float, float, float]],
) -> list[EncodedMask]:
    """Segment the object in each box, corners ``(x, y, x, y)``."""
    image_predictor = SAM2ImagePredictor(predictor)
    image_predictor.set_image(frame)
    codes: list[EncodedMask] = []
    for start in range(0, len(boxes), BOXES_PER_BATCH):
        chunk = np.array(boxes[start : start + BOXES_PER_BATCH])
        masks, _, _ = image_predictor.predict(box=chunk, multimask_output=False)
        codes += encode_masks(masks.reshape(-1, *frame.shape[:2]))
    return codes
