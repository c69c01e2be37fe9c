"""The benchmark: jaxlab against everything that one would write instead; the same trials, checked, timed in turns."""
