"""The confidence width of a linear reward: how little the training data say about a response's features.

With ``e`` the features that the last layer is applied to, the width is ``sqrt(e' A^-1 e)``, where ``A = ridge I + sum
of x x'`` over the training data. Times a constant (of the noise and the confidence) it bounds the error of the last
layer's ridge estimate along ``e``. Two choices of ``x`` are in use:

- ``features``: x is e of every training response, arXiv 2403.05171 (AdvPO), eq. (3);
- ``differences``: x is e of the winner less e of the loser of every comparison, and the width is that of ``e - v`` with
  ``v`` the mean features of the winners, arXiv 2301.11270, section 3. A comparison says nothing of what two responses
  share, so only a difference to a reference has a finite width as the ridge goes to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safetyvalve.errors import UsageError

__all__ = ["SOURCES", "Width", "fit_width"]

SOURCES = {
    "features": "A = ridge I + sum of e e' over training responses (arXiv 2403.05171); width of e",
    "differences": "A = ridge I + sum of (e_w - e_l)(e_w - e_l)' over training comparisons (arXiv 2301.11270); width "
    "of e - v, v the mean features of the winners",
}
"""What ``A`` is made of, by name."""


@dataclass(frozen=True, eq=False)
class Width:
    """``sqrt((e - center)' A^-1 (e - center))``.

    ``factor`` is the lower Cholesky factor of A, fp64 [hidden, hidden]; ``center`` fp64 [hidden].
    """

    factor: Tensor
    center: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """fp64 [response] of ``features`` [response, hidden]; differentiable with respect to them."""
        moved = (features.double() - self.center).T
        solved = torch.linalg.solve_triangular(self.factor, moved, upper=False)
        width: Tensor = solved.square().sum(0).sqrt()
        return width


def fit_width(features: Tensor, comparisons: Sequence[tuple[int, int]], *, source: str, ridge: float) -> Width:
    """The width from training data.

    Args:
        features: [response, hidden] of the training responses.
        comparisons: (winner, loser), indices into ``features``.
        source: one of :data:`SOURCES`.
        ridge: lambda, above 0: the weight of knowing nothing.

    Raises:
        UsageError: an unknown source, a ridge not above 0, or no data.
    """
    if source not in SOURCES:
        raise UsageError(f"width is '{source}'; accepted: {', '.join(SOURCES)}, none.")
    if not ridge > 0:
        raise UsageError(f"ridge is {ridge}; it must be above 0, such as 1.")
    if not comparisons:
        raise UsageError("there are no comparisons to fit the width on; at least one is needed.")
    states = features.double()
    won, lost = (torch.tensor(column, device=states.device) for column in zip(*comparisons, strict=True))
    center = states.new_zeros(states.shape[1])
    rows = states
    if source == "differences":
        rows, center = states[won] - states[lost], states[won].mean(0)
    gram = rows.T @ rows + ridge * torch.eye(states.shape[1], dtype=torch.float64, device=states.device)
    return Width(torch.linalg.cholesky(gram), center)
