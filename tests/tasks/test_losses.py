"""Properties that every loss must have, over all tasks."""

import pytest
import torch
import torch.nn.functional as F

from adapteo.contracts import IGNORE, Task
from adapteo.errors import ConfigError
from adapteo.tasks.classification import Classification
from adapteo.tasks.multilabel import Multilabel
from adapteo.tasks.regression import Regression
from adapteo.tasks.segmentation import Segmentation

K = 3
W = (0.5, 2.0, 1.0)
TASKS = [
    Segmentation(),
    Segmentation("ce", W),
    Segmentation("dice"),
    Segmentation("focal", W, gamma=2.0),
    Segmentation("focal", gamma=0.5),
    Segmentation("ce+dice+focal", W),
    Classification(),
    Classification("ce", W, label_smoothing=0.1),
    Classification("ce+focal", W),
    Multilabel(),
    Multilabel("focal", W),
    Multilabel("bce+focal", W, gamma=0.5),
    Regression(),
    Regression("mae"),
    Regression("huber", delta=0.3),
    Regression("mse+mae"),
]


def example(task: Task, b: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and a target with unequal numbers of unlabelled items per image."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.rand(b, 5, 7, generator=g) < torch.linspace(0, 1, b).view(b, 1, 1)
    if isinstance(task, Segmentation):
        target = torch.randint(K, (b, 5, 7), generator=g).masked_fill(hidden, IGNORE)
        return torch.randn(b, K, 5, 7, generator=g), target
    if isinstance(task, Regression):
        return torch.randn(b, 1, 5, 7, generator=g), torch.randn(b, 5, 7, generator=g).masked_fill(hidden, torch.nan)
    logits = torch.randn(b, K, generator=g)
    if isinstance(task, Classification):
        target = torch.randint(K, (b,), generator=g)
        target[-1] = IGNORE
        return logits, target
    target = torch.randint(2, (b, K), generator=g).float()
    target[0, 1], target[-1, 0] = torch.nan, IGNORE
    return logits, target


def unlabelled(target: torch.Tensor) -> torch.Tensor:
    return torch.full_like(target, torch.nan if target.is_floating_point() else IGNORE)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_parts_divided_by_the_whole_weight_sum_to_the_whole(task):
    logits, target = example(task)
    logits.requires_grad_()
    whole = task.loss(logits, target, task.weight(target))
    (expected,) = torch.autograd.grad(whole, logits)
    parts = (slice(0, 1), slice(1, 4), slice(4, 6))
    weight = sum(task.weight(target[part]) for part in parts)
    assert torch.equal(weight, task.weight(target))
    total = sum(task.loss(logits[part], target[part], weight) for part in parts)
    (found,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(total, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_nothing_labelled_gives_zero_loss_and_gradient(task):
    logits, target = example(task)
    logits.requires_grad_()
    nothing = unlabelled(target)
    loss = task.loss(logits, nothing, task.weight(nothing))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_unlabelled_images_change_nothing(task):
    logits, target = example(task)
    both = torch.cat([target, unlabelled(target)])
    once = task.loss(logits, target, task.weight(target))
    twice = task.loss(torch.cat([logits, logits.flip(0)]), both, task.weight(both))
    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_bfloat16_logits_give_a_float32_loss(task):
    logits, target = example(task)
    with torch.autocast("cpu", torch.bfloat16):
        low = task.loss(logits.bfloat16(), target, task.weight(target))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, task.loss(logits.bfloat16().float(), target, task.weight(target)))


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_certain_answers_have_finite_gradients(task):
    """A saturated softmax is where focal loss and logarithms break."""
    logits, target = example(task)
    logits = (logits * 1e4).requires_grad_()
    task.loss(logits, target, task.weight(target)).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_following_the_gradient_learns_the_target(task):
    logits, target = example(task)
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=0.5)
    weight = task.weight(target)
    before = task.metrics(task.statistics(logits, target).sum(0), tuple("abc"))[task.monitor]
    for _ in range(20):
        optimiser.zero_grad()
        task.loss(logits, target, weight).backward()
        optimiser.step()
    after = task.metrics(task.statistics(logits, target).sum(0), tuple("abc"))[task.monitor]
    assert after > 0.95 if task.higher_is_better else after < 0.2 * before


def test_weighted_cross_entropy_is_torchs_own():
    task = Segmentation("ce", W)
    logits, target = example(task)
    expected = F.cross_entropy(logits, target, torch.tensor(W), ignore_index=IGNORE)
    torch.testing.assert_close(task.loss(logits, target, task.weight(target)), expected)
    task = Classification("ce", W, label_smoothing=0.1)
    logits, target = example(task)
    expected = F.cross_entropy(logits, target, torch.tensor(W), ignore_index=IGNORE, label_smoothing=0.1)
    torch.testing.assert_close(task.loss(logits, target, task.weight(target)), expected)


def test_binary_cross_entropy_is_torchs_own():
    task = Multilabel("bce", W)
    logits, target = example(task)
    target = target.clamp(min=0).nan_to_num()
    expected = F.binary_cross_entropy_with_logits(logits, target, pos_weight=torch.tensor(W))
    torch.testing.assert_close(task.loss(logits, target, task.weight(target)), expected)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", lambda x, y: F.huber_loss(x, y, delta=0.7))],
)
def test_distances_are_torchs_own(name, oracle):
    task = Regression(name, delta=0.7)
    logits, target = example(task)
    known = ~target.isnan()
    expected = oracle(logits[:, 0][known], target[known])
    torch.testing.assert_close(task.loss(logits, target, task.weight(target)), expected)


