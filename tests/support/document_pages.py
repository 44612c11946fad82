"""Runs the code blocks of Markdown pages on a small model and small data.

The blocks of a page run one after another in a folder of their own, with the data and
weights that :func:`write_workspace` puts there:

- ``python`` blocks share a namespace. A block that begins with a comment ``# name.py``
  is a file of that name. A block with ``_base_`` is a config, which is read; ``CONFIG``
  in the commands that follow means that file.
- ``bash`` blocks: programs of ``tools/`` are called in this process. Programs of
  others, and ours that need a cluster, are not called (:data:`NOT_CALLED`); their
  options and the configs that they name are checked.
- A comment ``<!-- not run: REASON -->`` before a block leaves it at these checks, and
  ``<!-- code: python … -->`` is a block that readers do not see.

Every config is read with the model, sizes and schedule of :func:`shrink`.
"""

import argparse
import ast
import inspect
import re
import runpy
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import mmengine.registry
import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import MODELS, DefaultScope, Registry
from mmengine.visualization import Visualizer
from numpy.typing import NDArray
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer

import projects.sam2.bridges.video_dataset  # noqa: F401  registers both bridges
from data_folders import (
    coco_content,
    labelme_content,
    object_masks,
    write_json,
    write_png,
)
from end_to_end_runs import write_clips
from projects.sam2.apis import building
from projects.sam2.engine.config import load_config
from tool_modules import ROOT, TOOLS, load_tool

MINI = str(ROOT / 'configs' / '_base_' / 'models' / 'sam2_1_mini.py')
EDGETAM_MINI = MINI.replace('sam2_1', 'edgetam')
SIZE = (64, 64)
SIZE_KEYS = {
    'ClipDataPreprocessor': 'image_size',
    'ClipResize': 'size',
    'ClipFit': 'size',
}
SHORTER = {
    'ClipSampleFrames': {'num_frames': 3},
    'RepeatDataset': {'times': 1},
    'ClipSyntheticDataset': {'num_clips': 2},
}
# Programs that no test calls, and why. Words of ours are checked all the same.
NOT_CALLED = {
    'apt-get': 'installs system packages',
    'bash': 'sets up an environment, or takes minutes',
    'cd': 'depends on the machine',
    'docker': 'needs a daemon',
    'download': 'downloads',
    'export': 'changes the environment of a shell',
    'git': 'downloads',
    'hf': 'downloads',
    'pip': 'downloads',
    'pre-commit': 'changes the clone',
    'python': 'a module runs in a process of its own',
    'sbatch': 'needs a cluster',
    'sudo': 'changes the machine',
    'source': 'changes the environment of a shell',
    'torchrun': 'starts processes',
    'dist_test.sh': 'starts processes',
    'dist_train.sh': 'starts processes',
    'slurm_test.sh': 'needs a cluster',
    'slurm_train.sh': 'needs a cluster',
}
# Positional words of a launch script before those of the program that it starts.
LAUNCHERS = {
    'dist_train.sh': ('train', slice(1, 2)),
    'dist_test.sh': ('test', slice(2, 3)),
    'slurm_train.sh': ('train', slice(0, 2)),
    'slurm_test.sh': ('test', slice(0, 2)),
}
WEIGHTS = ('tiny', 'small', 'base_plus', 'large')
original_fromfile = Config.fromfile


