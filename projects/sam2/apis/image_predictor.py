"""Encodes images once and decodes prompts on them, on the device."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from ..models import SAM2
from ..models.data_preprocessor import ClipDataPreprocessor
from ..ops import (
    at_least_float32,
    boxes_to_points,
    downsample_logits,
    fill_holes,
    remove_specks,
    upsample_logits,
)
from ..structures import PointPrompt
from .building import (
    ModelLike,
    build_sam2,
    find_pretrained,
    model_of,
)
from .inputs import (
    ImageLike,
    Setting,
    TensorLike,
    check_counts,
    one_for_each,
    read_image,
    read_mask_logits,
    read_number,
    read_points,
)

# Logits that are handed out and may be fed back stay in this range.
LOW_RES_LIMIT = 32.0
# How far from the threshold closed holes and dropped specks come to lie.
REPAIRED_MARGIN = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedImage:
    """An image, ready to be prompted.

    Attributes:
        embedding: Stride-16 features as those of a video without memory,
            (1, C, H16, W16).
        high_res: Features of stride 8 and 4, projected for the decoder.
        size: Height and width of the image that was given.
    """

    embedding: Tensor
    high_res: tuple[Tensor, Tensor]
    size: tuple[int, int]

    @property
    def cells(self) -> tuple[int, int]:
        """H16 and W16."""
        return self.embedding.shape[-2], self.embedding.shape[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowResMasks:
    """Masks of one image, before they are repaired and enlarged.

    Attributes:
        logits: (O, M, H4, W4).
        ious: Estimated IoU of each mask, (O, M).
    """

    logits: Tensor
    ious: Tensor

    @property
    def fed_back(self) -> Tensor:
        """Logits that may be fed back, in a limited range, (O, M, H4, W4)."""
        return self.logits.clamp(-LOW_RES_LIMIT, LOW_RES_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskRepair:
    """Closes small holes and drops small parts of masks.

    Attributes:
        threshold: Masks are where logits exceed it.
        max_hole_area: Close holes of up to so many pixels of the stride-4 mask.
        max_speck_area: Drop parts of up to so many pixels of the stride-4 mask.
    """

    threshold: float = 0.0
    max_hole_area: float = 0.0
    max_speck_area: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        """Repair masks.

        Args:
            logits: (O, M, H4, W4).

        Returns:
            (O, M, H4, W4); holes and parts are both looked for in ``logits``.
        """
        repaired = logits
        if self.max_hole_area > 0:
            repaired = fill_holes(
                logits,
                max_area=self.max_hole_area,
                value=self.threshold + REPAIRED_MARGIN,
                threshold=self.threshold,
            )
        if self.max_speck_area > 0:
            cleaned = remove_specks(
                logits,
                max_area=self.max_speck_area,
                value=self.threshold - REPAIRED_MARGIN,
                threshold=self.threshold,
            )
            repaired = torch.where(cleaned == logits, repaired, cleaned)
        return repaired


def preprocess_image(
    preprocessor: ClipDataPreprocessor, image: NDArray[np.uint8]
) -> Tensor:
    """Resize and normalise an image as the released image predictor does.

    Args:
        preprocessor: Of the model.
        image: (height, width, 3), RGB.

    Returns:
        (1, 3, H, W), on the device of the preprocessor.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    on_device = pixels[None].to(preprocessor.mean.device).float()
    return preprocessor.normalise(downsample_logits(on_device, preprocessor.image_size))


def encode_images(
    model: SAM2, images: Sequence[NDArray[np.uint8]]
) -> tuple[EncodedImage, ...]:
    """Encode images in one batch.

    Args:
        model: The model.
        images: Each (height, width, 3), RGB, of any size.

    Returns:
        One for each image.
    """
    preprocessor = model.data_preprocessor
    pixels = torch.cat([preprocess_image(preprocessor, image) for image in images])
    features = model.encode(pixels)
    embedding = model.tracker.condition_on_memory(features, None)
    return tuple(
        EncodedImage(
            embedding=embedding[index : index + 1],
            high_res=(
                features.high_res_8[index : index + 1],
                features.high_res_4[index : index + 1],
            ),
            size=(image.shape[0], image.shape[1]),
        )
        for index, image in enumerate(images)
    )


