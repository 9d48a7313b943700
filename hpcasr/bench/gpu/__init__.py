"""`bench gpu`: a GPU, checked and timed in sections, each a process of its own that may crash."""
