"""``sam2.json``: what the graphs of an export are, and what their caller must know."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from mmengine.config import Config
from typing_extensions import Self

from ..checkpoints import recognise_model
from ..models import SAM2
from ..models.tracking.frame import (
    GIVEN_MASK_BIAS,
    GIVEN_MASK_SCALE,
    MAX_AMBIGUOUS_POINTS,
    NO_OBJECT_LOGIT,
)
from ..ops import write_atomically
from ..version import __version__

MANIFEST_FILE = 'sam2.json'
FORMAT = 'mmsam2-export'
FORMAT_NUMBER = 1
HASHED_BYTES = 2**24  # read at a time
Runtime = Literal['onnx', 'aotinductor', 'export']
Precision = Literal['float32', 'float16']


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        dtype: ``'float32'``, ``'int32'``, ``'int64'`` or ``'bool'``.
        shape: A number, or a letter for a size that is free, for each dimension.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @classmethod
    def of(cls, name: str, shape: str, dtype: str = 'float32') -> Self:
        """Describe a tensor by a shape like ``'O 1 H4 W4'``."""
        sizes = (int(size) if size.isdecimal() else size for size in shape.split())
        return cls(name=name, dtype=dtype, shape=tuple(sizes))

    def with_sizes(self, sizes: Mapping[str, int]) -> Self:
        """Replace the letters whose sizes are known."""
        shape = tuple(sizes.get(str(size), size) for size in self.shape)
        return type(self)(name=self.name, dtype=self.dtype, shape=shape)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what ``asdict`` returned."""
        return cls(name=data['name'], dtype=data['dtype'], shape=tuple(data['shape']))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedGraph:
    """A graph of an export.

    Attributes:
        file: Its file in the folder of the manifest.
        num_bytes: Size of the file.
        sha256: Hash of the file, in hexadecimal.
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.
    """

    file: str
    num_bytes: int
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> Self:
        """Describe a graph that was written to a file."""
        return cls(
            file=path.name,
            num_bytes=path.stat().st_size,
            sha256=_sha256(path),
            inputs=inputs,
            outputs=outputs,
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what ``asdict`` returned."""
        return cls(
            file=data['file'],
            num_bytes=data['num_bytes'],
            sha256=data['sha256'],
            inputs=tuple(TensorSpec.from_json(item) for item in data['inputs']),
            outputs=tuple(TensorSpec.from_json(item) for item in data['outputs']),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """The model that was exported.

    Attributes:
        version: ``'2.0'`` or ``'2.1'``; None for another family.
        size: ``'tiny'``, ``'small'``, ``'bplus'``, ``'large'`` (of EfficientTAM
            ``'ti'``, ``'s'``), or None for another.
        config: Name of its config, without folders.
        checkpoint: Name of its checkpoint, without folders; None for random weights.
        family: ``'sam2'``, or that of :class:`~..checkpoints.checking.ModelKind`.
    """

    version: str | None
    size: str | None
    config: str
    checkpoint: str | None
    family: str = 'sam2'


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedConstants:
    """What a caller of the graphs must know to predict as the model does.

    Attributes:
        memory_bank: Config of the model's :class:`MemoryBank`.
        num_frames: Temporal positions; ages of memories are below.
        max_pointers: Largest number of pointers that a frame attends to.
        stability_selection: ``decode`` replaces an unstable single mask.
        binary_clicked_memories: Masks from clicks are thresholded for ``remember``.
        non_overlapping_memories: Each pixel belongs to one object in ``remember``.
        predicts_object_score: Otherwise objects are always present.
        max_ambiguous_points: A prompt of at most so many points has three candidates.
        no_object_logit: Mask logits of objects that are judged absent.
        given_mask_scale: A mask prompt of 0 and 1, times this, ...
        given_mask_bias: ... plus this, is the mask's logits; and so for its score.
        presence_threshold: Objects with a higher score are present, with a mask and a
            pointer of their own.
    """

    memory_bank: dict[str, Any]
    num_frames: int
    max_pointers: int
    stability_selection: bool
    binary_clicked_memories: bool
    non_overlapping_memories: bool
    predicts_object_score: bool
    max_ambiguous_points: int
    no_object_logit: float
    given_mask_scale: float
    given_mask_bias: float
    presence_threshold: float = 0.0  # of exports that do not state it


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTarget:
    """The kind of device that graphs were compiled for.

    Attributes:
        device: ``'cpu'`` or ``'cuda'``.
        architecture: Of the CPU, ``'x86_64'``; of the GPU its compute capability,
            ``'9.0'``.
        capabilities: Instruction sets of the CPU, which the graphs may use.
    """

    device: str
    architecture: str
    capabilities: tuple[str, ...]

    @classmethod
    def of(cls, device: torch.device) -> Self:
        """Describe a device of this machine."""
        if device.type == 'cuda':
            major, minor = torch.cuda.get_device_capability(device)
            return cls(device='cuda', architecture=f'{major}.{minor}', capabilities=())
        capabilities = torch.cpu.get_capabilities()
        return cls(
            device=device.type,
            architecture=capabilities['architecture'],
            capabilities=tuple(sorted(k for k, v in capabilities.items() if v is True)),
        )

    def check(self, device: torch.device, *, source: str) -> None:
        """Check that graphs for this target run on a device of this machine.

        Raises:
            ValueError: If they do not; they would crash the process.
        """
        if device.type != self.device:
            msg = (
                f'{source} was compiled for {self.device} and cannot run on {device}; '
                f'export the model on that device'
            )
            raise ValueError(msg)
        here = type(self).of(device)
        missing = set(self.capabilities) - set(here.capabilities)
        if here.architecture != self.architecture or missing:
            what = ', '.join(sorted(missing)) or self.architecture
            msg = (
                f'{source} was compiled for a {self.device} with {what}, which this '
                f'one ({here.architecture}) lacks; export the model on a machine like '
                f'this one'
            )
            raise ValueError(msg)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what ``asdict`` returned."""
        return cls(
            device=data['device'],
            architecture=data['architecture'],
            capabilities=tuple(data['capabilities']),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportManifest:
    """The content of ``sam2.json``.

    Attributes:
        runtime: What runs the graphs.
        precision: Type of the weights. Inputs and outputs are float32 with either.
        opset: Opset of ONNX graphs.
        target: What compiled graphs were compiled for; None for graphs that run on
            any device.
        model: The model that was exported.
        image_size: Height and width of the model's image.
        mean: Mean of red, green and blue, in 0..255.
        std: Standard deviation of red, green and blue, in 0..255.
        embed_dims: C.
        memory_dims: Cm.
        constants: What a caller must know besides.
        versions: Versions of the packages that exported, by name.
        graphs: The graphs, by name.
    """

    runtime: Runtime
    precision: Precision
    opset: int | None
    target: ExportTarget | None
    model: ExportedModel
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    embed_dims: int
    memory_dims: int
    constants: ExportedConstants
    versions: dict[str, str]
    graphs: dict[str, ExportedGraph]

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of its graphs."""
        content = {'format': FORMAT, 'format_number': FORMAT_NUMBER, **asdict(self)}
        write_atomically(folder / MANIFEST_FILE, json.dumps(content, indent=2) + '\n')

    def check_file(self, folder: Path, graph: str) -> Path:
        """Check that the file of a graph is the exported one.

        Returns:
            The path of the file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is another file than the exported one.
        """
        exported = self.graphs[graph]
        path = folder / exported.file
        if not path.is_file():
            msg = f'{folder} has no {exported.file}; export the model again'
            raise FileNotFoundError(msg)
        # The size is compared first: it shows a truncated copy without reading it.
        is_same = path.stat().st_size == exported.num_bytes
        if not is_same or _sha256(path) != exported.sha256:
            msg = (
                f'{path} is not of this export: it differs from the file that '
                f'{MANIFEST_FILE} describes; export the model again, or copy the '
                f'whole folder'
            )
            raise ValueError(msg)
        return path


def describe_export(
    model: SAM2,
    graphs: dict[str, ExportedGraph],
    *,
    config: Config,
    checkpoint: str | Path | None,
    runtime: Runtime,
    precision: Precision = 'float32',
    opset: int | None = None,
    target: ExportTarget | None = None,
    versions: Mapping[str, str] | None = None,
) -> ExportManifest:
    """Describe the graphs of a model.

    Args:
        config: Config that the model was built from.
        checkpoint: Its checkpoint; None for random weights.
        target: What the graphs were compiled for, if they were.
        versions: Versions of the packages that exported, besides torch and mmsam2.
    """
    kind = recognise_model({k: tuple(v.shape) for k, v in model.state_dict().items()})
    pointers, tracker = model.tracker.object_pointer, model.tracker
    preprocessor, decoder = model.data_preprocessor, model.mask_decoder
    height, width = preprocessor.image_size
    return ExportManifest(
        runtime=runtime,
        precision=precision,
        opset=opset,
        target=target,
        model=ExportedModel(
            version=kind.version if kind else None,
            size=kind.size if kind else None,
            family=kind.family if kind else 'sam2',
            config=Path(config.filename or 'config').name,
            checkpoint=Path(checkpoint).name if checkpoint else None,
        ),
        image_size=(height, width),
        mean=_numbers(preprocessor.mean),
        std=_numbers(preprocessor.std),
        embed_dims=pointers.embed_dims,
        memory_dims=pointers.memory_dims,
        constants=ExportedConstants(
            memory_bank=config.model.tracker.memory_bank.to_dict(),
            num_frames=tracker.memory_bank.num_frames,
            max_pointers=tracker.memory_bank.max_pointers,
            stability_selection=decoder.stability_selection,
            binary_clicked_memories=tracker.binary_clicked_memories,
            non_overlapping_memories=tracker.non_overlapping_memories,
            predicts_object_score=decoder.object_score_head is not None,
            max_ambiguous_points=MAX_AMBIGUOUS_POINTS,
            no_object_logit=NO_OBJECT_LOGIT,
            given_mask_scale=GIVEN_MASK_SCALE,
            given_mask_bias=GIVEN_MASK_BIAS,
            presence_threshold=tracker.memory_bank.presence_threshold,
        ),
        versions={
            'mmsam2': __version__,
            'torch': torch.__version__,
            **(versions or {}),
        },
        graphs=graphs,
    )


def _numbers(values: torch.Tensor) -> tuple[float, ...]:
    """Convert float32 to the shortest decimals: 123.675, not 123.67500305."""
    return tuple(float(str(value)) for value in values.flatten().cpu().numpy())


def is_export(folder: str | Path) -> bool:
    """Whether a path is the folder of an exported model."""
    return (Path(folder).expanduser() / MANIFEST_FILE).is_file()


def read_manifest(folder: str | Path) -> ExportManifest:
    """Read the manifest of an export.

    Raises:
        FileNotFoundError: If the folder has no manifest.
        ValueError: If the manifest is damaged, of another kind, or too new.
    """
    path = Path(folder).expanduser() / MANIFEST_FILE
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f'{folder} is no exported model: it has no {MANIFEST_FILE}'
        raise FileNotFoundError(msg) from error
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON
        msg = f'{path} is damaged ({error}); export the model again'
        raise ValueError(msg) from error
    if not isinstance(data, dict) or data.get('format') != FORMAT:
        msg = f'{path} is no manifest of an exported SAM 2 (format {FORMAT})'
        raise ValueError(msg)
    number = data.get('format_number')
    if not isinstance(number, int) or number > FORMAT_NUMBER:
        msg = (
            f'{path} has format {number!r}, and this version reads up to '
            f'{FORMAT_NUMBER}; update mmsam2, or export the model again'
        )
        raise ValueError(msg)
    try:
        return _from_json(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f'{path} is damaged ({error!r}); export the model again'
        raise ValueError(msg) from error


def _from_json(data: dict[str, Any]) -> ExportManifest:
    """Build the manifest of JSON data; entries of later versions are ignored."""
    values = {field.name: data[field.name] for field in fields(ExportManifest)}
    values |= {
        'model': ExportedModel(**_known(ExportedModel, data['model'])),
        'constants': ExportedConstants(**_known(ExportedConstants, data['constants'])),
        'graphs': {
            name: ExportedGraph.from_json(graph)
            for name, graph in data['graphs'].items()
        },
    }
    if data['target'] is not None:
        values |= {'target': ExportTarget.from_json(data['target'])}
    height, width = map(int, data['image_size'])
    values |= {'image_size': (height, width)}
    for name in ('mean', 'std'):
        red, green, blue = map(float, data[name])
        values |= {name: (red, green, blue)}
    for name, kind in (('runtime', Runtime), ('precision', Precision)):
        if data[name] not in get_args(kind):
            msg = f'{name} {data[name]!r}'
            raise ValueError(msg)
    return ExportManifest(**values)


def _known(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    """Entries of a class; those with a default may be missing in older exports."""
    return {
        field.name: data[field.name]
        for field in fields(cls)
        if field.name in data or field.default is MISSING
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()
