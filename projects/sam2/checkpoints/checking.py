"""Do the weights of a file fit the model? MMEngine would only log that they do not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from projects.sam2.checkpoints.reading import MODEL_SIGN

__all__ = [
    'CheckpointMismatchError',
    'ModelKind',
    'check_weights',
    'recognise_model',
]

# Weights that SAM 2.1 added.
VERSION_2_1_SIGNS = (
    'tracker.no_object_embedding',
    'tracker.object_pointer.time_projection.weight',
)
POSITION_KEY = 'image_encoder.backbone.position_embedding'
BLOCK_SIGN = 'image_encoder.backbone.blocks.{}.norm1.weight'
# Channels of the first stage and number of blocks.
SIZES = {
    (96, 12): 'tiny',
    (96, 16): 'small',
    (112, 24): 'bplus',
    (144, 48): 'large',
}
MAX_NAMED_KEYS = 8

Shapes = Mapping[str, tuple[int, ...]]


class CheckpointMismatchError(ValueError):
    """The weights of a file do not fit the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """Which SAM 2 a set of weights belongs to.

    Attributes:
        version: ``'2.0'`` or ``'2.1'``.
        size: ``'tiny'``, ``'small'``, ``'bplus'``, ``'large'``, or None where the
            shapes are those of no released model.
    """

    version: str
    size: str | None

    @property
    def config(self) -> str | None:
        """Config of the model, or None where no released model has its size."""
        if self.size is None:
            return None
        return f'_base_/models/sam{self.version.replace(".", "_")}_{self.size}.py'

    def __str__(self) -> str:
        """For people: version and size."""
        return f'SAM {self.version} of {self.size or "a size of its own"}'


def recognise_model(shapes: Shapes) -> ModelKind | None:
    """Tell version and size of weights: the version by keys, the size by shapes.

    Args:
        shapes: Shape of each weight, by our names.

    Returns:
        Version and size, or None where the weights are no SAM 2.
    """
    if MODEL_SIGN not in shapes:
        return None
    is_2_1 = any(sign in shapes for sign in VERSION_2_1_SIGNS)
    num_blocks = 0
    while BLOCK_SIGN.format(num_blocks) in shapes:
        num_blocks += 1
    channels = shapes[POSITION_KEY][1] if POSITION_KEY in shapes else 0
    return ModelKind(
        version='2.1' if is_2_1 else '2.0', size=SIZES.get((channels, num_blocks))
    )


def check_weights(
    state_dict: Mapping[str, Tensor], model: nn.Module, *, source: str
) -> None:
    """Compare weights with a model.

    Args:
        state_dict: Weights by our names; a prefix ``module.`` is left out.
        model: The model that they are for.
        source: Where the weights come from, for the error.

    Raises:
        CheckpointMismatchError: If a weight is missing, unknown or of another shape.
            It names version and size of both, the weights, and the config to use.
    """
    given = _shapes((key.removeprefix('module.'), v) for key, v in state_dict.items())
    wanted = _shapes(model.state_dict().items())
    shared = given.keys() & wanted.keys()
    problems = [
        _listed('missing', sorted(wanted.keys() - given.keys())),
        _listed('unexpected', sorted(given.keys() - wanted.keys())),
        _listed(
            'of another shape',
            [
                f'{key} {given[key]} instead of {wanted[key]}'
                for key in sorted(shared)
                if given[key] != wanted[key]
            ],
        ),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        kinds = recognise_model(given), recognise_model(wanted)
        lines = [f'{source} does not fit the model.', *_verdict(*kinds), *problems]
        raise CheckpointMismatchError('\n'.join(lines))


def _verdict(given: ModelKind | None, wanted: ModelKind | None) -> Iterable[str]:
    """What the file holds, what the model is, and the remedy."""
    yield f'The file holds {given or "no SAM 2"}; the model is {wanted or "no SAM 2"}.'
    if given is None:
        yield 'Give a released SAM 2 file, or a checkpoint that this project wrote.'
    elif given == wanted:
        yield 'Give the file that belongs to this config.'
    elif given.config is not None:
        yield f"Use a config with _base_ = '{given.config}', or give another file."
    else:
        yield 'Use the config that the file was trained with.'


def _listed(what: str, names: list[str]) -> str:
    """A line that counts and names some weights; empty where there are none."""
    if not names:
        return ''
    more = f', and {len(names) - MAX_NAMED_KEYS} more'
    shown = ', '.join(names[:MAX_NAMED_KEYS])
    return f'{len(names)} {what}: {shown}{more if len(names) > MAX_NAMED_KEYS else ""}'


def _shapes(items: Iterable[tuple[str, Tensor]]) -> Shapes:
    """Shape of each weight."""
    return {key: tuple(value.shape) for key, value in items}
