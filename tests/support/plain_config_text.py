"""Configs are written as they are.

MMEngine has yapf lay out the text of a config for each Runner, log and checkpoint of a
run, a tenth of a second and more each time: a quarter of the time of a small run.
"""

from typing import Any

from mmengine.config import config

__all__ = ['use_plain_config_text']


def use_plain_config_text() -> None:
    """Leave the text of configs as it is, in this process."""
    vars(config)['FormatCode'] = _as_it_is


def _as_it_is(text: str, **_: Any) -> tuple[str, bool]:
    """Nothing is changed."""
    return text, False
