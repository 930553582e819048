"""Where work runs: in processes of this machine, or on the machines of a Ray cluster. What is done does not know which."""
