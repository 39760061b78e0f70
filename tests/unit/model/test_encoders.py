"""Encoders of tables, texts and sequences, and the scaling of numbers: against formulas, and for rows as bad as rows can be."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.encoders.dense import DenseEncoder, NumberEncoder, PiecewiseLinear
from model.encoders.sequence import HistoryEncoder
from model.encoders.table import CategoryEncoder, TableEncoder
from model.encoders.text import GramEncoder, TextEncoder
from model.inputs import SequenceInputs, TableInputs, TextInputs
from model.presets import PRESETS
from tests.unit.model.small import small_network, small_rows
from trt_build.parity.verify import hard_rows

KINDS = ("table", "text", "sequence")


@pytest.mark.parametrize("kind", KINDS)
def test_the_worst_rows_are_finite_and_leave_the_others_alone(kind: str) -> None:
    network, rows = small_network(kind), small_rows(kind, 16)
    hard = {name: torch.from_numpy(value) for name, value in hard_rows({k: v.numpy() for k, v in rows.items()}).items()}
    clean, spoiled = network(rows), network(hard)
    for name, value in spoiled.items():
        assert bool(value.isfinite().all()), name
        torch.testing.assert_close(value[5:], clean[name][5:])
        assert not torch.equal(value[4], clean[name][4])


@pytest.mark.parametrize("kind", KINDS)
def test_a_rows_answer_depends_on_that_row_alone(kind: str) -> None:
    network, rows = small_network(kind), small_rows(kind, 9)
    whole = network(rows)
    for at in range(9):
        for name, value in network({k: v[at : at + 1] for k, v in rows.items()}).items():
            torch.testing.assert_close(value[0], whole[name][at])


@pytest.mark.parametrize("kind", [*KINDS, "event"])
def test_half_precision_changes_answers_by_little_and_gradients_are_finite(kind: str) -> None:
    network, rows = small_network(kind, sharing="ple"), small_rows(kind, 16)
    whole = network(rows)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(rows)
        torch.stack([value.float().square().mean() for value in half.values()]).sum().backward()  # type: ignore[no-untyped-call]
    for name, value in half.items():
        torch.testing.assert_close(value.float(), whole[name], atol=0.3, rtol=0.05)
    assert all(bool(weight.grad.isfinite().all()) for weight in network.parameters() if weight.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_every_tensor_counts(kind: str) -> None:
    network, rows, others = small_network(kind), small_rows(kind, 32), small_rows(kind, 32, seed=1)
    before = network(rows)
    for name in rows:
        after = network(rows | {name: others[name]})
        assert all(not torch.equal(before[task], after[task]) for task in before), name


def test_dense_scaling_centres_on_the_median_and_is_cut_at_the_limit() -> None:
    encoder = DenseEncoder(2)
    encoder.median.copy_(torch.log1p(torch.tensor([9.0, 0.0])))
    encoder.spread.fill_(0.5)
    scaled = encoder(torch.tensor([[9.0, -3.0], [math.nan, 1e30], [9.0, 1e-3]]))
    torch.testing.assert_close(scaled, torch.tensor([[0.0, -math.log(4.0) / 0.5], [0.0, 6.0], [0.0, math.log(1.001) / 0.5]]))


def test_scaling_is_fitted_to_what_is_finite_and_a_column_without_a_number_is_usual_everywhere() -> None:
    encoder, values = DenseEncoder(3), np.random.default_rng(1).lognormal(2.0, 1.0, (2_000, 3)).astype(np.float32)
    plain = DenseEncoder(1)
    plain.fit(values[1_000:, :1])
    values[:1_000, 0] = np.tile(np.array([np.nan, np.inf], np.float32), 500)
    values[:, 2] = np.nan
    encoder.fit(values)
    torch.testing.assert_close(encoder.median[:1], plain.median)
    torch.testing.assert_close(encoder.spread[:1], plain.spread)
    scaled = encoder(torch.from_numpy(values))
    assert abs(float(scaled[:, 1].median())) < 0.01
    assert 0.8 < float(scaled[:, 1].std()) < 1.2
    assert scaled[:, 2].abs().max() == 0


def test_a_number_fills_the_bins_below_it_and_part_of_its_own() -> None:
    bins = PiecewiseLinear(1, 4)
    bins.edges.copy_(torch.tensor([[0.0, 1.0, 2.0, 2.0, 4.0]]))  # the third has no width: it is a step
    for value, wanted in ((-1.0, [0, 0, 0, 0]), (0.25, [0.25, 0, 0, 0]), (3.0, [1, 1, 1, 0.5]), (9.0, [1, 1, 1, 1])):
        torch.testing.assert_close(bins(torch.tensor([[value]]))[0], torch.tensor(wanted, dtype=torch.float32))


def test_bins_hold_equally_many_rows() -> None:
    bins, scaled = PiecewiseLinear(2, 5), np.random.default_rng(1).standard_normal((5_000, 2)).astype(np.float32)
    bins.fit(scaled)
    within = bins(torch.from_numpy(scaled)).reshape(-1, 2, 5)
    share = ((within > 0) & (within < 1)).float().mean(dim=0)
    torch.testing.assert_close(share, torch.full((2, 5), 0.2), atol=0.001, rtol=0)


def numbers_of(encoder: TableEncoder) -> NumberEncoder:
    assert encoder.numbers is not None
    return encoder.numbers


def test_a_value_that_most_rows_share_leaves_bins_to_the_others() -> None:
    bins = PiecewiseLinear(1, 8)
    scaled = np.where(np.arange(4_000) % 20 == 0, np.linspace(8.0, 13.0, 4_000), 0.0)  # as capital gains: 95 % zeros
    bins.fit(scaled.reshape(-1, 1))
    edges = bins.edges[0]
    assert int((edges > 8.0).sum()) >= 6
    assert bool((edges.diff() >= 0).all())
    PiecewiseLinear(1, 3).fit(np.zeros((10, 1)))  # one value alone


def test_a_tables_bins_tell_numbers_apart_that_lie_beyond_the_cut() -> None:
    encoder, values = TableEncoder(PRESETS["table_tiny"], TableInputs(1)).eval(), np.zeros((1_000, 1), np.float32)
    values[::20, 0] = np.geomspace(1e3, 1e5, 50)
    numbers_of(encoder).fit(values)
    small, large = encoder({"dense": torch.tensor([[2e3], [9e4]])}).trunk
    assert small[0] == large[0] == 6.0
    assert not torch.equal(small[2:], large[2:])


def test_a_table_knows_a_missing_number_from_a_usual_one() -> None:
    encoder = TableEncoder(PRESETS["table_tiny"], TableInputs(1)).eval()
    numbers_of(encoder).fit(np.arange(100, dtype=np.float32).reshape(-1, 1))
    missing, usual = encoder({"dense": torch.tensor([[math.nan], [49.5]])}).trunk
    torch.testing.assert_close(missing[0], usual[0], atol=0.01, rtol=0)  # the median of logs, not the log of the median
    assert (missing[-1].item(), usual[-1].item()) == (1.0, 0.0)


def test_bins_are_fitted_exactly_whatever_the_noise_and_the_noise_stays() -> None:
    values = np.random.default_rng(1).standard_normal((500, 2)).astype(np.float32)
    loud, still = NumberEncoder(2, 4, noise=0.5), NumberEncoder(2, 4, noise=0.0)
    for encoder in (loud, still):
        encoder.fit(values)
    assert loud.bins is not None
    assert still.bins is not None
    assert torch.equal(loud.bins.edges, still.bins.edges)
    assert loud.dense.noise == 0.5
    assert NumberEncoder(2, 0, 0.0)(torch.zeros(3, 2)).shape == (3, 2)


def test_columns_have_codes_of_their_own_and_forgotten_ones_are_unknown() -> None:
    encoder = CategoryEncoder((3, 2), 4, forget=1.0).eval()
    found = encoder(torch.tensor([[1, 1], [9, -4]], dtype=torch.int32)).reshape(2, 2, 4)
    table = encoder.table.weight
    torch.testing.assert_close(found, torch.stack([table[[1, 4]], table[[2, 3]]]))
    assert torch.equal(encoder.train()(torch.tensor([[2, 1]])), table[[0, 3]].reshape(1, -1))


def test_grams_are_a_weighted_sum() -> None:
    encoder = GramEncoder(10, 3)
    found = encoder(torch.tensor([[4, 7, 0]], dtype=torch.int32), torch.tensor([[0.5, math.nan, 9.0]]))
    torch.testing.assert_close(found[0], 0.5 * encoder.table.weight[4])


def test_padding_after_a_text_changes_nothing() -> None:
    encoder = TextEncoder(PRESETS["text_tiny"], TextInputs(50, 8)).eval()
    short = torch.tensor([[7, 3, 9]], dtype=torch.int32)
    torch.testing.assert_close(encoder.read(short), encoder.read(torch.nn.functional.pad(short, (0, 5))))
    assert encoder.read(torch.zeros(1, 8, dtype=torch.int32)).abs().sum() == 0


def test_the_order_of_words_counts_and_that_of_n_grams_does_not() -> None:
    network, rows = small_network("text"), small_rows("text", 16)
    rows["tokens"] = 1 + torch.arange(8, dtype=torch.int32).repeat(16, 1)
    before = network(rows)["yes"]
    grams = {name: rows[name].flip(1) for name in ("grams", "gram_values")}
    torch.testing.assert_close(before, network(rows | grams)["yes"])
    assert not torch.allclose(before, network(rows | {"tokens": rows["tokens"].flip(1)})["yes"])


def test_a_hugging_face_model_is_read_from_its_folder_with_its_weights(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    config = transformers.DistilBertConfig(vocab_size=60, max_position_embeddings=12, **sizes)
    model = transformers.DistilBertModel(config).eval()
    model.save_pretrained(tmp_path)
    encoder = TextEncoder(PRESETS["text_tiny"], TextInputs(50, 8, path=str(tmp_path))).eval()
    tokens = torch.tensor([[5, 6, 7, 8]], dtype=torch.int32)
    wanted = model(input_ids=tokens.long()).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(encoder.read(tokens)[:, :16], wanted)
    with pytest.raises(ValueError, match="knows 60 tokens, the data has 61"):
        TextEncoder(PRESETS["text_tiny"], TextInputs(61, 8, path=str(tmp_path)))


def history(items: list[list[int]], **changes: float) -> tuple[HistoryEncoder, Tensor]:
    torch.manual_seed(1)
    encoder = HistoryEncoder(replace(PRESETS["sequence_tiny"], **changes), SequenceInputs(9, 4)).eval()  # type: ignore[arg-type]
    return encoder, torch.tensor(items, dtype=torch.int32)


@pytest.mark.parametrize("layers", [0, 2])
def test_a_history_starts_as_the_middle_between_its_newest_item_and_all_of_them(layers: int) -> None:
    encoder, sequence = history([[0, 0, 3, 5], [0, 0, 0, 0], [0, 0, 0, 4]], layers=layers, temperature=0.0)
    with torch.no_grad():
        seen, table = encoder({"sequence": sequence}).seen, encoder.items.weight.detach()
    assert seen is not None
    weights = torch.linalg.lstsq(table[[3, 5]].T, seen[0].unsqueeze(1)).solution.squeeze(1)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-4)
    assert 0 < float(weights[0]) < 0.5 < float(weights[1])
    assert seen[1].abs().sum() == 0
    torch.testing.assert_close(seen[2], table[4])


@pytest.mark.parametrize("layers", [0, 2])
def test_padding_in_front_that_all_rows_share_is_cut_in_training_and_changes_nothing(layers: int) -> None:
    encoder, sequence = history([[0, 0, 3, 5], [0, 0, 0, 4]], layers=layers, dropout=0.0, embedding_dropout=0.0)
    asked: list[int] = []
    encoder.items.register_forward_hook(lambda _, given, __: asked.append(given[0].shape[1]))
    whole, cut = encoder({"sequence": sequence}).trunk, encoder.train()({"sequence": sequence}).trunk
    assert asked == [4, 2]
    torch.testing.assert_close(cut, whole)
    assert bool(encoder({"sequence": torch.zeros_like(sequence)}).trunk.isfinite().all())


def test_users_and_items_are_compared_by_cosine_and_the_items_own_bias() -> None:
    network = small_network("sequence", temperature=0.1)
    users, items = network(small_rows("sequence", 5))["next"], network.item_table()
    assert items.shape == (30, 17)
    torch.testing.assert_close(users[:, :-1].norm(dim=1), torch.full((5,), 10.0))
    torch.testing.assert_close(items[:, :-1].norm(dim=1), torch.ones(30))
    assert users[:, -1].tolist() == [1.0] * 5


def test_before_training_the_nearest_item_is_one_that_was_seen() -> None:
    torch.manual_seed(1)
    from model.network import MultiTaskNetwork
    from tests.unit.model.small import SMALL

    preset, inputs, tasks = SMALL["sequence"]
    network = MultiTaskNetwork(PRESETS[preset], inputs, tasks).eval()
    sequence = torch.tensor([[0, 0, 0, 0, 0, item] for item in range(1, 31)], dtype=torch.int32)
    scores = network({"sequence": sequence})["next"] @ network.item_table().T
    assert scores.argmax(dim=1).tolist() == list(range(30))
