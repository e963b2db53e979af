"""Residuals of balances and global budgets of the atmosphere on pressure levels.

Fields are tensors in SI units, shape (..., level, latitude, longitude), with levels in any monotonic order
and latitudes from north to south on a global grid. Horizontal derivatives are spectral.
"""

import torch
from torch import Tensor

from ..errors import InputError
from .sphere import OMEGA, Sphere

GRAVITY = 9.80665  # [m/s^2]
GAS_CONSTANT = 287.05  # of dry air [J/(kg K)]
HEAT_CAPACITY = 1004.7  # of dry air at constant pressure [J/(kg K)]
LATENT_HEAT = 2.501e6  # of vaporisation [J/kg]


def virtual_temperature(temperature: Tensor, humidity: Tensor | None = None) -> Tensor:
    """Return the virtual temperature ``T (1 + 0.608 q)`` [K].

    Args:
        temperature: T [K].
        humidity: specific humidity q [kg/kg]; zero by default.
    """
    return temperature if humidity is None else temperature * (1 + 0.608 * humidity)


def hydrostatic(
    geopotential: Tensor, temperature: Tensor, pressure: Tensor, *, humidity: Tensor | None = None
) -> Tensor:
    """Return the difference of each layer's thickness from hydrostatic balance [m].

        (Phi_2 - Phi_1) / g - R / g mean(T_v) ln(p_1 / p_2)

    with the mean of the virtual temperatures of the two levels.

    Args:
        geopotential: Phi [m^2/s^2], shape (..., level, latitude, longitude).
        temperature: T [K], same shape.
        pressure: pressure p of the levels [Pa], shape (level,).
        humidity: specific humidity [kg/kg], same shape as the temperature; zero by default.

    Returns:
        Residual, shape (..., level - 1, latitude, longitude).

    Raises:
        InputError: there are fewer than two levels, or a field has a different number of them.
    """
    _check_levels(pressure, geopotential, temperature)
    t = virtual_temperature(temperature, humidity)
    mean = (t[..., 1:, :, :] + t[..., :-1, :, :]) / 2
    depth = torch.log(pressure[:-1] / pressure[1:])[:, None, None]
    return (torch.diff(geopotential, dim=-3) - GAS_CONSTANT * mean * depth) / GRAVITY


def thermal_wind(
    u: Tensor, v: Tensor, temperature: Tensor, *, pressure: Tensor, sphere: Sphere, tropics: float = 20.0
) -> tuple[Tensor, Tensor]:
    """Return the difference of the shear between levels from the thermal wind [m/s], eastward and northward.

        u_2 - u_1 + R/f ln(p_1 / p_2) dT/dy,   v_2 - v_1 - R/f ln(p_1 / p_2) dT/dx

    with the mean temperature of the two levels. The residual is zero within ``tropics`` degrees of the
    equator, where the balance does not hold.

    Args:
        u: eastward wind [m/s], shape (..., level, latitude, longitude).
        v: northward wind [m/s], same shape.
        temperature: (virtual) temperature T [K], same shape.
        pressure: pressure p of the levels [Pa], shape (level,).
        sphere: grid.
        tropics: latitude [degrees] below which the residual is masked.

    Returns:
        Eastward and northward residual, each of shape (..., level - 1, latitude, longitude).

    Raises:
        InputError: there are fewer than two levels, or a field has a different number of them.
    """
    _check_levels(pressure, u, v, temperature)
    latitude = sphere.latitude(u)
    mask = latitude.abs() >= torch.deg2rad(torch.tensor(tropics))
    over_f = torch.where(mask, 1 / torch.where(mask, 2 * OMEGA * torch.sin(latitude), 1.0), 0.0)
    east, north = sphere.gradient((temperature[..., 1:, :, :] + temperature[..., :-1, :, :]) / 2)
    factor = GAS_CONSTANT * over_f * torch.log(pressure[:-1] / pressure[1:])[:, None, None]
    return mask * torch.diff(u, dim=-3) + factor * north, mask * torch.diff(v, dim=-3) - factor * east


def continuity(u: Tensor, v: Tensor, omega: Tensor, *, pressure: Tensor, sphere: Sphere) -> Tensor:
    """Return ``div v + d omega / dp`` [1/s] between levels.

    Args:
        u: eastward wind [m/s], shape (..., level, latitude, longitude).
        v: northward wind [m/s], same shape.
        omega: vertical velocity [Pa/s], same shape.
        pressure: pressure of the levels [Pa], shape (level,).
        sphere: grid.

    Returns:
        Residual, shape (..., level - 1, latitude, longitude).

    Raises:
        InputError: there are fewer than two levels, or a field has a different number of them.
    """
    _check_levels(pressure, u, v, omega)
    divergence = sphere.divergence(u, v)
    slope = torch.diff(omega, dim=-3) / torch.diff(pressure)[:, None, None]
    return (divergence[..., 1:, :, :] + divergence[..., :-1, :, :]) / 2 + slope


