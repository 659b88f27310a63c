"""Gradients of lean blocks equal plain autograd's, and what they keep is what the module says."""

import copy

import pytest
import torch
from torch import nn

from adapteo.lean import affine_of, recomputed
from adapteo.peft.lora import LoRALinear
from adapteo.vit import Block, GatedMlp, RoleLinear, set_memory

DIM, TOKENS, IMAGES = 32, 10, 2


def network(gated=False, adapted=("q", "v", "proj", "fc1", "fc2"), blocks=3, dropout=0.0, dim=DIM):
    """Blocks in float64, frozen but for LoRA on some linears; with none of them all trains."""
    torch.manual_seed(0)
    mlp = GatedMlp(dim, 2 * dim) if gated else 4.0
    net = nn.Sequential(*(Block(dim, 4, copy.deepcopy(mlp)) for _ in range(blocks))).double()
    for norm in (m for m in net.modules() if isinstance(m, nn.LayerNorm)):
        nn.init.normal_(norm.weight, 1.0, 0.2)
        nn.init.normal_(norm.bias, 0.0, 0.2)
    if adapted:
        net.requires_grad_(False)
    for module in list(net.modules()):
        for name, linear in list(module.named_children()):
            if isinstance(linear, RoleLinear) and linear.role in adapted:
                low = LoRALinear(linear, 4, 2.0, dropout)
                nn.init.normal_(low.lora_B)
                setattr(module, name, low)
    return net


