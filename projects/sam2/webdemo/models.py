"""The models that the demo can run: one is in memory, the others are known by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..apis import SAM2VideoPredictor, build_sam2_video_predictor
from ..apis.building import find_pretrained, usable_device
from ..checkpoints.released import (
    RELEASED,
    find_file,
    missing_file_message,
    released_weights,
)
from ..deployment import is_export
from ..installation import CONFIGS, WEIGHTS

QUICKSTART = Path('work_dirs/quickstart')  # where the quickstart trains
MINI_CONFIG = CONFIGS / '_base_' / 'models' / 'sam2_1_mini.py'
MINI_WEIGHTS = 'sam2_mini.pth'  # comes with the package
RUN_PREFIX = 'run:'  # of models that the demo has trained: run:RUN/CHECKPOINT


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model that can be built.

    Attributes:
        name: By which the page knows it.
        config: As for :func:`build_sam2`, which may be the folder of an export.
        checkpoint: Its weights; None leaves them random. An export has its own.
    """

    name: str
    config: str | Config
    checkpoint: Path | None

    @property
    def config_name(self) -> str:
        """Path or name of the config, for a reader."""
        if isinstance(self.config, Config):
            return str(self.config.filename or 'config')
        return self.config

    @property
    def weights(self) -> Path | None:
        """Path of the weights, for a reader."""
        if isinstance(self.config, str) and is_export(self.config):
            return Path(self.config)
        return self.checkpoint


