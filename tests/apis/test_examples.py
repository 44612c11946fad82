"""Every class of the API has an example in its docstring that runs."""

import doctest

import pytest

from projects.sam2 import apis

CLASSES = [name for name in apis.__all__ if isinstance(getattr(apis, name), type)]


@pytest.mark.parametrize('name', CLASSES)
def test_class_has_an_example_that_runs(name: str) -> None:
    docstring = getattr(apis, name).__doc__ or ''
    example = doctest.DocTestParser().get_doctest(docstring, {}, name, None, None)
    assert example.examples
    report: list[str] = []
    doctest.DocTestRunner().run(example, out=report.append)
    assert not report, ''.join(report)
