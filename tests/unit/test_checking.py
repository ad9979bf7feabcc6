"""What is noticed in a data set before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import binary, film, save

from napari_lungseg.progress import Progress, drain
from napari_lungseg.training.checking import Checked, check_dataset, thumbnail
from napari_lungseg.training.datasets import find_dataset
from napari_lungseg.volume import Geometry, Volume


def checked(folder: Path, masks: dict[str, np.ndarray], images: dict[str, np.ndarray] | None = None) -> Checked:
    for number, (name, mask) in enumerate(masks.items()):
        save(folder / f"images/{name}.png", (images or {}).get(name, film(number)[0]))
        save(folder / f"masks/{name}.png", mask)
    return drain(check_dataset(find_dataset(folder)))


def told(result: Checked, code: str) -> list[str]:
    return [finding.message for finding in result.findings if finding.code == code]


def sides(number: int) -> np.ndarray:
    return film(number)[1]


def test_a_good_data_set_has_facts_and_nothing_else(tmp_path: Path) -> None:
    result = checked(tmp_path, {"a": sides(0), "b": sides(1)})
    assert result.findings == ()
    rows = list(result.facts)
    assert [row["case"] for row in rows] == ["a", "b"]
    assert [(row["slices"], row["rows"], row["columns"]) for row in rows] == [(1, 44, 60)] * 2
    assert [row["labels"] for row in rows] == ["0 1 2"] * 2
    assert rows[0]["foreground"] == pytest.approx(100 * (sides(0) > 0).mean())


def test_every_case_is_a_step(tmp_path: Path) -> None:
    steps: list[Progress] = []
    save(tmp_path / "images/a.png", film(0)[0])
    save(tmp_path / "masks/a.png", sides(0))
    drain(check_dataset(find_dataset(tmp_path)), steps.append)
    assert [(step.done, step.total, step.message) for step in steps] == [(1, 1, "a")]


def test_an_empty_mask_is_told_and_kept(tmp_path: Path) -> None:
    result = checked(tmp_path, {"a": sides(0), "b": np.zeros_like(sides(0)), "c": sides(2)})
    (message,) = told(result, "empty-mask")
    assert message.startswith("b ")
    assert [case.name for case in result.dataset.cases] == ["a", "b", "c"]
    assert result.findings[0] in result.dataset.problems


def test_a_missing_lung_is_told(tmp_path: Path) -> None:
    result = checked(tmp_path, {"a": sides(0), "b": np.where(sides(1) == 1, 1, 0).astype(np.uint8)})
    assert told(result, "label-missing") == ["b has no left lung."]


def test_values_that_are_no_labels_leave_a_case_out(tmp_path: Path) -> None:
    masks = {f"c{number}": binary(sides(number)) for number in range(4)}
    smooth = masks["c3"].copy()
    smooth[0, :3] = (17, 140, 201)
    result = checked(tmp_path, masks | {"c3": smooth})
    (message,) = told(result, "unusable")
    assert "c3" in message
    assert "17, 140, 201" in message
    assert len(result.dataset.cases) == 3
    assert list(result.facts)[3]["problem"] in message


def test_a_file_that_cannot_be_read_leaves_a_case_out(tmp_path: Path) -> None:
    save(tmp_path / "images/b.png", film(1)[0])
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/b.png").write_text("Dear colleague, " * 20)
    result = checked(tmp_path, {"a": sides(0)})
    (message,) = told(result, "unusable")
    assert "b.png" in message
    assert [case.name for case in result.dataset.cases] == ["a"]


def test_copies_are_found_however_few_are_compared_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("napari_lungseg.training.checking._ROWS_AT_ONCE", 2)
    pictures = {name: film(number)[0] for number, name in enumerate("abcdef")}
    pictures["f"] = pictures["e"] // 2
    result = checked(tmp_path, {name: sides(0) for name in "abcdef"}, pictures)
    assert [(one.name, other.name) for one, other in result.copies] == [("e", "f")]


def test_the_same_pixels_twice_are_told(tmp_path: Path) -> None:
    result = checked(tmp_path, {name: sides(0) for name in "abc"}, {"a": film(0)[0], "b": film(1)[0], "c": film(0)[0]})
    assert told(result, "same-pixels") == ["a and c have the same pixels."]
    assert told(result, "possible-duplicate") == []


def test_a_copy_saved_anew_is_a_possible_duplicate_across_parts(tmp_path: Path) -> None:
    picture, labels = film(0)
    noise = np.random.default_rng(0).integers(-3, 4, picture.shape)
    copy = np.clip(picture * 0.9 + noise + 10, 0, 255).astype(np.uint8)
    for name, image in (("a", picture), ("b", copy), ("c", film(5)[0])):
        save(tmp_path / f"images/{name}.png", image)
        save(tmp_path / f"masks/{name}.png", labels)
    rows = [
        f"images/{name}.png,masks/{name}.png,{part},{name}"
        for name, part in zip("abc", ("train", "test", "val"), strict=True)
    ]
    (tmp_path / "split.csv").write_text("\n".join(["image,mask,split,patient", *rows]))
    result = drain(check_dataset(find_dataset(tmp_path)))
    (message,) = told(result, "possible-duplicate")
    assert message.startswith("a and b look alike")
    assert "one in train and one in test" in message
    apart = result.apart()
    assert [(case.name, case.split) for case in apart.cases] == [("b", "test"), ("c", "val")]
    assert "a is left out of train" in str(apart.problems[-1])
    assert len(result.dataset.cases) == 3


def test_the_part_that_is_judged_by_stays_whole(tmp_path: Path) -> None:
    """A copy that crosses takes all cases of its patient along; copies within a part stay."""
    parts = {"a1": "train", "a2": "train", "b1": "val", "c1": "train", "c2": "train", "d1": "test", "e1": "val"}
    same_picture = {"a1": 0, "b1": 0, "c1": 1, "c2": 1, "d1": 2, "e1": 2}
    rows = ["image,mask,split,patient"]
    for number, (name, part) in enumerate(parts.items()):
        save(tmp_path / f"images/{name}.png", film(same_picture.get(name, 5 + number))[0])
        save(tmp_path / f"masks/{name}.png", sides(0))
        rows.append(f"images/{name}.png,masks/{name}.png,{part},{name[0]}")
    (tmp_path / "split.csv").write_text("\n".join(rows))
    result = drain(check_dataset(find_dataset(tmp_path)))
    assert len(result.copies) == 3
    assert [case.name for case in result.apart().cases] == ["b1", "c1", "c2", "d1"]


def test_a_case_left_out_before_leaks_nowhere(tmp_path: Path) -> None:
    rows = ["image,mask,split,patient"]
    for name, part in {"a": "left out", "b": "test", "c": "train", "d": "val"}.items():
        save(tmp_path / f"images/{name}.png", film(0 if name in "ab" else ord(name))[0])
        save(tmp_path / f"masks/{name}.png", sides(0))
        rows.append(f"images/{name}.png,masks/{name}.png,{part},{'a' if name == 'c' else name}")
    (tmp_path / "split.csv").write_text("\n".join(rows))
    dataset = find_dataset(tmp_path)
    assert dataset.problems == ()  # patient a is in one part alone
    result = drain(check_dataset(dataset))
    assert told(result, "same-pixels") == ["a and b have the same pixels."]
    assert [case.name for case in result.apart().cases] == ["a", "b", "c", "d"]


def test_a_split_drawn_after_the_look_keeps_copies_together(tmp_path: Path) -> None:
    """A chain of copies: a = b, b = c, though the three are called different patients."""
    names = [*"abc", *map(str, range(12))]
    for number, name in enumerate(names):
        picture = film(0)[0] + (number if name in "abc" else 0) if name in "abc" else film(number)[0]
        save(tmp_path / f"images/{name}.png", picture.astype(np.uint8))
        save(tmp_path / f"masks/{name}.png", sides(0))
    result = drain(check_dataset(find_dataset(tmp_path)))
    crossed = 0
    for seed in range(6):
        split = result.divided((0.4, 0.3, 0.3), seed)
        assert len({case.split for case in split.cases if case.name in "abc"}) == 1
        assert [case.patient for case in split.cases] == [case.patient for case in result.dataset.cases]
        plain = result.dataset.divided((0.4, 0.3, 0.3), seed)
        crossed += len({case.split for case in plain.cases if case.name in "abc"}) > 1
    assert crossed


def test_the_same_patient_may_look_alike(tmp_path: Path) -> None:
    picture, labels = film(0)
    for name, image in (("ann-1", picture), ("ann-2", picture // 2)):
        save(tmp_path / f"images/{name}.png", image)
        save(tmp_path / f"masks/{name}.png", labels)
    result = drain(check_dataset(find_dataset(tmp_path, patient_pattern=r"(\w+)-")))
    assert told(result, "possible-duplicate") == []


@pytest.mark.parametrize("shape", [(44, 60), (7, 5), (1, 200), (768, 633)])
def test_a_thumbnail_does_not_depend_on_brightness_or_contrast(shape: tuple[int, int]) -> None:
    array = np.random.default_rng(1).integers(0, 99, (1, *shape)).astype(np.uint8)

    def small(values: np.ndarray) -> np.ndarray:
        return thumbnail(Volume(values, Geometry(values.shape), "xray", "a.u."))

    assert small(array).shape == (1024,)
    assert small(array) @ small(array * 2 + 20) == pytest.approx(1, abs=1e-4)
    assert small(array) @ small(array[:, ::-1, ::-1].copy()) < 0.9
    assert np.isfinite(small(np.zeros_like(array))).all()


def test_copies_in_the_real_radiographs_are_found(test_data: Path) -> None:
    result = drain(check_dataset(find_dataset(test_data / "xray")))
    copies = told(result, "possible-duplicate")
    assert len(copies) == 4
    assert any("v7-1676447 and v7-1676687" in message for message in copies)
    assert not told(result, "unusable")
    assert not told(result, "empty-mask")
    apart = result.apart()
    assert apart.part("test") == result.dataset.part("test")
    left = {case.name for case in result.dataset.cases} - {case.name for case in apart.cases}
    assert {"v7-1676687", "v7-1676688", "v7-1676689", "v7-1676690"} <= left
    assert {case.patient for case in result.dataset.cases if case.name in left} == {"97"}
