"""Attempts on a running server, each with the status that it gets."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from demo_server import MINI_CONFIG, MINI_WEIGHTS, DemoServer, Page, running_demo
from projects.sam2.webdemo.server import connections
from projects.sam2.webdemo.server.app import DemoOptions, file_name
from projects.sam2.webdemo.server.protocol import MAX_DRAWING
from projects.sam2.webdemo.server.security import (
    COOKIE,
    COOKIE_SECONDS,
    MAX_ATTEMPTS,
    AccessRules,
    Guard,
    RequestError,
    confine,
    host_name,
    is_loopback,
    sign_cookie,
)

TOKEN = 'a-token-of-the-tests'  # noqa: S105
EVIL, SAM = 'evil.example', 'sam.example.org'  # of another page, and of a proxy
JSON = {'Content-Type': 'application/json'}


@pytest.fixture(scope='module')
def guarded(
    tmp_path_factory: pytest.TempPathFactory, clip_folder: Path
) -> Iterator[DemoServer]:
    """A server with a token, that a proxy serves below ``/sam``."""
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=tmp_path_factory.mktemp('guarded'),
        roots=(clip_folder,),
        token=TOKEN,
        host_names=frozenset({'127.0.0.1', 'sam.example.org'}),
        trust_proxy=True,
    )
    with running_demo(options, root_path='/sam') as running:
        yield running


def attempt(
    server: DemoServer,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: str | bytes | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send a request as it is: nothing is normalised, no header added but Host."""
    address = server.address.removeprefix('http://')
    connection = http.client.HTTPConnection(address, timeout=20)
    skipped = {key.lower() for key in headers or ()}
    connection.putrequest(
        method, path, skip_host='host' in skipped, skip_accept_encoding=True
    )
    content = body.encode() if isinstance(body, str) else body
    for key, value in (headers or {}).items():
        connection.putheader(key, value)
    if content is not None:
        connection.putheader('Content-Length', str(len(content)))
    connection.endheaders(content)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, answer


# Names and origins -------------------------------------------------------------------


@pytest.mark.parametrize(
    ('host', 'status'),
    [
        ('127.0.0.1:{port}', 200),
        ('localhost:{port}', 200),
        ('LOCALHOST', 200),
        ('[::1]:{port}', 200),
        ('evil.example', 400),
        ('evil.example:{port}', 400),
        ('localhost.evil.example', 400),
        ('127.0.0.1.evil.example', 400),
        ('10.0.0.1:{port}', 400),
        ('user@localhost', 400),
        ('localhost:{port}@evil.example', 400),
        ('localhost/evil.example', 400),
        ('localhost:x', 400),
        ('', 400),
    ],
)
def test_only_own_names_are_answered(
    server: DemoServer, host: str, status: int
) -> None:
    port = server.address.rpartition(':')[2]
    headers = {'Host': host.format(port=port)}
    assert attempt(server, 'GET', '/api/info', headers)[0] == status


@pytest.mark.parametrize(
    ('headers', 'status'),
    [
        ({}, 404),
        ({'Origin': '{own}'}, 404),
        ({'Origin': f'http://{EVIL}'}, 403),
        ({'Origin': 'null'}, 403),
        ({'Origin': 'http://127.0.0.1'}, 403),
        ({'Origin': 'https{own:.0}://{host}'}, 403),
        ({'Origin': '{own}.evil.example'}, 403),
        ({'Origin': '{own}', 'X-Forwarded-Host': 'evil.example'}, 404),
        ({'Sec-Fetch-Site': 'cross-site'}, 403),
        ({'Sec-Fetch-Site': 'same-site'}, 403),
    ],
)
def test_other_pages_change_nothing(
    server: DemoServer, headers: dict[str, str], status: int
) -> None:
    names = {'own': server.address, 'host': server.address.removeprefix('http://')}
    sent = {key: value.format(**names) for key, value in headers.items()}
    for method in ('DELETE', 'PATCH', 'POST'):
        path = '/api/sessions/none' + ('/exports' if method == 'POST' else '')
        body = '{"name": "x"}' if method == 'PATCH' else '{"format": "davis"}'
        assert attempt(server, method, path, sent | JSON, body)[0] == status


