"""HTTPS with a hospital's own authority, passwords and tokens: refused and accepted rightly, and kept nowhere."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from command_line import Outcome, runner
from labelled_series import series
from orthanc import PASSWORD, USER, running_orthanc

from napari_lungseg.errors import PacsError
from napari_lungseg.io import pacs_session as session
from napari_lungseg.io.dicomweb import query
from napari_lungseg.io.pacs_session import Credentials
from napari_lungseg.progress import drain

TOKEN = "tok-9f3a77c1"
_CA = "REQUESTS_CA_BUNDLE"


@dataclass(frozen=True)
class Authority:
    """A hospital's own: the file that others are given, and that of a server, with its key."""

    bundle: Path
    server: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    made = trustme.CA()
    made.cert_pem.write_to_path(folder / "authority.pem")
    made.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return Authority(folder / "authority.pem", folder / "server.pem")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (session.TOKEN, session.USER, session.PASSWORD, session.ALLOW_HTTP, _CA, "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def lungseg(capsys: Any) -> Callable[..., Outcome]:
    return runner(capsys)


@dataclass
class Guarded:
    """A server behind a token that holds nothing, and what it was sent; it may send whoever asks elsewhere."""

    sent: list[str] = field(default_factory=list)
    elsewhere: str = ""
    url: str = ""

    @contextmanager
    def running(self, context: ssl.SSLContext | None) -> Iterator[Guarded]:
        guarded = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                given = self.headers.get("Authorization", "")
                guarded.sent.append(given)
                status = 307 if guarded.elsewhere else 200 if given == f"Bearer {TOKEN}" else 401
                self.send_response(status)
                self.send_header("Location", guarded.elsewhere + self.path)
                self.send_header("Content-Type", "application/dicom+json")
                self.end_headers()
                self.wfile.write(b"[]" if status == 200 else b"")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever does not trust it hangs up
        self.url = f"http{'s' if context else ''}://localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@contextmanager
def behind_tls(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """The same server over HTTPS, as behind a hospital's proxy (Debian 12's Orthanc ends with the first handshake itself)."""
    parts = urlsplit(url)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((parts.hostname, parts.port)) as server:
                back = threading.Thread(target=pass_on, args=(server, self.request), daemon=True)
                back.start()
                pass_on(self.request, server)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{proxy.server_address[1]}{parts.path}"
        finally:
            proxy.shutdown()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    """Until either hangs up."""
    with suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


def test_orthanc_behind_tls(
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lungseg: Callable[..., Outcome],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    series(tmp_path / "scan")
    monkeypatch.setenv(session.USER, USER)
    monkeypatch.setenv(session.PASSWORD, PASSWORD)
    with running_orthanc(tmp_path / "orthanc") as plain, behind_tls(plain, authority.context()) as url:
        unknown = lungseg("fetch", url)
        assert unknown.code == 2 and "certificate" in unknown.err and _CA in unknown.err
        assert len(unknown.err.splitlines()) == 1
        monkeypatch.setenv(_CA, str(authority.bundle))
        told = [lungseg("store", url, tmp_path / "scan"), lungseg("fetch", url, "--json")]
        assert [outcome.code for outcome in told] == [0, 0], told
        (found,) = json.loads(told[1].out)
        told.append(lungseg("fetch", url, "--series", found["series"], "-o", tmp_path / "out"))
        assert told[-1].code == 0 and len(list((tmp_path / "out").iterdir())) == 5
        monkeypatch.setenv(session.PASSWORD, "wrong-secret")
        wrong = lungseg("fetch", url)
        assert wrong.code == 2 and "did not accept" in wrong.err
    told += [unknown, wrong]
    shown = "".join(outcome.out + outcome.err for outcome in told) + caplog.text
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    for secret in (USER, PASSWORD, "wrong-secret"):
        assert secret not in shown and secret.encode() not in written


def test_a_token_is_sent_to_whom_it_is_for_and_stands_nowhere(
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    lungseg: Callable[..., Outcome],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(session.TOKEN, TOKEN)
    monkeypatch.setenv(_CA, str(authority.bundle))
    with Guarded().running(authority.context()) as guarded:
        right = lungseg("fetch", guarded.url)
        assert (right.code, right.out) == (0, "The server holds nothing that matches.\n"), right.err
        monkeypatch.setenv(session.TOKEN, "tok-wrong")
        wrong = lungseg("fetch", guarded.url)
        assert wrong.code == 2 and session.TOKEN in wrong.err
        assert guarded.sent == [f"Bearer {TOKEN}", "Bearer tok-wrong"]
        monkeypatch.delenv(_CA)
        assert lungseg("fetch", guarded.url).code == 2 and len(guarded.sent) == 2
    assert "tok-" not in right.out + right.err + wrong.out + wrong.err + caplog.text


def test_a_server_that_sends_elsewhere_does_not_pass_the_token_on(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(_CA, str(authority.bundle))
    with Guarded().running(authority.context()) as first, Guarded().running(None) as other:
        first.elsewhere = other.url.replace("localhost", "127.0.0.1")
        with pytest.raises(PacsError) as raised:
            drain(query(first.url, credentials=Credentials(token=TOKEN)))
        assert other.sent in ([], [""]) and TOKEN not in repr(raised.value) + repr(raised.value.__context__)


def test_http_in_the_place_of_https_and_the_other_way_round_is_told(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, lungseg: Callable[..., Outcome]
) -> None:
    monkeypatch.setenv(_CA, str(authority.bundle))
    with Guarded().running(None) as plain, Guarded().running(authority.context()) as safe:
        no_tls = lungseg("fetch", plain.url.replace("http:", "https:"))
        tls = lungseg("fetch", safe.url.replace("https:", "http:"))
    assert no_tls.code == 2 and "begins with http://" in no_tls.err and "certificate" not in no_tls.err
    assert tls.code == 2 and "begins with https://" in tls.err
