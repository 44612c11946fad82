"""Train and validate stock configs of mmdetection and mmsegmentation, on small data.

    python tools/benchmarks/stock_configs.py --json work_dirs/stock_configs.json
    python tools/benchmarks/stock_configs.py --ours
    python tools/benchmarks/stock_configs.py --only dino solov2 segformer

Each config is read as a user's config would be that inherits it and adds
``custom_imports`` of this package, then shrunk to generated shapes
(``small_configs.py``), trained for three iterations and validated, in a process of its
own. With mmcv-lite this shows that a config runs on the operators in torch. A config
fails if it raises, if a loss is not finite or if there is no metric; the reason is
listed, the log is in the work directory, and the exit status is 1. --ours runs
``configs/mmdet`` and ``configs/mmseg`` of this project.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import call_tool, whole_number
from projects.sam2.installation import CONFIGS
from projects.sam2.ops import write_atomically

BRIDGE = 'projects.sam2.bridges.{}'
# Config of a package, and what is special about it.
MMDET = {
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco': 'two-stage',
    'faster_rcnn/faster-rcnn_r50_fpn_soft-nms_1x_coco': 'two-stage, soft-NMS',
    'libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco': 'two-stage, balanced',
    'dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco': 'two-stage, deformable convolution',
    'dcn/faster-rcnn_r50_fpn_dpool_1x_coco': 'two-stage, deformable RoI pooling',
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco': 'instance, two-stage',
    'swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco': 'instance, two-stage, Swin-T',
    'dcnv2/mask-rcnn_r50-mdconv-c3-c5_fpn_1x_coco': (
        'instance, modulated deformable convolution'
    ),
    'carafe/mask-rcnn_r50_fpn-carafe_1x_coco': 'instance, CARAFE upsampling',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco': 'instance, cascade',
    'htc/htc_r50_fpn_1x_coco': 'instance, cascade with a semantic branch',
    'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco': 'instance, point sampling',
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco': 'queries and RoIs',
    'retinanet/retinanet_r50_fpn_1x_coco': 'one-stage, focal loss',
    'guided_anchoring/ga-retinanet_r50_fpn_1x_coco': (
        'one-stage, masked and deformable convolution'
    ),
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco': 'one-stage, no anchors',
    'gfl/gfl_r50_fpn_1x_coco': 'one-stage, distributions of boxes',
    'dyhead/atss_r50_fpn_dyhead_1x_coco': 'one-stage, DyHead',
    'tood/tood_r50_fpn_1x_coco': 'one-stage, task-aligned',
    'vfnet/vfnet_r50_fpn_1x_coco': 'one-stage, star-shaped deformable convolution',
    'reppoints/reppoints-moment_r50_fpn_1x_coco': 'one-stage, point sets',
    'centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco': 'one-stage, heatmaps',
    'yolo/yolov3_d53_8xb8-320-273e_coco': 'one-stage, YOLOv3',
    'yolox/yolox_tiny_8xb8-300e_coco': 'one-stage, YOLOX',
    'rtmdet/rtmdet_tiny_8xb32-300e_coco': 'one-stage, RTMDet',
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco': 'instance, one-stage, RTMDet-Ins',
    'yolact/yolact_r50_1xb8-55e_coco': 'instance, prototypes',
    'solov2/solov2_r50_fpn_1x_coco': 'instance, locations',
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance': (
        'instance, conditional convolution'
    ),
    'detr/detr_r50_8xb2-150e_coco': 'DETR',
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco': 'DETR, deformable attention',
    'dino/dino-4scale_r50_8xb2-12e_coco': 'DETR, denoising',
    'ddq/ddq-detr-4scale_r50_8xb2-12e_coco': 'DETR, distinct queries',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco': 'instance, Mask2Former',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic': 'panoptic, Mask2Former',
    'glip/glip_atss_swin-t_a_fpn_dyhead_16xb2_ms-2x_funtune_coco': 'text, GLIP',
    'grounding_dino/grounding_dino_swin-t_finetune_16xb2_1x_coco': (
        'text, Grounding DINO'
    ),
}
MMSEG = {
    'upernet/upernet_r50_4xb4-80k_ade20k-512x512': 'semantic, UPerNet',
    'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512': (
        'semantic, UPerNet, Swin-T'
    ),
    'deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-769x769': (
        'semantic, DeepLabV3+, sliding window'
    ),
    'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512': 'semantic, PSPNet',
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512': 'semantic, SegFormer',
    'ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024': 'semantic, OCRNet, HRNet',
    'ccnet/ccnet_r50-d8_4xb2-40k_cityscapes-512x1024': 'semantic, criss-cross',
    'psanet/psanet_r50-d8_4xb4-80k_ade20k-512x512': 'semantic, PSANet',
    'point_rend/pointrend_r50_4xb4-160k_ade20k-512x512': 'semantic, point sampling',
    'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024': 'semantic, BiSeNetV2',
    'knet/knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512': 'semantic, K-Net',
    'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512': 'semantic, SegNeXt',
    'segmenter/segmenter_vit-t_mask_8xb1-160k_ade20k-512x512': 'semantic, ViT',
    'encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512': 'semantic, EncNet',
    'stdc/stdc1_4xb12-80k_cityscapes-512x1024': 'semantic, STDC',
    'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512': 'semantic, MaskFormer',
    'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512': 'semantic, Mask2Former',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A config to run.

    Attributes:
        package: ``mmdet`` or ``mmseg``.
        name: For people.
        base: What the small config inherits.
        kind: What is special about it.
    """

    package: str
    name: str
    base: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        package: ``mmdet`` or ``mmseg``.
        config: Name of the config.
        kind: What is special about it.
        problem: Why it failed; empty if it did not.
        seconds: Elapsed time, with the building of the model.
        cpu_seconds: CPU time of the process, which a busy machine does not change.
        parameters: Number of parameters of the model.
        metrics: Of the validation.
    """

    package: str
    config: str
    kind: str
    problem: str
    seconds: float
    cpu_seconds: float = 0.0
    parameters: int = 0
    metrics: dict[str, float]


def stock_tasks() -> Iterator[Task]:
    """Yield the stock configs."""
    for package, configs in (('mmdet', MMDET), ('mmseg', MMSEG)):
        for name, kind in configs.items():
            base = f'{package}::{name}.py'
            yield Task(package=package, name=name, base=base, kind=kind)


def own_tasks() -> Iterator[Task]:
    """Yield the configs of this project for both packages."""
    for package in ('mmdet', 'mmseg'):
        for path in sorted((CONFIGS / package).glob('*.py')):
            name = f'configs/{package}/{path.stem}'
            yield Task(package=package, name=name, base=str(path), kind='ours')


def run_task(task: Task, data: Path, work_dir: Path) -> Outcome:
    """Train and validate a config in this process.

    Returns:
        The outcome; its ``problem`` says what went wrong.
    """
    from mmengine.runner import Runner
    from small_configs import (  # type: ignore[import-not-found]
        NUM_ITERATIONS,
        small_config,
    )

    begin, cpu_begin = time.perf_counter(), time.process_time()
    cfg = small_config(task.base, BRIDGE.format(task.package), data, work_dir)
    runner = Runner.from_cfg(cfg)
    parameters = sum(each.numel() for each in runner.model.parameters())
    scalars = runner.message_hub.log_scalars
    problem = ''
    if runner._train_loop is None:  # noqa: SLF001  Runner has no other way to ask
        metrics = runner.test()
    else:
        runner.train()
        metrics = {
            key.removeprefix('val/'): float(buffer.current())
            for key, buffer in scalars.items()
            if key.startswith('val/') and not key.endswith('time')
        }
        losses = scalars['train/loss'].data[0]
        if runner.iter != NUM_ITERATIONS:
            problem = f'{runner.iter} iterations instead of {NUM_ITERATIONS}'
        elif not all(map(math.isfinite, losses)):
            problem = f'losses are {[float(loss) for loss in losses]}'
    if not problem and not metrics:
        problem = 'the validation has no metric'
    return Outcome(
        package=task.package,
        config=task.name,
        kind=task.kind,
        problem=problem,
        seconds=time.perf_counter() - begin,
        cpu_seconds=time.process_time() - cpu_begin,
        parameters=parameters,
        metrics=metrics,
    )


def _send_outcome(task: Task, data: Path, work_dir: Path, out: Connection) -> None:
    """Run a config in a child process, its output in a log file."""
    work_dir.mkdir(parents=True, exist_ok=True)
    log = os.open(work_dir / 'log.txt', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    begin = time.perf_counter()
    try:
        outcome = run_task(task, data, work_dir)
    except Exception as error:  # noqa: BLE001  the other configs are of interest
        traceback.print_exc()
        outcome = _failed(task, _describe(error), begin)
    out.send(asdict(outcome))


def _describe(error: Exception) -> str:
    """First line of an error, with the place that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f'{"/".join(Path(frame.filename).parts[-3:])}:{frame.lineno}'
    first_line = (str(error).splitlines() or [''])[0]
    return f'{type(error).__name__}: {first_line} ({place})'


