"""What is counted is exact: bytes of a step by hand, times that add up, facts that are plain numbers."""

import gc
import weakref

import pytest
import torch
from torch import nn

from adapteo.meter import Memory, Meter, count_activations, count_state, environment, parameters


def test_activations_of_a_small_net():
    """Linear keeps its input, sigmoid its output, square its input, which is the same storage; weights do not count."""
    net, memory = nn.Linear(10, 6), Memory()
    x = torch.rand(5, 10)
    with count_activations(net, memory):
        loss = net(x).sigmoid().square().sum()
    loss.backward()
    assert memory.activations == 4 * (5 * 10 + 5 * 6)
    with count_activations(net, memory):
        net(x[:1])
    assert memory.activations == 4 * (5 * 10 + 5 * 6), "the largest counts"


def test_weights_and_what_is_named_do_not_count():
    """A product keeps both of its factors: here a buffer, which is a weight, and what came in."""
    net, x = nn.Module(), torch.rand(5, 10, requires_grad=True)
    net.register_buffer("factor", torch.rand(5, 10))
    kept = []
    for others in ((), (x,)):
        memory = Memory()
        with count_activations(net, memory, others):
            x.mul(net.factor.requires_grad_())
        kept.append(memory.activations)
    assert kept == [4 * 5 * 10, 0]


def test_counting_does_not_keep_the_graph_alive():
    net = nn.Linear(4, 4)
    with count_activations(net, Memory()):
        kept = net(torch.rand(3, 4)).exp()
    kept.grad_fn.metadata["probe"] = probe = Memory()
    gone = weakref.ref(probe)
    gc.disable()
    try:
        del kept, probe
        assert gone() is None
    finally:
        gc.enable()


def test_state_of_a_step():
    net, memory = nn.Sequential(nn.Linear(10, 6), nn.BatchNorm1d(6)), Memory()
    net[0].bias.requires_grad_(False)
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad])
    net(torch.rand(4, 10)).sum().backward()
    optimiser.step()
    count_state(net, optimiser, memory)
    trained = 10 * 6 + 6 + 6
    assert memory.weights == 4 * (trained + 6 + 6 + 6) + 8
    assert memory.gradients == 4 * trained
    assert memory.optimiser == 2 * 4 * trained + 3 * 4
    assert memory.device_peak is None
    assert memory.total == memory.weights + memory.gradients + memory.optimiser
    assert Memory(1, 2, 3, 4, device_peak=100).total == 100


def test_facts_and_restoring():
    meter = Meter(Memory(10, 20, 30, 40), waited_seconds=1.0)
    with meter.step(8):
        pass
    meter.step_seconds = 3.0
    with meter.step(8):
        pass
    again = Meter()
    again.restore(meter.state())
    assert again == meter
    facts = again.facts()
    assert facts["steps"] == 2
    assert facts["seconds_per_step"] == pytest.approx(1.5, rel=0.01)
    assert facts["images_per_second"] == pytest.approx(4, rel=0.01)
    assert facts["share_waiting_for_data"] == pytest.approx(0.25, rel=0.01)
    assert facts["memory_bytes"]["total"] == 100
    assert Meter().facts()["seconds_per_step"] is None


def test_parameters_by_part():
    backbone, decoder = nn.Linear(3, 2), nn.Linear(2, 1)
    backbone.weight.requires_grad_(False)
    assert parameters(backbone, decoder) == {"backbone": 8, "backbone_trained": 2, "decoder_trained": 3}


def test_the_environment_names_the_versions():
    found = environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert found["device"]
