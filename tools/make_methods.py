"""Write docs/methods.md from the code: every method with what its `Facts` say, HF peft's kinds, and a survey's names.

    registry ──▶ Facts ──▶ table     adapteo.peft._hf_kinds ──▶ table     tools/methods_survey.yaml ──▶ checklist

Run by ``make docs``; ``--check`` only says whether the page is current. A name of the survey that points to a method
which is not there is an error.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from adapteo import registry
from adapteo.contracts import Facts, Method
from adapteo.peft._hf_kinds import OFFERED, REFUSED

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "methods.md"
SURVEY = ROOT / "tools" / "methods_survey.yaml"
COMPOSITION = "composition"
_GENERATED = "<!-- written by `make docs` from the code; edit `facts` of a method, or tools/methods_survey.yaml -->"
_FAMILIES = ("reference", "low-rank", "scaling", "selective", "adapter", "prompt", "side network", "HF peft")
_INTRODUCTION = """\
How a backbone is adapted: `method: <name>`. Keys are in the [reference](reference/methods.md); each file in
`src/adapteo/peft` opens with its source and formula. D is the width of the backbone, L its number of blocks, r a rank,
in and out the widths of a linear. Costs are those of a training step without the decoder. Training keeps about 16 D
numbers per token and block for full fine-tuning and for LoRA; `train.memory: lean` and `leanest` keep less with the
same gradients.

All of them on the same two data sets with equal budgets, three seeds and a region held out: [results](results.md).
There `lora`, the default, was no worse than full fine-tuning; `[lora, ssf]`, for more than twice the memory, was first
in the regions of both that were trained in, and in the held-out region of one."""
_COMPOSING = """\
`method: [lora, ssf]` applies several. Any order gives the same model, parameters add up, and the result merges where
all of them do. Two that train the same tensor, rebuild the same weight, or lead their own way are refused."""
_HF = """\
`method:` with `name: hf`, `kind: <name>` and, where wanted, `options:` with HF peft's own names. Needs
`pip install 'adapteo[peft]'`. They act on exactly the linears of attention and MLP, never on the patch embedding. What
is in the first table too (LoRA, VeRA, (IA)³) takes fewer activations there."""
_SURVEY = """\
Names in the tree of the survey [arXiv 2504.14117](https://arxiv.org/abs/2504.14117), and some beside it: a method of
AdaptEO, a kind of HF peft, or why it is not here."""


def page() -> str:
    """Text of the page."""
    parts = [_GENERATED, "# Methods", _INTRODUCTION, _methods(), "## Several together", _COMPOSING]
    parts += ["## HF peft", _HF, _offered(), "These kinds are refused:", _refused()]
    parts += ["## Checklist", _SURVEY, *_checklist()]
    return "\n\n".join(parts) + "\n"


def _methods() -> str:
    found = {name: registry.load("methods", name) for name in registry.names("methods")}
    order = sorted(found, key=lambda name: (_FAMILIES.index(found[name].facts.family), name))
    heads = ("method", "family", "trained parameters", "cost", "merges", "when", "evidence")
    return _table(heads, (_row(name, found[name]) for name in order))


def _row(name: str, method: type[Method]) -> tuple[str, ...]:
    facts: Facts = method.facts
    merges = "by kind" if isinstance(method.mergeable, property) else "yes" if method.mergeable else "no"
    return (f"`{name}`", facts.family, facts.parameters, facts.cost, merges, facts.use, facts.evidence)


def _offered() -> str:
    rows = (
        (f"`{name}`", kind.title, "yes" if kind.merges else "no", "yes" if kind.identity else "no")
        for name, kind in sorted(OFFERED.items())
    )
    return _table(("kind", "what", "merges", "starts as pre-trained"), rows)


def _refused() -> str:
    return _table(("kind", "reason"), ((f"`{name}`", reason) for name, reason in sorted(REFUSED.items())))


def survey() -> dict[str, dict[str, tuple[str, str]]]:
    """Branches of the survey: names, each with what it is ("own", "hf", "out") and which method, kind or reason.

    Raises:
        SystemExit: when a name points to nothing.
    """
    known = {"own": {*registry.names("methods"), COMPOSITION}, "hf": set(OFFERED)}
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for branch, names in yaml.safe_load(SURVEY.read_text(encoding="utf-8")).items():
        found[branch] = {}
        for name, entry in names.items():
            ((state, value),) = entry.items()
            if state != "out" and value not in known[state]:
                raise SystemExit(f"{SURVEY.name}: {branch}, {name}: there is no '{value}'")
            found[branch][name] = (state, value)
    return found


def _checklist() -> Iterable[str]:
    for branch, names in survey().items():
        yield f"### {branch.capitalize()}"
        yield _table(("name", "here"), ((name, _state(*state)) for name, state in names.items()))


def _state(state: str, value: str) -> str:
    if state == "own":
        return "several methods together, without a search" if value == COMPOSITION else f"`method: {value}`"
    return f"`method: hf`, `kind: {value}`" if state == "hf" else f"not here: {value}"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Write the page, or check it."""
    current = FILE.is_file() and FILE.read_text(encoding="utf-8") == page()
    if "--check" in arguments:
        sys.exit(0 if current else f"{FILE.name} is not current; run `make docs`")
    if not current:
        FILE.write_text(page(), encoding="utf-8")
        print(f"wrote {FILE}")


if __name__ == "__main__":
    main(sys.argv[1:])
