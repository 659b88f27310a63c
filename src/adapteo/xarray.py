"""Maps from arrays of xarray: ``import adapteo.xarray``, then ``array.adapteo.predict(run)``.

import adapteo, adapteo.xarray, rioxarray
scene = rioxarray.open_rasterio("scene.tif", chunks=True, mask_and_scale=True)
scene.adapteo.predict(adapteo.load("runs/flood")).rio.to_raster("map.tif")

Arrays of dask are read window by window, as the model needs them; what is held in memory is the map.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from adapteo import config
from adapteo._scene_images import match_bands
from adapteo.bands import resolve_all
from adapteo.data.radiometry import check_range
from adapteo.data.raster import latlon_of_centre
from adapteo.errors import ConfigError, DataError
from adapteo.fitted import FittedRun
from adapteo.windows import Box, Layer, Progress, Windows, sweep

try:
    import xarray as xr
except ImportError as missing:
    raise ConfigError(
        "adapteo.xarray needs xarray, which is not installed", fix="pip install 'adapteo[xarray]'"
    ) from missing

_BANDS = ("band", "bands", "channel", "channels")
_TIMES = ("time", "date")
_XS, _YS = ("x", "lon", "longitude", "easting"), ("y", "lat", "latitude", "northing")
_OVERVIEW = 512


@xr.register_dataarray_accessor("adapteo")
@xr.register_dataset_accessor("adapteo")
class Accessor:
    """``array.adapteo``, ``dataset.adapteo``.

    Args:
        given: an array with the dimensions y and x, band, and time where there are several dates, in any order; or a
            dataset with one variable for each band.
    """

    def __init__(self, given: "xr.DataArray | xr.Dataset") -> None:
        self._given = given

    def predict(
        self,
        run: FittedRun,
        *,
        bands: Sequence[str] = (),
        sensor: str | None = None,
        scaling: tuple[float, float] | None = None,
        probabilities: bool = False,
        progress: Progress | None = None,
    ) -> "xr.DataArray | xr.Dataset":
        """Map an array.

        Values are taken as physical ones (reflectance 0..1, radar in dB), as xarray decodes them: what the attributes
        say of ``scale_factor``, ``add_offset`` and ``_FillValue`` is applied when that was not done at opening. NaN
        is missing. Bands are found by the names in the coordinate of their dimension, or in ``long_name`` as rioxarray
        has them.

        Args:
            run: a trained model, e.g. ``adapteo.load("runs/flood")``.
            bands: names of the array's bands in order, where it does not tell.
            sensor: one of `adapteo.bands.SENSORS`, where names such as B5 are not clear without.
            scaling: (scale, offset): physical value = value * scale + offset, for arrays of stored numbers.
            probabilities: return a dataset of ``map`` and ``probability`` (class, y, x).
            progress: called with the number of finished windows and of all windows.

        Returns:
            Class codes (y, x) with coordinates and coordinate system, uint8 with ``_FillValue`` 255 where nothing was
            seen (more than 255 classes: uint16, 65535), names as CF's ``flag_values`` and ``flag_meanings`` (blanks in
            names are written ``_``); for regression float32 with NaN.

        Raises:
            ConfigError: the task gives no map, or ``probabilities`` of a regression.
            DataError: dimensions, bands or dates are not those of the model, or the values are no reflectance.
        """
        task, classes = run.run.task, run.imagery.classes
        if not task.dense:
            raise ConfigError(
                f"a {config.name_of(task)} model labels whole images, it draws no map",
                fix="train a segmentation or regression model for maps",
            )
        if probabilities and not classes:
            raise ConfigError("a regression has no probabilities", fix="leave them out")
        array = _ordered(self._given, run.imagery.frames)
        images = _Images(array, _indexes(array, run, tuple(bands), sensor), scaling or (1.0, 0.0))
        _check(images, run)
        dates, latlon = _dates(array), _latlon(array)

        def forward(batch: Tensor) -> Tensor:
            return task.probabilities(run.logits(batch, dates=dates, latlon=latlon))

        multiple = run.model.backbone.multiple
        windows = Windows(size=-(-max(run.card["image_size"]) // multiple) * multiple, multiple=multiple)
        dtype, nodata = ("uint8", 255) if len(classes) <= 255 else ("uint16", 65535)
        shape, outputs = images.shape[2:], max(1, len(classes))
        chosen = np.full(shape, nodata, dtype) if classes else np.full(shape, np.nan, np.float32)
        shares = np.full((outputs, *shape), np.nan, np.float32) if probabilities else None
        for part in sweep([Layer(forward, images)], outputs, windows, progress):
            values = part.values.cpu()
            here = slice(part.row, part.row + values.shape[1]), slice(part.col, part.col + values.shape[2])
            found = values.max(0).indices if classes else values[0]
            chosen[here][part.seen] = found.numpy()[part.seen]
            if shares is not None:
                shares[:, *here][:, part.seen] = values.numpy()[:, part.seen]
        return _result(array, chosen, shares, classes)


class _Images:
    """An array as `adapteo.windows` reads it: ``(t, c, h, w)`` in physical units."""

    def __init__(self, array: "xr.DataArray", indexes: Sequence[int], scaling: tuple[float, float]) -> None:
        self._array = array[:, list(indexes)]
        self._scaling = scaling
        frames, channels, height, width = self._array.shape
        self.shape = (frames, channels, height, width)

    @property
    def extent(self) -> Box:
        """All of it."""
        return 0, 0, *self.shape[2:]

    def block_bytes(self, height: int, width: int) -> int:
        """No files."""
        return 0

    def read(self, row: int, col: int, out: np.ndarray) -> None:
        """Fill a window; only its part of the array is computed."""
        height, width = out.shape[2:]
        part = self._array[..., row : row + height, col : col + width]
        scale, offset = self._scaling
        np.copyto(out, np.asarray(part.values), casting="unsafe")
        out *= scale
        out += offset
        out[~np.isfinite(out)] = np.nan


@dataclass(frozen=True)
class _Named:
    """What `match_bands` asks of a scene."""

    path: str
    count: int
    descriptions: tuple[str | None, ...]


def _ordered(given: "xr.DataArray | xr.Dataset", frames: int) -> "xr.DataArray":
    """Make ``(time, band, y, x)`` of it, decoded, still lazy."""
    if isinstance(given, xr.Dataset):
        y, x = _dimension(given, _YS), _dimension(given, _XS)
        layers = {name: _decoded(layer) for name, layer in given.data_vars.items() if {x, y} <= set(layer.dims)}
        array = xr.Dataset(layers).to_array("band")
        array.encoding["grid_mapping"] = next((v.encoding.get("grid_mapping") for v in layers.values()), None)
    else:
        y, x = _dimension(given, _YS), _dimension(given, _XS)
        array = _decoded(given)
    band, time = _dimension(array, _BANDS, needed=False), _dimension(array, _TIMES, needed=False)
    strange = [str(name) for name in array.dims if name not in (time, band, y, x)]
    if strange:
        raise DataError(
            f"the array has the dimension '{strange[0]}'", allowed=("time", "band", "y", "x"),
            fix=f"choose one, e.g. array.isel({strange[0]}=0), or rename it",
        )  # fmt: skip
    array = array if band is not None else array.expand_dims("band")
    array = array if time is not None else array.expand_dims("time")
    array = array.transpose(time or "time", band or "band", y, x)
    if array.shape[0] != frames:
        raise DataError(
            f"the array has {array.shape[0]} dates, the model takes {frames}",
            fix="choose them, e.g. array.isel(time=0)" if frames == 1 else "give as many in the dimension `time`",
        )
    return array


def _dimension(given: "xr.DataArray | xr.Dataset", names: Sequence[str], *, needed: bool = True) -> Hashable:
    found = next((name for name in given.dims if str(name).lower() in names), None)
    if found is None and needed:
        raise DataError(
            f"the array has no dimension '{names[0]}': {', '.join(map(str, given.dims))}", allowed=names,
            fix="rename its dimensions with array.rename(…)",
        )  # fmt: skip
    return found


def _decoded(layer: "xr.DataArray") -> "xr.DataArray":
    """Apply what the attributes still say; xarray moves them to ``encoding`` when it applies them itself."""
    attributes = layer.attrs
    fill = [attributes[key] for key in ("_FillValue", "missing_value") if key in attributes]
    scale, offset = float(attributes.get("scale_factor", 1.0)), float(attributes.get("add_offset", 0.0))
    out = layer
    for value in fill:
        if not np.isnan(value):
            out = out.where(layer != value)
    if (scale, offset) != (1.0, 0.0):
        out = out.astype(np.float64) * scale + offset
    out = out if out is not layer else layer.copy(deep=False)
    out.attrs = {key: value for key, value in attributes.items() if key not in _DECODED}
    out.encoding = dict(layer.encoding)
    return out


_DECODED = ("_FillValue", "missing_value", "scale_factor", "add_offset")


def _indexes(array: "xr.DataArray", run: FittedRun, named: tuple[str, ...], sensor: str | None) -> list[int]:
    """Positions of the model's bands."""
    count, dimension = array.shape[1], array.dims[1]
    if named:
        names: Sequence[str | None] = resolve_all(named, sensor)
        if len(names) != count:
            raise DataError(f"the array has {count} bands, {len(names)} are named", fix="name every one in its order")
    else:
        labels = array.coords[dimension].values.tolist() if dimension in array.coords else []
        names = [label if isinstance(label, str) else None for label in labels] or [None] * count
        told = array.attrs.get("long_name")
        if not any(names) and told is not None:
            told = [told] if isinstance(told, str) else list(told)
            names = told if len(told) == count else names
    scene = _Named("the array", count, tuple(names))
    return [i - 1 for i in match_bands(scene, run.bands, sensor, run.imagery.bands)]


