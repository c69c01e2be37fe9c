"""How large is the gap between training and validation?

    jaxlab run scripts/studies/learning_rate.toml
    python scripts/measure_overfitting.py runs/learning_rate [--out DIR]

Prints for every setting, as means over its seeds: the training, validation and test metric at the last epoch; the gap
between training and validation; the best epoch and its validation metric; the final validation loss over its minimum;
Prechelt's generalisation loss at the end. Writes overfitting.png and overfitting.svg. Any run folder works, finished or
not.

Numbers to expect (digits, RMSProp, 13 learning rates from 1e-4 to 1, 3 strengths of L2, 2 seeds, 15 epochs; on two CPU
cores, the study takes half a minute and this script 3 seconds): the best validation accuracy is 97.6 % (test 97.5 %) at
learning rate 0.01 without L2, where training reaches 99.9 %. Without L2, the gap is 2 to 3.5 points from 2e-3 to 2e-2,
and largest, 4.0 points, at 0.0464, where the validation loss ends at twice its minimum. With two seeds, differences of
a point or two are noise.
"""

import sys

from jaxlab.analysis import overfitting_table
from jaxlab.plots import measure, overfitting_figure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "overfitting", overfitting_table, overfitting_figure))
