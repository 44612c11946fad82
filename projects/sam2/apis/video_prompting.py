"""What users say about the objects of a video, with the calls that they know."""

from projects.sam2.apis.building import ModelLike, model_of
from projects.sam2.apis.image_decoding import points_of_model
from projects.sam2.apis.inputs import (
    TensorLike,
    read_mask,
    read_object_id,
    read_points,
    read_whole_number,
)
from projects.sam2.apis.video_session import VideoSession
from projects.sam2.apis.video_state import UpdatedFrame, VideoFrameResult, VideoState
from projects.sam2.models import SAM2
from projects.sam2.structures import FrameMasks, FramePrompt

__all__ = ['VideoPrompting']


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
