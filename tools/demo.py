r"""Annotate videos and images in the browser.

    python tools/demo.py clip.mp4
    python tools/demo.py frames/ photos/ --config sam2.1_hiera_t \
        --checkpoint sam2.1_hiera_tiny.pt
    python tools/demo.py --root /data --host 0.0.0.0 --allowed-host tower.example.org

SOURCE is a video, a folder of images (of one video, or independent ones) or an image.
Without one, the page offers generated clips, uploads, and the files below the --root
folders. Only this computer reaches the server, unless --host names another address;
then the printed address contains a token. Ctrl-C stops it; everything is saved all
along.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import (
    add_compile_option,
    add_fast_option,
    add_policy_option,
    call_tool,
    whole_number,
)

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from projects.sam2.webdemo.server.app import DemoOptions

PORT = 8092
NUM_PORTS = 20  # that are tried, if --port is not given
ENVIRONMENT = 'MMSAM2_TOKEN'  # others on this computer see command lines
MIN_TOKEN = 16  # characters
ANY_ADDRESS = ('0.0.0.0', '::', '')  # noqa: S104  compared with, not bound to
SHUTDOWN_SECONDS = 8
MAX_CONNECTIONS = 512
PACKAGES = ('starlette', 'uvicorn', 'websockets')


def positive(text: str) -> float:
    """Type of an option that is a positive number."""
    value = float(text)
    if not 0 < value < float('inf'):
        msg = f'{text} is not a positive number'
        raise argparse.ArgumentTypeError(msg)
    return value


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        'sources',
        nargs='*',
        type=Path,
        metavar='SOURCE',
        help='videos, folders of images, images',
    )
    group = parser.add_argument_group('model')
    add = group.add_argument
    add('--config', help='config file or released name')
    add(
        '--checkpoint',
        help='released weights, a checkpoint of ours, or folder of an exported model',
    )
    add('--device', help='such as cuda:0 or cpu (default: the best available)')
    add_compile_option(group)
    add_fast_option(group)
    add_policy_option(group)
    add('--detector', metavar='CONFIG', help='of mmdetection, for prompts by text')
    add('--detector-checkpoint', metavar='FILE', help='weights of the detector')
    add('--language-model', metavar='FOLDER', help='language model of the detector')
    group = parser.add_argument_group('server')
    add = group.add_argument
    add('--port', type=whole_number(0), help=f'({PORT}, or the next that is free)')
    add('--host', default='127.0.0.1', help='address to listen on (127.0.0.1)')
    add(
        '--token',
        help=f'that pages have to know, {MIN_TOKEN} characters or more (default: '
        f'${ENVIRONMENT}; without it, a random one if --host is not this computer)',
    )
    add(
        '--allowed-host',
        action='append',
        default=[],
        metavar='NAME',
        help='name by which pages reach the server, such as that of a proxy',
    )
    add(
        '--root-path',
        default='',
        metavar='P',
        help='path that a proxy removes, as /sam',
    )
    add(
        '--trust-proxy',
        action='store_true',
        help='believe X-Forwarded-Host and -Proto; only behind a proxy that sets both',
    )
    add('--no-browser', action='store_true', help='do not open the page')
    group = parser.add_argument_group('files')
    add = group.add_argument
    add(
        '--root',
        action='append',
        default=[],
        type=Path,
        metavar='DIR',
        help='folder whose files pages may open (default: the current one)',
    )
    add(
        '--sessions',
        type=Path,
        default=Path('work_dirs') / 'demo',
        metavar='DIR',
        help='folder of the annotations (work_dirs/demo)',
    )
    add('--max-upload-gb', type=positive, default=8.0, metavar='N', help='(8)')
    add(
        '--idle-minutes',
        type=positive,
        default=60.0,
        metavar='N',
        help='without a page, after which a session leaves the memory (60)',
    )
    return parser.parse_args(arguments)


def check_packages() -> None:
    """Check that the packages of the server are installed.

    Raises:
        ModuleNotFoundError: If one is missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        msg = (
            f"The demo needs {', '.join(missing)}: pip install 'mmsam2[demo]' (in a "
            f'clone: pip install -r requirements/demo.txt)'
        )
        raise ModuleNotFoundError(msg, name=missing[0])


def check_paths(options: argparse.Namespace) -> None:
    """Check that what the command line names exists.

    Raises:
        FileNotFoundError: If a source or a root does not.
    """
    for source in options.sources:
        if not source.expanduser().exists():
            msg = f'{source}: there is no such file or folder; check the path'
            raise FileNotFoundError(msg)
    for root in options.root:
        if not root.expanduser().is_dir():
            msg = f'--root {root}: there is no such folder; check the path'
            raise FileNotFoundError(msg)