def pages() -> list[str]:
    """Paths of the pages with code, from the repository's root."""
    files = [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')]
    return [
        path.relative_to(ROOT).as_posix()
        for path in sorted(files)
        if path.name != 'CHANGELOG.md' and any(parse_page(path))
    ]


class PageRun:
    """Runs the blocks of a page.

    Attributes:
        config: File that ``CONFIG`` stands for.
    """

    def __init__(self) -> None:
        self.config = 'configs/sam2_mini_davis.py'

    def run(self, name: str) -> None:
        """Run the blocks of a page in the current folder.

        Raises:
            AssertionError: If blocks fail, with their lines.
        """
        errors = []
        document = parse_page(ROOT / name)
        document.namespace.update(given_names())
        reason = None
        for example in document:
            if example.region.lexemes.get('directive') == 'not run':
                reason = example.parsed
                continue
            language = example.region.lexemes['arguments'].strip('{}')
            steps = {'python': self._python, 'bash': self._bash}
            try:
                steps[language](example, reason is None)
            except (Exception, SystemExit) as error:  # noqa: BLE001  of any program
                traceback.print_exc()
                kind = type(error).__name__
                errors.append(f'{name}, line {example.line}: {kind}: {error}')
            reason = None
        assert not errors, '\n'.join(errors)
        assert reason is None, f'{name}: no block follows "not run: {reason}"'

    def _python(self, example: Example, is_run: bool) -> None:
        if is_run:
            self._run_python(example)
        check_parts(ast.parse(example.parsed.replace('{{', '(').replace('}}', ')')))

    def _run_python(self, example: Example) -> None:
        name = re.match(r'# ([\w/]+\.py)\n', example.parsed)
        is_config = re.search(r'^_base_ =', example.parsed, re.MULTILINE)
        if name is None and not is_config:
            PythonEvaluator()(example)
            return
        folder = '' if "'configs/" in example.parsed else 'configs/'
        numbered = f'{folder}{Path(example.path).stem}_{example.line}.py'
        path = Path(name[1] if name else numbered)
        path.parent.mkdir(exist_ok=True)
        path.write_text(example.parsed, encoding='utf-8')
        if not is_config:
            import_module(path.stem)  # registers its parts
        else:
            self.config = str(path)
            load_config(self.config)

    def _bash(self, example: Example, is_run: bool) -> None:
        for words in commands(example.parsed):
            program, arguments = program_of([self._resolve(word) for word in words])
            if is_run and program not in NOT_CALLED:
                call_program(program, arguments)
            else:
                check_command(program, arguments)

    def _resolve(self, word: str) -> str:
        """Replace what stands for a file of the reader."""
        names = {'CONFIG': self.config, 'CHECKPOINT': 'checkpoints/mini.pth'}
        if '…' in word and '=' not in word:
            files = sorted(Path().glob(word.replace('…', '*')))
            return str(files[-1]) if files else word
        return names.get(word, word)


def parse_page(path: Path) -> Document:
    """Find the blocks of a page and the comments before them."""
    evaluators = [
        CodeBlockParser(language, lambda example: None)
        for language in ('python', 'bash')
    ]
    return Document.parse(str(path), *evaluators, parse_comments)


def parse_comments(document: Document) -> Iterator[Region]:
    """Find the comments that say why a block does not run."""
    for region in DirectiveInHTMLCommentLexer('not run', '.+?')(document):
        region.parsed = region.lexemes['arguments'].strip()
        region.evaluator = lambda example: None
        yield region


def commands(source: str) -> Iterator[list[str]]:
    """Yield the words of each command of a bash block."""
    for line in source.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r'[A-Z0-9_]+=\S*', words[0]):
            words.pop(0)
        if words:
            yield words


