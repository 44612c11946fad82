"""A detector of mmdetection that finds what a text names."""

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from numpy.typing import NDArray

from ...apis.building import usable_device
from ...apis.inputs import read_image, read_number
from ...ops import suppress_boxes
from ..mmcv_operators import import_package
from .box_prompts import clean_boxes
from .building import build_detector, load_detector
from .class_check import check_class_names
from .detections import Detections
from .detector_configs import (
    PURPOSE,
    build_pipeline,
    classes_of_config,
    download_hint,
    find_detector_config,
    read_detector_config,
)
from .language_models import LanguageModelError, use_local_language_model

DEFAULT_THRESHOLD = 0.3
# Detectors with queries predict the same box for two classes; the better one stays.
MAX_BOX_IOU = 0.9
NUM_NAMED_CLASSES = 10  # in an error

Text = str | Sequence[str]


class Detector:
    """A detector of mmdetection as a function of an image and a text.

    Detectors with a language model (GroundingDINO, GLIP) take any text; for others the
    text names some of their classes. Nothing is downloaded: a language model is read
    from a folder or from Hugging Face's cache, and nltk is not used.

    Example:
        >>> from projects.sam2.bridges.detection.detector import Detector
        >>> detector = Detector('rtmdet-s', 'rtmdet_s.pth', device='cuda')
        ... # doctest: +SKIP
        >>> detections = detector.detect(image, 'a dog . a ball')  # doctest: +SKIP
        >>> [detections.class_names[i] for i in detections.labels]  # doctest: +SKIP
        ['dog', 'dog', 'sports ball']

    Args:
        config: Path of the detector's config, or its name in mmdetection, such as
            ``'rtmdet-s'`` or ``'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'``.
        checkpoint: Its weights; None leaves them random.
        device: Such as ``'cuda'`` or ``'cpu'``; None is ``'cuda'`` if there is a GPU.
        language_model: Folder of the language model, with its config, tokenizer and
            weights; None is the one that the config names.

    Attributes:
        takes_any_text: Whether the detector has a language model.
        classes: Names of the classes that a detector without one knows.

    Raises:
        FileNotFoundError: If there is no such config, checkpoint or language model.
        ModuleNotFoundError: If mmdetection or transformers is not installed.
        ValueError: If the detector cannot be built or its weights do not fit.
    """

    _model: Any  # its parts have no types in mmdet

    def __init__(
        self,
        config: str | Path,
        checkpoint: str | Path | None,
        *,
        device: str | torch.device | None = None,
        language_model: str | Path | None = None,
    ) -> None:
        import_package('mmdet', purpose=PURPOSE)
        target = usable_device(device)
        path = find_detector_config(config)
        try:
            # Mmdet's functions would leave their scope behind for other models.
            with (
                DefaultScope.overwrite_default_scope('mmdet'),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter('ignore')  # of classes and parts of mmcv
                cfg = read_detector_config(path)
                use_local_language_model(cfg.model, language_model)
                model, _ = build_detector(cfg.model)
                self._model = revert_sync_batchnorm(model)
                self._model.cfg = cfg  # where mmdet's functions expect it
                self._pipeline = build_pipeline(cfg)
                classes = classes_of_config(cfg)
        except (ImportError, LanguageModelError):
            raise
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
            msg = f'the detector {config} cannot be built ({problem})'
            raise ValueError(msg) from error
        self.takes_any_text = hasattr(self._model, 'language_model')
        if checkpoint is None:
            msg = f'{config}: no checkpoint is given, so the detector is untrained'
            print_log(msg, logger='current', level=logging.WARNING)
        else:
            if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
                msg = f'there is no checkpoint {checkpoint}{download_hint(path)}'
                raise FileNotFoundError(msg)
            classes = load_detector(self._model, str(checkpoint)) or classes
        self.classes: tuple[str, ...] = () if self.takes_any_text else classes
        if not self.takes_any_text:
            check_class_names(
                self._model,
                self.classes,
                remedy='test_dataloader.dataset.metainfo=dict(classes=…) of its config',
            )
        self._model.to(target).eval()

    def detect(
        self,
        image: NDArray[np.uint8],
        text: Text = '',
        *,
        threshold: float = DEFAULT_THRESHOLD,
    ) -> Detections:
        """Find what a text names in an image.

        Args:
            image: (height, width, 3), RGB.
            text: Phrases or classes, separated by full stops, commas, semicolons or
                lines, as ``'a dog . a ball'``; or a list of them. Without any, a
                detector of fixed classes looks for all of them.
            threshold: Smallest score of a detection.

        Returns:
            Boxes inside the image on the CPU, the most certain first. ``class_names``
            are the phrases, or all classes of a detector of fixed classes.

        Raises:
            ValueError: If the text is empty or too long, or names an unknown class.
        """
        least = read_number(threshold, name='threshold', least=0, most=1)
        names, wanted = self.read_text(text)
        from mmdet.apis import inference_detector  # noqa: PLC0415  optional

        # With a tuple of entities mmdet needs no nltk, which it would download.
        prompt: dict[str, Any] = {'text_prompt': names, 'custom_entities': True}
        bgr = np.ascontiguousarray(read_image(image, name='The image')[..., ::-1])
        options = prompt if self.takes_any_text else {}
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of old calls of torch in mmdet and mmcv
            result: Any = inference_detector(
                self._model, bgr, self._pipeline, **options
            )
        detections = Detections.from_instances(result.pred_instances.cpu(), names)
        boxes, is_box = clean_boxes(detections.boxes, (image.shape[0], image.shape[1]))
        certain = is_box & (detections.scores >= least)
        detections = replace(detections, boxes=boxes, masks=None).select(certain)
        # Before the classes that are not wanted are left out: an object that is more
        # probably of another class is not one of the wanted class.
        detections = detections.select(
            suppress_boxes(detections.boxes, detections.scores, threshold=MAX_BOX_IOU)
        )
        return detections.select(torch.isin(detections.labels, torch.tensor(wanted)))

    def read_text(self, text: Text) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Read what a text names.

        Args:
            text: As for :meth:`detect`.

        Returns:
            Names of the labels that the detector will predict, and the labels that are
            wanted.

        Raises:
            ValueError: If the text is empty or too long, or names an unknown class.
        """
        phrases = split_phrases(text)
        if not self.takes_any_text:
            return self.classes, self._labels_of(phrases)
        if not phrases:
            msg = 'the text is empty; name what to look for, such as: person, dog'
            raise ValueError(msg)
        self._check_length(phrases)
        return phrases, tuple(range(len(phrases)))

    def _labels_of(self, phrases: Sequence[str]) -> tuple[int, ...]:
        """Labels of some classes, or of all if none is named."""
        known = {_as_class(name): label for label, name in enumerate(self.classes)}
        for phrase in phrases:
            if _as_class(phrase) not in known:
                near = get_close_matches(_as_class(phrase), known, n=3)
                labels = [known[name] for name in near]
                labels = labels or list(range(len(self.classes)))[:NUM_NAMED_CLASSES]
                names = ', '.join(self.classes[label] for label in labels)
                msg = (
                    f'the detector knows no class {phrase!r}; it knows '
                    f'{len(known)} classes, such as {names}'
                )
                raise ValueError(msg)
        wanted = dict.fromkeys(known[_as_class(phrase)] for phrase in phrases)
        return tuple(wanted) or tuple(range(len(self.classes)))

    def _check_length(self, phrases: Sequence[str]) -> None:
        """Check that the language model reads all phrases; the rest would be NaN."""
        language = self._model.language_model
        # A detector may read the phrases in several parts.
        at_once = self._model.test_cfg.get('chunked_size', -1)
        step = at_once if at_once > 0 else len(phrases)
        for start in range(0, len(phrases), step):
            caption = '. '.join(phrases[start : start + step]) + '. '
            num_tokens = len(language.tokenizer(caption).input_ids)
            if num_tokens > language.max_tokens:
                msg = (
                    f'the text has {num_tokens} tokens, and the language model reads '
                    f'{language.max_tokens}; name fewer things, or set '
                    f'model.test_cfg.chunked_size in the config of the detector'
                )
                raise ValueError(msg)


def split_phrases(text: Text) -> tuple[str, ...]:
    """Split a text into phrases, without duplicates.

    Args:
        text: As for :meth:`Detector.detect`; the items of a list are not split.

    Raises:
        ValueError: If it is no text, or a phrase has no letter.
    """
    given: object = text
    if isinstance(given, str):
        # Not at the points of numbers, as in '3.5 mm jack'.
        parts: Sequence[object] = re.split(r'[,;\n]|\.(?!\d)', given)
    elif isinstance(given, Sequence):
        parts = given
    else:
        msg = f'the text is {text!r}; give a string, or a list of strings'
        raise ValueError(msg)
    phrases: dict[str, str] = {}
    for part in parts:
        if not isinstance(part, str):
            msg = f'the text holds {part!r}; give a string, or a list of strings'
            raise ValueError(msg)
        phrase = ' '.join(part.split())
        if not phrase:
            continue
        # Mmdet leaves out what stands in parentheses.
        if not re.search(r'[^\W_]', re.sub(r'\(.*\)', '', phrase)):
            msg = f'{phrase!r} names nothing; give a word, such as dog'
            raise ValueError(msg)
        phrases.setdefault(phrase.casefold(), phrase)
    return tuple(phrases.values())


def _as_class(name: str) -> str:
    """A name by which a class is looked up: 'A traffic_light' is 'traffic light'."""
    name = ' '.join(name.replace('_', ' ').split()).casefold()
    return re.sub(r'^(a|an|the) (?=\w)', '', name)
