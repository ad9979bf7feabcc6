"""An authenticated connection to a DICOMweb server (PS3.18), and its errors as sentences.

Credentials come from the environment, from netrc or from a prompt. They live in the session's ``auth`` alone, whose
text form tells nothing: they reach no file, log, error or layer.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import PacsError

TOKEN, USER, PASSWORD = "LUNGSEG_PACS_TOKEN", "LUNGSEG_PACS_USER", "LUNGSEG_PACS_PASSWORD"
ALLOW_HTTP = "LUNGSEG_PACS_ALLOW_HTTP"
_LOCAL = ("localhost", "127.0.0.1", "::1")
# Seconds to connect, and without a byte from the server.
_TIMEOUT = (10.0, 120.0)
# What OpenSSL calls an answer without encryption, before 3.4 and since.
_NO_TLS = re.compile("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE")
# They log addresses with the names that were asked for, and headers.
_TALKATIVE = ("dicomweb_client", "urllib3.connectionpool")


@dataclass(frozen=True)
class Credentials:
    """A bearer token, or a user with a password; neither is shown by ``repr``.

    Parameters
    ----------
    token : sent as ``Authorization: Bearer``
    user, password : for basic authentication (RFC 7617)
    """

    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.token or self.user)

    def __call__(self, request: Any) -> Any:
        """Sign a request; this is what ``requests`` wants of an ``auth``."""
        from requests.auth import HTTPBasicAuth

        if not self.token:
            return HTTPBasicAuth(self.user.encode(), self.password.encode())(request)
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def credentials_for(url: str, environment: Mapping[str, str] | None = None) -> Credentials:
    """Credentials for a server from the environment, else from netrc; empty where neither has any."""
    from requests.utils import get_netrc_auth

    known = os.environ if environment is None else environment
    if known.get(TOKEN) or known.get(USER):
        return Credentials(known.get(TOKEN, ""), known.get(USER, ""), known.get(PASSWORD, ""))
    user, password = get_netrc_auth(url) or ("", "")
    return Credentials(user=user, password=password)


def connect(url: str, credentials: Credentials | None = None) -> Any:
    """A ``DICOMwebClient`` for a server; nothing is sent yet.

    Parameters
    ----------
    url : of the service, e.g. ``https://pacs.example.org/dicom-web``
    credentials : by default those of `credentials_for`

    Raises
    ------
    PacsError
        Where the address is none, holds a password, or would send credentials in the clear to another computer.
    """
    check_url(url)
    signed = credentials_for(url) if credentials is None else credentials
    parts = urlsplit(url)
    if signed and parts.scheme == "http" and parts.hostname not in _LOCAL and not os.environ.get(ALLOW_HTTP):
        raise PacsError(
            f"{parts.hostname} is addressed without TLS, so that the password would travel in the clear. "
            f"Use https://, or set {ALLOW_HTTP}=1 in a network that you trust."
        )
    import requests
    from dicomweb_client import DICOMwebClient

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    session = requests.Session()

    # Always set: requests would else look into netrc by itself, and put that over a token.
    def sign(request: Any) -> Any:
        # Stars need no coding (RFC 3986 3.4), and Orthanc before 1.12 knows them in the plain only.
        request.url = request.url.replace("%2A", "*")
        return signed(request) if signed else request

    session.auth = sign
    client = DICOMwebClient(url.rstrip("/"), session=session, timeout=_TIMEOUT)
    client.set_http_retry_params(max_attempts=3, wait_exponential_multiplier=200)
    return client


def check_url(url: str) -> None:
    """See that a text is the address of a server and holds no password.

    Raises
    ------
    PacsError
        Where it is not; the message does not repeat a password.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise PacsError("This is no address of a DICOMweb server; expected https://HOST/PATH, such as …/dicom-web.")
    if parts.username or parts.password:
        raise PacsError(
            f"The address holds a user or a password, which a shell would keep. Leave it out and set {USER} and "
            f"{PASSWORD}, or {TOKEN}."
        )


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn what goes wrong between us and a server into a `PacsError` without credentials, address or patient in it."""
    import requests

    host = urlsplit(url).netloc
    perhaps = " Perhaps its address begins with https://." if urlsplit(url).scheme == "http" else ""
    try:
        yield
    except requests.HTTPError as error:
        status = getattr(error.response, "status_code", 0)
        raise PacsError(_refusal(host, status) + perhaps * (status == 400)) from None
    except requests.exceptions.SSLError as error:
        if _NO_TLS.search(str(error)):
            raise PacsError(f"{host} does not speak HTTPS; its address probably begins with http://.") from None
        cure = "For a certificate of your hospital's own, set REQUESTS_CA_BUNDLE to its file."
        raise PacsError(f"The certificate of {host} could not be verified, so nothing was sent. {cure}") from None
    except requests.Timeout:
        raise PacsError(f"{host} did not answer in time; try again, or ask for less.") from None
    except requests.RequestException:
        raise PacsError(
            f"{host} could not be reached, or broke off; check the address and the network.{perhaps}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PacsError(f"{host} answered with something else than DICOMweb; check the path in the address.") from None


def _refusal(host: str, status: int) -> str:
    if status == 401:
        cure = f"Type others, or set {USER} and {PASSWORD}, or {TOKEN}."
        return f"{host} did not accept the user and password, or the token. {cure}"
    if status == 403:
        return f"{host} does not allow this to the user or token given; ask who runs it for the right."
    if status in (400, 404):
        return f"{host} knows nothing of what was asked for ({status}); check the address and the UIDs."
    if status == 409:
        return f"{host} refused to store it (409): it may hold it already, or not take this kind of object."
    return f"{host} answered with an error ({status}); try again, or ask who runs it."
