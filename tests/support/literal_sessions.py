"""An interactive session written as the rules of the released predictor read.

One object after another, nothing batched, dropped or archived. Of the model it uses the
parts that golden data and transformers cover: the encoders, the decoder and memory
attention. What is attended to, kept and overwritten is written out here once more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import (
    MemorySelection,
    SelectedMemory,
    SelectedPointer,
)
from projects.sam2.ops import fill_holes, non_overlapping, upsample_logits
from projects.sam2.structures import (
    DecoderStep,
    FramePrompt,
    ImageFeatures,
    TrackingMode,
)

NO_OBJECT = -1024.0


class Refused(Exception):  # noqa: N818  no error of the session
    """The session refuses a call."""


@dataclass(frozen=True, kw_only=True)
class LiteralOptions:
    """Options of the predictor, and those of the memory bank."""

    fill_hole_area: int = 0
    non_overlap_masks: bool = False
    clear_around: bool = False
    all_corrections_condition: bool = False
    num_maskmem: int = 7
    max_pointers: int = 16
    stride: int = 1
    max_cond_frames: int | None = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is known of an object on a frame; a memory once it is encoded."""

    step: DecoderStep
    mask: Tensor
    memory: Tensor | None = None


@dataclass
class LiteralObject:
    """One object, with the dictionaries of the released predictor's state.

    Attributes:
        inputs: Prompts by frame.
        cond: Outputs of conditioning frames.
        non_cond: Outputs of tracked frames, and of corrections.
        temp: Outputs that are not encoded yet, and whether they condition.
        tracked: Frames that were tracked, and whether backwards.
        corrected: Frames whose output in ``non_cond`` answers a prompt.
    """

    inputs: dict[int, FramePrompt] = field(default_factory=dict)
    cond: dict[int, Output] = field(default_factory=dict)
    non_cond: dict[int, Output] = field(default_factory=dict)
    temp: dict[int, tuple[Output, bool]] = field(default_factory=dict)
    tracked: dict[int, bool] = field(default_factory=dict)
    corrected: set[int] = field(default_factory=set)

    def latest(self, frame: int) -> Output | None:
        """What is shown on a frame."""
        if frame in self.temp:
            return self.temp[frame][0]
        return self.cond.get(frame) or self.non_cond.get(frame)

    def is_prompted(self) -> bool:
        """Does some frame condition the video, or will?"""
        return bool(self.cond) or any(cond for _, cond in self.temp.values())