@pytest.mark.parametrize(
    ('headers', 'status'),
    [
        ({'Origin': f'http://{EVIL}'}, 403),
        ({'Origin': 'null'}, 403),
        ({'Host': 'evil.example', 'Origin': f'http://{EVIL}'}, 400),
    ],
)
def test_other_pages_open_no_socket(
    server: DemoServer, clip_folder: Path, headers: dict[str, str], status: int
) -> None:
    session = server.new_session(clip_folder)
    address = f'/api/sessions/{session}/socket'
    handshake = {
        'Connection': 'Upgrade',
        'Upgrade': 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    }
    assert attempt(server, 'GET', address, handshake | headers)[0] == status


def test_no_other_page_may_read_or_frame_the_page(server: DemoServer) -> None:
    for path in ('/', '/api/health', '/api/none', '/none'):
        origin = {'Origin': f'http://{EVIL}'}
        _, headers, _ = attempt(server, 'GET', path, origin)
        assert not [name for name in headers if name.startswith('access-control')]
        policy = headers['content-security-policy']
        assert "default-src 'self'" in policy
        assert 'unsafe' not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers['x-content-type-options'] == 'nosniff'
        assert headers['referrer-policy'] == 'no-referrer'
        assert 'server' not in headers or 'uvicorn' in headers['server']


def test_answers_to_unexpected_errors_have_the_same_headers() -> None:
    sent: list[Message] = []

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError('/secret/path')

    async def receive() -> Message:
        return {'type': 'http.request'}

    async def send(message: Message) -> None:
        sent.append(message)

    host = (b'host', b'localhost')
    scope = {'type': 'http', 'method': 'GET', 'path': '/', 'headers': [host]}
    asyncio.run(Guard(fail, AccessRules())(scope, receive, send))
    assert sent[0]['status'] == 500
    assert Headers(raw=sent[0]['headers'])['x-content-type-options'] == 'nosniff'
    assert b'secret' not in sent[1]['body']


# Paths -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'path',
    [
        '/../server.py',
        '/assets/../../server.py',
        '/assets/%2e%2e/%2e%2e/server.py',
        '/assets/..%2f..%2fserver.py',
        '/assets/..%5c..%5cserver.py',
        '//etc/passwd',
        '/%2fetc/passwd',
        '/assets/%00',
        '/api/sessions/../../etc',
        '/api/sessions/..%2f..%2fetc/frames/0.jpg?key=x',
        '/api/sessions/x/frames/..%2f0.jpg?key=x',
        '/api/jobs/..%2fsession/file',
        f'/api/sessions/x/frames/{"9" * 5000}.jpg?key=x',
    ],
)
def test_addresses_lead_to_no_file_outside(server: DemoServer, path: str) -> None:
    status, _, answer = attempt(server, 'GET', path)
    assert status == 404
    assert b'root:' not in answer
    assert b'import' not in answer


@pytest.fixture
def trap(clip_folder: Path) -> Iterator[Path]:
    """A link in a root that leads out of it."""
    link = clip_folder.parent / 'trap'
    link.symlink_to('/etc')
    yield link
    link.unlink()


@pytest.mark.parametrize(
    ('source', 'status'),
    [
        ('/etc/passwd', 403),
        ('/etc', 403),
        ('{root}/../../../../etc/passwd', 403),
        ('../../../../etc/passwd', 403),
        ('trap/passwd', 403),
        ('trap', 403),
        ('/proc/self/root/etc/passwd', 403),
        ('/proc/self/environ', 403),
        ('/none/at/all', 403),
        ('~/.ssh', 403),
        ('{root}/none', 404),
        ('{root}/disc\0', 400),
        ('', 400),
        ('a' * 5000, 400),
        ('upload:../../etc', 404),
        ('upload:..', 404),
        ('example:../../etc', 422),
        (f'http://{EVIL}/clip.mp4', 404),
        ('concat:/etc/passwd|/etc/group', 404),
    ],
)
def test_sources_outside_the_roots_are_refused(
    server: DemoServer, clip_folder: Path, trap: Path, source: str, status: int
) -> None:
    path = source.format(root=clip_folder.parent)
    body = json.dumps({'source': path})
    before = server.http.get('/api/sessions').json()
    answer = attempt(server, 'POST', '/api/sessions', JSON, body)
    assert answer[0] == status, answer
    assert b'error' in answer[2]
    assert b'root:' not in answer[2]
    assert server.http.get('/api/sessions').json() == before
    if status in {403, 404} and ':' not in source:
        browsed = server.http.get('/api/browse', params={'path': path})
        assert browsed.status_code == status


