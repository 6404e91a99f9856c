"""MM-IMDB: the genres of films, from poster and plot (paper, Sec. 5.2)."""

from .dataset import MMIMDBDataset
from .networks import MaxoutEncoder, MMIMDBFusionNetwork, MMIMDBNetwork

__all__ = ['MMIMDBDataset', 'MMIMDBFusionNetwork', 'MMIMDBNetwork', 'MaxoutEncoder']
