"""One owner an engine: it polls once a tick for all downloads, writes down what changed, and brings the engine to what the records say."""