def test_links_out_of_a_root_are_not_listed(
    server: DemoServer, trap: Path, clip_folder: Path
) -> None:
    listed = server.http.get('/api/browse').json()
    assert trap.name not in [entry['name'] for entry in listed['entries']]


def test_confined_paths_follow_links_before_they_are_checked(tmp_path: Path) -> None:
    root = tmp_path / 'root'
    (root / 'a').mkdir(parents=True)
    (root / 'inner').symlink_to(root / 'a')
    (tmp_path / 'rooted').mkdir()
    assert confine('inner', (root,)) == root / 'a'
    assert confine(str(root), (root,)) == root
    with pytest.raises(RequestError, match='not inside'):
        confine(str(tmp_path / 'rooted'), (root,))  # a name that begins alike


# Bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('headers', 'body', 'status'),
    [
        (JSON, '{"source": 5}', 400),
        (JSON, '{"source": "x", "other": 1}', 400),
        (JSON, '{}', 400),
        (JSON, '[]', 400),
        (JSON, '{"source": "x"', 400),
        (JSON, '[' * 100_000, 400),
        (JSON, b'\xff\xfe', 400),
        (JSON, '"' + 'x' * 300_000 + '"', 413),
        (JSON, '{"source": "x", "kind": "exe"}', 400),
        ({'Content-Type': 'text/plain'}, '{"source": "x"}', 415),
        ({'Content-Type': 'application/x-www-form-urlencoded'}, 'source=x', 415),
        ({}, '{"source": "x"}', 415),
    ],
)
def test_wrong_bodies_are_refused(
    server: DemoServer, headers: dict[str, str], body: str | bytes, status: int
) -> None:
    answer = attempt(server, 'POST', '/api/sessions', headers, body)
    assert answer[0] == status
    assert json.loads(answer[2])['error']


@pytest.mark.parametrize(
    ('method', 'path', 'status'),
    [
        ('PUT', '/api/sessions', 405),
        ('TRACE', '/api/info', 405),
        ('POST', '/api/info', 405),
        ('POST', '/', 405),
        ('GET', '/api/none', 404),
        ('GET', '/api/jobs/none', 404),
        ('DELETE', '/api/training/none', 422),
        ('GET', '/.git/config', 404),
    ],
)
def test_unknown_addresses_and_methods(
    server: DemoServer, method: str, path: str, status: int
) -> None:
    got, _, answer = attempt(server, method, path)
    assert got == status
    assert b'Traceback' not in answer


def test_messages_have_a_limit(server: DemoServer, clip_folder: Path) -> None:
    page = Page(server, server.new_session(clip_folder))
    with pytest.raises(ConnectionClosed) as error:  # noqa: PT012
        page.socket.send('x' * (MAX_DRAWING + 1))
        while True:
            page.socket.recv(20)
    assert error.value.rcvd is not None
    assert error.value.rcvd.code == 1009
    page.close()


def test_a_page_has_to_say_who_it_is(server: DemoServer, clip_folder: Path) -> None:
    session = server.new_session(clip_folder)
    address = f'{server.address.replace("http", "ws")}/api/sessions/{session}/socket'
    with connect(address) as socket:
        socket.send('{"request": 3, "type": "add_object"}')
        answer = json.loads(socket.recv(20))
    assert (answer['type'], answer['request']) == ('error', 3)
    assert server.state_of(session)['num_objects'] == 0


