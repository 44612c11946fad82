"""Run the notebooks of the documentation and keep their outputs.

    python docs/notebooks/run.py                  every notebook of docs/notebooks
    python docs/notebooks/run.py --check FILE …   run these, and write nothing

An error in a cell ends the program with the cell and its traceback.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from projects.sam2.ops import atomic_write

CELL_SECONDS = 300


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('notebooks', nargs='*', type=Path, help='default: all')
    parser.add_argument('--check', action='store_true', help='write no output')
    return parser.parse_args(arguments)


def run_notebook(path: Path) -> nbformat.NotebookNode:
    """Run the cells of a notebook in a kernel of its own.

    Raises:
        CellExecutionError: If a cell raises an error, with its traceback.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name='python3',
        resources={'metadata': {'path': str(ROOT)}},
    )
    client.execute()
    for cell in notebook.cells:
        cell.get('metadata', {}).pop('execution', None)  # times
        if cell.cell_type == 'code':
            cell.outputs = [output for output in cell.outputs if is_result(output)]
    return notebook


def is_result(output: nbformat.NotebookNode) -> bool:
    """Whether an output is one of the cell, not a line of a log."""
    return output.get('name') != 'stderr' and ' - mmengine - ' not in str(output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the top of this file."""
    options = parse_arguments(arguments)
    paths = options.notebooks or sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))
    for path in paths:
        started = time.monotonic()
        notebook = run_notebook(path)
        if not options.check:
            with atomic_write(path) as partial:
                nbformat.write(notebook, partial)  # type: ignore[no-untyped-call]
        print(f'{path.name}: {time.monotonic() - started:.0f} s')


if __name__ == '__main__':
    main()
