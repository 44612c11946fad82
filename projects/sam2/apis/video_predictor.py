"""The video predictor: prompts and tracks objects in videos and in streams.

It checks the input and resizes masks to the size of the video; :class:`VideoSession`
does everything in between. The calls are those of the released SAM 2::

    init_state ─▶ VideoState, a VideoSession
    add_new_points_or_box, add_new_mask ─▶ VideoSession.add_prompt ─▶ decode_frame
    propagate_in_video, SAM2Stream.track ─▶ VideoSession.step
"""

import copy
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from ..models import SAM2
from ..models.compiling import warm_up
from ..models.tracking.frame import NO_OBJECT_LOGIT
from ..models.tracking.pathways import tree_bank
from ..models.tracking.promptable import PromptableModel
from ..models.tracking.session import SessionOptions, VideoSession, add_context
from ..ops import non_overlapping, upsample_logits
from ..structures import FrameMasks, FramePrompt
from .building import ModelLike, build_video_model, find_pretrained, model_of
from .frame_readers import (
    FrameReader,
    PrefetchReader,
    VideoLike,
    open_frames,
    same_size,
)
from .inputs import (
    ImageLike,
    Size,
    TensorLike,
    read_flag,
    read_image,
    read_mask,
    read_number,
    read_object_id,
    read_points,
    read_whole_number,
    setting,
)
from .released_video import ReleasedModule, ReleasedState

NO_FRAME = 'No frame came yet; call track with the first one, then prompt it'


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions(SessionOptions):
    """Options of a predictor: those of its sessions, and how masks are shown."""

    memory_dtype: torch.dtype | None = torch.bfloat16
    non_overlap_masks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrameResult:
    """Masks of all objects on one frame.

    It unpacks and is indexed as the triple that users of SAM 2 know:
    ``frame_idx, obj_ids, mask_logits = result``.

    Attributes:
        frame_index: Position in the video.
        object_ids: In the order in which the objects were added.
        mask_logits: (O, 1, height, width), at the size of the video.
        object_score_logits: Whether the object is in the frame, (O,); NaN for an
            object without a mask on this frame.
        ious: Estimated IoU of the masks, (O,); NaN likewise.
    """

    frame_index: int
    object_ids: list[int]
    mask_logits: Tensor
    object_score_logits: Tensor
    ious: Tensor

    def __iter__(self) -> Iterator[int | list[int] | Tensor]:
        """Frame, ids and masks."""
        return iter((self.frame_index, self.object_ids, self.mask_logits))

    def __getitem__(self, index: int) -> int | list[int] | Tensor:
        """Index the triple."""
        return tuple(self)[index]

    def __len__(self) -> int:
        """Length of the triple."""
        return 3


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedFrame(VideoFrameResult):
    """Masks of the remaining objects on a frame where a removed object was prompted.

    It unpacks and is indexed as the pair that users of SAM 2 know:
    ``frame_idx, mask_logits = result``.
    """

    @classmethod
    def of(cls, result: VideoFrameResult) -> 'UpdatedFrame':
        """Convert a result that unpacks as a triple."""
        return cls(**{f.name: getattr(result, f.name) for f in fields(result)})

    def __iter__(self) -> Iterator[int | list[int] | Tensor]:
        """Frame and masks."""
        return iter((self.frame_index, self.mask_logits))

    def __len__(self) -> int:
        """Length of the pair."""
        return 2


