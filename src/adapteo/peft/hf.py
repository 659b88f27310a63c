"""HF peft: its kinds of adapters, on exactly the linears of attention and MLP.

    y = W' x + b,     W' or what is added to y as the kind says

S. Mangrulkar et al.: PEFT, https://github.com/huggingface/peft (Apache-2.0), whose documentation cites each kind.

Targets follow from roles, so the patch embedding is never among them. HF peft finds targets by the ends of names: there
"proj" also hits ``patch_embed.proj``, a convolution, on which OFT computes something else than before training, and
"blocks.0.attn.q" also hits the one of a side network. Here it is shown a tree of the chosen linears and nothing else,
and each layer that it makes replaces its linear.
"""

import copy
import dataclasses
import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from adapteo.contracts import Backbone, Facts, Wrapper, trainable
from adapteo.errors import ConfigError, closest
from adapteo.peft._hf_kinds import OFFERED, REFUSED, Kind
from adapteo.peft._targets import OnLinears
from adapteo.vit import RoleLinear

Option = str | int | float | bool
_DECIDED_HERE = {
    "bias", "exclude_modules", "feedforward_modules", "inference_mode", "layers_pattern", "layers_to_transform",
    "modules_to_save", "peft_type", "target_modules", "target_parameters", "task_type",
}  # fmt: skip
"""Options of HF peft that say which tensors it acts on."""
_OLDEST = (0, 21)


