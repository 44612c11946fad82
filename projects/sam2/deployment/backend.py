"""Predict with an exported model in place of :class:`SAM2`.

::

    SAM2ImagePredictor, SAM2AutomaticMaskGenerator, SAM2VideoPredictor, SAM2Stream
      └─ ExportedSAM2           encode, heads, tracker: what they use of a SAM2
           └─ GraphRunner.run   ModuleRunner, OnnxRunner, PackageRunner

Sessions, memory bank and predictors are those of torch, so their tensors are torch's;
only the five networks run elsewhere.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from mmengine.registry import MODELS
from torch import Tensor
from typing_extensions import Self

from ..engine.memory_policy import read_policy, replace_memory_bank
from ..models import SAM2, ClipDataPreprocessor
from ..models.layers import sine_encoding_2d
from ..models.memory_bank import MemoryBank, MemorySelection
from ..models.released_names import ReleasedNames
from ..models.tracking.frame import (
    best_masks,
    gate_masks,
    given_mask_step,
    is_ambiguous,
    low_res_size_of,
    mask_probs_of,
    memory_mask_size,
    padding_point,
)
from ..ops import send_to_device, upsample_logits
from ..structures import (
    DecoderStep,
    HighRes,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
    low_res_size_at,
)
from .graphs import FREE_DIMENSIONS, GRAPHS, KEY_SCALES
from .manifest import ExportManifest, TensorSpec, read_manifest

BANK = 'tracker.memory_bank'
# Options of a model that act outside of its graphs, and so on an export too.
HOST_OPTIONS = ('tracker.binary_clicked_memories', 'tracker.non_overlapping_memories')


class GraphRunner(Protocol):
    """Runs the graphs of an exported model."""

    @property
    def device(self) -> torch.device:
        """Device of inputs and outputs."""

    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph.

        Args:
            graph: A key of :data:`GRAPHS`.
            inputs: Its inputs by name, of the type and shape that the manifest has.

        Returns:
            Its outputs by name.

        Raises:
            ValueError: If an input is missing, or of another type or shape.
        """


