"""The sections of the GPU suite, and the tables of their results in Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
NOTE = 'note'  # key of what went wrong in a row
LEFT_OUT = 'left_out'  # key of why a section is left out
OUT_OF_MEMORY = 'out of memory'  # a note that is no failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table of the suite.

    Attributes:
        title: Heading.
        text: What the rows are.
        columns: Heading of each column, by the key of its cells.
        share: Share of the suite's time.
        is_optional: Runs only where it is asked for.
    """

    title: str
    text: str
    columns: Mapping[str, str]
    share: float
    is_optional: bool = False


SECTIONS = {
    'card': Section(
        title='The card',
        text='Ceilings that the other figures are to be compared with, and whether the '
        'masks are those of a CPU.',
        columns={'what': '', 'value': '', 'unit': 'unit'},
        share=1,
    ),
    'images': Section(
        title='Images',
        text='From pixels of 1280x720 to masks on the host, in bfloat16; an image of a '
        'batch of 8, one image, a click.',
        columns={
            'model': 'model',
            'batch_ms': 'image of a batch, ms',
            'image_ms': 'one image, ms',
            'click_ms': 'click, ms',
            'peak_gb': 'peak, GB',
        },
        share=3,
    ),
    'masks': Section(
        title='Everything in an image',
        text='32 x 32 points, in bfloat16, where no mask passes the filters and where '
        'all do.',
        columns={
            'model': 'model',
            'kept': 'kept',
            'image_s': 'image, s',
            'masks': 'masks',
            'peak_gb': 'peak, GB',
        },
        share=2,
    ),
    'waits': Section(
        title='Waits for the device',
        text='Calls that wait for the device, as torch warns of them and as the '
        "profiler sees the runtime's calls, and the time that the device is busy. "
        'results.json has the lines that wait and the longest kernels.',
        columns={
            'job': 'job',
            'job_ms': 'time, ms',
            'busy_ms': 'busy, ms',
            'busy': 'share',
            'kernels': 'kernels',
            'waits': 'waits',
            'waiting_calls': 'waiting calls',
        },
        share=2,
    ),
    'training': Section(
        title='A training step',
        text='Base+, a clip of 8 frames of 1024 px with 3 objects, bfloat16, a click '
        'and seven corrections on each of two frames, with the optimizer. *Plain* '
        "keeps everything for the backward pass and attends with torch's kernel.",
        columns={
            'recipe': 'recipe',
            'way': 'way',
            'step_s': 'step, s',
            'clips_s': 'clips/s',
            'peak_gb': 'peak, GB',
            'first_s': 'first step, s',
            'tflop': 'TFLOP',
            'tflop_s': 'TFLOP/s',
        },
        share=5,
    ),
    'video': Section(
        title='Objects in a video',
        text='A frame with full memories, in bfloat16. The loop tracks one object '
        'after another, as the release does; the batch is ours. Frames/s are those of '
        'the predictor, from pixels of 1280x720 to masks on the host.',
        columns={
            'model': 'model',
            'objects': 'objects',
            'encode_ms': 'encoding, ms',
            'loop_ms': 'loop, ms',
            'batch_ms': 'batch, ms',
            'frames_s': 'frames/s',
            'peak_gb': 'peak, GB',
        },
        share=5,
    ),
    'onnx': Section(
        title='ONNX Runtime',
        text='The exported model in the same predictors, from pixels of 1280x720 to '
        'masks on the host.',
        columns={
            'model': 'model',
            'precision': 'precision',
            'objects': 'objects',
            'image_ms': 'one image, ms',
            'click_ms': 'click, ms',
            'frames_s': 'frames/s',
            'export_s': 'exporting, s',
            'peak_gb': "peak of torch's memory, GB",
        },
        share=3,
    ),
    'compiled': Section(
        title='Compiled',
        text='Frames without reading them, as in the table of videos, and a training '
        'step, eager and with the recipe of `--compile`. The difference is that of '
        'the features or masks, over their norm.',
        columns={
            'model': 'model',
            'job': 'job',
            'eager_ms': 'eager, ms',
            'compiled_ms': 'compiled, ms',
            'ratio': 'ratio',
            'difference': 'difference',
            'compile_s': 'compiling, s',
        },
        share=8,
    ),
    'package': Section(
        title='AOTInductor',
        text='As for ONNX Runtime, with a package of compiled graphs.',
        columns={
            'model': 'model',
            'runtime': 'runtime',
            'objects': 'objects',
            'image_ms': 'one image, ms',
            'click_ms': 'click, ms',
            'frames_s': 'frames/s',
            'export_s': 'exporting, s',
        },
        share=4,
        is_optional=True,
    ),
    'operators': Section(
        title="mmcv's operators",
        text='As `tools/benchmarks/mmcv_operators.py` measures them.',
        columns={'operator': 'operator', 'call_ms': 'ms'},
        share=1,
        is_optional=True,
    ),
    'tests': Section(
        title='Tests that need a GPU',
        text='Run by pytest.',
        columns={
            'file': 'file',
            'passed': 'passed',
            'failed': 'failed',
            'skipped': 'skipped',
        },
        share=2,
        is_optional=True,
    ),
}


def tables(results: Mapping[str, Any]) -> str:
    """Write the results of the suite as a page in Markdown."""
    machine = results.get('machine', {})
    parts = [
        ', '.join(f'{key} {value}' for key, value in machine.items() if value)
        + f'; {results["date"]}.'
    ]
    if results.get('is_toy'):
        parts.append(
            '**Toy size, without a GPU: this shows that the suite runs; the figures '
            'mean nothing.**'
        )
    for name, section in SECTIONS.items():
        entry = results['sections'].get(name)
        if entry is not None:
            parts += [f'### {section.title}', section.text]
            parts += [table(section, entry['rows'])]
            parts += [entry.get(LEFT_OUT), entry.get('failure')]
    return '\n\n'.join(part for part in parts if part) + '\n'


def table(section: Section, rows: Sequence[Row]) -> str:
    """Write the rows of a section."""
    columns = dict(section.columns)
    if any(NOTE in row for row in rows):
        columns[NOTE] = 'note'
    lines = [list(columns.values()), ['---'] * len(columns)]
    lines += [[cell(row.get(key)) for key in columns] for row in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) if rows else ''


def cell(value: object) -> str:
    """Format a cell, numbers with three significant digits."""
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return str(value).replace('|', '\\|')
