"""Exports by torch.export and AOTInductor: equal to the model at all sizes."""

import copy
import dataclasses
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
from mmengine.config import Config

from projects.sam2.deployment import (
    GRAPHS,
    ExportedGraph,
    ExportTarget,
    PackageRunner,
    example_inputs,
    export_torch,
    exporting,
    load_exported,
    read_manifest,
    torch_package,
)
from projects.sam2.models import SAM2

# Objects, memories, pointers and points: the least, one of each, and many.
SIZES = [(1, 1, 0, 0), (1, 1, 1, 1), (2, 1, 0, 2), (5, 7, 16, 9)]


def export_one(
    mini: tuple[SAM2, Config], graph: str, runtime: Any, folder: Path
) -> PackageRunner:
    """Export one graph as `export_torch` exports all, and open it."""
    model, config = mini
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, 'GRAPHS', {graph: GRAPHS[graph]})
        export_torch(
            model,
            folder,
            config=config,
            runtime=runtime,
            check=False,
            report=lambda _: None,
        )
    return PackageRunner(folder, device='cpu')


def assert_equal_at_all_sizes(model: SAM2, runner: PackageRunner, graph: str) -> None:
    """Compare a graph with the model, contiguous inputs and others."""
    for seed, (num_objects, num_memories, num_pointers, num_points) in enumerate(SIZES):
        inputs = example_inputs(
            model,
            num_objects=num_objects,
            num_memories=num_memories,
            num_pointers=num_pointers,
            num_points=num_points,
            seed=seed,
        )[graph]
        channels_last = {
            name: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t
            for name, t in inputs.items()
        }
        with torch.no_grad():
            expected = GRAPHS[graph](model).run(inputs)
        for given in (inputs, channels_last):
            for name, output in runner.run(graph, given).items():
                scale = expected[name].square().mean().sqrt()
                assert (output - expected[name]).abs().max() < 1e-5 * scale, name


@pytest.fixture(scope='module')
def program(
    mini: tuple[SAM2, Config], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of the mask decoder, as a program of torch.export."""
    folder = tmp_path_factory.mktemp('program')
    export_one(mini, 'decode', 'export', folder)
    return folder


def test_a_program_equals_the_model_at_all_sizes(
    mini_model: SAM2, program: Path
) -> None:
    runner = PackageRunner(program, device='cpu')
    copied = copy.deepcopy(runner)  # as a predictor's state is
    assert_equal_at_all_sizes(mini_model, copied, 'decode')


def test_a_program_runs_in_another_process_and_under_autocast(
    mini_model: SAM2, program: Path
) -> None:
    runner = PackageRunner(program, device='cpu')
    inputs = example_inputs(mini_model)['decode']
    expected = runner.run('decode', inputs)
    with torch.autocast('cpu', torch.bfloat16):  # as users of the release predict
        other = pickle.loads(pickle.dumps(runner))  # noqa: S301  our own
        outputs = other.run('decode', inputs)
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    'SAM2_COMPILE_TESTS' not in os.environ or shutil.which('g++') is None,
    reason='set SAM2_COMPILE_TESTS; needs a C++ compiler and some minutes',
)
@pytest.mark.parametrize('graph', GRAPHS)
def test_a_package_equals_the_model_at_all_sizes(
    mini: tuple[SAM2, Config], graph: str, tmp_path: Path
) -> None:
    runner = export_one(mini, graph, 'aotinductor', tmp_path)
    assert_equal_at_all_sizes(mini[0], runner, graph)


def test_a_mask_in_channels_last_layout_is_put_in_order() -> None:
    mask = torch.rand(2, 1, 8, 8).to(memory_format=torch.channels_last)
    (seen,) = torch_package.call_graph(
        lambda mask: (mask,), {'mask': mask}, mask.device
    )
    assert mask.is_contiguous()  # as torch says, since there is one channel
    assert seen.stride() == (64, 64, 8, 1) != mask.stride()
    assert torch.equal(seen, mask)


def test_a_file_holds_the_weights_of_its_graph_alone(
    mini_model: SAM2, program: Path
) -> None:
    num_bytes = sum(weight.nbytes for weight in mini_model.parameters())
    assert (program / 'decode.pt2').stat().st_size < 0.6 * num_bytes


def test_a_package_for_another_device_is_refused(program: Path, tmp_path: Path) -> None:
    manifest = read_manifest(program)
    here = ExportTarget.of(torch.device('cpu'))

    def open_for(**changes: Any) -> PackageRunner:
        target = dataclasses.replace(here, **changes)
        dataclasses.replace(manifest, target=target).write(tmp_path)
        return PackageRunner(tmp_path)

    assert open_for().device == torch.device('cpu')
    with pytest.raises(ValueError, match=r'with avx2048, which this one .* lacks'):
        open_for(capabilities=(*here.capabilities, 'avx2048'))
    with pytest.raises(ValueError, match='with aarch64, which this one'):
        open_for(architecture='aarch64')
    open_for()
    with pytest.raises(ValueError, match='compiled for cpu and cannot run on cuda'):
        PackageRunner(tmp_path, device='cuda')


def test_a_bad_file_is_refused_in_one_line(program: Path, tmp_path: Path) -> None:
    inputs = {spec.name: torch.zeros(1) for spec in GRAPHS['decode'].inputs}
    with pytest.raises(ValueError, match=r'decode takes embedding as float32'):
        PackageRunner(program).run('decode', inputs)
    folder = tmp_path / 'bad'
    shutil.copytree(program, folder)
    path, manifest = folder / 'decode.pt2', read_manifest(folder)
    path.write_bytes(b'no archive')
    runner = PackageRunner(folder)
    with pytest.raises(ValueError, match='is not of this export'):
        runner._graph('decode')
    graph = ExportedGraph.from_file(
        path,
        inputs=manifest.graphs['decode'].inputs,
        outputs=manifest.graphs['decode'].outputs,
    )
    dataclasses.replace(manifest, graphs={'decode': graph}).write(folder)
    with pytest.raises(ValueError, match=r'cannot load .*decode.pt2, which torch'):
        PackageRunner(folder)._graph('decode')


def test_options_of_another_runtime_are_refused(
    mini: tuple[SAM2, Config], program: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match='of ONNX Runtime, and torch runs'):
        load_exported(program, provider='cpu')
    manifest = read_manifest(program)
    dataclasses.replace(manifest, runtime='onnx').write(tmp_path)
    with pytest.raises(ValueError, match='holds no graphs of torch, but onnx'):
        PackageRunner(tmp_path)
    with pytest.raises(ValueError, match="runtime is 'tvm'"):
        export_one(mini, 'attend', 'tvm', tmp_path)


def test_a_missing_compiler_is_named_before_the_export(
    mini: tuple[SAM2, Config], tmp_path: Path
) -> None:
    with (
        torch._inductor.config.patch({'cpp.cxx': ('no-such-compiler',)}),
        pytest.raises(ValueError, match=r'needs a C\+\+ compiler, and there is none'),
    ):
        export_one(mini, 'attend', 'aotinductor', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