class ModuleRunner:
    """Runs the graphs as torch modules, without an export.

    Args:
        model: The model, in evaluation mode.
    """

    def __init__(self, model: SAM2) -> None:
        self.device: torch.device = model.device
        self._graphs = {name: graph(model).eval() for name, graph in GRAPHS.items()}

    @torch.no_grad()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run a graph; see :class:`GraphRunner`."""
        return self._graphs[graph].run(inputs)


class FileRunner(ABC):
    """Opens the files of an export, each when it is first used.

    Args:
        folder: Folder of the export.

    Raises:
        FileNotFoundError: If there is no export.
        ValueError: If its manifest is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).expanduser()
        self._manifest = read_manifest(folder)
        self._graphs: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Return the runner itself: open graphs have no state, and cannot be copied."""
        return self

    def _graph(self, name: str) -> Any:
        """A graph, checked and opened on its first use."""
        with self._lock:  # threads may share the runner
            if name not in self._graphs:
                path = self._manifest.check_file(self._folder, name)
                self._graphs[name] = self._open(path)
            return self._graphs[name]

    @abstractmethod
    def _open(self, path: Path) -> Any:
        """Open the file of a graph."""


def check_inputs(
    graph: str, specs: Sequence[TensorSpec], inputs: Mapping[str, Tensor]
) -> dict[str, int]:
    """Check the inputs of a graph against the manifest.

    Args:
        graph: Name of the graph, for the error.
        specs: The inputs that it takes.
        inputs: The inputs that it is given.

    Returns:
        The free sizes of the call, such as O, by their letters.

    Raises:
        ValueError: If an input is missing or unknown, or its type or shape differs.
    """
    names = [spec.name for spec in specs]
    if set(names) != set(inputs):
        msg = f'{graph} takes {", ".join(names)}, but got {", ".join(inputs)}'
        raise ValueError(msg)
    sizes: dict[str, int] = {}
    for spec in specs:
        tensor = inputs[spec.name]
        dtype = str(tensor.dtype).removeprefix('torch.')
        is_same_rank = len(spec.shape) == tensor.dim()
        expected = tuple(
            sizes.setdefault(size, given) if isinstance(size, str) else size
            for size, given in zip(spec.shape, tensor.shape, strict=False)
        )
        if dtype != spec.dtype or not is_same_rank or expected != tuple(tensor.shape):
            shape = ', '.join(map(str, spec.shape))
            free = ', '.join(f'{name}={size}' for name, size in sizes.items())
            msg = (
                f'{graph} takes {spec.name} as {spec.dtype} of ({shape})'
                f'{f" with {free}" if free else ""}, but got {dtype} of '
                f'{tuple(tensor.shape)}; convert it, or export the model at the size '
                f'that is needed'
            )
            raise ValueError(msg)
    for name, size in sizes.items():
        if size < FREE_DIMENSIONS[name]:
            msg = f'{graph} got {name}={size}; give at least {FREE_DIMENSIONS[name]}'
            raise ValueError(msg)
    return sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFeatures(ImageFeatures):
    """Features of an exported encoder.

    Attributes:
        without_memory: ``embedding`` with the no-memory embedding, (B, C, H16, W16).
    """

    without_memory: Tensor

    def select(self, index: Tensor) -> Self:
        """Select the frame of each object; see :meth:`ImageFeatures.select`."""
        # Not super(): the class that slots create is another one.
        selected = ImageFeatures.select(self, index)
        return replace(selected, without_memory=self.without_memory[index])


class ExportedTracker:
    """The memory path of an exported model; see :class:`SAM2Tracker`.

    Args:
        manifest: Of the export.
        runner: Runs its graphs.
        memory_bank: Selects the memories to attend to.
    """

    def __init__(
        self, manifest: ExportManifest, runner: GraphRunner, memory_bank: MemoryBank
    ) -> None:
        self.memory_bank = memory_bank
        self.non_overlapping_memories = manifest.constants.non_overlapping_memories
        self.binary_clicked_memories = manifest.constants.binary_clicked_memories
        self._embed_dims = manifest.embed_dims
        self._takes_key_scales = takes_key_scales(manifest)
        self._runner = runner

    def condition_on_memory(
        self, features: ImageFeatures, selection: MemorySelection | None
    ) -> Tensor:
        """Condition the features of a frame on memories, (O, C, H16, W16)."""
        if selection is None or not selection.memories:
            if not isinstance(features, ExportedFeatures):
                msg = 'These features are of another model; encode the image again'
                raise ValueError(msg)
            return features.without_memory
        memory = torch.stack([m.spatial for m in selection.memories], dim=1)
        num_objects, device = memory.shape[0], memory.device
        if selection.pointers:
            pointers, times = selection.stacked_pointers()
        else:
            pointers = memory.new_empty(num_objects, 0, self._embed_dims)
            times = memory.new_empty(num_objects, 0)
        ages = torch.tensor([m.age for m in selection.memories])
        inputs = {
            'embedding': features.embedding[:1],  # of one frame
            'memory': memory.float(),  # (O, R, Cm, H16, W16)
            'ages': send_to_device(ages, device),
            'pointers': pointers.float(),  # (O, K, C)
            'pointer_times': times.float().expand(num_objects, -1),
        }
        if self._takes_key_scales:
            unscaled = [part.new_ones(part.shape[:2]) for part in (memory, pointers)]
            scales = selection.stacked_key_scales() or unscaled
            for spec, scale in zip(KEY_SCALES, scales, strict=True):
                inputs[spec.name] = scale.float()
        return self._runner.run('attend', inputs)['conditioned']

    def encode_memory(
        self, features: ImageFeatures, logits: Tensor, present: Tensor, *, binary: bool
    ) -> Tensor:
        """Encode the masks of a frame as spatial memories, (O, Cm, H16, W16)."""
        logits = upsample_logits(logits, memory_mask_size(features.embedding))
        outputs = self._runner.run(
            'remember',
            {
                'embedding': features.embedding[:1],
                'mask_probs': mask_probs_of(logits.float(), binary=binary),
                'present': present,
            },
        )
        return outputs['memory']


def takes_key_scales(manifest: ExportManifest) -> bool:
    """Whether ``attend`` takes factors of the keys."""
    names = {spec.name for spec in manifest.graphs['attend'].inputs}
    return {spec.name for spec in KEY_SCALES} <= names


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedMasks:
    """Masks of the decoder: one of each object, or three candidates.

    Attributes:
        mask_logits: (O, M, H4, W4), not yet replaced where an object is absent.
        ious: Estimated IoU, (O, M).
        pointer: Object pointer of the best mask, (O, C).
        candidate_pointers: That of each mask, (O, M, C); None in older exports, which
            lack those of three candidates.
        object_score_logits: (O, 1).
    """

    mask_logits: Tensor
    ious: Tensor
    pointer: Tensor
    candidate_pointers: Tensor | None
    object_score_logits: Tensor


class ExportedHeads:
    """Prompt encoder and mask decoder of an exported model; see :class:`SAMHeads`.

    Args:
        runner: Runs its graphs.
        tracker: Its memory path.
    """

    def __init__(self, runner: GraphRunner, tracker: ExportedTracker) -> None:
        self.tracker = tracker
        self._runner = runner

    def decode(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        mode: TrackingMode,
        points: PointPrompt | None = None,
        previous_logits: Tensor | None = None,
    ) -> DecoderStep:
        """Decode the masks of a frame of a video."""
        if mode is TrackingMode.TRAINING:
            msg = 'An exported model only predicts; train the one it was exported from'
            raise ValueError(msg)
        decoded = self._decode(
            embedding,
            features.high_res,
            padding_point(embedding) if points is None else points,
            previous_logits,
            multimask=is_ambiguous(points),
        )
        bank = self.tracker.memory_bank
        present = decoded.object_score_logits > bank.presence_threshold
        logits = gate_masks(decoded.mask_logits, present)
        return DecoderStep(
            candidate_logits=logits,
            candidate_ious=decoded.ious,
            mask_logits=best_masks(logits, decoded.ious),
            object_pointer=decoded.pointer,
            object_score_logits=decoded.object_score_logits,
            points=points,
            candidate_pointers=decoded.candidate_pointers
            if bank.observes_frames
            else None,
        )

    def decode_image(
        self,
        *,
        embedding: Tensor,
        high_res: HighRes,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        multimask: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode masks (O, M, H4, W4) of an image, and their estimated IoU (O, M)."""
        decoded = self._decode(
            embedding, high_res, points, previous_logits, multimask=multimask
        )
        return decoded.mask_logits, decoded.ious

    def use_mask_as_output(
        self, *, mask: Tensor, features: ImageFeatures, mode: TrackingMode
    ) -> DecoderStep:
        """Take a mask prompt as the mask of the frame."""
        del mode  # decode() refuses training
        inputs = {'embedding': features.embedding[:1], 'mask': mask.float()}
        pointer = self._runner.run('mask_prompt', inputs)['pointer']
        return given_mask_step(mask, pointer, low_res_size_of(features.embedding))

    def _decode(
        self,
        embedding: Tensor,
        high_res: HighRes,
        points: PointPrompt | None,
        previous_logits: Tensor | None,
        *,
        multimask: bool,
    ) -> DecodedMasks:
        """Decode prompts; a padding point is appended where there are points."""
        counts = [len(embedding)]
        counts += [] if points is None else [len(points.coords)]
        counts += [] if previous_logits is None else [len(previous_logits)]
        num_objects = max(counts)
        embedding = embedding.expand(num_objects, -1, -1, -1)
        if points is None:
            coords = embedding.new_empty(num_objects, 0, 2)
            labels = torch.empty_like(coords[..., 0], dtype=torch.int32)
        else:
            padded = points.followed_by(padding_point(points.coords))
            coords, labels = padded.coords.float(), padded.labels.int()
        if previous_logits is None:
            size = low_res_size_of(embedding)
            mask_input = embedding.new_zeros(num_objects, 1, *size)
        else:
            mask_input = previous_logits.float().expand(num_objects, -1, -1, -1)
        outputs = self._runner.run(
            'decode',
            {
                'embedding': embedding,
                **_named_high_res(high_res),
                'point_coords': coords,
                'point_labels': labels,
                'mask_input': mask_input,
                'has_mask_input': torch.full(
                    (num_objects,), previous_logits is not None, device=coords.device
                ),
            },
        )
        return DecodedMasks(
            mask_logits=outputs['multi_mask_logits' if multimask else 'mask_logits'],
            ious=outputs['multi_ious' if multimask else 'iou'],
            pointer=outputs['multi_pointer' if multimask else 'pointer'],
            candidate_pointers=outputs.get('multi_pointers')
            if multimask
            else outputs['pointer'][:, None],
            object_score_logits=outputs['object_score_logits'],
        )


