"""The image predictor: encodes an image once and decodes prompts on it.

::

    set_image ─▶ encode_images ─▶ SAM2.encode, SAM2Tracker.condition_on_memory
    predict   ─▶ read_points, decode_low_res ─▶ prompt encoder, mask decoder
              ─▶ SAM2Transforms.postprocess_masks, at the size of the image
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from ..models.data_preprocessor import ClipDataPreprocessor
from ..models.released_names import Alias
from ..models.tracking.promptable import PromptableModel
from ..ops import (
    at_least_float32,
    boxes_to_points,
    downsample_logits,
    fill_holes,
    remove_specks,
    send_to_device,
    upsample_logits,
)
from ..structures import HighRes, PointPrompt, select_high_res
from .building import ModelLike, build_sam2, find_pretrained, model_of
from .inputs import (
    ImageLike,
    TensorLike,
    read_image,
    read_mask_logits,
    read_number,
    read_points,
    setting,
)

# Masks (bool, or float32 logits), their estimated IoU, and low-resolution logits.
Prediction = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]

LOW_RES_LIMIT = 32.0  # of logits that are returned to be fed back
REPAIRED_MARGIN = 10.0  # from the threshold to the logits of repaired pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImage:
    """Features of an image that the mask decoder needs.

    Attributes:
        embedding: Stride-16 features with the embedding of an empty memory,
            (1, C, H16, W16).
        high_res: Projected features of stride 8 and 4; None if the model has none.
        size: Height and width of the original image.
    """

    embedding: Tensor
    high_res: HighRes
    size: tuple[int, int]

    @property
    def low_res_size(self) -> tuple[int, int]:
        """H4 and W4, the size of the decoder's masks."""
        return 4 * self.embedding.shape[-2], 4 * self.embedding.shape[-1]


