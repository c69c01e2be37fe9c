"""TODO"""

import sys

from jaxlab.analysis import overfitting_table
from jaxlab.plots import measure, overfitting_figure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "overfitting", overfitting_table, overfitting_figure))
