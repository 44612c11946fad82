"""Who may talk to the server: host names, origins, the token, and paths.

:class:`Guard` wraps the whole application. It refuses

* names in ``Host`` that are not the server's own, by which a foreign page could reach
  it after its name was pointed to this computer (DNS rebinding);
* requests that change something, and sockets, whose ``Origin`` is another page;
* everybody without the token, where one is set.

It also adds the headers that keep browsers from running anything but our own files.
"""

import errno
import hashlib
import hmac
import ipaddress
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # limits of files
COOKIE = 'mmsam2_demo'
COOKIE_SECONDS = 24 * 3600  # without a request, after which the token is asked again
LOOPBACK_NAMES = frozenset({'localhost', '127.0.0.1', '::1'})
SAFE_METHODS = frozenset({'GET', 'HEAD'})
OPEN_PATHS = frozenset({'/api/health'})  # asked by containers and proxies
NO_TOKEN = 4401  # code of a closed WebSocket
MAX_ATTEMPTS = 30  # wrong tokens per minute; then all are refused for the rest of it


class RequestError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: HTTP status code.
        message: A sentence with the remedy, for the user.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def describe_error(error: BaseException) -> RequestError:
    """Say an error in words: its status code, and a sentence without a stack trace."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        msg = (
            f'The disk is full ({error.strerror}); free space, then try again: nothing '
            f'was lost'
        )
        return RequestError(507, msg)
    if isinstance(error, FileNotFoundError):
        return RequestError(404, str(error))
    if isinstance(error, ValueError | OSError | ImportError):
        return RequestError(422, str(error) or type(error).__name__)
    if 'out of memory' in str(error).lower():
        msg = (
            'The model ran out of memory; use fewer objects, a smaller image_size or '
            'model, or another device'
        )
        return RequestError(507, msg)
    logger.error('An unexpected error', exc_info=error)
    msg = (
        f'An unexpected error ({type(error).__name__}) stopped this; the terminal of '
        f'the server shows more'
    )
    return RequestError(500, msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """What the guard accepts.

    Attributes:
        host_names: Names in ``Host``, without port, in lower case.
        any_address: Whether ``Host`` may be any IP address: a server that listens on
            all of them. A foreign page can point only a name of its own here.
        token: None if everybody on this computer may use the server.
        is_behind_proxy: Whether ``X-Forwarded-Proto`` and ``-Host`` are believed.
    """

    host_names: frozenset[str] = LOOPBACK_NAMES
    any_address: bool = False
    token: str | None = None
    is_behind_proxy: bool = False

    def accepts_host(self, name: str) -> bool:
        """Whether the server answers to a name or an address."""
        return name in self.host_names or (self.any_address and is_address(name))


def is_address(name: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches an address."""
    if is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == 'localhost'


def host_name(netloc: str) -> str | None:
    """Name or address in ``host:port``, in lower case; None if it is malformed."""
    try:
        parts = urlsplit(f'//{netloc}')
        parts.port  # noqa: B018  raises if it is no number
    except ValueError:
        return None
    if parts.hostname is None or parts.username is not None or parts.path:
        return None
    return parts.hostname.rstrip('.')


# Tokens and cookies ------------------------------------------------------------------


def sign_cookie(token: str, expires: int) -> str:
    """Value of a cookie: when it expires, and a signature made with the token."""
    signature = hmac.new(token.encode(), str(expires).encode(), hashlib.sha256)
    return f'{expires}.{signature.hexdigest()}'


def is_valid_cookie(value: str, token: str, now: float) -> bool:
    """Whether a cookie was made with the token and has not expired."""
    expires = value.partition('.')[0]
    if not expires.isascii() or not expires.isdecimal() or len(expires) > 12:
        return False
    expected = sign_cookie(token, int(expires))
    return hmac.compare_digest(value.encode(), expected.encode()) and now < int(expires)


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        jar = SimpleCookie(headers.get('cookie', ''))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


# The guard ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Attempts:
    """Counts wrong tokens in the current minute."""

    minute: int = 0
    count: int = 0

    def add(self) -> None:
        self._turn()
        self.count += 1

    def are_too_many(self) -> bool:
        self._turn()
        return self.count >= MAX_ATTEMPTS

    def _turn(self) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self.minute:
            self.minute, self.count = minute, 0