class SAM2ImagePredictor:
    """Segments objects in images from points, boxes and masks.

    :meth:`set_image` encodes an image; each :meth:`predict` then only decodes.
    Attributes that the released predictor keeps (``_features``, ``_orig_hw``) may be
    saved and set again.

    Example:
        >>> import numpy as np
        >>> from projects.sam2.apis import SAM2ImagePredictor, build_sam2
        >>> model = build_sam2('_base_/models/sam2_1_mini.py', device='cpu')
        >>> predictor = SAM2ImagePredictor(model)
        >>> predictor.set_image(np.zeros((96, 128, 3), np.uint8))
        >>> masks, ious, low_res = predictor.predict([[64, 48]], [1])
        >>> best = masks[ious.argmax()]
        >>> best.shape, best.dtype
        ((96, 128), dtype('bool'))

    Args:
        sam_model: A model as :func:`build_sam2` returns it, or a video predictor,
            whose model is then shared.
        mask_threshold: Logits above it belong to a mask.
        max_hole_area: Fill holes of up to this area, in pixels of the stride-4 mask.
        max_sprinkle_area: Remove specks of up to this area, in pixels of the stride-4
            mask.
    """

    _features: dict[str, Any] | None
    _orig_hw: list[tuple[int, int]]
    _mask_dtype = torch.bool

    mask_threshold = Alias('_transforms.mask_threshold')
    max_hole_area = Alias('_transforms.max_hole_area')
    max_sprinkle_area = Alias('_transforms.max_sprinkle_area')

    def __init__(
        self,
        sam_model: ModelLike,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
    ) -> None:
        self.model = model_of(sam_model)
        self._transforms = SAM2Transforms(
            self.model.data_preprocessor.image_size,
            mask_threshold,
            max_hole_area,
            max_sprinkle_area,
            preprocessor=self.model.data_preprocessor,
        )
        self.reset_predictor()

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        *,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **options: Any,
    ) -> Self:
        """Build a predictor by its model's id on Hugging Face.

        Args:
            model_id: As for :func:`find_pretrained`.
            mask_threshold: As for the class, like the areas.
            options: Those of :func:`build_sam2`.

        Raises:
            OSError: If there is no such model, or it cannot be fetched.
        """
        model = build_sam2(*find_pretrained(model_id), **options)
        return cls(model, mask_threshold, max_hole_area, max_sprinkle_area)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        device: torch.device = self.model.device
        return device

    def set_image(self, image: ImageLike) -> None:
        """Encode an image; prompts then refer to it.

        Args:
            image: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Raises:
            ValueError: If it is not RGB or not of 8 bits. The previous image stays.
            TypeError: If it is not an image.
        """
        self.set_image_batch([image])

    @torch.no_grad()
    def set_image_batch(self, image_list: Iterable[ImageLike]) -> None:
        """Encode several images in one batch, for :meth:`predict_batch`.

        Args:
            image_list: Images as for :meth:`set_image`, of any sizes.

        Raises:
            ValueError: If the list is empty, or an image is not RGB or not of 8 bits.
                The previous images stay.
            TypeError: If an item of the list is not an image.
        """
        images = [
            read_image(image, name=f'Image {index}')
            for index, image in enumerate(image_list)
        ]
        if not images:
            msg = 'image_list is empty; give at least one image'
            raise ValueError(msg)
        embedding, high_res = encode_images(self.model, images)
        self._features = {
            'image_embed': embedding,  # (B, C, H16, W16)
            'high_res_feats': [*reversed(high_res or ())],  # of stride 4, then 8
        }
        self._orig_hw = [(image.shape[0], image.shape[1]) for image in images]
        self._is_image_set, self._is_batch = True, len(images) > 1

    def predict(
        self,
        point_coords: TensorLike | None = None,
        point_labels: TensorLike | None = None,
        box: TensorLike | None = None,
        mask_input: TensorLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Prediction:
        """Segment one or several objects of the image that was set.

        Args:
            point_coords: (P, 2), ``(x, y)``, or (O, P, 2) for several objects.
            point_labels: (P,) or (O, P), 1 on the object, 0 outside of it.
            box: (4,), corners ``(x, y, x, y)``, or (O, 4) for several objects.
            mask_input: (1, H4, W4), logits that an earlier call returned.
            multimask_output: Return three masks for an ambiguous prompt, not one.
            return_logits: Return logits, not masks.
            normalize_coords: Coordinates are pixels of the image; otherwise shares
                of its sides, in [0, 1].

        Returns:
            Masks (M, height, width), bool or logits; their estimated IoU (M,); and
            logits that may be fed back, (M, H4, W4). For several objects each has a
            leading dimension O.

        Raises:
            RuntimeError: If no image was set.
            ValueError: If a prompt is malformed or outside the image.
        """
        return self._predict_image(
            0,
            (point_coords, point_labels, box, mask_input),
            multimask_output=multimask_output,
            return_logits=return_logits,
            normalize_coords=normalize_coords,
        )

    def predict_batch(
        self,
        point_coords_batch: Sequence[TensorLike | None] | None = None,
        point_labels_batch: Sequence[TensorLike | None] | None = None,
        box_batch: Sequence[TensorLike | None] | None = None,
        mask_input_batch: Sequence[TensorLike | None] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[NDArray[Any]], ...]:
        """Segment each of the images that were set, with its own prompts.

        Each ``..._batch`` has an entry for each image, as :meth:`predict` takes it, or
        is None; the other arguments are those of :meth:`predict`.

        Returns:
            Three lists with an entry for each image: masks, estimated IoU and logits
            that may be fed back.

        Raises:
            RuntimeError: If no image was set.
            ValueError: If a list has the wrong length, or a prompt is malformed.
        """
        self._encoded_features()
        num_images = len(self._orig_hw)
        columns = []
        for name, batch in (
            ('point_coords_batch', point_coords_batch),
            ('point_labels_batch', point_labels_batch),
            ('box_batch', box_batch),
            ('mask_input_batch', mask_input_batch),
        ):
            if batch is not None and len(batch) != num_images:
                msg = (
                    f'{name} has {len(batch)} entries for {num_images} images; give '
                    f'one for each'
                )
                raise ValueError(msg)
            columns.append([None] * num_images if batch is None else batch)
        predictions = [
            self._predict_image(
                index,
                prompt,
                multimask_output=multimask_output,
                return_logits=return_logits,
                normalize_coords=normalize_coords,
            )
            for index, prompt in enumerate(zip(*columns, strict=True))
        ]
        return tuple(list(column) for column in zip(*predictions, strict=True))

    def image(self, index: int) -> EncodedImage:
        """Features of one of the images that were set, -1 for the last.

        Raises:
            RuntimeError: If no image was set.
        """
        features = self._encoded_features()
        high_res = tuple(reversed(features['high_res_feats'])) or None
        rows = slice(index, None if index == -1 else index + 1)  # keeps the dimension
        return EncodedImage(
            embedding=features['image_embed'][rows],
            high_res=select_high_res(high_res, rows),
            size=self._orig_hw[index],
        )

    def get_image_embedding(self) -> Tensor:
        """Embedding of the images that were set, (B, C, H16, W16).

        Raises:
            RuntimeError: If no image was set.
        """
        embedding: Tensor = self._encoded_features()['image_embed']
        return embedding

    def reset_predictor(self) -> None:
        """Discard the images."""
        # Released names, since scripts save these attributes and set them again.
        self._features = None
        self._orig_hw = []
        self._is_image_set = False
        self._is_batch = False

    def _encoded_features(self) -> dict[str, Any]:
        """Features of the images that were set, or an error."""
        if not self._is_image_set or self._features is None:
            msg = 'No image is set; call set_image first'
            raise RuntimeError(msg)
        return self._features

    def _predict_image(
        self,
        index: int,
        prompt: tuple[TensorLike | None, ...],
        *,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> Prediction:
        """Read the prompt of an image, segment, and convert to arrays."""
        image = self.image(index)
        points, labels, box, mask_input = prompt
        shares = read_points(
            points=points,
            labels=labels,
            box=box,
            size=image.size,
            in_pixels=normalize_coords,
        )
        previous = self._read_mask_input(mask_input, image)
        if previous is not None and len(previous) > 1:
            count = len(previous) if shares is None else len(shares.coords)
            if len(previous) != count:
                msg = (
                    f'mask_input has masks of {len(previous)} objects, the points or '
                    f'boxes are of {count}; give one for each, or one for all'
                )
                raise ValueError(msg)
        masks, ious, low_res = self._segment(
            image,
            None
            if shares is None
            else self.model.data_preprocessor.point_prompt(shares),
            previous,
            multimask_output=multimask_output,
            return_logits=return_logits,
        )
        if not return_logits:
            masks = masks.to(self._mask_dtype)
        if len(masks) == 1:
            masks, ious, low_res = masks[0], ious[0], low_res[0]
        return masks.cpu().numpy(), ious.cpu().numpy(), low_res.cpu().numpy()

    def _read_mask_input(
        self, mask_input: TensorLike | None, image: EncodedImage
    ) -> Tensor | None:
        """Read logits that are fed back, (O, 1, H4, W4), on the model's device."""
        if mask_input is None:
            return None
        logits = read_mask_logits(
            mask_input, size=image.low_res_size, name='mask_input'
        )
        return send_to_device(logits, self.device)

    @torch.no_grad()
    def _segment(
        self,
        image: EncodedImage,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        *,
        multimask_output: bool,
        return_logits: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode masks and resize them to the image.

        Returns:
            Masks (O, M, height, width), estimated IoU (O, M), and logits that may be
            fed back, (O, M, H4, W4).
        """
        logits, ious = decode_low_res(
            self.model, image, points, previous_logits, multimask=multimask_output
        )
        masks = self._transforms.postprocess_masks(logits, image.size)
        if not return_logits:
            masks = masks > self.mask_threshold
        return masks, at_least_float32(ious), limit_logits(logits)

    def _prep_prompts(
        self,
        point_coords: TensorLike | None,
        point_labels: TensorLike | None,
        box: TensorLike | None,
        mask_logits: TensorLike | None,
        normalize_coords: bool,
        img_idx: int = -1,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Read prompts for scripts that call the parts of the model, as in the release.

        Returns:
            Masks (O, 1, H4, W4); points (O, P, 2) in pixels of the model's image, and
            labels (O, P); boxes (O, 2, 2). Prompts that are not given are None.
        """
        image = self.image(img_idx)
        units: dict[str, Any] = {'size': image.size, 'in_pixels': normalize_coords}
        points = read_points(
            points=point_coords, labels=point_labels, box=None, **units
        )
        corners = read_points(points=None, labels=None, box=box, **units)
        coords = labels = boxes = None
        if points is not None:
            points = self.model.data_preprocessor.point_prompt(points)
            coords, labels = points.coords, points.labels
        if corners is not None:
            boxes = self.model.data_preprocessor.point_prompt(corners).coords
        return self._read_mask_input(mask_logits, image), coords, labels, boxes

    def _predict(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        img_idx: int = -1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Segment what :meth:`_prep_prompts` returned; see :meth:`_segment`."""
        parts = [] if boxes is None else [boxes_to_points(boxes.reshape(-1, 4))]
        if point_coords is not None and point_labels is not None:
            parts.append(PointPrompt(coords=point_coords, labels=point_labels))
        return self._segment(
            self.image(img_idx),
            reduce(PointPrompt.followed_by, parts) if parts else None,
            mask_input,
            multimask_output=multimask_output,
            return_logits=return_logits,
        )


class SAM2Transforms:
    """Pre- and postprocessing of the released image predictor.

    Args:
        resolution: Side of the model's square images, or (height, width).
        mask_threshold: Logits above it belong to a mask.
        max_hole_area: Fill holes of up to this area, in pixels of the stride-4 mask.
        max_sprinkle_area: Remove specks of up to this area, in pixels of the stride-4
            mask.
        preprocessor: Normalises images; by default as released models expect it.
    """

    mask_threshold: float = setting(read_number)
    max_hole_area: float = setting(read_number)
    max_sprinkle_area: float = setting(read_number)

    def __init__(
        self,
        resolution: int | tuple[int, int],
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        *,
        preprocessor: ClipDataPreprocessor | None = None,
    ) -> None:
        self.resolution = resolution
        size = (resolution, resolution) if isinstance(resolution, int) else resolution
        self.preprocessor = preprocessor or ClipDataPreprocessor(image_size=size)
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area

    def __call__(self, x: ImageLike) -> Tensor:
        """Resize and normalise an image to (3, H, W)."""
        image = read_image(x, name='The image')
        return preprocess_image(self.preprocessor, image)[0]

    def forward_batch(self, img_list: Sequence[ImageLike]) -> Tensor:
        """Resize and normalise images of any sizes to (B, 3, H, W)."""
        return torch.stack([self(image) for image in img_list])

    def transform_coords(
        self,
        coords: Tensor,
        normalize: bool = False,
        orig_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Scale points to the model's image, without clamping.

        Args:
            coords: (..., 2), ``(x, y)``.
            normalize: The points are pixels of the image, not shares of its sides.
            orig_hw: Height and width of the image.

        Returns:
            (..., 2), pixels.

        Raises:
            ValueError: If pixels come without the size of the image.
        """
        height, width = self.preprocessor.image_size
        if normalize:
            if orig_hw is None:
                msg = 'normalize=True needs orig_hw, (height, width) of the image'
                raise ValueError(msg)
            coords = coords / coords.new_tensor([orig_hw[1], orig_hw[0]])
        return coords * coords.new_tensor([width, height])

    def transform_boxes(
        self,
        boxes: Tensor,
        normalize: bool = False,
        orig_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Scale boxes (..., 4) to the model's image.

        Returns:
            (O, 2, 2), corners in pixels.
        """
        return self.transform_coords(boxes.reshape(-1, 2, 2), normalize, orig_hw)

    def postprocess_masks(self, masks: Tensor, orig_hw: tuple[int, int]) -> Tensor:
        """Repair logits (O, M, H4, W4) and resize them to (O, M, height, width)."""
        repaired = repair_masks(
            at_least_float32(masks),
            threshold=self.mask_threshold,
            max_hole_area=self.max_hole_area,
            max_speck_area=self.max_sprinkle_area,
        )
        return upsample_logits(repaired, (orig_hw[0], orig_hw[1]))


def preprocess_image(
    preprocessor: ClipDataPreprocessor, image: NDArray[np.uint8]
) -> Tensor:
    """Resize and normalise an RGB image to (1, 3, H, W), as the released predictor."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    on_device = send_to_device(pixels[None], preprocessor.mean.device).float()
    return preprocessor.normalise(downsample_logits(on_device, preprocessor.image_size))


def encode_images(
    model: PromptableModel, images: Sequence[NDArray[np.uint8]]
) -> tuple[Tensor, HighRes]:
    """Encode RGB images (height, width, 3) of any sizes in one batch.

    Returns:
        The embedding with that of an empty memory, (B, C, H16, W16), and the projected
        features of stride 8 and 4, if the model has any.
    """
    preprocessor = model.data_preprocessor
    pixels = torch.cat([preprocess_image(preprocessor, image) for image in images])
    features = model.encode(pixels)
    embedding = model.tracker.condition_on_memory(features, None)
    return embedding, features.high_res


def decode_low_res(
    model: PromptableModel,
    image: EncodedImage,
    points: PointPrompt | None,
    previous_logits: Tensor | None,
    *,
    multimask: bool,
) -> tuple[Tensor, Tensor]:
    """Decode prompts on an image.

    Args:
        model: The model.
        image: Features of the image.
        points: Points and boxes in pixels of the model's image, or None.
        previous_logits: Masks that are fed back, (O | 1, 1, H4, W4), or None.
        multimask: Decode three masks for an ambiguous prompt, not one.

    Returns:
        Mask logits (O, M, H4, W4) and their estimated IoU (O, M).
    """
    return model.heads.decode_image(
        embedding=image.embedding,
        high_res=image.high_res,
        points=points,
        previous_logits=previous_logits,
        multimask=multimask,
    )


def limit_logits(logits: Tensor) -> Tensor:
    """Clamp mask logits to the range in which they may be fed back."""
    return logits.clamp(-LOW_RES_LIMIT, LOW_RES_LIMIT)


def repair_masks(
    logits: Tensor,
    *,
    threshold: float = 0.0,
    max_hole_area: float = 0.0,
    max_speck_area: float = 0.0,
) -> Tensor:
    """Fill small holes and remove small specks of masks.

    Both are detected in the original masks, so neither affects the other.

    Args:
        logits: (O, M, H4, W4).
        threshold: Logits above it belong to a mask.
        max_hole_area: Largest area of a hole that is filled, in pixels.
        max_speck_area: Largest area of a speck that is removed, in pixels.
    """
    repaired = logits
    if max_hole_area > 0:
        repaired = fill_holes(
            logits,
            max_area=max_hole_area,
            value=threshold + REPAIRED_MARGIN,
            threshold=threshold,
        )
    if max_speck_area > 0:
        cleaned = remove_specks(
            logits,
            max_area=max_speck_area,
            value=threshold - REPAIRED_MARGIN,
            threshold=threshold,
        )
        repaired = torch.where(cleaned == logits, repaired, cleaned)
    return repaired
