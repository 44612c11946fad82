"""The built site links to what exists and documents every part.

``tools/build_docs.sh`` builds it, where any warning is an error; then::

    SAM2_SITE_DIR=work_dirs/docs/html python -m pytest tests/docs/test_site.py
"""

import inspect
import os
import posixpath
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mmengine.registry
import pytest
from mmengine.registry import Registry

import projects.sam2.bridges.image_dataset  # noqa: F401  registers its dataset
from projects.sam2 import apis

SITE_DIR = 'SAM2_SITE_DIR'
pytestmark = pytest.mark.skipif(
    SITE_DIR not in os.environ, reason=f'{SITE_DIR} names no built site'
)
HOSTS = {
    'arxiv.org',
    'download.pytorch.org',
    'github.com',
    'keepachangelog.com',
    # The theme names itself and its author in the footer.
    'pradyunsg.me',
    'www.codabench.org',
    'www.sphinx-doc.org',
}


class Page(HTMLParser):
    """Collects the addresses and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect those of an element."""
        del tag
        for name, value in attrs:
            if name in {'href', 'src'} and value:
                self.addresses.add(value)
            if name in {'id', 'name'} and value:
                self.anchors.add(value)


@pytest.fixture(scope='module')
def site() -> Path:
    """The site that tools/build_docs.sh built."""
    return Path(os.environ[SITE_DIR])


@pytest.fixture(scope='module')
def site_pages(site: Path) -> dict[str, Page]:
    """Pages of the site by their path."""
    return {
        path.relative_to(site).as_posix(): Page(path.read_text('utf-8'))
        for path in site.rglob('*.html')
    }


def test_links_lead_to_pages_and_anchors(
    site: Path, site_pages: dict[str, Page]
) -> None:
    broken = [
        f'{name}: {address}'
        for name, page in site_pages.items()
        for address in page.addresses
        if not leads_somewhere(address, name, site, site_pages)
    ]
    assert not broken


def leads_somewhere(
    address: str, name: str, site: Path, site_pages: dict[str, Page]
) -> bool:
    """Whether the file and the anchor of an internal link exist."""
    parts = urlsplit(address)
    if parts.scheme:
        return True
    folder = posixpath.dirname(name)
    target = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
    if not parts.path:
        target = name
    other = site_pages.get(target)
    if not parts.fragment or other is None:
        return (site / target).exists()
    return unquote(parts.fragment) in other.anchors


def test_external_links_are_of_known_hosts(site_pages: dict[str, Page]) -> None:
    hosts = {
        urlsplit(address).netloc
        for page in site_pages.values()
        for address in page.addresses
    }
    assert hosts - {''} <= HOSTS


def test_reference_has_every_public_name_and_every_registered_part(site: Path) -> None:
    names = inventory(site / 'objects.inv')
    assert {f'mmsam2.apis.{name}' for name in apis.__all__} <= names
    parts = {
        part.__name__
        for registry in vars(mmengine.registry).values()
        if isinstance(registry, Registry)
        for part in registry.module_dict.values()
        if inspect.isclass(part) and part.__module__.startswith('projects.sam2.')
    }
    assert len(parts) > 50
    assert not parts - {name.rpartition('.')[2] for name in names}


def test_reference_shows_where_a_part_is_set(site: Path) -> None:
    text = (site / 'api' / 'models.html').read_text('utf-8')
    row = next(row for row in text.split('<tr') if 'MemoryBankEmpty' in row)
    assert 'MODELS' in row
    plain = re.sub(r'<[^>]+>', '', text)
    assert '_base_/models/*.py' in plain


def inventory(path: Path) -> set[str]:
    """Names of a site's inventory of objects."""
    _, _, compressed = path.read_bytes().partition(b'zlib.\n')
    lines = zlib.decompress(compressed).decode().splitlines()
    return {line.split(' ')[0] for line in lines}
