"""The five graphs of an exported SAM 2.

================  ======================================================================
``encode``        an image becomes features
``decode``        features and prompts become masks, scores and object pointers
``mask_prompt``   features and a given mask become an object pointer
``attend``        features attend to the memories and pointers of other frames
``remember``      features and a mask become a spatial memory
================  ======================================================================

An image takes ``encode``, then ``decode`` for each prompt. A frame of a video takes
``encode``; then ``attend`` (or the embedding without memory, on the first prompted
frames) and ``decode``, or ``mask_prompt`` alone; then ``remember``. Which memories are
kept and attended to is up to the caller: the graphs have no state.

Each graph is a module that calls the functions of the model. ``inputs`` and ``outputs``
name its tensors, from which exporters, the manifest and the docs take them. All
objects of a call are on one frame, and the size of the image is fixed.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..models import SAM2, SAM2Tracker
from ..models.memory_encoder import MASK_STRIDE
from ..models.prompt_encoder import PromptEmbeddings
from ..structures import PointLabel, PointPrompt, TrackingMode
from .manifest import TensorSpec

# Dimensions that each call chooses, and the smallest size of each.
FREE_DIMENSIONS = {'O': 1, 'R': 1, 'K': 0, 'P': 0}

EMBEDDING = TensorSpec.of('embedding', '1 C H16 W16')
HIGH_RES = (
    TensorSpec.of('high_res_8', '1 C/4 H8 W8'),
    TensorSpec.of('high_res_4', '1 C/8 H4 W4'),
)


KEY_SCALES = (
    TensorSpec.of('memory_key_scales', 'O R'),
    TensorSpec.of('pointer_key_scales', 'O K'),
)


class SAM2Graph(nn.Module):
    """A graph of a model, to be exported.

    Args:
        model: The model, in evaluation mode; the graph shares its weights.

    Attributes:
        inputs: Inputs, in the order of ``forward``. Letters of their shapes are those
            of :mod:`..structures` and R memories, K pointers and P points of each
            object.
        outputs: Outputs, in the order of the tuple that ``forward`` returns.

    A graph of a model without high-resolution features lacks those of the class;
    memories have the shape that the tracker states; ``attend`` of a model whose memory
    bank scales keys takes :data:`KEY_SCALES` too.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(self, model: SAM2) -> None:
        super().__init__()
        self.model = model
        has_high_res = model.mask_decoder.high_res_projections is not None
        self.inputs, self.outputs = (
            tuple(
                _with_memory_shape(spec, model.tracker.memory_shape)
                for spec in specs
                if has_high_res or spec not in HIGH_RES
            )
            for specs in (self.inputs, self.outputs)
        )

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the graph with inputs and outputs by name."""
        outputs = self(**inputs)
        return {
            spec.name: output
            for spec, output in zip(self.outputs, outputs, strict=True)
        }


def _with_memory_shape(spec: TensorSpec, shape: tuple[str, ...]) -> TensorSpec:
    """Replace the shape of a map, which memories of SAM 2 have."""
    own = SAM2Tracker.memory_shape
    if spec.shape[-len(own) :] != own:
        return spec
    return replace(spec, shape=(*spec.shape[: -len(own)], *shape))


class EncodeGraph(SAM2Graph):
    """Encode an image, normalised by the mean and std of the manifest.

    ``embedding_without_memory`` is what ``decode`` takes on images, and on frames of a
    video that attend to no memory.
    """

    inputs = (TensorSpec.of('image', '1 3 H W'),)
    outputs = (
        EMBEDDING,
        TensorSpec.of('embedding_without_memory', '1 C H16 W16'),
        *HIGH_RES,
    )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the image encoder."""
        features = self.model.encode(image)
        without_memory = self.model.tracker.condition_on_memory(features, None)
        return (features.embedding, without_memory, *(features.high_res or ()))