def column_continuity(
    u: Tensor, v: Tensor, surface_pressure: Tensor, *, pressure: Tensor, seconds: float, sphere: Sphere
) -> Tensor:
    """Return ``dp_s / dt + div(sum_k v_k thickness_k)`` [Pa/s] for a series of equally spaced states.

    Args:
        u: eastward wind [m/s], shape (..., t, level, latitude, longitude).
        v: northward wind [m/s], same shape.
        surface_pressure: p_s [Pa], shape (..., t, latitude, longitude).
        pressure: pressure of the levels [Pa], shape (level,).
        seconds: time between states [s].
        sphere: grid.

    Returns:
        Residual at all times except the first and the last, shape (..., t - 2, latitude, longitude).

    Raises:
        InputError: there are fewer than two levels, or a field has a different number of them.
    """
    _check_levels(pressure, u, v)
    thickness = layer_thickness(pressure, surface_pressure)
    flux = sphere.divergence((u * thickness).sum(-3), (v * thickness).sum(-3))
    tendency = (surface_pressure[..., 2:, :, :] - surface_pressure[..., :-2, :, :]) / (2 * seconds)
    return tendency + flux[..., 1:-1, :, :]


def layer_thickness(pressure: Tensor, surface_pressure: Tensor) -> Tensor:
    """Return the pressure thickness [Pa] of the layer of each level.

    A layer reaches halfway to the neighbouring levels, to the top of the atmosphere and to the ground.

    Args:
        pressure: pressure of the levels [Pa], shape (level,).
        surface_pressure: p_s [Pa], shape (..., latitude, longitude).

    Returns:
        Thickness, shape (..., level, latitude, longitude).
    """
    order = torch.argsort(pressure)
    ordered = pressure[order]
    between = (ordered[1:] + ordered[:-1]) / 2
    ground = surface_pressure[..., None, :, :]
    upper = torch.cat([between.new_zeros(1), between])[:, None, None]
    lower = (
        torch.cat([torch.minimum(between[:, None, None], ground), ground], dim=-3)
        if between.numel()
        else ground
    )
    return (lower - upper).clamp_min(0)[..., torch.argsort(order), :, :]


def dry_mass(surface_pressure: Tensor, humidity: Tensor, *, pressure: Tensor, sphere: Sphere) -> Tensor:
    """Return the global mean surface pressure of dry air [Pa], which is constant in time.

    It is the mean over the sphere of ``p_s - sum_k q_k thickness_k``.

    Args:
        surface_pressure: p_s [Pa], shape (..., latitude, longitude).
        humidity: specific humidity q [kg/kg], shape (..., level, latitude, longitude).
        pressure: pressure of the levels [Pa], shape (level,).
        sphere: grid.

    Raises:
        InputError: there are fewer than two levels, or a field has a different number of them.
    """
    _check_levels(pressure, humidity)
    return sphere.mean(surface_pressure - (humidity * layer_thickness(pressure, surface_pressure)).sum(-3))


def energy(
    temperature: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    humidity: Tensor,
    surface_pressure: Tensor,
    pressure: Tensor,
    sphere: Sphere,
) -> Tensor:
    """Return the global mean energy of a column [J/m^2]: enthalpy, kinetic energy and latent heat.

    It is the mean over the sphere of ``sum_k (c_p T + (u^2 + v^2) / 2 + L q)_k thickness_k / g``; its rate of
    change is the net heating [W/m^2]. The term of the surface geopotential is omitted: it changes only with
    the surface pressure.

    Args:
        temperature: T [K], shape (..., level, latitude, longitude).
        u: eastward wind [m/s], same shape.
        v: northward wind [m/s], same shape.
        humidity: specific humidity q [kg/kg], same shape.
        surface_pressure: p_s [Pa], shape (..., latitude, longitude).
        pressure: pressure of the levels [Pa], shape (level,).
        sphere: grid.

    Raises:
        InputError: there are fewer than two levels, or a field has a different number of them.
    """
    _check_levels(pressure, temperature, u, v, humidity)
    column = HEAT_CAPACITY * temperature + (u**2 + v**2) / 2 + LATENT_HEAT * humidity
    return sphere.mean((column * layer_thickness(pressure, surface_pressure)).sum(-3) / GRAVITY)


def _check_levels(pressure: Tensor, *fields: Tensor) -> None:
    if pressure.ndim != 1 or len(pressure) < 2:
        raise InputError(f"at least two levels are needed, got pressures of shape {tuple(pressure.shape)}")
    if not (pressure > 0).all() or not ((torch.diff(pressure) > 0).all() or (torch.diff(pressure) < 0).all()):
        raise InputError(f"pressures must be positive and monotonic, got {pressure.tolist()}")
    if pressure.max() < 2000:
        raise InputError(f"pressures must be in Pa, got {pressure.tolist()}, which look like hPa")
    for f in fields:
        if f.ndim < 3 or f.shape[-3] != len(pressure):
            raise InputError(
                f"a field of shape {tuple(f.shape)} does not have the {len(pressure)} levels "
                f"{pressure.tolist()} Pa"
            )