class VideoState(VideoSession, ReleasedState):
    """A video with its objects, prompts and memories.

    Scripts may index it with the keys of the released state, ``state['num_frames']``.
    ``copy.deepcopy`` makes an independent copy. Calls may come from any thread: a click
    in a user interface waits until the current frame is tracked.

    Attributes:
        frames: Reads the frames.
        num_cancelled: Number of calls that cancelled passes; each call stops the
            passes that are running.
    """

    options: VideoOptions

    def __init__(
        self, model: PromptableModel, frames: FrameReader, **options: Any
    ) -> None:
        super().__init__(model, **options)
        self.frames = frames
        self.num_cancelled = 0

    # Mappings compare their entries, and those of this view are new tensors each time.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __reduce__(self) -> str:
        """Refuse pickling with an error that names alternatives."""
        msg = (
            'The state of a video cannot be pickled: its frames are read from files '
            'and memories may be on the disk. Copy it with copy.deepcopy, or save '
            'the prompts and give them again to a new state'
        )
        raise TypeError(msg)

    @torch.no_grad()
    def show(
        self, frame_index: int, object_ids: Sequence[int] | None = None
    ) -> VideoFrameResult:
        """Resize the latest masks of a frame's objects to the size of the video.

        Args:
            object_ids: The objects; None shows all.
        """
        ids = list(self.objects if object_ids is None else object_ids)
        device = self.model.device
        # An object without a mask on this frame is shown absent.
        absent = torch.full(
            (1, 1, *self.model.low_res_size), NO_OBJECT_LOGIT, device=device
        )
        unknown = torch.full((1, 1), torch.nan, device=device)
        # The empty tensors come first, since there may be no object.
        masks, scores, ious = [absent[:0]], [unknown[:0]], [unknown[:0]]
        for object_id in ids:
            output = self.objects[object_id].output(frame_index)
            masks.append(absent if output is None else output.mask_logits)
            scores.append(unknown if output is None else output.object_score_logits)
            ious.append(unknown if output is None else output.ious)
        with add_context(f'while showing frame {frame_index}'):
            logits = upsample_logits(torch.cat(masks), self.frames.size)
            if self.options.non_overlap_masks:
                logits = non_overlapping(logits)
        return VideoFrameResult(
            frame_index=frame_index,
            object_ids=ids,
            mask_logits=logits,
            object_score_logits=torch.cat(scores)[:, 0],
            ious=torch.cat(ious)[:, 0],
        )

    def until_final(
        self, results: Iterable[VideoFrameResult]
    ) -> Iterator[VideoFrameResult]:
        """Wait until the masks of frames do not change any more.

        A memory bank that keeps several histories of an object, as SAM2Long's, shows
        the best one so far while the video is tracked; which one it is, and with it the
        masks of earlier frames, is settled in the end. With other banks, the results
        pass through.

        Args:
            results: Those of :meth:`SAM2VideoPredictor.propagate_in_video`.

        Yields:
            The final masks of the same frames and objects.

        Raises:
            ValueError: If masks were deleted in the meantime.
        """
        if not self.is_delayed:
            yield from results
            return
        for frame_index, object_ids in [(r.frame_index, r.object_ids) for r in results]:
            final = self.show(frame_index, object_ids)
            if bool(final.ious.isnan().any()):
                msg = (
                    f'Masks of frame {frame_index} were deleted before they were '
                    f'final; build the predictor with a larger max_archive_gb, and '
                    f'without clear_non_cond_mem_around_input'
                )
                raise ValueError(msg)
            yield final

    def check_frame(self, frame_index: int) -> None:
        """Check that the video has a frame.

        Raises:
            ValueError: If the video has no such frame.
        """
        length = self.frames.num_frames
        if not length:
            raise ValueError(NO_FRAME)
        if not 0 <= frame_index < length:
            msg = f'Frame {frame_index} is not in 0 to {length - 1}, all frames given'
            raise ValueError(msg)


def _read_checked(frames: FrameReader, frame_index: int) -> NDArray[np.uint8]:
    """Read a frame and check it, since the reader may be a user's own."""
    name = f'Frame {frame_index}'
    pixels = read_image(frames.read(frame_index), name=name)
    return same_size(pixels, frames.size, name)


def _read_dtype(value: object, *, name: str) -> torch.dtype:
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        msg = f'{name} is {value!r}; give a type of floats, such as torch.bfloat16'
        raise ValueError(msg)
    return value


