"""Builds and initialises stock configs of mmdet and mmseg, with and without our import.

    python tests/support/stock_configs.py  # compares all of CONFIGS
    python tests/support/stock_configs.py with NAME…  # one side, a line of JSON each

Pretrained weights come from a table of addresses that this file answers itself: each
gets random weights for the backbone that asks for it, the same in every process.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import nn

OURS = 'projects.sam2'
# Their weights are torchvision://, open-mmlab:// (names of its own, Detectron2, MSRA)
# and plain addresses, with a prefix and without.
CONFIGS = (
    'mmdet/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mmdet/faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mmdet/retinanet/retinanet_r18_fpn_1x_coco.py',
    'mmdet/fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'mmdet/mask_rcnn/mask-rcnn_x101-32x4d_fpn_1x_coco.py',
    'mmdet/hrnet/faster-rcnn_hrnetv2p-w18-1x_coco.py',
    'mmdet/regnet/retinanet_regnetx-800MF_fpn_1x_coco.py',
    'mmdet/detr/detr_r50_8xb2-150e_coco.py',
    'mmdet/rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'mmdet/ssd/ssd300_coco.py',
    'mmdet/yolo/yolov3_d53_8xb8-320-273e_coco.py',
    'mmdet/yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
    'mmdet/mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'mmseg/pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
    'mmseg/pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'mmseg/deeplabv3plus/deeplabv3plus_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    'mmseg/hrnet/fcn_hr18_4xb2-40k_cityscapes-512x1024.py',
    'mmseg/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'mmseg/upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py',
    'mmseg/bisenetv1/bisenetv1_r18-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024.py',
    'mmseg/stdc/stdc1_in1k-pre_4xb12-80k_cityscapes-512x1024.py',
)


def initialise(name: str, *, with_us: bool) -> dict[str, Any]:
    """Build the model of a config and initialise its weights."""
    package, _, path = name.partition('/')
    source = _folder(package) / '.mim' / 'configs' / path
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / 'run.py'
        imports = f"custom_imports = dict(imports=['{OURS}'])\n" if with_us else ''
        config.write_text(f"_base_ = '{source}'\n{imports}")
        cfg = Config.fromfile(config)
        if not with_us and any(module.startswith(OURS) for module in sys.modules):
            msg = f'{OURS} is imported already'
            raise RuntimeError(msg)
        import_modules_from_strings([f'{package}.models'])
        init_default_scope(package)
        torch.manual_seed(0)
        model: nn.Module = MODELS.build(cfg.model)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        # Without us MMEngine needs torchvision for its names.
        vision = {} if with_us else _torchvision()
        with (
            mock.patch.dict(sys.modules, vision),
            served(model, Path(folder)) as addresses,
        ):
            model.init_weights()  # type: ignore[operator]
    total, num_changed = hashlib.sha256(), 0
    for key, value in model.state_dict().items():
        total.update(key.encode() + value.numpy().tobytes())
        num_changed += not torch.equal(value, before[key])
    return {
        'config': name,
        'hash': total.hexdigest(),
        'changed': num_changed,
        'fetched': addresses,
    }


@contextmanager
def served(model: nn.Module, folder: Path) -> Iterator[list[str]]:
    """Answer every address with weights for the parts that have a checkpoint.

    Args:
        folder: In place of torch's cache.
    """
    generator = torch.Generator().manual_seed(1)
    weights = {
        cfg.get('prefix', '') + key: torch.rand(value.shape, generator=generator)
        for module, cfg in _checkpoints(model)
        for key, value in module.state_dict().items()
    }
    addresses: list[str] = []

    def download(url: str, target: str, *_: object, **__: object) -> None:
        addresses.append(url)
        Path(target).parent.mkdir(exist_ok=True)
        torch.save({'state_dict': weights, 'meta': {}}, target)

    ours = sys.modules.get(f'{OURS}.checkpoints.reading')
    with (
        mock.patch.object(torch.hub, 'download_url_to_file', download),
        mock.patch.object(ours, 'fetch', download) if ours else nullcontext(),
        mock.patch.object(torch.hub, '_hub_dir', str(folder)),
    ):
        yield addresses


def _checkpoints(model: nn.Module) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
    """Parts that are initialised from a checkpoint, and how."""
    for module in model.modules():
        init_cfg = getattr(module, 'init_cfg', None)
        for cfg in [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []:
            if cfg.get('type') == 'Pretrained':
                yield module, cfg


def _folder(package: str) -> Path:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        msg = f'{package} is not installed'
        raise ImportError(msg)
    return Path(spec.origin).parent


class Absent(ModuleType):
    """Compiled operators of mmcv, none of which is called here."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """An operator."""
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *_, **__: None


def _torchvision() -> dict[str, ModuleType]:
    """What MMEngine asks of torchvision; its older addresses are MMEngine's own."""
    if importlib.util.find_spec('torchvision') is not None:
        return {}
    vision, models = ModuleType('torchvision'), ModuleType('torchvision.models')
    vision.__dict__.update(__version__='0.20.0', models=models)
    models.__dict__.update(list_models=lambda _: [])
    return {'torchvision': vision, 'torchvision.models': models}


def run_side(side: str, names: Sequence[str]) -> None:
    """Initialise configs in this process and print what came out.

    Args:
        side: ``'with'`` our import, or ``'without'``.
    """
    # Without it mmdet and mmseg cannot be imported beside mmcv-lite.
    sys.modules.setdefault('mmcv._ext', Absent('mmcv._ext'))
    for name in names:
        try:
            result = initialise(name, with_us=side == 'with')
        except Exception as error:  # noqa: BLE001  the other configs are of interest
            result = {'config': name, 'error': f'{type(error).__name__}: {error}'}
        sys.stdout.write(f'RESULT {json.dumps(result)}\n')


def compare(names: Sequence[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Initialise configs without and with our import."""
    sides = []
    for side in ('without', 'with'):
        command = [sys.executable, __file__, side, *names]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        lines = ran.stdout.splitlines()
        sides.append(
            [
                json.loads(line.removeprefix('RESULT '))
                for line in lines
                if line.startswith('RESULT ')
            ]
        )
    return list(zip(*sides, strict=True))


if __name__ == '__main__':
    if len(sys.argv) > 1:
        run_side(sys.argv[1], sys.argv[2:])
    else:
        for without, with_us in compare(CONFIGS):
            is_same = without == with_us and 'hash' in without
            detail = without if is_same else {'without': without, 'with': with_us}
            verdict = 'same' if is_same else 'DIFFERENT'
            sys.stdout.write(f'{verdict} {json.dumps(detail)}\n')
