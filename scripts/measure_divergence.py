"""TODO"""

import sys

from jaxlab.analysis import divergence_table
from jaxlab.plots import divergence_figure, measure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "divergence", divergence_table, divergence_figure))
