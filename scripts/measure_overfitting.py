"""How far do training and validation come apart?

    jaxlab run scripts/studies/learning_rate.toml
    python scripts/measure_overfitting.py runs/learning_rate [--out DIR]

Prints, for every setting (mean over its seeds): training, validation and test metric at the last epoch, their gap, the
validation metric at the best epoch and which that is, how far the validation loss has risen above its minimum, and
Prechelt's generalisation loss at the end. Writes overfitting.png and overfitting.svg. Any run folder will do, finished
or not.

Numbers to expect (digits, RMSProp, 13 learning rates from 1e-4 to 1, 3 strengths of L2, 2 seeds, 15 epochs; two CPU
cores; the study takes half a minute, this script 3 seconds): best validation accuracy 97.6 % (test 97.4 %) at
learning rate 0.01 without L2, where training reaches 99.9 %; the gap is 2 points from 2e-3 to 2e-2 and largest, 4.0
points, at 0.0464 without L2, where validation loss ends at twice its minimum. With two seeds a point or two is noise.
"""

import sys

from jaxlab.analysis import overfitting_table
from jaxlab.plots import measure, overfitting_figure

if __name__ == "__main__":
    sys.exit(measure(__doc__, "overfitting", overfitting_table, overfitting_figure))