def points_of_model(model: SAM2, shares: PointPrompt) -> PointPrompt:
    """Points as the model reads them.

    Args:
        model: The model.
        shares: Coordinates as shares of the sides.

    Returns:
        Coordinates in pixels of the frame that the model sees, on its device.
    """
    preprocessor = model.data_preprocessor
    height, width = preprocessor.image_size
    scaled = shares.coords * shares.coords.new_tensor([width, height])
    device = preprocessor.mean.device
    return PointPrompt(coords=scaled.to(device), labels=shares.labels.to(device))


def decode_low_res(
    model: SAM2,
    image: EncodedImage,
    *,
    points: PointPrompt | None,
    previous_logits: Tensor | None,
    multimask: bool,
) -> LowResMasks:
    """Answer prompts on an image; object scores are not asked.

    Args:
        model: The model.
        image: The image.
        points: Points and boxes as shares of the sides, or None.
        previous_logits: Masks of an earlier answer, (O | 1, 1, H4, W4), or None.
        multimask: Give three masks for an ambiguous prompt, not one.

    Returns:
        Masks as the decoder gives them.
    """
    embedded = model.prompt_encoder(
        points=None if points is None else points_of_model(model, points),
        mask_logits=previous_logits,
        embedding_size=image.cells,
        num_objects=1 if points is None else len(points.coords),
    )
    answer = model.mask_decoder(
        embedding=image.embedding,
        position=model.prompt_encoder.dense_position(image.cells),
        prompts=embedded,
        high_res=image.high_res,
        multimask=multimask,
        select_by_stability=True,
    )
    return LowResMasks(logits=at_least_float32(answer.mask_logits), ious=answer.ious)


