"""Numbers: scaled inside the graph, so that callers send raw values.

Shapes: B rows, F features, K knees.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SCALED_LIMIT: Final = 6.0  # scaled features are cut here: beyond 6 interquartile ranges an outlier carries no more information
LARGEST: Final = 1e15  # stands for infinity: log1p of it is 34.5, far beyond any real count or amount
_LEAST_SPREAD: Final = 0.1  # in log units: a feature that is nearly always the same must not be blown up
_SPREADS_IN_RANGE: Final = 1.35  # interquartile range of a normal distribution, in standard deviations
_ROUNDS: Final = 60  # of counting common values down; each makes the rest of them a larger share
_LEAST_BIN: Final = 1e-3  # of a bin between two equal quantiles, in spreads: a value that many rows share makes a step


class DenseEncoder(nn.Module):
    """Scale raw features inside the graph: sign(x) log(1 + |x|), minus its median, over its spread, cut at a limit.

    Median and spread are buffers, so they travel with the weights and the worker sends raw features. NaN becomes the
    median ("nothing unusual"), an infinity the limit.

    While training, `noise` (a standard deviation, in spreads) is added: sums of money to the cent and ages to the millisecond
    are the fingerprint of one session, and its outcome would be learnt by heart.
    """

    median: Tensor
    spread: Tensor

    def __init__(self, features: int, noise: float = 0.0) -> None:
        super().__init__()
        self.noise = noise
        self.register_buffer("median", torch.zeros(features))  # (F,) of the log values
        self.register_buffer("spread", torch.ones(features))  # (F,) > 0

    def forward(self, dense: Tensor) -> Tensor:
        """(B, F) float32 raw -> (B, F) float32 within [-SCALED_LIMIT, SCALED_LIMIT]."""
        return self.scale(dense).clamp(-SCALED_LIMIT, SCALED_LIMIT)

    def scale(self, dense: Tensor) -> Tensor:
        """(B, F) float32 raw -> (B, F) float32 finite, not cut: what is rare and large may lie far beyond the limit."""
        x = dense.clamp(-LARGEST, LARGEST)
        # But for |x| < 1e-15, whose log is as good as 0; ONNX Runtime's Sign takes 3 times as long.
        sign = (x * LARGEST).clamp(-1.0, 1.0)
        x = sign * torch.log1p(torch.abs(x))
        if self.training and self.noise > 0.0:
            x = x + self.noise * self.spread * torch.randn_like(x)
        # NaN is replaced last: a choice between a tensor and a constant takes two thirds of a choice between two tensors.
        return torch.where(torch.isnan(dense), 0.0, (x - self.median) / self.spread)

    def fit(self, dense: NDArray[Any]) -> None:
        """Compute median and spread of each column of (N, F) raw values; NaN and infinities do not count.

        A column without a finite value keeps median 0 and spread 1, so that all its values read as usual.
        """
        values = np.where(np.isfinite(dense), dense, np.nan).astype(np.float64)
        values = values[:, ~np.isnan(values).all(axis=0)]
        filled = torch.from_numpy(~np.isnan(np.where(np.isfinite(dense), dense, np.nan)).all(axis=0))
        values = np.sign(values) * np.log1p(np.abs(values))  # as forward does
        low, middle, high = np.nanpercentile(values, [25, 50, 75], axis=0)
        # Most counts are zero most of the time, so that their quartiles agree; the standard deviation replaces them.
        spread = np.maximum((high - low) / _SPREADS_IN_RANGE, np.nanstd(values, axis=0) / 2)
        self.median[filled] = torch.from_numpy(middle.astype(np.float32))
        self.spread[filled] = torch.from_numpy(np.maximum(spread, _LEAST_SPREAD).astype(np.float32))


class PiecewiseLinear(nn.Module):
    """Position of a scaled number within each bin between its quantiles: 0 before the bin, 1 behind it.

    A linear layer over it is any piecewise linear function of the number, with more knees where rows are dense.

    Source: Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022.
    """

    edges: Tensor

    def __init__(self, features: int, knees: int) -> None:
        super().__init__()
        self.knees = knees
        even = torch.linspace(-2.0, 2.0, knees + 1)  # until `fit`: scaled values mostly lie here
        self.register_buffer("edges", even.repeat(features, 1))  # (F, K + 1) ascending

    def fit(self, scaled: NDArray[Any]) -> None:
        """Compute the bins' edges from each column of (N, F) scaled values: equal counts where possible."""
        edges = np.stack([_edges(column, self.knees) for column in scaled.T])
        self.edges.copy_(torch.from_numpy(edges.astype(np.float32)))

    def forward(self, scaled: Tensor) -> Tensor:
        """(B, F) float32 scaled -> (B, F * K) float32 within 0..1."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]  # (F, K)
        come = (scaled.unsqueeze(2) - low) / (high - low).clamp(min=_LEAST_BIN)  # (B, F, K)
        return come.clamp(0.0, 1.0).flatten(1)


class NumberEncoder(nn.Module):
    """Scaled numbers, and the position of each within its K bins; K may be 0."""

    def __init__(self, features: int, knees: int, noise: float) -> None:
        super().__init__()
        self.dense = DenseEncoder(features, noise)
        self.bins = PiecewiseLinear(features, knees) if knees else None
        self.width = features * (1 + knees)

    @torch.no_grad()
    def fit(self, dense: NDArray[Any]) -> None:
        """Compute medians, spreads and bins from (N, F) raw values."""
        self.dense.fit(dense)
        if self.bins is not None:
            noise, self.dense.noise = self.dense.noise, 0.0
            self.bins.fit(self.dense.scale(torch.from_numpy(dense)).numpy())
            self.dense.noise = noise

    def forward(self, dense: Tensor) -> Tensor:
        """(B, F) float32 raw -> (B, F * (1 + K)) float32. Bins read unclipped numbers: they have edges of their own."""
        if self.bins is None:
            scaled: Tensor = self.dense(dense)
            return scaled
        far = self.dense.scale(dense)  # (B, F)
        return torch.cat([far.clamp(-SCALED_LIMIT, SCALED_LIMIT), self.bins(far)], dim=1)


def _edges(values: NDArray[Any], bins: int) -> NDArray[Any]:
    """(N,) -> (bins + 1,) ascending. A value counts for one bin at most; else a value of most rows would take all edges."""
    distinct, counts = np.unique(values, return_counts=True)
    weight = counts.astype(np.float64)
    for _ in range(_ROUNDS):
        weight = np.minimum(weight, weight.sum() / bins)
    places = (np.cumsum(weight) - weight / 2) / weight.sum()
    edges: NDArray[Any] = np.interp(np.linspace(0.0, 1.0, bins + 1), places, distinct)
    return edges
