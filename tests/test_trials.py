"""Trials: what is proposed is in the space and new, files carry a stopped search on, and hopeless trials are told."""

import itertools
import json

import pytest

from adapteo._sampler import COMPLETE, PRUNED
from adapteo.errors import AdaptEOError, Interrupted
from adapteo.search_space import Choice, Range, points
from adapteo.trials import Outcome, Pruned, Search, course

optuna = pytest.importorskip("optuna")
WHOLE = {"rank": Choice((4, 8, 16)), "depth": Range(1, 2, whole=True)}
ENDLESS = {"rate": Range(1e-5, 1e-2), "drop": Range(0.0, 0.5), "targets": Choice((["q"], ["q", "v"], None))}


def tried(search, value=lambda values: 0.0, **facts):
    seen = []

    def train(number, values, folder):
        seen.append(dict(values))
        return {"value": value(values), **facts}

    return search.run(train), seen


def test_a_small_space_is_tried_point_by_point(tmp_path):
    trials, seen = tried(Search(tmp_path, WHOLE, 16))
    assert points(WHOLE) == 6
    assert seen == [{"rank": rank, "depth": depth} for rank in (4, 8, 16) for depth in (1, 2)]
    assert [trial["values"] for trial in trials] == seen


def test_no_point_is_tried_twice_when_the_budget_grows_to_the_whole_space(tmp_path):
    _, first = tried(Search(tmp_path, WHOLE, 4))
    assert len({tuple(values.items()) for values in first}) == 4
    _, rest = tried(Search(tmp_path, WHOLE, 16))
    assert len({tuple(values.items()) for values in first + rest}) == 6
    assert len(rest) == 2


def test_points_of_an_endless_space_are_within_it(tmp_path):
    assert points(ENDLESS) is None
    _, seen = tried(Search(tmp_path, ENDLESS, 12), lambda values: values["drop"])
    assert all(1e-5 <= v["rate"] <= 1e-2 and 0 <= v["drop"] <= 0.5 for v in seen)
    assert {repr(v["targets"]) for v in seen} <= {"['q']", "['q', 'v']", "None"}
    assert min(v["rate"] for v in seen) < 1e-3, "the scale is logarithmic"


def test_the_first_is_tried_first_and_only_once(tmp_path):
    first = {"rank": 16, "depth": 2}
    _, seen = tried(Search(tmp_path, WHOLE, 16, first=first))
    assert seen[0] == first
    assert len({tuple(values.items()) for values in seen}) == len(seen) == 6


@pytest.mark.parametrize("maximise", [False, True])
def test_it_finds_the_better_end(tmp_path, maximise):
    search = Search(tmp_path, {"x": Range(0.0, 1.0)}, 20, maximise)
    trials, seen = tried(search, lambda values: (values["x"] - 0.8) ** 2 * (-1 if maximise else 1))
    assert abs(seen[search.best(trials)]["x"] - 0.8) == min(abs(values["x"] - 0.8) for values in seen)
    later = [abs(values["x"] - 0.8) for values in seen[12:]]
    assert sum(later) / len(later) < 0.3, "more trials where it is better"


def test_equal_values_are_told_apart_by_the_loss(tmp_path):
    search = Search(tmp_path, {"x": Choice((1, 2, 3))}, 3, maximise=True)
    trials = search.run(lambda number, values, folder: {"value": 1.0, "loss": (0.3, 0.1, 0.1)[number]})
    assert search.best(trials) == 1


def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path):
    whole = [trial["values"] for trial in tried(Search(tmp_path / "whole", ENDLESS, 6), lambda v: v["rate"])[0]]
    seen = []

    def stopped(number, values, folder):
        seen.append(dict(values))
        if number == 3 and len(seen) == 4:
            raise Interrupted("stopped")
        return {"value": values["rate"]}

    search = Search(tmp_path / "stopped", ENDLESS, 6)
    with pytest.raises(Interrupted):
        search.run(stopped)
    assert len(search.finished()) == 3
    assert json.loads((search.place(3) / "trial.json").read_text()) == {"values": whole[3]}
    search.run(stopped)
    assert seen == [*whole[:4], *whole[3:]]


def test_a_trial_leaves_its_numbers_only(tmp_path):
    def train(number, values, folder):
        (folder / "adapter").mkdir()
        for name in ("state.pt", "log.csv", "run.json", "config.yaml"):
            (folder / name).write_text("x")
        return {"value": 1.0}

    search = Search(tmp_path, WHOLE, 1)
    search.run(train)
    assert {path.name for path in search.place(0).iterdir()} == {"trial.json", "log.csv", "run.json", "config.yaml"}


