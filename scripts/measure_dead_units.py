"""How many units die, in which layers, and when?

    jaxlab run scripts/studies/learning_rate.toml
    python scripts/measure_dead_units.py runs/learning_rate [--out DIR]

Prints for every setting, as means over its seeds: the share of dead units before training and at the end, also by
layer; the share of dormant units; how often units died and revived. Then prints the learning rates from which 10 % and
40 % are dead. Writes dead_units.png and dead_units.svg. Any run folder works, finished or not. Trials whose activation
has no flat zero (leaky ReLU, ELU, ...) cannot have dead units and do not enter the means.

Numbers to expect (digits, ReLU, RMSProp, 13 learning rates from 1e-4 to 1, 3 strengths of L2, 2 seeds, 15 epochs; on
two CPU cores, the study takes half a minute and this script 3 seconds): no unit is dead before training, and at most
2 % are at the end up to learning rate 5e-3. 10 % are dead from 0.01 or 0.0215 on, and 40 % from 0.0464 on; the second
convolution has more dead units than the first. From 0.215 on, 77 to 100 % are dead.
"""

import sys

from jaxlab.analysis import dead_units_table
from jaxlab.plots import dead_units_figure, measure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "dead_units", dead_units_table, dead_units_figure))
