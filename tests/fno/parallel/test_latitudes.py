"""Models on latitude bands: the same fields and gradients as on one process."""

from types import SimpleNamespace

import pytest
import ranks
import torch

from fourcaster.fno import AFNO, FNO, SFNO
from fourcaster.fno.errors import InputError, SettingError
from fourcaster.fno.parallel.bands import Bands
from fourcaster.fno.parallel.collectives import shares
from fourcaster.fno.parallel.latitudes import divide_latitudes
from fourcaster.fno.parallel.placement import Placement
from fourcaster.fno.parallel.processes import Processes
from fourcaster.fno.parallel.strategies import check_together

SECOND_OF_THREE = SimpleNamespace(size=lambda: 3, rank=lambda: 1)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_bands_give_the_output_and_the_gradients_of_one_process(count):
    results = ranks.run_ranks(ranks.banded_loss_and_gradients, count)
    for name in ranks.MODELS:
        expected = ranks.loss_and_gradients(name)
        for result in results:
            assert list(result[name]) == list(expected)  # the names of the parameters too
            for key, value in expected.items():
                # Some gradients are zero but for round-off, such as those of constants before a norm.
                error = float((result[name][key] - value).norm())
                assert error < 1e-5 * float(value.norm()) + 1e-7, (name, key)


def test_bands_differ_by_a_row_at_most():
    bands = Bands(SECOND_OF_THREE, 7)
    assert bands.sizes == [3, 2, 2] == shares(7, 3) and bands.own == slice(3, 5)
    assert torch.equal(bands.take(torch.arange(7.0), 0), torch.tensor([3.0, 4.0]))


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(InputError, match="2 rows cannot be divided into 3 latitude bands"):
        Bands(SECOND_OF_THREE, 2)
    with pytest.raises(ValueError, match="AFNO cannot be divided into latitude bands"):
        divide_latitudes(
            AFNO((8, 16), (4, 4), in_channels=2, out_channels=2, embed_dim=8, depth=1), SECOND_OF_THREE, 8
        )
    with pytest.raises(ValueError, match="FNO cannot be divided"):
        divide_latitudes(FNO((4,), 2, 2), SECOND_OF_THREE, 8)
    for options in ({"series": "cosine"}, {"local": "stencil", "reference_size": (8, 16)}):
        with pytest.raises(ValueError, match="cosine series and stencils cannot be divided into latitude"):
            divide_latitudes(FNO((4, 4), 2, 2, **options), SECOND_OF_THREE, 8)
    with pytest.raises(InputError, match="expected 7 rows"):
        Bands(SECOND_OF_THREE, 7).take(torch.zeros(8), 0)
    with pytest.raises(InputError, match="band 2 of 3 has 2 of the 7 rows"):
        Bands(SECOND_OF_THREE, 7).check(torch.zeros(3), 0)
    with pytest.raises(SettingError, match="latitude_bands must divide the number of processes, 4, got 3"):
        Placement(Processes(0, 4), 3)


def test_processes_that_share_a_grid_have_consecutive_ranks():
    placements = [Placement(Processes(rank, 6), 3) for rank in range(6)]
    assert [p.part for p in placements] == [0, 0, 0, 1, 1, 1] and placements[0].parts == 2


def test_an_sfno_with_local_differences_is_refused():
    model = SFNO(4, 3, 2, hidden_channels=4, n_layers=1, local=True, reference=9)
    with pytest.raises(ValueError, match="SFNO cannot be divided into latitude bands"):
        divide_latitudes(model, SECOND_OF_THREE, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "fsdp", "optimizer": "muon"}, "parallel must be 'ddp' with the optimizer 'muon'"),
        ({"accumulation": 2}, "accumulation must be 1 in 2 processes"),
        ({"compiled": True}, "compile must be false in 2 processes"),
    ],
)
def test_settings_that_several_processes_cannot_train_with_are_refused(options, message):
    usual = {"kind": "ddp", "optimizer": "adamw", "accumulation": 1, "compiled": False}
    check_together(2, **usual)
    check_together(1, **(usual | options))
    with pytest.raises(SettingError, match=message):
        check_together(2, **(usual | options))