def images(dim=DIM):
    return torch.randn(IMAGES, TOKENS, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(net, memory, x=None, needs_input=True, autocast=False):
    """Output and all gradients of a projection of the output."""
    net = copy.deepcopy(net)
    set_memory(net, memory)
    x = (images() if x is None else x).clone().requires_grad_(needs_input)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = net(x)
    (out.double() * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
    found = {name: p.grad for name, p in net.named_parameters()} | {"input": x.grad}
    return out.detach(), found


def assert_equal(one, other, tolerance=1e-10):
    torch.testing.assert_close(one[0], other[0], rtol=tolerance, atol=tolerance)
    assert {k for k, g in one[1].items() if g is None} == {k for k, g in other[1].items() if g is None}
    largest = max(float(g.abs().max()) for g in one[1].values() if g is not None)
    for name, grad in one[1].items():
        if grad is not None:
            assert (grad - other[1][name]).abs().max() <= tolerance * largest, name


@pytest.mark.parametrize("memory", ["lean", "leanest"])
@pytest.mark.parametrize("gated", [False, True], ids=["mlp", "gated"])
@pytest.mark.parametrize("adapted", [(), ("q", "v", "proj", "fc1", "fc2"), ("k", "gate"), ("fc2",)], ids="-".join)
@pytest.mark.parametrize("needs_input", [True, False])
def test_gradients_equal_autograds(memory, gated, adapted, needs_input):
    net = network(gated, adapted)
    assert_equal(gradients(net, "fast", needs_input=needs_input), gradients(net, memory, needs_input=needs_input))


@pytest.mark.parametrize("memory", ["lean", "leanest"])
@pytest.mark.parametrize("trained", ["lora_A", "lora_B", "norm", "bias", "0.norm1.weight"])
def test_only_what_asks_gets_a_gradient(memory, trained):
    net = network()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(trained in name)
    assert_equal(gradients(net, "fast", needs_input=False), gradients(net, memory, needs_input=False))


@pytest.mark.parametrize("memory", ["lean", "leanest"])
def test_norms_without_biases(memory):
    torch.manual_seed(0)
    net = nn.Sequential(Block(DIM, 4, norm_bias=False, qkv_bias=False, proj_bias=False)).double()
    assert_equal(gradients(net, "fast"), gradients(net, memory))


@pytest.mark.parametrize("memory", ["lean", "leanest"])
def test_dropped_inputs_are_the_same_ones(memory):
    """A linear that drops inputs is no `Affine`; its block falls back to plain autograd."""
    net = network(dropout=0.5)
    assert affine_of(net[0].attn.q) is None
    assert affine_of(copy.deepcopy(net).eval()[0].attn.q) is not None
    assert_equal(gradients(net, "fast"), gradients(net, memory))


class Bottleneck(nn.Module):
    """An adapter around a branch, of which the block knows nothing."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.low = nn.Linear(DIM, 3)
        self.high = nn.Linear(3, DIM)

    def forward(self, x):
        return self.inner(x) + self.high(torch.relu(self.low(x)))


@pytest.mark.parametrize("memory", ["lean", "leanest"])
def test_branches_that_methods_have_wrapped(memory):
    net = network(adapted=("q",))
    torch.manual_seed(0)
    for block in net:
        block.mlp = Bottleneck(block.mlp).double()
        block.attn = Bottleneck(block.attn).double()
    assert_equal(gradients(net, "fast"), gradients(net, memory))


def kept(net, memory, x):
    """Numbers that autograd keeps between forward and backward, parameters excluded, per token, block and D."""
    net = copy.deepcopy(net)
    set_memory(net, memory)
    known = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(x)
    return sum(s.nbytes() for s in found.values()) / (x.nbytes * len(net))


@pytest.mark.parametrize(
    ("adapted", "fast", "lean", "leanest"),
    [(("q", "k", "v", "proj", "fc1", "fc2"), 16, 10, 2), ((), 16, 10, 2), (("fc2",), 14, 10, 2)],
    ids=["lora", "full", "fc2"],
)
def test_what_is_kept(adapted, fast, lean, leanest):
    """D per token and block: see the module; ranks and sums of the softmax come on top."""
    net, x = network(adapted=adapted, dim=256), images(256).requires_grad_()
    for memory, expected in {"fast": fast, "lean": lean, "leanest": leanest}.items():
        assert expected <= kept(net, memory, x) < expected + 0.5


@pytest.mark.parametrize("memory", ["lean", "leanest"])
def test_mixed_precision_is_as_exact_as_autograds(memory):
    net = network().float()
    x = images().float()
    ways = (("fast", False), ("fast", True), (memory, True))
    exact, plain, ours = (gradients(net, how, x=x, autocast=on) for how, on in ways)
    torch.testing.assert_close(ours[0], plain[0], rtol=1e-2, atol=1e-2)
    for name, grad in exact[1].items():
        if grad is not None:
            assert (ours[1][name] - grad).norm() < 2 * (plain[1][name] - grad).norm() + 0.01 * grad.norm(), name
            assert ours[1][name].dtype == plain[1][name].dtype


@pytest.mark.filterwarnings("ignore")  # of what PyTorch's compiler does itself
@pytest.mark.parametrize("memory", ["lean", "leanest"])
def test_compiled(memory):
    torch._dynamo.reset()
    net = network(blocks=1)
    plain = gradients(net, "fast")
    compiled = copy.deepcopy(net)
    set_memory(compiled, memory)
    x = images().requires_grad_()
    out = torch.compile(compiled, backend="aot_eager")(x)
    (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
    assert_equal(plain, (out.detach(), {n: p.grad for n, p in compiled.named_parameters()} | {"input": x.grad}))


def test_recomputed_keeps_its_input_only():
    """The function runs twice, and the second time with a graph."""
    linear, calls = nn.Linear(DIM, DIM).double(), []

    def function(x):
        calls.append(torch.is_grad_enabled())
        return torch.tanh(linear(x))

    x = images().requires_grad_()
    recomputed(function, x, list(linear.parameters())).sum().backward()
    expected = torch.autograd.grad(torch.tanh(linear(x)).sum(), [x, linear.weight, linear.bias])
    for found, wanted in zip((x.grad, linear.weight.grad, linear.bias.grad), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert calls == [False, True]


def test_without_gradients_nothing_is_different():
    net = network()
    set_memory(net, "lean")
    with torch.no_grad():
        torch.testing.assert_close(net(images()), network()(images()), rtol=0, atol=0)


def test_twice_differentiating_is_refused():
    net = network(blocks=1)
    set_memory(net, "lean")
    x = images().requires_grad_()
    (grad,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad|twice"):
        grad.sum().backward()
