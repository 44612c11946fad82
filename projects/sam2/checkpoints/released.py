"""The released weights: their names, sizes and hashes, and where they are on this disk.

This is the one place that knows in which folder downloaded weights lie. It imports no
torch, so that ``tools/download.py`` starts at once.
"""

import json
import os
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from filelock import FileLock

from ..installation import IS_WHEEL, ROOT, WEIGHTS, tool_command
from ..ops.fetching import (
    LOCK_SECONDS,
    OnProgress,
    WrongFileError,
    fetch,
    sha256_of,
)
from ..ops.files import write_atomically

RELEASE_URL = 'https://dl.fbaipublicfiles.com/segment_anything_2'
HUB_URL = 'https://huggingface.co/'
EFFICIENTTAM_URL = (
    f'{HUB_URL}yunyangx/efficient-track-anything/resolve/'
    'b308d79d812d95c62a69476e07d688ee504d217d'
)
FOLDER_VARIABLE = 'SAM2_CHECKPOINTS'  # a folder, for example one that a team shares
MIRROR_VARIABLE = 'SAM2_MIRROR'  # address of a folder that has the released files
FOLDER = Path('checkpoints')  # of the working directory; configs name it
HASHES_FILE = 'known_hashes.json'
CONFIG_SUFFIXES = ('.py', '.yaml', '.yml')
# `sam2.1_hiera_b+.yaml`, `sam2.1_hiera_base_plus.pt`, `sam2.1-hiera-base-plus`.
# The size ends the name: sam2.1_hiera_t512.yaml is another model.
RELEASED_NAME = re.compile(
    r'sam2(?P<is_2_1>\.1)?[_-]hiera[_-](?P<size>[a-z_+-]+)(\.[a-z]+)?'
)
# `sam2_1_tiny`, `sam2_0_bplus.py`: our configs of the released models.
CONFIG_NAME = re.compile(
    r'(.*_base_[/\\]models[/\\])?sam2_(?P<minor>[01])_(?P<size>[a-z]+)(\.py)?'
)
# `edgetam.yaml`, `EdgeTAM`, `edgetam.pt`; and `_base_/models/edgetam.py`.
FAMILY_NAME = re.compile(r'(?P<name>[\w-]+)(\.yaml|\.yml|\.pt)?')
FAMILY_CONFIG_NAME = re.compile(r'(.*_base_[/\\]models[/\\])(?P<name>\w+)\.py')
SIZES = {
    't': 'tiny',
    'tiny': 'tiny',
    's': 'small',
    'small': 'small',
    'b+': 'bplus',
    'base_plus': 'bplus',
    'l': 'large',
    'large': 'large',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedWeights:
    """A file of the release.

    Attributes:
        version: ``'2.0'`` or ``'2.1'``.
        size: ``'tiny'``, ``'small'``, ``'bplus'`` or ``'large'``.
        num_bytes: Size of the file.
        sha256: Its hash in lower-case hexadecimal.
    """

    version: str
    size: str
    num_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Name of the model, such as ``sam2.1_hiera_base_plus``."""
        family = 'sam2.1' if self.version == '2.1' else 'sam2'
        return f'{family}_hiera_{self.size.replace("bplus", "base_plus")}'

    @property
    def file_name(self) -> str:
        """Name of the file, such as ``sam2.1_hiera_base_plus.pt``."""
        return f'{self.name}.pt'

    @property
    def url(self) -> str:
        """Where the release has it."""
        folder = '092824' if self.version == '2.1' else '072824'
        return f'{RELEASE_URL}/{folder}/{self.file_name}'

    @property
    def config(self) -> str:
        """Path of the model's config within ``configs/``."""
        return f'_base_/models/sam2_{self.version[2:]}_{self.size}.py'


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyWeights:
    """A file that the authors of another model of the family released.

    Attributes:
        name: Name of the model, of its config here and of the file without suffix.
        url: Where the release has it.
        num_bytes: Size of the file; None if it is not known.
        sha256: Its hash in lower-case hexadecimal; None if it is not known.
    """

    name: str
    url: str
    num_bytes: int | None
    sha256: str | None

    @property
    def repository(self) -> str | None:
        """Id of the repository on Hugging Face; None if the file is elsewhere."""
        if not self.url.startswith(HUB_URL):
            return None
        return '/'.join(self.url.removeprefix(HUB_URL).split('/')[:2])

    @property
    def file_name(self) -> str:
        """Name of the file, such as ``edgetam.pt``."""
        return f'{self.name}.pt'

    @property
    def config(self) -> str:
        """Path of the model's config within ``configs/``."""
        return f'_base_/models/{self.name}.py'


# The release publishes no hashes. Five of these SHA-256 values (2.1 tiny and small; 2.0
# tiny, small and base+) are those of Meta's own repositories on Hugging Face. The other
# three (2.1 base+, 2.1 large and 2.0 large) are from other projects that pin the
# release's files and agree with each other.
RELEASED_TABLE = """
2.1 tiny  156008466 7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69
2.1 small 184416285 6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38
2.1 bplus 323606802 a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5
2.1 large 898083611 2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318
2.0 tiny  155906050 65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125
2.0 small 184309650 95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3
2.0 bplus 323493298 d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071
2.0 large 897952466 7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b
"""
SAM2_WEIGHTS = tuple(
    ReleasedWeights(version=version, size=size, num_bytes=int(num_bytes), sha256=sha256)
    for version, size, num_bytes, sha256 in map(
        str.split, RELEASED_TABLE.strip().splitlines()
    )
)
# Sizes and hashes of EfficientTAM's repository on Hugging Face, where its pages show
# them; `-` for those that they do not.
EFFICIENTTAM_TABLE = """
ti         71616316  acbb17b28cca1f860acee09c9ecb6efdb732080dc7a85a07292c31813175fa7d
ti_1       -         -
ti_2       -         d2a9ca0a736257ee9bb238d335ba7c794ad853e594cb4f679019ecc0854ee587
ti_512x512 -         7d4d652a465f0081391050932f45d8a66768ccc99c8ea393ce8a5927e83f3b9b
s          136375868 2b572be30d9e96ee29c8d785fe157c6b079ede7d56fbc8a3671d4120e63c89cd
s_1        136376327 4fd5d1f7ae08a7e15086623bf8b12f0b111b773b15564b43c0a5d451fc1a4267
s_2        136376327 253e490b4a3d56eedd64e4d466155ec538d1289f52abe78b091b14caefd92343
s_512x512  136379145 67b5840012737ed2c94a4cb8787c5c1b27b3a946045d2e602e65ef77230b6085
"""
# Hash and size of edgetam.pt are from several projects that pin the file and agree.
FAMILY_WEIGHTS = (
    FamilyWeights(
        name='edgetam',
        url='https://github.com/facebookresearch/EdgeTAM/raw/'
        '7711e012a30a2402c4eaab637bdb00a521302c91/checkpoints/edgetam.pt',
        num_bytes=56116523,
        sha256='ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df',
    ),
    *(
        FamilyWeights(
            name=f'efficienttam_{name}',
            url=f'{EFFICIENTTAM_URL}/efficienttam_{name}.pt',
            num_bytes=None if num_bytes == '-' else int(num_bytes),
            sha256=None if sha256 == '-' else sha256,
        )
        for name, num_bytes, sha256 in map(
            str.split, EFFICIENTTAM_TABLE.strip().splitlines()
        )
    ),
)
RELEASED: tuple[ReleasedWeights | FamilyWeights, ...] = SAM2_WEIGHTS + FAMILY_WEIGHTS


# ------------------------------------------------------------------------------- Names


def released_weights(name: str | Path) -> ReleasedWeights | FamilyWeights | None:
    """Find the released weights that a name means.

    Args:
        name: Name of the model, its config, its file or its repository on Hugging Face,
            with or without folders and suffix: ``sam2.1_hiera_b+``,
            ``configs/sam2.1/sam2.1_hiera_b+.yaml``, ``sam2.1_hiera_base_plus.pt``,
            ``facebook/sam2.1-hiera-base-plus``; or that of its config here,
            ``sam2_1_bplus``. Of other models likewise: ``configs/edgetam.yaml``,
            ``edgetam.pt``, ``facebook/EdgeTAM``, ``edgetam``;
            ``configs/efficienttam/efficienttam_ti_512x512.yaml``, ``efficienttam_s_2``.

    Returns:
        The weights, or None if no model was released under that name.
    """
    last = re.split(r'[/\\]', str(name))[-1]
    family_name = FAMILY_NAME.fullmatch(last) or FAMILY_CONFIG_NAME.fullmatch(str(name))
    if family_name:
        plain = family_name['name'].lower().replace('-', '_')
        found = next((w for w in RELEASED if w.name == plain), None)
        if isinstance(found, FamilyWeights):
            return found
    if match := RELEASED_NAME.fullmatch(last):
        version = '2.1' if match['is_2_1'] else '2.0'
        size = SIZES.get(match['size'].replace('-', '_'))
    elif match := CONFIG_NAME.fullmatch(str(name)):
        version, size = f'2.{match["minor"]}', match['size']
    else:
        return None
    return next(
        (
            weights
            for weights in RELEASED
            if isinstance(weights, ReleasedWeights)
            and (weights.version, weights.size) == (version, size)
        ),
        None,
    )


def near_names(name: str) -> list[str]:
    """Released names that look like a name, the nearest first; else all of them."""
    names = [weights.name for weights in RELEASED]
    last = re.split(r'[/\\]', name)[-1].lower().replace('-', '_').removesuffix('.pt')
    parts = [other for other in names if last and last in other]
    return get_close_matches(last, names, n=3, cutoff=0.75) or parts or names


# ----------------------------------------------------------------------------- Folders


def cache_folder() -> Path:
    """The folder of checkpoints in torch's cache.

    Returns:
        ``~/.cache/torch/hub/checkpoints``, unless ``TORCH_HOME``, ``XDG_CACHE_HOME`` or
        ``torch.hub.set_dir`` moves it.
    """
    hub = sys.modules.get('torch.hub')  # torch is not imported for this
    if hub is not None:
        return Path(hub.get_dir()) / 'checkpoints'
    default = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'torch'
    home = Path(os.environ.get('TORCH_HOME') or default)
    return home.expanduser() / 'hub' / 'checkpoints'


def checkpoint_folders() -> list[Path]:
    """Folders where weights are looked for by name, the first one first.

    Returns:
        The folder that ``SAM2_CHECKPOINTS`` names; ``checkpoints/`` of the working
        directory; that of the clone, if this is one; torch's cache; the weights that
        come with this package.
    """
    shared = os.environ.get(FOLDER_VARIABLE)
    folders = [Path(shared).expanduser()] if shared else []
    folders.append(FOLDER)
    if not IS_WHEEL and Path.cwd() != ROOT:
        folders.append(ROOT / FOLDER)
    return [*folders, cache_folder(), WEIGHTS]


def download_folder() -> Path:
    """Folder that weights are downloaded into.

    Returns:
        The first of :func:`checkpoint_folders`; outside a clone, ``checkpoints/`` of
        the working directory only if it exists.
    """
    for folder in checkpoint_folders():
        is_made = folder != FOLDER or (not IS_WHEEL and Path.cwd() == ROOT)
        if is_made or folder.is_dir():
            return folder
    return cache_folder()


def find_file(name: str | Path) -> Path | None:
    """Find a file of weights.

    Args:
        name: Its path; or its name, alone or after ``checkpoints/``, which is looked up
            in :func:`checkpoint_folders`; or a released name, such as
            ``sam2.1_hiera_t`` or ``facebook/sam2.1-hiera-tiny``.

    Returns:
        The path, or None if there is no such file.
    """
    given = Path(name).expanduser()
    if given.exists():
        return given
    if str(given.parent) not in {'.', str(FOLDER), 'facebook'}:
        return None
    names = {given.name}
    released = released_weights(name)
    if released is not None and not given.name.endswith(CONFIG_SUFFIXES):
        names.add(released.file_name)
    paths = (folder / each for folder in checkpoint_folders() for each in names)
    return next((path for path in paths if path.is_file()), None)


def missing_file_message(name: str | Path) -> str:
    """Say that a file is missing, and how to download it if it is a released one."""
    released = released_weights(name)
    if Path(name).stem == 'sam3':
        return f'{name} does not exist. {SAM3_DOWNLOAD}'
    if released is None:
        return f'{name} does not exist; give the path of a checkpoint'
    if found := find_file(released.file_name):
        return f'{name} does not exist; give {found}'
    folders = ', '.join(str(folder) for folder in checkpoint_folders())
    return (
        f'{name} does not exist; {released.file_name} was looked for in {folders}. '
        f'Download it: {tool_command("download")} {released.name}'
    )


# Meta gives these weights to those who accept its licence; no address is open.
SAM3_DOWNLOAD = (
    'To get the weights of SAM 3, accept their licence at Hugging Face, then: '
    'hf download facebook/sam3 model.safetensors config.json '
    '--local-dir checkpoints/sam3'
)


# --------------------------------------------------------------------------- Downloads


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    num_bytes: int | None = None,
    trust_first: bool = False,
    replace: bool = False,
    on_progress: OnProgress | None = None,
) -> str:
    """Download a file and check its hash.

    An existing file is not fetched again, but its hash is checked.

    Args:
        url: Address of the file.
        target: Path of the downloaded file.
        sha256: Its hash; by default the one that ``trust_first`` wrote down for it.
        num_bytes: Its size, if it is known.
        trust_first: Accept a file of unknown hash, and write the hash down.
        replace: Fetch the file again if it exists.
        on_progress: As for :func:`fetch`.

    Returns:
        The SHA-256 of the file.

    Raises:
        WrongFileError: If its hash or size is another; an existing file is kept.
        ValueError: If no hash is known and ``trust_first`` is not set.
        OSError: If the file cannot be fetched or stored.
    """
    noted = None if sha256 else _noted_hashes().get(url)
    expected = sha256 or noted
    if expected is None and not trust_first:
        msg = (
            f'No SHA-256 is known for {url}; give it (--sha256), or accept the file '
            f'that comes and have its hash written down (--trust-first)'
        )
        raise ValueError(msg)
    if replace or not target.is_file():
        try:
            fetch(
                url,
                target,
                num_bytes=num_bytes,
                sha256=expected,
                replace=replace,
                on_progress=on_progress,
            )
        except WrongFileError as error:
            if noted is None:
                raise
            msg = f'{error}. The expected hash was written down in {_hashes_path()}'
            raise WrongFileError(msg) from error
    digest = sha256_of(target)
    if expected not in {None, digest}:
        msg = (
            f'{target} exists, but has the SHA-256 {digest} in place of {expected}: it '
            f'is damaged, or another file; remove it, or replace it (--force)'
        )
        raise WrongFileError(msg)
    if noted is None and sha256 is None:
        _note_hash(url, digest)
    return digest


def _hashes_path() -> Path:
    return cache_folder() / HASHES_FILE


def _noted_hashes() -> dict[str, str]:
    """Hashes that ``trust_first`` wrote down, by URL."""
    path = _hashes_path()
    try:
        hashes = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        msg = f'{path} is damaged ({error}); correct or remove it'
        raise ValueError(msg) from error
    if not isinstance(hashes, dict) or not all(
        isinstance(sha256, str) for sha256 in hashes.values()
    ):
        msg = f'{path} is not a table of hashes; correct or remove it'
        raise ValueError(msg)
    return hashes


def _note_hash(url: str, sha256: str) -> None:
    path = _hashes_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f'.{path.name}.lock'), timeout=LOCK_SECONDS):
        hashes = _noted_hashes() | {url: sha256}
        write_atomically(path, json.dumps(hashes, indent=2, sort_keys=True) + '\n')
