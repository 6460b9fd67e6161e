"""The networks, plain modules: no loss, no optimizer, no Lightning."""