class SAM2VideoPredictor(ReleasedModule):
    """Prompts and tracks objects in videos.

    The state that :meth:`init_state` returns holds everything about a video; one
    predictor serves any number of videos. A call that fails leaves the state as it was.
    Options may be changed between calls: ``predictor.fill_hole_area = 0``. As in the
    release, the predictor can be used like its model: ``predictor.parameters()``,
    ``predictor.image_size``.

    Args:
        model: A model as :func:`build_sam2` returns it, or a predictor, whose model is
            then shared.
        fill_hole_area: Fill holes of up to this area, in pixels of the stride-4 mask.
        non_overlap_masks: Show each pixel as part of at most one object.
        clear_non_cond_mem_around_input: Delete the tracked memories near a prompted
            frame: they may be of another object.
        add_all_frames_to_correct_as_cond: A tracked frame that is corrected also
            conditions the rest of the video.
        memory_dtype: Type of stored spatial memories; bfloat16, as in the released
            predictor, halves their size.
        max_batch_objects: Largest number of objects tracked in one batch.
        num_cached_embeddings: Number of frames whose image embeddings are cached.
        max_archive_gb: Limit of the memories on disk, in gigabytes for each video.
            Beyond it, the memories of the frames that were tracked first are deleted,
            with a warning, and these frames count as not tracked.
        archive_spatial_memories: Write spatial memories to disk as well, which takes
            three times the bytes. Otherwise they are encoded again where a prompt
            returns, which takes the image embeddings of a few frames. Affects videos
            that are opened afterwards.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import build_sam2_video_predictor
        >>> predictor = build_sam2_video_predictor(
        ...     '_base_/models/sam2_1_mini.py', device='cpu'
        ... )
        >>> frames = np.zeros((3, 96, 128, 3), np.uint8)
        >>> state = predictor.init_state(frames)  # or a folder, or a video file
        >>> click = {'points': [[64, 48]], 'labels': [1]}
        >>> shown = predictor.add_new_points_or_box(
        ...     state, frame_idx=0, obj_id=7, **click
        ... )
        >>> for frame_idx, obj_ids, mask_logits in predictor.propagate_in_video(state):
        ...     print(frame_idx, obj_ids, tuple(mask_logits.shape))
        0 [7] (1, 1, 96, 128)
        1 [7] (1, 1, 96, 128)
        2 [7] (1, 1, 96, 128)
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        fill_hole_area: float = 0.0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        memory_dtype: torch.dtype = torch.bfloat16,
        max_batch_objects: int = 16,
        num_cached_embeddings: int = 8,
        max_archive_gb: float = 16.0,
        archive_spatial_memories: bool = False,
    ) -> None:
        self.model = model
        self.options = VideoOptions()
        self.fill_hole_area = fill_hole_area
        self.non_overlap_masks = non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond
        self.memory_dtype = memory_dtype
        self.max_batch_objects = max_batch_objects
        self.num_cached_embeddings = num_cached_embeddings
        self.max_archive_gb = max_archive_gb
        self.archive_spatial_memories = archive_spatial_memories

    fill_hole_area: float = setting(
        read_number, record='options.fill_hole_area', least=0
    )
    non_overlap_masks: bool = setting(read_flag, record='options.non_overlap_masks')
    clear_non_cond_mem_around_input: bool = setting(
        read_flag, record='options.clear_around_prompts'
    )
    add_all_frames_to_correct_as_cond: bool = setting(
        read_flag, record='options.corrections_condition'
    )
    memory_dtype: torch.dtype = setting(_read_dtype, record='options.memory_dtype')
    max_batch_objects: int = setting(
        read_whole_number, record='options.max_batch_objects', least=1
    )
    num_cached_embeddings: int = setting(
        read_whole_number, record='options.num_cached_embeddings', least=1
    )
    max_archive_gb: float = setting(
        read_number, record='options.max_archive_gb', least=0
    )
    archive_spatial_memories: bool = setting(
        read_flag, record='options.archive_spatial_memories'
    )

    @classmethod
    def from_pretrained(cls, model_id: str, **options: Any) -> Self:
        """Build a predictor by its model's id on Hugging Face.

        Args:
            model_id: See :func:`find_pretrained`.
            options: Those of :func:`build_sam2_video_predictor`.

        Raises:
            OSError: If there is no such model, or it cannot be fetched.
        """
        model, predictor_options = build_video_model(
            *find_pretrained(model_id), **options
        )
        return cls(model, **predictor_options)

    def warm_up(self) -> None:
        """Run a short session of noise, so that the first real click is fast.

        For a model that was built with ``compile=True``: it is compiled now. Call it
        within the same autocast and inference mode as the calls that follow.
        """
        warm_up(self.model, self.options)

    @property
    def model(self) -> SAM2:
        """The model; setting it affects videos that are opened afterwards."""
        return self._model

    @model.setter
    def model(self, model: ModelLike) -> None:
        self._model = model_of(model)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.model.device
        return device

    @property
    def is_delayed(self) -> bool:
        """Whether masks of earlier frames may change while a video is tracked.

        :meth:`VideoState.until_final` waits for the final ones.
        """
        return tree_bank(self.model) is not None

    def init_state(
        self,
        video_path: VideoLike,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> VideoState:
        """Open a video; its frames are decoded when they are needed.

        Args:
            video_path: A folder of images named by numbers; a video file; or
                frames as an array (T, height, width, 3) or a list of images; or a
                ``FrameReader``.
            offload_video_to_cpu: Has no effect: frames are decoded when they are
                needed, and the video is never on the device.
            offload_state_to_cpu: Offload memories out of reach of a pass to the memory
                of the host, not to a temporary file.
            async_loading_frames: Decode the next frame while a frame is tracked.

        Returns:
            Its state, without objects.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If it has no frame, or one that cannot be read.
        """
        if offload_video_to_cpu:
            msg = (
                'offload_video_to_cpu changes nothing: frames are decoded when they '
                'are needed, and the video never lies on the device; leave it out'
            )
            warnings.warn(msg, stacklevel=2)
        frames = open_frames(video_path)
        if async_loading_frames:
            frames = PrefetchReader(frames)
        return self.open(frames, offload_to_host=offload_state_to_cpu)

    def open(
        self,
        frames: FrameReader,
        *,
        revisits: bool = True,
        offload_to_host: bool = False,
    ) -> VideoState:
        """Open the video of a reader.

        Args:
            revisits: See :class:`VideoSession`; without it, the video is tracked once
                in one direction, and nothing goes to disk.
            offload_to_host: Likewise.
        """
        return VideoState(
            self.model,
            frames,
            read_frame=partial(_read_checked, frames),
            num_frames=frames.num_frames,
            options=self.options,
            revisits=revisits,
            offload_to_host=offload_to_host,
        )

    def add_new_points_or_box(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        points: TensorLike | None = None,
        labels: TensorLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: TensorLike | None = None,
    ) -> VideoFrameResult:
        """Prompt an object with points, a box, or both.

        Args:
            inference_state: State of the video.
            frame_idx: The frame.
            obj_id: The object; a new id adds an object.
            points: (P, 2), ``(x, y)``.
            labels: (P,), 1 on the object, 0 outside of it.
            clear_old_points: Replace earlier points on this frame; required with a
                box.
            normalize_coords: Coordinates are pixels of the video; otherwise shares
                of its sides, in [0, 1].
            box: (4,), corners ``(x, y, x, y)``.

        Returns:
            The masks of all objects on the frame.

        Raises:
            ValueError: If the prompt is malformed or outside of the video.
        """
        state = inference_state
        obj_id, frame_idx = _read_ids(state, obj_id, frame_idx)
        shares = read_points(
            points=points,
            labels=labels,
            box=box,
            size=state.frames.size,
            in_pixels=normalize_coords,
        )
        if shares is None:
            msg = 'Neither points nor a box are given; give at least one of them'
            raise ValueError(msg)
        if len(shares.coords) != 1:
            msg = (
                f'The prompt has {len(shares.coords)} objects; prompt one at a time, '
                f'each by its obj_id'
            )
            raise ValueError(msg)
        if box is not None and not clear_old_points:
            msg = 'A box replaces earlier points; leave out clear_old_points=False'
            raise ValueError(msg)
        prompt = state.model.data_preprocessor.point_prompt(shares)
        with state.edit(self.options):
            if not clear_old_points and obj_id in state.objects:
                earlier = state.objects[obj_id].prompts.get(frame_idx)
                if earlier is not None and earlier.points is not None:
                    prompt = earlier.points.followed_by(prompt)
            state.add_prompt(frame_idx, [obj_id], FramePrompt(points=prompt))
            return state.show(frame_idx)

    add_new_points = add_new_points_or_box  # its name in the first release

    def add_new_mask(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        mask: TensorLike,
    ) -> VideoFrameResult:
        """Prompt an object with its mask.

        Args:
            inference_state: State of the video.
            frame_idx: The frame.
            obj_id: The object; a new id adds an object.
            mask: (height, width), of the size of the video.

        Returns:
            The masks of all objects on the frame.

        Raises:
            ValueError: If the mask has another size.
        """
        state = inference_state
        obj_id, frame_idx = _read_ids(state, obj_id, frame_idx)
        pixels = read_mask(mask, size=state.frames.size)
        prompt = state.model.data_preprocessor.mask_prompt(
            FrameMasks(object_ids=(obj_id,), masks=pixels[None])
        )
        with state.edit(self.options):
            state.add_prompt(frame_idx, [obj_id], FramePrompt(mask=prompt))
            return state.show(frame_idx)

    def clear_all_prompts_in_frame(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        need_output: bool = True,
    ) -> VideoFrameResult | None:
        """Clear the prompts of an object on a frame.

        Args:
            inference_state: State of the video.
            frame_idx: The frame.
            obj_id: The object.
            need_output: Return masks; otherwise return None.

        Returns:
            The masks of all objects on the frame, or None.

        Raises:
            ValueError: If there is no such object or frame.
        """
        state = inference_state
        obj_id, frame_idx = _read_ids(state, obj_id, frame_idx)
        with state.edit(self.options):
            state.clear_prompts(frame_idx, obj_id)
            return state.show(frame_idx) if need_output else None

    def remove_object(
        self,
        inference_state: VideoState,
        obj_id: int,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[int], list[UpdatedFrame]]:
        """Remove an object and its memories; the others stay.

        Args:
            inference_state: State of the video.
            obj_id: The object.
            strict: An unknown id is an error; otherwise nothing happens.
            need_output: Return masks; otherwise return no frames.

        Returns:
            Ids of the objects left, and their masks on the frames where the removed
            object was prompted; these unpack as pairs of frame and masks.

        Raises:
            ValueError: If the id is unknown, and ``strict`` is set.
        """
        state = inference_state
        obj_id = read_object_id(obj_id)
        with state.edit(self.options):
            if strict:
                state.get_object(obj_id)
            removed = state.remove_object(obj_id)
            frames = sorted(removed.prompts) if removed and state.objects else []
            shown = [state.show(frame) for frame in frames if need_output]
            return list(state.objects), [UpdatedFrame.of(result) for result in shown]

    def reset_state(self, inference_state: VideoState) -> None:
        """Remove all objects of a video.

        Args:
            inference_state: State of the video.
        """
        with inference_state.edit(self.options):
            inference_state.objects.clear()

    def propagate_in_video_preflight(self, inference_state: VideoState) -> None:
        """Encode the memories of all prompts, as :meth:`propagate_in_video` does first.

        Args:
            inference_state: State of the video.

        Raises:
            ValueError: If there is no object, or one without a prompt.
        """
        with inference_state.edit(self.options):
            inference_state.check_prompted()
            inference_state.commit()

    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[VideoFrameResult]:
        """Track all objects through the video.

        The loop may end at any frame, and :meth:`cancel_propagate` stops it. Objects
        may be prompted, added and removed between frames, from any thread. After an
        error the state is as it was when the last frame was yielded.

        Args:
            inference_state: State of the video.
            start_frame_idx: First frame; by default the first that was prompted.
            max_frame_num_to_track: Number of frames to track after the first.
            reverse: Track backwards in time; nothing happens from frame 0.

        Returns:
            An iterator over the masks of each frame; where earlier masks may still
            change (:attr:`is_delayed`), over the best ones so far.

        Raises:
            ValueError: If there is no such frame, or a negative number of frames; from
                the iterator also if there is no object, or one without a prompt.
        """
        state = inference_state
        start, reach = start_frame_idx, max_frame_num_to_track
        if start is not None:
            start = read_whole_number(start, name='start_frame_idx')
            state.check_frame(start)
        if reach is not None:
            reach = read_whole_number(reach, name='max_frame_num_to_track', least=0)
        return self._propagate(
            state,
            start,
            reach,
            reverse=read_flag(reverse, name='reverse'),
            num_cancelled=state.num_cancelled,
        )

    def _propagate(
        self,
        state: VideoState,
        start: int | None,
        reach: int | None,
        *,
        reverse: bool,
        num_cancelled: int,
    ) -> Iterator[VideoFrameResult]:
        if state.num_cancelled != num_cancelled:
            return
        with state.lock:
            state.check_prompted()
            if start is None:
                objects = state.objects.values()
                start = min(min(obj.conditioning_frames) for obj in objects)
        last = 0 if reverse else state.frames.num_frames - 1
        if reach is not None:
            last = max(start - reach, last) if reverse else min(start + reach, last)
        order = range(start, last - 1, -1) if reverse else range(start, last + 1)
        if reverse and start == 0:
            with state.edit(self.options):
                state.commit()
            return
        for frame in order:
            with state.edit(self.options):
                if state.num_cancelled != num_cancelled or not state.objects:
                    return
                state.step(frame, reverse=reverse)
                result = state.show(frame)
            yield result

    def cancel_propagate(self, inference_state: VideoState) -> None:
        """Stop all running propagations after their current frame; from any thread.

        Args:
            inference_state: State of the video.
        """
        inference_state.num_cancelled += 1


def _read_ids(state: VideoState, obj_id: object, frame_idx: object) -> tuple[int, int]:
    """Check the id of an object and the position of a frame."""
    object_id = read_object_id(obj_id)
    frame_index = read_whole_number(frame_idx, name='frame_idx')
    state.check_frame(frame_index)
    return object_id, frame_index


class LatestFrame:
    """The latest frame of a stream; earlier frames are not stored.

    Attributes:
        num_frames: Number of frames so far.
    """

    def __init__(self) -> None:
        self.num_frames = 0
        self._latest: NDArray[np.uint8] | None = None

    @property
    def size(self) -> Size:
        """Height and width of the frames.

        Raises:
            RuntimeError: If no frame came yet.
        """
        if self._latest is None:
            raise RuntimeError(NO_FRAME)
        return self._latest.shape[0], self._latest.shape[1]

    @contextmanager
    def pushed(self, frame: NDArray[np.uint8]) -> Iterator[int]:
        """Replace the latest frame, unless tracking it fails.

        Args:
            frame: (height, width, 3), RGB.

        Yields:
            Its position in the stream.

        Raises:
            ValueError: If it has another size than the one before.
        """
        before = self._latest
        if before is not None and frame.shape[:2] != self.size:  # names the sizes
            same_size(frame, self.size, f'Frame {self.num_frames}')
        self._latest = frame.copy()
        self.num_frames += 1
        try:
            yield self.num_frames - 1
        except BaseException:
            self._latest = before
            self.num_frames -= 1
            raise

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Return the latest frame, (height, width, 3), RGB.

        Raises:
            ValueError: If it is not the latest frame.
        """
        if self._latest is None or frame_index != self.num_frames - 1:
            msg = (
                f'Frame {frame_index} has passed; prompt the latest frame, or keep '
                f'more of them with num_cached_embeddings'
            )
            raise ValueError(msg)
        return self._latest


