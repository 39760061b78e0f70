"""The network: shapes, every head learns, and no input makes it answer anything but finite numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.contract import OUTPUTS, SEQUENCE_LENGTH, USER_VECTOR_DIM
from model.encoders import DenseEncoder
from model.network import Logits, MultiTaskNetwork, ServingNetwork, example_inputs
from model.presets import PRESETS

FEATURES = 12


def make_network(preset: str = "tiny") -> MultiTaskNetwork:
    torch.manual_seed(1)
    return MultiTaskNetwork(PRESETS[preset], FEATURES).eval()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_outputs_have_the_contracts_names_shapes_and_types(preset: str) -> None:
    answers = ServingNetwork(make_network(preset))(*example_inputs(FEATURES, 5))
    assert len(answers) == len(OUTPUTS)
    assert Logits._fields == tuple(spec.name for spec in OUTPUTS)
    for spec, answer in zip(OUTPUTS, answers, strict=True):
        assert answer.shape == (5, *spec.shape), spec.name
        assert answer.dtype == torch.float32


def test_probabilities_are_probabilities() -> None:
    fraud, intent, action, click, _ = ServingNetwork(make_network())(*example_inputs(FEATURES, 64))
    for binary in (fraud, click):
        assert bool(((binary >= 0) & (binary <= 1)).all())
    for classes in (intent, action):
        torch.testing.assert_close(classes.sum(dim=1), torch.ones(64))


def test_the_fraud_shift_moves_the_odds_by_its_exponential() -> None:
    inputs, network = example_inputs(FEATURES, 16), make_network()
    plain = ServingNetwork(network)(*inputs)[0].double()
    shifted = ServingNetwork(network, -math.log(5.0))(*inputs)[0].double()
    torch.testing.assert_close(plain / (1 - plain) / 5.0, shifted / (1 - shifted), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("task", Logits._fields)
def test_the_gradient_of_each_head_reaches_every_encoder(task: str) -> None:
    network = make_network().train()
    logits: torch.Tensor = getattr(network(*example_inputs(FEATURES, 32)), task)
    logits.square().sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    reached = {
        name.split(".")[0]
        for name, weight in network.named_parameters()
        if weight.grad is not None and bool(weight.grad.abs().sum() > 0)
    }
    assert {"context", "items", "sequence", "queries", "sharing", task} <= reached
    for other in set(Logits._fields) - {task}:
        assert other not in reached  # a tower is its own task's alone


def test_item_vectors_share_the_events_embeddings_and_end_with_a_bias() -> None:
    network = make_network()
    items, categories = torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([1, 1, 2], dtype=torch.int32)
    with torch.no_grad():
        network.item_bias.weight[2] = 7.0
    vectors = network.item_vectors(items, categories)
    assert vectors.shape == (3, USER_VECTOR_DIM)
    assert vectors[1, -1].item() == 7.0
    vectors.sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    assert network.items.items.weight.grad is not None
    users = ServingNetwork(network)(*example_inputs(FEATURES, 4))[4]
    assert users[:, -1].tolist() == [1.0] * 4  # where the bias is taken as it is


def test_a_row_without_history_is_finite_and_does_not_depend_on_what_stands_in_the_padding() -> None:
    serving = ServingNetwork(make_network())
    dense, context, item, ids, gaps, query, query_ids, query_gaps = example_inputs(FEATURES, 6)
    ids[:, :, 2], query_ids[:, :, 0] = 0, 0
    before = serving(dense, context, item, ids, gaps, query, query_ids, query_gaps)
    no_ids, no_queries, far = torch.zeros_like(ids), torch.zeros_like(query_ids), 9.0
    after = serving(dense, context, item, no_ids, torch.full_like(gaps, far), query, no_queries, torch.full_like(query_gaps, far))
    for one, other in zip(before, after, strict=True):
        assert bool(one.isfinite().all())
        torch.testing.assert_close(one, other)


def test_padding_in_front_changes_nothing_but_the_newest_entry_does() -> None:
    serving = ServingNetwork(make_network())
    dense, context, item, ids, gaps, *searched = example_inputs(FEATURES, 1)
    ids, gaps = torch.zeros_like(ids), torch.zeros_like(gaps)
    ids[:, -1], gaps[:, -1] = torch.tensor([5, 6, 2, 3], dtype=torch.int32), 10.0
    one = serving(dense, context, item, ids, gaps, *searched)
    gaps[:, : SEQUENCE_LENGTH - 1] = 1e6
    for left, right in zip(one, serving(dense, context, item, ids, gaps, *searched), strict=True):
        torch.testing.assert_close(left, right)
    for column, other in ((0, 6), (1, 7), (2, 5), (3, 4)):  # item, category, kind, price
        changed = ids.clone()
        changed[:, -1, column] = other
        assert not torch.equal(one[4], serving(dense, context, item, changed, gaps, *searched)[4])


def test_the_price_and_the_kind_of_a_step_are_looked_up_together() -> None:
    sequence = make_network().sequence
    kinds, prices = torch.tensor([0, 3, 3], dtype=torch.int32), torch.tensor([0, 0, 7], dtype=torch.int32)
    steps = sequence.embed_steps(kinds, prices)
    torch.testing.assert_close(steps, sequence.kinds(kinds) + sequence.prices(prices))
    assert steps[0].abs().sum() == 0
    torch.testing.assert_close(steps[:2], sequence.embed_kinds(kinds[:2]))


def test_a_query_that_nobody_has_seen_starts_from_its_words() -> None:
    queries = make_network().queries
    with torch.no_grad():
        queries.texts.weight[9] = 0.0  # the whole of it
    codes = torch.tensor([[[9, 4, 5, 0], [9, 4, 0, 0], [0, 0, 0, 0]]], dtype=torch.int32)
    [[two, one, none]] = queries.embed(codes)
    torch.testing.assert_close(two, (queries.texts.weight[4] + queries.texts.weight[5]) / 2)
    torch.testing.assert_close(one, queries.texts.weight[4])
    assert none.abs().sum() == 0


def test_the_own_query_the_last_ones_and_how_long_ago_they_were_all_count() -> None:
    network = make_network()
    with torch.no_grad():
        network.queries.gaps.weight.fill_(-1.0)  # the older, the less
    serving, inputs = ServingNetwork(network), example_inputs(FEATURES, 8)
    before = serving(*inputs)[4]
    *rest, query, query_ids, query_gaps = inputs
    assert not torch.equal(before, serving(*rest, (query + 1) % 2048, query_ids, query_gaps)[4])
    assert not torch.equal(before, serving(*rest, query, query_ids * 2, query_gaps)[4])
    assert not torch.equal(before, serving(*rest, query, query_ids, query_gaps.square())[4])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3.4e38])
def test_an_impossible_feature_spoils_no_row_and_leaves_the_others_alone(value: float) -> None:
    serving = ServingNetwork(make_network())
    dense, *rest = example_inputs(FEATURES, 3)
    clean = serving(dense, *rest)
    spoiled = dense.clone()
    spoiled[1] = value
    for one, other in zip(clean, serving(spoiled, *rest), strict=True):
        assert bool(other.isfinite().all())
        torch.testing.assert_close(one[[0, 2]], other[[0, 2]])


def test_codes_outside_their_vocabulary_are_read_as_the_nearest_one() -> None:
    serving = ServingNetwork(make_network())
    dense, context, item, ids, gaps, query, query_ids, query_gaps = example_inputs(FEATURES, 2)
    context[0], item[0], ids[0], query[0], query_ids[0] = 30_000, -5, 1_000_000, -9, 1_000_000
    for answer in serving(dense, context, item, ids, gaps, query, query_ids, query_gaps):
        assert bool(answer.isfinite().all())


def test_dense_scaling_centres_on_the_median_and_is_cut_at_the_limit() -> None:
    encoder = DenseEncoder(2)
    encoder.median.copy_(torch.log1p(torch.tensor([9.0, 0.0])))
    encoder.spread.fill_(0.5)
    scaled = encoder(torch.tensor([[9.0, -3.0], [math.nan, 1e30], [9.0, 1e-3]]))
    torch.testing.assert_close(scaled, torch.tensor([[0.0, -math.log(4.0) / 0.5], [0.0, 6.0], [0.0, math.log(1.001) / 0.5]]))


def test_a_checkpoint_gives_back_the_same_network(tmp_path: Path) -> None:
    network = make_network()
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(Checkpoint(network, "tiny", [f"f{n}" for n in range(FEATURES)], "hash", -0.5), path)
    loaded = load_checkpoint(path)
    inputs = example_inputs(FEATURES, 4)
    for one, other in zip(network(*inputs), loaded.network(*inputs), strict=True):
        assert torch.equal(one, other)
    assert (loaded.preset, loaded.catalogue_hash, loaded.fraud_shift) == ("tiny", "hash", -0.5)
