"""Finds the modules of the released package, or says what to use instead."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from ..installation import NAME
from . import amg

__all__ = ['install', 'uninstall']

ROOT = 'sam2'
PACKAGE = Path(__file__).with_name('__init__.py')  # `sam2.__file__`
_APIS, _MODELS = f'{NAME}.apis', f'{NAME}.models'
_PARTS = f'{_MODELS}.released_names'
_HERE = f'{NAME}.as_sam2'
# Our module of each released name, or `module:name` where our name differs.
MODULES: dict[str, dict[str, str]] = {
    ROOT: {},
    'sam2.build_sam': {
        'build_sam2': _APIS,
        'build_sam2_hf': _APIS,
        'build_sam2_video_predictor': _APIS,
        'build_sam2_video_predictor_hf': _APIS,
        '_load_checkpoint': f'{_HERE}.misc:load_checkpoint',
    },
    'sam2.sam2_image_predictor': {'SAM2ImagePredictor': f'{_HERE}.image_predictor'},
    'sam2.sam2_video_predictor': {
        'SAM2VideoPredictor': _APIS,
        'SAM2VideoPredictorVOS': f'{_APIS}:SAM2VideoPredictor',
    },
    'sam2.automatic_mask_generator': {'SAM2AutomaticMaskGenerator': _APIS},
    'sam2.utils': {},
    'sam2.utils.transforms': {'SAM2Transforms': f'{_APIS}.image_predictor'},
    'sam2.utils.misc': dict.fromkeys(
        (
            'concat_points',
            'fill_holes_in_mask_scores',
            'get_connected_components',
            'load_video_frames',
            'mask_to_box',
        ),
        f'{_HERE}.misc',
    ),
    'sam2.utils.amg': dict.fromkeys(amg.__all__, f'{_HERE}.amg'),
    'sam2.modeling': {},
    'sam2.modeling.sam2_base': {
        'SAM2Base': f'{_MODELS}:SAM2',
        'NO_OBJ_SCORE': f'{_MODELS}.tracking.frame:NO_OBJECT_LOGIT',
    },
    'sam2.modeling.sam2_utils': {'LayerNorm2d': f'{_MODELS}.layers'},
    'sam2.modeling.memory_attention': {'MemoryAttention': _MODELS},
    'sam2.modeling.memory_encoder': {'MemoryEncoder': _MODELS},
    'sam2.modeling.backbones': {},
    'sam2.modeling.backbones.hieradet': {'Hiera': _MODELS},
    'sam2.modeling.backbones.image_encoder': {
        'ImageEncoder': f'{_MODELS}:SAM2ImageEncoder',
        'FpnNeck': f'{_MODELS}:HieraFPN',
    },
    'sam2.modeling.sam': {},
    'sam2.modeling.sam.mask_decoder': {'MaskDecoder': f'{_PARTS}:ReleasedMaskDecoder'},
    'sam2.modeling.sam.prompt_encoder': {
        'PromptEncoder': f'{_PARTS}:ReleasedPromptEncoder'
    },
    'sam2.modeling.sam.transformer': {'TwoWayTransformer': f'{_MODELS}.mask_decoder'},
}
PACKAGES = {name.rpartition('.')[0] for name in MODULES} - {''}
STREAM = f'for frames that come one at a time use {NAME}.apis.SAM2Stream'
# Released modules and names that do not exist here, and what to do instead.
INSTEAD = {
    'sam2._C': 'no compiled extension is needed: holes are filled by OpenCV',
    'sam2.build_sam.build_sam2_camera_predictor': STREAM,
    'sam2.build_sam.build_sam2_object_tracker': STREAM,
    'sam2.sam2_camera_predictor': STREAM,
    'sam2.sam2_object_tracker': STREAM,
    'sam2.sam2_video_predictor_legacy': 'use sam2.sam2_video_predictor',
    'sam2.benchmark': 'use tools/benchmarks',
    'sam2.configs': (
        "configs are found by their released names, as 'configs/sam2.1/sam2.1_hiera_l.y"
        "aml'; a model is changed by hydra_overrides_extra or by a config of ours"
    ),
}
TABLE = 'docs/tutorials/from_the_release.md lists the names that work'


def install() -> None:
    """Let ``import sam2`` find this project from now on.

    Raises:
        ImportError: If another ``sam2`` is imported already.
    """
    present = sys.modules.get(ROOT)
    if present is not None and not isinstance(present, AliasModule):
        origin = getattr(present, '__file__', None) or 'an unknown place'
        msg = (
            f'sam2 is imported already, from {origin}; import {NAME}.as_sam2 '
            f'before it, or leave out one of the two'
        )
        raise ImportError(msg)
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, AliasFinder())


def uninstall() -> None:
    """Undo :func:`install`; scripts keep the modules that they have imported."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, AliasFinder)]
    aliases = [n for n, m in sys.modules.items() if isinstance(m, AliasModule)]
    for name in aliases:
        del sys.modules[name]


class AliasModule(ModuleType):
    """A module of the released package with our functions and classes."""

    def __getattr__(self, name: str) -> object:
        """Raise an error that says what to use instead of a missing name."""
        full = f'{self.__name__}.{name}'
        if full in INSTEAD:
            msg = f'{full} is not part of this project: {INSTEAD[full]}'
            raise ImportError(msg, name=full)
        msg = f'{self.__name__} of this project has no {name!r}; {TABLE}'
        raise AttributeError(msg)


class AliasFinder(MetaPathFinder, Loader):
    """Finds ``sam2`` and its submodules; Python's import system calls it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module of the released package; None for any other.

        Raises:
            ModuleNotFoundError: If it does not exist in this project.
        """
        del path, target
        if fullname.partition('.')[0] != ROOT:
            return None
        if fullname not in MODULES:
            known = [name for name in INSTEAD if f'{fullname}.'.startswith(f'{name}.')]
            hint = INSTEAD[known[0]] if known else TABLE
            msg = f'{fullname} is not part of this project: {hint}'
            raise ModuleNotFoundError(msg, name=fullname)
        is_package = fullname in PACKAGES
        spec = ModuleSpec(fullname, self, origin=str(PACKAGE), is_package=is_package)
        # Scripts build names of configs from sam2.__file__ or sam2.__path__[0].
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [str(PACKAGE.parent)]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Create an empty module."""
        return AliasModule(spec.name, 'Names of the released SAM 2 in this project.')

    def exec_module(self, module: ModuleType) -> None:
        """Fill a module with its names."""
        for name, target in MODULES[module.__name__].items():
            source, _, own_name = target.partition(':')
            setattr(module, name, getattr(import_module(source), own_name or name))
