"""What every feature map is: a module that names its normaliser (see `feature_maps`)."""

from __future__ import annotations

from torch import Tensor, nn

SUM, RMS = "sum", "rms"


class FeatureMap(nn.Module):
    """Base of all maps: `forward(x [B, H, T, D]) -> [B, H, T, feature_dim]`.

    Attributes:
        feature_dim: F, the number of features per head.
        normaliser: `"sum"` or `"rms"`, see `feature_maps`.
    """

    normaliser = SUM

    def __init__(self, num_heads: int, head_dim: int, feature_dim: int | None = None):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, head_dim
        self.feature_dim = head_dim if feature_dim is None else feature_dim

    def kernel(self, q: Tensor, k: Tensor) -> Tensor | None:
        """phi(q).phi(k) of all pairs, `[..., T, K]`, from raw queries and keys `[..., T, D]`; None where no shorter way
        is known than to write the features out."""
        return None
