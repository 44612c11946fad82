"""Make a project from your own data: inspect and split them, write a config.

    mmsam2 new my_project --from photos             # LabelMe, SA-1B, label images, …
    mmsam2 new my_project --from coco.json --images photos --size tiny
    mmsam2 new my_project --from clip.mp4 --masks clip_masks

my_project then holds config.py, the lists train.txt and val.txt, and links where they
are needed; the data are not copied. What to type next is printed.

A split that comes with the data is kept: lists such as ImageSets/train.txt and val.txt,
JSON files or folders called train and val. Otherwise images and clips are held out at
random, the frames of a video together, and of a single video its end.
"""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from progress_bar import progress_bar  # type: ignore[import-not-found]

from projects.sam2.datasets.processing.project_options import (
    CONFIG,
    LAYOUTS,
    LEFT_OUT_LIST,
    OTHER_SIZE_NAMES,
    SIZES,
)
from projects.sam2.engine.command_line import call_tool, whole_number
from projects.sam2.ops import atomic_write

if TYPE_CHECKING:
    from projects.sam2.datasets.processing.project_config import Recipe
    from projects.sam2.datasets.processing.project_data import (
        DataSplit,
        Example,
        InspectedData,
    )

SAMPLED_CLIPS, SAMPLED_IMAGES = 100, 1000  # decoded by default
FIRST_TRY = '--cfg-options train_cfg.max_epochs=1 train_cfg.val_interval=1'
MAX_IMAGE_SIZE = 4096  # pixels
MAX_WORKERS = 4
MAX_PRINTED = 10  # clips that are left out
TOOLS = Path(__file__).resolve().parent
# Programs by the names that `mmsam2` has for them.
PROGRAMS = {
    'check': 'check_dataset.py',
    'train': 'train.py',
    'predict': 'predict.py',
    'browse_dataset': 'analysis_tools/browse_dataset.py',
}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    layouts = '\n'.join(f'  {name:<15} {text}' for name, text in LAYOUTS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'layouts:\n{layouts}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('project', type=Path, help='folder of the new project')
    add(
        '--from',
        dest='data',
        type=Path,
        required=True,
        metavar='DATA',
        help='folder of the data, JSON file or mp4',
    )
    add('--images', type=Path, help='folder of the images, frames or videos')
    add('--masks', type=Path, help='folder of the masks')
    add('--layout', choices=LAYOUTS, help='layout, if several fit (see below)')
    add(
        '--size',
        type=lambda name: OTHER_SIZE_NAMES.get(name.lower(), name.lower()),
        choices=SIZES,
        default='mini',
        help='of the model: mini trains on a CPU, from weights that come with mmsam2, '
        'the others start from released weights (default mini)',
    )
    add('--image-size', type=int, help='side in pixels (default: that of the model)')
    add('--val-share', type=float, default=0.2, help='held out (default 0.2)')
    add('--seed', type=whole_number(0), default=0, help='of the split (default 0)')
    add(
        '--first-mask',
        type=int,
        metavar='N',
        help='number of the first frame in the names of the masks of an mp4',
    )
    add(
        '--sample',
        type=whole_number(0),
        metavar='N',
        help=f'clips to decode; 0 for all (default {SAMPLED_CLIPS} clips or '
        f'{SAMPLED_IMAGES} images)',
    )
    add('--overwrite', action='store_true', help='replace config and lists')
    return parser.parse_args(arguments)


def check_options(options: argparse.Namespace) -> None:
    """Refuse options before anything is read.

    Raises:
        FileExistsError: If the project exists.
        ValueError: If a number or the name of the project is invalid.
    """
    project: Path = options.project
    if not 0 < options.val_share < 1:
        msg = f'--val-share is {options.val_share}; give a number between 0 and 1'
        raise ValueError(msg)
    if options.image_size is not None and (
        not 32 <= options.image_size <= MAX_IMAGE_SIZE or options.image_size % 32
    ):
        msg = (
            f'--image-size is {options.image_size}; give a multiple of 32 up to '
            f'{MAX_IMAGE_SIZE}, as 512'
        )
        raise ValueError(msg)
    if set('\'"\\\n{}') & set(str(project.absolute())):
        name = project.absolute()
        msg = f'{name} has quotes, braces or backslashes; choose another name'
        raise ValueError(msg)
    is_project = (project / CONFIG).is_file()
    if project.is_dir() and not any(project.iterdir()):
        return
    if project.exists() and not (options.overwrite and is_project):
        what = 'exists already' if is_project else 'exists and is not a project'
        remedy = '--overwrite to replace its config and lists (its work_dir stays)'
        msg = f'{project} {what}; give another name' + (
            f', or {remedy}' if is_project else ''
        )
        raise FileExistsError(msg)


@contextmanager
def project_folder(project: Path) -> Iterator[Path]:
    """Build the files of a project in a temporary folder; put them in place at the end.

    Of a project that exists, its other files stay.
    """
    if not project.exists() or not any(project.iterdir()):
        with atomic_write(project) as folder:
            folder.mkdir()
            yield folder
        return
    folder = project / '.new.partial'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        links = project / 'data'
        if links.is_dir() and not any(
            path.is_file() and not path.is_symlink() for path in links.rglob('*')
        ):
            shutil.rmtree(links)
        (project / LEFT_OUT_LIST).unlink(missing_ok=True)
        for path in sorted(folder.iterdir()):
            path.replace(project / path.name)
    finally:
        shutil.rmtree(folder)


def make_links(folder: Path, links: Mapping[str, Path]) -> None:
    """Create the links of a project.

    Raises:
        OSError: If the file system has no links.
    """
    for name, target in links.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(target.resolve(), target_is_directory=target.is_dir())
        except OSError as error:
            msg = (
                f'cannot create a link in {folder} ({error.strerror}); make the '
                f'project on a file system with links, or arrange the data as davis'
            )
            raise OSError(msg) from error


def command(program: str, *words: object) -> str:
    """A command line, spelt as this program was started."""
    if Path(sys.argv[0]).suffix == '.py':
        start = ['python', os.path.relpath(TOOLS / PROGRAMS[program])]
    else:
        start = ['mmsam2', program]
    return shlex.join([*start, *map(str, words)])


def next_commands(
    project: Path, recipe: 'Recipe', example: 'Example | None'
) -> list[str]:
    """What to type next: check, look, train, predict."""
    config = project / CONFIG
    lines = [f'mmsam2 download {recipe.weights}'] if recipe.weights else []
    lines += [
        command('check', config),
        command('browse_dataset', config, '--out', project / 'clips.png'),
        command('train', config),
    ]
    if example is not None:
        words: list[object] = ['--video'] if example.path.is_dir() else []
        words += ['--frame', example.frame] if example.frame else []
        for box in example.boxes:
            words += ['--box', *box]
        words += ['--out-dir', project / 'predictions']
        checkpoint = f'{shlex.quote(str(project / "work_dir"))}/best_*.pth'
        start = command('predict', example.path, config)
        lines.append(f'{start} {checkpoint} {shlex.join(map(str, words))}')
    return lines


def describe_data(data: 'InspectedData', split: 'DataSplit') -> list[str]:
    """Describe what was found and how it was split."""
    from projects.sam2.datasets.processing.project_data import count

    layout = data.layout
    noun = 'clip' if layout.is_video else 'image'
    lines = [f'Found     {layout.where} ({layout.kind})']
    lines += [f'          {line}' for line in (*data.describe(), *data.notes)]
    left_out = {**data.left_out, **split.left_out}
    if left_out:
        lines.append(f'Left out  {count(len(left_out), noun)}, see {LEFT_OUT_LIST}')
        lines += [
            f'          {n}: {why}' for n, why in [*left_out.items()][:MAX_PRINTED]
        ]
    parts = f'{count(len(split.train), noun)} to train, {len(split.val)} to validate'
    return [*lines, f'Split     {parts}: {split.how}']


def describe_recipe(recipe: 'Recipe', project: Path) -> list[str]:
    """Describe the config."""
    start = 'its own' if recipe.is_mini else 'released'
    side, steps = recipe.image_size, recipe.total_steps
    text = f'{recipe.size} at {side} px from {start} weights, {steps} steps'
    lines = [f'Config    {project / CONFIG}: {text}']
    if recipe.device.memory is None and not recipe.is_mini:
        note = 'no GPU was found: a step takes some 20 s; --size mini trains in minutes'
        lines.append(f'          {note}')
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the project and say what is next."""
    options = parse_arguments(arguments)
    check_options(options)

    import projects.sam2.registration  # noqa: F401  registers the sources
    from projects.sam2.datasets.processing.layouts import (
        PROJECT_DATA,
        DataPaths,
        recognise,
    )
    from projects.sam2.datasets.processing.project_config import (
        find_device,
        plan_training,
        write_project,
    )
    from projects.sam2.datasets.processing.project_data import (
        find_example,
        inspect_data,
        split_data,
    )

    layout = recognise(
        DataPaths(
            root=options.data,
            images=options.images,
            masks=options.masks,
            first_mask=options.first_mask,
            ignored=options.project,
        ),
        options.layout,
    )
    sample = options.sample
    if sample is None:
        sample = SAMPLED_CLIPS if layout.is_video else SAMPLED_IMAGES
    project: Path = options.project
    with project_folder(project) as folder:
        links = folder / PROJECT_DATA
        make_links(links, layout.links)
        with progress_bar('Data') as advance:
            data = inspect_data(
                layout,
                links,
                sample=sample or None,
                num_workers=min(MAX_WORKERS, os.cpu_count() or 1),
                advance=advance,
            )
        split = split_data(data, share=options.val_share, seed=options.seed)
        recipe = plan_training(
            split,
            options.size,
            find_device(),
            reports=data.reports[-1],
            image_size=options.image_size,
        )
        write_project(folder, project.absolute().name, data, split, recipe)
        example = find_example(data.sources[-1], split.val[0], split.cut or 0)
    for line in (
        *describe_data(data, split),
        *describe_recipe(recipe, project),
        '',
        'Next:',
        *(f'  {line}' for line in next_commands(project, recipe, example)),
        f'For a first try, add to the line of train: {FIRST_TRY}',
    ):
        print(line)


if __name__ == '__main__':
    call_tool(main)