def test_names_are_text_and_never_part_of_a_header(
    server: DemoServer, clip_folder: Path
) -> None:
    name = '<script>alert(1)</script>"; filename="x.exe'
    session = server.new_session(clip_folder, name=name)
    assert server.state_of(session)['name'] == name
    response = server.http.post(
        f'/api/sessions/{session}/stills',
        json={'frame': 0, 'effect': {'name': 'overlay'}},
    )
    assert response.headers['content-disposition'] == (
        'attachment; filename="script_alert_1_script_filename_x_exe_00000.png"'
    )
    assert file_name('../..') == 'session'
    refused = server.http.patch(f'/api/sessions/{session}', json={'name': 'a\r\nb'})
    assert refused.status_code == 400


# The token ---------------------------------------------------------------------------


def cookie(expires: float, token: str = TOKEN) -> dict[str, str]:
    """The header of a cookie."""
    return {'Cookie': f'{COOKIE}={sign_cookie(token, int(expires))}'}


def test_the_token_becomes_a_cookie_and_leaves_the_address(
    guarded: DemoServer,
) -> None:
    path = f'/api/info?a=b&token={TOKEN}'
    status, headers, _ = attempt(guarded, 'GET', path)
    assert status == 303
    assert headers['location'] == '/sam/api/info?a=b'
    given, *properties = headers['set-cookie'].split('; ')
    assert TOKEN not in headers['set-cookie']
    assert {p.lower() for p in properties} >= {
        'httponly',
        'samesite=strict',
        'path=/sam',
    }
    assert 'Secure' not in properties
    assert attempt(guarded, 'GET', '/api/info', {'Cookie': given})[0] == 200
    https = {'Host': 'sam.example.org', 'X-Forwarded-Proto': 'https'}
    _, headers, _ = attempt(guarded, 'GET', path, https)
    assert 'Secure' in headers['set-cookie']


def test_a_cookie_is_renewed_after_half_of_its_life(guarded: DemoServer) -> None:
    for left, is_renewed in [(COOKIE_SECONDS - 60, False), (3600, True)]:
        old = cookie(time.time() + left)
        _, headers, _ = attempt(guarded, 'GET', '/api/info', old)
        assert ('set-cookie' in headers) is is_renewed
    new = {'Cookie': headers['set-cookie'].partition(';')[0]}
    assert new != old
    assert attempt(guarded, 'GET', '/api/info', new)[0] == 200
    _, headers, _ = attempt(guarded, 'GET', '/api/health', cookie(time.time() - 1))
    assert 'set-cookie' not in headers


def test_no_redirect_leads_elsewhere(guarded: DemoServer) -> None:
    for path in ('//evil.example/', '/%2f/evil.example', '/\\evil.example'):
        _, headers, _ = attempt(guarded, 'GET', f'{path}?token={TOKEN}')
        location = headers['location']
        assert location.startswith('/sam/')
        assert '\\' not in location


@pytest.mark.parametrize(
    ('path', 'headers', 'status'),
    [
        ('/api/health', {}, 200),
        ('/api/info', {}, 401),
        ('/', {}, 401),
        ('/api/sessions', {}, 401),
        ('/api/sessions/x/frames/0.jpg', {}, 401),
        ('/api/info?token=wrong', {}, 401),
        ('/api/info?token=', {}, 401),
        ('/api/info', {'Authorization': f'Bearer {TOKEN}'}, 200),
        ('/api/info', {'Authorization': f'Bearer {TOKEN}x'}, 401),
        ('/api/info', {'Authorization': 'Bearer ü'}, 401),
        ('/api/info', cookie(time.time() + 3600), 200),
        ('/api/info', cookie(time.time() - 60), 401),
        ('/api/info', cookie(time.time() + 3600, 'another token'), 401),
        ('/api/info', {'Cookie': f'{COOKIE}={TOKEN}'}, 401),
        ('/api/info', {'Cookie': f'{COOKIE}=99999999999.'}, 401),
        ('/api/info', {'Cookie': f'{COOKIE}=²³.x'}, 401),
        ('/api/info', {'Cookie': '=;;=,\x01'}, 401),
    ],
)
def test_nothing_but_health_without_the_token(
    guarded: DemoServer, path: str, headers: dict[str, str], status: int
) -> None:
    assert attempt(guarded, 'GET', path, headers)[0] == status


