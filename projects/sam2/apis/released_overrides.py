"""Reads the Hydra overrides that scripts pass to the released builders.

A released config is changed by strings like ``'++model.num_maskmem=3'``; here they
become changes of our configs, or options of the video predictor.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from ..models.released_names import FIXED_OPTIONS, Alias, ReleasedNames

_DECODER = 'sam_mask_decoder_extra_args.dynamic_multimask_'
MODEL_OPTIONS = {
    **{
        name: alias
        for name, alias in vars(ReleasedNames).items()
        if isinstance(alias, Alias) and alias.kind is not None
    },
    f'{_DECODER}via_stability': Alias('mask_decoder.stability_selection', bool),
}
# Options that the release has in the model's config, here of SAM2VideoPredictor.
PREDICTOR_OPTIONS: dict[str, type] = {
    'fill_hole_area': float,
    'non_overlap_masks': bool,
    'clear_non_cond_mem_around_input': bool,
    'add_all_frames_to_correct_as_cond': bool,
}
FIXED_VALUES = {
    f'{_DECODER}stability_delta': 0.05,
    f'{_DECODER}stability_thresh': 0.98,
    **FIXED_OPTIONS,
}


def read_overrides(
    overrides: Sequence[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Translate overrides of a released config.

    Args:
        overrides: Strings like ``'++model.option=value'``; later ones win.

    Returns:
        Values for our config by their dotted path below ``model``, and options of
        :class:`SAM2VideoPredictor`.

    Raises:
        ValueError: If an override has no value or one of the wrong type, or its option
            is unknown or fixed to another value.
    """
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        msg = f'hydra_overrides_extra is {overrides!r}; give a list of strings'
        raise ValueError(msg)
    model: dict[str, Any] = {}
    predictor: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.lstrip('+').partition('=')
        name = name.strip().removeprefix('model.')
        if not equals:
            msg = f"{override!r} sets no value; write '++model.option=value'"
            raise ValueError(msg)
        value: object = yaml.safe_load(text)  # type: ignore[no-untyped-call]  # no stubs
        if name in MODEL_OPTIONS:
            option = MODEL_OPTIONS[name]
            _check_type(override, value, option.kind)
            model[option.path] = option.from_released(value)
        elif name in PREDICTOR_OPTIONS:
            _check_type(override, value, PREDICTOR_OPTIONS[name])
            predictor[name] = value
        elif name not in FIXED_VALUES:
            known = ', '.join(sorted({*MODEL_OPTIONS, *PREDICTOR_OPTIONS}))
            msg = (
                f'{override!r} sets an option that is not known here; known options: '
                f'{known}. Set anything else in a config of ours'
            )
            raise ValueError(msg)
        elif value != FIXED_VALUES[name]:
            msg = (
                f'{override!r}: this model always has {FIXED_VALUES[name]}; '
                f'leave it out'
            )
            raise ValueError(msg)
    return model, predictor


def _check_type(override: str, value: object, kind: type | None) -> None:
    known = (int, float) if kind is float else (kind or object,)
    if not isinstance(value, known) or (isinstance(value, bool) and kind is not bool):
        name = 'value' if kind is None else kind.__name__
        msg = f'{override!r} gives {value!r} where a {name} is expected'
        raise ValueError(msg)
