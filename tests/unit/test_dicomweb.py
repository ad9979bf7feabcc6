"""Against a real Orthanc: store a series, query, retrieve, segment, store the segmentation, retrieve it, open it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from command_line import Outcome, quick_runner
from dicom_phantom import ct_series, places
from labelled_series import labels_on, series
from orthanc import PASSWORD, USER, running_orthanc
from pydicom.uid import generate_uid

from napari_lungseg.errors import PacsError, WriteError
from napari_lungseg.io import pacs_session as session
from napari_lungseg.io import read, write
from napari_lungseg.io.dicomweb import RemoteSeries, query, retrieve, store
from napari_lungseg.io.pacs_session import Credentials
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.progress import drain
from napari_lungseg.segmentation.predict import iter_segment
from napari_lungseg.volume import LabelMap, Volume

IDENTIFIERS = ("Mustermann", "Erika", "PAT-4711", "19700101")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_orthanc(tmp_path_factory.mktemp("pacs") / "orthanc") as url:
        yield url


@pytest.fixture(autouse=True)
def own_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (session.TOKEN, session.ALLOW_HTTP):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(session.USER, USER)
    monkeypatch.setenv(session.PASSWORD, PASSWORD)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def lungseg(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    return quick_runner(capsys, monkeypatch)


def found_on(orthanc: str, uid: str) -> RemoteSeries:
    (found,) = [one for one in drain(query(orthanc)) if one.uid == uid]
    return found


def uid_in(folder: Path) -> str:
    return str(pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID)


def test_there_and_back_is_identical(orthanc: str, tmp_path: Path) -> None:
    volume = series(tmp_path / "scan", "oblique", count=5)
    assert drain(store(orthanc, [tmp_path / "scan"])) == 5
    remote = found_on(orthanc, uid_in(tmp_path / "scan"))
    assert (remote.modality, remote.instances, remote.alias) == ("CT", 5, remote.alias)
    steps = list(retrieve(orthanc, remote, tmp_path / "back"))
    assert [step.done for step in steps] == [0, 1, 2, 3, 4, 5] and steps[-1].total == 5
    (back,) = read(tmp_path / "back")
    assert isinstance(back, Volume)
    np.testing.assert_array_equal(np.asarray(back.array), np.asarray(volume.array))
    assert back.geometry.same_grid(volume.geometry)

    labels = labels_on(back)
    drain(store(orthanc, [write(labels, tmp_path / "lungs.seg.dcm")]))
    sent = pydicom.dcmread(tmp_path / "lungs.seg.dcm")
    remote = found_on(orthanc, str(sent.SeriesInstanceUID))
    assert (remote.modality, remote.study) == ("SEG", str(sent.StudyInstanceUID))
    folder = drain(retrieve(orthanc, remote, tmp_path / "seg"))
    assert pydicom.dcmread(next(folder.iterdir())) == sent
    (found,) = read(folder)
    assert isinstance(found, LabelMap)
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.geometry.same_grid(volume.geometry)
    assert (found.names, found.colours, found.record) == (labels.names, labels.colours, labels.record)


def test_the_same_on_the_command_line_without_naming_the_patient(
    orthanc: str, tmp_path: Path, lungseg: Callable[..., Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    series(tmp_path / "scan", SeriesDescription="Thorax Mustermann")
    assert lungseg("store", orthanc, tmp_path / "scan").out == "5 instance(s) stored\n"
    uid = uid_in(tmp_path / "scan")
    outcomes = [
        lungseg("fetch", orthanc, "--patient-id", "PAT-*", "--modality", "CT"),
        lungseg("fetch", orthanc, "--patient-name", "MUSTER*", "--json"),
        lungseg("fetch", orthanc, "--series", uid, "-o", tmp_path / "back"),
        lungseg("segment", tmp_path / "back", "-o", tmp_path / "lungs.seg.dcm"),
        lungseg("store", orthanc, tmp_path / "lungs.seg.dcm"),
    ]
    assert [outcome.code for outcome in outcomes] == [0] * 5, outcomes
    assert uid in outcomes[0].out and uid in outcomes[1].out and "patient 1" in outcomes[0].out
    told = "".join(outcome.out + outcome.err for outcome in outcomes) + caplog.text
    assert not [word for word in (*IDENTIFIERS, PASSWORD) if word.casefold() in told.casefold()]
    kept = lungseg("fetch", orthanc, "--keep-identifiers").out
    assert "Mustermann^Erika" in kept and "PAT-4711" in kept and "Thorax Mustermann" in kept
    assert "matches" in lungseg("fetch", orthanc, "--patient-id", "nobody").out


def test_dates_with_dashes_are_sent_without(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Client:
        def search_for_studies(self, *, search_filters: dict[str, str], **_: object) -> list[Any]:
            asked.append(search_filters["StudyDate"])
            return []

    monkeypatch.setattr("napari_lungseg.io.dicomweb.connect", lambda *_: Client())
    for given in (
        "2026-11-21",
        "20261121",
        "2026-01-02-2026-11-21",
        "20260102-2026-11-21",
        "2026-01-02-",
        "-2026-11-21",
    ):
        drain(query("http://localhost", {"date": given}))
    assert asked == ["20261121", "20261121", *["20260102-20261121"] * 2, "20260102-", "-20261121"]


def test_a_wrong_password_is_a_sentence(
    orthanc: str, monkeypatch: pytest.MonkeyPatch, lungseg: Callable[..., Outcome]
) -> None:
    monkeypatch.setenv(session.PASSWORD, "wrong-secret")
    outcome = lungseg("fetch", orthanc)
    assert outcome.code == 2 and outcome.err.startswith("lungseg: 127.0.0.1") and "LUNGSEG_PACS_TOKEN" in outcome.err
    assert "did not accept" in outcome.err and "wrong-secret" not in outcome.err
    monkeypatch.delenv(session.USER)
    assert "did not accept" in lungseg("fetch", orthanc).err


def test_cancelled_or_cut_short_leaves_nothing(orthanc: str, tmp_path: Path) -> None:
    series(tmp_path / "scan")
    drain(store(orthanc, [tmp_path / "scan"]))
    remote = found_on(orthanc, uid_in(tmp_path / "scan"))
    steps = retrieve(orthanc, remote, tmp_path / "back")
    while next(steps).done < 2:
        pass
    steps.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan"]
    import dataclasses

    with pytest.raises(PacsError, match="Only 5 of 6"):
        drain(retrieve(orthanc, dataclasses.replace(remote, instances=6), tmp_path / "back"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan"]
    with pytest.raises(WriteError, match="holds something"):
        drain(retrieve(orthanc, remote, tmp_path / "scan"))


def test_addresses_and_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(PacsError, match="without TLS"):
        session.connect("http://pacs.example.org/dicom-web")
    with pytest.raises(PacsError, match="user or a password") as raised:
        session.connect("https://me:hidden@pacs.example.org/dicom-web")
    assert "hidden" not in str(raised.value)
    for wrong in ("pacs.example.org", "ftp://host/x", "https://", "http://host:port/x"):
        with pytest.raises(PacsError, match="no address"):
            session.connect(wrong)
    secret = Credentials("tok-123", "me", "hidden")
    client = session.connect("https://pacs.example.org/dicom-web", secret)
    for text in (repr(secret), str(secret), repr(client._session.auth), repr(vars(client)), f"{secret}"):
        assert "tok-123" not in text and "hidden" not in text
    assert client._session.verify is True
    monkeypatch.setenv(session.TOKEN, "tok-123")
    request = client._session.prepare_request(__import__("requests").Request("GET", "https://pacs.example.org"))
    assert request.headers["Authorization"] == "Bearer tok-123"
    monkeypatch.delenv(session.TOKEN)
    monkeypatch.delenv(session.USER)
    (tmp_path / "netrc").write_text("machine pacs.example.org login me password from-netrc\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert session.credentials_for("https://pacs.example.org/x").password == "from-netrc"


def test_a_server_that_is_not_there_or_speaks_something_else(orthanc: str, tmp_path: Path) -> None:
    with pytest.raises(PacsError, match="could not be reached"):
        drain(query("http://127.0.0.1:9/dicom-web"))
    with pytest.raises(PacsError, match=r"something else than DICOMweb|knows nothing"):
        drain(query(orthanc.replace("dicom-web", "app/explorer.html")))
    (tmp_path / "notes.nii").write_bytes(b"x" * 400)
    with pytest.raises(PacsError, match=r"seg\.dcm"):
        drain(store(orthanc, [tmp_path / "notes.nii"]))


def there_and_back(orthanc: str, scan: Path, home: Path) -> tuple[LabelMap, Volume]:
    """Store, query, retrieve, segment with the bundled model, store, retrieve, open: what comes is what was sent."""
    (volume,) = read(scan)
    assert isinstance(volume, Volume)
    drain(store(orthanc, [scan]))
    drain(retrieve(orthanc, found_on(orthanc, uid_in(scan)), home / "back"))
    (back,) = read(home / "back")
    assert isinstance(back, Volume) and back.geometry == volume.geometry
    np.testing.assert_array_equal(np.asarray(back.array), np.asarray(volume.array))
    labels = drain(iter_segment(back, "ct-lungs", device="cpu"))
    drain(store(orthanc, [write(labels, home / "lungs.seg.dcm")]))
    uid = str(pydicom.dcmread(home / "lungs.seg.dcm").SeriesInstanceUID)
    drain(retrieve(orthanc, found_on(orthanc, uid), home / "seg"))
    # Beside its series, and alone.
    (alone,) = read(home / "seg")
    (beside,) = read(home / "seg", reference=scan)
    for found in (alone, beside):
        assert isinstance(found, LabelMap)
        np.testing.assert_array_equal(found.array, labels.array)
        assert (found.names, found.colours, found.record) == (labels.names, labels.colours, labels.record)
        assert found.geometry.same_grid(volume.geometry)
    return labels, volume


def test_with_the_bundled_model(orthanc: str, tmp_path: Path) -> None:
    volume, known = thorax_ct((24, 96, 112), seed=4)
    gap, *within = volume.geometry.spacing
    stored = (np.asarray(volume.array) + 1024).astype(np.uint16)
    tags = {
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
    }
    ct_series(tmp_path / "scan", stored, places(24, (1, 0, 0, 0, 1, 0), gap), PixelSpacing=within, **tags)
    labels, _ = there_and_back(orthanc, tmp_path / "scan", tmp_path)
    for label in (1, 2):
        found, true = labels.array == label, known.array == label
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LUNG1-001", "LUNG1-002", "LUNG1-003"])
def test_with_the_bundled_model_on_a_real_series(orthanc: str, tmp_path: Path, test_data: Path, name: str) -> None:
    """Forty neighbouring slices, in JPEG-LS, in JPEG 2000, and plain."""
    (tmp_path / "scan").mkdir()
    headers = {
        path: pydicom.dcmread(path, stop_before_pixels=True) for path in (test_data / "ct/dicom" / name).iterdir()
    }
    ordered = sorted(headers, key=lambda path: headers[path].ImagePositionPatient[2])
    for path in ordered[len(ordered) // 2 :][:40]:
        (tmp_path / "scan" / path.name).write_bytes(path.read_bytes())
    labels, _ = there_and_back(orthanc, tmp_path / "scan", tmp_path)
    assert np.unique(labels.array).tolist() == [0, 1, 2]
