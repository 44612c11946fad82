"""The inferencer: segments files, folders, addresses, cameras and arrays."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
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
from ..deployment import is_export
from ..models import SAM2
from ..ops import downsample_logits
from ..structures import PointLabel, PromptMark
from ..visualization import ClipVisualizer, Overlay
from ..visualization.drawing import Picture
from .automatic_mask_generator import SAM2AutomaticMaskGenerator
from .building import (
    FILL_HOLE_AREA,
    Provider,
    build_sam2,
    fitting_config,
    load_model_config,
)
from .image_predictor import SAM2ImagePredictor
from .inference_io import (
    FrameResult,
    ImageInput,
    InferenceInput,
    InferenceResult,
    InferenceSource,
    InferredFrame,
    ResultFiles,
    StreamInput,
    VideoInput,
    check_formats,
    check_not_in_input,
    list_inputs,
    open_input,
)
from .inputs import read_mask, read_whole_number
from .video_predictor import (
    SAM2Stream,
    SAM2VideoPredictor,
    VideoFrameResult,
    VideoState,
)

MASK_PROMPT_LOGIT = 10.0  # of a mask that prompts an image
SHOWN_SIDES = (640, 1920)  # smallest and largest longer side of an overlay, in pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPrompt:
    """Prompt of one object on one frame: points, a box or both, or a mask.

    Example:
        >>> from projects.sam2.apis import ObjectPrompt
        >>> box = ObjectPrompt(object_id=1, box=(60, 30, 130, 120))
        >>> clicks = ObjectPrompt(
        ...     object_id=2, frame_index=40, points=[(95, 70), (20, 20)], labels=[1, 0]
        ... )

    Attributes:
        object_id: Id of the object, from 1.
        frame_index: Position in the video; 0 for an image.
        points: ``(x, y)`` each, in pixels of the image.
        labels: 1 for a point on the object, 0 for a point outside; all 1 if empty.
        box: Corners ``(x, y, x, y)``, or None.
        mask: (height, width), bool, instead of points and box.
        category: Name of the object's class, which results and files repeat; a prompt
            without one does not change that of an earlier prompt.

    Raises:
        ValueError: If there is no prompt, a mask comes with points or a box, or the
            labels, the id or the frame do not fit.
    """

    object_id: int = 1
    frame_index: int = 0
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[int] = ()
    box: Sequence[float] | None = None
    mask: NDArray[np.bool_] | None = None
    category: str = ''

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


@INFERENCERS.register_module()
class SAM2Inferencer(BaseInferencer):
    """Segments images, folders, videos, addresses, cameras or arrays.

    Images go through :class:`SAM2ImagePredictor`, or
    :class:`SAM2AutomaticMaskGenerator` if there is no prompt; videos through
    :class:`SAM2VideoPredictor`, cameras and live addresses through
    :class:`SAM2Stream`.

    .. code:: text

        __call__(inputs)         for each input:
          open_input()             an image, a video or a stream
          forward()                its frames with masks, one by one
          visualize()              overlays
          ResultFiles              overlays and masks in files, if out_dir is given
          postprocess()          predictions and overlays of all inputs

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import ObjectPrompt, SAM2Inferencer
        >>> inferencer = SAM2Inferencer(
        ...     model='_base_/models/sam2_1_mini.py', device='cpu', show_progress=False
        ... )
        >>> video = np.zeros((3, 96, 128, 3), np.uint8)  # or 'clip.mp4'
        >>> results = inferencer(video, prompts=[ObjectPrompt(box=(20, 10, 90, 80))])
        >>> [frame.object_ids for frame in results['predictions'][0].frames]
        [(1,), (1,), (1,)]

    Args:
        model: As for :func:`load_model_config`, or the folder of an exported model;
            None finds the config that fits the weights.
        weights: A checkpoint as for :func:`build_sam2`; None leaves them random.
        device: Device of the model; None selects the best available one.
        show_progress: Show a progress bar.
        automatic_masks: Settings of :class:`SAM2AutomaticMaskGenerator` for inputs
            without a prompt, such as ``dict(points_per_side=16)``.
        compile: As for :func:`build_sam2`.
        fast: As for :func:`build_sam2`.
        provider: Likewise.
        policy: Likewise.

    Raises:
        ValueError: If neither model nor weights are given.
    """

    model: SAM2
    visualizer: ClipVisualizer

    def __init__(
        self,
        *,
        model: str | Path | Config | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        show_progress: bool = True,
        automatic_masks: Mapping[str, Any] | None = None,
        compile: bool = False,  # noqa: A002  as torch and MMEngine name it
        fast: bool = False,
        provider: Provider | None = None,
        policy: str | Path | None = None,
    ) -> None:
        if model is None and weights is not None and is_export(weights):
            model, weights = weights, None
        checkpoint = None if weights is None else str(weights)
        self._build_options: dict[str, Any] = {
            'compile': compile,
            'fast': fast,
            'provider': provider,
            'policy': policy,
        }
        super().__init__(
            model=_config_of(model, checkpoint),
            weights=checkpoint,
            device=device or get_device(),
            scope='mmengine',
            show_progress=show_progress,
        )
        self.image_predictor = SAM2ImagePredictor(self.model)
        self.video_predictor = SAM2VideoPredictor(
            self.model, fill_hole_area=FILL_HOLE_AREA
        )
        self.mask_generator = SAM2AutomaticMaskGenerator(
            self.model, **(automatic_masks or {})
        )

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
            prompts: Prompts for each input. Without any, everything in an image is
                segmented; in a video, everything on the first frame is tracked.
            folder_is_video: A folder holds the frames of one video, not images.
            max_frames: Stop a video or stream after this number of frames.
            return_vis: Return the overlays.
            show: Show each overlay in a window.
            wait_time: Seconds for which it is shown; 0 waits for a key.
            out_dir: Folder for overlays and masks (:class:`ResultFiles`); those of an
                earlier run for an input of the same name are replaced. Without a
                folder, nothing is written.
            pred_formats: Formats of mask files: ``png``, ``json`` and ``npz``.

        Returns:
            ``predictions``, an :class:`InferenceResult` for each input, and
            ``visualization``, its overlays.

        Raises:
            FileNotFoundError: If there is no such file or folder.
            OSError: If no window can be opened to show the overlays.
            ValueError: If an input or a prompt cannot be used.
        """
        others = [prompt for prompt in prompts if not isinstance(prompt, ObjectPrompt)]
        if others:
            msg = f'prompts holds {others[0]!r}; give ObjectPrompt(points=…, labels=…)'
            raise ValueError(msg)
        if str(out_dir):
            check_formats(pred_formats, (prompt.object_id for prompt in prompts))
        return self._infer_all(
            inputs,
            partial(self.forward, prompts=prompts),
            first_frame=min((prompt.frame_index for prompt in prompts), default=0),
            folder_is_video=folder_is_video,
            max_frames=max_frames,
            return_vis=return_vis,
            show=show,
            wait_time=wait_time,
            out_dir=out_dir,
            pred_formats=pred_formats,
        )

    def _infer_all(
        self,
        inputs: InferenceInput | list[InferenceInput],
        forward: Callable[..., Iterator[InferredFrame]],
        *,
        first_frame: int = 0,
        folder_is_video: bool = False,
        max_frames: int | None = None,
        return_vis: bool = False,
        show: bool = False,
        wait_time: float = 0.0,
        out_dir: str | Path = '',
        pred_formats: Collection[str] = ('png', 'json'),
    ) -> dict[str, list[Any]]:
        """Open, segment, draw and write inputs; most options are those of a call.

        Args:
            forward: Segments an open input: ``forward(source, max_frames=…)``.
            first_frame: Videos are tracked from here on.
        """
        if max_frames is not None:
            max_frames = read_whole_number(max_frames, name='max_frames', least=1)
        if show:
            self.visualizer.check_windows()
        folder = Path(out_dir) if str(out_dir) else None
        results: list[InferenceResult] = []
        overlays: list[list[Picture]] = []
        items = list_inputs(inputs, folder_is_video=folder_is_video)
        counts_inputs = self.show_progress and len(items) > 1
        for item in track(items, 'Inputs', disable=not counts_inputs):
            with open_input(item, default_name=f'input_{len(results)}') as source:
                name = _unused_name(source.name, [result.name for result in results])
                files = None
                if folder is not None:
                    if isinstance(item, str | Path):
                        check_not_in_input(item, folder, name)
                    files = ResultFiles(
                        folder,
                        name,
                        pred_formats,
                        frames_per_second=source.frames_per_second,
                    )
                frames = forward(source, max_frames=max_frames)
                if not counts_inputs:
                    frames = self._with_progress(
                        frames, source, first_frame, max_frames
                    )
                result, pictures = self._collect(
                    frames,
                    name,
                    files,
                    is_stream=isinstance(source, StreamInput),
                    show=show,
                    wait_time=wait_time,
                    return_vis=return_vis,
                )
            results.append(result)
            overlays.append(pictures)
        return self.postprocess(results, overlays)

    def forward(  # type: ignore[override]  # a source, not a batch
        self,
        inputs: InferenceSource,
        *,
        prompts: Sequence[ObjectPrompt] = (),
        max_frames: int | None = None,
    ) -> Iterator[InferredFrame]:
        """Segment one open input, frame by frame."""
        if isinstance(inputs, ImageInput):
            image = segment_image(
                self.image_predictor, self.mask_generator, inputs.pixels, prompts
            )
            return iter([image])
        if isinstance(inputs, StreamInput):
            frames = self._track_stream(inputs, prompts)
        else:
            frames = self._track_video(inputs, prompts)
        return islice(frames, max_frames)

    def visualize(  # type: ignore[override]  # one frame at a time
        self,
        inputs: InferredFrame,
        *,
        name: str = '',
        show: bool = False,
        wait_time: float = 0.0,
    ) -> Picture:
        """Draw masks and prompts over a frame, and show it.

        Args:
            inputs: The frame.
            name: Title of the window.
            show: Show the overlay in a window.
            wait_time: Seconds for which it is shown; 0 waits for a key.

        Returns:
            (shown height, shown width, 3), RGB.
        """
        overlay = Overlay(
            object_ids=inputs.object_ids,
            masks=inputs.masks,
            prompted_ids=tuple({mark.object_id for mark in inputs.marks}),
            marks=inputs.marks,
            names=inputs.categories,
        )
        least, most = SHOWN_SIDES
        side = min(max(*inputs.pixels.shape[:2], least), most)
        picture: Picture = self.visualizer.draw_frame(
            inputs.pixels, overlay, long_side=side
        )
        if show:
            # OpenCV's windows keep up with a camera; they expect BGR.
            self.visualizer.show(
                picture[..., ::-1], win_name=name, wait_time=wait_time, backend='cv2'
            )
        return picture

    def postprocess(  # type: ignore[override]  # records
        self, preds: list[InferenceResult], visualization: list[list[Picture]]
    ) -> dict[str, list[Any]]:
        """Pack results and overlays under the names that MM projects use."""
        return {'predictions': preds, 'visualization': visualization}

    # ------------------------------------------------------------ videos

    @torch.no_grad()
    def _track_video(
        self, video: VideoInput, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[InferredFrame]:
        """Track objects through a video from the first prompted frame on."""
        predictor = self.video_predictor
        # The video is not revisited, so old memories are not offloaded, unless their
        # masks are not final yet.
        state = predictor.open(video.frames, revisits=predictor.is_delayed)
        prompts = prompts or self._prompts_for_everything(video.frames.read(0))
        for prompt in prompts:
            self._add_prompt(state, prompt)
        for result in state.until_final(predictor.propagate_in_video(state)):
            pixels = video.frames.read(result.frame_index)
            yield _inferred_frame(result, pixels, prompts)

    @torch.no_grad()
    def _track_stream(
        self, stream: StreamInput, prompts: Sequence[ObjectPrompt]
    ) -> Iterator[InferredFrame]:
        """Track objects in frames as they arrive; no mask before the first prompt."""
        live = SAM2Stream(self.video_predictor)
        for frame_index, pixels in enumerate(stream.frames):
            result = live.track(pixels)
            if frame_index == 0:
                prompts = prompts or self._prompts_for_everything(pixels)
            for prompt in prompts:
                if prompt.frame_index == frame_index:
                    result = self._add_prompt(live.state, prompt)
            yield _inferred_frame(result, pixels, prompts)

    def _prompts_for_everything(self, pixels: NDArray[np.uint8]) -> list[ObjectPrompt]:
        """Masks of everything in the first frame of a video, as prompts."""
        masks, _ = _segment_everything(self.mask_generator, pixels)
        if not masks:
            msg = (
                f'Nothing was found on the first frame '
                f'({self.mask_generator.explain_nothing()}); or prompt the objects'
            )
            raise ValueError(msg)
        return [
            ObjectPrompt(object_id=object_id, mask=mask)
            for object_id, mask in enumerate(masks, start=1)
        ]

    def _add_prompt(self, state: VideoState, prompt: ObjectPrompt) -> VideoFrameResult:
        frame_index, object_id = prompt.frame_index, prompt.object_id
        if prompt.mask is not None:
            return self.video_predictor.add_new_mask(
                state, frame_index, object_id, prompt.mask
            )
        return self.video_predictor.add_new_points_or_box(
            state,
            frame_index,
            object_id,
            prompt.point_coords,
            prompt.point_labels,
            box=prompt.box,
        )

    # ------------------------------------------------------------------ output

    def _collect(
        self,
        frames: Iterator[InferredFrame],
        name: str,
        files: ResultFiles | None,
        *,
        is_stream: bool,
        show: bool,
        wait_time: float,
        return_vis: bool,
    ) -> tuple[InferenceResult, list[Picture]]:
        """Draw and write frames as they come; Ctrl-C ends a stream and keeps them."""
        results: list[FrameResult] = []
        pictures: list[Picture] = []
        size = (0, 0)
        with files or nullcontext():
            try:
                for frame in frames:
                    size = (frame.pixels.shape[0], frame.pixels.shape[1])
                    if files is not None:
                        files.add_masks(frame)
                    if show or return_vis or files is not None:
                        picture = self.visualize(
                            frame, name=name, show=show, wait_time=wait_time
                        )
                        if files is not None:
                            files.add_overlay(picture)
                        if return_vis:
                            pictures.append(picture)
                    results.append(frame.encoded())
            except KeyboardInterrupt:
                if not is_stream:
                    raise
                print_log(f'{name}: stopped', logger='current')
            result = InferenceResult(name=name, size=size, frames=tuple(results))
            if files is not None:
                files.finish(result)
        return result, pictures

    def _with_progress(
        self,
        frames: Iterator[InferredFrame],
        source: InferenceSource,
        first_frame: int,
        max_frames: int | None,
    ) -> Iterator[InferredFrame]:
        """Show a progress bar over the frames of a video or stream."""
        total = max_frames
        if isinstance(source, VideoInput):
            num_frames = max(source.frames.num_frames - first_frame, 0)
            total = num_frames if max_frames is None else min(num_frames, max_frames)
        hidden = not self.show_progress or isinstance(source, ImageInput)
        return iter(track(frames, source.name, total=total, disable=hidden))

    # --------------------------------------------- called by MMEngine's constructor

    def _init_model(self, cfg: Config, weights: str | None, device: str) -> SAM2:  # type: ignore[override]
        return build_sam2(
            cfg.get('exported', cfg), weights, device, **self._build_options
        )

    def _init_pipeline(self, cfg: Config) -> Callable[[Any], Any]:  # type: ignore[override]
        """Not needed, since the predictors preprocess their images."""
        return lambda source: source

    def _init_collate(self, cfg: Config) -> Callable[[Any], Any]:  # type: ignore[override]
        """Not needed, since inputs are not batched."""
        collate: Callable[[Any], Any] = pseudo_collate
        return collate

    def _init_visualizer(self, cfg: Config) -> ClipVisualizer:  # type: ignore[override]
        """Build the config's type of visualizer, without its backends."""
        kind = cfg.get('visualizer', {}).get('type', 'ClipVisualizer')
        visualizer = super()._init_visualizer(Config({'visualizer': {'type': kind}}))
        if not isinstance(visualizer, ClipVisualizer):
            msg = f'{kind} draws no masks; set visualizer to a ClipVisualizer'
            raise ValueError(msg)
        return visualizer


def segment_image(
    predictor: SAM2ImagePredictor,
    generator: SAM2AutomaticMaskGenerator,
    pixels: NDArray[np.uint8],
    prompts: Sequence[ObjectPrompt],
) -> InferredFrame:
    """Segment the prompted objects of an image, or everything without prompts.

    Raises:
        ValueError: If a prompt is for another frame, or two are for one object.
    """
    if prompts:
        object_ids = [prompt.object_id for prompt in prompts]
        for prompt in prompts:
            if prompt.frame_index:
                msg = f'An image has no frame {prompt.frame_index}; prompt frame 0'
                raise ValueError(msg)
            if object_ids.count(prompt.object_id) > 1:
                msg = f'Object {prompt.object_id} has two prompts; give it one'
                raise ValueError(msg)
        predictor.set_image(pixels)
        segmented = [_segment_object(predictor, prompt) for prompt in prompts]
        masks, ious = [mask for mask, _ in segmented], [iou for _, iou in segmented]
    else:
        masks, ious = _segment_everything(generator, pixels)
        object_ids = list(range(1, len(masks) + 1))
        if not masks:
            why = generator.explain_nothing()
            print_log(f'Nothing was found ({why})', 'current', logging.WARNING)
    empty = np.zeros((0, *pixels.shape[:2]), dtype=bool)
    return InferredFrame(
        frame_index=0,
        pixels=pixels,
        object_ids=tuple(object_ids),
        masks=np.stack(masks) if masks else empty,
        ious=tuple(ious),
        marks=_marks(prompts, 0),
        categories=_categories(prompts, object_ids),
    )


def _segment_object(
    predictor: SAM2ImagePredictor, prompt: ObjectPrompt
) -> tuple[NDArray[np.bool_], float]:
    """The best mask of an object of the image that was set, and its IoU."""
    mask_input = None
    if prompt.mask is not None:
        image = predictor.image(0)
        mask = torch.from_numpy(read_mask(prompt.mask, size=image.size)).float()
        soft = downsample_logits(mask[None, None], image.low_res_size)
        mask_input = ((2 * soft - 1) * MASK_PROMPT_LOGIT)[0]
    masks, ious, _ = predictor.predict(
        prompt.point_coords,
        prompt.point_labels,
        box=prompt.box,
        mask_input=mask_input,
        multimask_output=prompt.box is None and len(prompt.points) == 1,
    )
    best = int(ious.argmax())
    return masks[best], float(ious[best])


def _segment_everything(
    generator: SAM2AutomaticMaskGenerator, pixels: NDArray[np.uint8]
) -> tuple[list[NDArray[np.bool_]], list[float]]:
    """Masks of everything in an image, the most certain first, and their IoU."""
    masks = generator.generate(pixels)
    return (
        [np.asarray(mask['segmentation'], dtype=np.bool_) for mask in masks],
        [mask['predicted_iou'] for mask in masks],
    )


def _inferred_frame(
    result: VideoFrameResult,
    pixels: NDArray[np.uint8],
    prompts: Sequence[ObjectPrompt],
) -> InferredFrame:
    return InferredFrame(
        frame_index=result.frame_index,
        pixels=pixels,
        object_ids=tuple(result.object_ids),
        masks=(result.mask_logits[:, 0] > 0).cpu().numpy(),
        ious=tuple(result.ious.tolist()),
        marks=_marks(prompts, result.frame_index),
        categories=_categories(prompts, result.object_ids),
    )


def _marks(prompts: Sequence[ObjectPrompt], frame_index: int) -> tuple[PromptMark, ...]:
    """The prompts of a frame, to be drawn."""
    return tuple(
        mark
        for prompt in prompts
        if prompt.frame_index == frame_index
        for mark in prompt.marks()
    )


def _categories(
    prompts: Sequence[ObjectPrompt], object_ids: Sequence[int]
) -> tuple[str, ...]:
    """Class of each object; empty if no prompt names one."""
    named = {p.object_id: p.category for p in prompts if p.category}
    return tuple(named.get(number, '') for number in object_ids) if named else ()


def _config_of(model: str | Path | Config | None, weights: str | None) -> Config:
    """The given config, or else the one that fits the weights.

    MMEngine passes it on to :meth:`SAM2Inferencer._init_model`.
    """
    if not isinstance(model, Config | None) and is_export(model):
        return Config({'exported': str(model)})
    if model is not None:
        return load_model_config(model)
    if weights is None:
        msg = 'Neither a model nor weights are given; give at least one of them'
        raise ValueError(msg)
    loaded = CheckpointLoader.load_checkpoint(weights, 'cpu', logger='silent')
    return fitting_config(weights_of(loaded, source=weights), source=weights)


def _unused_name(name: str, used: Collection[str]) -> str:
    """Number a name if an earlier input has it, so that no file is overwritten."""
    candidates = chain([name], (f'{name}_{number}' for number in count(2)))
    return next(candidate for candidate in candidates if candidate not in used)
