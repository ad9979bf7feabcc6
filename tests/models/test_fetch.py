"""Fetching weights from a server that breaks off, lies, refuses, or knows no ranges: a whole model file, or none."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from napari_lungseg.errors import FetchError, ModelFileError
from napari_lungseg.models import catalog, library
from napari_lungseg.models.catalog import entries, find_entry, list_models, load_model
from napari_lungseg.models.fetch import _CHUNK, iter_fetch
from napari_lungseg.models.networks.lungmask import build_lungmask_unet
from napari_lungseg.models.published import LUNGMASK, Offer
from napari_lungseg.models.weights import read_weights
from napari_lungseg.progress import Progress, drain

NAME = "lungmask-r231"


class Server(ThreadingHTTPServer):
    """Serves one file, as badly as it is told."""

    content = b""
    breaks_after: list[int]  # bytes, one for each answer; then it behaves
    status = 200
    knows_ranges = True
    asked: list[str | None]  # the Range header of every request

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks_after, self.asked = [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        content = self.server.content
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.knows_ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = self.server.breaks_after.pop(0) if self.server.breaks_after else len(content)
        self.wfile.write(content[start : start + limit])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of the test's own, and no proxy between it and its server."""
    monkeypatch.setenv("LUNGSEG_MODELS", str(tmp_path / "models"))
    for variable in ("LUNGSEG_MODELS_OFFLINE", "LUNGSEG_MODELS_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "models"


@pytest.fixture
def offer(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """A small lungmask, published on the test's own server and offered in the catalogue."""
    torch.manual_seed(0)
    weights = build_lungmask_unet(1, 3, base=8).state_dict()
    torch.save(weights | {"down_path.0.residual_batchnorm.weight": torch.ones(8)}, tmp_path / "published.pth")
    server.content = (tmp_path / "published.pth").read_bytes()
    assert len(server.content) > 4 * _CHUNK
    spec = dataclasses.replace(LUNGMASK[NAME].spec, options={"base": 8})
    digest = hashlib.sha256(server.content).hexdigest()[:8]
    offer = dataclasses.replace(LUNGMASK[NAME], spec=spec, url=f"{server.url}/unet-{digest}.pth", sha256=digest)
    monkeypatch.setattr(catalog, "LUNGMASK", {NAME: offer})
    return offer


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_published_digests_are_those_in_the_names() -> None:
    assert {offer.filename: offer.sha256 for offer in LUNGMASK.values()} == {
        "unet_r231-d5d2fc3d.pth": "d5d2fc3d",
        "unet_ltrclobes-3a07043d.pth": "3a07043d",
        "unet_r231covid-0de78a7e.pth": "0de78a7e",
    }
    assert [LUNGMASK["lungmask-ltrclobes"].spec.names[label] for label in (1, 5)] == [
        "left upper lobe",
        "right lower lobe",
    ]


def test_nothing_is_fetched_unasked(offer: Offer, server: Server, folder: Path) -> None:
    entry = find_entry(NAME)
    assert entry is not None and entry.state == "not fetched yet"
    assert NAME in {spec.name for spec in list_models()}
    with pytest.raises(FetchError, match=r"lungseg models fetch lungmask-r231.*fetch=True"):
        load_model(NAME)
    assert server.asked == []
    assert not folder.exists()


def test_weights_are_fetched_once_and_used_as_they_are(offer: Offer, server: Server, folder: Path) -> None:
    model = load_model(NAME, fetch=True)
    published = torch.load(folder.parent / "published.pth", weights_only=True)
    for name, tensor in read_weights(model.path).items():
        assert torch.equal(tensor, published[name])
    assert model.network()(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)
    assert files_in(folder) == [f"{NAME}.safetensors"]
    assert load_model(NAME).spec.names == {1: "right lung", 2: "left lung"}
    assert load_model(NAME, fetch=True).path == model.path
    assert len(server.asked) == 1
    assert [entry.state for entry in entries() if entry.spec.name == NAME] == ["fetched"]


def test_progress_is_told_in_bytes(offer: Offer, server: Server) -> None:
    steps: list[Progress] = []
    drain(iter_fetch(offer), steps.append)
    counts = [step.done for step in steps[:-1]]
    assert len(counts) >= 4
    assert counts == sorted(counts)
    assert counts[-1] == steps[0].total == len(server.content)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(offer: Offer, server: Server, folder: Path) -> None:
    server.breaks_after = [300_000, 200_000]
    assert load_model(NAME, fetch=True).path.is_file()
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_what_arrived_is_kept_for_the_next_time(offer: Offer, server: Server, folder: Path) -> None:
    server.breaks_after = [100_000] * 4
    with pytest.raises(FetchError, match=r"breaks off.*400000 of.*LUNGSEG_MODELS_MIRROR"):
        load_model(NAME, fetch=True)
    assert files_in(folder) == [f"{offer.filename}.part"]
    assert load_model(NAME, fetch=True).path.is_file()
    assert server.asked[-1] == "bytes=400000-"
    assert files_in(folder) == [f"{NAME}.safetensors"]


def test_a_fetch_that_is_stopped_goes_on_later(offer: Offer, server: Server, folder: Path) -> None:
    steps = iter_fetch(offer)
    next(steps)
    steps.close()
    assert files_in(folder) == [f"{offer.filename}.part"]
    drain(iter_fetch(offer))
    assert server.asked[-1] is not None


def test_a_server_without_ranges_is_asked_again_from_the_beginning(offer: Offer, server: Server) -> None:
    server.knows_ranges = False
    server.breaks_after = [300_000]
    assert load_model(NAME, fetch=True).path.is_file()
    assert len(server.asked) == 2


@pytest.mark.parametrize("begun", [b"", b"other bytes" * 1000])
def test_another_file_is_not_used(offer: Offer, server: Server, folder: Path, begun: bytes) -> None:
    part = folder / "fetched" / f"{offer.filename}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(begun)
    if not begun:
        server.content = server.content[:-1] + bytes([server.content[-1] ^ 1])
    with pytest.raises(FetchError, match=rf"SHA-256 begins with .*expected {offer.sha256}"):
        load_model(NAME, fetch=True)
    assert files_in(folder) == []


def test_a_part_that_is_longer_than_the_file_is_begun_anew(offer: Offer, server: Server, folder: Path) -> None:
    part = folder / "fetched" / f"{offer.filename}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(len(server.content) + 5))
    assert load_model(NAME, fetch=True).path.is_file()
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_told_with_the_ways_out(offer: Offer, server: Server, folder: Path, status: int) -> None:
    server.status = status
    with pytest.raises(FetchError, match=rf"refused unet-.*{status}.*LUNGSEG_MODELS_OFFLINE"):
        load_model(NAME, fetch=True)
    assert files_in(folder) == []
    assert len(server.asked) == 1


def test_no_network_is_told(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGSEG_MODELS_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:9 cannot be reached"):
        load_model(NAME, fetch=True)


def test_a_mirror_stands_in_for_the_publisher(offer: Offer, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = dataclasses.replace(offer, url=f"http://127.0.0.1:9/release/{offer.filename}")
    monkeypatch.setattr(catalog, "LUNGMASK", {NAME: elsewhere})
    monkeypatch.setenv("LUNGSEG_MODELS_MIRROR", f"{server.url}/")
    assert load_model(NAME, fetch=True).path.is_file()


def test_an_offline_folder_is_looked_into_first(
    offer: Offer, server: Server, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNGSEG_MODELS_OFFLINE", str(tmp_path))
    stick = (tmp_path / "published.pth").rename(tmp_path / offer.filename)
    assert load_model(NAME).path.is_file()  # nothing goes over the network, so nobody need be asked
    assert server.asked == []
    assert stick.is_file()
    library.fetched_file(offer).unlink()
    stick.write_bytes(b"something else")
    with pytest.raises(FetchError, match="SHA-256"):
        load_model(NAME)
    assert stick.is_file()


class Evil:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return pytest.fail, ("a pickle was run",)


def evil_zip(path: Path) -> None:
    torch.save({"w": Evil()}, path)


def evil_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(), protocol=2))


def not_weights(path: Path) -> None:
    torch.save({"epoch": 3}, path)


def other_weights(path: Path) -> None:
    torch.save({"w": torch.ones(3)}, path)


@pytest.mark.parametrize("make", [evil_zip, evil_pickle, not_weights, other_weights])
def test_a_file_of_anything_but_these_weights_is_refused(
    offer: Offer, server: Server, tmp_path: Path, folder: Path, make: Callable[[Path], None], monkeypatch
) -> None:
    make(tmp_path / "evil.pth")
    server.content = (tmp_path / "evil.pth").read_bytes()
    monkeypatch.setattr(catalog, "LUNGMASK", {NAME: dataclasses.replace(offer, sha256="")})
    with pytest.raises(ModelFileError, match=r"unet-.*pth|do not fit"):
        load_model(NAME, fetch=True)
    assert files_in(folder) == []