def _named_high_res(high_res: HighRes) -> dict[str, Tensor]:
    """Inputs of ``decode``, which all objects share: they are on one frame."""
    if high_res is None:
        return {}
    return {'high_res_8': high_res[0][:1], 'high_res_4': high_res[1][:1]}


class ExportedSAM2(ReleasedNames):
    """A SAM 2 whose networks are exported graphs: it predicts, and cannot be trained.

    Predictors, automatic masks, sessions and streams take it in place of
    :class:`SAM2`; ``build_sam2('folder/')`` builds it.

    Args:
        manifest: Of the export.
        runner: Runs its graphs.
        changes: Options of the model to change, as ``'tracker.memory_bank.stride'``.
        policy: Memory policy in place of the exported one, as for :func:`build_sam2`.

    Raises:
        FileNotFoundError: If there is no such policy.
        ValueError: If an option is inside the graphs, or the policy needs others.

    Example:
        >>> model = load_exported('work_dirs/sam2_onnx', device='cpu')
        >>> predictor = SAM2VideoPredictor(model)
    """

    training = False

    def __init__(
        self,
        manifest: ExportManifest,
        runner: GraphRunner,
        changes: Mapping[str, Any] | None = None,
        policy: str | Path | None = None,
    ) -> None:
        self.manifest = manifest
        self.runner = runner
        self.data_preprocessor = ClipDataPreprocessor(
            image_size=manifest.image_size,
            mean=manifest.mean,
            std=manifest.std,
            size_divisor=1,  # the size is fixed in the graphs
        )
        self.data_preprocessor.to(runner.device)
        self.tracker = ExportedTracker(
            manifest, runner, _memory_bank(manifest, changes or {}, policy)
        )
        self.heads = ExportedHeads(runner, self.tracker)
        for path, value in (changes or {}).items():
            self._change(path, value)

    def _change(self, path: str, value: Any) -> None:
        """Change an option outside of the graphs; others must be as exported."""
        if path in HOST_OPTIONS:
            setattr(self.tracker, path.removeprefix('tracker.'), value)
        elif not path.startswith(f'{BANK}.'):  # the memory bank has these already
            in_graphs = {
                'data_preprocessor.image_size': self.manifest.image_size,
                'mask_decoder.stability_selection': (
                    self.manifest.constants.stability_selection
                ),
            }.get(path, 'fixed')
            if in_graphs != (tuple(value) if isinstance(value, list) else value):
                msg = (
                    f'{path} of an exported model cannot become {value!r}: it is '
                    f'{in_graphs} in its graphs; export the model again with another'
                )
                raise ValueError(msg)

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return self.runner.device

    @property
    def embedding_stride(self) -> int:
        """Pixels of the frame for each cell of the image embedding, along a side."""
        cells = self.manifest.graphs['encode'].outputs[0].shape[-2]
        return self.manifest.image_size[0] // int(cells)

    @property
    def low_res_size(self) -> tuple[int, int]:
        """H4 and W4, the size of the decoder's masks."""
        return low_res_size_at(self.manifest.image_size, self.embedding_stride)

    @property
    def image_size(self) -> int | tuple[int, int]:
        """As in the release: the side of a square, or height and width."""
        height, width = self.manifest.image_size
        return height if height == width else (height, width)

    def encode(self, frames: Tensor) -> ExportedFeatures:
        """Encode normalised frames, (B, 3, H, W), one by one."""
        outputs = [
            self.runner.run('encode', {'image': frame[None].float()})
            for frame in frames
        ]
        batch = {name: torch.cat([o[name] for o in outputs]) for name in outputs[0]}
        embedding = batch['embedding']
        _, channels, height, width = embedding.shape
        return ExportedFeatures(
            embedding=embedding,
            position=sine_encoding_2d(
                channels=channels, size=(height, width), device=embedding.device
            ),
            high_res_8=batch.get('high_res_8'),
            high_res_4=batch.get('high_res_4'),
            stride=self.embedding_stride,
            without_memory=batch['embedding_without_memory'],
        )

    def eval(self) -> 'ExportedSAM2':
        """Do nothing, since an exported model is always in evaluation mode."""
        return self

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what only a model with weights can do."""
        if name.startswith('_'):
            raise AttributeError(name)
        source = self.manifest.model
        msg = (
            f'An exported model has no {name!r}: its weights are inside its graphs. '
            f'Build the model that it was exported from ({source.config}, '
            f'{source.checkpoint or "random weights"}) to train, move or change it'
        )
        raise AttributeError(msg)


def _memory_bank(
    manifest: ExportManifest, changes: Mapping[str, Any], policy: str | Path | None
) -> MemoryBank:
    """Build the memory bank of the exported model, or another one."""
    config = dict(manifest.constants.memory_bank)
    if policy is not None:
        is_large = manifest.model.size == 'large'
        config = read_policy(policy, is_large=is_large, plain=config)
    given = {
        path.removeprefix(f'{BANK}.'): value
        for path, value in changes.items()
        if path.startswith(f'{BANK}.')
    }
    bank: MemoryBank = MODELS.build(
        replace_memory_bank(config, given) if 'type' in given else config | given
    )
    threshold = manifest.constants.presence_threshold
    if bank.presence_threshold != threshold:
        msg = (
            f'With {type(bank).__name__} an object is present if its score is above '
            f'{bank.presence_threshold:g}, but in the graphs of this export if it is '
            f'above {threshold:g}; export the model again with this policy'
        )
        raise ValueError(msg)
    if bank.scales_keys and not takes_key_scales(manifest):
        msg = (
            f'{type(bank).__name__} scales the keys of memories, which the graphs of '
            f'this export do not; export the model again with this policy'
        )
        raise ValueError(msg)
    if bank.num_frames != manifest.constants.num_frames:
        msg = (
            f'{BANK}.num_frames is {bank.num_frames}, but the graphs were exported for '
            f'{manifest.constants.num_frames}; leave it out, or export the model again'
        )
        raise ValueError(msg)
    return bank
