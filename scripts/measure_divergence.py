"""Where does training diverge, and where does it only oscillate?

    jaxlab run scripts/studies/learning_rate.toml
    python scripts/measure_divergence.py runs/learning_rate [--out DIR]

Prints for every setting, as means over its seeds: the shares of trials that diverged, were unstable or did not learn;
the first bad step; the oscillation of the training loss; the ratio of final to initial loss. Writes divergence.png and
divergence.svg. Any run folder works, finished or not.

Numbers to expect (digits, RMSProp, 13 learning rates from 1e-4 to 1, 3 strengths of L2, 2 seeds, 15 epochs; on two CPU
cores, the study takes half a minute and this script 3 seconds): all values stay finite. Training is unstable at 0.464;
with L2 1e-3, it does not learn at 0.215. The loss ratio is smallest, about 0.0025, at 0.01 without L2. The oscillation
is 0 up to 1e-3, and 30 to 70 % from 0.01 on.
"""

import sys

from jaxlab.analysis import divergence_table
from jaxlab.plots import divergence_figure, measure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "divergence", divergence_table, divergence_figure))
