"""Interactive segmentation of videos, with the calls that users of SAM 2 know."""

from collections.abc import Iterator

import torch

from projects.sam2.apis.frame_readers import VideoLike, open_frames
from projects.sam2.apis.image_decoding import points_of_model
from projects.sam2.apis.inputs import TensorLike, read_mask, read_points
from projects.sam2.apis.video_session import VideoSession
from projects.sam2.apis.video_state import (
    VideoFrameResult,
    VideoOptions,
    VideoState,
)
from projects.sam2.models import SAM2
from projects.sam2.structures import FrameMasks, FramePrompt, PointPrompt

__all__ = ['SAM2VideoPredictor']


class SAM2VideoPredictor:
    """Prompts and tracks objects in videos.

    All that is known of a video is in its state, which :meth:`init_state` makes;
    one predictor serves any number of them.

    Args:
        model: As :func:`build_sam2` gives it.
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
    """

    def __init__(
        self,
        model: SAM2,
        *,
        fill_hole_area: float = 0.0,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        memory_dtype: torch.dtype = torch.bfloat16,
        max_batch_objects: int = 16,
        num_cached_embeddings: int = 8,
    ) -> None:
        self.model = model
        self.session = VideoSession(
            model,
            VideoOptions(
                fill_hole_area=fill_hole_area,
                non_overlap_masks=non_overlap_masks,
                clear_around_prompts=clear_non_cond_mem_around_input,
                corrections_condition=add_all_frames_to_correct_as_cond,
                memory_dtype=memory_dtype,
                max_batch_objects=max_batch_objects,
                num_cached_embeddings=num_cached_embeddings,
            ),
        )

    def init_state(self, video_path: VideoLike) -> VideoState:
        """Open a video; its frames are decoded when they are needed.

        Args:
            video_path: A folder of JPEG files named by numbers; a video file; or
                frames as an array (T, height, width, 3) or a list of images.

        Returns:
            Its state, without objects.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If it has no frame, or one that cannot be read.
        """
        return self.session.open(open_frames(video_path))

    def add_new_points_or_box(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        points: TensorLike | None = None,
        labels: TensorLike | None = None,
        *,
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
            clear_old_points: Forget earlier points on this frame; a box asks for it.
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
        state.check_frame(frame_idx)
        asked = read_points(
            points=points,
            labels=labels,
            box=box,
            size=state.frames.size,
            in_pixels=normalize_coords,
        )
        if asked is None:
            msg = 'Neither points nor a box are given; give at least one of them'
            raise ValueError(msg)
        if len(asked.coords) != 1:
            msg = (
                f'The prompt has {len(asked.coords)} objects; prompt one at a time, '
                f'each by its obj_id'
            )
            raise ValueError(msg)
        if box is not None and not clear_old_points:
            msg = 'A box comes before all points of a frame; let clear_old_points be'
            raise ValueError(msg)
        prompt = points_of_model(self.model, asked)
        if not clear_old_points:
            prompt = _after_earlier(state, frame_idx, obj_id, prompt)
        return self.session.prompt(state, frame_idx, obj_id, FramePrompt(points=prompt))

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
        inference_state.check_frame(frame_idx)
        pixels = read_mask(mask, size=inference_state.frames.size)
        given = self.model.data_preprocessor.mask_prompt(
            FrameMasks(object_ids=(obj_id,), masks=pixels[None])
        )
        return self.session.prompt(
            inference_state, frame_idx, obj_id, FramePrompt(mask=given)
        )

    @torch.no_grad()
    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        *,
        reverse: bool = False,
    ) -> Iterator[VideoFrameResult]:
        """Track all objects through the video.

        It may be left at any frame, and stopped by :meth:`cancel_propagate`. Objects
        may be prompted, added and removed between frames.

        Args:
            inference_state: State of the video.
            start_frame_idx: First frame; by default the first that was prompted.
            max_frame_num_to_track: Track so many frames after the first.
            reverse: Track backwards in time; nothing happens from frame 0.

        Yields:
            What is shown on each frame.

        Raises:
            ValueError: If there is no object, one without a prompt, or no such frame.
        """
        state = inference_state
        state.cancelled.clear()
        self.session.check_prompted(state)
        self.session.commit(state)
        start = start_frame_idx
        if start is None:
            start = min(min(one.store.conditioning) for one in state.objects.values())
        state.check_frame(start)
        last = 0 if reverse else state.frames.num_frames - 1
        if max_frame_num_to_track is not None:
            reach = max_frame_num_to_track
            last = max(start - reach, last) if reverse else min(start + reach, last)
        order = range(start, last - 1, -1) if reverse else range(start, last + 1)
        if reverse and start == 0:
            return
        for frame in order:
            if state.cancelled.is_set() or not state.objects:
                return
            yield self.session.step(state, frame, reverse=reverse)

    def cancel_propagate(self, inference_state: VideoState) -> None:
        """Stop a running propagation after its current frame; from any thread.

        Args:
            inference_state: State of the video.
        """
        inference_state.cancelled.set()

    def clear_all_prompts_in_frame(
        self, inference_state: VideoState, frame_idx: int, obj_id: int
    ) -> VideoFrameResult:
        """Take back what was said about an object on a frame.

        Args:
            inference_state: State of the video.
            frame_idx: The frame.
            obj_id: The object.

        Returns:
            What is shown on the frame, of all objects.

        Raises:
            ValueError: If there is no such object or frame.
        """
        inference_state.check_frame(frame_idx)
        inference_state.object(obj_id).take_back(frame_idx)
        return self.session.show(inference_state, frame_idx)

    def remove_object(
        self, inference_state: VideoState, obj_id: int, *, strict: bool = False
    ) -> tuple[list[int], list[VideoFrameResult]]:
        """Remove an object; the others go on.

        Args:
            inference_state: State of the video.
            obj_id: The object.
            strict: An unknown id is an error; otherwise nothing happens.

        Returns:
            Ids of the objects left, and what is now shown on the frames where the
            object was prompted.

        Raises:
            ValueError: If the id is unknown, and ``strict`` is set.
        """
        state = inference_state
        if strict:
            state.object(obj_id)
        removed = state.objects.pop(obj_id, None)
        if removed is None or not state.objects:
            return list(state.objects), []
        shown = [self.session.show(state, frame) for frame in sorted(removed.prompts)]
        return list(state.objects), shown

    def reset_state(self, inference_state: VideoState) -> None:
        """Forget all objects and prompts of a video.

        Args:
            inference_state: State of the video.
        """
        inference_state.objects.clear()


def _after_earlier(
    state: VideoState, frame_index: int, object_id: int, points: PointPrompt
) -> PointPrompt:
    """Points after those that were given on the frame before."""
    if object_id not in state.objects:
        return points
    prompt = state.objects[object_id].prompts.get(frame_index)
    earlier = None if prompt is None else prompt.points
    return points if earlier is None else earlier.followed_by(points)
