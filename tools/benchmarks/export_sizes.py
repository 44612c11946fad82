"""Export every size of SAM 2 and SAM 2.1 to ONNX, and tabulate size, time and error.

The weights are random, but every object counts as present, so that all branches run.
Errors are those of the export's own check: the largest difference from torch over the
root mean square of an output, with other numbers of objects, points and memories than
those of the example.

    python tools/benchmarks/export_sizes.py
    python tools/benchmarks/export_sizes.py --configs sam2_1_tiny --image-size 1024
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis.building import build_for_export
from projects.sam2.deployment import GRAPHS, GraphReport, export_onnx

SIZES = ('tiny', 'small', 'bplus', 'large')
CONFIGS = (
    'sam2_1_mini',
    *(f'{version}_{size}' for version in ('sam2_0', 'sam2_1') for size in SIZES),
)
PRESENT_LOGIT = 10.0  # added to the object score


def measure(
    config: str, side: int, precision: str, *, standard_operators: bool
) -> list[GraphReport]:
    """Export a model to a temporary folder."""
    torch.manual_seed(0)
    path = f'_base_/models/{config}.py'
    model, loaded = build_for_export(path, None, (side, side))
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += PRESENT_LOGIT
    reports: list[GraphReport] = []
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(
            model,
            folder,
            config=loaded,
            precision='float16' if precision == 'float16' else 'float32',
            standard_operators=standard_operators,
            report=reports.append,
        )
    return reports


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--configs', nargs='+', default=CONFIGS, choices=CONFIGS)
    parser.add_argument('--image-size', type=int, default=256, help='side (256)')
    parser.add_argument(
        '--precision', choices=('float32', 'float16'), default='float32'
    )
    parser.add_argument('--standard-operators', action='store_true')
    parser.add_argument('--json', type=Path, help='write the figures to a file')
    options = parser.parse_args(arguments)
    print('| model | ' + ' | '.join(GRAPHS) + ' | MB | s | error |')
    print('|---|' + '---|' * (len(GRAPHS) + 3))
    results = {}
    for config in options.configs:
        reports = measure(
            config,
            options.image_size,
            options.precision,
            standard_operators=options.standard_operators,
        )
        megabytes = [report.num_bytes / 1e6 for report in reports]
        seconds = sum(report.seconds for report in reports)
        error = max(report.error or 0.0 for report in reports)
        cells = [*(f'{size:.1f}' for size in megabytes), f'{sum(megabytes):.0f}']
        print(
            f'| {config} | {" | ".join(cells)} | {seconds:.0f} | {error:.1e} |',
            flush=True,
        )
        results[config] = {
            report.name: {
                'num_bytes': report.num_bytes,
                'seconds': report.seconds,
                'error': report.error,
            }
            for report in reports
        }
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + '\n')


if __name__ == '__main__':
    main()
