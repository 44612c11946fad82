"""Runs the predictors over an image, a video or a stream, as prompts say."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.registry import INFERENCERS
from mmengine.runner import CheckpointLoader
from numpy.typing import NDArray
from rich.progress import track

from ..checkpoints import weights_of
from ..models import SAM2
from ..ops import downsample_logits
from ..structures import PointLabel, PromptMark
from ..visualization import ClipVisualizer, Overlay
from ..visualization.drawing import Picture
from .automatic_mask_generator import SAM2AutomaticMaskGenerator
from .building import FILL_HOLE_AREA, build_sam2, fitting_config, load_model_config
from .image_predictor import SAM2ImagePredictor
from .inference_io import (
    FileSource,
    ImageInput,
    InferenceInput,
    InferenceResult,
    InferredFrame,
    Output,
    StreamInput,
    VideoInput,
    check_ids,
    check_not_in_input,
    list_sources,
    open_source,
)
from .inputs import read_mask, read_whole_number
from .video_predictor import SAM2Stream, SAM2VideoPredictor
from .video_state import VideoFrameResult, VideoState

GIVEN_MASK_LOGIT = 10.0  # of a mask that is given for an image


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPrompt:
    """Prompt of one object on one frame: points, a box or both, or a mask.

    Example:
        >>> box = ObjectPrompt(box=(60, 30, 130, 120))
        >>> clicks = ObjectPrompt(
        ...     object_id=2, points=[(95, 70), (20, 20)], labels=[1, 0]
        ... )

    Attributes:
        object_id: Id of the object, from 1.
        frame_index: Position in the video; 0 for an image.
        points: ``(x, y)`` each, in pixels of the image.
        labels: 1 for each point on the object, 0 for one outside; all 1 if empty.
        box: Corners ``(x, y, x, y)``, or None.
        mask: (height, width), bool, instead of points and box.

    Raises:
        ValueError: If there is no prompt, or a mask and something else; or labels, id
            or frame do not fit.
    """

    object_id: int = 1
    frame_index: int = 0
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[int] = ()
    box: Sequence[float] | None = None
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ('object_id', 'frame_index'):
            number = read_whole_number(getattr(self, name), name=name)
            object.__setattr__(self, name, number)
        name = f'The prompt of object {self.object_id}'
        with_points = len(self.points) > 0 or self.box is not None
        if with_points == (self.mask is not None):
            msg = f'{name} needs points, a box or both; or a mask in place of them'
            raise ValueError(msg)
        if len(self.labels) not in {0, len(self.points)}:
            msg = (
                f'{name} has {len(self.points)} points and {len(self.labels)} labels; '
                f'give one for each, or none where all are on the object'
            )
            raise ValueError(msg)
        if self.object_id < 1 or self.frame_index < 0:
            msg = (
                f'{name} is for frame {self.frame_index}; objects count from 1, '
                f'frames from 0'
            )
            raise ValueError(msg)

    @property
    def point_coords(self) -> NDArray[np.float32] | None:
        """The points, (P, 2), or None if there are none."""
        return np.array(self.points, dtype=np.float32) if len(self.points) else None

    @property
    def point_labels(self) -> NDArray[np.int32] | None:
        """Labels of the points, (P,), or None if there are none."""
        labels = list(self.labels) or [1] * len(self.points)
        return np.array(labels, dtype=np.int32) if labels else None

    def marks(self) -> Iterator[PromptMark]:
        """The corners of the box and the points, to be drawn."""
        if self.box is not None:
            left, top, right, bottom = self.box
            yield self._mark(left, top, PointLabel.BOX_TOP_LEFT)
            yield self._mark(right, bottom, PointLabel.BOX_BOTTOM_RIGHT)
        labels = list(self.labels) or [1] * len(self.points)
        for (x, y), label in zip(self.points, labels, strict=True):
            yield self._mark(x, y, PointLabel(int(label)))

    def _mark(self, x: float, y: float, label: PointLabel) -> PromptMark:
        return PromptMark(object_id=self.object_id, x=float(x), y=float(y), label=label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One object of an image.

    Attributes:
        object_id: As the user calls it.
        mask: (height, width), bool.
        iou: The model's estimate.
        marks: Its prompt.
    """

    object_id: int
    mask: NDArray[np.bool_]
    iou: float
    marks: tuple[PromptMark, ...] = ()


