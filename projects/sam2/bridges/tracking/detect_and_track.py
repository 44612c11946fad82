"""Detect and track: a detector every few frames, SAM 2 on all of them.

::

    step(frame)
      ├─ detect                    on every n-th frame, before anything changes
      ├─ VideoSession.step         SAM 2 tracks all objects
      ├─ find_intruders            a track that jumped to another object is absent
      ├─ decode_boxes, associate   masks of the detections, matched with the tracks
      └─ VideoSession.add_prompt   new objects, and tracks that have drifted
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...apis.building import ModelLike
from ...apis.image_predictor import EncodedImage
from ...apis.inputs import (
    ImageLike,
    read_choice,
    read_image,
    read_whole_number,
)
from ...apis.video_predictor import LatestFrame, SAM2VideoPredictor, VideoState
from ...models.tracking.session import add_context
from ...ops import boxes_to_points, masks_to_boxes, resize_masks, upsample_logits
from ...structures import FrameMasks, FramePrompt
from ..detection.box_prompts import clean_boxes, decode_boxes
from ..detection.detections import Detections, list_classes
from .association import (
    Track,
    TrackRules,
    associate,
    find_intruders,
    has_ended,
    make_room,
)

# A stream has no end, and pointers are scaled by the length of very short videos only.
ENDLESS = 2**31
Prompts = Literal['boxes', 'masks']


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTracks:
    """The tracked objects that are visible on a frame, on the CPU.

    Attributes:
        frame_index: Position in the video.
        object_ids: In the order in which the tracks began, from 1 on.
        masks: (O, height, width), bool, at the size of the frame.
        boxes: (O, 4), float32, the tightest boxes around the masks: corners ``x0, y0,
            x1, y1`` in pixels.
        scores: (O,), float32, mean score of the detections of the track so far.
        labels: (O,), int64, class of the track.
        class_names: Name of label i.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    masks: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of visible objects."""
        return len(self.object_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What is known of the tracks after a frame.

    Attributes:
        tracks: Those that have not ended, by id.
        masks: Their masks on the frame, (H4, W4), bool; empty where they are absent.
        next_id: Id of the next track.
        class_names: Those of the detector; empty before it ran.
    """

    tracks: Mapping[int, Track] = field(default_factory=dict)
    masks: Mapping[int, Tensor] = field(default_factory=dict)
    next_id: int = 1
    class_names: tuple[str, ...] = ()


