"""The benchmark: jaxlab against the usual alternatives, on the same trials, checked before they are timed."""