class DecodeGraph(SAM2Graph):
    """Decode the masks of O objects on an image or a frame.

    The single mask (the best of three where it is unstable, if the model selects so)
    and the three candidates for an ambiguous prompt come from one run of the decoder.
    The pointers are those of the single mask, of the best candidate and of all three.

    ``point_coords`` are ``(x, y)`` in pixels of the model's image, ``point_labels``
    those of ``PointLabel``; a padding point of label -1 follows the points of a prompt.
    On an image, a mask alone has P = 0; on a frame of a video, an object without points
    has two padding points.
    Masks are not yet replaced where ``object_score_logits`` judges an object absent.
    """

    inputs = (
        TensorSpec.of('embedding', 'O C H16 W16'),
        *HIGH_RES,
        TensorSpec.of('point_coords', 'O P 2'),
        TensorSpec.of('point_labels', 'O P', 'int32'),
        TensorSpec.of('mask_input', 'O 1 H4 W4'),
        TensorSpec.of('has_mask_input', 'O', 'bool'),
    )
    outputs = (
        TensorSpec.of('mask_logits', 'O 1 H4 W4'),
        TensorSpec.of('iou', 'O 1'),
        TensorSpec.of('pointer', 'O C'),
        TensorSpec.of('multi_mask_logits', 'O 3 H4 W4'),
        TensorSpec.of('multi_ious', 'O 3'),
        TensorSpec.of('multi_pointer', 'O C'),
        TensorSpec.of('multi_pointers', 'O 3 C'),
        TensorSpec.of('object_score_logits', 'O 1'),
    )

    def forward(
        self,
        *,
        embedding: Tensor,
        high_res_8: Tensor | None = None,
        high_res_4: Tensor | None = None,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run prompt encoder and mask decoder."""
        prompt_encoder, decoder = self.model.prompt_encoder, self.model.mask_decoder
        size = embedding.shape[-2], embedding.shape[-1]
        num_objects = embedding.shape[0]
        points = PointPrompt(coords=point_coords, labels=point_labels)
        high_res = None
        if high_res_8 is not None and high_res_4 is not None:
            high_res = (high_res_8, high_res_4)
        decoded = decoder.decode_all(
            embedding,
            prompt_encoder.dense_position(size),
            PromptEmbeddings(
                sparse=prompt_encoder.embed_points(points, size),
                dense=torch.where(
                    has_mask_input[:, None, None, None],
                    prompt_encoder.embed_masks(mask_input, size, num_objects),
                    prompt_encoder.embed_masks(None, size, num_objects),
                ),
            ),
            high_res,
        )
        single = decoder.select(decoded, multimask=False, select_by_stability=True)
        several = decoder.select(decoded, multimask=True, select_by_stability=False)
        threshold = self.model.tracker.memory_bank.presence_threshold
        present = decoded.object_score_logits > threshold
        to_pointer = self.model.tracker.object_pointer
        pointers = to_pointer(several.mask_tokens, present[:, None])  # (O, 3, C)
        return (
            single.mask_logits,
            single.ious,
            to_pointer(single.mask_tokens[single.best], present),
            several.mask_logits,
            several.ious,
            pointers[several.best],
            pointers,
            decoded.object_score_logits,
        )


class MaskPromptGraph(SAM2Graph):
    """Turn given masks, of 0 and 1, into object pointers.

    The masks themselves are the masks of the frame, so nothing else is decoded. An
    object whose mask is empty, or that the decoder judges absent, gets the no-object
    pointer.
    """

    inputs = (EMBEDDING, TensorSpec.of('mask', 'O 1 H W'))
    outputs = (TensorSpec.of('pointer', 'O C'),)

    def forward(self, embedding: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Run prompt encoder and the transformer of the mask decoder."""
        pointer = self.model.heads.mask_pointer(
            embedding=embedding, mask=mask, mode=TrackingMode.EVALUATION
        )
        return (pointer,)


class AttendGraph(SAM2Graph):
    """Condition a frame on R memories and K pointers of each object.

    ``ages`` are 0 for conditioning frames, else the distance in time, from 1 (adjacent)
    to ``num_frames - 1`` of the memory bank. ``pointer_times`` are distances in time
    over ``max(max_pointers - 1, 1)``, negative for later frames. ``memory_key_scales``
    and ``pointer_key_scales`` are factors of the keys, 1 where nothing is scaled.
    """

    inputs: tuple[TensorSpec, ...] = (
        EMBEDDING,
        TensorSpec.of('memory', 'O R Cm H16 W16'),
        TensorSpec.of('ages', 'R', 'int64'),
        TensorSpec.of('pointers', 'O K C'),
        TensorSpec.of('pointer_times', 'O K'),
    )
    outputs = (TensorSpec.of('conditioned', 'O C H16 W16'),)

    def __init__(self, model: SAM2) -> None:
        super().__init__(model)
        if model.tracker.memory_bank.scales_keys:
            self.inputs = (*self.inputs, *KEY_SCALES)

    def forward(
        self,
        embedding: Tensor,
        memory: Tensor,
        ages: Tensor,
        pointers: Tensor,
        pointer_times: Tensor,
        memory_key_scales: Tensor | None = None,
        pointer_key_scales: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Run the memory attention."""
        key_scales = None
        if memory_key_scales is not None and pointer_key_scales is not None:
            key_scales = (memory_key_scales, pointer_key_scales)
        conditioned = self.model.tracker.condition_on_tensors(
            embedding, memory, ages, pointers, pointer_times, key_scales
        )
        return (conditioned,)


class RememberGraph(SAM2Graph):
    """Encode the masks of a frame as spatial memories.

    ``mask_probs`` are in [0, 1], 16 times as large as ``embedding``: at the size of the
    frame, except for SAM 3. ``present`` says whether the object is in the frame.
    """

    inputs = (
        EMBEDDING,
        TensorSpec.of('mask_probs', 'O 1 Hm Wm'),
        TensorSpec.of('present', 'O 1', 'bool'),
    )
    outputs = (TensorSpec.of('memory', 'O Cm H16 W16'),)

    def forward(
        self, embedding: Tensor, mask_probs: Tensor, present: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the memory encoder."""
        return (self.model.tracker.encode_mask_memory(embedding, mask_probs, present),)


GRAPHS: dict[str, type[SAM2Graph]] = {
    'encode': EncodeGraph,
    'decode': DecodeGraph,
    'mask_prompt': MaskPromptGraph,
    'attend': AttendGraph,
    'remember': RememberGraph,
}


def fixed_sizes(model: SAM2) -> dict[str, int]:
    """Sizes of all dimensions that are not free, by their letters."""
    height, width = model.data_preprocessor.image_size
    rows, columns = (side // model.embedding_stride for side in (height, width))
    pointers = model.tracker.object_pointer
    channels = pointers.embed_dims
    return {
        'C': channels,
        'C/4': channels // 4,
        'C/8': channels // 8,
        'Cm': pointers.memory_dims,
        'H': height,
        'W': width,
        **{f'H{stride}': 16 // stride * rows for stride in (4, 8, 16)},
        **{f'W{stride}': 16 // stride * columns for stride in (4, 8, 16)},
        'Hm': MASK_STRIDE * rows,
        'Wm': MASK_STRIDE * columns,
        **model.tracker.memory_sizes,
    }


@torch.no_grad()
def example_inputs(
    model: SAM2,
    *,
    num_objects: int = 2,
    num_memories: int = 3,
    num_pointers: int = 5,
    num_points: int = 4,
    seed: int = 0,
) -> dict[str, dict[str, Tensor]]:
    """Make inputs of each graph, with the values that a video would give.

    A random image is encoded, decoded and remembered by the model itself.

    Args:
        num_objects: O.
        num_memories: R.
        num_pointers: K.
        num_points: P.
        seed: Seed of the image, of points and of ages.

    Returns:
        The inputs of each graph, by the graph's name, on the model's device.
    """
    generator = torch.Generator().manual_seed(seed)
    device = model.tracker.no_memory_embedding.device
    sizes = fixed_sizes(model)
    height, width = sizes['H'], sizes['W']

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).to(device)

    def run(name: str) -> dict[str, Tensor]:
        return GRAPHS[name](model).run(inputs[name])

    def upsample(maps: Tensor) -> Tensor:
        return functional.interpolate(maps, size=(height, width), mode='bilinear')

    # Blobs with some noise.
    image = upsample(normal(1, 3, 8, 8)) + 0.1 * normal(1, 3, height, width)
    inputs = {'encode': {'image': image}}
    features = run('encode')
    embedding = {'embedding': features['embedding']}
    corner = torch.tensor([width, height], device=device)
    relative = torch.rand(num_objects, num_points, 2, generator=generator).to(device)
    labels = integers(
        PointLabel.NEGATIVE, PointLabel.BOX_BOTTOM_RIGHT + 1, num_objects, num_points
    ).int()
    labels[:, -1:] = PointLabel.PADDING.value
    inputs['decode'] = {
        'embedding': features['embedding_without_memory'].repeat(num_objects, 1, 1, 1),
        **{
            spec.name: features[spec.name] for spec in HIGH_RES if spec.name in features
        },
        'point_coords': relative * corner,
        'point_labels': labels,
        'mask_input': 5 * normal(num_objects, 1, sizes['H4'], sizes['W4']),
        'has_mask_input': integers(0, 2, num_objects).bool(),
    }
    decoded = run('decode')
    mask_logits = functional.interpolate(
        decoded['mask_logits'], size=(sizes['Hm'], sizes['Wm']), mode='bilinear'
    )
    inputs['mask_prompt'] = embedding | {
        'mask': (upsample(normal(num_objects, 1, 4, 4)) > 0).float()
    }
    inputs['remember'] = embedding | {
        'mask_probs': mask_logits.sigmoid(),
        'present': decoded['object_score_logits'] > 0,
    }
    memory = run('remember')['memory'][:, None]  # (O, 1, Cm, h, w)
    pointer = run('mask_prompt')['pointer'][:, None]  # (O, 1, C)
    noise = normal(num_objects, num_memories, *memory.shape[2:])
    inputs['attend'] = embedding | {
        'memory': memory + 0.1 * memory.std() * noise,
        'ages': integers(0, model.tracker.memory_bank.num_frames, num_memories),
        'pointers': pointer
        + 0.1 * pointer.std() * normal(num_objects, num_pointers, pointer.shape[2]),
        'pointer_times': 2
        * torch.rand(num_objects, num_pointers, generator=generator).to(device)
        - 1,
    }
    if model.tracker.memory_bank.scales_keys:
        inputs['attend'] |= {
            'memory_key_scales': 1 + 0.1 * normal(num_objects, num_memories),
            'pointer_key_scales': 1 + 0.1 * normal(num_objects, num_pointers),
        }
    return inputs