class DetectAndTrack:
    """Tracks what a detector finds in a video; frames come one at a time.

    The memory it takes does not grow with the video. Frames that are read from a file
    (:meth:`track`) give the same tracks as frames of a camera (:meth:`step`).

    Args:
        model: A model as :func:`build_sam2` returns it, or a video predictor, whose
            options are then used.
        detect: Finds objects in a frame (height, width, 3), uint8, RGB.
        every: Run the detector on frame 0 and every ``every`` frames.
        prompts: Prompt SAM 2 with the ``'boxes'`` of the detections, or with their
            ``'masks'`` if the detector predicts them.
        rules: When detections and tracks are the same object.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from projects.sam2.apis import build_sam2
        >>> from projects.sam2.bridges.detection.detections import Detections
        >>> from projects.sam2.bridges.tracking.detect_and_track import DetectAndTrack
        >>> def detect(frame):
        ...     return Detections(
        ...         boxes=torch.tensor([[16.0, 16.0, 64.0, 64.0]]),
        ...         scores=torch.tensor([0.9]),
        ...         labels=torch.tensor([0]),
        ...         class_names=('dog',),
        ...     )
        >>> model = build_sam2('_base_/models/sam2_1_mini.py', device='cpu')
        >>> tracker = DetectAndTrack(model, detect, every=4)
        >>> for tracks in tracker.track(np.zeros((3, 96, 128, 3), np.uint8)):
        ...     shown = tracks.object_ids, tracks.labels.tolist()
    """

    def __init__(
        self,
        model: ModelLike,
        detect: Callable[[NDArray[np.uint8]], Detections],
        *,
        every: int = 4,
        prompts: Prompts = 'boxes',
        rules: TrackRules | None = None,
    ) -> None:
        if not isinstance(model, SAM2VideoPredictor):
            model = SAM2VideoPredictor(model)
        self.predictor = model
        self.detect = detect
        self.every = read_whole_number(every, name='every', least=1)
        self.prompts = read_choice(prompts, name='prompts', choices=('boxes', 'masks'))
        self.rules = TrackRules() if rules is None else rules
        self.reset()

    def reset(self) -> None:
        """Forget the video; the next frame is the first of another one."""
        self._latest = LatestFrame()
        self._state = VideoState(
            self.predictor.model,
            self._latest,
            read_frame=self._latest.read,
            num_frames=ENDLESS,
            options=self.predictor.options,
        )
        self._known = _Known()

    def track(self, frames: Iterable[ImageLike]) -> Iterator[FrameTracks]:
        """Track the objects of a whole video, from its first frame.

        Args:
            frames: As for :meth:`step`.

        Yields:
            The tracks of each frame.
        """
        self.reset()
        for frame in frames:
            yield self.step(frame)

    def step(self, frame: ImageLike) -> FrameTracks:
        """Track the objects on the next frame, and look for new ones if it is time.

        After any error, also one of the detector, everything is as it was before the
        frame.

        Args:
            frame: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            The tracks that are visible on the frame.

        Raises:
            ValueError: If the frame is not RGB of 8 bits or of another size than the
                one before, or the detections do not fit the frame or the class names.
            TypeError: If the detector does not return detections.
        """
        index = self._latest.num_frames
        pixels = read_image(frame, name=f'Frame {index}')
        detections = self._run_detector(pixels, index)
        with (
            self._state.edit(self.predictor.options),
            self._latest.pushed(pixels) as frame_index,
        ):
            self._state.step(frame_index)
            known = self._observe(frame_index)
            if detections is not None:
                known = self._associate(frame_index, known, detections)
            known = self._end_tracks(known)
            known = replace(known, masks=self._low_res_masks(frame_index))
            shown = self._show(frame_index, known)
        self._known = known
        return shown

    # ------------------------------------------------------------- steps of a frame

    def _run_detector(
        self, pixels: NDArray[np.uint8], frame_index: int
    ) -> Detections | None:
        """Detections of a frame, checked; None on the frames between."""
        if frame_index % self.every:
            return None
        with add_context(f'while detecting objects on frame {frame_index}'):
            detections = self.detect(pixels)
            _check_detections(detections, self._known.class_names)
            # A score that overflowed says nothing, and would stay in the track's mean.
            detections = detections.select(detections.scores.isfinite())
            size = (pixels.shape[0], pixels.shape[1])
            if self.prompts == 'masks':
                return _with_masks(detections, size)
            boxes, is_box = clean_boxes(detections.boxes, size)
            return replace(detections, boxes=boxes, masks=None).select(is_box)

    def _observe(self, frame_index: int) -> _Known:
        """Note which tracks are visible; intruders are not."""
        known, masks = self._known, self._low_res_masks(frame_index)
        visible = [key for key, mask in masks.items() if bool(mask.any())]
        if len(visible) > 1:
            intruders = find_intruders(
                torch.stack([masks[key] for key in visible]),
                torch.stack([known.masks[key] for key in visible]),
                self.rules.duplicate_iou,
            )
            for row in intruders:
                # Without this memory it goes on looking for its own object.
                self._state.objects[visible[row]].erase(frame_index)
            visible = [key for row, key in enumerate(visible) if row not in intruders]
        tracks = {
            key: track.seen(visible=key in visible)
            for key, track in known.tracks.items()
        }
        return replace(known, tracks=tracks)

    def _associate(
        self, frame_index: int, known: _Known, detections: Detections
    ) -> _Known:
        """Match detections with tracks, correct tracks, and begin new ones."""
        logits = self._detection_logits(frame_index, detections)
        detected = logits[:, 0] > 0  # (D, H4, W4)
        masks = self._low_res_masks(frame_index)
        ids = tuple(known.tracks)
        track_masks = [masks[key] for key in ids]
        labels, scores = detections.labels.tolist(), detections.scores.tolist()
        result = associate(
            track_masks=torch.stack(track_masks) if ids else detected[:0],
            track_labels=[known.tracks[key].label for key in ids],
            masks=detected,
            labels=labels,
            scores=scores,
            rules=self.rules,
        )
        matched = {ids[row]: detection for row, detection in result.matches}
        tracks = dict(known.tracks)
        for key, track in known.tracks.items():
            if key in matched:
                index = matched[key]
                tracks[key] = track.detected(labels[index], scores[index])
            elif not track.num_absent:
                tracks[key] = track.missed()
        for row, index in result.corrections:
            # The mask alone, since the box would refine a mask that has drifted.
            mask = upsample_logits(logits[index : index + 1], self._image_size) > 0
            self._state.add_prompt(frame_index, [ids[row]], FramePrompt(mask=mask))
        starts, ended = make_room(tracks, result.starts, self.rules)
        for key in ended:
            del tracks[key]
            self._state.remove_object(key)
        new_ids = range(known.next_id, known.next_id + len(starts))
        self._prompt(
            frame_index,
            new_ids,
            detections.select(torch.tensor(starts, dtype=torch.int64)),
        )
        masks = self._low_res_masks(frame_index)
        for key, index in zip(new_ids, starts, strict=True):
            if bool(masks[key].any()):
                track = Track(object_id=key)
                tracks[key] = track.detected(labels[index], scores[index])
            else:  # SAM 2 sees no object in the box
                self._state.remove_object(key)
        names = detections.class_names or known.class_names
        return replace(known, tracks=tracks, next_id=new_ids.stop, class_names=names)

    def _end_tracks(self, known: _Known) -> _Known:
        """Remove the tracks that have ended, and their memories."""
        ended = [k for k, track in known.tracks.items() if has_ended(track, self.rules)]
        for key in ended:
            self._state.remove_object(key)
        return replace(
            known, tracks={k: t for k, t in known.tracks.items() if k not in ended}
        )

    def _show(self, frame_index: int, known: _Known) -> FrameTracks:
        """The visible tracks at the size of the frame."""
        result = self._state.show(frame_index)
        masks = (result.mask_logits[:, 0] > 0).cpu()  # (O, height, width)
        visible = masks.flatten(1).any(dim=1)
        masks = masks[visible]
        rows = visible.nonzero()[:, 0].tolist()
        tracks = [known.tracks[result.object_ids[row]] for row in rows]
        first, last = masks_to_boxes(masks[:, None]).split(2, dim=1)
        return FrameTracks(
            frame_index=frame_index,
            object_ids=tuple(track.object_id for track in tracks),
            masks=masks,
            boxes=torch.cat([first, last + 1], dim=1),
            scores=torch.tensor([track.score for track in tracks]),
            labels=torch.tensor([track.label for track in tracks], dtype=torch.int64),
            class_names=known.class_names,
        )

    # --------------------------------------------------------------- SAM 2's session

    @property
    def _image_size(self) -> tuple[int, int]:
        return self._state.model.data_preprocessor.image_size

    def _low_res_masks(self, frame_index: int) -> dict[int, Tensor]:
        """Mask of each object on a frame, (H4, W4), bool; empty where it is absent."""
        size = self._state.model.low_res_size
        nothing = torch.zeros(size, dtype=torch.bool, device=self.predictor.device)
        outputs = {
            key: obj.output(frame_index) for key, obj in self._state.objects.items()
        }
        return {
            key: nothing if output is None else output.mask_logits[0, 0] > 0
            for key, output in outputs.items()
        }

    @torch.no_grad()
    def _detection_logits(self, frame_index: int, detections: Detections) -> Tensor:
        """Masks of the detections as logits, (D, 1, H4, W4)."""
        model = self._state.model
        if detections.masks is not None:
            masks = detections.masks[:, None].to(self.predictor.device)
            return resize_masks(masks, model.low_res_size).float() - 0.5
        features = self._state.features(frame_index)
        image = EncodedImage(
            embedding=model.tracker.condition_on_memory(features, None),
            high_res=features.high_res,
            size=self._latest.size,
        )
        logits, _ = decode_boxes(model, image, detections.boxes)
        return logits

    def _prompt(
        self, frame_index: int, object_ids: Sequence[int], detections: Detections
    ) -> None:
        """Begin a track for each detection."""
        preprocessor = self._state.model.data_preprocessor
        batch_size = self._state.options.max_batch_objects
        for first in range(0, len(object_ids), batch_size):
            ids = object_ids[first : first + batch_size]
            batch = detections.select(slice(first, first + batch_size))
            if batch.masks is not None:
                pixels = batch.masks.cpu().numpy()
                masks = FrameMasks(object_ids=tuple(ids), masks=pixels)
                prompt = FramePrompt(mask=preprocessor.mask_prompt(masks))
            else:
                height, width = self._latest.size
                shares = batch.boxes / batch.boxes.new_tensor([width, height] * 2)
                points = preprocessor.point_prompt(boxes_to_points(shares))
                prompt = FramePrompt(points=points)
            self._state.add_prompt(frame_index, ids, prompt)


