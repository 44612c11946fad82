"""Download released weights: ``python tools/download.py sam2.1_hiera_tiny``."""

import argparse
import os
import re
from contextlib import nullcontext
from pathlib import Path
from urllib.error import URLError

from progress_bar import progress_bar  # type: ignore[import-not-found]
from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()
from projects.sam2.checkpoints.released import (
    FOLDER_VARIABLE,
    MIRROR_VARIABLE,
    RELEASED,
    SAM3_DOWNLOAD,
    FamilyWeights,
    ReleasedWeights,
    download,
    download_folder,
    find_file,
    near_names,
    released_weights,
)
from projects.sam2.engine.command_line import call_tool
from projects.sam2.installation import own_config
from projects.sam2.ops.fetching import file_name_of

DESCRIPTION = f"""Download weights by name, and check their size and SHA-256.

A download that breaks off goes on where it stopped when the command is repeated.

The files go into --out; by default into the folder that {FOLDER_VARIABLE} names, else
into `checkpoints/` of the working directory or of the clone, else into torch's cache.
Configs and build_sam2 find them there by name.
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'names',
        nargs='*',
        metavar='NAME',
        help='released name (sam2.1_hiera_tiny, sam2_hiera_b+, edgetam), id on '
        'Hugging Face (facebook/sam2.1-hiera-tiny), or a config, for the weights that '
        'it starts from',
    )
    parser.add_argument(
        '--list', action='store_true', help='list the names, sizes, hashes and files'
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the files')
    parser.add_argument(
        '--mirror',
        default=os.environ.get(MIRROR_VARIABLE),
        metavar='URL',
        help=f'address of a folder that has the released files, in place of the '
        f'release (default: {MIRROR_VARIABLE})',
    )
    parser.add_argument(
        '--url', help='address of one file, released or not; takes no NAME'
    )
    parser.add_argument(
        '--sha256', type=_sha256, metavar='HEX', help='expected hash of the one file'
    )
    parser.add_argument(
        '--trust-first',
        action='store_true',
        help='accept a file of unknown hash, and write the hash down for the next time',
    )
    parser.add_argument(
        '--force', action='store_true', help='fetch files again that exist'
    )
    options = parser.parse_args(arguments)
    num_files = len(options.names) + bool(options.url)
    if not num_files and not options.list:
        parser.error('give a NAME, as sam2.1_hiera_tiny, or --list')
    if options.url and options.names:
        parser.error('--url takes no NAME: the file keeps the name of its address')
    if options.sha256 and num_files != 1:
        parser.error('--sha256 is the hash of one file; give one NAME or --url')
    return options


def _sha256(text: str) -> str:
    if not re.fullmatch('[0-9a-fA-F]{64}', text):
        msg = f'{text!r} is not 64 hexadecimal digits'
        raise argparse.ArgumentTypeError(msg)
    return text.lower()


def main(arguments: list[str] | None = None) -> None:
    """Run the tool."""
    options = parse_arguments(arguments)
    if options.list:
        print_table()
    # All names are looked up before the first file is downloaded.
    weights = {name: find_weights(name) for name in options.names}
    folder = options.out or download_folder()
    if options.url:
        file_name = file_name_of(options.url)
        released = released_weights(file_name) if file_name.endswith('.pt') else None
        fetch_with_bar(options.url, folder / file_name, released, options)
    for released in dict.fromkeys(weights.values()):
        mirror = options.mirror and options.mirror.rstrip('/')
        url = f'{mirror}/{released.file_name}' if mirror else released.url
        fetch_with_bar(url, folder / released.file_name, released, options)


def find_weights(name: str) -> ReleasedWeights | FamilyWeights:
    """Find the released weights that a name or a config means.

    Raises:
        ValueError: If there are none.
    """
    if released := released_weights(name):
        return released
    if name == 'sam3':
        raise ValueError(SAM3_DOWNLOAD)
    path = Path(name) if Path(name).is_file() else own_config(name)
    if path is None or path.suffix != '.py':
        msg = (
            f'No weights were released under the name {name}, and it is not a config; '
            f'similar names: {", ".join(near_names(name))}'
        )
        raise ValueError(msg)
    from projects.sam2.engine.config import read_config  # imports torch

    load_from = read_config(path).get('load_from')
    if load_from is None:
        msg = f'{path} starts from random weights: there is nothing to download'
        raise ValueError(msg)
    released = released_weights(load_from)
    if released is None:
        if Path(load_from).stem == 'sam3':
            raise ValueError(SAM3_DOWNLOAD)
        msg = f'{path} starts from {load_from}, which is not a released file'
        raise ValueError(msg)
    return released


def fetch_with_bar(
    url: str,
    target: Path,
    released: ReleasedWeights | FamilyWeights | None,
    options: argparse.Namespace,
) -> None:
    """Download a file, show a bar, and say where the file is."""
    sha256, num_bytes = options.sha256, None
    if released is not None and sha256 is None:
        sha256, num_bytes = released.sha256, released.num_bytes
    existed = target.is_file() and not options.force
    bar = nullcontext() if existed else progress_bar(target.name, in_bytes=True)
    try:
        with bar as advance:
            digest = download(
                url,
                target,
                sha256=sha256,
                num_bytes=num_bytes,
                trust_first=options.trust_first,
                replace=options.force,
                on_progress=advance,
            )
    except OSError as error:
        if not isinstance(error.__cause__, URLError) or options.mirror or options.url:
            raise
        msg = f'{error}. A mirror is given by --mirror or {MIRROR_VARIABLE}'
        raise OSError(msg) from error
    size = f'{target.stat().st_size / 1e6:.1f} MB'
    print(f'{target}{" exists" if existed else ""}: {size}, SHA-256 {digest}')


def print_table() -> None:
    """Print the released weights, and where each of them is."""
    print(f'{"name":24} {"MB":>5}  {"SHA-256":14}  file')
    for released in RELEASED:
        path = find_file(released.file_name) or '-'
        size = f'{released.num_bytes / 1e6:.0f}' if released.num_bytes else '?'
        sha256 = f'{released.sha256[:12]}…' if released.sha256 else 'not public'
        print(f'{released.name:24} {size:>5}  {sha256:14} {path}')
    print(f'\nDownloads go to {download_folder()}.')


if __name__ == '__main__':
    call_tool(main)
