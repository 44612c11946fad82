"""Builds the distribution ``mmsam2``.

A wheel contains the package under the name ``mmsam2``, with configs and programs in
``mmsam2/.mim``, where OpenMMLab's tools look for them. An editable installation offers
the clone as ``mmsam2`` and as ``projects.sam2``.
"""

import re
import shutil
import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
CLONE_NAME, WHEEL_NAME = 'projects.sam2', 'mmsam2'
# Files that a wheel takes from the repository, as patterns within it.
CARRIED = (
    'configs/**/*.py',
    'configs/**/*.yml',
    'configs/**/*.md',
    'tools/*.py',
    'tools/dist_*.sh',
    'tools/slurm_*.sh',
    'tools/analysis_tools/*.py',
    'tools/dataset_converters/*.py',
    'tools/misc/*.py',
    'tools/model_converters/*.py',
)
WEIGHTS = Path('docs/weights/sam2_mini.pth')
# What a source archive needs beside the package.
ARCHIVED = ('configs', 'tools', 'requirements', WEIGHTS.parent.as_posix())


def requirements(name: str) -> list[str]:
    """Requirements of a file in ``requirements/``, without its comments."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.partition(' #')[0].strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(('#', '-r'))]


def read_version() -> str:
    """Version of the package, without importing it."""
    text = (ROOT / 'projects' / 'sam2' / 'version.py').read_text(encoding='utf-8')
    return re.findall(r"^__version__ = '(.+)'$", text, re.MULTILINE)[0]


class BuildWithTools(build_py):
    """Adds configs and programs to the package, under the name of the wheel."""

    def run(self) -> None:
        """Copy the package, then the files beside it."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / WHEEL_NAME / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted(p for glob in CARRIED for p in ROOT.glob(glob)):
            copy = target / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(encoding='utf-8')
            copy.write_text(text.replace(CLONE_NAME, WHEEL_NAME), encoding='utf-8')
            shutil.copymode(path, copy)
        (target / WEIGHTS).parent.mkdir(parents=True)
        shutil.copy(ROOT / WEIGHTS, target / WEIGHTS)
        index = target / 'configs' / 'model-index.yml'
        if index.is_file():  # MMEngine's hub and mim look for it here
            shutil.move(index, target / 'model-index.yml')


class CompleteArchive(sdist):
    """Adds to a source archive what the wheel is built of."""

    def add_defaults(self) -> None:
        """Collect the files."""
        super().add_defaults()
        for folder in ARCHIVED:
            self.filelist.graft(folder)
        self.filelist.global_exclude('*.pyc')


# requirements/core.txt pins the torch that everything was tested with; an environment
# that already has another supported torch (with CUDA, say) may keep it. Before 2.6,
# torch runs TorchScript archives even with weights_only=True (CVE-2025-32434).
core = [
    'torch>=2.6' if line.startswith('torch==') else line
    for line in requirements('core')
]
packages = find_namespace_packages(
    include=[CLONE_NAME, f'{CLONE_NAME}.*'],
    # The page of the demo: its source stays in the repository, what is built is data.
    exclude=[f'{CLONE_NAME}.webdemo.frontend*', f'{CLONE_NAME}.webdemo.static*'],
)
wheel_packages = [name.replace(CLONE_NAME, WHEEL_NAME) for name in packages]
is_editable = 'editable_wheel' in sys.argv

setup(
    name='mmsam2',
    version=read_version(),
    description='SAM 2 and SAM 2.1 as an MMEngine project: train, validate, predict',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10,<3.13',
    packages=[*wheel_packages, *packages] if is_editable else wheel_packages,
    package_dir={WHEEL_NAME: 'projects/sam2'},
    package_data={'': ['*.html', '*.pyi', 'py.typed', 'static/**']},
    scripts=['tools/mmsam2'],
    cmdclass={'build_py': BuildWithTools, 'sdist': CompleteArchive},
    install_requires=core,
    extras_require={
        'demo': requirements('demo'),
        'docs': requirements('docs'),
        'adapters': ['peft>=0.15'],
        'mmdet': requirements('mmdet'),
        'mmseg': requirements('mmseg'),
        'onnx': requirements('onnx'),
        'slurm': ['submitit>=1.5'],
        'text': [*requirements('mmdet'), 'transformers>=4.56,<5'],
        'mot': [*requirements('mmdet'), 'trackeval==1.3.0'],
        'tests': requirements('tests'),
    },
)
