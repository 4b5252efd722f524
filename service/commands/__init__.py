"""Commands for operators, a module for each. `service/__main__.py` imports the one that is run."""
