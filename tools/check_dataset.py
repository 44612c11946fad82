"""Check a dataset: decode its clips, describe its content and report what is wrong.

CONFIG is the config of a run, whose dataset of --loader is checked, or a file with
`dataset = dict(type=…)`. The sources inside wrappers (ConcatDataset, RepeatDataset,
ClipVideoDataset, …) are decoded. Training clips also pass through the pipeline as in
training, and their size is compared with the model's. Of rendered clips only the first
is checked. The exit code is 0 if nothing is wrong, else 1.

    python tools/check_dataset.py configs/sam2_bplus_mose.py --workers 8
    python tools/check_dataset.py configs/sam2_bplus_mose.py --loader val --sample 20 \
        --cfg-options data_root=/data/MOSE/train --json report.json
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.engine.command_line import add_cfg_options, call_tool

if TYPE_CHECKING:
    from projects.sam2.datasets.processing.checking import SourceSummary, Spread

MAX_PRINTED = 30  # problems of a source; the JSON file has all
MAX_SIZES = 4


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    add('--loader', choices=('train', 'val', 'test'), default='train')
    add('--sample', type=int, metavar='N', help='clips to decode (default: all)')
    add('--workers', type=int, default=1, help='processes (default 1)')
    add('--timeout', type=float, default=60, help='seconds per frame (default 60)')
    add('--json', type=Path, metavar='FILE', help='write the whole report')
    add_cfg_options(parser, 'key=value for the config')
    return parser.parse_args(arguments)


def describe(summary: 'SourceSummary') -> list[str]:
    """Describe the content and the problems of a source."""
    clips = (
        f'{summary.num_clips} clips, {summary.num_opened} opened, '
        f'{summary.num_decoded} decoded, {summary.num_bad} bad'
    )
    if summary.is_generated:
        clips = f'{summary.num_clips} rendered clips, of which the first was checked'
    lines = [f'{summary.kind} {summary.data_root}', f'  clips     {clips}']
    if summary.frames_per_clip:
        spread = _numbers(summary.frames_per_clip)
        annotated = f'{summary.annotated_share:.1%} annotated'
        lines.append(f'  frames    {summary.num_frames} in all; {spread}; {annotated}')
    if summary.sizes:
        named = [f'{s.width} x {s.height} ({s.num_clips})' for s in summary.sizes]
        more = f' and {len(named) - MAX_SIZES} more' if len(named) > MAX_SIZES else ''
        lines.append(f'  sizes     {", ".join(named[:MAX_SIZES])}{more}')
    if summary.objects_per_clip and summary.object_area and summary.seen_share:
        spread = _numbers(summary.objects_per_clip)
        late = f'{summary.num_late_objects} appear late'
        area, seen = _shares(summary.object_area), _shares(summary.seen_share)
        lines += [
            f'  objects   {summary.num_objects} in all; {spread}; {late}',
            f'  area      {area} of the frame',
            f'  seen on   {seen} of the annotated frames',
        ]
    return lines + _problems(summary)


def _numbers(spread: 'Spread') -> str:
    ends = f'{spread.minimum:g} to {spread.maximum:g}'
    return f'{ends} in a clip (median {spread.median:g})'


def _shares(spread: 'Spread') -> str:
    return f'{spread.minimum:.2%} to {spread.maximum:.2%} (median {spread.median:.2%})'


def _problems(summary: 'SourceSummary') -> list[str]:
    lines = [f'  ! {each.clip}: {each.problem}' for each in summary.problems]
    num_hidden = len(lines) - MAX_PRINTED
    if num_hidden <= 0:
        return lines
    return [*lines[:MAX_PRINTED], f'  ! and {num_hidden} more (see --json)']


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; return 0 if nothing is wrong, else 1."""
    options = parse_arguments(arguments)
    from mmengine.registry import init_default_scope

    from projects.sam2.datasets.processing.checking import check_dataset
    from projects.sam2.datasets.processing.config_sources import dataset_config
    from projects.sam2.engine.config import find_size_conflicts, load_config

    cfg = load_config(options.config, options.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with progress_bar('Clips') as advance:
        summaries = check_dataset(
            dataset_config(cfg, options.loader),
            sample=options.sample,
            num_workers=options.workers,
            time_limit=options.timeout,
            advance=advance,
            num_epochs=(cfg.get('train_cfg') or {}).get('max_epochs'),
            seed=(cfg.get('randomness') or {}).get('seed') or 0,
        )
    for summary in summaries:
        print('\n'.join(describe(summary)))
    conflicts = find_size_conflicts(cfg, options.loader)
    for conflict in conflicts:
        print(f'! {conflict}')
    num_bad = len(conflicts) + sum(len(summary.problems) for summary in summaries)
    print('No problems' if not num_bad else f'{num_bad} problems')
    if options.json is not None:
        report = {
            'config': options.config,
            'loader': options.loader,
            'num_problems': num_bad,
            'problems': conflicts,
            'sources': [asdict(summary) for summary in summaries],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1), encoding='utf-8')
    return int(num_bad > 0)


if __name__ == '__main__':
    call_tool(main)