def program_of(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command into its program and the rest.

    A program of ``tools/`` is given by its path below it, without suffix; another
    program in Python by its path.
    """
    program, *arguments = words
    if program.endswith('.sh'):
        assert (ROOT / program).is_file(), f'there is no {program}'
        return Path(program).name, arguments
    if program == 'mmsam2' and arguments[0].startswith('-'):
        return str(TOOLS / 'mmsam2'), arguments
    if program == 'mmsam2':
        return tool_of_command(arguments[0]), arguments[1:]
    if program == 'python' and arguments[0] != '-m':
        path = Path(arguments[0])
        assert path.is_file(), f'there is no {path}'
        is_tool = path.parts[0] == 'tools'
        tool = Path(*path.parts[1:]).with_suffix('') if is_tool else path
        return tool.as_posix(), arguments[1:]
    return Path(program).name, arguments


def tool_of_command(name: str) -> str:
    """Find the program of a command ``mmsam2 <name>``."""
    command = runpy.run_path(str(TOOLS / 'mmsam2'))
    path = command['find_programs'](TOOLS).get(command['ALIASES'].get(name, name))
    assert path is not None, f'there is no program mmsam2 {name}'
    if path.suffix == '.sh':
        return str(path.name)
    return str(path.relative_to(TOOLS).with_suffix('').as_posix())


def check_command(program: str, arguments: list[str]) -> None:
    """Check a command that is not called.

    Of a launch script, what it passes on to the program that it starts is checked.
    """
    if program not in NOT_CALLED or program == 'download':
        check_program(program, arguments)
    elif program in LAUNCHERS:
        tool, own = LAUNCHERS[program]
        arguments = [*arguments]
        del arguments[own]
        check_program(tool, arguments)
    elif program == 'torchrun':
        start = next(n for n, word in enumerate(arguments) if word.endswith('.py'))
        check_program(*program_of(['python', *arguments[start:]]))
    elif program == 'python':
        assert find_spec(arguments[1]) is not None, f'there is no {arguments[1]}'
    elif program == 'bash' and arguments[0].endswith('.sh'):
        assert (ROOT / arguments[0]).is_file(), f'there is no {arguments[0]}'


def check_program(program: str, arguments: list[str]) -> None:
    """Check that a program has the options, and that the configs exist."""
    missing = [
        word
        for word in arguments
        if word.startswith('configs/') and not Path(word).is_file()
    ]
    assert not missing, f'there is no {missing[0]}'

    def then_stop(parse: Callable[..., Any]) -> Callable[..., None]:
        def parse_and_stop(*words: Any, **options: Any) -> None:
            parse(*words, **options)
            raise _ParsedError

        return parse_and_stop

    parser = argparse.ArgumentParser
    if is_file(program):
        return
    tool = load_tool(program)
    with (
        mock.patch.object(sys, 'argv', [f'{program}.py', *arguments]),
        mock.patch.object(parser, 'parse_args', then_stop(parser.parse_args)),
        mock.patch.object(
            parser, 'parse_intermixed_args', then_stop(parser.parse_intermixed_args)
        ),
        suppress(_ParsedError),
    ):
        tool.main()


class _ParsedError(Exception):
    """The command line was read, and the program shall not go on."""


def is_file(program: str) -> bool:
    """Whether a program is given by its path, and not by its name in ``tools/``."""
    return program.endswith('.py') or Path(program).is_absolute()


def call_program(program: str, arguments: list[str]) -> None:
    """Call a program in this process.

    Raises:
        AssertionError: If it ends with an error.
    """
    folders = [str((TOOLS / program).parent), str(TOOLS)]  # programs share modules
    with (
        mock.patch.object(sys, 'argv', [program, *arguments]),
        mock.patch.object(sys, 'path', [*folders, *sys.path]),
    ):
        if is_file(program):
            runpy.run_path(program, run_name='__main__')
            code = None
        else:
            code = load_tool(program).main()
    fresh_mmengine()
    assert not (isinstance(code, int) and code), f'{program} exits with {code}'


def check_parts(tree: ast.AST) -> None:
    """Check that registered parts in dicts exist and have the options."""
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and ast.unparse(call.func) == 'dict'):
            continue
        options = {word.arg: word.value for word in call.keywords if word.arg}
        match options.pop('type', None):
            case ast.Constant(value=str(name)) if name.count('.') != 1:
                check_part(name.rpartition('.')[2], set(options))


def check_part(name: str, options: set[str]) -> None:
    """Check that a part is registered and has the options."""
    registries = vars(mmengine.registry).values()
    parts = [
        registry.module_dict[name]
        for registry in registries
        if isinstance(registry, Registry) and name in registry.module_dict
    ]
    assert parts, f'no part is registered as {name}'
    for part in parts:
        parameters = inspect.signature(part).parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        unknown = options - {*parameters, '_delete_', 'priority'}
        is_open = inspect.Parameter.VAR_KEYWORD in kinds
        assert is_open or not unknown, f'{name} has no option {min(unknown)}'


@contextmanager
def small_configs() -> Iterator[None]:
    """Read every config with a small model, small sizes and a short schedule.

    A model that an example puts on a GPU is built on the CPU.
    """

    def fromfile(*arguments: Any, **options: Any) -> Config:
        return shrink(original_fromfile(*arguments, **options))

    cpu = torch.device('cpu')
    with (
        mock.patch.object(Config, 'fromfile', fromfile),
        mock.patch.object(building, 'usable_device', return_value=cpu),
    ):
        yield


def shrink(cfg: Config) -> Config:
    """Replace the network by the mini model's at 64 px, and shorten the schedule."""
    if (cfg.get('model') or {}).get('type') in {'SAM2', 'SAM2Distillation'}:
        is_edgetam = cfg.model.tracker.type == 'EdgeTAMTracker'
        mini = original_fromfile(EDGETAM_MINI if is_edgetam else MINI).model
        for name in ('image_encoder', 'prompt_encoder', 'mask_decoder'):
            cfg.model[name] = mini[name]
        own = ('perceiver',) if is_edgetam else ()
        for name in ('memory_attention', 'memory_encoder', 'object_pointer', *own):
            cfg.model.tracker[name] = mini.tracker[name]
        cfg.model.tracker.pop('no_object_embedding', None)
        cfg.model.tracker.memory_bank.num_frames = mini.tracker.memory_bank.num_frames
    for name in ('image_size', 'clip_size'):
        if name in cfg:
            cfg[name] = SIZE
    if 'train_cfg' in cfg and 'max_epochs' in (cfg.train_cfg or {}):
        cfg.train_cfg.max_epochs = 1
    for part in dicts(list(cfg.values())):
        kind = str(part.get('type'))
        if kind in SIZE_KEYS:
            part[SIZE_KEYS[kind]] = SIZE
        if kind in SHORTER:
            shorter = SHORTER[kind].items()
            part.update({k: min(n, part[k]) for k, n in shorter if k in part})
        if 'num_workers' in part:
            part.update(num_workers=0, persistent_workers=False)
    return cfg


def dicts(node: object) -> Iterator[dict[str, Any]]:
    """Yield every dict in nested dicts and lists."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from dicts(child)


def fresh_mmengine() -> None:
    """Remove the loggers, hubs and scopes of a Runner."""
    for manager in (MMLogger, MessageHub, Visualizer, DefaultScope):
        instances = manager._instance_dict
        for instance in instances.values():
            for handler in getattr(instance, 'handlers', ()):
                handler.close()
        instances.clear()


def given_names() -> dict[str, Any]:
    """What the text around a block says that the reader has."""
    image = read(Path('photo.jpg'))[..., ::-1].copy()
    truth = (object_masks(0)[0] + 2 * object_masks(0)[1]).astype(np.uint8)
    return {
        'image': image,
        'camera': [image] * 3,
        'pred': truth,
        'truth': truth,
        'pred_masks': object_masks(1),
        'true_masks': object_masks(0),
        'void': np.zeros_like(truth, bool),
    }


def write_workspace(root: Path) -> None:
    """Write the folder in which the blocks of a page run."""
    shutil.copytree(ROOT / 'configs', root / 'configs')
    for name in ('docs', 'tests', 'tools'):
        (root / name).symlink_to(ROOT / name)
    torch.manual_seed(0)
    model = MODELS.build(shrink(original_fromfile(MINI)).model)
    (root / 'checkpoints').mkdir()
    torch.save(model.state_dict(), root / 'checkpoints' / 'mini.pth')
    names = [f'sam2.1_hiera_{size}.pt' for size in WEIGHTS]
    names.append('efficienttam_ti_2.pt')
    names += [f'checkpoints/{name}' for name in names]
    for name in (*names, 'epoch_40.pth', 'sam2.1-hiera-tiny'):
        shutil.copy(root / 'checkpoints' / 'mini.pth', root / name)
    edgetam = MODELS.build(shrink(original_fromfile(EDGETAM_MINI)).model)
    torch.save(edgetam.state_dict(), root / 'checkpoints' / 'edgetam.pt')

    write_clips(root / 'my_clips', train=6, val=1)
    (root / 'my_clips' / 'meta.json').unlink()
    shutil.rmtree(root / 'my_clips' / 'ImageSets')
    frames = sorted((root / 'my_clips' / 'JPEGImages').rglob('*.jpg'))
    write_video(root / 'clip.mp4', frames[:16])
    cv2.imwrite(str(root / 'photo.jpg'), cv2.resize(read(frames[0]), (640, 480)))
    write_images(root / 'my_images', frames)

    mine = root / 'data' / 'mine'
    shutil.copytree(root / 'my_clips', mine)
    shutil.copytree(root / 'my_images', mine, dirs_exist_ok=True)
    shutil.copytree(root / 'my_clips', root / 'data' / 'MOSE' / 'train')
    for folder in ('JPEGImages', 'Annotations'):
        davis = root / 'data' / 'DAVIS'
        shutil.copytree(root / 'my_clips' / folder, davis / folder / '480p')
        shutil.copytree(root / 'my_clips' / folder, davis / folder, dirs_exist_ok=True)
    (davis / 'ImageSets' / '2017').mkdir(parents=True)
    for name in ('2017/val', 'train', 'val'):
        path = davis / 'ImageSets' / f'{name}.txt'
        path.write_text('val_00000\n', encoding='utf-8')


def read(path: Path) -> NDArray[np.uint8]:
    """Read an image file."""
    image: Any = cv2.imread(str(path))
    return np.asarray(image, np.uint8)


def write_video(path: Path, frames: Sequence[Path]) -> None:
    """Write frames as an mp4 of 320 x 256 pixels."""
    size = (320, 256)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 24, size)
    for frame in frames:
        writer.write(cv2.resize(read(frame), size))
    writer.release()


def write_images(root: Path, frames: Sequence[Path]) -> None:
    """Write the same images for label images, LabelMe and COCO."""
    coco: dict[str, Any] = {'images': [], 'annotations': []}
    labels = (object_masks(0)[0] + 2 * object_masks(0)[1]).astype(np.uint8)
    height, width = labels.shape
    for number, frame in enumerate(frames[::4], start=1):
        name = f'image_{number:02}'
        image = cv2.resize(read(frame), (width, height))
        for folder in (root, root / 'images'):
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f'{name}.jpg'), image)
        write_png(root / 'labels' / f'{name}.png', labels)
        write_json(root / f'{name}.json', labelme_content())
        content = coco_content()
        coco['images'] += [
            {**content['images'][0], 'id': number, 'file_name': f'{name}.jpg'}
        ]
        coco['annotations'] += [
            {**entry, 'id': 10 * number + index, 'image_id': number}
            for index, entry in enumerate(content['annotations'])
        ]
    write_json(root / 'annotations.json', coco)
