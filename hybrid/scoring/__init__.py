"""Score a file of any size offline: constant memory, resumable, what escalates is marked."""
