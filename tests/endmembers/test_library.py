"""Spectral libraries, real and made: what files say becomes endmembers, and endmembers come back bit for bit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hsichunk.endmembers.endmember_csv import write_endmembers
from hsichunk.endmembers.library import endmembers_for, numbered, read_library, write_library
from hsichunk.errors import HsiError, HsiWarning

NM = np.linspace(400.0, 2500.0, 30)
RNG = np.random.default_rng(0)
SPECTRA = RNG.random((3, 30))


def em_of(values: Any = SPECTRA, wavelength: Any = NM, names: Any = None, **coords: Any) -> xr.DataArray:
    given = {"endmember": names or [f"EM{i + 1}" for i in range(len(values))], "wavelength": wavelength, **coords}
    return xr.DataArray(np.array(values, float), given, ("endmember", "wavelength"), "reflectance")


def wrote(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# real files


def test_usgs_columns_with_fwhm(shared: Path) -> None:
    path = shared / "usgs1995_aviris224_subset.csv"
    em = read_library(path)
    assert em.sizes == {"endmember": 16, "wavelength": 224} and em.dtype == np.float64
    assert list(em.endmember.values[:2]) == ["Alunite GDS84 Na03", "Kaolinite CM9"]
    assert em.endmember.values[10] == "Jarosite GDS99 K,Sy 200C"  # a comma in quotes
    assert em.wavelength.values[0] == pytest.approx(383.15) and em.fwhm.values[0] == pytest.approx(9.94)
    assert em.values[0, :2].tolist() == [0.402471, 0.423056]
    assert (np.diff(em.wavelength) > 0).all()


def test_emit_rows_in_counts_and_out_of_order(shared: Path) -> None:
    path = shared / "emit" / "basic_endmember_library.csv"
    with pytest.warns(HsiWarning) as said:
        em = read_library(path)
    assert any("counts of 10000" in str(w.message) for w in said) and any(
        "SOIL repeats" in str(w.message) for w in said
    )
    assert list(em.endmember.values) == ["SOIL", "SOIL_2", "SOIL_3", "PV", "NPV"]
    raw = np.genfromtxt(path, delimiter=",", encoding="utf-8-sig")
    order = np.argsort(raw[0, 1:])
    assert (np.diff(raw[0, 1:]) < 0).any()  # bands of two detectors overlap
    np.testing.assert_array_equal(em.wavelength, raw[0, 1:][order])
    np.testing.assert_array_equal(em.values, raw[1:, 1:][:, order] / 10000)


@pytest.mark.parametrize("name", ["DLR_HySU_HS_library", "DLR_HySU_SVC"])
@pytest.mark.parametrize("suffix", [".lib", ".hdr"])
def test_dlr_envi_libraries_against_spectral(shared: Path, name: str, suffix: str) -> None:
    envi = pytest.importorskip("spectral.io.envi")
    folder = shared / "dlr_hysu"
    with pytest.warns(HsiWarning, match="reach .* counts of 10000"):  # the header says 1.0
        em = read_library(folder / (name + suffix))
    theirs = envi.open(str(folder / f"{name}.hdr"), str(folder / f"{name}.lib"))
    np.testing.assert_array_equal(em.values, np.asarray(theirs.spectra) / 10000)
    np.testing.assert_allclose(em.wavelength, np.array(theirs.bands.centers) * 1000, rtol=1e-14)
    assert list(em.endmember.values) == [" ".join(n.split()) for n in theirs.names]


def test_a_scale_that_is_given_is_not_guessed(shared: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        em = read_library(shared / "dlr_hysu" / "DLR_HySU_SVC.lib", scale=10000)
    assert 0.8 < float(em.max()) < 0.9


def test_samson_mat_with_wavelengths_given(shared: Path) -> None:
    pytest.importorskip("scipy.io", reason="a .mat file, which SciPy reads")
    em = read_library(shared / "samson" / "E.mat", np.linspace(401, 889, 156), ["soil", "tree", "water"])
    assert em.sizes == {"endmember": 3, "wavelength": 156} and list(em.endmember.values) == ["soil", "tree", "water"]
    with pytest.raises(HsiError, match="names no wavelengths"):
        read_library(shared / "samson" / "E.mat")


# endmembers written and read back


@pytest.mark.parametrize("suffix", [".csv", ".nc", ".sli"])
def test_write_read_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    values = RNG.standard_normal((4, 30)) * 10.0 ** RNG.integers(-9, 1, (4, 30))
    values[0, 0], values[1, 3] = 1.5, 2.9  # above what reflectance is guessed from
    places = {"x": ("endmember", RNG.random(4) * 1e6), "y": ("endmember", RNG.random(4) * 1e7)}
    em = em_of(values, NM + RNG.random(30), ["bare soil", "tree", "EM3", "Ünder"], **places)
    em = em.assign_coords(fwhm=("wavelength", RNG.random(30) + 5))
    path = write_library(em, tmp_path / f"em{suffix}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = read_library(path)
    assert back.values.tobytes() == em.values.tobytes()
    np.testing.assert_array_equal(back.wavelength, em.wavelength)
    assert list(back.endmember.values) == list(em.endmember.values)
    if suffix != ".sli":
        np.testing.assert_array_equal(back.x, em.x)
        np.testing.assert_array_equal(back.y, em.y)
    if suffix != ".csv":
        np.testing.assert_array_equal(back.fwhm, em.fwhm)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        {path.name} | ({"em.hdr"} if suffix == ".sli" else set())
    )


def test_csv_is_what_a_run_writes(tmp_path: Path) -> None:
    x, y = np.array([368000.5, 368001.5, 3.0]), np.array([4306999.5, 1 / 3, 4.0])
    em = em_of(x=("endmember", x), y=("endmember", y))
    write_library(em, tmp_path / "ours.csv")
    places = list(zip(["EM1", "EM2", "EM3"], x.tolist(), y.tolist(), strict=True))
    write_endmembers(tmp_path / "run.csv", NM, SPECTRA, places)
    assert (tmp_path / "ours.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()


def test_csv_without_places(tmp_path: Path) -> None:
    back = read_library(write_library(em_of(), tmp_path / "em.csv"))
    assert "x" not in back.coords and back.values.tobytes() == SPECTRA.tobytes()


def test_others_read_what_is_written(tmp_path: Path) -> None:
    envi = pytest.importorskip("spectral.io.envi")
    path = write_library(em_of(names=["a, b", "{c}", "d"]), tmp_path / "em.sli")
    theirs = envi.open(str(path.with_suffix(".hdr")), str(path))
    np.testing.assert_array_equal(theirs.spectra, SPECTRA)
    assert theirs.names == ["a b", "c", "d"] and theirs.bands.centers == NM.tolist()


def test_netcdf_has_dimension_scales(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(write_library(em_of(), tmp_path / "em.nc")) as file:
        data = file["reflectance"]
        assert [next(iter(dim.keys())) for dim in data.dims] == ["endmember", "wavelength"]
        assert data.attrs["units"] == "1" and file["wavelength"].attrs["units"] == "nm"


# layouts


@pytest.mark.parametrize(
    "text",
    [
        "wavelength_nm,a,b\n400,0.1,0.2\n500,0.3,0.4\n",
        "Wavelength (um);a;b\n0.4;0.1;0.2\n0.5;0.3;0.4\n",
        "# from the field\n\nwl\ta\tb\n500\t0.3\t0.4\n400\t0.1\t0.2\n",
        "band,wavelength,a,b,\n1,400,0.1,0.2,\n2,500,0.3,0.4,\n",
        "name,400,500\na,0.1,0.3\nb,0.2,0.4\n",
        "plot,species,0.4,0.5\n7,a,0.1,0.3\n8,b,0.2,0.4\n",
        "nm a b\n400 0.1 0.2\n500 0.3 0.4\n",
    ],
)
def test_layouts(tmp_path: Path, text: str) -> None:
    em = read_library(wrote(tmp_path / "lib.csv", text))
    np.testing.assert_allclose(em.wavelength, [400.0, 500.0], rtol=1e-15)
    np.testing.assert_array_equal(em.values, [[0.1, 0.3], [0.2, 0.4]])
    if "plot" not in text:
        assert list(em.endmember.values) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "400,0.1,0.2\n500,0.3,0.4\n",
        "400,500\n0.1,0.3\n0.2,0.4\n",
        "wavelength,1,2\n400,0.1,0.2\n500,0.3,0.4\n",
        "id,400,500\n1,0.1,0.3\n2,0.2,0.4\n",
    ],
)
def test_numbers_alone(tmp_path: Path, text: str) -> None:
    em = read_library(wrote(tmp_path / "lib.txt", text))
    np.testing.assert_array_equal(em.values, [[0.1, 0.3], [0.2, 0.4]])
    np.testing.assert_array_equal(em.wavelength, [400.0, 500.0])


def test_arrays() -> None:
    em = read_library(SPECTRA, NM)
    assert em.values.tobytes() == SPECTRA.tobytes() and list(em.endmember.values) == ["EM1", "EM2", "EM3"]
    np.testing.assert_array_equal(read_library(SPECTRA.T, NM).values, SPECTRA)
    np.testing.assert_array_equal(read_library(SPECTRA, NM / 1000).wavelength, NM / 1000 * 1000)
    xr.testing.assert_equal(read_library(em), em)


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "em.npy", SPECTRA)
    assert read_library(tmp_path / "em.npy", NM).values.tobytes() == SPECTRA.tobytes()


def test_the_input_is_not_changed() -> None:
    given = np.array([[-9999.0, 50.0]])
    with pytest.warns(HsiWarning, match="percent"):
        em = read_library(given, [400, 500])
    assert given.tolist() == [[-9999.0, 50.0]] and np.isnan(em.values[0, 0]) and em.values[0, 1] == 0.5


def test_names_are_numbered_once_each() -> None:
    assert numbered(["a", "a_2", "a", "a"]) == ["a", "a_2", "a_3", "a_4"]


def test_envi_big_endian_counts_with_a_factor(tmp_path: Path) -> None:
    counts = np.rint(SPECTRA * 10000).astype(">i2")
    (tmp_path / "lib.sli").write_bytes(b"skip" + counts.tobytes())
    wrote(
        tmp_path / "lib.sli.hdr",
        "ENVI\nsamples = 30\nlines = 3\nbands = 1\nheader offset = 4\ndata type = 2\nbyte order = 1\n"
        f"reflectance scale factor = 10000\nwavelength = {{{', '.join(map(repr, NM.tolist()))}}}\n",
    )
    em = read_library(tmp_path / "lib.sli")
    np.testing.assert_array_equal(em.values, np.rint(SPECTRA * 10000) / 10000)


# refused: one line that says what and what to do

BAD = {
    "empty.csv": ("", "is empty"),
    "ragged.csv": ("wavelength,a\n400,1\n500\n", "row 3 has 1 cells, the first 2"),
    "words.csv": ("wavelength,a\n400,high\n", "'high' among the values"),
    "alone.csv": ("band,wavelength_nm\n1,400\n2,500\n", "wavelengths and no spectra"),
    "twice.csv": ("wavelength,a\n400,0.1\n400,0.2\n", "two bands at 400 nm"),
    "unit.csv": ("wavelength_um,a\n400,0.1\n500,0.2\n", "are said to be micrometres"),
    "large.csv": ("wavelength,a\n400,1e6\n500,0.2\n", "values reach 1e\\+06"),
    "nothing.csv": ("wavelength,a\n400,\n500,\n", "no finite value"),
    "head.csv": ("wavelength,a\n", "one row"),
    "what.xyz": ("", "suffix .xyz; expected .csv"),
    "no.nc": ("text", "is no NetCDF-4"),
    "no.npy": ("text", "is no NumPy array"),
    "alone.sli": ("text", "no header beside it"),
    "alone.hdr": ("ENVI\nsamples = 3\n", "none of alone, alone.sli"),
    "other.hdr": ("text", "is no ENVI header"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_files(tmp_path: Path, name: str) -> None:
    text, expected = BAD[name]
    with pytest.raises(HsiError, match=expected) as error:
        read_library(wrote(tmp_path / name, text))
    assert "\n" not in str(error.value) and name.partition(".")[0] in str(error.value)


def test_refused_envi_headers(tmp_path: Path) -> None:
    (tmp_path / "lib.sli").write_bytes(bytes(40))
    start = "ENVI\nsamples = 3\nlines = 2\nbands = 1\ndata type = 5\n"
    for text, expected in (
        (start, "the file is cut off"),
        (start.replace("5", "6"), "data type 6"),
        (start.replace("lines = 2", "lines = 1") + "wavelength = {400, 500}\n", "2 values for 3 bands"),
        (start.replace("lines = 2", "lines = 1") + "wavelength = {400, a, 500}\n", "expected numbers"),
        (start.replace("samples = 3", "samples = x"), "expected a number"),
    ):
        wrote(tmp_path / "lib.hdr", text)
        with pytest.raises(HsiError, match=expected):
            read_library(tmp_path / "lib.sli")


def test_refused_arguments(tmp_path: Path) -> None:
    with pytest.raises(HsiError, match="no such file"):
        read_library(tmp_path / "none.csv")
    with pytest.raises(HsiError, match=r"values of shape \(3, 30\) for 29"):
        read_library(SPECTRA, NM[1:])
    with pytest.raises(HsiError, match="2 names for 3"):
        read_library(SPECTRA, NM, ["a", "b"])
    with pytest.raises(HsiError, match="scale is -1"):
        read_library(SPECTRA, NM, scale=-1)
    with pytest.raises(HsiError, match="in 'furlong'"):
        read_library(SPECTRA, NM, units="furlong")
    with pytest.raises(HsiError, match=r"suffix .txt; expected .csv, .nc, .sli"):
        write_library(em_of(), tmp_path / "em.txt")
    with pytest.raises(HsiError, match="cannot write"):
        write_library(em_of(), tmp_path / "none" / "em.nc")
    with pytest.raises(HsiError, match="expected a DataArray"):
        write_library(SPECTRA, tmp_path / "em.csv")  # type: ignore[arg-type]


# a library on a sensor's bands


def test_endmembers_for_takes_bands_as_they_are(tmp_path: Path) -> None:
    path = write_library(em_of(), tmp_path / "em.csv")
    got = endmembers_for(path, NM[::2] + 4e-4)
    assert got.values.tobytes() == np.ascontiguousarray(SPECTRA[:, ::2]).tobytes()
    np.testing.assert_array_equal(got.wavelength, NM[::2] + 4e-4)


def test_endmembers_for_resamples_others(shared: Path) -> None:
    nm = np.loadtxt(shared / "neon_sjer" / "wavelengths.csv", delimiter=",", skiprows=1)[:, 1]
    path = shared / "usgs1995_aviris224_subset.csv"
    nm = nm[(nm > 390) & (nm < 2490)]
    got = endmembers_for(path, nm, np.full(len(nm), 5.8))
    assert got.sizes == {"endmember": 16, "wavelength": len(nm)} and np.isfinite(got.values).all()
    raw = read_library(path)
    between = np.array([np.interp(nm, raw.wavelength, row) for row in raw.values])
    assert 0 < np.abs(got.values - between).max() < 0.02
    with pytest.raises(HsiError, match=r"covers 383.15 to .* 1 of 2 bands"):
        endmembers_for(path, [300.0, 500.0])


def test_endmembers_for_names_what_is_missing() -> None:
    values = SPECTRA.copy()
    values[1, 4] = np.nan
    with pytest.raises(HsiError, match=r"EM2 has no value at 689\.655 nm"):
        endmembers_for(em_of(values), NM)
