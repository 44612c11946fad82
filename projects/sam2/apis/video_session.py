"""Prompts and tracks the objects of one frame with the model's own tracker.

:mod:`projects.sam2.models` selects and encodes the memories; here objects are combined
into batches, and the results are split again.
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from ..models import SAM2
from ..models.memory_bank import MemoryQuery
from ..models.tracking.frame import (
    NO_OBJECT_LOGIT,
    FrameTask,
    SAMHeads,
    decode_frame,
    encode_frame_memory,
    select_memories,
    track_objects,
)
from ..ops import (
    at_least_float32,
    fill_holes,
    non_overlapping,
    upsample_logits,
)
from ..structures import (
    DecoderStep,
    EncodedFrame,
    FramePrompt,
    ImageFeatures,
    TrackingMode,
)
from .frame_readers import FrameReader, same_size
from .inputs import read_image
from .memory_archive import (
    AnsweredMemory,
    ArchivedMemoryStore,
    ArchiveSpace,
    FrameAnswer,
    MaskEncoding,
    MemoryRestorer,
    TensorArchive,
)
from .video_state import (
    EmbeddingCache,
    PendingAnswer,
    TrackedObject,
    VideoFrameResult,
    VideoOptions,
    VideoState,
)

FILLED_HOLE_LOGIT = 0.1  # just inside the mask
EARLIER_LOGIT_LIMIT = 32.0  # of masks that a click refines


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTracking:
    """How the objects of a video are tracked.

    Attributes:
        heads: Prompt encoder, mask decoder and tracker.
        fill_hole_area: Holes of up to so many pixels of the stride-4 mask are filled.
        memory_dtype: Spatial memories are kept in this type.
        max_batch_objects: Objects tracked in one batch.
    """

    heads: SAMHeads
    fill_hole_area: float
    memory_dtype: torch.dtype
    max_batch_objects: int

    def prompt_task(
        self,
        obj: TrackedObject,
        prompt: FramePrompt,
        frame_index: int,
        num_frames: int,
    ) -> FrameTask:
        """Describe the task of answering a prompt."""
        uses_memory = bool(
            frame_index in obj.tracked_in_reverse and obj.store.conditioning
        )
        shown = obj.answer(frame_index)
        earlier: Tensor | None = None
        if shown is not None:
            limit = EARLIER_LOGIT_LIMIT
            earlier = shown.mask_logits.clamp(-limit, limit)
        reverse = uses_memory and obj.tracked_in_reverse[frame_index]
        return FrameTask(
            query=self.query(frame_index, num_frames, reverse=reverse),
            prompt=prompt,
            uses_memory=uses_memory,
            reread_prompt=True,
            previous_logits=earlier,
        )

    def answer(
        self, obj: TrackedObject, features: ImageFeatures, task: FrameTask
    ) -> DecoderStep:
        """Answer a prompt; nothing is changed.

        Args:
            task: As :meth:`prompt_task` gives it.
        """
        selection = select_memories(self.heads, obj.store, task)
        (step,) = decode_frame(self.heads, features, selection, task)
        # The answer may be pending for long; its mask at image size is not needed.
        shown = fill_small_holes(step.mask_logits, self.fill_hole_area)
        return replace(step, mask_logits=shown, full_logits=None)

    def remember(
        self, answer: PendingAnswer, features: ImageFeatures
    ) -> AnsweredMemory:
        """Make a memory of an answered prompt."""
        output = encode_frame_memory(self.heads, features, (answer.step,), answer.task)
        binary = self.heads.tracker.binary_clicked_memories
        return self._memories(output, answer.step.mask_logits, binary=binary)[0]

    def follow(
        self,
        objects: Sequence[TrackedObject],
        features: ImageFeatures,
        query: MemoryQuery,
    ) -> dict[int, AnsweredMemory]:
        """Track objects on a frame without a prompt; nothing is changed.

        Objects that attend to the same number of memories go in one batch. What does
        not depend on memories, like the first self-attention, is done once for all.
        """
        memories: dict[int, AnsweredMemory] = {}
        for batch in track_objects(
            self.heads,
            [obj.store for obj in objects],
            features,
            query,
            max_batch_objects=self.max_batch_objects,
        ):
            ids = [objects[position].object_id for position in batch.positions]
            shown = fill_small_holes(
                batch.output.final.mask_logits, self.fill_hole_area
            )
            memories_of_batch = self._memories(batch.output, shown, binary=False)
            memories |= zip(ids, memories_of_batch, strict=True)
        return memories

    def query(
        self, frame_index: int, num_frames: int, *, reverse: bool = False
    ) -> MemoryQuery:
        """A frame that asks for memories."""
        return MemoryQuery(
            frame_index=frame_index,
            num_video_frames=num_frames,
            mode=TrackingMode.EVALUATION,
            reverse=reverse,
        )

    def _memories(
        self, output: EncodedFrame, shown: Tensor, *, binary: bool
    ) -> list[AnsweredMemory]:
        """Split the memories of a batch by object.

        Masks and scores are at least float32, whether or not autocast is in force.
        """
        step = output.final
        spatial = output.memory.spatial.to(self.memory_dtype)
        masks = at_least_float32(shown)
        scores = at_least_float32(step.object_score_logits)
        best = at_least_float32(step.candidate_ious).amax(dim=1, keepdim=True)
        decoded = None if shown is step.mask_logits else step.mask_logits
        encoding = MaskEncoding(
            binary=binary,
            autocast=_autocast_dtype(spatial.device),
            fill_hole_area=0.0 if decoded is None else self.fill_hole_area,
        )
        return [
            AnsweredMemory(
                spatial=spatial[n : n + 1].clone(),
                object_pointer=output.memory.object_pointer[n : n + 1].clone(),
                mask_logits=masks[n : n + 1].clone(),
                object_score_logits=scores[n : n + 1].clone(),
                ious=best[n : n + 1].clone(),
                encoded_logits=None if decoded is None else decoded[n : n + 1].clone(),
                encoding=encoding,
            )
            for n in range(len(spatial))
        ]


def fill_small_holes(logits: Tensor, max_area: float) -> Tensor:
    """Close the small holes of masks.

    Args:
        logits: (O, 1, H4, W4).
        max_area: Largest area of a hole that is filled, in pixels; 0 fills none.
    """
    if max_area <= 0:
        return logits
    return fill_holes(logits, max_area=max_area, value=FILLED_HOLE_LOGIT)


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in, if it is in force."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(device.type)


def show_frame(
    frame_index: int,
    answers: Mapping[int, FrameAnswer | None],
    *,
    size: tuple[int, int],
    low_res: tuple[int, int],
    separate: bool,
    device: torch.device,
) -> VideoFrameResult:
    """Show the answers of all objects on a frame.

    Args:
        answers: Of each object, by id; None is shown absent.
        low_res: H4 and W4.
        separate: Let each pixel belong to at most one object.
    """
    nothing = torch.full((1, 1, *low_res), NO_OBJECT_LOGIT, device=device)
    unknown = torch.full((1, 1), torch.nan, device=device)
    absent = FrameAnswer(mask_logits=nothing, object_score_logits=unknown, ious=unknown)
    shown = [answer or absent for answer in answers.values()]
    # The empty tensor comes first, since there may be no object.
    masks = torch.cat([nothing[:0], *(answer.mask_logits for answer in shown)])
    scores = torch.cat([unknown[:0], *(a.object_score_logits for a in shown)])
    ious = torch.cat([unknown[:0], *(answer.ious for answer in shown)])
    full = upsample_logits(masks, size)
    return VideoFrameResult(
        frame_index=frame_index,
        object_ids=list(answers),
        mask_logits=non_overlapping(full) if separate else full,
        object_score_logits=scores[:, 0],
        ious=ious[:, 0],
    )


LOW_RES_STRIDE = 4
MAX_NAMED = 8  # objects in an error
BYTES_PER_GB = 10**9
Inputs = ParamSpec('Inputs')
Result = TypeVar('Result')
Call = Callable[Concatenate['VideoSession', VideoState, Inputs], Result]


def _one_at_a_time(call: Call[Inputs, Result]) -> Call[Inputs, Result]:
    """Let a call wait until another thread is done with the state."""

    @functools.wraps(call)
    def waiting(
        session: 'VideoSession',
        state: VideoState,
        *inputs: Inputs.args,
        **options: Inputs.kwargs,
    ) -> Result:
        with state.lock:
            return call(session, state, *inputs, **options)

    return cast('Call[Inputs, Result]', waiting)


class VideoSession:
    """What a video predictor does, once its input is read and checked.

    A call that fails changes nothing: a step, a prompt or a clearing works on drafts of
    the objects, which replace the objects when all is computed. After an error in a
    pass the state is as it was when the last frame was yielded. Calls from several
    threads on one state wait for each other.

    Prompts follow these rules:

    - A prompt on a frame that was not tracked yet conditions the video. It is answered
      without memories.
    - A prompt on a frame that was tracked corrects it: it is answered with memories and
      conditions the video where ``corrections_condition`` is set. Otherwise the next
      pass over the frame overwrites it.
    - A frame that conditions the video goes on doing so when it is prompted again. The
      new answer replaces its memory.
    - Clearing a prompt keeps the mask of its frame as a tracked one. If no frame
      conditions the video any more, the other prompts of the object begin to: with the
      answer that is shown, or with a new one where a pass overwrote the answer. An
      object without a prompt cannot be tracked.
    - Answers become memories when tracking goes on. A prompt that is cleared, or an
      object that is removed, before that has no effect.

    Args:
        model: The model.
        options: How videos are prompted, tracked and shown.
    """

    def __init__(self, model: SAM2, options: VideoOptions) -> None:
        self.model = model
        self.options = options

    @property
    def options(self) -> VideoOptions:
        """How videos are prompted, tracked and shown, from the next call on."""
        return self._options

    @options.setter
    def options(self, options: VideoOptions) -> None:
        self._options = options
        model = self.model
        self.tracking = ObjectTracking(
            heads=model.heads,
            fill_hole_area=options.fill_hole_area,
            memory_dtype=options.memory_dtype,
            max_batch_objects=options.max_batch_objects,
        )

    def open(
        self,
        frames: FrameReader,
        *,
        num_frames: int | None = None,
        revisits: bool = True,
        archive_in_memory: bool = False,
        reaches_back: bool = False,
    ) -> VideoState:
        """Make the state of a video.

        Args:
            num_frames: Length that the time of object pointers is scaled by; by
                default the number of frames that there are.
        """
        encode = self.encoder(frames)
        embeddings = EmbeddingCache(encode, capacity=self.options.num_cached_embeddings)
        state = VideoState(
            frames=frames,
            preprocessor=self.model.data_preprocessor,
            embeddings=embeddings,
            num_frames=frames.num_frames if num_frames is None else num_frames,
            revisits=revisits,
            reaches_back=reaches_back,
        )
        if revisits:
            state.archive_space = ArchiveSpace(
                max_bytes=self._max_archive_bytes,
                in_memory=archive_in_memory,
            )
            # Objects that compete for pixels before they are encoded cannot be
            # encoded again one by one.
            together = self.model.tracker.non_overlapping_memories
            if not together and not self.options.archive_spatial_memories:
                state.restorer = self._restorer(embeddings, encode)
        return state

    def encoder(self, frames: FrameReader) -> Callable[[int], ImageFeatures]:
        """Make what encodes the frames of a video."""

        @torch.no_grad()
        def encode(frame_index: int) -> ImageFeatures:
            name = f'Frame {frame_index}'
            pixels = read_image(frames.read(frame_index), name=name)
            same_size(pixels, frames.size, name)
            return self.model.encode(self.model.data_preprocessor.frame(pixels))

        return encode

    @_one_at_a_time
    @torch.no_grad()
    def prompt(
        self, state: VideoState, frame_index: int, object_id: int, prompt: FramePrompt
    ) -> VideoFrameResult:
        """Answer a prompt; it is remembered when tracking goes on.

        Args:
            state: State of the video; not changed where something fails.
            object_id: The object; a new one where the id is new.
        """
        self._set_limits(state)
        obj = state.objects.get(object_id)
        if obj is None:
            space = state.archive_space
            archive = None if space is None else TensorArchive(space)
            store = ArchivedMemoryStore(archive=archive, restorer=state.restorer)
            obj = TrackedObject(object_id=object_id, store=store)
        draft = obj.draft()
        draft.prompts[frame_index] = prompt
        with _cache_kept_on_error(state):
            draft.pending[frame_index] = self._answer(state, draft, frame_index)
            shown = self.show(state, frame_index, state.objects | {object_id: draft})
        obj.adopt(draft)
        state.objects[object_id] = obj
        return shown

    @_one_at_a_time
    @torch.no_grad()
    def take_back(
        self, state: VideoState, frame_index: int, object_id: int, *, shows: bool
    ) -> VideoFrameResult | None:
        """Clear the prompts of an object on a frame.

        Args:
            state: State of the video; not changed where something fails.

        Returns:
            What is shown on the frame, of all objects; or None.

        Raises:
            ValueError: If there is no such object.
        """
        obj = state.object(object_id)
        draft = obj.draft()
        draft.take_back(frame_index)
        shown = None
        with _cache_kept_on_error(state):
            if not draft.is_prompted:
                self._let_corrections_condition(state, draft)
            if shows:
                current = state.objects | {object_id: draft}
                shown = self.show(state, frame_index, current)
        obj.adopt(draft)
        return shown

    @_one_at_a_time
    def remove(
        self, state: VideoState, object_id: int, *, shows: bool
    ) -> list[VideoFrameResult]:
        """Remove an object, if there is one of this id.

        Args:
            state: State of the video; not changed where something fails.

        Returns:
            What is shown on the frames where it was prompted, of all other objects.
        """
        left = dict(state.objects)
        removed = left.pop(object_id, None)
        shown = []
        if removed is not None and left and shows:
            shown = [self.show(state, index, left) for index in sorted(removed.prompts)]
        state.objects.pop(object_id, None)
        return shown

    @_one_at_a_time
    def check_prompted(self, state: VideoState) -> None:
        """Check that there is something to track.

        Raises:
            ValueError: If there is no object, or one without a prompt.
        """
        if not state.objects:
            msg = 'There is no object to track; prompt one on some frame first'
            raise ValueError(msg)
        silent = [obj for obj in state.objects.values() if not obj.is_prompted]
        if silent:
            number = silent[0].object_id
            msg = f'Object {number} has no prompt left; prompt it, or remove it'
            raise ValueError(msg)

    @_one_at_a_time
    @torch.no_grad()
    def commit(self, state: VideoState) -> None:
        """Make memories of all answered prompts, or of none if something fails."""
        with _cache_kept_on_error(state):
            drafts = self._committed(state)
        for object_id, draft in drafts.items():
            state.objects[object_id].adopt(draft)

    @_one_at_a_time
    @torch.no_grad()
    def step(
        self, state: VideoState, frame_index: int, *, reverse: bool = False
    ) -> VideoFrameResult:
        """Track all objects on one frame.

        Args:
            state: State of the video; not changed where something fails.

        Raises:
            ValueError: If an object has no prompt.
        """
        if state.objects:
            self.check_prompted(state)
        self._set_limits(state)
        query = self.tracking.query(frame_index, state.num_frames, reverse=reverse)
        with _cache_kept_on_error(state):
            drafts = self._committed(state)
            current = state.objects | drafts
            memories = self._followed(state, current.values(), query)
            answers = {
                object_id: (
                    memories[object_id].answer
                    if object_id in memories
                    else obj.answer(frame_index)
                )
                for object_id, obj in current.items()
            }
            shown = self._show_answers(state, frame_index, answers)
            try:
                for obj in state.objects.values():
                    # A full disk may stop this; no memory is changed by it.
                    self._forget_unreachable(state, obj, query)
            except (OSError, MemoryError):
                self._forget_lost(state)
                raise
        for object_id, obj in state.objects.items():
            if object_id in drafts:
                obj.adopt(drafts[object_id])
            memory = memories.get(object_id)
            if memory is None and self.options.clear_around_prompts:
                self._clear_around(obj, frame_index)
            obj.track(frame_index, memory, reverse=reverse)
            if not state.revisits:
                obj.forget_passed(state.embeddings)
        self._forget_lost(state)
        return shown

    @_one_at_a_time
    def show(
        self,
        state: VideoState,
        frame_index: int,
        objects: Mapping[int, TrackedObject] | None = None,
    ) -> VideoFrameResult:
        """Collect the latest answers on a frame."""
        if objects is None:
            objects = state.objects
        answers = {key: obj.answer(frame_index) for key, obj in objects.items()}
        return self._show_answers(state, frame_index, answers)

    def _followed(
        self, state: VideoState, objects: Iterable[TrackedObject], query: MemoryQuery
    ) -> dict[int, AnsweredMemory]:
        """Track the objects that a frame does not condition; nothing is changed."""
        frame_index = query.frame_index
        followed = [obj for obj in objects if frame_index not in obj.store.conditioning]
        if not followed:
            return {}
        names = _names([obj.object_id for obj in followed])
        with _add_context(f'while tracking {names} on frame {frame_index}'):
            features = state.embeddings.get(frame_index)
            return self.tracking.follow(followed, features, query)

    def _forget_unreachable(
        self, state: VideoState, obj: TrackedObject, query: MemoryQuery
    ) -> None:
        """Archive memories out of reach of the pass and of prompts on past frames."""
        if state.reaches_back:
            oldest = min(obj.tracked_in_reverse, default=query.frame_index)
            query = replace(query, frame_index=min(oldest, query.frame_index))
        name = f'object {obj.object_id} on frame {query.frame_index}'
        with _add_context(f'while archiving what was tracked of {name}'):
            self.model.tracker.memory_bank.evict_unreachable(obj.store, query)

    def _show_answers(
        self,
        state: VideoState,
        frame_index: int,
        answers: Mapping[int, FrameAnswer | None],
    ) -> VideoFrameResult:
        """Bring the answers of all objects on a frame to the size of the video."""
        preprocessor = self.model.data_preprocessor
        height, width = preprocessor.image_size
        with _add_context(f'while showing frame {frame_index}'):
            return show_frame(
                frame_index,
                answers,
                size=state.frames.size,
                low_res=(height // LOW_RES_STRIDE, width // LOW_RES_STRIDE),
                separate=self.options.non_overlap_masks,
                device=preprocessor.mean.device,
            )

    def _answer(
        self, state: VideoState, obj: TrackedObject, frame_index: int
    ) -> PendingAnswer:
        """Answer what is said about an object on a frame; nothing is changed."""
        name = f'the prompt of object {obj.object_id} on frame {frame_index}'
        with _add_context(f'while answering {name}'):
            features = state.embeddings.get(frame_index)
            prompt = obj.prompts[frame_index]
            task = self.tracking.prompt_task(obj, prompt, frame_index, state.num_frames)
            step = self.tracking.answer(obj, features, task)
        conditioning = (
            not task.uses_memory
            or self.options.corrections_condition
            or frame_index in obj.conditioning_frames
        )
        return PendingAnswer(
            step=step,
            task=task,
            conditioning=conditioning,
            features=features if state.reaches_back else None,
        )

    def _committed(self, state: VideoState) -> dict[int, TrackedObject]:
        """Drafts of the objects with pending answers, with these made memories."""
        drafts = {}
        for object_id, obj in state.objects.items():
            if not obj.pending:
                continue
            draft = drafts[object_id] = obj.draft()
            for frame, answer in obj.pending.items():
                name = f'the prompt of object {object_id} on frame {frame}'
                with _add_context(f'while remembering {name}'):
                    features = answer.features or state.embeddings.get(frame)
                    memory = self.tracking.remember(answer, features)
                draft.remember(frame, memory, conditioning=answer.conditioning)
                if self.options.clear_around_prompts:
                    self._clear_around(draft, frame)
        return drafts

    def _let_corrections_condition(
        self, state: VideoState, draft: TrackedObject
    ) -> None:
        """Let all remaining prompts condition the video.

        An answer that is still shown is used. A correction that a pass overwrote is
        answered again if its frame can still be read.
        """
        overwritten = [
            frame
            for frame in draft.prompts
            if frame not in draft.pending
            and (frame not in draft.corrections or draft.store.answer(frame) is None)
            and (state.revisits or frame in state.embeddings)
        ]
        new = {frame: self._answer(state, draft, frame) for frame in overwritten}
        for frame in draft.corrections & draft.prompts.keys():
            with _add_context(
                f'while restoring object {draft.object_id} on frame {frame}'
            ):
                memory = draft.store.tracked_memory(frame)
            if isinstance(memory, AnsweredMemory) and frame not in draft.pending:
                draft.remember(frame, memory, conditioning=True)
        for frame, answer in (draft.pending | new).items():
            draft.pending[frame] = replace(answer, conditioning=True)

    def _restorer(
        self, embeddings: EmbeddingCache, encode: Callable[[int], ImageFeatures]
    ) -> MemoryRestorer:
        """Make a restorer with a cache of its own, which evicts no other embeddings."""

        def encode_small(frame_index: int) -> ImageFeatures:
            features = encode(frame_index)
            nothing = features.embedding[:, :0]
            return replace(features, high_res_8=nothing, high_res_4=nothing)

        small = EmbeddingCache(
            encode_small, capacity=self.model.tracker.memory_bank.num_frames
        )
        return MemoryRestorer(
            heads=self.model.heads,
            features=lambda frame: (embeddings if frame in embeddings else small).get(
                frame
            ),
            show=lambda logits, area: at_least_float32(fill_small_holes(logits, area)),
            memory_dtype=self.options.memory_dtype,
        )

    @property
    def _max_archive_bytes(self) -> int:
        """Limit of what is archived of a video."""
        return int(self.options.max_archive_gb * BYTES_PER_GB)

    def _set_limits(self, state: VideoState) -> None:
        """Let limits that were changed hold for a video that is open."""
        state.embeddings.capacity = self.options.num_cached_embeddings
        if state.archive_space is not None:
            state.archive_space.max_bytes = self._max_archive_bytes

    def _forget_lost(self, state: VideoState) -> None:
        """Mark frames whose memories were evicted as not tracked; warn once."""
        num_lost = 0
        for obj in state.objects.values():
            lost = obj.store.take_lost()
            num_lost += len(lost)
            for frame_index in lost:
                obj.tracked_in_reverse.pop(frame_index, None)
                obj.corrections.discard(frame_index)
        if num_lost and not state.has_lost_memories:
            state.has_lost_memories = True
            msg = (
                f'What was tracked of this video takes more than max_archive_gb='
                f'{self.options.max_archive_gb:g}: the frames that were tracked first '
                f'are forgotten, and count as not tracked. The running pass does not '
                f'need them. To return to them, make the predictor with a larger '
                f'max_archive_gb'
            )
            warnings.warn(msg, stacklevel=2)

    def _clear_around(self, obj: TrackedObject, frame_index: int) -> None:
        """Erase tracked memories within reach of a prompted frame."""
        bank = self.model.tracker.memory_bank
        reach = bank.stride * bank.num_frames
        for frame in range(frame_index - reach, frame_index + reach + 1):
            obj.erase(frame)


@contextmanager
def _add_context(where: str) -> Iterator[None]:
    """Add to the message of an error what was being done; its type stays."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            error.strerror = f'{error.strerror} ({where})'
        elif len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f'{error.args[0]} ({where})',)
        raise


@contextmanager
def _cache_kept_on_error(state: VideoState) -> Iterator[None]:
    """Restore the embeddings of a stream if something fails."""
    embeddings = state.embeddings
    if not state.revisits:
        state.embeddings = embeddings.branch()
    try:
        yield
    except BaseException:
        state.embeddings = embeddings
        raise


def _names(object_ids: Sequence[int]) -> str:
    """Name objects in an error: "objects 1, 2 and 9 more"."""
    names = ', '.join(map(str, object_ids[:MAX_NAMED]))
    num_more = len(object_ids) - MAX_NAMED
    noun = 'objects' if len(object_ids) > 1 else 'object'
    return f'{noun} {names}' + (f' and {num_more} more' if num_more > 0 else '')