def _failed(task: Task, problem: str, begin: float) -> Outcome:
    return Outcome(
        package=task.package,
        config=task.name,
        kind=task.kind,
        problem=problem,
        seconds=time.perf_counter() - begin,
        metrics={},
    )


def run_in_child(task: Task, data: Path, work_dir: Path, time_limit: int) -> Outcome:
    """Run a config in a process of its own, which may crash or hang.

    The process is forked, so that it need not import torch again.
    """
    context = multiprocessing.get_context('fork')
    inside, outside = context.Pipe(duplex=False)
    child = context.Process(
        target=_send_outcome, args=(task, data, work_dir, outside), daemon=False
    )
    begin = time.perf_counter()
    child.start()
    outside.close()
    try:
        if not inside.poll(time_limit):
            return _failed(task, f'takes longer than {time_limit} s', begin)
        outcome = Outcome(**inside.recv())
    except EOFError:
        child.join()
        return _failed(task, f'the process ended with status {child.exitcode}', begin)
    else:
        return outcome
    finally:
        child.kill()
        child.join()


def describe(outcome: Outcome) -> str:
    """A row of the table."""
    row = f'{outcome.package}  {outcome.config:<76} {outcome.kind:<46}'
    if outcome.problem:
        return f'{row} FAILED {outcome.problem}'
    return (
        f'{row} {outcome.parameters / 1e6:6.1f} M parameters '
        f'{outcome.cpu_seconds:6.1f} s of CPU'
    )


