"""Reads what SAM 2's release sets through Hydra, and says it in our words."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import yaml

from projects.sam2.models.released_names import FIXED_OPTIONS

__all__ = ['PredictorOptions', 'ReleasedOverrides', 'read_overrides']

MODEL_PREFIX = 'model.'
DECODER_PREFIX = 'sam_mask_decoder_extra_args.dynamic_multimask_'


class PredictorOptions(TypedDict, total=False):
    """Options of ``SAM2VideoPredictor`` that the release writes into its configs.

    Attributes:
        fill_hole_area: See ``SAM2VideoPredictor``.
        non_overlap_masks: Likewise.
        clear_non_cond_mem_around_input: Likewise.
        add_all_frames_to_correct_as_cond: Likewise.
    """

    fill_hole_area: float
    non_overlap_masks: bool
    clear_non_cond_mem_around_input: bool
    add_all_frames_to_correct_as_cond: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedOverrides:
    """What overrides ask for.

    Attributes:
        model: Values for a model's config, by their dotted path.
        predictor: Options of the video predictor.
    """

    model: dict[str, Any] = field(default_factory=dict)
    predictor: PredictorOptions = field(default_factory=PredictorOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOption:
    """Where our config has an option of the release.

    Attributes:
        path: Below ``model``.
        kind: Type of the value.
        convert: Makes ours of it.
    """

    path: str
    kind: type
    convert: Callable[[Any], Any] = lambda value: value


MODEL_OPTIONS = {
    'image_size': ModelOption(
        path='data_preprocessor.image_size',
        kind=int,
        convert=lambda side: (side, side),
    ),
    'num_maskmem': ModelOption(path='tracker.memory_bank.num_frames', kind=int),
    'max_cond_frames_in_attn': ModelOption(
        path='tracker.memory_bank.max_conditioning_frames',
        kind=int,
        convert=lambda limit: None if limit == -1 else limit,
    ),
    'memory_temporal_stride_for_eval': ModelOption(
        path='tracker.memory_bank.stride', kind=int
    ),
    'max_obj_ptrs_in_encoder': ModelOption(
        path='tracker.memory_bank.max_pointers', kind=int
    ),
    'only_obj_ptrs_in_the_past_for_eval': ModelOption(
        path='tracker.memory_bank.future_pointers',
        kind=bool,
        convert=lambda only_past: not only_past,
    ),
    'binarize_mask_from_pts_for_mem_enc': ModelOption(
        path='tracker.binary_clicked_memories', kind=bool
    ),
    'non_overlap_masks_for_mem_enc': ModelOption(
        path='tracker.non_overlapping_memories', kind=bool
    ),
    f'{DECODER_PREFIX}via_stability': ModelOption(
        path='mask_decoder.stability_selection', kind=bool
    ),
}
PREDICTOR_OPTIONS: dict[str, type] = {
    'fill_hole_area': float,
    'non_overlap_masks': bool,
    'clear_non_cond_mem_around_input': bool,
    'add_all_frames_to_correct_as_cond': bool,
}
# They always hold one value, which is a constant here.
FIXED_VALUES = {
    f'{DECODER_PREFIX}stability_delta': 0.05,
    f'{DECODER_PREFIX}stability_thresh': 0.98,
    **FIXED_OPTIONS,
}


def read_overrides(overrides: Sequence[str]) -> ReleasedOverrides:
    """Read overrides as the release writes them.

    Args:
        overrides: ``++model.option=value`` each; later ones win.

    Returns:
        The same in our words.

    Raises:
        ValueError: If one sets no value, a value that an option cannot have, or an
            option that there is not.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        msg = f'hydra_overrides_extra is {overrides!r}; give a list of strings'
        raise ValueError(msg)  # noqa: TRY004  a wrong value, as all others here
    read = ReleasedOverrides()
    for override in overrides:
        name, equals, text = override.lstrip('+').partition('=')
        name = name.strip().removeprefix(MODEL_PREFIX)
        if not equals:
            msg = f"{override!r} sets no value; write '++model.option=value'"
            raise ValueError(msg)
        value: object = yaml.safe_load(text)  # type: ignore[no-untyped-call]  # no stubs
        if name in MODEL_OPTIONS:
            option = MODEL_OPTIONS[name]
            checked = _checked(override, value, option.kind)
            read.model[option.path] = option.convert(checked)
        elif name in PREDICTOR_OPTIONS:
            checked = _checked(override, value, PREDICTOR_OPTIONS[name])
            read.predictor.update({name: checked})  # type: ignore[misc]  # a known name
        elif FIXED_VALUES.get(name, value) != value or name not in FIXED_VALUES:
            raise ValueError(_refusal(override, name))
    return read


def _checked(override: str, value: object, kind: type) -> object:
    """The value, where it is of the kind that its option has."""
    known = (int, float) if kind is float else kind
    if not isinstance(value, known) or (isinstance(value, bool) and kind is not bool):
        msg = f'{override!r} gives {value!r} where a {kind.__name__} is expected'
        raise ValueError(msg)
    return value


def _refusal(override: str, name: str) -> str:
    """Why an override is not taken."""
    if name in FIXED_VALUES:
        return f'{override!r}: this model always has {FIXED_VALUES[name]}; leave it out'
    known = ', '.join(sorted({*MODEL_OPTIONS, *PREDICTOR_OPTIONS}))
    return (
        f'{override!r} sets an option that is not known here; those known: {known}. '
        f'What else there is to set stands in our config'
    )
