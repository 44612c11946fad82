"""The notebooks of the documentation run, and show pictures."""

import re
from pathlib import Path

import nbformat
import pytest

from tool_modules import ROOT, load_tool

NOTEBOOKS = sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    """Pictures among the outputs, as base64."""
    return [
        output.data['image/jpeg']
        for cell in notebook.cells
        for output in cell.get('outputs', ())
        if 'image/jpeg' in output.get('data', {})
    ]


def printed(notebook: nbformat.NotebookNode) -> str:
    return ''.join(
        output.get('text', '')
        for cell in notebook.cells
        for output in cell.get('outputs', ())
    )


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: str(path.stem))
def test_notebook_runs_and_is_committed_with_its_pictures(path: Path) -> None:
    committed = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    assert path.stat().st_size < 300_000
    notebook = load_tool('../docs/notebooks/run').run_notebook(path)
    assert len(pictures(notebook)) == len(pictures(committed)) > 2
    if path.stem == 'fine_tune':
        (scores,) = re.findall(
            r'IoU ([\d.]+) before, ([\d.]+) after', printed(notebook)
        )
        before, after = map(float, scores)
        assert after > before + 0.5
