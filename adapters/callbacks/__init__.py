"""Probes and monitors for any LightningModule, while it trains. Needs ``star-head[lightning]``.

Three added lines watch lightly's own examples::

    from star_head.adapters.callbacks import watch
    train, test = LightlyDataset("train"), LightlyDataset("test")
    trainer.callbacks += watch("backbone", train, test, transform)

Each callback can also be built by itself. All take by plain arguments how to get features from the
module: an attribute's name, or a function of the module and images. Watching changes nothing: a
run with them ends in the same weights as one without, bit for bit. They never end a run that
trains: what is not defined is left out, with one warning. docs/watching.md says what each logs.
"""

from ._watch import watch
from .equivariance import EquivarianceMonitor
from .linear_probe import OnlineLinearProbe
from .nearest_neighbours import NearestNeighbours
from .rank import RankMonitor
from .redundancy import RedundancyMonitor
from .routing import RoutingMonitor

__all__ = [
    "EquivarianceMonitor",
    "NearestNeighbours",
    "OnlineLinearProbe",
    "RankMonitor",
    "RedundancyMonitor",
    "RoutingMonitor",
    "watch",
]
