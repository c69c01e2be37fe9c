"""How many units die, where, and when?

    jaxlab run scripts/studies/learning_rate.toml
    python scripts/measure_dead_units.py runs/learning_rate [--out DIR]

Prints for every setting (mean over its seeds) the share of dead units before training and at the end, by layer, the
share of dormant units, and how often units died and revived; then the learning rates at which 10 % and 40 % are dead.
Writes dead_units.png and dead_units.svg. Any run folder works, finished or not. Trials whose activation has no flat
zero (leaky ReLU, ELU, ...), so that no unit can be dead, are left out of the means.

Numbers to expect (digits, ReLU, RMSProp, 13 learning rates from 1e-4 to 1, 3 strengths of L2, 2 seeds, 15 epochs;
two CPU cores; the study takes half a minute, this script 3 seconds): none is dead before training, at most 2 % at
the end up to learning rate 5e-3; 10 % is reached at 0.01 to 0.0215 and 40 % at 0.0464, the second convolution ahead of
the first; from 0.215 on, 77 to 100 % are dead.
"""

import sys

from jaxlab.analysis import dead_units_table
from jaxlab.plots import dead_units_figure, measure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "dead_units", dead_units_table, dead_units_figure))
