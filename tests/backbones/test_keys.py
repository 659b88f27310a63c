import pytest
import torch
from torch import nn

from adapteo.backbones._keys import account, shapes
from adapteo.errors import WeightsError

EXPECTED = {"a.weight": (2, 3), "a.bias": (2,)}


def state(**more):
    return {"a.bias": torch.ones(2), "a.weight": torch.ones(2, 3), **more}


def check(given, **options):
    return account(given, EXPECTED, model="model 1", **{"fix": "give another", **options})


def said(given, **options):
    with pytest.raises(WeightsError) as caught:
        check(given, **options)
    lines = str(caught.value).splitlines()
    assert lines[0] == "these weights do not fit model 1"
    assert len(lines) <= 5
    return lines[1:-1], lines[-1]


def test_what_fits_comes_back_in_the_expected_order():
    given = state()
    remapped = check(given)
    assert list(remapped.state) == list(EXPECTED)
    assert all(remapped.state[key] is given[key] for key in given)
    assert remapped.skipped == {}


def test_keys_are_renamed_first_and_skipped_keys_keep_the_name_of_the_file():
    given = {f"module.{key}": value for key, value in state(head=torch.ones(1)).items()}
    remapped = check(
        given,
        rename=lambda key: key.removeprefix("module."),
        superfluous=lambda name: "belongs to the task" if name == "head" else "",
    )
    assert set(remapped.state) == set(EXPECTED)
    assert remapped.skipped == {"module.head": "belongs to the task"}


def test_every_list_is_named_with_its_count():
    wrong = {"a.weight": torch.ones(3, 2), "b": torch.ones(1), "c": torch.ones(1)}
    assert said(wrong) == (
        ["missing (1): a.bias", "unknown (2): b, c", "of another shape (1): a.weight (3, 2) instead of (2, 3)"],
        "give another",
    )


def test_two_keys_for_one_tensor_are_refused():
    lists, _ = said(state(**{"module.a.bias": torch.ones(2)}), rename=lambda key: key.removeprefix("module."))
    assert lists == ["unknown (1): module.a.bias"]


def test_many_keys_do_not_flood_the_screen():
    (line,), _ = said(state(**{f"surplus.{i}": torch.ones(1) for i in range(1000)}))
    assert line.startswith("unknown (1000): surplus.0, surplus.1, ")
    assert line.endswith(" ...")
    assert len(line) < 350


def test_the_fix_may_look_at_everything_that_was_given():
    given = {"model.a.bias": torch.ones(5), "head": torch.ones(1), "more": torch.ones(7)}
    _, fix = said(
        given,
        rename=lambda key: key.removeprefix("model."),
        superfluous=lambda name: "belongs to the task" if name == "head" else "",
        fix=lambda tensors: f"{list(tensors)} of {len(tensors['more'])}",
    )
    assert fix == "['a.bias', 'more'] of 7"


def test_shapes_are_those_of_parameters_and_buffers():
    assert shapes(nn.BatchNorm1d(3, affine=False)) == {
        "running_mean": (3,),
        "running_var": (3,),
        "num_batches_tracked": (),
    }