def choose_token(options: argparse.Namespace, *, is_local: bool) -> str | None:
    """Choose the token, None if the server needs none.

    Raises:
        ValueError: If it is too short.
    """
    # Empty is unset: so it reaches a container.
    token = options.token or os.environ.get(ENVIRONMENT) or None
    if token is None:
        return None if is_local else secrets.token_urlsafe(24)
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable():
        msg = (
            f'The token has {len(token)} characters; give {MIN_TOKEN} or more of plain '
            f'ASCII, or leave it out: a random one is made'
        )
        raise ValueError(msg)
    return str(token)


def listen(host: str, port: int | None) -> socket.socket:
    """Open the socket of the server, on the next free port if none is given.

    Raises:
        OSError: If the port is in use, or the address is none of this computer.
    """
    ports = range(PORT, PORT + NUM_PORTS) if port is None else (port,)
    try:
        family, *_, address = socket.getaddrinfo(
            host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        msg = f'--host {host} is no address of this computer ({error})'
        raise OSError(msg) from error
    problem: OSError | None = None
    for number in ports:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((address[0], number, *address[2:]))
            opened.listen(128)
        except OSError as error:
            opened.close()
            problem = error
        else:
            return opened
    remedy = 'choose another with --port' if port else 'choose one with --port'
    msg = f'Port {ports[0]} of {host} cannot be used ({problem}); {remedy}'
    raise OSError(msg)


def build_options(options: argparse.Namespace, token: str | None) -> DemoOptions:
    """Turn the command line into the options of the server."""
    from projects.sam2.webdemo.server.app import DemoOptions
    from projects.sam2.webdemo.server.security import LOOPBACK_NAMES, is_loopback

    given = [options.host, *options.allowed_host]
    if not is_loopback(options.host):  # then a token is needed, too
        given += [socket.gethostname(), f'{socket.gethostname()}.local']
    names = {name.lower().rstrip('.') for name in given}
    return DemoOptions(
        config=options.config,
        checkpoint=options.checkpoint,
        device=options.device,
        compile=options.compile,
        fast=options.fast,
        policy=options.policy,
        sessions=options.sessions,
        roots=tuple(options.root or [Path()]),
        sources=tuple(options.sources),
        host_names=frozenset(LOOPBACK_NAMES | names - {*ANY_ADDRESS}),
        any_address=options.host in ANY_ADDRESS,
        token=token,
        trust_proxy=options.trust_proxy,
        max_upload_bytes=int(options.max_upload_gb * 2**30),
        idle_seconds=options.idle_minutes * 60,
        detector=options.detector,
        detector_checkpoint=options.detector_checkpoint,
        language_model=options.language_model,
    )


def describe_address(
    options: argparse.Namespace, opened: socket.socket, token: str | None
) -> str:
    """The address that the user opens."""
    host = 'localhost' if options.host in ANY_ADDRESS else options.host
    host = f'[{host}]' if ':' in host else host
    path = f'{options.root_path.rstrip("/")}/'
    query = '' if token is None else f'?token={quote(token, safe="")}'
    return f'http://{host}:{opened.getsockname()[1]}{path}{query}'


def serve(
    app: Starlette,
    opened: socket.socket,
    options: argparse.Namespace,
    announce: Callable[[], None],
) -> None:
    """Answer requests until Ctrl-C or SIGTERM; announce it when it begins."""
    import uvicorn

    from projects.sam2.webdemo.server.connections import HttpConnection
    from projects.sam2.webdemo.server.protocol import MAX_DRAWING

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce()

    config = uvicorn.Config(
        app,
        log_level='warning',
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the guard reads them, if --trust-proxy allows it
        root_path=options.root_path.rstrip('/'),
        http=HttpConnection,
        ws='websockets-sansio',
        ws_max_size=MAX_DRAWING,
        ws_per_message_deflate=False,  # masks are compressed already
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    # uvicorn raises the signal that ended it again, after everything was closed.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    with suppress(KeyboardInterrupt):
        Server(config).run(sockets=[opened])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool."""
    options = parse_arguments(arguments)
    check_packages()
    check_paths(options)
    from projects.sam2.webdemo.server.security import is_loopback

    # Threads of the model that wait by spinning would take the time of those that
    # decode frames: a click took ten times as long on a computer with other work.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    token = choose_token(options, is_local=is_loopback(options.host))
    opened = listen(options.host, options.port)
    with opened:
        import projects.sam2.registration  # noqa: F401  registers the parts
        from projects.sam2.webdemo.server.app import create_app

        app = create_app(build_options(options, token))
        address = describe_address(options, opened, token)
        if len(app.state.opened) == 1:
            address += f'#/sessions/{app.state.opened[0]}'

        def announce() -> None:
            print(f'The demo is at {address} (Ctrl-C ends it)', flush=True)
            if not options.no_browser:
                opening = threading.Thread(target=webbrowser.open, args=(address,))
                opening.daemon = True
                opening.start()

        serve(app, opened, options, announce)
    print('Everything is saved.', flush=True)


if __name__ == '__main__':
    call_tool(main, exit_code=2)