def test_focal_loss_by_its_formula():
    task = Segmentation("focal", W, gamma=1.5)
    logits, target = example(task)
    total, weight = 0.0, 0.0
    for index in (target != IGNORE).nonzero().tolist():
        i, y, x = index
        label = int(target[i, y, x])
        p = float(logits[i, :, y, x].double().softmax(0)[label])
        total += W[label] * (1 - p) ** 1.5 * -torch.log(torch.tensor(p)).item()
        weight += W[label]
    assert float(task.loss(logits, target, task.weight(target))) == pytest.approx(total / weight, rel=1e-4)
    ce, no_focus = Segmentation("ce", W), Segmentation("focal", W, gamma=0)
    w = ce.weight(target)
    torch.testing.assert_close(no_focus.loss(logits, target, w), ce.loss(logits, target, w))


def test_dice_by_its_formula():
    task = Segmentation("dice")
    logits, target = example(task)
    images = []
    for image, labels in zip(logits.softmax(1), target, strict=True):
        known = labels != IGNORE
        present = labels[known].unique().tolist()
        dice = []
        for c in present:
            p, g = image[c][known], (labels[known] == c).float()
            dice.append(1 - 2 * (p * g).sum() / (p.sum() + g.sum()))
        if present:
            images.append(torch.stack(dice).mean())
    assert len(images) == int(task.weight(target))
    torch.testing.assert_close(task.loss(logits, target, task.weight(target)), torch.stack(images).mean())


def test_wrong_losses_are_refused_with_the_closest_right_one():
    with pytest.raises(ConfigError, match="did you mean 'dice'"):
        Segmentation("ce+dise")
    with pytest.raises(ConfigError, match="twice"):
        Segmentation("ce+ce")
    with pytest.raises(ConfigError, match="2 values for 3 classes"):
        Segmentation(class_weights=(1.0, 2.0)).outputs(("a", "b", "c"))
    with pytest.raises(ConfigError, match="pos_weights"):
        Multilabel(pos_weights=(1.0, -2.0)).outputs(("a", "b"))
    for wrong in (lambda: Segmentation(gamma=-1), lambda: Classification(label_smoothing=1.0)):
        with pytest.raises(ConfigError):
            wrong()
    for wrong in (lambda: Multilabel(threshold=1.0), lambda: Regression(delta=0)):
        with pytest.raises(ConfigError):
            wrong()
