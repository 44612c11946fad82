"""A whole video through the model, frame by frame, as it is validated."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...ops import non_overlapping, upsample_logits
from ...structures import (
    FrameMasks,
    FrameOutput,
    FramePrediction,
    ImageFeatures,
    TrackingMode,
    VideoSource,
)
from ..data_preprocessor import ClipDataPreprocessor
from ..memory_bank import MemoryQuery, MemoryStore
from ..prompt_simulator import (
    ClickGenerators,
    PromptKind,
    SAM2PromptSimulator,
)
from .frame import FrameTask, SAMHeads, track_frame


@dataclass(slots=True, kw_only=True)
class ObjectGroup:
    """Objects that appear on one frame and are tracked in one batch.

    Attributes:
        object_ids: As in the dataset.
        store: Their memories.
    """

    object_ids: tuple[int, ...]
    store: MemoryStore = field(default_factory=MemoryStore)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTracker:
    """Prompts each object where it appears first and tracks it to the end.

    Attributes:
        heads: Prompt encoder, mask decoder and tracker.
        simulator: Makes prompts from the ground truth.
        preprocessor: Prepares frames and masks.
        encode: Gives the features of a frame, (1, 3, H, W).
    """

    heads: SAMHeads
    simulator: SAM2PromptSimulator
    preprocessor: ClipDataPreprocessor
    encode: Callable[[Tensor], ImageFeatures]

    def track(self, source: VideoSource) -> Iterator[FramePrediction]:
        """Track the objects of a video.

        Frames are decoded one ahead and forgotten at once, and so are memories that
        no later frame can reach: a long video costs no more than a short one.
        """
        plan = self.simulator.plan(max(source.num_frames, 2), step=0)
        kind = plan.prompts[0]
        groups: list[ObjectGroup] = []
        for frame, (pixels, truth) in enumerate(read_ahead(source)):
            new = self._unseen(truth, groups)
            if not groups and new is None:
                continue
            features = self.encode(self.preprocessor.frame(pixels))
            query = MemoryQuery(
                frame_index=frame,
                num_video_frames=source.num_frames,
                mode=TrackingMode.EVALUATION,
            )
            outputs = [self._follow(group, features, query) for group in groups]
            if new is not None:
                groups.append(ObjectGroup(object_ids=new.object_ids))
                outputs.append(self._start(groups[-1], features, query, new, kind))
            yield FramePrediction(
                frame_index=frame,
                object_ids=tuple(i for group in groups for i in group.object_ids),
                masks=_masks_at(outputs, (pixels.shape[0], pixels.shape[1])),
                truth=truth,
                outputs=tuple(outputs),
                prompted_ids=() if new is None else new.object_ids,
            )

    def _start(
        self,
        group: ObjectGroup,
        features: ImageFeatures,
        query: MemoryQuery,
        truth: FrameMasks,
        kind: PromptKind,
    ) -> FrameOutput:
        """Prompt objects on the frame of their first appearance."""
        masks = self.preprocessor.mask_prompt(truth)
        num_objects = len(group.object_ids)
        clicks = ClickGenerators((query.frame_index,), (num_objects,), masks.device)
        void = self._ignored(truth)
        task = FrameTask(
            query=query,
            prompt=self.simulator.first_prompt(kind, masks, clicks),
            uses_memory=False,
            correct=None
            if kind is PromptKind.MASK
            else lambda logits: self.simulator.correction(
                masks, logits > 0, clicks, void
            ),
            num_corrections=self.simulator.num_corrections,
            reread_prompt=True,
        )
        return self._track(group, features, task, conditioning=True)

    def _follow(
        self, group: ObjectGroup, features: ImageFeatures, query: MemoryQuery
    ) -> FrameOutput:
        """Track objects that were prompted before."""
        bank = self.heads.tracker.memory_bank
        bank.evict_unreachable(group.store, query)
        return self._track(group, features, FrameTask(query=query), conditioning=False)

    def _track(
        self,
        group: ObjectGroup,
        features: ImageFeatures,
        task: FrameTask,
        *,
        conditioning: bool,
    ) -> FrameOutput:
        """Track a group on a frame and remember it."""
        device = features.embedding.device
        first = torch.zeros(len(group.object_ids), dtype=torch.int64, device=device)
        output = track_frame(self.heads, features.select(first), group.store, task)
        group.store.add(
            task.query.frame_index, output.memory, conditioning=conditioning
        )
        return output

    def _unseen(
        self, truth: FrameMasks | None, groups: list[ObjectGroup]
    ) -> FrameMasks | None:
        """The objects of a frame that are new; None if there are none.

        One that leaves no pixel at the size that the model sees is left for a frame
        that shows it larger: an empty prompt would say that it is absent.
        """
        if truth is None:
            return None
        known = {object_id for group in groups for object_id in group.object_ids}
        new = [
            position
            for position, object_id in enumerate(truth.object_ids)
            if object_id not in known and truth.masks[position].any()
        ]
        if new:
            prompts = self.preprocessor.mask_prompt(_part_of(truth, new))
            shown = prompts.flatten(1).any(dim=1).tolist()
            new = [position for position, seen in zip(new, shown, strict=True) if seen]
        return _part_of(truth, new) if new else None

    def _ignored(self, truth: FrameMasks) -> Tensor | None:
        """Void pixels at the size that the model sees, (1, 1, H, W), or None."""
        if truth.void is None:
            return None
        as_mask = FrameMasks(object_ids=(0,), masks=truth.void[None])
        return self.preprocessor.mask_prompt(as_mask)


def read_ahead(
    source: VideoSource,
) -> Iterator[tuple[NDArray[np.uint8], FrameMasks | None]]:
    """Decode frames and ground truth in order, the next one meanwhile.

    Yields:
        Each frame, (height, width, 3), with its ground truth or None.
    """

    def read(frame: int) -> tuple[NDArray[np.uint8], FrameMasks | None]:
        return source.read_frame(frame), source.read_masks(frame)

    with ThreadPoolExecutor(max_workers=1) as reader:
        pending = reader.submit(read, 0)
        for frame in range(source.num_frames):
            current = pending.result()
            if frame + 1 < source.num_frames:
                pending = reader.submit(read, frame + 1)
            yield current


def _part_of(truth: FrameMasks, positions: list[int]) -> FrameMasks:
    """Some of the objects of a frame."""
    return FrameMasks(
        object_ids=tuple(truth.object_ids[position] for position in positions),
        masks=truth.masks[positions],
        void=truth.void,
    )


def _masks_at(outputs: list[FrameOutput], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks of all objects at the size of the file; no pixel belongs to two."""
    logits = torch.cat([output.final.mask_logits for output in outputs])
    full = non_overlapping(upsample_logits(logits.float(), size))
    masks: NDArray[np.bool_] = (full[:, 0] > 0).cpu().numpy()
    return masks