class LiteralSession:
    """A session on a video.

    Args:
        model: The model.
        features: Of each frame.
        size: Height and width of the video.
        options: Of the predictor.
        is_stream: Frames come one at a time, to a video without end.
    """

    def __init__(
        self,
        model: SAM2,
        features: Callable[[int], ImageFeatures],
        size: tuple[int, int],
        num_frames: int,
        options: LiteralOptions,
        *,
        is_stream: bool = False,
    ) -> None:
        self.model = model
        self.features = features
        self.size = size
        self.num_frames = num_frames
        self.options = options
        self.is_stream = is_stream
        self.objects: dict[object, LiteralObject] = {}
        # A stream cannot return to old frames, and evicts their memories.
        self.can_encode: Callable[[int], bool] = lambda frame: frame >= 0
        self.has_memory: Callable[[object, int], bool] = lambda _, frame: frame >= 0

    # What users call.

    def prompt(self, number: object, frame: int, prompt: FramePrompt) -> None:
        """Prompt an object on a frame."""
        self._check_frame(frame)
        obj = self.objects.setdefault(number, LiteralObject())
        obj.inputs[frame] = prompt
        obj.temp[frame] = self._answer(obj, frame)

    def clear(self, number: object, frame: int) -> None:
        """Remove the prompts of an object on a frame."""
        self._check_frame(frame)
        if number not in self.objects:
            raise Refused
        obj = self.objects[number]
        obj.inputs.pop(frame, None)
        obj.temp.pop(frame, None)
        obj.corrected.discard(frame)
        if frame in obj.cond:
            obj.non_cond[frame] = obj.cond.pop(frame)
            obj.tracked.pop(frame, None)
        if not obj.is_prompted():
            self._promote(number, obj)

    def remove(self, number: object, *, strict: bool) -> None:
        """Remove an object."""
        if strict and number not in self.objects:
            raise Refused
        self.objects.pop(number, None)

    def reset(self) -> None:
        """Remove all objects."""
        self.objects.clear()

    def preflight(self) -> None:
        """Encode all outputs that are not."""
        if not self.objects:
            raise Refused
        self.check_prompted()
        for obj in self.objects.values():
            for frame, (output, cond) in tuple(obj.temp.items()):
                features = self.features(frame)
                binary = self.model.tracker.binary_clicked_memories
                encoded = self._encoded(features, output, output.mask, binary=binary)
                obj.cond.pop(frame, None)
                obj.non_cond.pop(frame, None)
                obj.corrected.discard(frame)
                (obj.cond if cond else obj.non_cond)[frame] = encoded
                if not cond:
                    obj.corrected.add(frame)
                if self.options.clear_around:
                    self._clear_around(obj, frame)
            obj.temp.clear()

    def propagate(
        self, start: int | None, count: int | None, *, reverse: bool
    ) -> Iterator[int]:
        """Track; give each frame after it was tracked."""
        if not self.objects:
            raise Refused
        self.check_prompted()
        if start is None:
            start = min(
                frame
                for obj in self.objects.values()
                for frame in (
                    *obj.cond,
                    *(index for index, (_, cond) in obj.temp.items() if cond),
                )
            )
        reach = self.num_frames if count is None else count
        frames = (
            range(start, max(start - reach, 0) - 1, -1)
            if reverse
            else range(start, min(start + reach, self.num_frames - 1) + 1)
        )
        if reverse and start == 0:
            self.preflight()
            return
        for frame in frames:
            if not self.objects:
                return
            self.step(frame, reverse=reverse)
            yield frame

    def come(self) -> None:
        """The next frame of a stream comes."""
        self.check_prompted()
        self.num_frames += 1
        self.step(self.num_frames - 1)

    def step(self, frame: int, *, reverse: bool = False) -> None:
        """Track all objects on one frame."""
        if not self.objects:
            return
        self.preflight()
        for obj in self.objects.values():
            if frame in obj.cond:
                if self.options.clear_around:
                    self._clear_around(obj, frame)
            else:
                features = self.features(frame)
                embedding = self._attended(obj, features, frame, reverse=reverse)
                step = self._decode(embedding, features, None, None)
                output = Output(step=step, mask=self._filled(step.mask_logits))
                obj.non_cond[frame] = self._encoded(
                    features, output, step.mask_logits, binary=False
                )
                obj.corrected.discard(frame)
            obj.tracked[frame] = reverse

    def show(self, frame: int) -> Tensor:
        """Masks of all objects on a frame, (O, 1, height, width)."""
        side = [4 * length for length in self.features(0).embedding.shape[-2:]]
        nothing = torch.full((1, 1, *side), NO_OBJECT)
        outputs = [obj.latest(frame) for obj in self.objects.values()]
        masks = [nothing if output is None else output.mask for output in outputs]
        full = upsample_logits(torch.cat([nothing[:0], *masks]), self.size)
        return non_overlapping(full) if self.options.non_overlap_masks else full

    def check_prompted(self) -> None:
        """Refuse where an object has no prompt."""
        if not all(obj.is_prompted() for obj in self.objects.values()):
            raise Refused

    # How it is done.

    def _check_frame(self, frame: int) -> None:
        if not 0 <= frame < self.num_frames:
            raise Refused

    def _answer(self, obj: LiteralObject, frame: int) -> tuple[Output, bool]:
        """The answer to the prompt of a frame, and whether it conditions."""
        features = self.features(frame)
        prompt = obj.inputs[frame]
        is_init = frame not in obj.tracked or not obj.cond
        cond = (
            is_init
            or self.options.all_corrections_condition
            or frame in obj.cond
            or (frame in obj.temp and obj.temp[frame][1])
        )
        if prompt.mask is not None:
            step = self.model.heads.use_mask_as_output(
                mask=prompt.mask,
                features=features,
                mode=TrackingMode.EVALUATION,
            )
        else:
            before = obj.latest(frame)
            logits = None if before is None else before.mask.clamp(-32, 32)
            embedding = (
                self.model.tracker.condition_on_memory(features, None)
                if is_init
                else self._attended(obj, features, frame, reverse=obj.tracked[frame])
            )
            step = self._decode(embedding, features, prompt, logits)
        return Output(step=step, mask=self._filled(step.mask_logits)), cond

    def _promote(self, number: object, obj: LiteralObject) -> None:
        """Turn the remaining prompts of an object into conditioning frames."""
        kept = {
            frame
            for frame in obj.corrected & obj.inputs.keys()
            if frame in obj.non_cond and self.has_memory(number, frame)
        }
        recomputed = {
            frame: self._answer(obj, frame)[0]
            for frame in obj.inputs
            if frame not in obj.temp and frame not in kept and self.can_encode(frame)
        }
        for frame in kept - obj.temp.keys():
            obj.cond[frame] = obj.non_cond.pop(frame)
            obj.corrected.discard(frame)
        for frame, (output, _) in tuple(obj.temp.items()):
            obj.temp[frame] = output, True
        for frame, output in recomputed.items():
            obj.temp[frame] = output, True

    def _clear_around(self, obj: LiteralObject, frame: int) -> None:
        reach = self.options.stride * self.options.num_maskmem
        for near in range(frame - reach, frame + reach + 1):
            obj.non_cond.pop(near, None)
            obj.corrected.discard(near)

    def _filled(self, logits: Tensor) -> Tensor:
        area = self.options.fill_hole_area
        if not area:
            return logits
        filled: Tensor = fill_holes(logits, max_area=area, value=0.1)
        return filled

    def _decode(
        self,
        embedding: Tensor,
        features: ImageFeatures,
        prompt: FramePrompt | None,
        logits: Tensor | None,
    ) -> DecoderStep:
        step: DecoderStep = self.model.heads.decode(
            embedding=embedding,
            features=features,
            mode=TrackingMode.EVALUATION,
            points=None if prompt is None else prompt.points,
            previous_logits=logits,
        )
        return step

    def _encoded(
        self, features: ImageFeatures, output: Output, mask: Tensor, *, binary: bool
    ) -> Output:
        """The output with its memory, made of a mask."""
        height, width = features.embedding.shape[-2:]
        full = upsample_logits(mask, (16 * height, 16 * width))
        memory = self.model.tracker.encode_memory(
            features, full, output.step.object_score_logits > 0, binary=binary
        )
        return replace(output, memory=memory)

    def _attended(
        self, obj: LiteralObject, features: ImageFeatures, frame: int, *, reverse: bool
    ) -> Tensor:
        """Features of a frame conditioned on the memories of an object."""
        options = self.options
        sign = -1 if reverse else 1
        chosen = self._closest(obj, frame)
        others = {f: out for f, out in obj.cond.items() if f not in chosen}

        def ordinary(index: int) -> Output | None:
            return obj.non_cond.get(index, others.get(index))

        memories = [(0, obj.cond[index]) for index in chosen]
        stride = options.stride
        for back in range(options.num_maskmem - 1, 0, -1):
            if back == 1:
                index = frame - sign
            elif reverse:
                index = -(-(frame + 2) // stride) * stride + (back - 2) * stride
            else:
                index = (frame - 2) // stride * stride - (back - 2) * stride
            found = ordinary(index)
            if found is not None:
                memories.append((back, found))
        pointers = [
            (sign * (frame - index), obj.cond[index])
            for index in chosen
            if sign * (frame - index) >= 0
        ]
        horizon = min(
            options.max_pointers, 10**9 if self.is_stream else self.num_frames
        )
        for back in range(1, horizon):
            found = ordinary(frame - sign * back)
            if found is not None:
                pointers.append((back, found))
        selection = MemorySelection(
            memories=tuple(
                SelectedMemory(spatial=output.memory, age=age)
                for age, output in memories
                if output.memory is not None
            ),
            pointers=tuple(
                SelectedPointer(pointer=output.step.object_pointer, time_offset=time)
                for time, output in pointers
            ),
            max_pointers=horizon,
        )
        conditioned: Tensor = self.model.tracker.condition_on_memory(
            features, selection
        )
        return conditioned

    def _closest(self, obj: LiteralObject, frame: int) -> list[int]:
        """Conditioning frames that a frame attends to."""
        limit = self.options.max_cond_frames
        if limit is None or len(obj.cond) <= limit:
            return list(obj.cond)
        chosen = []
        before = [index for index in obj.cond if index < frame]
        after = [index for index in obj.cond if index >= frame]
        if before:
            chosen.append(max(before))
        if after:
            chosen.append(min(after))
        rest = [index for index in obj.cond if index not in chosen]
        rest.sort(key=lambda index: abs(index - frame))
        return chosen + rest[: limit - len(chosen)]
