"""Masks that the demo proposes for a frame: of everything, or of what a text names.

Everything comes from :class:`SAM2AutomaticMaskGenerator` on the model of the session.
What a text names is found by a :class:`Detector` of mmdetection; the same model turns
its boxes into masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..apis import SAM2AutomaticMaskGenerator, SAM2ImagePredictor
from ..apis.building import ModelLike
from ..bridges.detection.box_prompts import segment_boxes
from ..bridges.detection.detector import DEFAULT_THRESHOLD, Detector
from ..ops import EncodedMask, encode_masks

POINTS_PER_SIDE = 16  # a click on a CPU waits for all of them; the release has 32
MAX_DUPLICATE_IOU = 0.7  # with a mask that the frame has already
MAX_PROPOSALS = 200
BOXES_PER_BATCH = 16  # whose masks are enlarged to the size of the frame at once


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


def propose_text(
    predictor: ModelLike,
    detector: Detector,
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
        text: See :meth:`Detector.detect`.
        threshold: Smallest score of a detection.
        existing: Masks of the frame's objects; what equals one of them is left out.

    Returns:
        A mask for each box, the most certain first; scores are those of the detector.

    Raises:
        ValueError: If the text is invalid, or nothing is found.
    """
    detections = detector.detect(frame, text, threshold=threshold)
    if not len(detections):
        what = f'{text!r}' if text.strip() else 'any class of the detector'
        remedy = (
            f'lower the threshold of {threshold:g}' if threshold else 'look for more'
        )
        msg = f'nothing was found for {what}; {remedy}'
        raise ValueError(msg)
    detections = detections.select(slice(MAX_PROPOSALS))
    proposals = [
        Proposal(code=code, score=score, label=detections.class_names[label])
        for code, score, label in zip(
            encode_boxes(predictor, frame, detections.boxes),
            detections.scores.tolist(),
            detections.labels.tolist(),
            strict=True,
        )
    ]
    new = _without_existing(proposals, existing)
    if not new:
        msg = f'all {len(proposals)} masks that were found are objects of this frame'
        raise ValueError(msg)
    return new


def encode_boxes(
    predictor: ModelLike, frame: NDArray[np.uint8], boxes: Tensor
) -> list[EncodedMask]:
    """Segment the object in each box, (N, 4), and encode the masks."""
    image_predictor = SAM2ImagePredictor(predictor)
    image_predictor.set_image(frame)
    codes: list[EncodedMask] = []
    for batch in boxes.split(BOXES_PER_BATCH):
        masks = segment_boxes(image_predictor, batch).masks
        codes += encode_masks(masks.cpu().numpy())
    return codes
