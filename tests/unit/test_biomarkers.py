"""CT measurements on phantoms with known answers, however the patient lay, and on real CT against other libraries."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from napari_lungseg.analysis.measure import MeasureSettings, measure
from napari_lungseg.analysis.profile import histogram, profile
from napari_lungseg.errors import InvalidVolumeError, LungSegError
from napari_lungseg.io import read
from napari_lungseg.volume import LUNG_NAMES, Geometry, LabelMap, Volume, _nearest_world_axes

SPACING, ORIGIN = (3.0, 0.7, 1.3), (-40.0, 7.0, 90.0)


def case(array, labels, names=LUNG_NAMES, modality="ct", unit="HU", **geometry):
    grid = Geometry(np.shape(labels), **{"spacing": SPACING, "origin": ORIGIN, **geometry})
    return Volume(np.asarray(array), grid, modality, unit), LabelMap(np.asarray(labels, np.uint8), grid, names)


def layered():
    """A right lung of 9 × 6 × 4 voxels whose HU say head and back: −1000 + 10 · z + 100 · y."""
    labels = np.zeros((11, 8, 7), np.uint8)
    labels[1:10, 1:7, 2:6] = 1
    z, y, _ = np.indices(labels.shape)
    return (-1000 + 10 * z + 100 * y).astype(np.int16), labels


def both_lungs(rng):
    labels = np.zeros((9, 12, 14), np.uint8)
    labels[1:8, 2:10, 1:6], labels[2:7, 3:11, 8:12] = 1, 2
    return rng.integers(-1020, 120, labels.shape).astype(np.int16), labels


def test_mass_and_shares_by_hand():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0], labels[1, 2] = 1, 1
    array = np.zeros((2, 3, 4), np.int16)
    array[0, 0], array[1, 2] = (-1024, -951, -950, -900), (-600, -250, -100, 50)
    row = next(iter(measure(*case(array, labels))))
    ml = math.prod(SPACING) / 1000
    assert row["mass"] == pytest.approx(ml * (0 + 0.049 + 0.05 + 0.1 + 0.4 + 0.75 + 0.9 + 1.05))
    assert [row[name] for name in ("laa950", "laa910", "laa856", "haa")] == [25, 37.5, 50, 25]
    for thirds in (
        ("lower", "middle", "upper"),
        ("ventral", "central", "dorsal"),
    ):  # equal parts, so their mean is the whole
        assert [np.mean([row[f"{name}_{third}"] for third in thirds]) for name in ("laa950", "haa")] == pytest.approx(
            [25, 25]
        )
    aerated = [row[name] for name in ("hyperaerated", "well_aerated", "poorly_aerated", "non_aerated")]
    assert aerated == [37.5, 25, 12.5, 25]
    assert row["perc15"] == pytest.approx(-950.95)
    assert row["right_left_ratio"] is None


def test_thirds_by_hand():
    row = next(iter(measure(*case(*layered()))))
    middle_y, middle_z = 100 * 3.5, 10 * 5
    assert [row[f"mean_{third}"] for third in ("lower", "middle", "upper")] == pytest.approx(
        [-1000 + middle_y + 10 * z for z in (2, 5, 8)]
    )
    assert [row[f"mean_{third}"] for third in ("ventral", "central", "dorsal")] == pytest.approx(
        [-1000 + middle_z + 100 * y for y in (1.5, 3.5, 5.5)]
    )
    array, _ = layered()
    dorsal = array[1:10, 5:7, 2:6]
    assert row["haa_dorsal"] == pytest.approx(100 * ((dorsal >= -600) & (dorsal <= -250)).mean())
    assert row["laa950_lower"] == row["laa950_ventral"] == 0


def turned(volume, labels, order, flips):
    """The same patient, stored with other axes."""
    old = volume.geometry
    direction = np.asarray(old.direction)[:, order] * np.where(flips, -1, 1)
    first = [0, 0, 0]
    for source, flip in zip(order, flips, strict=True):
        first[source] = old.shape[source] - 1 if flip else 0
    grid = Geometry(
        tuple(old.shape[k] for k in order),
        tuple(old.spacing[k] for k in order),
        tuple(old.position(first)),
        tuple(map(tuple, direction)),
    )
    step = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    arrays = [np.ascontiguousarray(item.array.transpose(order)[step]) for item in (volume, labels)]
    return dataclasses.replace(volume, array=arrays[0], geometry=grid), LabelMap(arrays[1], grid, labels.names)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, False), (False, True, True)])
def test_axes_of_the_scan_change_nothing(rng, order, flips):
    """Axial, coronal and sagittal, feet first, prone: thirds follow the patient."""
    plain = case(*both_lungs(rng))
    for one, other in zip(measure(*plain), measure(*turned(*plain, order, flips)), strict=True):
        for name, value in one.items():
            assert other[name] == (value if isinstance(value, str | None) else pytest.approx(value, rel=1e-9)), name


def test_a_turned_grid_is_cut_along_the_patient():
    """A ball whose density grows to the head and to the back, on a grid turned by 30° about the left–right axis."""
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    direction = ((cosine, sine, 0.0), (-sine, cosine, 0.0), (0.0, 0.0, 1.0))
    grid = Geometry((48, 50, 52), (1.0, 0.9, 1.1), (10.0, -20.0, 5.0), direction)
    index = np.indices(grid.shape).reshape(3, -1)
    head, back, left = (grid.affine[:3, :3] @ index + grid.affine[:3, 3:]).reshape(3, *grid.shape)
    middle = grid.position((23.5, 24.5, 25.5))
    head, back, left = head - middle[0], back - middle[1], left - middle[2]
    labels = (head**2 + back**2 + left**2 < 20**2).astype(np.uint8)
    array = (-700 + 5 * head + 2 * back).astype(np.float32)
    row = next(iter(measure(Volume(array, grid), LabelMap(labels, grid, {1: "right lung"}))))
    # The upper third of a ball's volume has its middle 0.5028 radii above the ball's.
    cap = 0.502795 * 20
    assert row["mean_upper"] == pytest.approx(-700 + 5 * cap, abs=0.6)
    assert row["mean_middle"] == pytest.approx(-700, abs=0.6)
    assert row["mean_dorsal"] == pytest.approx(-700 + 2 * cap, abs=0.3)
    assert row["mean_ventral"] == pytest.approx(-700 - 2 * cap, abs=0.3)


def test_the_row_of_both_is_that_of_the_lungs_where_there_is_more():
    labels = np.zeros((2, 4, 6), np.uint8)
    labels[0, :2, :3], labels[0, :2, 3:5], labels[1] = 1, 2, 7
    names = {**LUNG_NAMES, 7: "heart"}
    table = measure(*case(np.full(labels.shape, -500, np.int16), labels, names))
    assert table.column("name") == ("right lung", "left lung", "heart", "both")
    assert table.column("voxels") == (6, 4, 24, 10)
    assert table.column("right_left_ratio")[-1] == pytest.approx(1.5)
    lobes = measure(*case(np.zeros(labels.shape), labels, {1: "a", 2: "b", 7: "c"}))
    assert lobes.column("name")[-1] == "all"
    assert lobes.column("voxels")[-1] == 34


def test_one_voxel_and_none():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[1, 2, 3] = 1
    one, none, both = measure(*case(np.full(labels.shape, -960, np.int16), labels))
    assert (one["mean"], one["median"], one["sd"], one["perc15"], one["laa950"]) == (-960, -960, 0, -960, 100)
    assert (one["skewness"], one["kurtosis"]) == (None, None)
    assert (one["mean_upper"], one["laa950_dorsal"]) == pytest.approx((-960, 100))
    assert both["voxels"] == 1
    defined = {name for name, value in none.items() if value is not None}
    assert defined == {"label", "name", "voxels", "volume", "mass"}
    assert none["voxels"] == none["volume"] == none["mass"] == 0


def test_without_hounsfield_units_or_spacing_there_is_less():
    array, labels = layered()
    table = measure(*case(array, labels, unit="a.u."))
    assert not {"mass", "laa950", "haa", "well_aerated", "perc15", "laa950_upper"} & set(table.columns)
    assert {"mean", "sd", "mean_upper"} <= set(table.columns)
    pixels = measure(*case(array, labels, units="pixel", spacing=(1, 1, 1)))
    assert pixels.units["volume"] == "pixel"
    assert pixels.column("volume")[0] == 9 * 6 * 4
    assert pixels.column("mass")[0] is None


@pytest.mark.parametrize("take", [measure, profile, histogram])
def test_values_that_are_no_numbers_are_refused_where_they_are_measured(take):
    array, labels = layered()
    array = array.astype(np.float32)
    array[0, 0, 0] = np.nan  # not under a label
    take(*case(array, labels))
    array[3, 3, 3] = np.inf
    with pytest.raises(InvalidVolumeError, match=r"slice 3.*no numbers"):
        take(*case(array, labels))


def test_the_rim_is_left_out_in_mm():
    array, labels = layered()
    volume, lungs = case(array, labels, spacing=(3.0, 1.0, 1.0))
    row = next(iter(measure(volume, lungs, settings=MeasureSettings(erode_mm=1.0))))
    assert row["voxels"] == 9 * 4 * 2  # slices are 3 mm apart: nothing of the rim lies above or below
    lungs.array[:, :, 4:][lungs.array[:, :, 4:] == 1] = 2
    assert measure(volume, lungs, settings=MeasureSettings(erode_mm=1.0)).column("voxels") == (36, 36, 72)
    lungs.array[:] = 1  # cut off by the image on all sides
    assert measure(volume, lungs, settings=MeasureSettings(erode_mm=3.0)).column("voxels")[0] == lungs.array.size
    with pytest.raises(InvalidVolumeError, match="no spacing"):
        measure(*case(array, labels, units="pixel"), settings=MeasureSettings(erode_mm=1.0))
    with pytest.raises(LungSegError, match="erode_mm"):
        MeasureSettings(erode_mm=-1)


def test_a_profile_says_slice_by_slice_what_is_there():
    array, labels = layered()
    table = profile(*case(array, labels, slice_positions=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 20.0)))
    right = [row for row in table if row["label"] == 1]
    assert [row["slice"] for row in right] == list(range(11))
    assert right[10]["position"] == 20
    assert [row["area"] for row in right] == pytest.approx([0, *[6 * 4 * 0.7 * 1.3] * 9, 0])
    assert [row["mean"] for row in right] == [None, *[-1000 + 10 * z + 350 for z in range(1, 10)], None]
    assert table.units == {"position": "mm", "area": "mm2", "mean": "HU", "laa950": "percent", "haa": "percent"}


def test_steps_of_whole_numbers_are_whole():
    values = np.arange(200).reshape(2, 10, 10).astype(np.float32)  # each once, over a range that 100 does not divide
    table = histogram(*case(values, np.ones(values.shape), {1: "right lung"}, "xray", "a.u.", frames=True))
    assert {row["voxels"] for row in table} == {2}
    halves = histogram(*case(values / 7, np.ones(values.shape), {1: "right lung"}, "xray", "a.u.", frames=True))
    assert halves.column("high")[0] == pytest.approx(199 / 700)


def test_a_histogram_counts_every_voxel_once(rng):
    volume, labels = case(*both_lungs(rng))
    table = histogram(volume, labels)
    for label in (1, 2, None):
        rows = [row for row in table if row["label"] == label]
        values = volume.array[labels.array == label if label else labels.array > 0]
        edges = [row["low"] for row in rows] + [rows[-1]["high"]]
        assert [row["voxels"] for row in rows] == np.histogram(values, edges)[0].tolist()
        assert sum(row["share"] for row in rows) == pytest.approx(100)
        assert {row["low"] % 10 for row in rows} == {0}
    assert len(histogram(volume, labels, width=1000.0)) == 3 * 3
    with pytest.raises(InvalidVolumeError, match="more than 0"):
        histogram(volume, labels, width=0.0)
    empty = histogram(volume, dataclasses.replace(labels, array=np.zeros_like(labels.array)))
    assert {(row["voxels"], row["share"]) for row in empty} == {(0, None)}


@pytest.fixture(scope="module")
def real(test_data):
    (volume,) = (item for item in read(test_data / "ct/dicom/LUNG1-001") if isinstance(item, Volume))
    (labels,) = read(test_data / "ct/masks/LUNG1-001.nii.gz", labels=True)
    return volume.load(), dataclasses.replace(labels, names=LUNG_NAMES)


def test_real_ct_agrees_with_simpleitk_and_scipy(real):
    SimpleITK = pytest.importorskip("SimpleITK")
    volume, labels = real
    image, mask = (SimpleITK.GetImageFromArray(np.ascontiguousarray(item.array)) for item in real)
    for item in (image, mask):
        item.SetSpacing(volume.geometry.spacing[::-1])
    intensities, shapes = SimpleITK.LabelStatisticsImageFilter(), SimpleITK.LabelShapeStatisticsImageFilter()
    intensities.Execute(image, mask)
    shapes.Execute(mask)
    for row in measure(volume, labels):
        values = volume.array[labels.array == row["label"] if row["label"] else labels.array > 0].astype(float)
        if row["label"]:
            assert row["volume"] * 1000 == pytest.approx(shapes.GetPhysicalSize(row["label"]), rel=1e-6)
            assert row["mean"] == pytest.approx(intensities.GetMean(row["label"]), rel=1e-6)
            unbiased = row["sd"] * math.sqrt(row["voxels"] / (row["voxels"] - 1))
            assert unbiased == pytest.approx(intensities.GetSigma(row["label"]), rel=1e-6)
        expected = {
            "median": np.median(values), "perc10": np.percentile(values, 10), "perc15": np.percentile(values, 15),
            "skewness": stats.skew(values), "kurtosis": stats.kurtosis(values),
            "laa950": stats.percentileofscore(values, -950, "strict"),
            "laa910": stats.percentileofscore(values, -910, "strict"),
            "laa856": stats.percentileofscore(values, -856, "strict"),
            "haa": stats.percentileofscore(values, -250, "weak") - stats.percentileofscore(values, -600, "strict"),
            "mass": np.clip(1 + values / 1000, 0, None).sum() * math.prod(volume.geometry.spacing) / 1000,
            "non_aerated": 100 - stats.percentileofscore(values, -100, "strict"),
        }  # fmt: skip
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6)
        assert sum(row[f"{degree}_aerated"] for degree in ("well", "poorly", "non")) + row["hyperaerated"] == (
            pytest.approx(100)
        )


def test_real_ct_in_thirds_agrees_with_sorted_voxels(real):
    """Voxels sorted along the patient and cut at a third of their number; a slice at the cut is shared."""
    volume, labels = real
    worlds = _nearest_world_axes(np.asarray(volume.geometry.direction))
    for row in measure(volume, labels):
        z, y, x = np.nonzero(labels.array == row["label"] if row["label"] else labels.array > 0)
        values = volume.array[z, y, x].astype(float)
        for world, names in ((0, ("lower", "middle", "upper")), (1, ("ventral", "central", "dorsal"))):
            axis = worlds.index(world)
            place = (z, y, x)[axis] * np.sign(volume.geometry.direction[world][axis])
            _, inverse, counts = np.unique(place, return_inverse=True, return_counts=True)
            sums = np.bincount(inverse, weights=values) / counts
            fine = np.repeat(sums, 3 * counts).reshape(3, -1)  # thirds of voxels, so that cuts fall between them
            assert [row[f"mean_{name}"] for name in names] == pytest.approx(fine.mean(axis=1).tolist(), rel=1e-6)


def test_real_ct_agrees_with_pyradiomics(real):
    firstorder = pytest.importorskip("radiomics.firstorder")
    SimpleITK = pytest.importorskip("SimpleITK")
    volume, labels = real
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array))
    mask = SimpleITK.GetImageFromArray(np.ascontiguousarray(labels.array))
    for row in list(measure(volume, labels))[:2]:
        features = firstorder.RadiomicsFirstOrder(image, mask, label=row["label"], binWidth=25)
        for name in ("Mean", "Median", "10Percentile", "Skewness", "Kurtosis", "Variance"):
            features.enableFeatureByName(name)
        theirs = {name: float(value) for name, value in features.execute().items()}
        ours = {"Mean": row["mean"], "Median": row["median"], "10Percentile": row["perc10"]}
        ours |= {"Skewness": row["skewness"], "Kurtosis": row["kurtosis"] + 3, "Variance": row["sd"] ** 2}
        assert theirs == pytest.approx(ours, rel=1e-6)
