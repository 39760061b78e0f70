"""Sharing: what each way shares, against formulas written out one row at a time; and whose gradient reaches what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from model.encoders.encoded import Sizes
from model.inputs import SequenceInputs, TableInputs
from model.network import MultiTaskNetwork
from model.presets import PRESETS, SHARINGS, NetworkShape, Sharing
from model.sharing import Extraction, ExtractionLevel, MixtureOfExperts, SceneGate, StarBottom, StarLinear, sharing_for
from model.tasks import SHOP_TASKS
from tests.unit.model.small import NEXT, SIDE, YES, small_network, small_rows

SHAPE = replace(PRESETS["tiny"], experts=3, task_experts=2, levels=2, dropout=0.0)
WIDTH, TASKS, SCENES = 10, 3, 4


def trunk(rows: int = 6) -> Tensor:
    return torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_way_answers_a_vector_for_each_task(sharing: Sharing) -> None:
    module = sharing_for(replace(SHAPE, sharing=sharing), Sizes(trunk=WIDTH, scenes=SCENES), TASKS)
    assert module(trunk(), torch.zeros(6, dtype=torch.int32)).shape == (6, TASKS, SHAPE.expert_out)


def test_the_mixture_is_each_tasks_own_weighing_of_the_same_experts() -> None:
    module, x = MixtureOfExperts(SHAPE, WIDTH, TASKS), trunk()
    experts, hidden = module.experts, SHAPE.expert_hidden
    for row, answer in zip(x, module(x, None), strict=True):
        first = torch.relu(experts.first(row)).reshape(SHAPE.experts, hidden)
        answers = torch.stack(
            [torch.relu(first[n] @ experts.second[n] + experts.second_bias[n, 0]) for n in range(SHAPE.experts)]
        )
        gates = module.gates(row).reshape(TASKS, SHAPE.experts).softmax(dim=1)
        torch.testing.assert_close(answer, gates @ answers)


def test_a_level_of_extraction_mixes_own_and_common_experts_and_no_other_tasks() -> None:
    level, x = ExtractionLevel(SHAPE, WIDTH, TASKS, last=False), trunk()
    of_tasks, of_all = level([x] * TASKS, x)
    common = level.common(x)
    own = [experts(x) for experts in level.own]
    for task in range(TASKS):
        weights = level.gates[task](x).softmax(dim=1)  # (B, own + common)
        wanted = sum(weights[:, [n]] * own[task][:, n] for n in range(2)) + sum(
            weights[:, [2 + n]] * common[:, n] for n in range(3)
        )
        torch.testing.assert_close(of_tasks[task], wanted)
    assert level.common_gate is not None
    everything, weights = torch.cat([*own, common], dim=1), level.common_gate(x).softmax(dim=1)
    torch.testing.assert_close(of_all, torch.einsum("bx,bxe->be", weights, everything))


def test_in_the_last_level_an_expert_of_one_task_says_nothing_to_another() -> None:
    module, x = Extraction(SHAPE, WIDTH, TASKS), trunk()
    before = module(x, None)
    *_, last = module.levels
    assert isinstance(last, ExtractionLevel)
    with torch.no_grad():
        for weight in last.own[1].parameters():
            weight.add_(1.0)
    after = module(x, None)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


def test_a_scenes_weights_are_the_shared_ones_times_its_own() -> None:
    layer, x = StarLinear(WIDTH, 5, SCENES), trunk(4)
    for table in (layer.rows, layer.columns, layer.bias):
        torch.nn.init.normal_(table.weight)
    scenes = torch.tensor([2, 0, 2, 3])
    for row, scene, answer in zip(x, scenes.tolist(), layer(x, scenes), strict=True):
        own = torch.outer(1 + layer.columns.weight[scene], 1 + layer.rows.weight[scene])  # (5, WIDTH)
        bias = layer.shared.bias * (1 + layer.columns.weight[scene]) + layer.bias.weight[scene]
        torch.testing.assert_close(answer, (layer.shared.weight * own) @ row + bias)


def test_before_training_all_scenes_are_alike() -> None:
    module, x = StarBottom(WIDTH, 8, 6, TASKS, SCENES, 0.0), trunk(4)
    assert torch.equal(module(x, torch.tensor([0, 1, 2, 3])), module(x, torch.tensor([3, 3, 3, 3])))


def test_the_scene_gate_starts_open_scales_within_0_and_2_and_sends_no_gradient_to_the_trunk_it_reads() -> None:
    gate, x, scene = SceneGate(2, WIDTH), trunk().requires_grad_(), torch.randn(6, 2)
    torch.testing.assert_close(gate(x, scene), x)
    torch.nn.init.normal_(gate.answer.weight)
    scale = (gate(x, scene) / x).detach()
    assert 0 <= scale.min() < 0.9
    assert 1.1 < scale.max() <= 2
    gate(x, scene).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, scale)  # as if the scale were a constant


@pytest.mark.parametrize("sharing", SHARINGS)
def test_every_way_learns_what_each_scene_means_by_the_same_number(sharing: Sharing) -> None:
    torch.manual_seed(1)
    shape = replace(PRESETS["table_tiny"], sharing=sharing, scene_gate=True, dropout=0.0, noise=0.0)
    network = MultiTaskNetwork(shape, TableInputs(2, scenes=2), (YES, SIDE))
    dense, scene = torch.randn(400, 2), torch.arange(400, dtype=torch.int32) % 2
    network.fit_scaling(dense.numpy())
    yes = (dense[:, 0] > 0) ^ (scene == 1)  # in the second scene it means the opposite
    side = (dense[:, 1] > -0.5).long() + (dense[:, 1] > 0.5).long()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.02)
    for _ in range(80):
        found = network({"dense": dense, "scene": scene})
        loss = binary_cross_entropy_with_logits(found["yes"], yes.float()) + cross_entropy(found["side"], side)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimiser.step()
    assert float(((found["yes"] > 0) == yes).float().mean()) > 0.95
    assert float((found["side"].argmax(dim=1) == side).float().mean()) > 0.95


def test_single_shares_nothing_at_all() -> None:
    network = small_network("table", sharing="single")
    assert network.shared_parameters() == []
    network(small_rows("table", 8))["yes"].sum().backward()
    reached = {name.split(".")[1] for name, weight in network.named_parameters() if weight.grad is not None}
    assert reached == {"0"}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *(("event", {"sharing": sharing}) for sharing in ("shared_bottom", "mmoe", "ple", "star")),
        *(("table", {"sharing": "ple", "levels": levels}) for levels in (1, 2, 3)),
    ],
)
def test_what_is_called_shared_is_what_more_than_one_task_reaches(kind: str, changes: dict[str, Any]) -> None:
    network = small_network(kind, scene_gate=True, **changes)
    shared = {id(weight) for weight in network.shared_parameters()}
    rows, reached = small_rows(kind, 64), dict.fromkeys((id(weight) for weight in network.parameters()), 0)
    for task in network.tasks:
        network.zero_grad(set_to_none=True)
        logits = network(rows)
        total = logits[task.name].square().sum() + (logits[task.given].square().sum() if task.given else 0.0)
        total.backward()
        for weight in network.parameters():
            reached[id(weight)] += weight.grad is not None and bool(weight.grad.any())
    assert {weight for weight, tasks in reached.items() if tasks > 1} == shared


def test_a_task_on_which_another_depends_shares_even_where_each_has_its_own_network() -> None:
    network = small_network("event", sharing="single")
    click = [task.name for task in SHOP_TASKS].index("click")
    assert {id(w) for w in network.shared_parameters()} == {id(w) for w in network.branches[click].parameters()}


@pytest.mark.parametrize(
    ("changes", "says"), [({"sharing": "star"}, "star.*no scenes"), ({"scene_gate": True}, "gate.*no scenes")]
)
def test_what_needs_scenes_is_refused_where_there_are_none(changes: dict[str, object], says: str) -> None:
    shape: NetworkShape = replace(PRESETS["table_tiny"], **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=says):
        MultiTaskNetwork(shape, TableInputs(3), (YES,))


def test_a_retrieval_that_is_the_encoders_own_answer_needs_no_sharing() -> None:
    assert MultiTaskNetwork(PRESETS["sequence_tiny"], SequenceInputs(9, 4), (NEXT,)).parts[0].sharing is None
    both = MultiTaskNetwork(replace(PRESETS["sequence_tiny"], sharing="ple"), SequenceInputs(9, 4), (NEXT, YES))
    sharing = both.parts[0].sharing
    assert sharing is not None
    assert both.parts[0].readers == ["yes"]
    both({"sequence": torch.tensor([[0, 1, 2, 3]])})["next"].sum().backward()
    assert all(weight.grad is None for weight in sharing.parameters())


def test_retrieval_is_refused_where_there_are_no_items_and_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ValueError, match="task next: inputs of kind table have no items"):
        MultiTaskNetwork(PRESETS["table_tiny"], TableInputs(3), (NEXT, SIDE))
    with pytest.raises(ValueError, match="embedding 16 is no multiple of 3"):
        MultiTaskNetwork(replace(PRESETS["sequence_tiny"], attention_heads=3), SequenceInputs(9, 4), (NEXT,))


def test_a_way_of_sharing_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="'tower' is none of shared_bottom, mmoe"):
        sharing_for(replace(SHAPE, sharing="tower"), Sizes(trunk=3), 1)  # type: ignore[arg-type]