def _check_detections(detections: object, class_names: Sequence[str]) -> None:
    """Check what a detector returned.

    Args:
        class_names: Those of earlier frames; empty before the first.
    """
    if not isinstance(detections, Detections):
        msg = f'The detector returned a {type(detections).__name__}; return Detections'
        raise TypeError(msg)
    names = detections.class_names
    if not names and not len(detections):
        return  # nothing was found, so nothing has to be named
    if class_names and names != tuple(class_names):
        msg = (
            f'The detector names the classes {list_classes(names)}, but named them '
            f'{list_classes(class_names)} before; keep them during a video'
        )
        raise ValueError(msg)
    labels = detections.labels.tolist()
    wrong = [label for label in labels if label < 0 or (names and label >= len(names))]
    if wrong:
        msg = (
            f'The detector returned the label {wrong[0]} and names {len(names)} '
            f'classes; give it the class names that it was trained with'
        )
        raise ValueError(msg)


def _with_masks(detections: Detections, size: tuple[int, int]) -> Detections:
    """Check the masks of detections, and drop those that are empty."""
    masks = detections.masks
    if masks is None:
        msg = (
            "prompts is 'masks', but the detector has none; give prompts='boxes', or "
            'a detector of instance segmentation'
        )
        raise ValueError(msg)
    if tuple(masks.shape[1:]) != size:
        msg = (
            f'The detector returned masks of {tuple(masks.shape[1:])} pixels for a '
            f'frame of {size}; resize them to the frame'
        )
        raise ValueError(msg)
    return detections.select(masks.flatten(1).any(dim=1))
