"""The cells are those of the paper's 202 configurations, and what was left open beside them."""

from collections import Counter

import pytest

from adapteo.bench.published import _rates as published_rates
from adapteo.bench.report import base_of
from adapteo.bench.subjects import BENCHMARKS, SUBJECTS, batch_of, same_bands
from adapteo.bench.tables import TABLES, Cell, cells, only
from adapteo.errors import ConfigError

LATER = "prithvi-2.0-100m"  # published, but without configurations


def test_the_papers_configurations_are_all_there():
    """114 of methods, 75 of decoders and 13 of metadata; the latter two share 4 and 0 runs with the others."""
    theirs = set(published_rates())
    ours = {
        (cell.model, cell.method, cell.decoder, cell.dataset, cell.metadata)
        for table in ("main", "decoders", "metadata")
        for cell in cells(table)
    }
    assert len(theirs) == 202
    assert theirs <= ours


def test_the_main_table_has_nothing_else():
    found = [cell for cell in cells("main") if cell.model != LATER]
    assert len(found) == 114
    assert Counter(cell.method for cell in found) == {
        "full": 38, "frozen": 28, "lora": 19, "vpt": 19, "vit_adapter": 10,
    }  # fmt: skip
    assert len(cells("main")) == 114 + 25


def test_larger_decoders_are_of_full_fine_tuning():
    found = [cell for cell in cells("decoders") if cell.decoder != "linear"]
    assert len(found) == 75
    assert {cell.method for cell in found} == {"full"}
    assert {cell.metadata for cell in found if cell.model in ("clay-v1-6", "prithvi-2.0-300m-tl")} == {"on"}


def test_hold_outs_come_from_the_same_runs_as_the_main_table():
    assert set(cells("ood")) < set(cells("main"))
    assert {cell.dataset for cell in cells("ood")} == {"sen1floods11", "reben"}
    assert cells("time") == cells("memory") == cells("main")


def test_with_and_without_metadata_come_in_pairs_where_a_dataset_has_some():
    found = cells("metadata")
    told = {(cell.model, cell.dataset) for cell in found if cell.metadata == "on"}
    untold = {(cell.model, cell.dataset) for cell in found if cell.metadata == "off"}
    assert told < untold
    assert {dataset for _, dataset in untold - told} == {"m-SA-crop-type"}


def test_on_six_bands_ten_bands_are_six():
    assert same_bands("clay-v1", "burn_scars") == "clay-v1-6"
    assert same_bands("clay-v1", "reben") == "clay-v1"
    for cell in cells("all"):
        assert cell.model == same_bands(cell.model, cell.dataset)


@pytest.mark.parametrize("table", [*TABLES, "all"])
def test_each_cell_is_there_once_and_has_a_folder_of_its_own(table):
    found = cells(table, 2)
    assert len(set(found)) == len(found)
    assert len({str(cell) for cell in found}) == len(found)
    assert len({cell.path for cell in found}) == len(found) / 2
    for cell in found:
        assert cell.method in SUBJECTS[cell.model].methods
        assert cell.dataset in BENCHMARKS


def test_sweeps_leave_out_what_the_paper_has():
    """Rank 16 and 100 prompts are the unchanged cell."""
    changes = {(cell.method, cell.change) for cell in cells("ranks")}
    assert ("lora", "") in changes
    assert ("vpt", "") in changes
    assert not {("lora", "rank=16"), ("vpt", "prompts=100")} & changes


def test_heads_of_one_stride():
    """Only heads of another stride are changed; the base of each comparison is the paper's own head."""
    for cell in cells("stride"):
        native = 32 if cell.method == "vit_adapter" or cell.model.startswith("decur") else 16
        native = 8 if cell.model.startswith("clay") else native
        assert cell.change == ("" if native == 16 else "stride=16")
        base = base_of("stride", cell)
        assert (base is None) == (native == 16)
        assert base is None or base in cells("main")


def test_seeds_of_a_group_follow_each_other():
    assert [cell.seed for cell in cells("ood", 3)[:4]] == [0, 1, 2, 0]


def test_who_shares_a_search():
    cell = Cell("clay-v1", "lora", "linear", "reben", change="precision=bf16", seed=3)
    assert cell.searched == Cell("clay-v1", "lora", "linear", "reben")
    drawn = Cell("decur-6", "full", "linear", "burn_scars", change="draw=2", seed=1)
    assert drawn.searched == Cell("decur-6", "full", "linear", "burn_scars", change="draw=0")
    ranked = Cell("clay-v1", "lora", "linear", "reben", change="rank=4", seed=3)
    assert ranked.searched == ranked.group
    told = Cell("clay-v1", "full", "linear", "reben", "on")
    assert told.searched.metadata == "on", "each side of the comparison has its own rate"


def test_batches():
    assert batch_of("clay-v1-6", "fcn", "sen1floods11") == 4
    assert batch_of("clay-v1-6", "linear", "sen1floods11") == 8
    assert batch_of("clay-v1-6", "fcn", "m-cashew-plant") == 8
    assert batch_of("prithvi-2.0-300m", "fcn", "burn_scars") == 8
    assert batch_of("decur", "linear", "reben") == 32


class TestOnly:
    def test_conditions_are_joined_by_and_their_values_by_or(self):
        found = only(cells("main"), ["model=clay-v1,decur", "method=full", "dataset=reben"])
        assert [cell.model for cell in found] == ["decur", "clay-v1"]

    def test_an_unchanged_cell_can_be_asked_for(self):
        assert all(cell.change == "" for cell in only(cells("ranks"), ["change="]))

    @pytest.mark.parametrize(
        ("condition", "words"),
        [
            ("modle=clay-v1", ["modle", "did you mean 'model'"]),
            ("model", ["model=clay-v1"]),
            ("method=lorra", ["lorra", "did you mean 'lora'", "vit_adapter"]),
        ],
    )
    def test_mistakes(self, condition, words):
        with pytest.raises(ConfigError) as caught:
            only(cells("main"), [condition])
        assert all(word in str(caught.value) for word in words)

    def test_nothing_left(self):
        with pytest.raises(ConfigError, match="no cell of the table fits"):
            only(cells("main"), ["model=unet-resnet50", "method=lora"])


def test_an_unknown_table():
    with pytest.raises(ConfigError, match="did you mean 'decoders'"):
        cells("decoder")