class SAM2Stream:
    """A video whose frames come one at a time, such as those of a camera.

    Prompts go through the predictor's methods with :attr:`state`, on the latest frame
    or on one whose embedding is still cached; they take effect from the next frame on.
    The masks equal those of the same video tracked forwards from a file, if it has at
    least as many frames as the memory has object pointers (16).

    Args:
        predictor: The predictor, whose options the stream uses.
        num_frames: Length of a short video, if it is known: the time of object
            pointers is scaled by it.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import SAM2Stream, build_sam2_video_predictor
        >>> predictor = build_sam2_video_predictor(
        ...     '_base_/models/sam2_1_mini.py', device='cpu'
        ... )
        >>> stream = SAM2Stream(predictor)
        >>> frame = np.zeros((96, 128, 3), np.uint8)
        >>> shown = stream.track(frame)
        >>> shown = predictor.add_new_points_or_box(
        ...     stream.state, stream.frame_index, obj_id=7, box=[20, 10, 90, 80]
        ... )
        >>> frame_idx, obj_ids, mask_logits = stream.track(frame)
        >>> frame_idx, obj_ids, tuple(mask_logits.shape)
        (1, [7], (1, 1, 96, 128))
    """

    def __init__(
        self, predictor: SAM2VideoPredictor, *, num_frames: int | None = None
    ) -> None:
        self.predictor = predictor
        if num_frames is not None:
            num_frames = read_whole_number(num_frames, name='num_frames', least=1)
        self._latest = LatestFrame()
        self.state = VideoState(
            predictor.model,
            self._latest,
            read_frame=self._latest.read,
            num_frames=sys.maxsize if num_frames is None else num_frames,
            options=predictor.options,
            reaches_back=True,
        )

    def __deepcopy__(self, memo: dict[int, object]) -> 'SAM2Stream':
        """Copy the stream; the copy then takes its own frames."""
        other = SAM2Stream(self.predictor)
        with self.state.lock:
            other._latest = copy.copy(self._latest)
            other.state = copy.deepcopy(self.state)
        other.state.frames = other._latest
        other.state.read_frame = other._latest.read
        memo[id(self)] = other
        return other

    @property
    def frame_index(self) -> int:
        """Position of the latest frame; -1 before the first."""
        return self._latest.num_frames - 1

    def track(self, frame: ImageLike) -> VideoFrameResult:
        """Track all objects on the next frame.

        Args:
            frame: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            The masks of all objects on the frame; no mask before the first prompt.

        Raises:
            ValueError: If the frame is not RGB of 8 bits or of another size, or an
                object has no prompt left. After any error the stream is as it was.
        """
        state = self.state
        pixels = read_image(frame, name=f'Frame {self._latest.num_frames}')
        with (
            state.edit(self.predictor.options),
            self._latest.pushed(pixels) as frame_index,
        ):
            state.step(frame_index)
            return state.show(frame_index)