def environment() -> dict[str, Any]:
    """Versions and the device."""
    import mmcv
    import mmdet
    import mmengine
    import mmseg
    import torch

    modules = (torch, mmengine, mmcv, mmdet, mmseg)
    has_gpu = torch.cuda.is_available()
    compiled = sys.modules.get('mmcv._ext')
    return {
        **{module.__name__: module.__version__ for module in modules},
        'compiled_operators': hasattr(compiled, '__file__'),
        'device': torch.cuda.get_device_name() if has_gpu else platform.processor(),
        'threads': torch.get_num_threads(),
    }


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the outcomes so far, so that an interrupted run leaves something."""
    content = {
        'environment': environment(),
        'outcomes': [asdict(each) for each in outcomes],
    }
    write_atomically(path, json.dumps(content, indent=1))


def read_outcomes(path: Path) -> list[Outcome]:
    """Outcomes of an earlier run without those that failed; none without a file."""
    if not path.is_file():
        return []
    content = json.loads(path.read_text(encoding='utf-8'))
    outcomes = [Outcome(**each) for each in content['outcomes']]
    return [each for each in outcomes if not each.problem]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--ours', action='store_true', help="run this project's configs instead")
    add('--only', nargs='+', metavar='WORD', help='run configs with one of these words')
    add('--list', action='store_true', help='list the configs and end')
    add(
        '--json',
        type=Path,
        metavar='FILE',
        help='write the outcomes to FILE; what ran according to it is not run again',
    )
    add(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/stock_configs'),
        help='data, logs and small configs (default work_dirs/stock_configs)',
    )
    add(
        '--time-limit',
        type=whole_number(1),
        default=600,
        metavar='SECONDS',
        help='of one config (default 600)',
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the configs; return 1 if one of them failed.

    Raises:
        ValueError: If no config has one of the words.
    """
    options = parse_arguments(arguments)
    tasks = list(own_tasks() if options.ours else stock_tasks())
    if options.only:
        words = options.only
        tasks = [
            each
            for each in tasks
            if any(word in f'{each.package} {each.name}' for word in words)
        ]
        if not tasks:
            msg = f'No config has one of {words} in its name; see --list'
            raise ValueError(msg)
    if options.list:
        print(
            '\n'.join(f'{each.package}  {each.name}  ({each.kind})' for each in tasks)
        )
        return 0
    from small_configs import make_data

    from projects.sam2.bridges import mmdet, mmseg  # noqa: F401  for all children

    root: Path = options.work_dir.resolve()
    make_data(root / 'data')
    outcomes = read_outcomes(options.json) if options.json else []
    num_earlier = len(outcomes)
    earlier = {each.config for each in outcomes}
    for task in tasks:
        if task.name in earlier:
            continue
        work_dir = root / task.package / Path(task.name).name
        outcome = run_in_child(task, root / 'data', work_dir, options.time_limit)
        outcomes.append(outcome)
        print(describe(outcome), flush=True)
        if options.json:
            write_outcomes(options.json, outcomes)
    failed = [each.config for each in outcomes if each.problem]
    seconds = sum(each.cpu_seconds for each in outcomes)
    print(
        f'{len(outcomes) - len(failed)} of {len(outcomes)} ran, in {seconds:.0f} s of '
        f'CPU; {num_earlier} of them earlier'
    )
    return int(bool(failed))


if __name__ == '__main__':
    call_tool(main)
