"""TODO"""

import sys

from jaxlab.analysis import dead_units_table
from jaxlab.plots import dead_units_figure, measure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "dead_units", dead_units_table, dead_units_figure))
