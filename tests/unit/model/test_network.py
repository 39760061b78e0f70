"""The network for a shop's events: shapes, every head learns, and no input makes it answer anything but finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.contract import INPUTS, OUTPUTS, SEQUENCE_LENGTH, USER_VECTOR_DIM
from model.encoders.event import EventEncoder
from model.examples import example_inputs
from model.heads import EventItems
from model.inputs import EventInputs
from model.network import MultiTaskNetwork, ServingNetwork, served_tasks
from model.presets import PRESETS
from model.tasks import SHOP_TASKS
from tests.unit.model.small import FEATURES, score_head, small_network

EVENTS = EventInputs(FEATURES)
TASKS = tuple(task.name for task in SHOP_TASKS)


def rows(count: int, seed: int = 0) -> dict[str, Tensor]:
    return example_inputs(EVENTS, count, seed)


def answers(network: MultiTaskNetwork, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is served, by name."""
    serving = ServingNetwork(network)
    found = serving(*(inputs[spec.name] for spec in INPUTS))
    return dict(zip(serving.served, found, strict=True))


def encoder_of(network: MultiTaskNetwork) -> EventEncoder:
    encoder = network.parts[0].encoder
    assert isinstance(encoder, EventEncoder)
    return encoder


@pytest.mark.parametrize("preset", ["demo", "tiny"])
def test_outputs_have_the_contracts_names_shapes_and_types(preset: str) -> None:
    found = answers(MultiTaskNetwork(PRESETS[preset], EVENTS, SHOP_TASKS).eval(), rows(5))
    assert list(found) == [spec.name for spec in OUTPUTS]
    for spec in OUTPUTS:
        assert found[spec.name].shape == (5, *spec.shape), spec.name
        assert found[spec.name].dtype == torch.float32


def test_logits_come_by_task_in_the_order_of_the_tasks() -> None:
    assert tuple(small_network("event")(rows(3))) == TASKS
    assert tuple(small_network("event", sharing="single")(rows(3))) == TASKS


def test_some_of_a_shops_tasks_are_served_under_their_own_names() -> None:
    fraud, *_, vector = SHOP_TASKS
    network = MultiTaskNetwork(PRESETS["tiny"], EVENTS, (vector, fraud)).eval()
    assert served_tasks(network) == tuple(answers(network, rows(3))) == ("user_vector", "fraud")


def test_probabilities_are_probabilities() -> None:
    found = answers(small_network("event"), rows(64))
    for name in ("fraud", "click"):
        assert bool(((found[name] >= 0) & (found[name] <= 1)).all())
    for name in ("intent", "next_action"):
        torch.testing.assert_close(found[name].sum(dim=1), torch.ones(64))


