"""An error for a person: what, what instead, what to do; never more than three parts."""

import pytest

from adapteo import errors


def test_a_message_has_problem_allowed_and_fix_on_a_line_each():
    error = errors.ConfigError("rank is 0", allowed=(n for n in (1, 2)), fix="change it")
    assert str(error) == "rank is 0\nallowed: 1, 2\nchange it"
    assert (error.problem, error.allowed, error.fix) == ("rank is 0", ("1", "2"), "change it")
    assert str(errors.DataError("no chip")) == "no chip"


def test_a_long_list_of_what_is_allowed_stays_on_a_line():
    message = str(errors.DataError("no such class", allowed=range(1000)))
    _, allowed = message.splitlines()
    assert len(allowed) <= len("allowed: ") + 300
    assert allowed.endswith(" ...")


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.DataError, errors.WeightsError, errors.Interrupted])
def test_one_base_catches_all(kind):
    with pytest.raises(errors.AdaptEOError):
        raise kind("x")


@pytest.mark.parametrize(
    ("given", "allowed", "hint"),
    [
        ("rnak", ["rank", "alpha"], "; did you mean 'rank'?"),
        ("SWIR16", ["swir16"], "; did you mean 'swir16'?"),
        ("lora", ["VPT", "LoRA"], "; did you mean 'LoRA'?"),
        ("zebra", ["rank", "alpha"], ""),
        ("", ["rank"], ""),
        ("rank", [], ""),
    ],
)
def test_closest(given, allowed, hint):
    assert errors.closest(given, allowed) == hint
    assert errors.closest(given, iter(allowed)) == hint


@pytest.mark.parametrize("length", [0, 10, 11, 500])
def test_shorten(length):
    short = errors.shorten("x" * length, limit=10)
    assert len(short) == min(length, 10)
    assert short.endswith(" ...") == (length > 10)