def _check(images: _Images, run: FittedRun) -> None:
    """Look at the corners and the centre; stored numbers instead of reflectance would map without a word."""
    _, channels, rows, cols = images.shape
    height, width = min(_OVERVIEW, rows), min(_OVERVIEW, cols)
    bottom, right = rows - height, cols - width
    places = sorted({(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)})
    overview = np.empty((len(places), *images.shape[:2], height, width), np.float32)
    for window, (row, col) in zip(overview, places, strict=True):
        images.read(row, col, window)
    flat = np.moveaxis(overview, 2, 0).reshape(channels, -1, width)
    try:
        check_range(flat, run.bands, images._scaling[0], "the array")
    except DataError as error:
        raise DataError(
            error.problem.replace("`scale: ", "scale `"), fix="scale it, e.g. with scaling=(0.0001, 0) for Sentinel-2"
        ) from error


def _dates(array: "xr.DataArray") -> np.ndarray | None:
    """Year and day of year ``(t, 2)`` from the coordinate of time, where it has dates."""
    name = next((name for name in _TIMES if name in array.coords), None)
    if name is None or not np.issubdtype(array.coords[name].dtype, np.datetime64):
        return None
    days = np.atleast_1d(array.coords[name].values).astype("datetime64[D]")
    years = days.astype("datetime64[Y]")
    doy = (days - years.astype("datetime64[D]")).astype(int) + 1
    return np.stack([years.astype(int) + 1970, doy], 1).astype(np.float32)