def test_failed_and_pruned_trials_are_trials(tmp_path):
    def train(number, values, folder):
        if number == 0:
            raise AdaptEOError("the loss became\nnan")
        if number == 1:
            raise Pruned([0.1, 0.2])
        return {"value": 1.0}

    search = Search(tmp_path, ENDLESS, 4)
    trials = search.run(train)
    assert [trial["state"] for trial in trials] == ["failed", PRUNED, COMPLETE, COMPLETE]
    assert trials[0]["reason"] == "the loss became nan"
    assert trials[1]["course"] == [0.1, 0.2]
    with pytest.raises(AdaptEOError, match="none of 1 trials came to an end; the first: the loss became nan"):
        search.best(trials[:1])


def test_hopeless_is_what_is_worse_than_the_median(tmp_path):
    search = Search(tmp_path, {"x": Choice((1, 2, 3, 4, 5))}, 5, maximise=True)
    rows = [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    before = [{"values": {"x": x}, "state": COMPLETE, "value": top, "course": [0.0, top / 2, top]} for x, top in rows]
    assert search.hopeless(before, [0.0, 0.1, 0.2], warmup=1)  # the median of the best so far is 0.25
    assert not search.hopeless(before, [0.0, 0.1, 0.3], warmup=1)
    assert not search.hopeless(before, [0.0, 0.1, 0.2], warmup=3)
    assert not search.hopeless(before[:3], [0.0, 0.1, 0.0], warmup=1), "the first four come to an end"


def test_course(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,val_loss,rate\n0,1.5,1\n1,nan,1\n")
    first, second = course(tmp_path / "log.csv", "val_loss")
    assert first == 1.5
    assert second != second


class TestRounds:
    """Several at once: proposed without the outcomes of the same round."""

    @staticmethod
    def by_rounds(search, value=lambda values: values["rate"], fail_after=None):
        seen = []

        def train(attempts):
            seen.append([attempt.number for attempt in attempts])
            for done, attempt in enumerate(attempts):
                if fail_after is not None and sum(map(len, seen[:-1])) + done == fail_after:
                    raise Interrupted("stopped")
                yield Outcome(attempt.number, {"value": value(attempt.values)}, 1.0)

        return search.run_rounds(train), seen

    def test_rounds(self, tmp_path):
        trials, seen = self.by_rounds(Search(tmp_path, ENDLESS, 10, at_once=4))
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert len({trial["values"]["rate"] for trial in trials}) == 10
        assert [trial["seconds"] for trial in trials] == [1.0] * 10

    def test_a_grid_at_once_is_the_grid(self, tmp_path):
        trials, seen = self.by_rounds(Search(tmp_path, WHOLE, 16, at_once=6), lambda values: 0.0)
        assert seen == [[0, 1, 2, 3, 4, 5]]
        assert [trial["values"] for trial in trials] == [{"rank": r, "depth": d} for r in (4, 8, 16) for d in (1, 2)]

    def test_what_is_proposed_depends_on_earlier_rounds_only(self, tmp_path):
        def first_rounds(folder, after):
            search = Search(tmp_path / folder, ENDLESS, 16, at_once=4)
            number = iter(range(16))
            return self.by_rounds(search, lambda values: values["rate"] if next(number) < 12 else after)[0]

        up, down = first_rounds("up", 1.0), first_rounds("down", -1.0)
        assert [trial["values"] for trial in up] == [trial["values"] for trial in down]

    def test_the_liar_keeps_proposals_apart(self, tmp_path):
        """After many trials the sampler is drawn to one place; those of a round spread around it."""
        search = Search(tmp_path, {"rate": Range(0.0, 1.0)}, 24, at_once=4)
        trials, _ = self.by_rounds(search, lambda values: (values["rate"] - 0.5) ** 2)
        last = sorted(trial["values"]["rate"] for trial in trials[-4:])
        assert min(b - a for a, b in itertools.pairwise(last)) > 1e-3

    @pytest.mark.parametrize("after", [1, 5])
    def test_a_stopped_one_goes_on_as_if_it_had_not_been(self, tmp_path, after):
        whole, _ = self.by_rounds(Search(tmp_path / "whole", ENDLESS, 7, at_once=4))
        search = Search(tmp_path / "stopped", ENDLESS, 7, at_once=4)
        with pytest.raises(Interrupted):
            self.by_rounds(search, fail_after=after)
        again, seen = self.by_rounds(search)
        assert again == whole
        assert seen[0][0] == after, "what is finished is not tried again"

    def test_earlier_rounds(self, tmp_path):
        search = Search(tmp_path, ENDLESS, 10, at_once=4)
        self.by_rounds(search)
        assert [len(search.earlier(number)) for number in (0, 3, 4, 7, 9)] == [0, 0, 4, 4, 8]