def test_the_weight_of_frauds_is_taken_back_from_the_served_odds() -> None:
    network = small_network("event")
    served = answers(network, rows(16))["fraud"].double()
    odds = torch.exp(network(rows(16))["fraud"].double())
    torch.testing.assert_close(served / (1 - served), odds / SHOP_TASKS[0].positive_weight, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("task", TASKS)
def test_the_gradient_of_each_head_reaches_every_encoder_and_no_other_head(task: str) -> None:
    network = small_network("event").train()
    network(rows(32))[task].square().sum().backward()
    found = {name for name, weight in network.named_parameters() if weight.grad is not None and bool(weight.grad.abs().sum() > 0)}
    reached = {".".join(name.split(".")[2:4]) for name in found}
    parts = {"encoder.context", "encoder.items", "encoder.sequence", "encoder.queries", "sharing.experts", "sharing.gates"}
    assert parts <= reached
    assert {name for name in reached if name.startswith("heads")} == {f"heads.{TASKS.index(task)}"}


def test_a_binary_task_reads_the_scaled_features_directly_too() -> None:
    network = small_network("event")
    part = network.parts[0]
    before, scaled = network(rows(8)), part.encoder(rows(8)).wide
    fraud, change = score_head(network, "fraud"), torch.linspace(-1, 1, FEATURES)
    assert fraud.wide is not None
    with torch.no_grad():
        fraud.wide.weight.add_(change)
    after = network(rows(8))
    torch.testing.assert_close(after["fraud"] - before["fraud"], scaled @ change)
    assert torch.equal(after["click"], before["click"])


def test_features_may_be_read_within_bins_too_by_the_trunk_and_the_wide_part() -> None:
    network = small_network("event", knees=4)
    assert encoder_of(network).sizes.wide == FEATURES * 5
    network.fit_scaling(rows(500)["dense"].numpy())
    found = answers(network, rows(8))
    assert all(bool(value.isfinite().all()) for value in found.values())
    scaled = encoder_of(network).numbers.dense(rows(8)["dense"])
    torch.testing.assert_close(encoder_of(network)(rows(8)).wide[:, :FEATURES], scaled)


def test_item_vectors_share_the_events_embeddings_and_end_with_a_bias() -> None:
    network = small_network("event")
    items, categories = torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([1, 1, 2], dtype=torch.int32)
    side = network.parts[0].items
    assert isinstance(side, EventItems)
    with torch.no_grad():
        side.bias.weight[2] = 7.0
    vectors = network.item_vectors(items, categories)
    assert vectors.shape == (3, USER_VECTOR_DIM)
    assert vectors[1, -1].item() == 7.0
    vectors.sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    assert encoder_of(network).items.items.weight.grad is not None
    users = answers(network, rows(4))["user_vector"]
    assert users[:, -1].tolist() == [1.0] * 4  # where the bias is taken as it is


def test_a_row_without_history_is_finite_and_does_not_depend_on_what_stands_in_the_padding() -> None:
    network, inputs = small_network("event"), rows(6)
    inputs["sequence_ids"][:, :, 2], inputs["query_ids"][:, :, 0] = 0, 0
    before = answers(network, inputs)
    for name in ("sequence_ids", "query_ids"):
        inputs[name] = torch.zeros_like(inputs[name])
    for name in ("sequence_gaps", "query_gaps"):
        inputs[name] = torch.full_like(inputs[name], 9.0)
    after = answers(network, inputs)
    for name, value in before.items():
        assert bool(value.isfinite().all())
        torch.testing.assert_close(value, after[name])


def test_padding_in_front_changes_nothing_but_the_newest_entry_does() -> None:
    network, inputs = small_network("event"), rows(1)
    ids, gaps = torch.zeros_like(inputs["sequence_ids"]), torch.zeros_like(inputs["sequence_gaps"])
    ids[:, -1], gaps[:, -1] = torch.tensor([5, 6, 2, 3], dtype=torch.int32), 10.0
    inputs |= {"sequence_ids": ids, "sequence_gaps": gaps}
    one = answers(network, inputs)
    gaps[:, : SEQUENCE_LENGTH - 1] = 1e6
    for name, value in answers(network, inputs).items():
        torch.testing.assert_close(one[name], value)
    for column, other in ((0, 6), (1, 7), (2, 5), (3, 4)):  # item, category, kind, price
        changed = ids.clone()
        changed[:, -1, column] = other
        assert not torch.equal(one["user_vector"], answers(network, inputs | {"sequence_ids": changed})["user_vector"])


def test_the_price_and_the_kind_of_a_step_are_looked_up_together() -> None:
    sequence = encoder_of(small_network("event")).sequence
    kinds, prices = torch.tensor([0, 3, 3], dtype=torch.int32), torch.tensor([0, 0, 7], dtype=torch.int32)
    steps = sequence.embed_steps(kinds, prices)
    torch.testing.assert_close(steps, sequence.kinds(kinds) + sequence.prices(prices))
    assert steps[0].abs().sum() == 0
    torch.testing.assert_close(steps[:2], sequence.embed_kinds(kinds[:2]))


def test_a_query_that_nobody_has_seen_starts_from_its_words() -> None:
    queries = encoder_of(small_network("event")).queries
    with torch.no_grad():
        queries.texts.weight[9] = 0.0  # the whole of it
    codes = torch.tensor([[[9, 4, 5, 0], [9, 4, 0, 0], [0, 0, 0, 0]]], dtype=torch.int32)
    [[two, one, none]] = queries.embed(codes)
    torch.testing.assert_close(two, (queries.texts.weight[4] + queries.texts.weight[5]) / 2)
    torch.testing.assert_close(one, queries.texts.weight[4])
    assert none.abs().sum() == 0


def test_the_own_query_the_last_ones_and_how_long_ago_they_were_all_count() -> None:
    network, inputs = small_network("event"), rows(8)
    with torch.no_grad():
        encoder_of(network).queries.gaps.weight.fill_(-1.0)  # the older, the less
    before = answers(network, inputs)["user_vector"]
    for name in ("query", "query_ids", "query_gaps"):
        assert not torch.equal(before, answers(network, inputs | {name: inputs[name] * 2})["user_vector"]), name


def test_the_scene_gate_reads_scene_and_platform_and_nothing_else_of_the_context() -> None:
    network, inputs = small_network("event", scene_gate=True), rows(8)
    encoded = network.parts[0].encoder(inputs)
    for column, counts in enumerate((False, True, True, False)):  # kind, scene, platform, hour
        changed = inputs["context"].clone()
        changed[:, column] = (changed[:, column] + 1) % 5
        other = network.parts[0].encoder(inputs | {"context": changed})
        assert torch.equal(encoded.scene, other.scene) is not counts
        assert torch.equal(encoded.scene_code, other.scene_code) is (column != 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.4e38])
def test_an_impossible_feature_spoils_no_row_and_leaves_the_others_alone(value: float) -> None:
    network, inputs = small_network("event"), rows(3)
    clean, spoiled = answers(network, inputs), inputs["dense"].clone()
    spoiled[1] = value
    for name, other in answers(network, inputs | {"dense": spoiled}).items():
        assert bool(other.isfinite().all())
        torch.testing.assert_close(clean[name][[0, 2]], other[[0, 2]])


def test_codes_outside_their_vocabulary_are_read_as_the_nearest_one() -> None:
    inputs = rows(2)
    for name, code in {"context": 30_000, "item": -5, "sequence_ids": 1_000_000, "query": -9, "query_ids": 1_000_000}.items():
        inputs[name][0] = code
    for network in (small_network("event"), small_network("event", sharing="star")):
        for answer in answers(network, inputs).values():
            assert bool(answer.isfinite().all())


def test_while_training_items_queries_and_exact_sums_are_forgotten_at_random() -> None:
    network = small_network("event").train()
    assert not torch.equal(network(rows(4))["click"], network(rows(4))["click"])
    still = replace(PRESETS["tiny"], forget=0.0, noise=0.0, dropout=0.0)
    network = MultiTaskNetwork(still, EVENTS, SHOP_TASKS).train()
    assert torch.equal(network(rows(4))["click"], network(rows(4))["click"])