def _latlon(array: "xr.DataArray") -> np.ndarray | None:
    """Latitude and longitude of the centre in degrees."""
    y, x = (array.coords.get(array.dims[i]) for i in (2, 3))
    crs = _crs(array)
    if crs is None or x is None or y is None:
        return None
    middle = (float(x[0] + x[-1]) / 2, float(y[0] + y[-1]) / 2)
    found = latlon_of_centre(crs, (0.0, 0.0, middle[0], 0.0, 0.0, middle[1]), (0, 0))
    return None if found is None else np.array(found, np.float32)


def _crs(array: "xr.DataArray") -> str | None:
    """WKT from the variable that CF names as ``grid_mapping``; rioxarray and odc call it ``spatial_ref``."""
    name = array.encoding.get("grid_mapping") or array.attrs.get("grid_mapping") or "spatial_ref"
    if name not in array.coords:
        return None
    attributes = array.coords[name].attrs
    wkt = attributes.get("crs_wkt") or attributes.get("spatial_ref")
    return None if wkt is None else str(wkt)


def _result(
    array: "xr.DataArray", chosen: np.ndarray, shares: np.ndarray | None, classes: Sequence[str]
) -> "xr.DataArray | xr.Dataset":
    y, x = array.dims[2:]
    kept = {name: c for name, c in array.coords.items() if set(c.dims) <= {y, x} and name not in _BANDS}
    attributes: dict[str, Any] = {"long_name": "class" if classes else "value"}
    if classes:
        nodata = np.iinfo(chosen.dtype).max
        attributes |= {
            "flag_values": np.arange(len(classes), dtype=chosen.dtype),
            "flag_meanings": " ".join("_".join(name.split()) for name in classes),
            "_FillValue": chosen.dtype.type(nodata),
        }
    mapping = array.encoding.get("grid_mapping") or ("spatial_ref" if "spatial_ref" in kept else None)
    result = xr.DataArray(chosen, kept, (y, x), "map", attributes)
    result.encoding |= {"grid_mapping": mapping} if mapping else {}
    if shares is None:
        return result
    probability = xr.DataArray(shares, {**kept, "class": list(classes)}, ("class", y, x), "probability")
    probability.encoding |= result.encoding
    return xr.Dataset({"map": result, "probability": probability})