class HFLayer(Wrapper):
    """A layer of HF peft in the place of a linear, ``(..., in) -> (..., out)``.

    Attributes:
        inner: HF peft's layer; its base layer holds the frozen weight.
        role: of the linear.
        merges: whether the kind can be added to the weight.
    """

    def __init__(self, inner: nn.Module, role: str, merges: bool) -> None:
        super().__init__()
        self.inner, self.role, self.merges = inner, role, merges

    def forward(self, x: Tensor) -> Tensor:
        """Apply to rows: HF peft takes maps ``(b, h, w, in)`` that reach a linear for those of a convolution (OFT)."""
        out: Tensor = self.inner(x.flatten(1, -2) if x.ndim > 3 else x)
        return out.view(*x.shape[:-1], out.shape[-1])

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the plain linear that HF peft makes of a copy."""
        if not self.merges:
            raise ConfigError(
                f"HF peft's {type(self.inner).__name__} cannot be merged into weights",
                fix="keep the adapter file, which predicts as it is; or train with `method: lora`, which merges",
            )
        layer: Any = copy.deepcopy(self.inner).eval()
        layer.merge()
        base = layer.get_base_layer()
        with torch.device("meta"):
            plain = RoleLinear(self.role, base.in_features, base.out_features, base.bias is not None)
        plain.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        if base.bias is not None:
            plain.bias = nn.Parameter(base.bias.detach(), requires_grad=False)
        return plain.train(self.training)


@dataclass(frozen=True)
class HF(OnLinears):
    """HF peft: trains one of its kinds of adapters on linears of attention and MLP (`pip install 'adapteo[peft]'`).

    Kinds differ in the learning rate that they want: those that train scales (ia3, vera, road) ten times this one.

    Attributes:
        kind: HF peft's name of it, for example miss, oft or loha; docs/methods.md lists those that are offered.
        options: of the kind, with HF peft's names, for example ``{r: 8, lora_alpha: 16}``.
        targets: roles of the linears to adapt (q, k, v, proj, fc1, fc2, gate); all that there are when none is named.
    """

    kind: str = "miss"
    options: Mapping[str, Option] = field(default_factory=dict)
    targets: tuple[str, ...] = ()

    order = 5
    default_rate = 3e-4
    facts = Facts(
        family="HF peft",
        parameters="as HF peft counts them",
        cost="2/3 of full fine-tuning's arithmetic or more, as many activations or more",
        use="to try a kind that is not here; `lora`, `vera` or `ia3` of our own are cheaper than HF peft's",
        evidence="0.487 (MiSS, the default) against 0.478 (LoRA) in HF peft's benchmark on mathematics",
    )

    def __post_init__(self) -> None:
        if self.kind in REFUSED:
            raise ConfigError(f"HF peft's {self.kind} is not offered: {REFUSED[self.kind]}", fix="see `method.kind`")
        if self.kind not in OFFERED:
            raise ConfigError(f"hf has no kind '{self.kind}'{closest(self.kind, OFFERED)}", allowed=sorted(OFFERED))
        for name in self.options:
            if name in _DECIDED_HERE:
                raise ConfigError(
                    f"hf's option '{name}' says which tensors are trained, which `method.targets` does",
                    fix=f"leave out `method.options.{name}`, and name roles in `method.targets`",
                )
        self.check_targets()

    @property
    def identity_at_start(self) -> bool:  # type: ignore[override]  # a fact of the kind, not of the class
        """Whether the kind computes at first what was pre-trained, with its default options."""
        return self._known.identity

    @property
    def mergeable(self) -> bool:  # type: ignore[override]
        """Whether HF peft can add the kind to the weights."""
        return self._known.merges

    @property
    def _known(self) -> Kind:
        return OFFERED[self.kind]

    def wrappers(self, linears: Sequence[RoleLinear]) -> Iterator[Wrapper]:
        """HF peft's layers in the place of the linears, whose tensors they keep.

        Raises:
            ConfigError: when peft is missing or refuses the options.
        """
        layers = self._injected([_plain(linear.weight, linear.bias) for linear in linears], linears)
        for layer, linear in zip(layers, linears, strict=True):
            yield HFLayer(layer, linear.role, self._known.merges).train(linear.training)

    def added(self, linear: RoleLinear) -> int:
        """Number of parameters of a linear on its own; kinds that share some among linears need fewer."""
        return self._counted([linear])

    def parameters_formula(self, backbone: Backbone) -> int:
        """Counted by letting HF peft act on copies of the linears.

        Raises:
            ConfigError: when nothing, or more than the adapters, would be trained, or pre-trained weights change.
        """
        return self._counted([linear for _, _, linear in self.chosen(backbone)])

    def adapter_config(self, backbone: Backbone) -> dict[str, object]:
        """Kind, fields, the version of peft, and the weights that the adapter belongs to."""
        weights = backbone.weights
        return {
            "peft_type": f"ADAPTEO_HF_{self.kind.upper()}",
            **vars(self),
            "peft_version": _peft().__version__,
            "base_model_name_or_path": weights.repo if weights else None,
            "revision": weights.revision if weights else None,
        }

    # ------------------------------------------------------------------------------------------ peft

    def _counted(self, linears: Sequence[RoleLinear]) -> int:
        copies = [
            _plain(linear.weight.detach().clone(), None if linear.bias is None else linear.bias.detach().clone())
            for linear in linears
        ]
        with torch.random.fork_rng(devices=[]):
            layers = self._injected(copies, linears)
        for plain, linear in zip(copies, linears, strict=True):
            if not (plain.weight.is_meta or torch.equal(plain.weight, linear.weight)):  # meta: shapes alone
                raise ConfigError(
                    f"HF peft's {self.kind} changes pre-trained weights with these options, and adapter files do not "
                    "hold them",
                    fix="see `method.options`; for principal components as a start use `method: pissa`",
                )
        frozen = {id(p) for plain in copies for p in plain.parameters()}
        found = {id(p): p for layer in layers for p in trainable(layer).values()}
        if not found or frozen & found.keys():
            what = "pre-trained weights" if found else "nothing"
            raise ConfigError(f"HF peft's {self.kind} trains {what} with these options", fix="see `method.options`")
        return sum(p.numel() for p in found.values())

    def _injected(self, plain: Sequence[nn.Linear], linears: Sequence[RoleLinear]) -> list[nn.Module]:
        """HF peft's layers around plain linears, in their order; it is shown nothing else."""
        peft = _peft()
        tree, names = nn.Module(), []
        places = [nn.ModuleDict({linear.role: each}) for linear, each in zip(linears, plain, strict=True)]
        tree.add_module("layers", nn.ModuleList(nn.ModuleDict({"linear": place}) for place in places))
        names = [f"layers.{index}.linear.{linear.role}" for index, linear in enumerate(linears)]
        options = self._options(peft, names, linears)
        with self._explained():
            peft.get_peft_model(tree, peft.get_peft_config(options), autocast_adapter_dtype=False)
        layers = [place[linear.role] for place, linear in zip(places, linears, strict=True)]
        untouched = [name for name, layer in zip(names, layers, strict=True) if type(layer) is nn.Linear]
        if untouched:
            raise ConfigError(f"HF peft's {self.kind} left {len(untouched)} of {len(names)} linears as they were")
        return layers

    def _options(self, peft: Any, names: Sequence[str], linears: Sequence[RoleLinear]) -> dict[str, Any]:
        """What HF peft's configuration is made of, for linears of these names.

        Raises:
            ConfigError: when an option is not known to the installed peft.
        """
        kind = {"peft_type": self.kind.upper()}
        known = [each.name for each in dataclasses.fields(peft.get_peft_config(dict(kind)))]
        for name in self.options:
            if name not in known:
                raise ConfigError(
                    f"HF peft's {self.kind} has no option '{name}'{closest(name, known)}",
                    allowed=sorted(set(known) - _DECIDED_HERE),
                    fix="see `method.options`",
                )
        widths = [(linear.in_features, linear.out_features) for linear in linears]
        options: dict[str, Any] = {**self._known.options, **self._known.fit(widths), **self.options}
        if "feedforward_modules" in known:  # (IA)3 scales the inputs of these
            options["feedforward_modules"] = [name for name in names if name.endswith(".fc2")]
        return {**kind, **options, "target_modules": list(names)}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Pass on in our words what HF peft refuses."""
        try:
            yield
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                f"HF peft's {self.kind} does not act here: {reason}", fix="see `method.options`"
            ) from error


def _plain(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear that is nothing more, which some kinds insist on, with given tensors."""
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    made.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        made.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias, requires_grad=False)
    return made


def _peft() -> Any:
    """HF peft.

    Raises:
        ConfigError: when it is not installed, cannot be imported, or is older than the kinds that are offered.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries that it imports
            peft: Any = importlib.import_module("peft")
    except (ImportError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "peft":
            raise ConfigError("`method: hf` needs the package peft", fix="pip install 'adapteo[peft]'") from error
        raise ConfigError(
            f"peft is installed, but cannot be imported: {str(error).partition('. ')[0]}",
            fix=f"often the installed torchvision does not fit PyTorch {torch.__version__}: install both from the same "
            "index, in versions that belong together; `python -c 'import torchvision, peft'` says more",
        ) from error
    if tuple(int(part) for part in peft.__version__.split(".")[:2]) < _OLDEST:
        raise ConfigError(
            f"`method: hf` knows peft from {'.'.join(map(str, _OLDEST))} on, and {peft.__version__} is installed",
            fix="pip install -U peft",
        )
    return peft


METHOD = HF
