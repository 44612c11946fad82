"""Interactive segmentation of videos, with the calls that users of SAM 2 know."""

import warnings
from collections.abc import Iterator

import torch
from typing_extensions import Self, Unpack

from projects.sam2.apis.building import ModelLike, model_of
from projects.sam2.apis.frame_readers import VideoLike, open_frames
from projects.sam2.apis.inputs import (
    Setting,
    read_flag,
    read_number,
    read_whole_number,
)
from projects.sam2.apis.pretrained import find_pretrained
from projects.sam2.apis.read_ahead import ReadAheadReader
from projects.sam2.apis.released_module import ReleasedModule
from projects.sam2.apis.video_building import VideoBuildOptions, build_video_model
from projects.sam2.apis.video_prompting import VideoPrompting
from projects.sam2.apis.video_session import VideoSession
from projects.sam2.apis.video_state import (
    VideoFrameResult,
    VideoOptions,
    VideoState,
)

__all__ = ['SAM2VideoPredictor']


def _read_size(value: object, *, name: str) -> float:
    """Read an area or a size."""
    return read_number(value, name=name, least=0)


def _read_count(value: object, *, name: str) -> int:
    """Read a number of things of which one is needed."""
    return read_whole_number(value, name=name, least=1)


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

    fill_hole_area = Setting('options', 'fill_hole_area', _read_size)
    non_overlap_masks = Setting('options', 'non_overlap_masks', read_flag)
    clear_non_cond_mem_around_input = Setting(
        'options', 'clear_around_prompts', read_flag
    )
    add_all_frames_to_correct_as_cond = Setting(
        'options', 'corrections_condition', read_flag
    )
    memory_dtype = Setting('options', 'memory_dtype', _read_dtype)
    max_batch_objects = Setting('options', 'max_batch_objects', _read_count)
    num_cached_embeddings = Setting('options', 'num_cached_embeddings', _read_count)
    max_archive_gb = Setting('options', 'max_archive_gb', _read_size)
    archive_spatial_memories = Setting('options', 'archive_spatial_memories', read_flag)

    @property
    def options(self) -> VideoOptions:
        """How videos are prompted, tracked and shown."""
        return self.session.options

    @options.setter
    def options(self, options: VideoOptions) -> None:
        self.session.options = options

    @classmethod
    def from_pretrained(
        cls, model_id: str, **options: Unpack[VideoBuildOptions]
    ) -> Self:
        """Make a predictor by its model's name on Hugging Face.

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
            ReadAheadReader(frames) if async_loading_frames else frames,
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
