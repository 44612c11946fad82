"""The stand-in for mmcv's compiled operators."""

import sys

import pytest
from mmengine.utils.dl_utils import mmcv_full_available

from projects.sam2.bridges import mmcv_operators
from projects.sam2.bridges.mmcv_operators import OperatorStandIn, ensure_operators


def test_called_operator_raises_and_names_the_package_to_install() -> None:
    stand_in = OperatorStandIn('mmcv._ext')
    with pytest.raises(NotImplementedError, match=r'three_nn_forward.*mmcv 2\.1\.0'):
        stand_in.three_nn_forward(1, m=2)
    assert not hasattr(stand_in, '__path__')


def test_real_operators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcv_operators, 'NAME', 'json.tool')  # a module that is there
    monkeypatch.delitem(sys.modules, 'json.tool', raising=False)
    ensure_operators()
    assert 'json.tool' not in sys.modules


def test_missing_operators_are_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcv_operators, 'NAME', 'json._ext')
    ensure_operators()
    placed = sys.modules['json._ext']
    ensure_operators()
    assert sys.modules.pop('json._ext') is placed
    assert isinstance(placed, OperatorStandIn)


def test_mmengine_still_sees_that_the_operators_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'mmcv._ext', OperatorStandIn('mmcv._ext'))
    assert not mmcv_full_available()


def test_mmcvs_report_of_the_environment_says_that_nothing_is_compiled() -> None:
    ensure_operators()
    report = pytest.importorskip('mmcv.utils').collect_env()
    if isinstance(sys.modules['mmcv._ext'], OperatorStandIn):
        assert report['MMCV Compiler'] == report['MMCV CUDA Compiler'] == 'n/a'
