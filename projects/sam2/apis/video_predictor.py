"""What scripts do with the released video predictor, which is a torch module.

Ours is a predictor around a model; these calls are handed on to the model.
"""

import copy
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import Self

from ..checkpoints import UnknownKeyError, map_to_released
from ..models import SAM2
from ..models.released_names import check_settable, instead_of
from ..ops import non_overlapping
from ..structures import FrameMasks, FramePrompt
from .building import (
    Device,
    ModelLike,
    build_video_model,
    find_pretrained,
    model_of,
)
from .frame_readers import (
    PrefetchReader,
    VideoLike,
    open_frames,
    same_size,
)
from .image_predictor import points_of_model
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
from .video_session import VideoSession
from .video_state import (
    UpdatedFrame,
    VideoFrameResult,
    VideoOptions,
    VideoState,
)


class ReleasedModule:
    """A predictor that can be used like its model.

    ``to``, ``half``, ``eval`` and the like change the model and return the predictor.
    Open videos after the model was moved or its type changed.
    """

    model: SAM2

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

    @training.setter
    def training(self, mode: bool) -> None:
        self.model.training = mode

    def to(
        self, device: Device | torch.dtype, dtype: torch.dtype | None = None
    ) -> Self:
        """Move the model, convert its weights, or both."""
        self.model.to(device)
        if dtype is not None:
            self.model.to(dtype)
        return self

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """Move the model to a GPU, by default the current one."""
        self.model.cuda(device)
        return self

    def cpu(self) -> Self:
        """Move the model to the CPU."""
        self.model.cpu()
        return self

    def float(self) -> Self:
        """Convert the weights to float32."""
        self.model.float()
        return self

    def half(self) -> Self:
        """Convert the weights to float16."""
        self.model.half()
        return self

    def bfloat16(self) -> Self:
        """Convert the weights to bfloat16."""
        self.model.bfloat16()
        return self

    def train(self, mode: bool = True) -> Self:
        """Put the model in training mode, or in evaluation mode."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Put the model in evaluation mode."""
        self.model.eval()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the weights get gradients."""
        self.model.requires_grad_(requires_grad)
        return self

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Weights of the model."""
        return self.model.parameters(recurse)

    def named_parameters(
        self,
        prefix: str = '',
        recurse: bool = True,
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights of the model by our names."""
        return self.model.named_parameters(prefix, recurse)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights by the names of the release; by ours where there are adapters.

        Returns:
            All weights; those by our names are ``model.state_dict()``.
        """
        own = self.model.state_dict()
        try:
            return map_to_released(own)
        except UnknownKeyError:
            return dict(own)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = True,
        assign: bool = False,
    ) -> Any:
        """Load weights by the names of the release or by ours, as torch does."""
        return self.model.load_state_dict(state_dict, strict=strict, assign=assign)

    def _apply_non_overlapping_constraints(self, pred_masks: Tensor) -> Tensor:
        """Let each pixel belong to at most one object, (O, 1, H, W), logits."""
        return non_overlapping(pred_masks)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Look the attribute up in the model; the error names an alternative."""
            if name.startswith('__') or name == 'model':
                raise AttributeError(name)
            try:
                return getattr(self.model, name)
            except AttributeError as error:
                msg = (
                    f'{type(self).__name__} has no {name!r}, nor has its model; '
                    f'{instead_of(name)}'
                )
                raise AttributeError(msg) from error

    def __setattr__(self, name: str, value: object) -> None:
        """Set attributes of the model on the model, where they take effect."""
        check_settable(name, value)
        session = self.__dict__.get('session')
        model = None if session is None else session.model
        of_model = name in getattr(model, '_modules', {}) or (
            hasattr(type(model), name) and not hasattr(type(self), name)
        )
        if model is not None and name != 'model' and of_model:
            setattr(model, name, value)
        else:
            object.__setattr__(self, name, value)


class VideoPrompting:
    """Adds, changes and removes objects.

    Args:
        session: Does what is asked for, once it is read and checked.
    """

    def __init__(self, session: VideoSession) -> None:
        self.session = session

    @property
    def model(self) -> SAM2:
        """The model; another one is for videos that are opened afterwards."""
        return self.session.model

    @model.setter
    def model(self, model: ModelLike) -> None:
        self.session = VideoSession(model_of(model), self.session.options)

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
            obj_id: The object; a new one where the id is new.
            points: (P, 2), ``(x, y)``.
            labels: (P,), 1 on the object, 0 outside of it.
            clear_old_points: Forget earlier points on this frame; required with a box.
            normalize_coords: Coordinates are pixels of the video; otherwise shares
                of its sides, in [0, 1].
            box: (4,), corners ``(x, y, x, y)``.

        Returns:
            What is shown on the frame, of all objects.

        Raises:
            ValueError: If the prompt is malformed or outside of the video. The state
                stays as it was.
        """
        state = inference_state
        obj_id = read_object_id(obj_id)
        frame_idx = read_whole_number(frame_idx, name='frame_idx')
        state.check_frame(frame_idx)
        given = read_points(
            points=points,
            labels=labels,
            box=box,
            size=state.frames.size,
            in_pixels=normalize_coords,
        )
        if given is None:
            msg = 'Neither points nor a box are given; give at least one of them'
            raise ValueError(msg)
        if len(given.coords) != 1:
            msg = (
                f'The prompt has {len(given.coords)} objects; prompt one at a time, '
                f'each by its obj_id'
            )
            raise ValueError(msg)
        if box is not None and not clear_old_points:
            msg = 'A box replaces earlier points; leave out clear_old_points=False'
            raise ValueError(msg)
        prompt = points_of_model(self.model, given)
        with state.lock:
            if not clear_old_points:
                prompt = state.after_earlier(frame_idx, obj_id, prompt)
            return self.session.prompt(
                state, frame_idx, obj_id, FramePrompt(points=prompt)
            )

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
            obj_id: The object; a new one where the id is new.
            mask: (height, width), of the size of the video.

        Returns:
            What is shown on the frame, of all objects.

        Raises:
            ValueError: If the mask has another size. The state stays as it was.
        """
        obj_id = read_object_id(obj_id)
        frame_idx = read_whole_number(frame_idx, name='frame_idx')
        inference_state.check_frame(frame_idx)
        pixels = read_mask(mask, size=inference_state.frames.size)
        given = self.model.data_preprocessor.mask_prompt(
            FrameMasks(object_ids=(obj_id,), masks=pixels[None])
        )
        return self.session.prompt(
            inference_state, frame_idx, obj_id, FramePrompt(mask=given)
        )

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
            need_output: Collect what is now shown; otherwise give nothing.

        Returns:
            What is shown on the frame, of all objects, or None.

        Raises:
            ValueError: If there is no such object or frame.
        """
        obj_id = read_object_id(obj_id)
        frame_idx = read_whole_number(frame_idx, name='frame_idx')
        inference_state.check_frame(frame_idx)
        return self.session.take_back(
            inference_state, frame_idx, obj_id, shows=need_output
        )

    def remove_object(
        self,
        inference_state: VideoState,
        obj_id: int,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[int], list[UpdatedFrame]]:
        """Remove an object; the others go on.

        Args:
            inference_state: State of the video.
            obj_id: The object.
            strict: An unknown id is an error; otherwise nothing happens.
            need_output: Collect what is now shown; otherwise give no frames.

        Returns:
            Ids of the objects left, and what is now shown on the frames where the
            object was prompted; these unpack as pairs of frame and masks.

        Raises:
            ValueError: If the id is unknown, and ``strict`` is set.
        """
        state = inference_state
        obj_id = read_object_id(obj_id)
        with state.lock:
            if strict:
                state.object(obj_id)
            shown = self.session.remove(state, obj_id, shows=need_output)
            left = list(state.objects)
        return left, [UpdatedFrame.of(result) for result in shown]

    def reset_state(self, inference_state: VideoState) -> None:
        """Forget all objects and prompts of a video.

        Args:
            inference_state: State of the video.
        """
        with inference_state.lock:
            inference_state.objects.clear()