@dataclass(slots=True)
class Guard:
    """Middleware that checks each request and socket, see the module.

    Attributes:
        app: The application.
        rules: What is accepted.
    """

    app: ASGIApp
    rules: AccessRules
    _attempts: _Attempts = field(default_factory=_Attempts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope['type'] not in {'http', 'websocket'}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            response = self._check(scope, headers)
        except RequestError as error:
            response = JSONResponse({'error': error.message}, error.status)
        if scope['type'] == 'websocket':
            if response is None:
                await self.app(scope, receive, send)
            elif response.status_code == 401:
                # Browsers hide the status of a refused handshake from the page.
                await receive()
                await send({'type': 'websocket.accept'})
                await send({'type': 'websocket.close', 'code': NO_TOKEN, 'reason': ''})
            else:  # the handshake is answered with this status
                await response(scope, receive, send)
            return

        renewed = self._renew_cookie(scope, headers) if response is None else None
        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            if message['type'] == 'http.response.start':
                has_begun = True
                sent = MutableHeaders(scope=message)
                _add_headers(sent, self._host(headers) or '')
                if renewed is not None:
                    sent.append('Set-Cookie', renewed)
            await send(message)

        app = response or self.app
        try:
            await app(scope, receive, send_with_headers)
        except Exception as error:
            if has_begun:
                raise
            # Starlette would answer itself, without our headers.
            problem = describe_error(error)
            answer = JSONResponse({'error': problem.message}, problem.status)
            await answer(scope, receive, send_with_headers)

    def _host(self, headers: Headers) -> str | None:
        """The host and port by which the page was reached."""
        forwarded = (
            headers.get('x-forwarded-host') if self.rules.is_behind_proxy else None
        )
        return forwarded or headers.get('host')

    def _check(self, scope: Scope, headers: Headers) -> Response | None:
        """Refuse a request by an error; return what answers it instead of the app."""
        host = self._host(headers)
        name = None if host is None else host_name(host)
        if host is None or name is None or not self.rules.accepts_host(name):
            msg = (
                f'The server does not answer to the name {name or host!r}; open it by '
                f'its own address, or start it with --allowed-host {name or "NAME"}'
            )
            raise RequestError(400, msg)
        is_socket = scope['type'] == 'websocket'
        origin = headers.get('origin')
        if is_socket or scope['method'] not in SAFE_METHODS:
            self._check_origin(scope, headers, host, origin)
        path = scope['path'].removeprefix(scope.get('root_path', ''))
        if self.rules.token is None or path in OPEN_PATHS:
            return None
        return self._check_token(scope, headers, self.rules.token)

    def _check_origin(
        self, scope: Scope, headers: Headers, host: str, origin: str | None
    ) -> None:
        """Refuse other pages. A program that is no browser sends no ``Origin``."""
        site = headers.get('sec-fetch-site')
        if origin is None and site in {None, 'same-origin', 'none'}:
            return
        scheme = {'ws': 'http', 'wss': 'https'}.get(scope['scheme'], scope['scheme'])
        if self.rules.is_behind_proxy:
            scheme = headers.get('x-forwarded-proto', scheme)
        if origin != f'{scheme}://{host}':
            msg = (
                f"The request comes from another page ({origin}); use the server's own "
                f'page, and behind a proxy start it with --trust-proxy'
            )
            raise RequestError(403, msg)

    def _check_token(
        self, scope: Scope, headers: Headers, token: str
    ) -> Response | None:
        now = time.time()
        cookie = _cookies(headers).get(COOKIE)
        query = parse_qsl(
            scope['query_string'].decode('latin-1'), keep_blank_values=True
        )
        given = dict(query).get('token')
        if given is None and cookie and is_valid_cookie(cookie, token, now):
            return None
        if self._attempts.are_too_many():
            raise RequestError(429, 'Too many wrong tokens; try again in a minute')
        scheme, _, bearer = headers.get('authorization', '').partition(' ')
        if given is None and scheme.lower() == 'bearer':
            given = bearer
        is_page = scope['type'] == 'http' and scope['method'] in SAFE_METHODS
        if given is not None and hmac.compare_digest(given.encode(), token.encode()):
            if scheme or not is_page:  # a program, which keeps no cookie
                return None
            return self._set_cookie(scope, headers, token, query, int(now))
        if given is not None or cookie is not None:
            self._attempts.add()
        msg = (
            'The server asks for its token; open the address that it printed when it '
            'started, which ends with ?token=…'
        )
        raise RequestError(401, msg)

    def _set_cookie(
        self,
        scope: Scope,
        headers: Headers,
        token: str,
        query: Sequence[tuple[str, str]],
        now: int,
    ) -> Response:
        """Give the browser a cookie, and take the token out of the address bar."""
        others = urlencode([(key, value) for key, value in query if key != 'token'])
        # Relative to the host alone: '//name' would lead to another one.
        path = '/' + quote(scope['path'].lstrip('/'))
        response = RedirectResponse(f'{path}?{others}' if others else path, 303)
        response.headers['Set-Cookie'] = self._cookie(scope, headers, token, now)
        return response

    def _renew_cookie(self, scope: Scope, headers: Headers) -> str | None:
        """A cookie of full age for who is still there after half of it."""
        token, now = self.rules.token, time.time()
        value = _cookies(headers).get(COOKIE)
        if token is None or value is None or not is_valid_cookie(value, token, now):
            return None
        if int(value.partition('.')[0]) - now > COOKIE_SECONDS / 2:
            return None
        return self._cookie(scope, headers, token, int(now))

    def _cookie(self, scope: Scope, headers: Headers, token: str, now: int) -> str:
        """The value of ``Set-Cookie``."""
        is_secure = (
            self.rules.is_behind_proxy and headers.get('x-forwarded-proto') == 'https'
        )
        path = scope.get('root_path') or '/'
        return (
            f'{COOKIE}={sign_cookie(token, now + COOKIE_SECONDS)}; HttpOnly; '
            f'Max-Age={COOKIE_SECONDS}; Path={path}; SameSite=strict'
            f'{"; Secure" if is_secure else ""}'
        )


def _add_headers(headers: MutableHeaders, host: str) -> None:
    # Not all browsers let 'self' stand for the sockets of the same host.
    sockets = f' ws://{host} wss://{host}' if host_name(host) else ''
    headers['Content-Security-Policy'] = (
        f"default-src 'self'; connect-src 'self'{sockets}; img-src 'self' blob: data:; "
        f"media-src 'self' blob:; worker-src 'self' blob:; object-src 'none'; "
        f"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    headers['X-Content-Type-Options'] = 'nosniff'
    headers['X-Frame-Options'] = 'DENY'
    headers['Referrer-Policy'] = 'no-referrer'
    headers['Cross-Origin-Opener-Policy'] = 'same-origin'
    headers['Cross-Origin-Resource-Policy'] = 'same-origin'
    headers['Permissions-Policy'] = 'camera=(), microphone=(), geolocation=()'
    headers.setdefault('Cache-Control', 'no-store')


# Paths -------------------------------------------------------------------------------


def confine(path: str, roots: Iterable[Path]) -> Path:
    """Resolve a path that a page names, and check that it is inside a root.

    Args:
        path: Absolute, or relative to the first root. Links are followed before the
            check.
        roots: Resolved folders.

    Raises:
        RequestError: If it is outside of all roots (403), or does not exist (404).
    """
    roots = tuple(roots)
    if not path or '\0' in path or len(path) > 4096 or not roots:
        raise RequestError(400, 'Give the path of a file or a folder')
    expanded = Path(os.path.expanduser(path))  # noqa: PTH111  leaves ~nobody as it is
    try:
        resolved = (roots[0] / expanded).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
        resolved = None
    # The same answer for what is missing and what is outside, which tells nothing
    # about files outside.
    if resolved is None and _is_inside(expanded, roots):
        msg = f'{path}: there is no such file or folder; check the path'
        raise RequestError(404, msg)
    if resolved is None or not any(resolved.is_relative_to(root) for root in roots):
        msg = (
            f'{path} is not inside the folders that the demo may read; start it with '
            f'--root and the folder that contains it'
        )
        raise RequestError(403, msg)
    return resolved


def _is_inside(path: Path, roots: tuple[Path, ...]) -> bool:
    """Whether a path without ``..`` names something in a root, if it existed."""
    return '..' not in path.parts and any(
        (roots[0] / path).is_relative_to(root) for root in roots
    )
