"""Augmentation: whole events and words are dropped, and the rest keeps its layout."""

from __future__ import annotations

import pytest
import torch

from training.config import TrainingOptions
from training.data.augment import augment


def histories(rows: int = 400, length: int = 8) -> dict[str, torch.Tensor]:
    """Histories of 0..8 events, numbered 1.. from the oldest; gaps ten times the number."""
    draw = torch.Generator().manual_seed(0)
    many = torch.randint(0, length + 1, (rows, 1), generator=draw)
    numbers = (torch.arange(length) - (length - many) + 1).clamp(min=0)  # (B, L), padding in front
    ids = torch.stack([numbers, numbers * 2, numbers, numbers], dim=2).to(torch.int32)
    return {"sequence_ids": ids, "sequence_gaps": numbers * 10.0, "query_ids": ids[:, -3:], "query_gaps": numbers[:, -3:] * 1.0}


def in_form(numbers: torch.Tensor) -> bool:
    """Padding in front, then rising."""
    return all(
        row.tolist() == sorted(row.tolist()) and len(set(row[row > 0].tolist())) == int((row > 0).sum()) for row in numbers
    )


def test_nothing_is_changed_by_default() -> None:
    inputs = histories()
    assert augment(inputs, TrainingOptions()) == inputs


def test_events_are_dropped_whole_and_the_newest_stays() -> None:
    torch.manual_seed(1)
    inputs = histories()
    result = augment(inputs, TrainingOptions(event_dropout=0.5))
    numbers, before = result["sequence_ids"][:, :, 0], inputs["sequence_ids"][:, :, 0]
    assert in_form(numbers)
    assert torch.equal(numbers[:, -1], before[:, -1])
    assert torch.equal(result["sequence_ids"][:, :, 1], numbers * 2)
    assert torch.equal(result["sequence_gaps"], numbers * 10.0)
    older = (before[:, :-1] > 0).sum().item()
    assert 0.4 < (numbers[:, :-1] > 0).sum().item() / older < 0.6
    assert in_form(result["query_ids"][:, :, 0])
    assert result["sequence_ids"].dtype == torch.int32


def test_a_crop_keeps_the_newest_without_a_hole_for_the_configured_share() -> None:
    torch.manual_seed(1)
    inputs = {"sequence": histories(2_000)["sequence_ids"][:, :, 0]}
    result = augment(inputs, TrainingOptions(sequence_crop=0.5))["sequence"]
    assert in_form(result)
    for before, after in zip(inputs["sequence"], result, strict=True):
        remaining = int((after > 0).sum())
        assert remaining >= min(1, int((before > 0).sum()))
        assert remaining == 0 or torch.equal(after[-remaining:], before[-remaining:])
    full = inputs["sequence"][:, 0] > 0
    cut = (result[full, 0] == 0).float().mean().item()
    assert cut == pytest.approx(0.5 * 7 / 8, abs=0.1)


def test_words_are_dropped_but_the_first_and_the_rest_moves_up() -> None:
    torch.manual_seed(1)
    tokens = torch.arange(1, 11).repeat(500, 1)
    tokens[:, 8:] = 0
    grams = torch.arange(1, 7).repeat(500, 1).to(torch.int32)
    inputs = {"tokens": tokens.to(torch.int32), "grams": grams, "gram_values": grams * 0.5}
    result = augment(inputs, TrainingOptions(text_word_dropout=0.25))
    assert (result["tokens"][:, 0] == 1).all()
    for row in result["tokens"].tolist():
        words = [word for word in row if word]
        assert row == words + [0] * (10 - len(words))
        assert words == sorted(words)
    assert (result["tokens"][:, 1:] > 0).float().sum().item() / (500 * 7) == pytest.approx(0.75, abs=0.03)
    assert (result["grams"] > 0).float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.equal(result["gram_values"], result["grams"] * 0.5)