class SAM2Transforms:
    """What the released image predictor does before and after the model.

    Args:
        resolution: Side of the square images that the model sees, or (height, width).
        mask_threshold: Masks are where logits exceed it.
        max_hole_area: Close holes of up to so many pixels of the stride-4 mask.
        max_sprinkle_area: Drop parts of up to so many pixels of the stride-4 mask.
        preprocessor: Normalises images; by default as released models expect it.
    """

    mask_threshold = Setting('repair', 'threshold', read_number)
    max_hole_area = Setting('repair', 'max_hole_area', read_number)
    max_sprinkle_area = Setting('repair', 'max_speck_area', read_number)

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
        self.repair = MaskRepair()
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area

    def __call__(self, x: ImageLike) -> Tensor:
        """Prepare an image.

        Args:
            x: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            (3, H, W), normalised.
        """
        image = read_image(x, name='The image')
        return preprocess_image(self.preprocessor, image)[0]

    def forward_batch(self, img_list: Sequence[ImageLike]) -> Tensor:
        """Prepare images of any sizes.

        Args:
            img_list: Each as for a call.

        Returns:
            (B, 3, H, W), normalised.
        """
        return torch.stack([self(image) for image in img_list])

    def transform_coords(
        self,
        coords: Tensor,
        normalize: bool = False,
        orig_hw: tuple[int, int] | None = None,
    ) -> Tensor:
        """Scale points to the image that the model sees, without clamping.

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
        """Scale boxes to the image that the model sees.

        Args:
            boxes: (..., 4), corners ``(x, y, x, y)``.
            normalize: As for :meth:`transform_coords`.
            orig_hw: As for :meth:`transform_coords`.

        Returns:
            (O, 2, 2), corners in pixels.
        """
        return self.transform_coords(boxes.reshape(-1, 2, 2), normalize, orig_hw)

    def postprocess_masks(self, masks: Tensor, orig_hw: tuple[int, int]) -> Tensor:
        """Repair masks and enlarge them.

        Args:
            masks: (O, M, H4, W4), logits.
            orig_hw: Height and width of the image.

        Returns:
            (O, M, height, width), logits.
        """
        repaired = self.repair(at_least_float32(masks))
        return upsample_logits(repaired, (orig_hw[0], orig_hw[1]))


# Masks are bool, or float32 where logits are asked for.
Prediction = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]


class ReleasedFeatures(TypedDict):
    """Features of the images that were set, as scripts know them.

    Attributes:
        image_embed: (B, C, H16, W16).
        high_res_feats: Projected for the decoder: of stride 4, (B, C / 8, H4, W4), and
            of stride 8, (B, C / 4, H8, W8).
    """

    image_embed: Tensor
    high_res_feats: list[Tensor]


class SAM2ImagePredictor:
    """Encodes an image once and answers prompts on it.

    Args:
        sam_model: As :func:`build_sam2` gives it, or a video predictor, whose model is
            then shared.
        mask_threshold: Masks are where logits exceed it.
        max_hole_area: Close holes of up to so many pixels (of the stride-4 mask); 0
            leaves them.
        max_sprinkle_area: Drop parts of up to so many pixels (of the stride-4 mask);
            0 keeps them.
    """

    _features: ReleasedFeatures | None
    _orig_hw: list[tuple[int, int]]

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

    mask_threshold = Setting('repair', 'threshold', read_number)
    max_hole_area = Setting('repair', 'max_hole_area', read_number)
    max_sprinkle_area = Setting('repair', 'max_speck_area', read_number)

    @property
    def repair(self) -> MaskRepair:
        """How masks are repaired before they are enlarged."""
        return self._transforms.repair

    @repair.setter
    def repair(self, value: MaskRepair) -> None:
        self._transforms.repair = value

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
        """Make a predictor by its model's name on Hugging Face.

        Args:
            model_id: See :func:`find_pretrained`.
            mask_threshold: See the class.
            max_hole_area: Likewise.
            max_sprinkle_area: Likewise.
            options: Those of :func:`build_sam2`.

        Returns:
            The predictor.

        Raises:
            OSError: If there is no such model, or no way to it.
        """
        model = build_sam2(*find_pretrained(model_id), **options)
        return cls(model, mask_threshold, max_hole_area, max_sprinkle_area)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def set_image(self, image: ImageLike) -> None:
        """Encode an image; prompts then refer to it.

        Args:
            image: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Raises:
            ValueError: If it is not RGB or not of 8 bits. The image before stays.
            TypeError: If it is no image at all.
        """
        self.set_image_batch([image])

    @torch.no_grad()
    def set_image_batch(self, image_list: Iterable[ImageLike]) -> None:
        """Encode several images in one batch, for :meth:`predict_batch`.

        Args:
            image_list: Images as for :meth:`set_image`, of any sizes.

        Raises:
            ValueError: If there is none, or one is not RGB or not of 8 bits. The
                images before stay.
            TypeError: If one is no image at all.
        """
        images = [
            read_image(image, name=f'Image {index}')
            for index, image in enumerate(image_list)
        ]
        if not images:
            msg = 'image_list is empty; give at least one image'
            raise ValueError(msg)
        encoded = encode_images(self.model, images)
        high_res_8, high_res_4 = zip(*(img.high_res for img in encoded), strict=True)
        self._features = ReleasedFeatures(
            image_embed=_batch([img.embedding for img in encoded]),
            high_res_feats=[_batch(high_res_4), _batch(high_res_8)],
        )
        self._orig_hw = [img.size for img in encoded]
        self._is_image_set, self._is_batch = True, len(encoded) > 1

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
        """Segment what the prompt means on the image that was set.

        Args:
            point_coords: (P, 2), ``(x, y)``, or (O, P, 2) for several objects.
            point_labels: (P,) or (O, P), 1 on the object, 0 outside of it.
            box: (4,), corners ``(x, y, x, y)``, or (O, 4) for several objects.
            mask_input: (1, H4, W4), logits of an earlier answer.
            multimask_output: Give three masks for an ambiguous prompt, not one.
            return_logits: Give logits, not masks.
            normalize_coords: Coordinates are pixels of the image; otherwise shares
                of its sides, in [0, 1].

        Returns:
            Masks (M, height, width), bool or logits; their estimated IoU (M,); and
            logits to be fed back (M, H4, W4). For several objects all have O before.

        Raises:
            RuntimeError: If no image was set.
            ValueError: If a prompt is malformed or outside of the image.
        """
        decoded = self._decode(
            self.image(0),
            (point_coords, point_labels, box),
            mask_input,
            multimask=multimask_output,
            in_pixels=normalize_coords,
        )
        return self._as_arrays(decoded, self.image(0), return_logits=return_logits)

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
        """Segment each of the images that were set, by its own prompts.

        Args:
            point_coords_batch: For each image as for :meth:`predict`.
            point_labels_batch: For each image as for :meth:`predict`.
            box_batch: For each image as for :meth:`predict`.
            mask_input_batch: For each image as for :meth:`predict`.
            multimask_output: Give three masks for an ambiguous prompt, not one.
            return_logits: Give logits, not masks.
            normalize_coords: Coordinates are pixels of the images.

        Returns:
            Three lists, one entry for each image: masks, estimated IoU and logits to
            be fed back.

        Raises:
            RuntimeError: If no image was set.
            ValueError: If a list has the wrong length, or a prompt is malformed.
        """
        self.image(0)
        columns = [
            one_for_each(batch, len(self._orig_hw), name)
            for batch, name in (
                (point_coords_batch, 'point_coords_batch'),
                (point_labels_batch, 'point_labels_batch'),
                (box_batch, 'box_batch'),
                (mask_input_batch, 'mask_input_batch'),
            )
        ]
        answers = []
        for index, (coords, labels, box, mask) in enumerate(zip(*columns, strict=True)):
            decoded = self._decode(
                self.image(index),
                (coords, labels, box),
                mask,
                multimask=multimask_output,
                in_pixels=normalize_coords,
            )
            answers.append(
                self._as_arrays(decoded, self.image(index), return_logits=return_logits)
            )
        return tuple(list(column) for column in zip(*answers, strict=True))

    def image(self, index: int) -> EncodedImage:
        """Look up an image that was set.

        Args:
            index: Its position, -1 for the last.

        Returns:
            The encoded image.

        Raises:
            RuntimeError: If no image was set.
        """
        if not self._is_image_set or self._features is None:
            msg = 'No image is set; call set_image first'
            raise RuntimeError(msg)
        high_res_4, high_res_8 = self._features['high_res_feats']
        own = slice(index, None if index == -1 else index + 1)
        return EncodedImage(
            embedding=self._features['image_embed'][own],
            high_res=(high_res_8[own], high_res_4[own]),
            size=self._orig_hw[index],
        )

    def get_image_embedding(self) -> Tensor:
        """Embedding of the images that were set.

        Returns:
            (B, C, H16, W16), B being 1 after :meth:`set_image`.

        Raises:
            RuntimeError: If no image was set.
        """
        self.image(0)
        return cast('ReleasedFeatures', self._features)['image_embed']

    def reset_predictor(self) -> None:
        """Forget the images."""
        # Released names, since scripts save these attributes and set them again.
        self._features = None
        self._orig_hw = []
        self._is_image_set = False
        self._is_batch = False

    def _prep_prompts(
        self,
        point_coords: TensorLike | None,
        point_labels: TensorLike | None,
        box: TensorLike | None,
        mask_logits: TensorLike | None,
        normalize_coords: bool,
        img_idx: int = -1,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Prompts as the model reads them, for scripts that call its parts.

        Returns:
            Masks (O, 1, H4, W4); points (O, P, 2) in pixels of the image that the
            model sees, and labels (O, P); boxes (O, 2, 2). None for what is not given.
        """
        image = self.image(img_idx)
        how: dict[str, Any] = {'size': image.size, 'in_pixels': normalize_coords}
        points = read_points(points=point_coords, labels=point_labels, box=None, **how)
        corners = read_points(points=None, labels=None, box=box, **how)
        mask = None
        if mask_logits is not None:
            mask = self._earlier(mask_logits, image)
        coords = labels = boxes = None
        if points is not None:
            points = points_of_model(self.model, points)
            coords, labels = points.coords, points.labels
        if corners is not None:
            boxes = points_of_model(self.model, corners).coords
        return mask, coords, labels, boxes

    @torch.no_grad()
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
        """Segment what prompts of :meth:`_prep_prompts` mean, in tensors.

        Returns:
            Masks (O, M, height, width), their estimated IoU (O, M), and logits to be
            fed back (O, M, H4, W4).
        """
        image = self.image(img_idx)
        parts = [] if boxes is None else [boxes_to_points(boxes.reshape(-1, 4))]
        if point_coords is not None and point_labels is not None:
            parts.append(PointPrompt(coords=point_coords, labels=point_labels))
        points = reduce(PointPrompt.followed_by, parts) if parts else None
        if points is not None:
            height, width = self.model.data_preprocessor.image_size
            extent = points.coords.new_tensor([width, height])
            points = PointPrompt(coords=points.coords / extent, labels=points.labels)
        decoded = decode_low_res(
            self.model,
            image,
            points=points,
            previous_logits=mask_input,
            multimask=multimask_output,
        )
        masks = self._transforms.postprocess_masks(decoded.logits, image.size)
        if not return_logits:
            masks = masks > self.mask_threshold
        return masks, at_least_float32(decoded.ious), decoded.fed_back

    @torch.no_grad()
    def _decode(
        self,
        image: EncodedImage,
        prompt: tuple[TensorLike | None, TensorLike | None, TensorLike | None],
        mask_input: TensorLike | None,
        *,
        multimask: bool,
        in_pixels: bool,
    ) -> LowResMasks:
        """Check points, labels, boxes and an earlier mask, and decode."""
        points, labels, box = prompt
        prompt_points = read_points(
            points=points, labels=labels, box=box, size=image.size, in_pixels=in_pixels
        )
        earlier = None
        if mask_input is not None:
            earlier = self._earlier(mask_input, image)
            check_counts(earlier, prompt_points)
        return decode_low_res(
            self.model,
            image,
            points=prompt_points,
            previous_logits=earlier,
            multimask=multimask,
        )

    def _earlier(self, mask_input: TensorLike, image: EncodedImage) -> Tensor:
        """An earlier mask, (O, 1, H4, W4), on the model's device."""
        low_res = (4 * image.cells[0], 4 * image.cells[1])
        earlier = read_mask_logits(mask_input, size=low_res, name='mask_input')
        return earlier.to(self.device)

    def _as_arrays(
        self, decoded: LowResMasks, image: EncodedImage, *, return_logits: bool
    ) -> Prediction:
        """Convert to arrays, without the dimension of objects for a single object."""
        masks = upsample_logits(self.repair(decoded.logits), image.size)
        if not return_logits:
            masks = masks > self.repair.threshold
        parts = (masks, decoded.ious.float(), decoded.fed_back)
        is_single = len(masks) == 1
        first, second, third = ((p[0] if is_single else p).cpu().numpy() for p in parts)
        return first, second, third


def _batch(parts: Sequence[Tensor]) -> Tensor:
    """Features of all images, (1, C, h, w) each, as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
