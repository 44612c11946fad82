"""Describes the distribution ``mmsam2``; the import name is ``projects.sam2``."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).resolve().parent


def requirements(path: Path) -> list[str]:
    """Requirements of a file, without its comments.

    Args:
        path: A pip requirements file without ``-r`` lines.

    Returns:
        One requirement per entry.
    """
    lines = (line.strip() for line in path.read_text(encoding='utf-8').splitlines())
    return [line for line in lines if line and not line.startswith('#')]


# requirements.txt pins the torch that everything was tested with; an environment that
# already has another supported torch (with CUDA, say) may keep it. Before 2.6, torch
# runs TorchScript archives even with weights_only=True (CVE-2025-32434).
run_time = [
    'torch>=2.6' if line.startswith('torch==') else line
    for line in requirements(ROOT / 'requirements.txt')
]

setup(
    name='mmsam2',
    version='0.1.0',
    description='SAM 2 and SAM 2.1 as an MMEngine project: train, validate, predict',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10,<3.13',
    packages=find_namespace_packages(include=['projects.sam2', 'projects.sam2.*']),
    package_data={'': ['*.html']},
    install_requires=run_time,
    extras_require={
        'tests': requirements(ROOT / 'requirements' / 'tests.txt'),
        'docs': requirements(ROOT / 'requirements' / 'docs.txt'),
        'adapters': ['peft>=0.15'],
        'slurm': ['submitit>=1.5'],
    },
)
