"""The three functions of mmdetection and mmsegmentation: build, infer, show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData
from mmengine.visualization import Visualizer
from numpy.typing import NDArray

from ..models import SAM2
from ..structures import PromptMark
from ..visualization.clip_visualizer import write_png
from ..visualization.drawing import Overlay, Picture, draw_overlay
from .automatic_mask_generator import SAM2AutomaticMaskGenerator
from .building import Device, build_sam2, load_model_config, model_of
from .image_predictor import SAM2ImagePredictor
from .inference_io import ImageInput, open_input
from .inferencer import ObjectPrompt, segment_image

ImageLike = str | Path | NDArray[np.uint8]
SHOWN_SIDES = (640, 1920)  # smallest and largest longer side of a picture, in pixels


class PromptableDataSample(BaseDataElement):
    """Masks of an image, in the layout of mmdetection's ``DetDataSample``.

    ``ori_shape``, ``img_path`` (None for an array) and ``prompts`` are meta
    information.

    Attributes:
        pred_instances: ``masks`` (O, height, width), bool; ``scores`` (O,), the
            predicted IoU; ``object_ids`` (O,), int; on the CPU. There are no labels,
            since SAM 2 predicts no classes.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import ObjectPrompt, inference_model, init_model
        >>> model = init_model('sam2_mini_davis', device='cpu')
        >>> box = ObjectPrompt(box=(20, 10, 90, 80))
        >>> result = inference_model(model, np.zeros((96, 128, 3), np.uint8), [box])
        >>> result.ori_shape, result.pred_instances.object_ids
        ((96, 128), tensor([1]))
    """

    pred_instances: InstanceData
    ori_shape: tuple[int, int]
    img_path: str | None
    prompts: tuple[ObjectPrompt, ...]


def init_model(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: Device | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> SAM2:
    """Build a model from a config, as ``mmseg.apis.init_model``.

    Args:
        config: As for :func:`load_model_config`.
        checkpoint: As for :func:`build_sam2`; None leaves the weights random.
        device: By default ``'cuda'`` if there is a GPU, else ``'cpu'``.
        cfg_options: Overrides entries of the config, by their keys joined by dots.

    Returns:
        The model in eval mode, with the config as ``model.cfg``.

    Raises:
        FileNotFoundError: If there is no such config or checkpoint.
        ValueError: If one of them cannot be used; see :func:`build_sam2`.

    Example:
        >>> model = init_model('_base_/models/sam2_1_mini.py', device='cpu')
        >>> model.cfg.model.type
        'SAM2'
    """
    cfg = load_model_config(config)
    if cfg_options:
        cfg = Config(cfg.to_dict(), filename=cfg.filename)
        cfg.merge_from_dict(dict(cfg_options))
    model = build_sam2(cfg, checkpoint, device)
    vars(model)['cfg'] = cfg
    return model


@overload
def inference_model(
    model: SAM2,
    img: ImageLike,
    prompts: Sequence[ObjectPrompt] = (),
    **automatic_masks: Any,
) -> PromptableDataSample: ...


@overload
def inference_model(
    model: SAM2,
    img: Sequence[ImageLike],
    prompts: Sequence[ObjectPrompt] = (),
    **automatic_masks: Any,
) -> list[PromptableDataSample]: ...


def inference_model(
    model: SAM2,
    img: ImageLike | Sequence[ImageLike],
    prompts: Sequence[ObjectPrompt] = (),
    **automatic_masks: Any,
) -> PromptableDataSample | list[PromptableDataSample]:
    """Segment an image or several, as ``mmseg.apis.inference_model``.

    For videos, cameras and folders see :class:`SAM2Inferencer`.

    Args:
        model: From :func:`init_model` or :func:`build_sam2`.
        img: Path or RGB array, (height, width, 3), uint8; or a list of them. Arrays of
            ``mmcv.imread`` and OpenCV are BGR: turn them with ``img[..., ::-1]``.
        prompts: Objects to segment; without any, everything in the image is segmented.
        automatic_masks: Settings of :class:`SAM2AutomaticMaskGenerator`, for images
            without a prompt.

    Returns:
        A result for the image, or a list for a list.

    Raises:
        FileNotFoundError: If there is no such image.
        ValueError: If an image or a prompt cannot be used.

    Example:
        >>> import numpy as np
        >>> model = init_model('_base_/models/sam2_1_mini.py', device='cpu')
        >>> image = np.zeros((96, 128, 3), np.uint8)  # or 'image.jpg'
        >>> result = inference_model(model, image, [ObjectPrompt(box=(20, 10, 90, 80))])
        >>> result.pred_instances.masks.shape
        torch.Size([1, 96, 128])
    """
    sam2 = model_of(model)
    predictor = SAM2ImagePredictor(sam2)
    generator = SAM2AutomaticMaskGenerator(sam2, **automatic_masks)
    is_one = isinstance(img, str | Path) or (
        isinstance(img, np.ndarray) and img.ndim == 3
    )
    images: Any = [img] if is_one else img
    results = []
    for image in images:
        pixels = _read(image)
        frame = segment_image(predictor, generator, pixels, prompts)
        sample = PromptableDataSample(
            metainfo={
                'ori_shape': (pixels.shape[0], pixels.shape[1]),
                'img_path': None if isinstance(image, np.ndarray) else str(image),
                'prompts': tuple(prompts),
            }
        )
        sample.pred_instances = InstanceData(
            masks=torch.from_numpy(frame.masks),
            scores=torch.tensor(frame.ious, dtype=torch.float32),
            object_ids=torch.tensor(frame.object_ids, dtype=torch.int64),
        )
        results.append(sample)
    return results[0] if is_one else results


def show_result_pyplot(
    model: SAM2,
    img: ImageLike,
    result: PromptableDataSample,
    title: str = '',
    wait_time: float = 0,
    show: bool = True,
    out_file: str | Path | None = None,
) -> Picture:
    """Draw masks and prompts over an image, as ``mmseg.apis.show_result_pyplot``.

    Args:
        model: Not used; other projects read the palette from it.
        img: The image that ``result`` is of, as for :func:`inference_model`.
        result: From :func:`inference_model`.
        title: Of the window.
        wait_time: Seconds for which it is shown; 0 until it is closed.
        show: Show it in a window of matplotlib.
        out_file: PNG file to write.

    Returns:
        The picture, (shown height, shown width, 3), RGB.

    Raises:
        ValueError: If the result is of an image of another size.
    """
    del model
    pixels = _read(img)
    if pixels.shape[:2] != tuple(result.ori_shape):
        msg = (
            f'The image is {pixels.shape[0]} x {pixels.shape[1]}, but the result is of '
            f'one of {result.ori_shape[0]} x {result.ori_shape[1]}; give that image'
        )
        raise ValueError(msg)
    marks: list[PromptMark] = [
        mark for prompt in result.prompts for mark in prompt.marks()
    ]
    instances: Any = result.pred_instances  # its fields are dynamic
    overlay = Overlay(
        object_ids=tuple(instances.object_ids.tolist()),
        masks=instances.masks.numpy(),
        prompted_ids=tuple({mark.object_id for mark in marks}),
        marks=tuple(marks),
    )
    least, most = SHOWN_SIDES
    side = min(max(*pixels.shape[:2], least), most)
    picture = draw_overlay(pixels, overlay, long_side=side)
    if out_file is not None:
        write_png(Path(out_file), picture)
    if show:
        Visualizer().show(picture, win_name=title or 'image', wait_time=wait_time)
    return picture


def _read(image: ImageLike) -> NDArray[np.uint8]:
    """Read an image as RGB, (height, width, 3).

    Raises:
        ValueError: If it is a video, or no RGB array.
    """
    with open_input(image, default_name='image') as source:
        if not isinstance(source, ImageInput):
            msg = f'{source.name} is no image; SAM2Inferencer segments videos'
            raise ValueError(msg)
        return source.pixels
