"""What is searched, as it is written; and what of it is each method's own."""

import pytest

from adapteo import config
from adapteo.errors import ConfigError
from adapteo.search_space import Choice, Range
from adapteo.tuning._arms import arms, budget, probe
from adapteo.tuning._space import is_search, parse
from toy import spell

DEFAULT = {"train.rate": Range(1e-5, 1e-2)}


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("method.rank=4,8,16", "method.rank", Choice((4, 8, 16))),
        ("method.rank=4..64", "method.rank", Range(4, 64, whole=True)),
        ("decoder=linear, unet", "decoder", Choice(("linear", "unet"))),
        ("train.weight_decay=0..0.1", "train.weight_decay", Range(0, 0.1)),
        ("method.targets=[q],[q,v],null", "method.targets", Choice((["q"], ["q", "v"], None))),
        ("train.head_start=true,false", "train.head_start", Choice((True, False))),
        ("method.alpha=1e0..2e1", "method.alpha", Range(1.0, 20.0)),
        ("train.clip=1", "train.clip", Choice((1,))),
        ("method.name='a,b',c", "method.name", Choice(("a,b", "c"))),
    ],
)
def test_what_can_be_written(text, key, part):
    assert parse([text]) == {key: part, **DEFAULT}


def test_the_rate_is_always_searched_unless_it_is_given():
    assert parse([]) == DEFAULT
    assert parse(["train.rate=1e-4..1e-3"]) == {"train.rate": Range(1e-4, 1e-3)}
    assert parse(["train.rate=1e-4"]) == {"train.rate": Choice((1e-4,))}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["method.rank"], ["'method.rank' is not key=values"]),
        (["method.rank="], ["is not key=values"]),
        (["method.rank=4,,8"], ["empty value", "a,b,c"]),
        (["method.rank=4,8,4"], ["one twice"]),
        (["method.rank=8..4"], ["is no range", "low..high"]),
        (["method.rank=a..b"], ["is no range"]),
        (["method.rank=1..inf"], ["is no range"]),
        (["method.rank=4,8", "method.rank=16"], ["method.rank is searched already"]),
        (["method=lora,ssf"], ["--methods"]),
        (["dataset.scale=1,2"], ["dataset.scale decides what is compared", "allowed: method"]),
        (["train.seed=0,1"], ["train.seed decides what is compared"]),
        (["train.select=score,loss"], ["train.select decides"]),
        (["backbone=nano,clay"], ["backbone decides"]),
        (["decoder=linear,unet", "decoder.stride=8,16"], ["'decoder.stride' belongs to one decoder"]),
    ],
)
def test_what_cannot(texts, said):
    with pytest.raises(ConfigError) as caught:
        parse(texts)
    assert all(words in str(caught.value) for words in said), str(caught.value)
    assert len(str(caught.value).splitlines()) <= 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("method.rank=4,8", True),
        ("train.rate=1e-5..1e-2", True),
        ("train.rate=1e-3", False),
        ("train.bands=[red,green]", False),
        ("dataset.images=a,b", False),
        ("backbone.weights=../weights", False),
        ("out=a,b", False),
    ],
)
def test_several_values_are_searched_and_one_is_set(text, expected):
    assert is_search(text) is expected


def test_each_method_has_the_keys_that_are_its_own(tmp_path):
    space = parse(["method.rank=1,2", "method.alpha=4", "decoder=linear,fcn"])
    lora, ssf, both, scratch = arms(spell(tmp_path), ["lora", "ssf", "ssf+lora", "scratch"], space)
    assert list(lora.space) == ["method.rank", "decoder", "train.rate"]
    assert lora.fixed == {"method.alpha": 4}
    for arm in (ssf, both, scratch):
        assert list(arm.space) == ["decoder", "train.rate"]
        assert arm.fixed == {}
    assert config.name_of(both.base.method) == "lora+ssf"
    assert both.folder == "ssf+lora"
    assert (config.name_of(scratch.base.method), scratch.base.backbone.weights) == ("full", "random")
    assert not scratch.base.train.head_start


def test_a_point_of_the_space_is_a_run(tmp_path):
    space = parse(["method.rank=1,2", "decoder=linear,fcn", "method.targets=[q],[q,v]", "train.clip=null,1"])
    (arm,) = arms(spell(tmp_path / "a"), [], space)
    values = {"method.rank": 1, "method.targets": ["q", "v"], "decoder": "fcn", "train.rate": 3e-4, "train.clip": None}
    made = arm.run(values, tmp_path / "b", 7)
    assert (made.method.rank, made.method.targets, config.name_of(made.decoder)) == (1, ("q", "v"), "fcn")
    assert (made.train.rate, made.train.clip, made.train.seed, made.out) == (3e-4, None, 7, tmp_path / "b")
    assert arm.run({}, tmp_path / "a") == arm.base


def test_a_search_begins_with_what_the_configuration_has(tmp_path):
    space = parse(["method.rank=1,2", "decoder=fcn,linear", "train.weight_decay=0.1..0.2", "train.epochs=3..9"])
    (arm,) = arms(spell(tmp_path, "train.rate=null"), ["ssf"], parse(["train.epochs=1..9"]))
    assert arm.usual() == {"train.epochs": 2, "train.rate": arm.base.method.default_rate}
    (arm,) = arms(spell(tmp_path, "train.rate=0.5"), [], space)
    assert arm.usual() == {
        "method.rank": 2, "decoder": "linear", "train.weight_decay": 0.1, "train.epochs": 3, "train.rate": 1e-2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("methods", "texts", "said"),
    [
        (["lora", "lora"], [], "'lora' twice"),
        (["lroa"], [], "did you mean 'lora'"),
        (["ssf"], ["method.rank=1,2"], "no method of this tuning has that key"),
        (["lora"], ["method.rank=0,2"], "rank"),
        (["lora"], ["method.rank=two,four"], "a whole number"),
        (["lora"], ["decoder=linear,unetz"], "there is no decoder 'unetz'"),
        (["lora"], ["train.weight_decay=-1..1"], "train.weight_decay is -1"),
        (["lora"], ["train.rnk=1,2"], "no key 'rnk'"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(tmp_path, methods, texts, said):
    with pytest.raises(ConfigError, match=said) as caught:
        arms(spell(tmp_path), methods, parse(texts))
    assert len(str(caught.value).splitlines()) <= 5


def test_budgets(tmp_path):
    (arm,) = arms(spell(tmp_path), ["lora"], parse([]))
    assert budget(arm, 16) == 16
    (arm,) = arms(spell(tmp_path), ["lora"], parse(["train.rate=1e-3,1e-4", "method.rank=1..3"]))
    assert (budget(arm, 16), budget(arm, 4)) == (6, 4)
    (arm,) = arms(spell(tmp_path), ["lora"], parse(["train.rate=1e-3"]))
    assert budget(arm, 16) == 0, "nothing to search"
    assert budget(probe(spell(tmp_path, "decoder=fcn")), 16) == 0
    assert config.name_of(probe(spell(tmp_path, "decoder=fcn")).base.decoder) == "linear"
