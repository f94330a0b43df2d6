"""Which test images search and which are searched: all of them among each other, or queries in a gallery."""

from typing import NamedTuple

from torch import Tensor


class Sets(NamedTuple):
    """The roles of M test images: rows (Q,) of the ``queries`` and rows (N,) of the ``gallery``.

    Both are None where there is one set only: then every image is a query among all others. ``cameras`` (M,) says which
    camera took each image: the ranking of a query leaves out the gallery's images of its class from its camera, which
    show little more than the query itself (the rule of person re-identification). None where that is not known.
    """

    queries: Tensor | None = None
    gallery: Tensor | None = None
    cameras: Tensor | None = None

    def of_queries(self, values: Tensor) -> Tensor:
        """Those of ``values`` (M, ...) that belong to queries, (Q, ...)."""
        return values if self.queries is None else values[self.queries]

    def of_gallery(self, values: Tensor) -> Tensor:
        """Those of ``values`` (M, ...) that belong to the gallery, (N, ...)."""
        return values if self.gallery is None else values[self.gallery]

    def left_out(self, positions: Tensor, labels: Tensor) -> Tensor | None:
        """What the rankings of some queries leave out, as ``exclude`` of stages.core.metrics.

        ``positions`` (n,) are places among the queries, ``labels`` (M,) those of all test images. With one set the
        place (n,) of each query itself; with two a mask (n, N) where cameras are known, or None.
        """
        if self.queries is None:
            return positions
        if self.cameras is None:
            return None
        same = [
            self.of_gallery(values) == self.of_queries(values)[positions, None] for values in (labels, self.cameras)
        ]
        return same[0] & same[1]


ONE_SET = Sets()  # every image is a query among all others
