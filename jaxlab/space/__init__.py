"""Search spaces: the settings that the trials of a study run with.

A setting maps names (``learning_rate``, ``l2``, ``seed``, ``activation``) to values; a name that it omits keeps the
study's default. A `Space` is an immutable sequence of distinct settings. `grid`, `zipped` and `random` build one;
``*`` combines two in every pair, and ``+`` concatenates them:

>>> from jaxlab.space import grid, log_range, log_uniform, random, uniform
>>> sweep = grid(learning_rate=log_range(1e-4, 1.0, 5), l2=[0.0, 1e-4]) * grid(seed=range(3))
>>> sweep
Space(30 settings of learning_rate, l2, seed)
>>> sweep[0]
{'learning_rate': 0.0001, 'l2': 0.0, 'seed': 0}
>>> sweep + random(20, learning_rate=log_uniform(1e-4, 1.0), momentum=uniform(0.0, 0.9))
Space(50 settings of learning_rate, l2, seed, momentum)

The same sweep in a study file, read by `from_table`::

    [[space]]
    [space.grid]
    learning_rate = {log = [1e-4, 1.0], num = 5}
    l2 = [0.0, 1e-4]
    seed = {range = 3}

    [[space]]
    [space.random]
    samples = 20
    learning_rate = {log_uniform = [1e-4, 1.0]}
    momentum = {uniform = [0.0, 0.9]}

`groups` splits a space by configuration, one group for each compiled program.
"""

from jaxlab.space.distributions import choice, integers, log_uniform, random, uniform
from jaxlab.space.grouping import Group, groups, trial_id, trial_ids
from jaxlab.space.space import Space, grid, setting_key, zipped
from jaxlab.space.table import from_table
from jaxlab.space.values import linear_range, log_range

__all__ = [
    "Group",
    "Space",
    "choice",
    "from_table",
    "grid",
    "groups",
    "integers",
    "linear_range",
    "log_range",
    "log_uniform",
    "random",
    "setting_key",
    "trial_id",
    "trial_ids",
    "uniform",
    "zipped",
]