class PromptedInference:
    """The predictors of one model.

    Args:
        model: As :func:`build_sam2` gives it.
        automatic_masks: Settings of :class:`SAM2AutomaticMaskGenerator`, which is used
            where there is no prompt.
    """

    def __init__(
        self, model: SAM2, automatic_masks: Mapping[str, Any] | None = None
    ) -> None:
        self.images = SAM2ImagePredictor(model)
        self.videos = SAM2VideoPredictor(model, fill_hole_area=FILL_HOLE_AREA)
        self.everything = SAM2AutomaticMaskGenerator(model, **(automatic_masks or {}))

    def image(
        self, pixels: NDArray[np.uint8], prompts: Sequence[ObjectPrompt]
    ) -> InferredFrame:
        """Segment the objects of an image.

        Args:
            pixels: (height, width, 3), RGB.
            prompts: One for each object; none asks for everything.

        Returns:
            Their masks.

        Raises:
            ValueError: If a prompt is malformed, of another frame or outside of the
                image, or an object has two.
        """
        if not prompts:
            found = self._everything(pixels)
            if not found:
                why = self.everything.explain_nothing()
                print_log(f'Nothing was found ({why})', 'current', logging.WARNING)
            return _as_frame(0, pixels, found)
        ids = [prompt.object_id for prompt in prompts]
        for prompt in prompts:
            if prompt.frame_index:
                msg = f'An image has no frame {prompt.frame_index}; prompt frame 0'
                raise ValueError(msg)
            if ids.count(prompt.object_id) > 1:
                msg = f'Object {prompt.object_id} has two prompts; give it one'
                raise ValueError(msg)
        self.images.set_image(pixels)
        return _as_frame(0, pixels, [self._object(prompt) for prompt in prompts])

    @torch.no_grad()
    def video(
        self, video: VideoInput, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[InferredFrame]:
        """Track objects through a video.

        Args:
            video: The video.
            prompts: On any frames; none asks for everything on the first.

        Yields:
            Masks of each frame from the first that is prompted.

        Raises:
            ValueError: If a prompt is malformed or outside of the video.
        """
        # Nobody comes back to a frame: what is passed need not be kept on disk.
        state = self.videos.session.open(video.frames, revisits=False)
        if not prompts:
            prompts = self._masks_of(video.frames.read(0))
        for prompt in prompts:
            self._prompt(state, prompt)
        for result in self.videos.propagate_in_video(state):
            pixels = video.frames.read(result.frame_index)
            yield _tracked(result, pixels, prompts)

    @torch.no_grad()
    def stream(
        self, stream: StreamInput, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[InferredFrame]:
        """Track objects in frames as they come.

        Args:
            stream: The stream.
            prompts: On frames to come; none asks for everything on the first.

        Yields:
            Masks of each frame; none before the first prompt.

        Raises:
            ValueError: If a prompt is malformed or outside of the frame.
        """
        live = SAM2Stream(self.videos)
        for index, pixels in enumerate(stream.frames):
            result = live.track(pixels)
            if not index and not prompts:
                prompts = self._masks_of(pixels)
            for prompt in prompts:
                if prompt.frame_index == index:
                    result = self._prompt(live.state, prompt)
            yield _tracked(result, pixels, prompts)

    def _object(self, prompt: ObjectPrompt) -> Found:
        """The best mask of one object of the image that was set."""
        multimask = prompt.box is None and len(prompt.points) == 1
        given = None
        if prompt.mask is not None:
            image = self.images.image(0)
            mask = torch.from_numpy(read_mask(prompt.mask, size=image.size)).float()
            soft = downsample_logits(mask[None, None], image.low_res_size)
            given = ((2 * soft - 1) * GIVEN_MASK_LOGIT)[0]
        masks, ious, _ = self.images.predict(
            prompt.point_coords,
            prompt.point_labels,
            box=prompt.box,
            mask_input=given,
            multimask_output=multimask,
        )
        best = int(ious.argmax())
        return Found(
            object_id=prompt.object_id,
            mask=masks[best],
            iou=float(ious[best]),
            marks=tuple(prompt.marks()),
        )

    def _everything(self, pixels: NDArray[np.uint8]) -> list[Found]:
        """Whatever is in an image, the most certain first."""
        found = self.everything.generate(pixels)
        return [
            Found(
                object_id=number,
                mask=np.asarray(one['segmentation'], dtype=np.bool_),
                iou=one['predicted_iou'],
            )
            for number, one in enumerate(found, start=1)
        ]

    def _masks_of(self, pixels: NDArray[np.uint8]) -> list[ObjectPrompt]:
        """Everything in the first frame of a video, as prompts."""
        found = self._everything(pixels)
        if not found:
            msg = (
                f'Nothing was found on the first frame '
                f'({self.everything.explain_nothing()}); or say where the object is'
            )
            raise ValueError(msg)
        return [ObjectPrompt(object_id=one.object_id, mask=one.mask) for one in found]

    def _prompt(self, state: VideoState, prompt: ObjectPrompt) -> VideoFrameResult:
        """Say something about an object of a video."""
        frame, number = prompt.frame_index, prompt.object_id
        if prompt.mask is not None:
            return self.videos.add_new_mask(state, frame, number, prompt.mask)
        return self.videos.add_new_points_or_box(
            state,
            frame,
            number,
            prompt.point_coords,
            prompt.point_labels,
            box=prompt.box,
        )


def _as_frame(
    index: int, pixels: NDArray[np.uint8], found: Sequence[Found]
) -> InferredFrame:
    """Masks of an image as one record."""
    empty = np.zeros((0, *pixels.shape[:2]), dtype=bool)
    return InferredFrame(
        frame_index=index,
        pixels=pixels,
        object_ids=tuple(one.object_id for one in found),
        masks=np.stack([one.mask for one in found]) if found else empty,
        ious=tuple(one.iou for one in found),
        marks=tuple(mark for one in found for mark in one.marks),
    )


def _tracked(
    result: VideoFrameResult,
    pixels: NDArray[np.uint8],
    prompts: Sequence[ObjectPrompt],
) -> InferredFrame:
    """Masks of a frame as one record."""
    return InferredFrame(
        frame_index=result.frame_index,
        pixels=pixels,
        object_ids=tuple(result.object_ids),
        masks=(result.mask_logits[:, 0] > 0).cpu().numpy(),
        ious=tuple(result.ious.tolist()),
        marks=tuple(
            mark
            for prompt in prompts
            if prompt.frame_index == result.frame_index
            for mark in prompt.marks()
        ),
    )


SHOWN_SIDES = (640, 1920)  # least and most of a picture's longer side, in pixels


@INFERENCERS.register_module()
class SAM2Inferencer(BaseInferencer):
    """Prompts a model with images, folders, videos, addresses, cameras or arrays.

    Images go through :class:`SAM2ImagePredictor`, or
    :class:`SAM2AutomaticMaskGenerator` where there is no prompt; videos through
    :class:`SAM2VideoPredictor`, cameras and live addresses through
    :class:`SAM2Stream`.

    Args:
        model: As for :func:`load_model_config`; None goes by the weights.
        weights: A checkpoint as for :func:`build_sam2`; None leaves them at random.
        device: Where the model goes; None takes the best there is.
        show_progress: Draw a progress bar.
        automatic_masks: Settings of :class:`SAM2AutomaticMaskGenerator`, such as
            ``dict(points_per_side=16, pred_iou_thresh=0.7)``, which is used where
            there is no prompt.

    Raises:
        ValueError: If neither model nor weights are given.
    """

    def __init__(
        self,
        *,
        model: str | Path | Config | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        show_progress: bool = True,
        automatic_masks: Mapping[str, Any] | None = None,
    ) -> None:
        checkpoint = None if weights is None else str(weights)
        config = _config_of(model, checkpoint)
        super().__init__(
            model=config,
            weights=checkpoint,
            device=device or get_device(),
            scope='mmengine',
            show_progress=show_progress,
        )
        self.model: SAM2
        self.visualizer: ClipVisualizer
        self.predictors = PromptedInference(self.model, automatic_masks)

    def __call__(  # type: ignore[override]  # prompts and outputs by name
        self,
        inputs: InferenceInput | list[InferenceInput],
        *,
        prompts: Sequence[ObjectPrompt] = (),
        folder_is_video: bool = False,
        max_frames: int | None = None,
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0.0,
        out_dir: str | Path = '',
        pred_formats: Collection[str] = ('png', 'json'),
    ) -> dict[str, list[Any]]:
        """Segment inputs.

        Args:
            inputs: Paths, addresses, numbers of cameras, or RGB arrays, (height,
                width, 3) for an image and (T, height, width, 3) for a video.
            prompts: For every input; none asks for everything in an image, or on the
                first frame of a video, whose objects are then tracked.
            folder_is_video: A folder holds the frames of one video, not images.
            max_frames: Stop a video or stream after so many frames.
            return_vis: Return the pictures.
            show: Show each picture in a window.
            wait_time: Seconds for which it is shown; 0 waits for a key.
            out_dir: Folder for pictures and masks (:class:`ResultFiles`), which
                replace those of an earlier run for an input of the same name; nothing
                is written where it is empty.
            pred_formats: Files of masks: ``png``, ``json`` and ``npz``.

        Returns:
            ``predictions``, an :class:`InferenceResult` for each input, and
            ``visualization``, its pictures.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            ValueError: If an input or a prompt cannot be used.
        """

        def draw(frame: InferredFrame, name: str) -> Picture:
            return self.visualize(frame, name=name, show=show, wait_time=wait_time)

        if max_frames is not None:
            max_frames = read_whole_number(max_frames, name='max_frames', least=1)
        if str(out_dir):
            check_ids((prompt.object_id for prompt in prompts), pred_formats)
        output = Output(
            folder=Path(out_dir) if str(out_dir) else None,
            formats=pred_formats,
            draw=draw if show or return_vis or str(out_dir) else None,
            keep_pictures=return_vis,
        )
        results: list[InferenceResult] = []
        pictures: list[list[Picture]] = []
        items = self._inputs_to_list(inputs, folder_is_video=folder_is_video)
        bar = self.show_progress and len(items) > 1
        for item in track(items, 'Inputs', disable=not bar):
            with open_source(item, default_name=f'input_{len(results)}') as source:
                name = _unused_name(source.name, [one.name for one in results])
                if output.folder is not None and isinstance(item, str | Path):
                    check_not_in_input(item, output.folder, name)
                frames = self.forward(source, prompts=prompts, max_frames=max_frames)
                if not bar:
                    first = min((p.frame_index for p in prompts), default=0)
                    frames = self._with_progress(
                        frames, source, first_frame=first, max_frames=max_frames
                    )
                result, drawn = output.take(frames, source, name)
            results.append(result)
            pictures.append(drawn)
        return self.postprocess(results, pictures)

    def forward(  # type: ignore[override]  # a source, not a batch
        self,
        inputs: FileSource,
        *,
        prompts: Sequence[ObjectPrompt] = (),
        max_frames: int | None = None,
    ) -> Iterator[InferredFrame]:
        """Segment one input.

        Args:
            inputs: An open input.
            prompts: As for a call.
            max_frames: As for a call.

        Returns:
            Its frames, as they are asked for.
        """
        if isinstance(inputs, ImageInput):
            return iter([self.predictors.image(inputs.pixels, prompts)])
        if isinstance(inputs, StreamInput):
            found = self.predictors.stream(inputs, prompts)
        else:
            found = self.predictors.video(inputs, prompts)
        return islice(found, max_frames)

    def visualize(  # type: ignore[override]  # one frame at a time
        self,
        inputs: InferredFrame,
        *,
        name: str = '',
        show: bool = False,
        wait_time: float = 0.0,
    ) -> Picture:
        """Draw masks and prompts over a frame.

        Args:
            inputs: The frame.
            name: Title of the window.
            show: Show it.
            wait_time: Seconds for which it is shown; 0 waits for a key.

        Returns:
            (shown height, shown width, 3), RGB.
        """
        overlay = Overlay(
            object_ids=inputs.object_ids,
            masks=inputs.masks,
            prompted_ids=tuple({mark.object_id for mark in inputs.marks}),
            marks=inputs.marks,
        )
        least, most = SHOWN_SIDES
        side = min(max(*inputs.pixels.shape[:2], least), most)
        picture: Picture = self.visualizer.draw_frame(
            inputs.pixels, overlay, long_side=side
        )
        if show:
            # OpenCV's windows keep up with a camera; they read BGR.
            self.visualizer.show(
                picture[..., ::-1], win_name=name, wait_time=wait_time, backend='cv2'
            )
        return picture

    def postprocess(  # type: ignore[override]  # records
        self, preds: list[InferenceResult], visualization: list[list[Picture]]
    ) -> dict[str, list[Any]]:
        """Pack what a call returns.

        Args:
            preds: One for each input.
            visualization: Pictures of each input.

        Returns:
            Both, under the names that MM projects give them.
        """
        return {'predictions': preds, 'visualization': visualization}

    def _inputs_to_list(  # type: ignore[override]  # folders of two kinds
        self,
        inputs: InferenceInput | list[InferenceInput],
        *,
        folder_is_video: bool = False,
    ) -> list[InferenceInput]:
        """Take folders and lists apart."""
        return list_sources(inputs, folder_is_video=folder_is_video)

    def _init_model(self, cfg: Config, weights: str | None, device: str) -> SAM2:  # type: ignore[override]
        """Build the model; the weights are checked against it."""
        return build_sam2(cfg, weights, device)

    def _init_pipeline(self, cfg: Config) -> Callable[[Any], Any]:  # type: ignore[override]
        """None is needed: the predictors prepare what they are given."""
        return lambda source: source

    def _init_collate(self, cfg: Config) -> Callable[[Any], Any]:  # type: ignore[override]
        """None is needed: inputs are of any sizes, and go one by one."""
        collate: Callable[[Any], Any] = pseudo_collate
        return collate

    def _init_visualizer(self, cfg: Config) -> ClipVisualizer:  # type: ignore[override]
        """The config's kind of visualizer, without a log to write to."""
        kind = cfg.get('visualizer', {}).get('type', 'ClipVisualizer')
        bare = Config({'visualizer': {'type': kind}})
        visualizer = super()._init_visualizer(bare)
        if not isinstance(visualizer, ClipVisualizer):
            msg = f'{kind} draws no masks; set visualizer to a ClipVisualizer'
            raise ValueError(msg)
        return visualizer

    def _with_progress(
        self,
        frames: Iterator[InferredFrame],
        source: FileSource,
        *,
        first_frame: int,
        max_frames: int | None,
    ) -> Iterator[InferredFrame]:
        """Frames, a bar being drawn meanwhile."""
        total = max_frames
        if isinstance(source, VideoInput):
            # A video is tracked from the first prompted frame on.
            length = max(source.frames.num_frames - first_frame, 0)
            total = length if max_frames is None else min(length, max_frames)
        hidden = not self.show_progress or isinstance(source, ImageInput)
        return iter(track(frames, source.name, total=total, disable=hidden))


def _config_of(model: str | Path | Config | None, weights: str | None) -> Config:
    """The config that is named, or else the one that fits the weights."""
    if model is not None:
        return load_model_config(model)
    if weights is None:
        msg = 'Neither a model nor weights are given; give at least one of them'
        raise ValueError(msg)
    loaded = CheckpointLoader.load_checkpoint(weights, map_location='cpu')
    return fitting_config(weights_of(loaded, source=weights), source=weights)


def _unused_name(name: str, taken: Collection[str]) -> str:
    """A name that no earlier input has: files are not written over."""
    numbered = (f'{name}_{number}' for number in count(2))
    return next(one for one in chain([name], numbered) if one not in taken)
