"""GRIB as cfgrib opens it: members under ``number``, times of validity apart from those of the run."""

import xarray as xr


def matches(dataset: xr.Dataset) -> bool:
    """Return whether variables carry what cfgrib says of them."""
    return any("GRIB_shortName" in v.attrs for v in dataset.data_vars.values())


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return the fields by their time of validity.

    Raises:
        ValueError: several runs of several lead times each.
    """
    if "step" in dataset.dims and "time" in dataset.dims:
        raise ValueError(
            f"{source} holds {dataset.sizes['time']} runs of {dataset.sizes['step']} lead times; keep one of either, e.g. with grib_copy -w step=0"
        )
    if "step" in dataset.dims:
        dataset = dataset.drop_vars("time").swap_dims(step="valid_time").rename(valid_time="time")
    elif "valid_time" in dataset.coords and "time" in dataset.coords:
        dataset = dataset.assign_coords(time=dataset["valid_time"].variable).drop_vars("valid_time")
    return dataset.drop_vars("step", errors="ignore")