def find_models() -> list[ModelChoice]:
    """Models on this machine: released ones, the quickstart's, the small one.

    Returns:
        Released 2.1 before 2.0, and small before large.
    """
    choices = [
        ModelChoice(name=weights.name, config=weights.config, checkpoint=path)
        for weights in RELEASED
        if (path := find_file(weights.file_name)) is not None
    ]
    best = sorted(QUICKSTART.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    if best:
        config = 'sam2_mini_synthetic'
        choices.append(
            ModelChoice(
                name='quickstart', config=config, checkpoint=best[-1].absolute()
            )
        )
    if (WEIGHTS / MINI_WEIGHTS).is_file():
        path = WEIGHTS / MINI_WEIGHTS
        mini = ModelChoice(name='sam2_mini', config=str(MINI_CONFIG), checkpoint=path)
        choices.append(mini)
    return choices


def given_model(config: str | None, checkpoint: str | None) -> ModelChoice | None:
    """The model that the options of a command name.

    Args:
        config: As for :func:`build_sam2`; None tells it from the weights.
        checkpoint: Path or released name; None takes the released weights of the
            config, and leaves those of another config random. Either may be the folder
            of an exported model, alone.

    Returns:
        None if neither is given.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If no released config fits the weights.
    """
    if config is None and checkpoint is None:
        return None
    for folder in (config, checkpoint):
        if folder is not None and is_export(folder):
            if config is not None and checkpoint is not None:
                msg = f'{folder} is an exported model; give it alone'
                raise ValueError(msg)
            export = Path(folder).expanduser().absolute()
            return ModelChoice(name=export.name, config=str(export), checkpoint=None)
    if checkpoint is None:
        released = released_weights(str(config))
        if released is None:
            return ModelChoice(
                name=Path(str(config)).stem, config=str(config), checkpoint=None
            )
        checkpoint = released.file_name
    path = find_file(checkpoint)
    if path is None:
        raise FileNotFoundError(missing_file_message(checkpoint))
    fitting = find_pretrained(str(path))[0] if config is None else config
    return ModelChoice(name=path.stem, config=fitting, checkpoint=path.absolute())


class ModelStore:
    """The model that runs, and those that may take its place.

    Building a model takes seconds, so call :meth:`use` and the first :attr:`predictor`
    in the thread of the model. While another model is built the first one stays in
    memory; afterwards only the new one does, once no session refers to the old one.

    Args:
        config: As for :func:`given_model`.
        checkpoint: Likewise. Without both, the first model that is found: a small one
            on a CPU.
        device: Such as ``'cuda'`` or ``'cpu'``; None for the default device.
        compile: Compile each model when it is built, which takes minutes.
        fast: As for :func:`build_sam2`.
        policy: Memory policy of every model; likewise.
        find_run: Returns the model of a training run for ``RUN/CHECKPOINT``.
        list_runs: Returns the best model of each training run.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or no model at all.
        ValueError: If the device does not exist, or the config is unknown.
    """

    def __init__(
        self,
        *,
        config: str | None = None,
        checkpoint: str | None = None,
        device: str | None = None,
        compile: bool = False,  # noqa: A002  as torch and MMEngine name it
        fast: bool = False,
        policy: str | None = None,
        find_run: Callable[[str], ModelChoice] | None = None,
        list_runs: Callable[[], Sequence[ModelChoice]] = tuple,
    ) -> None:
        self.device = str(usable_device(device))
        self._compile = compile
        self._fast = fast
        self._policy = policy
        self._find_run, self._list_runs = find_run, list_runs
        self._given = given_model(config, checkpoint)
        choices = self.choices()
        if not choices:
            msg = 'there is no model; give --checkpoint, or run: mmsam2 download'
            raise FileNotFoundError(msg)
        self.current = next(iter(choices.values()))
        self._predictor: SAM2VideoPredictor | None = None

    def choices(self) -> Mapping[str, ModelChoice]:
        """The models by name, that of the command line first, those of runs last."""
        given = [] if self._given is None else [self._given]
        choices: dict[str, ModelChoice] = {}
        for choice in (*given, *find_models(), *self._list_runs()):
            choices.setdefault(choice.name, choice)
        return choices

    @property
    def predictor(self) -> SAM2VideoPredictor:
        """The predictor of the current model, built when it is first needed."""
        if self._predictor is None:
            self._predictor = self._build(self.current)
        return self._predictor

    def describe(self) -> dict[str, Any]:
        """The current model: name, config, checkpoint, device and image size."""
        predictor = self._predictor
        size = None
        if predictor is not None:
            size = list(predictor.model.data_preprocessor.image_size)
        path = self.current.weights
        return {
            'name': self.current.name,
            'config': self.current.config_name,
            'checkpoint': None if path is None else str(path),
            'device': self.device,
            'image_size': size,
        }

    def use(self, name: str) -> SAM2VideoPredictor:
        """Build another model and make it the current one.

        Args:
            name: A name of :meth:`choices`, or ``run:RUN/CHECKPOINT``.

        Returns:
            Its predictor, to be given to every open session.

        Raises:
            ValueError: If there is no such model, its weights do not fit, or the
                device has no memory for it; the current one stays.
            OSError: If a file cannot be read.
        """
        choice = self._find(name)
        if choice != self.current or self._predictor is None:
            predictor = self._build(choice)
            self.current, self._predictor = choice, predictor
        return self._predictor

    def _find(self, name: str) -> ModelChoice:
        if name == self.current.name:
            return self.current
        if name.startswith(RUN_PREFIX) and self._find_run is not None:
            return self._find_run(name.removeprefix(RUN_PREFIX))
        choices = self.choices()
        if name not in choices:
            msg = f'there is no model {name!r}; choose one of {", ".join(choices)}'
            raise ValueError(msg)
        return choices[name]

    def _build(self, choice: ModelChoice) -> SAM2VideoPredictor:
        try:
            predictor = build_sam2_video_predictor(
                choice.config,
                choice.checkpoint,
                device=self.device,
                compile=self._compile,
                fast=self._fast,
                policy=self._policy,
            )
            if self._compile:
                predictor.warm_up()
        except RuntimeError as error:  # such as torch.OutOfMemoryError
            msg = f'the model {choice.name} cannot be loaded on {self.device}: {error}'
            raise ValueError(msg) from error
        return predictor
