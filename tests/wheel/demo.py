"""Starts the demo of the installed wheel, and asks it for the page and a frame."""

import json
import re
import signal
import socket
import subprocess
import time
import urllib.request

with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    port = listener.getsockname()[1]
ADDRESS = f'http://127.0.0.1:{port}'


def fetch(path: str, content: object = None) -> bytes:
    """Fetch a path of the demo, or post JSON to it."""
    data = None if content is None else json.dumps(content).encode()
    headers = {'Content-Type': 'application/json', 'Origin': ADDRESS}
    request = urllib.request.Request(ADDRESS + path, data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


command = ['mmsam2', 'demo', '--no-browser', '--port', str(port), '--sessions', 'demo']
demo = subprocess.Popen(command)
try:
    for _ in range(300):
        try:
            fetch('/api/health')
            break
        except OSError:
            assert demo.poll() is None, 'the demo ended'
            time.sleep(0.2)
    page = fetch('/').decode()
    assets = re.findall(r'(?:src|href)="\.?/?(assets/[^"]+)"', page)
    assert assets, page
    for asset in assets:
        assert fetch(f'/{asset}'), asset
    session = json.loads(fetch('/api/sessions', {'source': 'example:cells_1'}))['id']
    (known,) = json.loads(fetch('/api/sessions'))
    frame = fetch(f'/api/sessions/{session}/frames/0.jpg?key={known["key"]}')
    assert frame.startswith(b'\xff\xd8\xff')
finally:
    demo.send_signal(signal.SIGINT)
    code = demo.wait(timeout=60)
assert code == 0, code
