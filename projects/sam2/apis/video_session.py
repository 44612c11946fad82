"""Prompts, tracks and shows the objects of a video, frame by frame."""

import torch

from projects.sam2.apis.embedding_cache import EmbeddingCache
from projects.sam2.apis.frame_readers import FrameReader
from projects.sam2.apis.memory_archive import (
    ArchivedMemoryStore,
    ArchiveSpace,
    TensorArchive,
)
from projects.sam2.apis.object_tracking import ObjectTracking
from projects.sam2.apis.video_results import show_frame
from projects.sam2.apis.video_state import (
    PendingAnswer,
    TrackedObject,
    VideoFrameResult,
    VideoOptions,
    VideoState,
)
from projects.sam2.models import SAM2
from projects.sam2.structures import FramePrompt, ImageFeatures

__all__ = ['VideoSession']

LOW_RES_STRIDE = 4


class VideoSession:
    """What a video predictor does, once its input is read and checked.

    Args:
        model: The model.
        options: How videos are prompted, tracked and shown.
    """

    def __init__(self, model: SAM2, options: VideoOptions) -> None:
        self.model = model
        self.options = options
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
    ) -> VideoState:
        """Make the state of a video.

        Args:
            frames: Reads its frames.
            num_frames: Length that the time of object pointers is scaled by; by
                default the number of frames that there are.
            revisits: Keep memories that the running pass has left behind, on disk.

        Returns:
            The state, without objects.
        """

        @torch.no_grad()
        def encode(frame_index: int) -> ImageFeatures:
            pixels = frames.read(frame_index)
            return self.model.encode(self.model.data_preprocessor.frame(pixels))

        return VideoState(
            frames=frames,
            embeddings=EmbeddingCache(
                encode, capacity=self.options.num_cached_embeddings
            ),
            num_frames=frames.num_frames if num_frames is None else num_frames,
            revisits=revisits,
            archive_space=ArchiveSpace() if revisits else None,
        )

    @torch.no_grad()
    def prompt(
        self, state: VideoState, frame_index: int, object_id: int, prompt: FramePrompt
    ) -> VideoFrameResult:
        """Answer a prompt; it is remembered when tracking goes on.

        Args:
            state: State of the video; not changed where something fails.
            frame_index: The frame.
            object_id: The object; a new one where the id is new.
            prompt: All that is said about the object on this frame.

        Returns:
            What is shown on the frame, of all objects.
        """
        features = state.embeddings.get(frame_index)
        one = state.objects.get(object_id)
        if one is None:
            space = state.archive_space
            archive = None if space is None else TensorArchive(space)
            store = ArchivedMemoryStore(archive=archive)
            one = TrackedObject(object_id=object_id, store=store)
        task = self.tracking.prompt_task(one, prompt, frame_index, state.num_frames)
        step = self.tracking.answer(one, features, task)
        state.objects[object_id] = one
        one.prompts[frame_index] = prompt
        one.pending[frame_index] = PendingAnswer(
            step=step,
            task=task,
            conditioning=not task.attends or self.options.corrections_condition,
        )
        return self.show(state, frame_index)

    def check_prompted(self, state: VideoState) -> None:
        """Check that there is something to track.

        Args:
            state: State of the video.

        Raises:
            ValueError: If there is no object, or one without a prompt.
        """
        if not state.objects:
            msg = 'There is no object to track; prompt one on some frame first'
            raise ValueError(msg)
        silent = [
            one.object_id for one in state.objects.values() if not one.is_prompted
        ]
        if silent:
            msg = f'Object {silent[0]} has no prompt left; prompt it, or remove it'
            raise ValueError(msg)

    @torch.no_grad()
    def commit(self, state: VideoState) -> None:
        """Remember all answered prompts.

        Args:
            state: State of the video.
        """
        for one in state.objects.values():
            for frame, answer in tuple(one.pending.items()):
                memory = self.tracking.remember(answer, state.embeddings.get(frame))
                one.store.add(frame, memory, prompted=answer.conditioning)
                if self.options.clear_around_prompts:
                    self._clear_around(one, frame)
                del one.pending[frame]

    @torch.no_grad()
    def step(
        self, state: VideoState, frame_index: int, *, reverse: bool = False
    ) -> VideoFrameResult:
        """Track all objects on one frame.

        Args:
            state: State of the video.
            frame_index: The frame.
            reverse: The pass runs backwards.

        Returns:
            What is shown on the frame.
        """
        self.commit(state)
        query = self.tracking.query(frame_index, state.num_frames, reverse=reverse)
        followed = []
        for one in state.objects.values():
            self.model.tracker.memory_bank.forget(one.store, query)
            if frame_index not in one.store.conditioning:
                followed.append(one)
            elif self.options.clear_around_prompts:
                self._clear_around(one, frame_index)
        if followed:
            features = state.embeddings.get(frame_index)
            memories = self.tracking.follow(followed, features, query)
            for one in followed:
                memory = memories[one.object_id]
                one.store.add(frame_index, memory, prompted=False)
        for one in state.objects.values():
            one.tracked_in_reverse[frame_index] = reverse
            if not state.revisits:
                one.forget_passed(state.embeddings)
        return self.show(state, frame_index)

    def show(self, state: VideoState, frame_index: int) -> VideoFrameResult:
        """Collect the latest answers on a frame.

        Args:
            state: State of the video.
            frame_index: The frame.

        Returns:
            Masks and scores of all objects.
        """
        preprocessor = self.model.data_preprocessor
        height, width = preprocessor.image_size
        return show_frame(
            state,
            frame_index,
            low_res=(height // LOW_RES_STRIDE, width // LOW_RES_STRIDE),
            separate=self.options.non_overlap_masks,
            device=preprocessor.mean.device,
        )

    def _clear_around(self, one: TrackedObject, frame_index: int) -> None:
        """Forget what was tracked within the reach of a prompted frame."""
        bank = self.model.tracker.memory_bank
        reach = bank.stride * bank.num_frames
        for frame in range(frame_index - reach, frame_index + reach + 1):
            one.store.erase(frame)