def _read_dtype(value: object, *, name: str) -> torch.dtype:
    """Read a type of floats."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        msg = f'{name} is {value!r}; give a type of floats, such as torch.bfloat16'
        raise ValueError(msg)
    return value


class SAM2VideoPredictor(ReleasedModule, VideoPrompting):
    """Prompts and tracks objects in videos.

    All that is known of a video is in its state, which :meth:`init_state` makes;
    one predictor serves any number of them. Options may be changed between calls:
    ``predictor.fill_hole_area = 0``. As in the release it can be used like its model:
    ``predictor.parameters()``, ``predictor.image_size``.

    Args:
        model: As :func:`build_sam2` gives it, or another predictor's.
        fill_hole_area: Fill holes of up to so many pixels of the stride-4 mask.
        non_overlap_masks: Show each pixel as part of at most one object.
        clear_non_cond_mem_around_input: Forget what was tracked near a frame that is
            prompted: it may be of another object.
        add_all_frames_to_correct_as_cond: A frame that was tracked and is then
            corrected conditions the rest of the video, too.
        memory_dtype: Spatial memories are kept in this type; bfloat16, as in the
            released predictor, halves their size.
        max_batch_objects: Track at most so many objects in one batch.
        num_cached_embeddings: Keep the image embeddings of so many frames.
        max_archive_gb: Limit, for each video, of what a pass leaves behind, in
            gigabytes. Beyond it the frames that were tracked first are forgotten,
            with a warning, and count as not tracked.
        archive_spatial_memories: Leave spatial memories behind, too: three times the
            bytes. Otherwise they are encoded again where a prompt returns, which
            takes the image embeddings of a few frames. It holds for videos that are
            opened afterwards.

    Raises:
        ValueError: If a number is out of range.
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
        super().__init__(VideoSession(model_of(model), VideoOptions()))
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

    @property
    def options(self) -> VideoOptions:
        """How videos are prompted, tracked and shown."""
        return self.session.options

    @options.setter
    def options(self, options: VideoOptions) -> None:
        self.session.options = options

    @classmethod
    def from_pretrained(cls, model_id: str, **options: Any) -> Self:
        """Build a predictor by its model's id on Hugging Face.

        Args:
            model_id: See :func:`find_pretrained`.
            options: Those of :func:`build_sam2_video_predictor`.

        Returns:
            The predictor.

        Raises:
            OSError: If there is no such model, or no way to it.
        """
        model, chosen = build_video_model(*find_pretrained(model_id), **options)
        return cls(model, **chosen)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

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
            offload_video_to_cpu: Always so, with or without it: frames are decoded
                when they are needed, and no video lies on the device.
            offload_state_to_cpu: What a pass leaves behind goes to the memory of the
                host, and not to a temporary file.
            async_loading_frames: Decode the next frame while one is worked on.

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
        return self.session.open(
            PrefetchReader(frames) if async_loading_frames else frames,
            archive_in_memory=offload_state_to_cpu,
        )

    def propagate_in_video_preflight(self, inference_state: VideoState) -> None:
        """Remember all prompts; :meth:`propagate_in_video` does it by itself.

        Args:
            inference_state: State of the video.

        Raises:
            ValueError: If there is no object, or one without a prompt.
        """
        with inference_state.lock:
            self.session.check_prompted(inference_state)
            self.session.commit(inference_state)

    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[VideoFrameResult]:
        """Track all objects through the video.

        It may be left at any frame, and stopped by :meth:`cancel_propagate`. Objects
        may be prompted, added and removed between frames, from any thread. After an
        error the state is as it was when the last frame was yielded.

        Args:
            inference_state: State of the video.
            start_frame_idx: First frame; by default the first that was prompted.
            max_frame_num_to_track: Track so many frames after the first.
            reverse: Track backwards in time; nothing happens from frame 0.

        Returns:
            An iterator over what is shown on each frame.

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
            cancellations=state.cancellations,
        )

    def _propagate(
        self,
        state: VideoState,
        start: int | None,
        reach: int | None,
        *,
        reverse: bool,
        cancellations: int,
    ) -> Iterator[VideoFrameResult]:
        """Track all objects until the pass is cancelled."""
        if state.cancellations != cancellations:
            return
        with state.lock:
            self.session.check_prompted(state)
            first = min(min(obj.conditioning_frames) for obj in state.objects.values())
        start = first if start is None else start
        last = 0 if reverse else state.frames.num_frames - 1
        if reach is not None:
            last = max(start - reach, last) if reverse else min(start + reach, last)
        order = range(start, last - 1, -1) if reverse else range(start, last + 1)
        if reverse and start == 0:
            self.session.commit(state)
            return
        for frame in order:
            with state.lock:
                if state.cancellations != cancellations or not state.objects:
                    return
                result = self.session.step(state, frame, reverse=reverse)
            yield result

    def cancel_propagate(self, inference_state: VideoState) -> None:
        """Stop all running propagations after their current frame; from any thread.

        Args:
            inference_state: State of the video.
        """
        inference_state.cancellations += 1


class LatestFrame:
    """The frame that came last; earlier ones are gone."""

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
            msg = 'No frame came yet; call track with the first one, then prompt it'
            raise RuntimeError(msg)
        return self._latest.shape[0], self._latest.shape[1]

    @contextmanager
    def pushed(self, frame: NDArray[np.uint8]) -> Iterator[int]:
        """Take a frame in place of the one before, unless the work on it fails.

        Args:
            frame: (height, width, 3), RGB.

        Yields:
            Its position in the stream.

        Raises:
            ValueError: If it has another size than the one before.
        """
        before = self._latest
        if before is not None:
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
        """Give the latest frame.

        Args:
            frame_index: Its position.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If another one is asked for.
        """
        if self._latest is None or frame_index != self.num_frames - 1:
            msg = (
                f'Frame {frame_index} has passed; prompt the latest frame, or keep '
                f'more of them with num_cached_embeddings'
            )
            raise ValueError(msg)
        return self._latest


class SAM2Stream:
    """A video without end.

    Prompts go through the predictor's methods with :attr:`state`, on the latest frame
    or one whose embedding is still kept; they count from the next frame on. Masks are
    those of the same video tracked forwards from a file, where it has at least as
    many frames as there are object pointers in the memory (16).

    Args:
        predictor: Its options hold for the stream.
        num_frames: Length of a short video, if it is known: the time of object
            pointers is scaled by it.
    """

    def __init__(
        self, predictor: SAM2VideoPredictor, *, num_frames: int | None = None
    ) -> None:
        self.predictor = predictor
        if num_frames is not None:
            num_frames = read_whole_number(num_frames, name='num_frames', least=1)
        self._latest = LatestFrame()
        self.state = predictor.session.open(
            self._latest,
            num_frames=sys.maxsize if num_frames is None else num_frames,
            revisits=False,
            reaches_back=True,
        )

    def __deepcopy__(self, memo: dict[int, object]) -> 'SAM2Stream':
        """A branch of the stream: each of the two takes frames of its own."""
        other = SAM2Stream(self.predictor)
        with self.state.lock:
            other._latest = copy.copy(self._latest)
            encode = self.predictor.session.encoder(other._latest)
            other.state = self.state.branch(
                self.state.embeddings.branch(encode), frames=other._latest
            )
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
            What is shown on the frame; no mask before the first prompt.

        Raises:
            ValueError: If the frame is not RGB of 8 bits or of another size, or an
                object has no prompt left. After any error the stream is as it was.
        """
        pixels = read_image(frame, name=f'Frame {self._latest.num_frames}')
        with self.state.lock, self._latest.pushed(pixels) as frame_index:
            return self.predictor.session.step(self.state, frame_index)