def test_a_socket_without_the_token_is_closed(guarded: DemoServer) -> None:
    address = guarded.address.replace('http', 'ws') + '/api/sessions/x/socket'
    with connect(address) as socket, pytest.raises(ConnectionClosed) as error:
        socket.recv(20)
    assert error.value.rcvd is not None
    assert error.value.rcvd.code == 4401
    with pytest.raises(InvalidStatus):
        connect(address, origin=Origin(f'http://{EVIL}')).__enter__()


def test_a_proxy_names_the_host_that_pages_use(guarded: DemoServer) -> None:
    proxied = {
        'Host': '127.0.0.1',
        'X-Forwarded-Host': 'sam.example.org',
        'X-Forwarded-Proto': 'https',
        **cookie(time.time() + 60),
    }
    path = '/api/sessions/none'
    for origin, status in [
        (f'https://{SAM}', 404),
        (f'http://{SAM}', 403),
        (f'https://{EVIL}', 403),
    ]:
        assert (
            attempt(guarded, 'DELETE', path, proxied | {'Origin': origin})[0] == status
        )
    foreign = proxied | {'X-Forwarded-Host': 'evil.example'}
    assert attempt(guarded, 'GET', '/api/info', foreign)[0] == 400


def test_guessing_the_token_is_slowed_down(guarded: DemoServer) -> None:
    answers = [
        attempt(guarded, 'GET', f'/api/info?token=guess{number}')[0]
        for number in range(MAX_ATTEMPTS + 2)
    ]
    assert answers[-1] == 429
    # Who is in already is not shut out.
    assert attempt(guarded, 'GET', '/api/info', cookie(time.time() + 60))[0] == 200


def test_hosts_are_read_as_browsers_read_them() -> None:
    names: list[tuple[str, Any]] = [
        ('LocalHost:80', 'localhost'),
        ('[::1]:80', '::1'),
        ('a.b.', 'a.b'),
        ('a@b', None),
        ('a/b', None),
        ('a:b', None),
        ('', None),
    ]
    for text, expected in names:
        assert host_name(text) == expected
    assert is_loopback('127.9.9.9')
    assert is_loopback('::1')
    assert not is_loopback('0.0.0.0')  # noqa: S104  looked at, not bound to
    assert not is_loopback('localhost.example.org')
    rules = AccessRules(any_address=True)
    assert rules.accepts_host('192.168.1.7')
    assert not rules.accepts_host('evil.example')


# Connections -------------------------------------------------------------------------


def test_connections_that_send_no_request_end(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, 'REQUEST_SECONDS', 0.4)
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=tmp_path,
        roots=(clip_folder.parent,),
    )
    request = b'GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n'
    with running_demo(options, http=connections.HttpConnection) as server:
        address = '127.0.0.1', int(server.address.rpartition(':')[2])
        page = Page(server, server.new_session(clip_folder))
        for begin in (b'', b'GET / HT', request):
            with socket.create_connection(address, timeout=10) as silent:
                silent.sendall(begin)
                with suppress(ConnectionError):
                    for _ in range(10):  # bytes of a head that never ends
                        time.sleep(0.2)
                        silent.sendall(b'a')
                    while silent.recv(4096):  # ends, or raises after ten seconds
                        pass
        asking = http.client.HTTPConnection(*address, timeout=10)
        for _ in range(8):
            asking.request('GET', '/api/health')
            assert asking.getresponse().read() == b'{"status":"ok"}'
            assert asking.sock  # the same connection
            time.sleep(0.2)
        asking.close()
        assert page.ask('ping')['type'] == 'done'  # a WebSocket may be silent
        page.close()
