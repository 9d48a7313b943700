"""From log-likelihoods to words: language model, decoding graph, search and score."""
